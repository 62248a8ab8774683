"""What the report says, as plain values: the numbers are found here, the page only shows them."""

import base64
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from r3d.evaluation.statistics import (
    Flags,
    Interval,
    accuracy_interval,
    calibration,
    mean_class_intervals,
)
from r3d.report.experiments import experiments_of, pairs_of
from r3d.report.runs import Run, same_videos
from r3d.tables import read_columns

# Curves of more points are thinned out: no screen shows more.
_MOST_POINTS = 400


def contents_of(runs: Sequence[Run]) -> dict[str, Any]:
    """All that the page shows of runs: `sets` of videos, `runs` on them, `experiments`, `pairs`.

    Runs, sets and experiments are named by their numbers: a run names its set, an experiment its
    runs, a pair its two experiments. Numbers of each video are packed (`_packed`).
    """
    sets = same_videos(runs)
    # Models may know other classes, or the same in another order.
    labels = [
        list(dict.fromkeys(chain(*(runs[member].labels for member in members)))) for members in sets
    ]
    shown: dict[int, dict[str, Any]] = {}
    for number, members in enumerate(sets):
        first = runs[members[0]]
        right = np.stack([runs[member].correct(1) for member in members])
        truth = np.maximum(first.truth(labels[number]), 0)
        intervals = mean_class_intervals(right, truth, first.groups)
        for member, interval in zip(members, intervals, strict=True):
            shown[member] = _run(runs[member], number, labels[number], interval)
    of_runs = [shown[number] for number in range(len(runs))]
    experiments = experiments_of(runs, of_runs)
    return {
        "sets": [_set(runs[members[0]], own) for members, own in zip(sets, labels, strict=True)],
        "runs": of_runs,
        "experiments": experiments,
        "pairs": list(pairs_of(runs, of_runs, experiments)),
    }


def _set(run: Run, labels: list[str]) -> dict[str, Any]:
    """The videos that runs are about, which may be many: their names stand here once."""
    groups = run.groups
    n_groups = int(groups.max()) + 1
    return {
        "split": run.files.split,
        "subset": run.files.subset,
        "labels": labels,
        "ids": run.videos["id"].tolist(),
        "truth": _packed(run.truth(labels), _kind(labels)),
        "groups": n_groups if n_groups < len(groups) else 0,
        "missing": {
            str(number): f"{status}: {reason}" if reason else status
            for number, status, reason in zip(
                np.flatnonzero(~run.found).tolist(),
                run.videos["status"][~run.found],
                run.videos["reason"][~run.found],
                strict=True,
            )
        },
    }


def _run(run: Run, video_set: int, labels: list[str], mean_class: Interval) -> dict[str, Any]:
    found = run.found
    top = {}
    for k in map(int, run.accuracy["accuracy"]):
        correct = run.correct(k)
        top[str(k)] = {
            "value": run.accuracy["accuracy"][str(k)],
            "interval": accuracy_interval(correct, run.groups),
            "found": run.accuracy["accuracy_found"][str(k)],
            "interval_found": (
                accuracy_interval(correct[found], run.groups[found]) if found.any() else None
            ),
        }
    correct = run.correct(1)
    bins = calibration(run.score[found], correct[found]) if found.any() else None
    return {
        "experiment": run.files.experiment,
        "split": run.files.split,
        "seed": run.files.seed,
        "run": run.files.name,
        "set": video_set,
        "listed": len(found),
        "found": int(found.sum()),
        "top": top,
        "mean_class": {
            "value": run.accuracy["mean_class_accuracy"],
            "interval": mean_class,
        },
        "clip_accuracy": run.accuracy.get("clip_accuracy"),
        "predicted": _packed(run.predicted(labels), _kind(labels)),
        "score": _packed(np.round(run.score * 65535), np.uint16),
        "rank": _packed(_ranks(run, correct), np.uint8),
        "calibration": bins
        and {
            "n": bins.n.tolist(),
            "confidence": _rounded(bins.confidence),
            "accuracy": _rounded(bins.accuracy),
            "error": round(bins.error, 4),
        },
        "curves": _curves(run),
        "speed": _speed(run.files.speed_log),
    }


def _ranks(run: Run, correct: Flags) -> list[int]:
    """At which place each video's class is, 1 for the best; 0 if it is not among those stored."""
    ranks = []
    for right, label, best in zip(correct, run.videos["label"], run.best, strict=True):
        names = [name for name, _ in best]
        ranks.append(1 if right else names.index(label) + 1 if label in names else 0)
    return ranks


def _curves(run: Run) -> dict[str, list[float]] | None:
    """The logs of a training, a list for each curve; None if the run has no training."""
    if run.files.train_log is None or run.files.val_log is None:
        return None
    train = _log(run.files.train_log, ("epoch", "loss", "acc", "lr"))
    validation = _log(run.files.val_log, ("epoch", "loss", "acc"))
    columns = {f"train_{name}": train[name] for name in train}
    columns |= {f"val_{name}": validation[name] for name in validation}
    return {name: _rounded(values, 6) for name, values in columns.items()}


def _speed(log: Path | None) -> dict[str, float] | None:
    """Of a training, as its log of speed has it; None of one that has done nothing."""
    if log is None:
        return None
    table = read_columns(log, ("clips", "seconds", "waiting")).astype(float)
    clips, seconds, waiting = (float(table[name].sum()) for name in table)
    if not seconds:
        return None
    return {"clips_per_second": clips / seconds, "waiting": waiting / seconds, "seconds": seconds}


def _log(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    table = read_columns(path, columns).astype(float)
    if len(table) > _MOST_POINTS:
        table = table.iloc[np.unique(np.linspace(0, len(table) - 1, _MOST_POINTS).astype(int))]
    return table


def _kind(labels: Sequence[str]) -> npt.DTypeLike:
    return np.int32 if len(labels) > 2**15 else np.int16


def _rounded(values: npt.ArrayLike, digits: int = 4) -> list[float]:
    return [round(float(value), digits) for value in np.asarray(values)]


def _packed(values: npt.ArrayLike, kind: npt.DTypeLike) -> str:
    """Numbers as a text: little-endian, in base 64, which a browser reads at once."""
    kind = np.dtype(kind).newbyteorder("<")
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode("ascii")
