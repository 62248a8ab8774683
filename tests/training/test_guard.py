"""Gradients that are spoilt in channels last are computed again; NaNs are put in by the tests."""

import copy
import logging

import pytest
import torch
from torch import nn

from r3d.clips.loader import ClipBatch
from r3d.compute.distributed import World
from r3d.config.options import RunOptions, TrainingOptions
from r3d.training.guard import GradientGuard
from r3d.training.state import TrainState
from r3d.training.step import TrainStep

CHANNELS_LAST = torch.channels_last_3d
TINY = {"model_depth": 10, "resnet_widen_factor": 0.0625, "sample_size": 32, "sample_duration": 8}


def test_what_is_computed_again_is_as_if_it_were_the_first_time(caplog):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(4 * 4 * 6 * 6, 2)),
    )
    other = copy.deepcopy(network)
    clips = torch.randn(4, 3, 6, 8, 8)

    def compute(layout: torch.memory_format, network: nn.Module = network) -> torch.Tensor:
        assert network[0].weight.is_contiguous(memory_format=layout)
        network.zero_grad()
        loss = network(clips.contiguous(memory_format=layout)).square().sum()
        loss.backward()
        if network is not other and layout is CHANNELS_LAST:
            network[0].weight.grad[0, 0, 0, 0, 0] = float("nan")
        return loss

    network.to(memory_format=CHANNELS_LAST)
    guard = GradientGuard(network, says=True)
    torch.manual_seed(1)
    loss = guard(compute, "epoch 2, step 3")
    torch.manual_seed(1)
    assert torch.equal(loss, compute(torch.contiguous_format, other))
    for there, here in zip(other.parameters(), network.parameters(), strict=True):
        assert torch.equal(there.grad, here.grad)
    for there, here in zip(other.buffers(), network.buffers(), strict=True):
        assert torch.equal(there, here)
    assert network[0].weight.is_contiguous(memory_format=CHANNELS_LAST)
    assert guard.n_repeated == 1
    (said,) = caplog.messages
    assert said.startswith("epoch 2, step 3: gradients were not finite in bf16, channels last")
    assert "(1 so far)" in said


def step_of(precision: str, layout: str) -> tuple[TrainState, TrainStep, ClipBatch]:
    options = TrainingOptions(**TINY, precision=precision, batch_size=4, accumulate_steps=2)
    state = TrainState(options, ["a", "b"], None, torch.device("cpu"), layout)
    state.network.train()
    step = TrainStep(state, run=RunOptions(), device=torch.device("cpu"), world=World())
    torch.manual_seed(0)
    batch = ClipBatch(
        clips=torch.randint(256, (4, 8, 32, 32, 3), dtype=torch.uint8),
        labels=torch.tensor([0, 1, 0, 1]),
        flips=torch.zeros(4, dtype=torch.bool),
        videos=torch.arange(4),
        segments=torch.zeros(4, 2, dtype=torch.int64),
    )
    return state, step, batch


def spoil(step: TrainStep, times: int) -> None:
    """Put a NaN into a gradient so often, after the backward pass."""
    left, compute = [times], step._gradients

    def spoilt(*arguments, **options):
        sums = compute(*arguments, **options)
        if left[0]:
            left[0] -= 1
            step.state.network.layer3[0].conv2.weight.grad[0, 0] = float("nan")
        return sums

    step._gradients = spoilt


def test_a_training_step_survives_a_nan_in_bf16_channels_last(caplog):
    caplog.set_level(logging.WARNING)
    weights = {}
    for name, layout, times in (("spoilt", "channels_last", 1), ("contiguous", "contiguous", 0)):
        state, step, batch = step_of("bf16", layout)
        spoil(step, times)
        step(batch, number=1, n_clips=4)
        weights[name] = state.network.state_dict()
    assert len(caplog.messages) == 1
    # All of it was computed contiguous: the statistics of batch norms count the step once, too.
    for key, value in weights["contiguous"].items():
        assert torch.equal(weights["spoilt"][key], value), key


@pytest.mark.parametrize(
    ("precision", "layout"),
    [("fp32", "channels_last"), ("bf16", "contiguous"), ("bf16", "auto"), ("fp32", "auto")],
)
def test_elsewhere_nothing_is_guarded(precision: str, layout: str):
    assert step_of(precision, layout)[1].guard is None


def test_gradients_that_are_not_finite_either_way_are_left_to_the_training(caplog):
    state, step, batch = step_of("bf16", "channels_last")
    spoil(step, 2)
    step(batch, number=1, n_clips=4)
    assert step.guard is not None
    assert step.guard.n_repeated == 1
    assert state.network.layer3[0].conv2.weight.isnan().any()  # which is never saved
