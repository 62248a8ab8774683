"""Gradients that are spoilt in channels last are computed again; NaNs are put in by the tests."""

import copy
import logging
import multiprocessing
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
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


def step_of(
    precision: str, layout: str, world: World | None = None, **options
) -> tuple[TrainState, TrainStep, ClipBatch]:
    options = {"accumulate_steps": 2, **TINY, "precision": precision, "batch_size": 4, **options}
    state = TrainState(TrainingOptions(**options), ["a", "b"], None, torch.device("cpu"), layout)
    state.network.train()
    device = torch.device("cpu")
    step = TrainStep(state, run=RunOptions(), device=device, world=world or World())
    return state, step, batch_of(0)


def batch_of(seed: int) -> ClipBatch:
    torch.manual_seed(seed)
    return ClipBatch(
        clips=torch.randint(256, (4, 8, 32, 32, 3), dtype=torch.uint8),
        labels=torch.tensor([0, 1, 0, 1]),
        flips=torch.zeros(4, dtype=torch.bool),
        videos=torch.arange(4),
        segments=torch.zeros(4, 2, dtype=torch.int64),
    )


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


# Number of the step in which a gradient is spoilt, and in how many parts each batch is computed.
FAULTS = [(None, 1), (1, 1), (2, 1), (None, 2), (2, 2)]


def _train_together(rank: int, folder: Path) -> None:
    """One of two processes: trains for each fault, and keeps what it had after each step."""
    torch.set_num_threads(1)
    sys.stderr = (folder / f"said_{rank}").open("w", buffering=1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    found, repeats = {}, []
    for spoilt, parts in FAULTS:
        # In fp32, that the two layouts differ by little.
        options = {"accumulate_steps": parts, "ema_decay": 0.5, "learning_rate": 1e-3}
        state, step, _ = step_of("fp32", "channels_last", World(rank, 2, rank), **options)
        step.guard = GradientGuard(state.network, says=False)
        left = [0]

        def spoil_once(gradient: torch.Tensor, left: list[int] = left) -> torch.Tensor | None:
            left[0] -= 1
            return None if left[0] else gradient * float("nan")

        # Before it is exchanged, and of one process only.
        state.network.layer3[0].conv2.weight.register_hook(spoil_once)
        for number in range(1, 4):
            left[0] = parts if (rank, number) == (1, spoilt) else 0
            step(batch_of(10 * number + rank), number=number, n_clips=8)
            kept = {f"weights.{name}": value for name, value in state.network.state_dict().items()}
            for name, value in state.average.module.state_dict().items():
                kept[f"average.{name}"] = value
            for name, weight in state.network.named_parameters():
                kept[f"gradients.{name}"] = weight.grad
                kept[f"momentum.{name}"] = state.optimizer.state[weight]["momentum_buffer"]
            found[spoilt, parts, number] = {name: part.clone() for name, part in kept.items()}
        repeats.append(step.guard.n_repeated)
    torch.save((found, repeats), folder / f"found_{rank}")
    dist.destroy_process_group()


def test_processes_go_on_as_if_one_of_them_had_spoilt_no_gradient(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    ranks = [
        spawn.Process(target=_train_together, args=(rank, tmp_path), daemon=True)
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    files = [tmp_path / f"found_{rank}" for rank in range(2)]
    found, repeats = zip(*(torch.load(file, weights_only=True) for file in files), strict=True)
    for spoilt, parts, number in found[0]:
        for rank in range(2):
            given, expected = (found[rank][fault, parts, number] for fault in (spoilt, None))
            for name, value in expected.items():
                # To rounding: the repeated step was computed in the other layout.
                far = (given[name] - value).float().norm() / value.float().norm().clamp_min(1e-9)
                assert far < 0.02, (spoilt, parts, number, rank, name)
                # Statistics of batch norms are of a process's own clips.
                same = "running" in name or torch.equal(
                    given[name], found[0][spoilt, parts, number][name]
                )
                assert same, (spoilt, parts, number, rank, name)
    assert repeats == ([0, 1, 1, 0, 1],) * 2
    # Nor does torch complain of layouts.
    assert [(tmp_path / f"said_{rank}").read_text() for rank in range(2)] == ["", ""]
