"""Trainings on several samples of each clip: they go on, and share their work, as all do."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from synthetic import TINY

from r3d.clips.loader import EpochSampler
from r3d.config.options import RunOptions, TrainingOptions
from r3d.errors import InputError, Stopped
from r3d.models.checkpoint import read_checkpoint
from r3d.training.runfolder import fingerprint
from r3d.training.schedule import MultigridSchedule, ShapedBatches
from r3d.training.step import TrainStep
from r3d.training.train import train

# Of 18 videos, in batches that end within a clip.
OPTIONS = {**TINY, "n_epochs": 2, "crops_per_clip": 2, "batch_size": 5, "no_hflip": False}
OPTIONS |= {"class_balance": 0.5, "mixup_alpha": 0.2, "colorjitter": True}


def fit(data: Path, output: Path, n_threads: int = 0, **options: Any) -> dict[str, torch.Tensor]:
    """Train and return the weights of the final model."""
    train(
        TrainingOptions(**{**OPTIONS, **options}),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        checkpoints=output / "checkpoints",
        model=output / "model.pth",
        train_log=output / "train.log",
        val_log=output / "val.log",
        run=RunOptions(n_threads=n_threads, no_cuda=True),
        n_cores=1,
    )
    return read_checkpoint(output / "model.pth").state_dict


def ask_to_stop(monkeypatch: pytest.MonkeyPatch, is_asked: Callable[[], bool]) -> None:
    """As a signal does, which test_train.py sends to processes of their own."""
    requests = lambda: nullcontext(is_asked)  # noqa: E731
    monkeypatch.setattr("r3d.training.train._stop_requests", requests)


def log_of(output: Path) -> pd.DataFrame:
    (log,) = output.glob("checkpoints/*/train_batch.log")
    return pd.read_csv(log, sep="\t")


@pytest.mark.parametrize("multigrid", ["none", "both"])
def test_a_training_goes_on_within_the_samples_of_a_clip(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multigrid: str
):
    options = {"multigrid": multigrid, "n_epochs": 2 if multigrid == "none" else 8}
    whole = fit(data, tmp_path / "whole", **options)
    n_steps = len(log_of(tmp_path / "whole"))
    if multigrid == "none":  # 36 samples; a rest of one is left out
        assert n_steps == 2 * 7
    stops = [1, 2, n_steps - 2]
    done = []

    class Step(TrainStep):
        def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
            done.append(options["number"])
            return super().__call__(*arguments, **options)

    monkeypatch.setattr("r3d.training.train.TrainStep", Step)
    ask_to_stop(monkeypatch, lambda: len(done) in stops)
    for n_threads in (0, 1, 0):  # and the number of workers changes nothing
        with pytest.raises(Stopped):
            fit(data, tmp_path / "parts", n_threads, **options)
    parts = fit(data, tmp_path / "parts", **options)
    assert len(done) == n_steps
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name
    pd.testing.assert_frame_equal(log_of(tmp_path / "parts"), log_of(tmp_path / "whole"))


def test_a_state_of_another_number_of_samples_is_another_training(data: Path, tmp_path: Path):
    one, two = (TrainingOptions(**{**OPTIONS, "crops_per_clip": n}) for n in (1, 2))
    assert fingerprint(one, []) != fingerprint(two, [])
    without = {name: value for name, value in OPTIONS.items() if name != "crops_per_clip"}
    assert fingerprint(one, []) == fingerprint(TrainingOptions(**without), [])


def test_a_file_from_within_an_epoch_of_more_steps_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done = []

    class Step(TrainStep):
        def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
            done.append(options["number"])
            return super().__call__(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("r3d.training.train.TrainStep", Step)
        ask_to_stop(patch, lambda: 5 in done)
        with pytest.raises(Stopped):
            fit(data, tmp_path / "two")
    (state,) = tmp_path.glob("two/checkpoints/*/latest.pth")
    with pytest.raises(InputError, match="or the batch_size, crops_per_clip and annotation"):
        fit(data, tmp_path / "one", crops_per_clip=1, resume_path=str(state))
    fit(data, tmp_path / "again", resume_path=str(state))


def test_multigrid_goes_through_the_samples_in_its_batches():
    options = TrainingOptions(multigrid="both", batch_size=4, n_epochs=3, crops_per_clip=2)
    schedule = MultigridSchedule(options, 2 * 25)

    def batches(**world: int) -> list[list[Any]]:
        order = ShapedBatches(schedule, EpochSampler(25, seed=1, crops_per_clip=2), **world)
        found = []
        for epoch in range(3):
            order.set_epoch(epoch)
            found += list(order)
        return found

    whole = batches()
    in_a_row = [
        key for n in range(6) for key in EpochSampler(25, seed=1, epoch=n, crops_per_clip=2)
    ]
    place = 0
    for batch in whole:
        assert sorted(key[:3] for key in batch) == sorted(in_a_row[place : place + len(batch)])
        assert [key[2] for key in batch] == sorted(key[2] for key in batch)
        place += len(batch)
    assert place > 2 * 50
    shares = zip(batches(rank=0, world_size=2), batches(rank=1, world_size=2), strict=True)
    assert [sorted(one + other) for one, other in shares] == [sorted(batch) for batch in whole]
