"""Where a workflow stands, from the files that it has written so far.

What is there is counted, not whether it is of the present settings: `snakemake -n` tells that.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from r3d.config.config import Config
from r3d.errors import InputError
from r3d.frames.shards import shard_name
from r3d.report.plots import plot_curves
from r3d.tables import read_columns
from r3d.workflow.joblogs import STATE_SAVED, ending

_RUNNING_SECONDS = 900
"""A training that has logged nothing for so long is not called running."""
_LAST_LINES = 3


@dataclass(frozen=True)
class Stage:
    """How many files of a stage are there, of how many."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class TrainingStatus:
    """A training: its progress, from its logs.

    logs: its run folder; None if it has not begun.
    epochs: finished ones, and a part for the steps of the next.
    seconds_left: by the pace of its epochs; None if it is finished, or has finished none.
    running: whether it has logged something of late, and not that it ended.
    """

    name: str
    logs: Path | None
    epochs: float
    n_epochs: int
    loss: float | None
    accuracy: float | None
    seconds_left: float | None
    running: bool
    finished: bool
    failed: bool


def stages(config: Config) -> list[Stage]:
    """The stages before and after the trainings."""
    results = Path(config.results)
    splits = [(name, split) for name in config.datasets for split in config.splits_in_use(name)]
    shards = [
        results / f"datasets/{name}/manifests/{shard_name(number, dataset.shards)}.tsv"
        for name, dataset in config.datasets.items()
        for number in range(dataset.shards)
    ]
    runs = [
        results / f"experiments/{name}/{run}/{experiment.inference_subset}"
        for name, experiment in config.experiments.items()
        for run in config.runs(name)
    ]
    files = {
        "lists": [results / f"datasets/{name}/lists/{split}.tsv" for name, split in splits],
        "shards of frames": shards,
        "annotations": _annotations(config),
        "results": [run.with_suffix(".json") for run in runs],
        "accuracies": [run.with_suffix(".accuracy.json") for run in runs],
    }
    return [
        Stage(name, sum(path.is_file() for path in paths), len(paths))
        for name, paths in files.items()
    ]


def _annotations(config: Config) -> list[Path]:
    """Those that experiments are about, and what is merged for them."""
    about: dict[tuple[str, str], None] = {}
    for name, experiment in config.experiments.items():
        for part in config.merged.get(experiment.dataset, ()):
            about[part, config.datasets[part].all_splits[0]] = None
        for split in config.experiment_splits(name):
            about[experiment.dataset, split] = None
    return [Path(config.annotation(name, split)) for name, split in about]


def trainings(config: Config) -> list[TrainingStatus]:
    """The trainings of the experiments, in the order of the config."""
    return [
        _training(Path(config.results), name, run, experiment.n_epochs)
        for name, experiment in config.experiments.items()
        if not experiment.no_train
        for run in config.runs(name)
    ]


def failures(config: Config) -> Iterator[tuple[Path, list[str]]]:
    """The logs of jobs that ended with an error, the latest first, and the last lines of each."""
    for _, path in _latest_first(Path(config.results, "logs"), ".log"):
        end = ending(path)
        if end.failed:
            yield path, [line.removeprefix("error: ") for line in end.lines[-_LAST_LINES:]]


def draw_curves(config: Config, folder: Path) -> list[Path]:
    """Draw the curves of each training that has finished an epoch; the pictures."""
    drawn = []
    for training in trainings(config):
        if training.logs is not None and training.epochs >= 1:
            picture = folder / f"{training.name.replace('/', '_')}.svg"
            plot_curves(training.logs / "train.log", training.logs / "val.log", picture)
            drawn.append(picture)
    return drawn


def status_text(config: Config, *, most_failures: int = 5) -> str:
    """All of it, for the terminal."""
    lines = [
        f"{stage.name:<18}{stage.done} of {stage.total}" for stage in stages(config) if stage.total
    ]
    found = trainings(config)
    if found:
        lines += ["", "trainings"]
        width = max(len(training.name) for training in found)
        lines += [f"  {training.name:<{width}}  {_told(training)}" for training in found]
    failed = list(failures(config))
    if failed:
        logs = "1 log ends" if len(failed) == 1 else f"{len(failed)} logs end"
        lines += ["", f"failed ({logs} with an error)"]
        for path, said in failed[:most_failures]:
            lines += [f"  {path}", *(f"    {line}" for line in said)]
        if len(failed) > most_failures:
            lines.append(f"  and {len(failed) - most_failures} earlier ones")
    return "\n".join(lines)


def _told(training: TrainingStatus) -> str:
    if training.logs is None:
        return "finished" if training.finished else "not begun"
    if training.finished:
        state = "finished"
    else:
        ended = "failed" if training.failed else "stopped"
        state = "running" if training.running else ended
    parts = [f"{state}, epoch {training.epochs:.1f} of {training.n_epochs}"]
    if training.loss is not None:
        parts.append(f"loss {training.loss:.3f}, accuracy {training.accuracy:.3f}")
    if training.running and training.seconds_left is not None:
        parts.append(f"{_duration(training.seconds_left)} left")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    """Days, hours and minutes, the largest two of them.

    >>> _duration(90061)
    '1 d 1 h'
    """
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{max(1, minutes)} min"


def _training(results: Path, name: str, run: str, n_epochs: int) -> TrainingStatus:
    finished = (results / f"experiments/{name}/{run}/model.pth").is_file()
    states = results / f"checkpoints/{name}/{run}"
    found = _latest_first(states, "train_batch.log")
    title = f"{name}/{run}"
    if not found:
        return TrainingStatus(title, None, 0, n_epochs, None, None, None, False, finished, False)
    changed, logs = found[0]
    folder = logs.parent
    epochs = _numbers(folder / "train.log", ("epoch", "loss", "acc"))
    batches = _numbers(logs, ("epoch", "batch", "loss", "acc"))
    done = float(len(epochs) and epochs["epoch"].iloc[-1])
    begun = batches[batches["epoch"] > done]
    per_epoch = batches.loc[batches["epoch"] <= done, "batch"].max() if done else None
    if per_epoch and len(begun):
        done += min(0.99, float(begun["batch"].iloc[-1]) / per_epoch)
    latest = begun if len(begun) else epochs
    end = ending(results / f"logs/train_model/{name}_{run}.log")
    ended = end.failed or any(STATE_SAVED in line for line in end.lines)
    silent = time.time() - changed >= _RUNNING_SECONDS
    running = not (finished or ended or silent)
    return TrainingStatus(
        *(title, folder, done, n_epochs),
        loss=float(latest["loss"].iloc[-1]) if len(latest) else None,
        accuracy=float(latest["acc"].iloc[-1]) if len(latest) else None,
        seconds_left=_seconds_left(folder / "speed.log", n_epochs - done),
        running=running,
        finished=finished,
        failed=end.failed and not finished,
    )


def _latest_first(folder: Path, end: str) -> list[tuple[float, Path]]:
    """The files below a folder whose names end so, and when they were changed last.

    Jobs write and remove files and folders meanwhile: what is gone is left out.
    """
    files: list[tuple[float, Path]] = []
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(end):
                path = Path(where, name)
                with suppress(FileNotFoundError):
                    files.append((path.stat().st_mtime, path))
    return sorted(files, reverse=True)


def _seconds_left(speed: Path, epochs: float) -> float | None:
    """By the pace of the last epochs."""
    seconds = _numbers(speed, ("seconds",))["seconds"][-5:]
    return float(seconds.mean()) * epochs if len(seconds) else None


def _numbers(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The columns of a log that is being written; of no rows if there is none."""
    try:
        table = read_columns(path, columns, growing=True)
    except InputError:
        return pd.DataFrame(columns=list(columns), dtype=float)
    return table.apply(pd.to_numeric, errors="coerce").dropna()
