"""Optimisers and learning rate schedules by the option names of the reference."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from r3d.config.options import TrainOptions
from r3d.training.leanoptim import SGD, AdamW

# A warm-up starts at this share of the learning rate.
_WARMUP_START = 0.01
# What the state of a schedule lists for each group of the optimiser.
_LISTS_BY_GROUP = ("base_lrs", "_last_lr", "min_lrs")
# What is taken of the states in a file: of optimisers, of their groups, and of schedules.
_VALUES = ("momentum_buffer", "step", "exp_avg", "exp_avg_sq")
_SETTINGS = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "betas", "eps")
_SCHEDULE: dict[type, tuple[str, ...]] = {
    MultiStepLR: ("milestones", "gamma", "base_lrs", "_last_lr", "last_epoch"),
    CosineAnnealingLR: ("T_max", "eta_min", "base_lrs", "_last_lr", "last_epoch"),
    LinearLR: ("start_factor", "end_factor", "total_iters", "base_lrs", "_last_lr", "last_epoch"),
    SequentialLR: ("_last_lr", "last_epoch"),
    ReduceLROnPlateau: (
        *("factor", "patience", "threshold", "eps", "min_lrs"),
        *("best", "num_bad_epochs", "cooldown_counter", "last_epoch"),
    ),
}


def build_optimizer(
    parameters: Iterable[nn.Parameter], options: TrainOptions, device: torch.device
) -> Optimizer:
    """SGD as in the reference, or AdamW, over the parameters that train.

    As there, with `ft_begin_module` each parameter is a group of its own, else all are one: the
    states of both sides then have the same form.

    With `learning_rate_batch_size` the rate grows in proportion to the batch (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017).
    """
    learning_rate = options.learning_rate * rate_factor(options)
    trained: list[Any] = [parameter for parameter in parameters if parameter.requires_grad]
    if options.ft_begin_module:
        trained = [{"params": [parameter]} for parameter in trained]
    fused = device.type == "cuda"
    if options.optimizer == "adamw":
        return AdamW(trained, lr=learning_rate, weight_decay=options.weight_decay, fused=fused)
    return SGD(
        trained,
        lr=learning_rate,
        momentum=options.momentum,
        dampening=0
        if options.nesterov
        else options.dampening,  # torch refuses both, as does Nesterov
        weight_decay=options.weight_decay,
        nesterov=options.nesterov,
        fused=fused,
    )


def rate_factor(options: TrainOptions) -> float:
    """What the learning rate is multiplied with for the size of the batch."""
    base = options.learning_rate_batch_size
    return options.batch_size / base if base else 1


def build_scheduler(optimizer: Optimizer, options: TrainOptions) -> LRScheduler | ReduceLROnPlateau:
    """A schedule that steps once an epoch.

    `multistep` divides the rate by ten after each of `multistep_milestones`, `plateau` when the
    validation loss has not fallen for `plateau_patience` epochs, `cosine` lets it fall to zero at
    `n_epochs` (Loshchilov & Hutter, SGDR, 2017). With `warmup_epochs` the rate first rises
    linearly; milestones still count from the first epoch.
    """
    warmup = options.warmup_epochs
    if options.lr_scheduler == "plateau":
        return ReduceLROnPlateau(optimizer, mode="min", patience=options.plateau_patience)
    schedule: LRScheduler
    if options.lr_scheduler == "cosine":
        schedule = CosineAnnealingLR(optimizer, T_max=options.n_epochs - warmup)
    else:
        schedule = MultiStepLR(optimizer, milestones=milestones_after_warmup(options))
    if not warmup:
        return schedule
    rise = LinearLR(optimizer, start_factor=_WARMUP_START, total_iters=warmup)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warmup])


def milestones_after_warmup(options: TrainOptions) -> list[int]:
    """The milestones as MultiStepLR counts them, which begins after the warm-up."""
    return [max(epoch - options.warmup_epochs, 0) for epoch in options.multistep_milestones]


def load_optimizer(
    optimizer: Optimizer, state: dict[str, Any], parameters: Iterable[nn.Parameter]
) -> list[int]:
    """Load a state in which the parameters may be grouped otherwise, as long as the order is ours.

    In files of the reference all parameters are one group, or in fine-tuning each is one; of the
    parameters before `ft_begin_module` some of its versions have groups, too (with rate 0).

    Args:
        parameters: all parameters of the network.

    Returns:
        For each of the optimiser's groups which group of the state it was read from.

    Raises:
        LookupError, TypeError, ValueError: if the state is not of these parameters.
    """
    saved = state["param_groups"]
    places = [(key, number) for number, group in enumerate(saved) for key in group["params"]]
    trains = [parameter.requires_grad for parameter in parameters]
    if len(places) == len(trains):
        places = [place for place, trained in zip(places, trains, strict=True) if trained]
    if len(places) != sum(trains):
        raise ValueError(
            f"it is of {len(places)} parameters, and {sum(trains)} of {len(trains)} train here: "
            "set ft_begin_module as in its training"
        )
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values = [
        _checked_values(state["state"].get(key, {}), parameter)
        for (key, _), parameter in zip(places, trained, strict=True)
    ]
    groups = optimizer.state_dict()["param_groups"]
    other = {"betas", "momentum"} & (groups[0].keys() - saved[0].keys())
    if other:
        raise ValueError(f"it has no {other.pop()}, as of another optimizer")
    sources = [places[group["params"][0]][1] for group in groups]
    # Which implementation makes the steps, and in which direction, is decided here, not there.
    merged = [
        {**group, **_checked_settings(saved[source], group)}
        for group, source in zip(groups, sources, strict=True)
    ]
    loaded = {number: value for number, value in enumerate(values) if value}
    optimizer.load_state_dict({"param_groups": merged, "state": loaded})
    return sources


def _checked_values(values: dict[str, Any], parameter: nn.Parameter) -> dict[str, Any]:
    """What an optimiser keeps of a parameter, laid out as the parameter is.

    Raises:
        ValueError: if it is not of this parameter, or not finite.
    """
    checked = {}
    for name, value in values.items():
        if name not in _VALUES or value is None:
            continue
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value))
        if value.dim() and value.shape != parameter.shape:
            raise ValueError(
                f"a {name} has the shape {tuple(value.shape)}, and its parameter "
                f"{tuple(parameter.shape)}"
            )
        if value.layout != torch.strided or value.is_meta or not value.dtype.is_floating_point:
            raise ValueError(f"a {name} is no dense tensor of real numbers")
        if not value.isfinite().all():
            raise ValueError(f"a {name} is not finite: its training diverged")
        checked[name] = torch.empty_like(parameter).copy_(value) if value.dim() else value
    return checked


def _checked_settings(there: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """The settings of a group in a file that count here.

    Raises:
        ValueError: if one is no finite number.
    """
    settings = {name: there[name] for name in _SETTINGS if name in there and name in here}
    if "initial_lr" in there:
        settings["initial_lr"] = there["initial_lr"]
    for name, value in settings.items():
        numbers = value if name == "betas" else [value]
        if not all(_is_finite(number) for number in numbers) or (
            name == "betas" and len(value) != 2
        ):
            raise ValueError(f"{name} is {value!r}; accepted: finite numbers from 0")
    return settings


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < float("inf")


def load_scheduler(
    scheduler: LRScheduler | ReduceLROnPlateau,
    state: dict[str, Any],
    groups: Sequence[int] | None,
    *,
    epoch: int,
) -> None:
    """Load a state of a schedule.

    Args:
        groups: where the optimiser's groups come from, as `load_optimizer` returns it; its lists
            with an entry a group follow. None leaves them.
        epoch: epochs that the file has finished, beyond which no schedule can be.

    Raises:
        LookupError, TypeError, ValueError: if the state is not of such a schedule.
    """
    scheduler.load_state_dict(_checked_schedule(scheduler, state, groups, epoch))


def _checked_schedule(
    scheduler: LRScheduler | ReduceLROnPlateau,
    state: dict[str, Any],
    groups: Sequence[int] | None,
    epoch: int,
) -> dict[str, Any]:
    """What of a state counts for a schedule: what it has itself, and has to be in the file."""
    own = scheduler.state_dict()
    checked = dict(own)
    for name in _SCHEDULE[type(scheduler)]:
        if name == "_last_lr" and name not in state:  # of before torch 1.4; it is for reading only
            continue
        value = state[name]
        if name in _LISTS_BY_GROUP:
            value = [value[group] for group in groups] if groups is not None else list(value)
            fits = len(value) == len(own[name]) and all(map(_is_finite, value))
        elif name == "milestones":
            value = Counter(value)
            fits = all(isinstance(m, int) and 0 <= m < 2**31 for m in [*value, *value.values()])
        elif name == "best":
            fits = isinstance(value, int | float) and value == value
        elif name in ("last_epoch", "num_bad_epochs", "cooldown_counter"):
            # It may lag behind in the reference, which loses an epoch with each resume.
            fits = isinstance(value, int) and -1 <= value <= epoch
        else:
            fits = _is_finite(value)
        if not fits:
            raise ValueError(f"{name} is {value!r} after {epoch} epochs")
        checked[name] = value
    if isinstance(state.get("_step_count"), int):
        checked["_step_count"] = state["_step_count"]  # for a warning of torch only
    if isinstance(scheduler, SequentialLR):  # a warm-up and what follows it
        if state["_milestones"] != own["_milestones"]:
            raise ValueError(
                f"its warm-up takes {state['_milestones']} epochs and here {own['_milestones']}"
            )
        checked["_schedulers"] = [
            _checked_schedule(part, part_state, groups, epoch)
            for part, part_state in zip(scheduler._schedulers, state["_schedulers"], strict=True)
        ]
    return checked


def step_scheduler(scheduler: LRScheduler | ReduceLROnPlateau, validation_loss: float) -> None:
    """Go on to the next epoch's learning rate."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(validation_loss)
    else:
        scheduler.step()
