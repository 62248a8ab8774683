"""Where a workflow stands, from files as the steps write them."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from r3d.config.config import Config
from r3d.config.loading import load_config
from r3d.frames.shards import shard_name
from r3d.report.status import draw_curves, failures, stages, status_text, trainings


@pytest.fixture
def config(tmp_path: Path) -> Config:
    raw: dict[str, Any] = yaml.safe_load(
        f"""
        results: {tmp_path}/results
        datasets:
          own: {{format: csv, lists: l.csv, videos: v, frames: f, shards: 3}}
        defaults: {{dataset: own, n_epochs: 10}}
        experiments: {{one: {{}}, two: {{n_epochs: 4}}, three: {{pretrain: one, no_train: true}}}}
        """
    )
    return load_config(raw)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def train(config: Config, name: str, n_epochs: int, n_steps: int) -> Path:
    """The logs of a training of 20 steps an epoch, each of which took a minute."""
    folder = Path(config.results, f"checkpoints/{name}/all/0123456789ab")
    epochs = range(1, n_epochs + 1)
    rows = [f"{e}\t{b}\t{e * b}\t{2 / e}\t0.5\t0.1" for e in epochs for b in range(1, 21)]
    rows += [f"{n_epochs + 1}\t{b}\t1\t0.125\t0.75\t0.1" for b in range(1, n_steps + 1)]
    header = "epoch\tbatch\titer\tloss\tacc\tlr"
    # A line that is being written.
    write(folder / "train_batch.log", "\n".join([header, *rows, f"{n_epochs + 1}\t{n_steps}"]))
    done = [f"{e}\t{2 / e}\t0.5\t0.1" for e in epochs]
    write(folder / "train.log", "\n".join(["epoch\tloss\tacc\tlr", *done, ""]))
    write(folder / "val.log", "epoch\tloss\tacc\n")
    speed = [f"{e}\t100\t60\t6" for e in epochs]
    write(folder / "speed.log", "\n".join(["epoch\tclips\tseconds\twaiting", *speed, ""]))
    return folder


def test_before_anything_is_there(config: Config):
    assert [(stage.done, stage.total) for stage in stages(config)] == [
        *((0, 1), (0, 3), (0, 1), (0, 3), (0, 3))
    ]
    text = status_text(config)
    assert "one/all  not begun" in text
    assert "three" not in text  # it trains nothing
    assert "failed" not in text


def test_stages_epochs_and_the_time_left(config: Config):
    results = Path(config.results)
    for number in map(shard_name, (0, 1), (3, 3)):
        write(results / f"datasets/own/manifests/{number}.tsv", "")
    train(config, "one", 4, 5)
    train(config, "two", 4, 0)
    write(results / "experiments/two/all/model.pth", "")
    shards = next(stage for stage in stages(config) if "shards" in stage.name)
    assert (shards.done, shards.total) == (2, 3)
    one, two = trainings(config)
    assert one.running
    assert one.epochs == pytest.approx(4.25)
    assert one.seconds_left == pytest.approx(60 * 5.75)
    assert (one.loss, one.accuracy) == (0.125, 0.75)
    assert (two.finished, two.running) == (True, False)
    text = status_text(config)
    assert "one/all  running, epoch 4.2 of 10; loss 0.125, accuracy 0.750; 6 min left" in text
    assert "two/all  finished, epoch 4.0 of 4" in text


def test_a_training_without_news_is_not_running(config: Config):
    log = train(config, "one", 1, 3) / "train_batch.log"
    hour_ago = time.time() - 3600
    os.utime(log, (hour_ago, hour_ago))
    assert "one/all  stopped, epoch 1.1 of 10" in status_text(config)


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ("stopped in epoch 2 after step 3; the state is saved", "stopped"),
        ("error: the training diverged", "failed"),
        ("epoch 1: training loss 2", "running"),
    ],
)
def test_a_training_whose_log_says_that_it_ended_is_not_running(
    config: Config, last: str, state: str
):
    train(config, "one", 1, 3)
    stamp = "2026-01-01 00:00:00,000"
    write(Path(config.results, "logs/train_model/one_all.log"), f"{stamp} begun\n{stamp} {last}\n")
    assert f"one/all  {state}, epoch 1.1 of 10" in status_text(config)


def test_the_last_line_of_what_failed(config: Config):
    logs = Path(config.results, "logs")
    write(logs / "a/fine.log", "2026-01-01 00:00:00,000 done\n")
    write(logs / "b/list.log", "2026-01-01 00:00:00,000 error: list.csv, line 3: no label\n")
    write(logs / "c/bug.log", "Traceback (most recent call last):\n  File x\nKeyError: 'y'\n")
    assert {path.name: lines[-1] for path, lines in failures(config)} == {
        "list.log": "list.csv, line 3: no label",
        "bug.log": "KeyError: 'y'",
    }
    assert "failed (2 logs end with an error)" in status_text(config)


def test_curves_of_what_has_finished_an_epoch(config: Config, tmp_path: Path):
    train(config, "one", 2, 0)
    train(config, "two", 0, 3)
    (picture,) = draw_curves(config, tmp_path / "status")
    assert picture.name == "one_all.svg"
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize("half", ["3", "3\t0.6", "3\t0.6\t0.5", "3\t0.6\t0.5\t0."])
def test_curves_while_an_epoch_is_being_logged(config: Config, tmp_path: Path, half: str):
    folder = train(config, "one", 2, 0)
    (whole,) = draw_curves(config, tmp_path / "whole")
    for name in ("train.log", "val.log"):
        with (folder / name).open("a") as file:
            file.write(half)
    (picture,) = draw_curves(config, tmp_path / "half")
    assert picture.read_bytes() == whole.read_bytes()
    write(folder / "train.log", f"epoch\tloss\tacc\tlr\n{half}")
    assert draw_curves(config, tmp_path / "none") == []


def test_files_that_are_removed_meanwhile_are_left_out(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    logs = Path(config.results, "logs")
    for name in ("gone", "kept"):
        write(logs / f"{name}.log", "2026-01-01 00:00:00,000 error: no\n")
    gone = [logs / "gone.log", train(config, "one", 1, 3) / "train_batch.log"]
    stat = Path.stat

    def after_a_job_removed_it(path: Path, **options: Any) -> os.stat_result:
        if path in gone:
            path.unlink(missing_ok=True)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", after_a_job_removed_it)
    assert [path.name for path, _ in failures(config)] == ["kept.log"]
    assert not trainings(config)[0].running


def test_a_finished_training_whose_states_are_removed_is_finished(config: Config):
    write(Path(config.results, "experiments/one/all/model.pth"), "")
    lines = status_text(config).splitlines()
    assert "  one/all  finished" in lines
    assert "  two/all  not begun" in lines


def test_each_run_of_folds_and_seeds_has_a_line(tmp_path: Path):
    raw = yaml.safe_load(
        f"""
        results: {tmp_path}/results
        datasets:
          own: {{format: csv, lists: l.csv, videos: v, frames: f, shards: 3}}
        experiments: {{cv: {{dataset: own, folds: 2, seeds: 2, n_epochs: 10}}}}
        """
    )
    config = load_config(raw)
    train(config, "cv", 4, 5).parent.rename(tmp_path / "results/checkpoints/cv/fold2of2-seed2")
    names = [f"cv/fold{fold}of2{seed}" for fold in (1, 2) for seed in ("", "-seed2")]
    assert [training.name for training in trainings(config)] == names
    assert [training.running for training in trainings(config)] == [False, False, False, True]
    totals = {stage.name: stage.total for stage in stages(config)}
    assert (totals["lists"], totals["annotations"], totals["results"]) == (3, 2, 4)
