"""The lists of a data set: layout, ids, labels and what splits say of one another.

`r3d.lists.read_list` ends with the first thing that is wrong; here all of it is said, and the rest
of a list is used on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from r3d.config.config import Dataset
from r3d.config.inputs import list_files
from r3d.doctor.findings import Report
from r3d.errors import InputError, reason_of
from r3d.lists import COLUMNS, SplitOptions, list_format
from r3d.lists.checking import check_list

HELD_OUT = ("validation", "testing")


@dataclass(frozen=True)
class Listed:
    """The videos of a split (the columns of `r3d.lists`, each id once) and its classes."""

    labels: list[str]
    videos: pd.DataFrame


def read_lists(name: str, dataset: Dataset, report: Report) -> dict[str, Listed]:
    """Read and check all splits in use; those that cannot be read are left out."""
    if dataset.render and not all(
        file.exists() for split in dataset.all_splits for file in list_files(dataset, split)
    ):
        report.add("note", "lists", name, "lists and videos are rendered by the workflow itself")
        return {}
    if not Path(dataset.lists).exists():
        report.add(
            "error",
            "lists",
            name,
            f"lists: {dataset.lists!r} does not exist",
            f"set lists to the folder that holds the {dataset.format} lists",
        )
        return {}
    splits = {}
    for split in dataset.all_splits:
        where = name if len(dataset.all_splits) == 1 else f"{name}, split {split}"
        try:
            listed = _read(where, dataset, split, report)
        except InputError as error:
            report.add("error", "lists", where, str(error), "mend the list, or take another one")
        except OSError as error:
            reason = f"{error.filename or dataset.lists}: {reason_of(error)}"
            report.add("error", "lists", where, reason, "make it readable for this user")
        else:
            splits[split] = listed
            _check_labels(where, dataset, listed, report)
    _check_distinct(name, splits, report)
    return splits


def _read(where: str, dataset: Dataset, split: str, report: Report) -> Listed:
    folder = Path(dataset.lists)
    chosen = list_format(dataset.format, dataset.n_classes, videos=Path(dataset.videos))
    video_list = chosen.read(folder, split, SplitOptions(**dataset.split_options))
    once = video_list.videos.drop_duplicates("id")
    if len(once) < len(video_list.videos):
        _check_repeats(where, video_list.videos, report)
    video_list = type(video_list)(video_list.labels, once)
    checked = check_list(video_list, folder, chosen)
    return Listed(checked.labels, checked.videos)


def _check_repeats(where: str, videos: pd.DataFrame, report: Report) -> None:
    """Ids that occur more than once: in two subsets, for two videos, or in equal rows."""
    rows = videos[videos["id"].duplicated(keep=False)]
    by_id = rows.groupby("id", sort=False)
    in_two = by_id["subset"].nunique() > 1
    places = {  # of each id, the lines that it stands on
        name: f"{name} ({', '.join(_places(group))})"
        for name, group in rows[rows["id"].isin(in_two.index[in_two][:3])].groupby("id")
    }
    if in_two.any():
        report.add(
            "error",
            "ids",
            where,
            f"{in_two.sum()} ids are in two subsets",
            "take each out of one of them",
            places.values(),
        )
    other = [column for column in COLUMNS if column not in ("id", "subset")]
    differing = (by_id[other].nunique() > 1).any(axis=1) & ~in_two
    if differing.any():
        report.add(
            "error",
            "ids",
            where,
            f"{differing.sum()} ids stand for several videos, labels or segments",
            "an id may occur once: take out the wrong rows, or rename the videos",
            differing.index[differing],
        )
    repeated = ~(in_two | differing)
    if repeated.any():
        report.add(
            "note",
            "ids",
            where,
            f"{repeated.sum()} ids occur in several rows that say the same; one of each counts",
            examples=repeated.index[repeated],
        )


def _places(rows: pd.DataFrame) -> list[str]:
    pairs = zip(rows["file"], rows["line"], strict=True)
    return [f"{Path(file).name} line {line}" if line else Path(file).name for file, line in pairs]


def _check_labels(where: str, dataset: Dataset, listed: Listed, report: Report) -> None:
    labels, videos = listed.labels, listed.videos
    if dataset.n_classes not in (None, len(labels)):
        report.add(
            "error",
            "labels",
            where,
            f"n_classes: {dataset.n_classes}, but the lists have {len(labels)} classes",
            f"set n_classes to {len(labels)} or leave it out",
        )
    training = set(videos.loc[videos["subset"] == "training", "label"])
    untrained = [label for label in labels if label not in training]
    if not training:
        report.add(
            "note", "labels", where, "there are no training videos: models can only be applied"
        )
    elif untrained:
        report.add(
            "warning",
            "labels",
            where,
            f"{len(untrained)} of {len(labels)} classes have no training video",
            "add videos, or take the classes out: a model cannot learn them",
            untrained,
        )
    untested = sorted(training - set(videos.loc[videos["subset"].isin(HELD_OUT), "label"]))
    if untested and len(untested) < len(training):
        report.add(
            "note",
            "labels",
            where,
            f"{len(untested)} of {len(labels)} classes have no labelled video outside training",
            examples=untested,
        )
    if not (videos["subset"] == "validation").any():
        report.add("note", "labels", where, "there are no validation videos")
    spelt: dict[str, list[str]] = {}
    for label in labels:
        spelt.setdefault(re.sub(r"[\W_]+", "", label.casefold()) or label, []).append(label)
    alike = [" and ".join(map(repr, names)) for names in spelt.values() if len(names) > 1]
    if alike:
        report.add(
            "warning",
            "labels",
            where,
            f"{len(alike)} groups of classes differ only by case, spaces or punctuation",
            "if they are meant to be one class, spell them alike",
            alike,
        )


def _check_distinct(name: str, splits: Mapping[str, Listed], report: Report) -> None:
    """What would stop the division into shards: videos that share frames or differ by split."""
    if not splits:
        return
    every = pd.concat([listed.videos for listed in splits.values()], ignore_index=True)
    rows = every.drop_duplicates([column for column in COLUMNS if column != "subset"])
    twice = rows["id"].duplicated()
    if twice.any():
        report.add(
            "error",
            "ids",
            name,
            f"{twice.sum()} videos have another label, path or segment in another split",
            "make the lists of all splits say the same of a video",
            rows.loc[twice, "id"],
        )
    rows = rows.drop_duplicates("id")
    for column, clash in (
        ("id", "have ids that differ only by case"),
        ("key", "would share their frames with another video"),
    ):
        values = rows[column].str.casefold()
        repeated = values.duplicated(keep=False)
        if repeated.any():
            report.add(
                "error",
                "ids",
                name,
                f"{repeated.sum()} videos {clash}",
                "rename all but one of each",
                rows.loc[repeated, "path"],
            )
