"""The result JSON, which is the reference's with more in it, as it stands in a file.

    {"labels": [...], "results": {<id>: [{"label": ..., "score": ...}, ...]},
     "clips": {"n": ..., "correct": ...}, "computed": <engine and precision>}

or in place of the classes of a video its clips one by one, each
`{"segment": [begin, end], "result": [{"label": ..., "score": ...}, ...]}`. The reference's file has
the results alone.
"""

import math
import reprlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from r3d.annotations.format import UNREADABLE, classes_of, is_number
from r3d.errors import InputError
from r3d.files import read_json


class ClipCounts(NamedTuple):
    """Single clips of videos with a label that the model knows, and how many of them are right."""

    n: int
    correct: int


class Result(NamedTuple):
    """What a result JSON says: the classes, and the scored ones of each video, best first."""

    labels: list[str]
    ranking: dict[str, list[tuple[str, float]]]
    clips: ClipCounts | None


def read_result(path: Path, annotated: list[str] | None, *, largest_k: int) -> Result:
    """Read a result JSON; the scores of clips that stand there one by one are averaged.

    Args:
        annotated: the classes of the annotation, in whose order they are given if they are the
            same, or if the file does not state its own. Without them those are the classes that
            occur.
        largest_k: how many of each video are needed.

    Raises:
        InputError: if it is no such file, or holds fewer classes of a video.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), dict):
        raise InputError(f"{path}: no result JSON; expected an object with 'results'")
    labels = _classes(data, annotated, path)
    known = set(labels)
    ranking = {}
    for video, entry in data["results"].items():
        try:
            clips = _clips_of(entry)
            scores = [
                {_text(item["label"]): _score(item["score"]) for item in clip} for clip in clips
            ]
        except UNREADABLE as error:
            raise InputError(
                f"{path}: result of {video!r} is not as expected: {type(error).__name__} {error}"
            ) from None
        total: dict[str, float] = {}
        for clip, clip_scores in zip(clips, scores, strict=True):
            if len(clip_scores) < len(clip):
                raise InputError(f"{path}: result of {video!r} holds a class twice; expected once")
            if len(clip) < min(largest_k, len(labels)):
                raise InputError(
                    f"{path}: k is {largest_k}, but the result of {video!r} holds only "
                    f"{len(clip)} of the {len(labels)} classes; accepted: k up to what is stored "
                    f"(output_topk of the inference)"
                )
            for label, score in clip_scores.items():
                total[label] = total.get(label, 0.0) + score / len(clips)
        if not known.issuperset(total):
            raise InputError(
                f"{path}: result of {video!r}: {_first_other(total, known)!r} is none of the "
                f"{len(labels)} classes of the {'model' if 'labels' in data else 'annotation'}"
            )
        ranking[video] = sorted(total.items(), key=lambda item: -item[1])
    return Result(labels, ranking, _counts(data.get("clips"), path))


def _classes(data: dict[str, Any], annotated: list[str] | None, path: Path) -> list[str]:
    if "labels" in data:
        stated = classes_of(data, path)
        return annotated if annotated and sorted(stated) == sorted(annotated) else stated
    if annotated is not None:
        return annotated
    found: dict[str, None] = {}
    with suppress(*UNREADABLE):  # which is said where the entry is read
        for entry in data["results"].values():
            found |= dict.fromkeys(item["label"] for clip in _clips_of(entry) for item in clip)
    return list(found)


def _clips_of(entry: Any) -> list[Any]:
    """The classes and scores of each clip of a video, or of the video as if it were one."""
    return [clip["result"] for clip in entry] if _has_segments(entry) else [entry]


def _counts(counts: Any, path: Path) -> ClipCounts | None:
    if counts is None:
        return None
    try:
        n, correct = counts["n"], counts["correct"]
        if not (is_number(n) and is_number(correct) and 0 <= correct <= n):
            raise ValueError(f"{reprlib.repr(correct)} of {reprlib.repr(n)} are right")
        return ClipCounts(int(n), int(correct))
    except UNREADABLE as error:
        raise InputError(
            f"{path}: its 'clips' are not as expected: {type(error).__name__} {error}"
        ) from None


def _has_segments(entry: list[dict[str, Any]]) -> bool:
    return bool(entry) and "segment" in entry[0]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a label is no text")
    return value


def _score(value: Any) -> float:
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"score {reprlib.repr(value)} is no finite number")
    return float(value)


def _first_other(labels: Iterable[str], known: set[str]) -> str:
    return next(label for label in labels if label not in known)
