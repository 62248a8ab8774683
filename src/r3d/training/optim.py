"""Optimisers and learning rate schedules by the option names of the reference."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from r3d.config.options import TrainOptions

# A warm-up starts at this share of the learning rate.
_WARMUP_START = 0.01
# What the state of a schedule lists for each group of the optimiser.
_LISTS_BY_GROUP = ("base_lrs", "_last_lr", "min_lrs")


def build_optimizer(
    parameters: Iterable[nn.Parameter], options: TrainOptions, device: torch.device
) -> Optimizer:
    """SGD as in the reference, or AdamW, over the parameters that train.

    As there, with `ft_begin_module` each parameter is a group of its own, else all are one: the
    states of both sides then have the same form.

    With `learning_rate_batch_size` the rate grows in proportion to the batch (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017).
    """
    learning_rate = options.learning_rate
    if options.learning_rate_batch_size:
        learning_rate *= options.batch_size / options.learning_rate_batch_size
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
        dampening=options.dampening,
        weight_decay=options.weight_decay,
        nesterov=options.nesterov,
        fused=fused,
    )


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
        schedule = MultiStepLR(optimizer, milestones=_milestones(options))
    if not warmup:
        return schedule
    rise = LinearLR(optimizer, start_factor=_WARMUP_START, total_iters=warmup)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warmup])


def _milestones(options: TrainOptions) -> list[int]:
    """The milestones as MultiStepLR counts them, which begins after the warm-up."""
    return [max(epoch - options.warmup_epochs, 0) for epoch in options.multistep_milestones]


def overwrite_milestones(scheduler: LRScheduler | ReduceLROnPlateau, options: TrainOptions) -> None:
    """Give a schedule the milestones of the options for the epochs to come, if it has any."""
    parts = scheduler._schedulers if isinstance(scheduler, SequentialLR) else [scheduler]
    for part in parts:
        if isinstance(part, MultiStepLR):
            part.milestones = Counter(_milestones(options))


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
    values = [state["state"].get(key, {}) for key, _ in places]
    for parameter, value in zip(trained, values, strict=True):
        for name, tensor in value.items():
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.shape != parameter.shape:
                raise ValueError(
                    f"a {name} has the shape {tuple(tensor.shape)}, and its parameter "
                    f"{tuple(parameter.shape)}"
                )
    groups = optimizer.state_dict()["param_groups"]
    other = {"betas", "momentum"} & (groups[0].keys() - saved[0].keys())
    if other:
        raise ValueError(f"it has no {other.pop()}, as of another optimizer")
    sources = [places[group["params"][0]][1] for group in groups]
    # Which implementation makes the steps is decided here, not there.
    own = ("params", "foreach", "fused")
    merged = [
        {**saved[source], **{name: group[name] for name in own}}
        for group, source in zip(groups, sources, strict=True)
    ]
    loaded = {number: value for number, value in enumerate(values) if value}
    optimizer.load_state_dict({"param_groups": merged, "state": loaded})
    return sources


def load_scheduler(
    scheduler: LRScheduler | ReduceLROnPlateau,
    state: dict[str, Any],
    groups: Sequence[int] | None,
) -> None:
    """Load a state of a schedule.

    Args:
        groups: where the optimiser's groups come from, as `load_optimizer` returns it; its lists
            with an entry a group follow. None leaves them.
    """
    scheduler.load_state_dict(state if groups is None else _regrouped(state, groups))


def _regrouped(state: dict[str, Any], groups: Sequence[int]) -> dict[str, Any]:
    regrouped = dict(state)
    for key in _LISTS_BY_GROUP:
        if key in state:
            regrouped[key] = [state[key][group] for group in groups]
    if "_schedulers" in state:  # of a warm-up and what follows it
        regrouped["_schedulers"] = [_regrouped(part, groups) for part in state["_schedulers"]]
    return regrouped


def step_scheduler(scheduler: LRScheduler | ReduceLROnPlateau, validation_loss: float) -> None:
    """Go on to the next epoch's learning rate."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(validation_loss)
    else:
        scheduler.step()
