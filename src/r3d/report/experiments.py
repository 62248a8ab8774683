"""Experiments of several runs: mean and spread over splits, folds and seeds, and comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import pandas as pd

from r3d.evaluation.statistics import (
    Flags,
    Interval,
    Part,
    difference_interval,
    mcnemar,
    mean_accuracy_interval,
    mean_class_intervals,
    trainings_interval,
    trainings_test,
)
from r3d.report.runs import Run

_ALPHA = 0.05

Shown = Mapping[str, Any]
"""A run or an experiment as the page has it."""


def experiments_of(runs: Sequence[Run], shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Each experiment: its runs, and of each accuracy mean, spread and intervals.

    Args:
        shown: the runs with their own intervals, in the same order.
    """
    groups = _group_numbers(runs, shown)
    members: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        members.setdefault(run.files.experiment, []).append(number)
    of_classes = _mean_class_intervals(runs, shown, groups, list(members.values()))
    return [
        {
            "name": name,
            "runs": numbers,
            "splits": len({shown[number]["set"] for number in numbers}),
            "listed": round(np.mean([shown[number]["listed"] for number in numbers])),
            "found": round(np.mean([shown[number]["found"] for number in numbers])),
            "top": {
                k: _mean(runs, shown, groups, numbers, int(k))
                for k in shown[numbers[0]]["top"]
                if all(k in shown[number]["top"] for number in numbers)
            },
            "mean_class": _spread([shown[number]["mean_class"]["value"] for number in numbers])
            | {"interval": interval},
            "clip_accuracy": _of_all([shown[number]["clip_accuracy"] for number in numbers]),
            "found_top1": _of_all([shown[number]["top"]["1"]["found"] for number in numbers]),
            "calibration_error": _of_all(
                [(shown[number]["calibration"] or {}).get("error") for number in numbers]
            ),
        }
        for (name, numbers), interval in zip(members.items(), of_classes, strict=True)
    ]


def pairs_of(
    runs: Sequence[Run], shown: Sequence[Shown], experiments: Sequence[Shown]
) -> Iterator[dict[str, Any]]:
    """Each two experiments on the same videos: which is better, and whether that can be chance.

    Splits that only one of them has are left out. In each of the others the seeds of an experiment
    are averaged, video by video.
    """
    by_set = [_by_set(shown, experiment["runs"]) for experiment in experiments]
    correct = [run.correct(1) for run in runs]
    groups, once = _group_numbers(runs, shown), _JudgedOnce(runs, shown)
    for one, other in combinations(range(len(experiments)), 2):
        common = [number for number in by_set[one] if number in by_set[other]]
        if not common:
            continue
        here, there = ([by_set[side][number] for number in common] for side in (one, other))
        parts = [
            Part(_mean_of(correct, a) - _mean_of(correct, b), groups[number])
            for number, a, b in zip(common, here, there, strict=True)
        ]
        interval: Interval = difference_interval(parts)
        p_trainings = None
        # Over splits the pairs differ by what was trained on either side; seeds are no pairs.
        enough = any if len(common) > 1 else all
        if enough(_trained_apart(runs, own) for own in (here, there)):
            p_trainings = trainings_test(
                _accuracies(correct, here), _accuracies(correct, there), _test_share(runs, here)
            )
        single = all(len(own) == 1 for own in (*here, *there)) and once(common)
        beyond_chance = interval.low > 0 or interval.high < 0
        yield {
            "experiments": [one, other],
            "runs": [list(chain(*here)), list(chain(*there))],
            "splits": len(common),
            "difference": float(np.mean([part.values.mean() for part in parts])),
            "interval": interval,
            **(_one_by_one(correct, here, there) if single else {"p": None, "alone": None}),
            "p_trainings": p_trainings,
            "holds": beyond_chance and (p_trainings is None or p_trainings < _ALPHA),
        }


def _mean(
    runs: Sequence[Run],
    shown: Sequence[Shown],
    groups: Mapping[int, Any],
    numbers: Sequence[int],
    k: int,
) -> dict[str, Any]:
    """Mean and spread of a top-k accuracy, with the intervals over videos and over trainings."""
    values = [shown[number]["top"][str(k)]["value"] for number in numbers]
    if len(numbers) == 1:
        interval, trainings = shown[numbers[0]]["top"][str(k)]["interval"], None
    else:
        correct = {number: runs[number].correct(k) for number in numbers}
        by_set = _by_set(shown, numbers)
        parts = [Part(_mean_of(correct, own), groups[number]) for number, own in by_set.items()]
        of_splits = list(by_set.values())
        interval = mean_accuracy_interval(parts)
        trainings = None
        if _trained_apart(runs, of_splits):
            trainings = trainings_interval(
                _accuracies(correct, of_splits), _test_share(runs, of_splits)
            )
    return _spread(values) | {"interval": interval, "trainings": trainings}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "deviation": deviation}


def _mean_class_intervals(
    runs: Sequence[Run],
    shown: Sequence[Shown],
    groups: Mapping[int, Any],
    experiments: Sequence[Sequence[int]],
) -> list[Interval]:
    """Of each experiment; those on the same splits are drawn together."""
    found: dict[int, Interval] = {}
    together: dict[tuple[int, ...], list[int]] = {}
    for place, numbers in enumerate(experiments):
        if len(numbers) == 1:
            found[place] = shown[numbers[0]]["mean_class"]["interval"]
        else:
            together.setdefault(tuple(sorted(_by_set(shown, numbers))), []).append(place)
    correct = [run.correct(1) for run in runs]
    for sets, places in together.items():
        own = [_by_set(shown, experiments[place]) for place in places]
        parts = [runs[own[0][number][0]].videos["label"] for number in sets]
        intervals = mean_class_intervals(
            np.stack(
                [
                    np.concatenate([_mean_of(correct, by_set[number]) for number in sets])
                    for by_set in own
                ]
            ),
            pd.factorize(np.concatenate(parts))[0].astype(np.int64),
            np.concatenate([groups[number] for number in sets]),
            splits=np.repeat(np.arange(len(sets)), [len(part) for part in parts]),
        )
        found |= dict(zip(places, intervals, strict=True))
    return [found[place] for place in range(len(experiments))]


def _of_all(values: Sequence[float | None]) -> float | None:
    """The mean of what every run has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _by_set(shown: Sequence[Shown], numbers: Sequence[int]) -> dict[int, list[int]]:
    """The runs on each set of videos, which differ by their seeds."""
    found: dict[int, list[int]] = {}
    for number in numbers:
        found.setdefault(shown[number]["set"], []).append(number)
    return found


def _mean_of(correct: Sequence[Flags] | Mapping[int, Flags], numbers: Sequence[int]) -> Any:
    """For each video the share of the runs in which it is right."""
    return np.mean([correct[number] for number in numbers], axis=0)


def _accuracies(
    correct: Sequence[Flags] | Mapping[int, Flags], of_splits: Sequence[Sequence[int]]
) -> list[list[float]]:
    return [[float(correct[number].mean()) for number in own] for own in of_splits]


def _trained_apart(runs: Sequence[Run], of_splits: Sequence[Sequence[int]]) -> bool:
    """Whether each run has a model of its own, so that they tell how much trainings differ.

    A model from elsewhere, as of a file, a stated run or another data set, is the same for all
    splits: what differs are the videos alone.
    """
    applied = [runs[number].files for number in chain(*of_splits)]
    models = {files.model or (files.experiment, files.name) for files in applied}
    return len(models) == len(applied)


def _test_share(runs: Sequence[Run], of_splits: Sequence[Sequence[int]]) -> float:
    """Test videos for each training video."""
    first = [runs[own[0]] for own in of_splits]
    n_training = sum(run.n_training for run in first)
    return sum(len(run.videos) for run in first) / n_training if n_training else 0.0


def _group_numbers(runs: Sequence[Run], shown: Sequence[Shown]) -> dict[int, Any]:
    """For each set of videos the groups as numbers, the same for a group in all sets."""
    if not runs:
        return {}
    of_set = {of_run["set"]: run.group_names for run, of_run in zip(runs, shown, strict=True)}
    numbers = pd.factorize(np.concatenate(list(of_set.values())))[0]
    ends = np.cumsum([len(names) for names in of_set.values()])[:-1]
    return dict(zip(of_set, np.split(numbers, ends), strict=True))


class _JudgedOnce:
    """Tells whether no video is in two of some sets; each answer is found once."""

    def __init__(self, runs: Sequence[Run], shown: Sequence[Shown]) -> None:
        pairs = zip(runs, shown, strict=True)
        self._ids = {of_run["set"]: run.videos["id"].tolist() for run, of_run in pairs}
        self._known: dict[tuple[int, ...], bool] = {}

    def __call__(self, sets: Sequence[int]) -> bool:
        key = tuple(sets)
        if key not in self._known:
            ids = list(chain(*(self._ids[number] for number in key)))
            self._known[key] = len(set(ids)) == len(ids)
        return self._known[key]


def _one_by_one(
    correct: Sequence[Flags], here: Sequence[Sequence[int]], there: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """McNemar's test of videos that are each judged once by either experiment."""
    one = np.concatenate([correct[own[0]] for own in here])
    other = np.concatenate([correct[own[0]] for own in there])
    alone = [int((one & ~other).sum()), int((other & ~one).sum())]
    return {"p": mcnemar(one, other), "alone": alone}
