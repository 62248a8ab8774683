"""Multigrid training: steps on clips of several shapes, and all that follows their batches."""

import subprocess
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from synthetic import LABELS, TINY
from test_train import assert_equal, command, fit, run_folder, wait_for_steps
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import ClipShape, TrainingClips
from r3d.clips.loader import EpochSampler, make_loader
from r3d.compute.distributed import World
from r3d.config.options import RunOptions, TrainingOptions
from r3d.errors import InputError
from r3d.frames.stores import open_store
from r3d.models.base import BatchNorm3d, Conv3d
from r3d.models.building import build_model
from r3d.training.runfolder import fingerprint
from r3d.training.schedule import Grid, MultigridSchedule, ShapedBatches, make_schedule
from r3d.training.state import TrainState
from r3d.training.step import TrainStep

CPU = torch.device("cpu")
KINDS = ("long", "short", "both")
# Nothing is said of so rough a training within an epoch of a step or two.
SMALL = {**TINY, "n_epochs": 8, "multigrid": "both", "learning_rate": 0.002, "no_val": True}


def steps(options: TrainingOptions, n_clips: int) -> list[tuple[int, Grid]]:
    """Clips and grid of each step of a training."""
    schedule = make_schedule(options, n_clips)
    return [
        (schedule.n_clips(epoch, step), schedule.grid(epoch, step))
        for epoch in range(options.n_epochs)
        for step in range(1, schedule.n_steps(epoch) + 1)
    ]


@pytest.mark.parametrize("multigrid", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"n_epochs": 40, "multistep_milestones": [10, 20, 30, 90]},
        {"n_epochs": 7, "multistep_milestones": [3, 3], "warmup_epochs": 2},
        {"n_epochs": 30, "lr_scheduler": "cosine", "sample_size": 160, "sample_duration": 32},
        {"n_epochs": 1, "sample_size": 100, "sample_t_stride": 3},
    ],
    ids=str,
)
def test_a_step_costs_no_more_and_the_clips_are_one_and_a_half_times(
    multigrid: str, options: dict[str, Any]
):
    chosen = TrainingOptions(**options, multigrid=multigrid, batch_size=10)
    found = steps(chosen, 5003)
    size, frames, t_stride = chosen.sample_size, chosen.sample_duration, chosen.sample_t_stride
    for n_clips, grid in found:
        shape = grid.shape
        assert n_clips == 10 * grid.n_batches
        work = n_clips * shape.duration * shape.size**2
        assert 0.85 <= work / (10 * frames * size**2) <= 1
        assert shape.duration * shape.t_stride == frames * t_stride  # the same span of time
    seen = sum(n_clips for n_clips, _ in found)
    assert seen == pytest.approx(1.5 * 5003 * chosen.n_epochs, rel=0.02)
    plain = len(steps(chosen.model_copy(update={"multigrid": "none"}), 5003))
    fewer = {"long": 2, "short": 1.3, "both": 3}[multigrid]
    assert len(found) < plain / fewer
    # The last of them make the statistics that the model is handed on with.
    at_last = [grid for _, grid in found[-len(found) // 8 :]]
    assert {grid.shape for grid in at_last} == {ClipShape(size, frames, t_stride)}
    assert {grid.rate for grid in at_last} == {1}


def test_the_cycles_are_those_published():
    options = TrainingOptions(
        **{"sample_size": 64, "n_epochs": 20, "multistep_milestones": [8, 16], "batch_size": 2}
    )
    shapes = [(44, 4, 4), (44, 8, 2), (64, 8, 2), (64, 16, 1)]
    long = steps(options.model_copy(update={"multigrid": "long"}), 800)
    distinct = list(dict.fromkeys(grid for _, grid in long))
    assert [grid.shape for grid in distinct] == shapes
    assert [grid.n_batches for grid in distinct] == [8, 4, 2, 1]
    assert [grid.rate**2 for grid in distinct] == pytest.approx([8, 4, 2, 1])
    found = [shape for shape, _ in groupby(grid.shape for _, grid in long)]
    assert found == shapes * 2  # one cycle up to each milestone, and the rest as the last
    short = steps(options.model_copy(update={"multigrid": "short"}), 800)
    assert [grid.shape.size for _, grid in short[:6]] == [64, 32, 44, 64, 32, 44]
    assert [grid.n_batches for _, grid in short[:3]] == [1, 4, 2]
    assert {grid.rate for _, grid in short} == {1}
    both = steps(options.model_copy(update={"multigrid": "both"}), 800)
    assert [grid.shape for _, grid in both[:3]] == [(44, 4, 4), (32, 4, 4), (44, 4, 4)]
    assert [grid.n_batches for _, grid in both[:3]] == [8, 16, 8]
    assert {grid.rate for _, grid in both[:3]} == {8**0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_size": 114}, "sample_size: 114 .* multiples of 4 from 16, as 112 or 116"),
        ({"sample_size": 8}, "sample_size: 8 .* multiples of 4 from 16, as 16 or 20"),
        ({"sample_duration": 10}, "sample_duration: 10 .* multiples of 4 from 8, as 8 or 12"),
        ({"sample_duration": 4}, "sample_duration: 4 .* as 8 or 12"),
        ({"lr_scheduler": "plateau"}, "accepted with plateau: multigrid: short or none"),
        ({"batchnorm_sync": True}, "batchnorm_sync: true"),
    ],
    ids=str,
)
def test_what_cannot_be_divided_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options, multigrid="both")
    TrainingOptions(**options)


def test_the_short_cycle_leaves_time_and_plateau_alone():
    options = {"sample_duration": 5, "lr_scheduler": "plateau", "multigrid": "short"}
    assert {grid.shape.duration for _, grid in steps(TrainingOptions(**options), 500)} == {5}


@pytest.mark.parametrize(("n_clips", "batch_size"), [(1, 4), (9, 128), (130, 128), (1000, 3)])
def test_every_epoch_has_steps_and_the_clips_follow_each_other(n_clips: int, batch_size: int):
    options = TrainingOptions(multigrid="both", batch_size=batch_size, n_epochs=12)
    schedule = MultigridSchedule(options, n_clips)
    done = 0
    for epoch in range(12):
        n_steps = schedule.n_steps(epoch)
        assert n_steps >= 1
        assert schedule.n_clips_before(epoch) == done
        done += schedule.seen(epoch, n_steps)
    assert schedule.n_clips_before(12) == done
    with pytest.raises(IndexError, match="no step"):
        schedule.grid(11, schedule.n_steps(11) + 1)


def test_processes_share_batches_and_an_epoch_is_gone_on_with():
    options = TrainingOptions(multigrid="both", batch_size=4, n_epochs=3)
    schedule = MultigridSchedule(options, 50)

    def batches(epoch: int, start: int = 0, **world: int) -> list[list[Any]]:
        order = ShapedBatches(schedule, EpochSampler(50, seed=1), **world)
        order.set_epoch(epoch, start=start)
        return list(order)

    whole = [batch for epoch in range(3) for batch in batches(epoch)]
    keys = [key for batch in whole for key in batch]
    assert len(keys) == schedule.n_clips_before(3)
    for number in range(len(keys) // 50):  # one pass after the other, whatever the epochs
        part = keys[50 * number : 50 * (number + 1)]
        assert {key[0] for key in part} == {number}
        assert sorted(key[1] for key in part) == list(range(50))
    assert len({shape for *_, shape in keys}) > 5
    for batch, grid in zip(whole, [grid for _, grid in steps(options, 50)], strict=True):
        assert {shape for *_, shape in batch} == {grid.shape}
    shares = [batches(1, rank=rank, world_size=2) for rank in (0, 1)]
    together = [[*zip(one, other, strict=True)] for one, other in zip(*shares, strict=True)]
    assert [[key for pair in batch for key in pair] for batch in together] == batches(1)
    assert batches(1, schedule.seen(1, 2)) == batches(1)[2:]


def test_a_clip_of_another_shape_shows_the_same_span(data: Path):
    store = open_store(data / "jpg", "jpg")
    samples = read_annotation(data / "annotation.json", subset="training")
    clips = TrainingClips(samples, store, TrainingOptions(**TINY))
    clip = clips[0, 3, ClipShape(size=16, duration=2, t_stride=4)]
    assert clip.views[0].shape == (2, 16, 16, 3)
    begin, end = clip.segment
    assert end - begin == 5
    keys = [[(0, 1, ClipShape(16, 4, 2))] * 3, [(0, 2, ClipShape(32, 8, 1))]]
    shapes = [batch.clips.shape[:4] for batch in make_loader(clips, keys, batch_size=None)]
    assert shapes == [(3, 4, 16, 16), (1, 8, 32, 32)]


def test_parts_of_a_batch_are_normalised_each_by_itself():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 4, 4) * torch.arange(1, 9).view(8, 1, 1, 1, 1)
    parts, plain = BatchNorm3d(3), BatchNorm3d(3)
    parts.n_parts = 4
    expected = torch.cat([plain(x[first : first + 2]) for first in range(0, 8, 2)])
    torch.testing.assert_close(parts(x), expected)
    torch.testing.assert_close(parts.running_var, plain.running_var)
    parts.n_parts, uneven = 3, [x[:3], x[3:6], x[6:]]
    torch.testing.assert_close(parts(x), torch.cat([BatchNorm3d(3)(part) for part in uneven]))
    assert not torch.allclose(parts(x), BatchNorm3d(3)(x))
    torch.testing.assert_close(parts.eval()(x), plain.eval()(x), rtol=1, atol=1)


def test_parts_of_a_batch_have_gradients_of_their_own_size():
    """Not of the whole batch for each, which is a quarter of the time of a step in 16 parts."""

    class Written(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            found = result if isinstance(result, tuple | list) else [result]
            self.n += sum(value.numel() for value in found if isinstance(value, torch.Tensor))
            return result

    def written(n_parts: int) -> int:
        norm = BatchNorm3d(2)
        norm.n_parts = n_parts
        scores = norm(torch.randn(32, 2, 2, 4, 4, requires_grad=True)).square().sum()
        with Written() as mode:
            scores.backward()
        return mode.n

    assert 0 < written(16) < 2 * written(1)


@pytest.mark.parametrize(
    ("batch_size", "accumulate_steps", "n_batches", "sizes"),
    [(4, 4, 1, [2, 2]), (4, 4, 4, [2] * 8), (6, 4, 2, [2] * 6), (5, 2, 4, [3, 3, 2, 2] * 2)],
)
def test_no_clip_of_a_part_is_normalised_alone(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    accumulate_steps: int,
    n_batches: int,
    sizes: list[int],
):
    """Whatever the number of parts, and of plain batches in a step."""
    options = TrainingOptions(
        **{**TINY, "batch_size": batch_size, "accumulate_steps": accumulate_steps}
    )
    n = batch_size * n_batches
    samples = read_annotation(data / "annotation.json", subset="training")
    clips = TrainingClips(samples, open_store(data / "jpg", "jpg"), options)
    (batch,) = make_loader(
        clips, [[(0, key % 18, ClipShape(16, 4, 2)) for key in range(n)]], batch_size=None
    )
    state = TrainState(options, LABELS, None, CPU)
    state.network.train()
    step = TrainStep(state, run=RunOptions(), device=CPU, world=World())
    normalised: list[int] = []
    first = next(norm for norm in state.network.modules() if isinstance(norm, BatchNorm3d))
    plain = first._normalised
    monkeypatch.setattr(
        first, "_normalised", lambda x: (normalised.append(len(x)), plain(x))[1], raising=False
    )
    step(batch, number=1, n_clips=n, grid=Grid(ClipShape(16, 4, 2), n_batches=n_batches))
    assert normalised == sizes


def one_step(data: Path, grid: Grid | None) -> TrainState:
    options = TrainingOptions(**{**TINY, "batch_size": 8, "momentum": 0.0, "weight_decay": 0.0})
    samples = read_annotation(data / "annotation.json", subset="training")
    clips = TrainingClips(samples, open_store(data / "jpg", "jpg"), options)
    (batch, *_) = make_loader(clips, EpochSampler(len(clips), seed=1), batch_size=8)
    state = TrainState(options, LABELS, None, CPU)
    state.network.train()
    step = TrainStep(state, run=RunOptions(), device=CPU, world=World())
    step(batch, number=1, n_clips=8, grid=grid)
    return state


def test_the_rate_of_a_step_is_its_own_and_statistics_follow_the_largest_size(data: Path):
    before = TrainState(TrainingOptions(**TINY), LABELS, None, CPU).network.state_dict()
    plain = one_step(data, None)
    grid = Grid(ClipShape(32, 8, 1), rate=4)
    faster, smaller = one_step(data, grid), one_step(data, replace(grid, is_base=False))
    after = [state.network.state_dict() for state in (plain, faster, smaller)]
    for name in ("conv1.weight", "fc.weight"):
        moved = [weights[name] - before[name] for weights in after]
        torch.testing.assert_close(moved[1], 4 * moved[0], rtol=1e-3, atol=1e-6)
        assert torch.equal(moved[1], moved[2])
    # No schedule and no checkpoint knows of it.
    assert faster.learning_rate == plain.learning_rate == TINY["learning_rate"]
    running = "layer1.0.bn1.running_var"
    assert torch.equal(after[0][running], after[1][running])
    assert torch.equal(after[2][running], before[running])


@pytest.mark.parametrize(
    "options",
    [
        {"multigrid": "long"},
        {"multigrid": "short", "lr_scheduler": "plateau", "no_val": False},
        {"lr_scheduler": "cosine", "warmup_epochs": 2, "ema_decay": 0.5, "no_val": False},
        {"multistep_milestones": [3, 6], "mixup_alpha": 0.4, "accumulate_steps": 2},
        {"model": "preresnet", "sample_t_stride": 2, "optimizer": "adamw"},
        {"model": "resnet2p1d", "no_hflip": False, "train_crop": "corner"},
        {"precision": "bf16", "frozen": True, "randaugment": 5},
    ],
    ids=str,
)
def test_it_trains_with_every_option(data: Path, tmp_path: Path, options: dict[str, Any]):
    weights = fit(data, tmp_path, **{**SMALL, **options})
    assert all(value.isfinite().all() for value in weights.values())
    plain = {**SMALL, **options, "multigrid": "none"}
    log = pd.read_csv(run_folder(tmp_path) / "train_batch.log", sep="\t")
    chosen = TrainingOptions(**{**SMALL, **options})
    assert log["iter"].tolist() == list(range(1, len(steps(chosen, 18)) + 1))
    assert len(log) < len(steps(TrainingOptions(**plain), 18))
    speed = pd.read_csv(run_folder(tmp_path) / "speed.log", sep="\t")
    assert speed["clips"].sum() == sum(n_clips for n_clips, _ in steps(chosen, 18))


def test_the_log_has_the_rate_of_each_step(data: Path, tmp_path: Path):
    options = {**SMALL, "multigrid": "long", "multistep_milestones": [4]}
    fit(data, tmp_path, **options)
    log = pd.read_csv(run_folder(tmp_path) / "train_batch.log", sep="\t")
    factors = [grid.rate for _, grid in steps(TrainingOptions(**options), 18)]
    base = [0.002 if epoch <= 4 else 0.0002 for epoch in log["epoch"]]
    expected = [rate * factor for rate, factor in zip(base, factors, strict=True)]
    assert log["lr"].tolist() == pytest.approx(expected)


def test_a_killed_training_goes_on_as_if_never_stopped(data: Path, tmp_path: Path):
    """From the step that it was told to stop after, then from the state before a kill."""
    options = {**SMALL, "n_epochs": 36, "multistep_milestones": [12, 24], "accumulate_steps": 2}
    options |= {"mixup_alpha": 0.4, "ema_decay": 0.9}
    del options["no_val"]
    for n_steps, end in ((12, "terminate"), (30, "kill")):
        process = subprocess.Popen(command(data, tmp_path / "a", **options), stderr=subprocess.PIPE)
        wait_for_steps(tmp_path / "a", n_steps)
        getattr(process, end)()
        process.communicate(timeout=60)
        assert not (tmp_path / "a/model.pth").exists(), "the training was over before the signal"
    resumed = fit(data, tmp_path / "a", **options)
    assert_equal(resumed, fit(data, tmp_path / "b", **options))
    for name in ("train.log", "val.log"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def test_workers_change_nothing(data: Path, tmp_path: Path):
    assert_equal(fit(data, tmp_path / "a", **SMALL), fit(data, tmp_path / "b", 2, **SMALL))


def test_a_longer_training_is_another_one():
    """The long cycle is spread over all epochs; other trainings are known by the name they had."""
    names = {
        multigrid: [
            fingerprint(TrainingOptions(n_epochs=n_epochs, multigrid=multigrid), [])
            for n_epochs in (200, 300)
        ]
        for multigrid in ("none", *KINDS)
    }
    assert names["none"] == [fingerprint(TrainingOptions(), [])] * 2
    assert len({name for kind in KINDS for name in names[kind]}) == 6


@pytest.mark.parametrize(
    ("model", "depth"), [("resnet2p1d", 18), ("preresnet", 18), ("resnext", 50), ("densenet", 121)]
)
def test_networks_take_the_smallest_clips(model: str, depth: int):
    network = build_model(model=model, model_depth=depth, n_classes=3, n_input_channels=3)
    for shape in (ClipShape(8, 2, 4), ClipShape(10, 4, 2), ClipShape(16, 8, 1)):
        clips = torch.zeros(2, 3, shape.duration, shape.size, shape.size)
        assert network(clips).shape == (2, 3)


def test_no_step_keeps_more_for_its_gradients_than_a_plain_one(monkeypatch):
    """On a GPU; on CPUs convolutions of few frames also keep the zeros around them."""
    monkeypatch.setattr(Conv3d, "forward", nn.Conv3d.forward)
    options = TrainingOptions(model_depth=10, resnet_widen_factor=0.25, sample_size=64)
    network = build_model(n_classes=2, **options.network())
    weights = {parameter.data_ptr() for parameter in network.parameters()}

    def kept(grid: Grid) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        for norm in network.modules():
            if isinstance(norm, BatchNorm3d):
                norm.n_parts = grid.n_batches
        size, duration, _ = grid.shape
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            scores = network(torch.zeros(2 * grid.n_batches, 3, duration, size, size))
        assert scores.requires_grad
        return sum(storages.values())

    chosen = options.model_copy(update={"multigrid": "both", "n_epochs": 4, "batch_size": 2})
    grids = list(dict.fromkeys(grid for _, grid in steps(chosen, 200)))
    assert len(grids) == 10
    plain = kept(Grid(ClipShape(64, 16, 1)))
    assert all(kept(grid) <= 1.1 * plain for grid in grids)


def test_a_state_of_other_batches_is_refused(data: Path, tmp_path: Path):
    fit(data, tmp_path / "a", **{**SMALL, "n_epochs": 1})
    path = run_folder(tmp_path / "a") / "latest.pth"
    content = torch.load(path, weights_only=True)
    content["training"] |= {"step": 1, "seen": 4}
    torch.save(content, path)
    with pytest.raises(InputError, match="after 1 steps and 4 clips, which does not fit"):
        fit(data, tmp_path / "b", **SMALL, resume_path=str(path))


def test_the_cycles_follow_the_milestones_of_a_file_gone_on_from(data: Path, tmp_path: Path):
    """Those that the learning rate follows, whatever is asked for."""
    there = {**SMALL, "multigrid": "long", "multistep_milestones": [4, 6]}
    fit(data, tmp_path / "a", **{**there, "n_epochs": 1})
    path = str(run_folder(tmp_path / "a") / "latest.pth")
    asked = {**there, "multistep_milestones": [2, 3]}
    fit(data, tmp_path / "b", **asked, resume_path=path)
    log = pd.read_csv(run_folder(tmp_path / "b") / "train_batch.log", sep="\t")
    rates = {1: 0.002, 2: 0.0002, 3: 0.00002}
    expected = [
        rates[1 + (epoch >= 4) + (epoch >= 6)] * schedule.grid(epoch, step).rate
        for schedule in [make_schedule(TrainingOptions(**there), 18)]
        for epoch in range(1, 8)
        for step in range(1, schedule.n_steps(epoch) + 1)
    ]
    assert log["lr"].tolist() == pytest.approx(expected)
