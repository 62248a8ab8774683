"""The ledger to the end: what became of each listed video, from the list to the result."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from r3d.annotations.format import classes_of, load_annotation
from r3d.annotations.reading import read_annotation
from r3d.annotations.results import read_result
from r3d.errors import InputError
from r3d.frames.ledger import USED
from r3d.lists import load_list, subset_name
from r3d.lists.sources import recordings, sources_of
from r3d.tables import read_columns, write_table

_log = logging.getLogger(__name__)

STAGES = ("listed", "found", "extracted", "annotated", "trained_on", "predicted", "correct")
"""Columns of the table, "yes" or "no", or "" where the stage is not for the video.

found: its file was there, or frames of it.
extracted: it has frames.
annotated: the annotation has its frames.
trained_on: the experiment was trained on it; only for videos of the subset training.
predicted: there is a result; only for the subset that the model was applied to.
correct: the best class of the result is the video's; as `predicted`, and only for videos with a
    label that the model knows. Without a result it is "no", as accuracy counts it.
"""

COLUMNS = ("id", "label", "subset", *STAGES, "status", "reason", "group")
"""Status and reason are those of the ledger; the group is what the video was cut from, as far as
its name tells (`r3d.lists.sources`), or else the file where several are segments of one."""


def write_videos(
    sources: Mapping[str, tuple[Path, Path]],
    annotation: Path,
    result: Path,
    output: Path,
    *,
    subset: str,
    trained: bool = True,
    group_patterns: Mapping[str, str] | None = None,
) -> None:
    """Write a row for each listed video of a split, sorted by id (`COLUMNS`).

    Args:
        sources: list table and ledger of the data set under the name ""; of a merged data set
            those of each part under its name.
        annotation: annotation JSON of the split.
        result: result JSON of the inference on `subset` (train, val or test).
        trained: whether the experiment was trained, or applies the model of another one.
        group_patterns: of those of `sources` that have one, what finds the group in a path.

    Raises:
        InputError: if a file is not as described, or a listed video is in no ledger.
    """
    patterns = group_patterns or {}
    videos = pd.concat(
        [_listed(name, *paths, patterns.get(name)) for name, paths in sources.items()]
    )
    videos = videos.sort_values("id", ignore_index=True)
    known = _read_annotation(annotation)
    labels, ranking, _ = read_result(result, known.labels, largest_k=1)
    ids, status = videos["id"], videos["status"]
    applied = videos["subset"] == subset_name(subset)
    training = (videos["subset"] == "training") & trained
    seen: Collection[str] = known.with_frames
    if known.has_segments and training.any():
        # A video may have frames, and none in the segments that are trained on.
        seen = set(read_annotation(annotation, subset="training").ids.tolist())
    model_classes = set(labels)
    labelled = [video for video, own in known.classes.items() if not model_classes.isdisjoint(own)]
    right = [
        video
        for video, ranked in ranking.items()
        if ranked and ranked[0][0] in known.classes.get(video, ())
    ]

    videos["listed"] = "yes"
    videos["found"] = _states(status != "missing")
    videos["extracted"] = _states(status.isin(USED))
    videos["annotated"] = _states(ids.isin(known.with_frames))
    videos["trained_on"] = _states(ids.isin(seen), where=training)
    videos["predicted"] = _states(ids.isin(ranking), where=applied)
    videos["correct"] = _states(ids.isin(right), where=applied & ids.isin(labelled))
    write_table(videos[list(COLUMNS)], output)
    counts = ", ".join(f"{(videos[stage] == 'yes').sum()} {stage}" for stage in STAGES)
    _log.info("%s: %s", output, counts.replace("_", " "))


def _listed(name: str, table: Path, ledger: Path, group_pattern: str | None) -> pd.DataFrame:
    """The videos of a list with status, reason and group, named as in the annotation."""
    videos = load_list(table)[["id", "label", "subset", "path"]]
    found = recordings(sources_of(videos, group_pattern=group_pattern))
    paths, groups = videos["path"], found.to_numpy()
    alone = ~paths.duplicated(keep=False)
    videos["group"] = np.where((groups != "") | alone, groups, f"{name}/" * bool(name) + paths)
    known = read_columns(ledger, ("id", "status", "reason"))
    videos = videos.merge(known, on="id", how="left")
    absent = videos.loc[videos["status"].isna(), "id"]
    if len(absent):
        raise InputError(
            f"{ledger}: {len(absent)} videos of {table} are absent, the first: "
            f"{absent.iloc[0]!r}; expected a row for each"
        )
    if name:
        videos["id"] = f"{name}/" + videos["id"]
        videos["label"] = videos["label"].where(videos["label"] == "", f"{name}/" + videos["label"])
    return videos


class _Known(NamedTuple):
    """What an annotation says.

    labels: all classes.
    classes: those of each video.
    with_frames: the videos with frames.
    has_segments: whether training takes segments of videos, as of ActivityNet.
    """

    labels: list[str]
    classes: dict[str, Collection[str]]
    with_frames: set[str]
    has_segments: bool


def _read_annotation(path: Path) -> _Known:
    data = load_annotation(path)
    classes: dict[str, Collection[str]] = {}
    with_frames = set()
    for video, entry in data["database"].items():
        try:
            classes[video], begin, end = _entry(entry)
            if begin < end:
                with_frames.add(video)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: entry {video!r} is not as expected: {type(error).__name__} {error}"
            ) from None
    return _Known(classes_of(data, path), classes, with_frames, "taxonomy" in data)


def _entry(entry: dict[str, Any]) -> tuple[Collection[str], int, int]:
    """The classes of a video and its frames, of which there may be none."""
    annotations = entry["annotations"]
    if isinstance(annotations, dict):
        own = (label,) if (label := annotations.get("label")) else ()
        begin, end = annotations.get("segment", (0, 0))
        return own, begin, end
    begin, end = entry.get("frames", (0, 0))
    return {item["label"] for item in annotations}, begin, end


def _states(yes: pd.Series, *, where: pd.Series | None = None) -> pd.Series:
    states = yes.map({True: "yes", False: "no"})
    return states if where is None else states.where(where, "")
