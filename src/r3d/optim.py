"""Optimisers and learning rate schedules by the option names of the reference."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from r3d.options import TrainOptions

# A warm-up starts at this share of the learning rate.
_WARMUP_START = 0.01


def build_optimizer(
    parameters: Iterable[nn.Parameter], options: TrainOptions, device: torch.device
) -> Optimizer:
    """SGD as in the reference, or AdamW, over the parameters that train.

    With `learning_rate_batch_size` the rate grows in proportion to the batch (Goyal et al.,
    Accurate, Large Minibatch SGD, 2017).
    """
    learning_rate = options.learning_rate
    if options.learning_rate_batch_size:
        learning_rate *= options.batch_size / options.learning_rate_batch_size
    trained = [parameter for parameter in parameters if parameter.requires_grad]
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
        milestones = [max(epoch - warmup, 0) for epoch in options.multistep_milestones]
        schedule = MultiStepLR(optimizer, milestones=milestones)
    if not warmup:
        return schedule
    rise = LinearLR(optimizer, start_factor=_WARMUP_START, total_iters=warmup)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warmup])


def step_scheduler(scheduler: LRScheduler | ReduceLROnPlateau, validation_loss: float) -> None:
    """Go on to the next epoch's learning rate."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(validation_loss)
    else:
        scheduler.step()
