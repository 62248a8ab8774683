"""The accuracy table of all experiments: `results/summary.tsv` and its form for the terminal."""

import logging
import reprlib
from collections.abc import Sequence
from math import isclose
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from r3d.errors import InputError
from r3d.evaluation.statistics import (
    Flags,
    Interval,
    Part,
    accuracy_interval,
    mean_accuracy_interval,
)
from r3d.files import read_json, read_text
from r3d.tables import read_columns, write_table

_log = logging.getLogger(__name__)

MEAN, DEVIATION = "mean", "std"
"""What stands for the split in the rows of mean and spread over the runs of an experiment."""

_KEY = ("experiment", "split", "subset")
_COUNTS = ("listed", "found", "left_out")
_BOUNDS = ("top1_low", "top1_high")
_MOST_VIDEOS = 1 << 40
_MOST_ROWS = 24


def write_summary(
    evaluations: Sequence[Path], output: Path, *, videos: Sequence[Path] = ()
) -> None:
    """Write the table of the evaluations, a row each.

    Columns: experiment, split (of a run with another seed than `manual_seed` with that behind it,
    as in the names of folders), subset, where experiments have several runs their number, listed
    and found (numbers of videos), where there are any left_out (videos without a label that the
    model knows, which count nowhere), top<k> for each k over the listed videos as the reference
    counts, after top1 the bounds of its 95 % interval (`r3d.evaluation.statistics`), mean_class
    (top 1), top<k>_found over the videos with a result, clip_top1 over single clips of the videos
    with a result, where inference has counted them, and where there is one of ActivityNet map,
    hit<k> (a video of several classes has a hit if any of them is among the k best) and avg_hit<k>
    (the part of them that is). A value that an evaluation does not have is "". An experiment with
    several runs, of splits, folds or seeds, has two more rows, "mean" and "std", with mean and
    standard deviation (n - 1) of those values that every run has; their counts are "", and the
    bounds of the mean are those over videos, as in the report.

    Args:
        evaluations: accuracy files of `r3d.evaluation.evaluate.Evaluation.save`.
        videos: for each of them the table of `r3d.evaluation.videos.write_videos`, which the
            intervals come from; without it there are none.
        output: the table, TSV.
    """
    experiments: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    judged: dict[tuple[str, str], list[_Judged]] = {}
    for place, path in enumerate(evaluations):
        row = _read_row(path)
        key = (row["experiment"], row["subset"])
        if videos and (own := _read_videos(videos[place], row)):
            judged.setdefault(key, []).append(own)
            row |= _bounds(accuracy_interval(own.correct, own.groups))
        splits = experiments.setdefault(key, {})
        if row["split"] in splits:
            raise InputError(
                f"{path}: experiment {row['experiment']!r}, split {row['split']!r}, subset "
                f"{row['subset']!r} is among the evaluations twice; expected once"
            )
        splits[row["split"]] = row

    rows: list[dict[str, Any]] = []
    for key, splits in experiments.items():
        rows += splits.values()
        if len(splits) > 1:
            of_mean, of_spread = _spread_rows(list(splits.values()))
            if len(of_runs := judged.get(key, [])) == len(splits):
                of_mean |= _bounds(_interval_of_mean(of_runs))
            rows += of_mean, of_spread
    columns = _columns(rows)
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    write_table(pd.DataFrame(cells, columns=columns), output)
    _log.info("%s: the accuracies of %d evaluations", output, len(evaluations))


def format_table(path: Path) -> str:
    """A table of `write_summary` as lines of aligned columns, for the terminal.

    Where it is long, the runs are left out of those experiments that have a mean.
    """
    rows = [line.split("\t") for line in read_text(path).splitlines()]
    if len(rows) > _MOST_ROWS:
        spread = {row[0] for row in rows if row[1] == MEAN}
        rows = [row for row in rows if row[0] not in spread or row[1] in (MEAN, DEVIATION)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        for i in range(len(_KEY)):
            cells[i] = row[i].ljust(widths[i])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _read_row(path: Path) -> dict[str, Any]:
    """The values of an accuracy file under their column names; one without a value is absent."""
    content = read_json(path)
    try:
        row = {name: content[name] for name in (*_KEY, "listed", "found")}
        row["left_out"] = content.get("left_out") or None
        row["mean_class"] = content["mean_class_accuracy"]
        row |= {f"top{k}": value for k, value in content["accuracy"].items()}
        row |= {f"top{k}_found": value for k, value in content["accuracy_found"].items()}
        row["clip_top1"] = content.get("clip_accuracy")
        if "hit" in content:
            row["map"] = content["mean_average_precision"]
            row |= {f"hit{k}": value for k, value in content["hit"].items()}
            row |= {f"avg_hit{k}": value for k, value in content["avg_hit"].items()}
        row = {name: value for name, value in row.items() if value is not None or name in _KEY}
        for name, value in row.items():
            _check_value(name, value)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: no accuracy file; expected the JSON of an evaluation "
            f"({type(error).__name__} {error})"
        ) from None
    return row


class _Judged(NamedTuple):
    """The videos of a run that are right or wrong, and what each was cut from."""

    ids: tuple[str, ...]
    correct: Flags
    groups: npt.NDArray[np.object_]


def _read_videos(videos: Path, row: dict[str, Any]) -> _Judged | None:
    """Those of a run; none where videos of several classes count several times."""
    table = read_columns(videos, ("id", "correct", "group"))
    table = table[table["correct"] != ""]
    correct = (table["correct"] == "yes").to_numpy()
    if "top1" not in row or not len(correct) or not isclose(correct.mean(), row["top1"]):
        return None
    groups = table["group"].where(table["group"] != "", "\n" + table["id"])
    return _Judged(tuple(table["id"]), correct, groups.to_numpy(object))


def _interval_of_mean(judged: Sequence[_Judged]) -> Interval:
    """That over videos: runs on the same ones, of several seeds, are averaged video by video."""
    by_videos: dict[tuple[str, ...], list[_Judged]] = {}
    for run in judged:
        by_videos.setdefault(run.ids, []).append(run)
    return mean_accuracy_interval(
        [
            Part(np.mean([run.correct for run in same], axis=0), same[0].groups)
            for same in by_videos.values()
        ]
    )


def _bounds(interval: Interval) -> dict[str, float]:
    return dict(zip(_BOUNDS, interval, strict=True))


def _check_value(name: str, value: Any) -> None:
    """Refuse what an evaluation does not write: a text, a count or a share, each in its place."""
    if name in _KEY:
        valid = isinstance(value, str)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        valid = False
    else:
        valid = 0 <= value <= (_MOST_VIDEOS if name in _COUNTS else 1)
    if not valid:
        raise TypeError(f"{name} is {reprlib.repr(value)}")


def _spread_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation of what all these rows have."""
    common = set.intersection(*(set(row) for row in rows)) - {*_KEY, *_COUNTS, *_BOUNDS}
    key = {name: rows[0][name] for name in _KEY} | {"runs": len(rows)}
    values = {name: [float(row[name]) for row in rows] for name in common}
    return [
        key | {"split": MEAN} | {name: mean(of_runs) for name, of_runs in values.items()},
        key | {"split": DEVIATION} | {name: stdev(of_runs) for name, of_runs in values.items()},
    ]


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """The columns that the rows need, in order."""
    present = set().union(*rows)
    ks = sorted(int(name[3:]) for name in present if name.startswith("top") and name[3:].isdigit())
    counts = [name for name in _COUNTS if name != "left_out" or name in present]
    columns = [*_KEY, *(["runs"] if "runs" in present else []), *counts]
    for k in ks:
        columns += [f"top{k}", *(_BOUNDS if k == 1 and "top1_low" in present else ())]
    columns.append("mean_class")
    columns += [f"top{k}_found" for k in ks]
    if "clip_top1" in present:
        columns.append("clip_top1")
    if "map" in present:
        columns.append("map")
        columns += [f"{hit}{k}" for hit in ("hit", "avg_hit") for k in ks if f"{hit}{k}" in present]
    return columns


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.4f}"
        case _:
            return str(value)
