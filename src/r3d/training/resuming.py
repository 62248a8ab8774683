"""What becomes of the options when a training goes on from a file of another one.

The reference silently takes learning rate, momentum, weight decay and schedule from the file. Here
an option that is given, which is one that is not at its default, is used from here on, and one at
its default is as in the file. Either is said, and the options that come out of it stand in the
checkpoints of the new training.
"""

import logging
import math
from collections import Counter
from typing import Any

from pydantic import ValidationError
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from r3d.compute.device import Precision
from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.training.optim import milestones_after_warmup, rate_factor

Scheduler = LRScheduler | ReduceLROnPlateau

# The options that a state of an optimiser or a schedule holds, too.
_OF_GROUPS = ("momentum", "dampening", "weight_decay", "nesterov")
_STATED = ("learning_rate", "multistep_milestones", "plateau_patience", *_OF_GROUPS)

_log = logging.getLogger(__name__)


def settled_options(
    options: TrainingOptions, scheduler: Scheduler, *, config: dict[str, Any] | None
) -> TrainingOptions:
    """The options of a training that goes on from a state of its own, as it noted them there."""
    names = [name for name in _STATED if name in (config or {})]
    if options.overwrite_milestones:
        for part in _parts(scheduler):
            if isinstance(part, MultiStepLR):
                part.milestones = Counter(milestones_after_warmup(options))
        names = [name for name in names if name != "multistep_milestones"]
    values = options.model_dump() | {name: (config or {})[name] for name in names}
    try:
        return TrainingOptions.model_validate(values)
    except ValidationError:
        return options


def settle_precision(
    asked: Precision, *, there: Precision, here: Precision, has_bf16: bool
) -> Precision:
    """The precision that a training goes on in: without an option that of the file.

    Another one would give other weights than a training that never stopped. It is said where a new
    training would take another one, and where the file's changes.

    Args:
        asked: the option.
        there: that of the file; `auto` if it does not say.
        here: what a new training would compute in.
        has_bf16: whether the hardware multiplies in bf16.
    """
    if there == "auto":
        return here
    if asked == "auto":
        asked = "fp32" if not has_bf16 else there
    if asked != there:
        _log.warning("precision: %s from here on; it was %s", asked, there)
    elif asked != here:
        _log.info(
            "precision: %s, in which the training began; a new one would compute in %s here",
            *(asked, here),
        )
    return asked


def settle_options(
    options: TrainingOptions,
    optimizer: Optimizer,
    scheduler: Scheduler,
    *,
    config: dict[str, Any] | None,
    epoch: int,
) -> TrainingOptions:
    """Bring the given options into the states of another training's file, loaded before.

    Args:
        config: the options of that training, if the file states them.
        epoch: epochs that it has finished.

    Returns:
        The options that hold from here on.

    Raises:
        InputError: if what is given and what is in the file do not go together.
    """
    used: dict[str, Any] = {}
    _settle_rate(options, optimizer, scheduler, config, used)
    for name in _OF_GROUPS:
        if name in optimizer.param_groups[0]:
            there = optimizer.param_groups[0][name]
            used[name] = _choose(options, name, there)
            if used[name] != there:
                for group in optimizer.param_groups:
                    group[name] = used[name]
    if used.get("nesterov"):
        if not used["momentum"]:
            raise InputError(
                "resume_path: momentum is 0 in the checkpoint, and nesterov: true needs one above "
                "0; set momentum"
            )
        for group in optimizer.param_groups:
            group["dampening"] = 0
    for part in _parts(scheduler):
        if isinstance(part, MultiStepLR):
            _settle_milestones(options, part, used)
        if isinstance(part, CosineAnnealingLR):
            _settle_cosine(options, part, optimizer, epoch)
    if isinstance(scheduler, ReduceLROnPlateau):
        used["plateau_patience"] = scheduler.patience = _choose(
            options, "plateau_patience", scheduler.patience
        )
    return options.model_copy(update=used)


def _choose(options: TrainingOptions, name: str, there: Any) -> Any:
    """The value of an option that holds from here on; says so where there are two."""
    here = getattr(options, name)
    if here == there:
        return here
    if here == type(options).model_fields[name].default:
        _log.warning(
            "resume_path: %s: %s is as in the checkpoint, for %s is the default; only another "
            "value takes its place",
            *(name, there, here),
        )
        return type(here)(there)
    _log.info("resume_path: %s: %s from here on; it was %s", name, here, there)
    return here


def _settle_rate(
    options: TrainingOptions,
    optimizer: Optimizer,
    scheduler: Scheduler,
    config: dict[str, Any] | None,
    used: dict[str, Any],
) -> None:
    """Scale the present rates to the first epoch's that is asked for."""
    factor = rate_factor(options)
    there = optimizer.param_groups[0].get("initial_lr")
    if there is None and config is not None:  # plateau does not note it
        try:
            before = TrainingOptions.model_validate(config)
        except ValidationError:
            before = None
        there = before and before.learning_rate * rate_factor(before)
    if not there:
        _log.warning(
            "resume_path: the checkpoint does not say its learning_rate; it goes on with the rate "
            "that it has, %g",
            optimizer.param_groups[0]["lr"],
        )
        return
    # The same but for rounding is the same: a rate scaled to a batch may be odd.
    given = options.learning_rate
    if not math.isclose(there, given * factor, rel_tol=1e-9):
        used["learning_rate"] = _choose(options, "learning_rate", there / factor)
        scale = used["learning_rate"] * factor / there
        if not math.isclose(scale, 1, rel_tol=1e-9):
            _scale(optimizer.param_groups, ("lr", "initial_lr"), scale)
            for part in [scheduler, *_parts(scheduler)]:
                for name in ("base_lrs", "_last_lr"):
                    if hasattr(part, name):
                        setattr(part, name, [rate * scale for rate in getattr(part, name)])


def _scale(groups: list[dict[str, Any]], names: tuple[str, ...], scale: float) -> None:
    for group in groups:
        for name in names:
            if name in group:
                group[name] *= scale


def _settle_milestones(options: TrainingOptions, part: MultiStepLR, used: dict[str, Any]) -> None:
    here, there = Counter(milestones_after_warmup(options)), Counter(part.milestones)
    if here == there:
        return
    if options.overwrite_milestones:
        part.milestones = here
        return
    before = [milestone + options.warmup_epochs for milestone in sorted(there.elements())]
    _log.warning(
        "resume_path: multistep_milestones: %s are as in the checkpoint, not %s; set "
        "overwrite_milestones: true to have those",
        *(before, options.multistep_milestones),
    )
    used["multistep_milestones"] = before


def _settle_cosine(
    options: TrainingOptions, part: CosineAnnealingLR, optimizer: Optimizer, epoch: int
) -> None:
    """Let the cosine end at the last epoch that is asked for."""
    n_epochs = options.n_epochs - options.warmup_epochs
    if part.T_max == n_epochs:
        return
    _log.info(
        "resume_path: the cosine ends at n_epochs: %d from here on; it was %d",
        *(options.n_epochs, part.T_max + options.warmup_epochs),
    )
    part.T_max = n_epochs
    if part.last_epoch >= 0 and epoch >= options.warmup_epochs:
        share = (1 + math.cos(math.pi * part.last_epoch / n_epochs)) / 2
        rates = [part.eta_min + (base - part.eta_min) * share for base in part.base_lrs]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        part._last_lr = rates


def _parts(scheduler: Scheduler) -> list[Any]:
    return list(scheduler._schedulers) if isinstance(scheduler, SequentialLR) else [scheduler]
