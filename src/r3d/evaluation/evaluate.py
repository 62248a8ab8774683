"""Accuracy of a result JSON against an annotation JSON, counted as the reference counts it.

A video is correct at k when its class is among the k best of its result. The reference goes through
the videos that the annotation lists in a subset, so results of other videos do not count, and a
listed video without a result is wrong, or left out if asked: both numbers are given here.
"""

import json
import logging
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from r3d.annotations.format import UNREADABLE, classes_of, is_number, label_of, load_annotation
from r3d.errors import InputError
from r3d.evaluation.challenge import avg_hit_at_k, hit_at_k, mean_average_precision
from r3d.files import AnyPath, atomic_path, read_json
from r3d.lists import subset_name
from r3d.tables import write_table

_log = logging.getLogger(__name__)

NO_RESULT = "(none)"
"""The column of the confusion table for videos without a result."""


@dataclass(frozen=True)
class ChallengeScores:
    """What the ActivityNet challenge measures on untrimmed videos (`r3d.evaluation.challenge`)."""

    mean_average_precision: float
    hit: Mapping[int, float]
    avg_hit: Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Counts of one result against one subset, class by class in the order of `labels`.

    A video of several classes (ActivityNet) counts once under each of them.

    subset: training, validation or testing.
    listed: (classes,) videos that the annotation lists.
    found: (classes,) those of them that have a result.
    correct: for each k, (classes,) those whose class is among the k best.
    confusion: (classes, classes + 1) videos by their class and by the best of their result; the
        last column counts videos without a result.
    unlisted: results of videos that the subset does not list; they count nowhere else.
    challenge: only for an ActivityNet annotation.
    """

    subset: str
    labels: list[str]
    listed: np.ndarray
    found: np.ndarray
    correct: Mapping[int, np.ndarray]
    confusion: np.ndarray
    unlisted: int
    challenge: ChallengeScores | None

    def accuracy(self, k: int) -> float:
        """Top-k accuracy over the listed videos: one without a result is wrong."""
        return float(self.correct[k].sum() / self.listed.sum())

    def accuracy_found(self, k: int) -> float | None:
        """Top-k accuracy over the videos with a result; None if there are none."""
        found = self.found.sum()
        return float(self.correct[k].sum() / found) if found else None

    def mean_class_accuracy(self) -> float:
        """The mean of the top-1 accuracies of the classes with listed videos."""
        present = self.listed > 0
        return float(np.mean(self.confusion.diagonal()[present] / self.listed[present]))

    def save(
        self, accuracy: Path, *, classes: Path, confusion: Path, experiment: str, split: str
    ) -> None:
        """Write the accuracies (JSON), those of each class and the confusions (TSV).

        The confusion table has a row for each true class and a column for each predicted one, and
        last the column of the videos without a result.
        """
        write_table(self._class_table(), classes)
        table = pd.DataFrame(self.confusion, columns=[*self.labels, NO_RESULT])
        table.insert(0, "class", self.labels, allow_duplicates=True)
        write_table(table, confusion)
        content = {"experiment": experiment, "split": split, **self._summary()}
        with atomic_path(accuracy) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tops = ", ".join(f"top-{k} {self.accuracy(k):.4f}" for k in self.correct)
        _log.info(
            "%s: %s over %d videos; by class in %s, confusions in %s",
            *(accuracy, tops, self.listed.sum(), classes, confusion),
        )

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "subset": self.subset,
            "classes": len(self.labels),
            "listed": int(self.listed.sum()),
            "found": int(self.found.sum()),
            "unlisted": self.unlisted,
            "accuracy": {k: self.accuracy(k) for k in self.correct},
            "accuracy_found": {k: self.accuracy_found(k) for k in self.correct},
            "mean_class_accuracy": self.mean_class_accuracy(),
        }
        if self.challenge:
            summary["mean_average_precision"] = self.challenge.mean_average_precision
            summary["hit"] = self.challenge.hit
            summary["avg_hit"] = self.challenge.avg_hit
        return summary

    def _class_table(self) -> pd.DataFrame:
        columns: dict[str, Any] = {
            "class": self.labels,
            "listed": self.listed,
            "found": self.found,
        }
        for k, correct in self.correct.items():
            columns[f"top{k}"] = [
                f"{n_correct / n_listed:.4f}" if n_listed else ""
                for n_correct, n_listed in zip(correct, self.listed, strict=True)
            ]
        return pd.DataFrame(columns)


def evaluate(
    annotation: AnyPath, result: AnyPath, *, subset: str = "val", ks: Iterable[int] = (1, 5)
) -> Evaluation:
    """Count how often the class of a video is among the k best of its result.

    >>> import r3d
    >>> evaluation = r3d.evaluate("annotation.json", "result.json", ks=[1, 2])
    >>> evaluation.accuracy(2)
    1.0

    Args:
        annotation: the reference's annotation JSON, or ActivityNet's.
        result: the reference's result JSON. Where it holds the clips of a video one by one, their
            scores are averaged; a class that was not stored for a clip counts 0 there.
        subset: training, validation or testing, or train, val or test.
        ks: each at least 1, and no more than the stored classes of any video, unless all classes
            are stored: then top-k accuracy with more k than classes is 1 for every result.

    Of classes with equal scores the one that the file names first ranks first, as in the reference.

    Raises:
        InputError: a file that is not as described, a class that the annotation does not have, a
            subset without videos or with unlabelled ones, a result that shares no video with it, a
            k above what is stored.
    """
    annotation, result = Path(annotation), Path(result)
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise InputError(f"top-k accuracy: k is {ks[0] if ks else 'missing'}; accepted: 1 or more")
    labels, truth, is_activitynet = _read_truth(annotation, subset_name(subset))
    ranking = read_ranking(result, labels, largest_k=ks[-1])
    found_videos = truth.keys() & ranking.keys()
    if ranking and not found_videos:
        raise InputError(
            f"{result}: none of its {len(ranking)} videos (the first: {next(iter(ranking))!r}) is "
            f"among the {len(truth)} that {annotation} lists as {subset_name(subset)}"
        )

    index = {label: i for i, label in enumerate(labels)}
    n_classes = len(labels)
    found = np.zeros(n_classes, np.int64)
    correct = {k: np.zeros(n_classes, np.int64) for k in ks}
    confusion = np.zeros((n_classes, n_classes + 1), np.int64)
    for video, video_labels in truth.items():
        best = [index[label] for label, _ in ranking.get(video, ())]
        for target in map(index.__getitem__, video_labels):
            confusion[target, best[0] if best else n_classes] += 1
            found[target] += bool(best)
            for k in ks:
                correct[k][target] += target in best[:k]

    challenge = None
    if is_activitynet:
        challenge = ChallengeScores(
            mean_average_precision(truth, ranking),
            {k: hit_at_k(truth, ranking, k) for k in ks},
            {k: avg_hit_at_k(truth, ranking, k) for k in ks},
        )
    return Evaluation(
        subset=subset_name(subset),
        labels=labels,
        listed=confusion.sum(axis=1),
        found=found,
        correct=correct,
        confusion=confusion,
        unlisted=len(ranking) - len(found_videos),
        challenge=challenge,
    )


def _read_truth(path: Path, subset: str) -> tuple[list[str], dict[str, list[str]], bool]:
    """The classes, those of each video of the subset, and whether the file is ActivityNet's."""
    data = load_annotation(path)
    labels, is_activitynet = classes_of(data, path), "taxonomy" in data
    known = set(labels)
    truth: dict[str, list[str]] = {}
    for video, entry in data["database"].items():
        try:
            if subset_name(entry["subset"]) != subset:
                continue
            annotations = entry["annotations"] if is_activitynet else [entry["annotations"]]
            found = dict.fromkeys(filter(None, map(label_of, annotations)))
        except InputError as error:
            raise InputError(f"{path}: entry {video!r}: {error}") from None
        except UNREADABLE as error:
            raise InputError(
                f"{path}: entry {video!r} is not as expected: {type(error).__name__} {error}"
            ) from None
        truth[video] = list(found)
        if not known.issuperset(found):
            raise InputError(
                f"{path}: entry {video!r}: {_first_other(found, known)!r} is none of its "
                f"{len(labels)} classes"
            )
    if not truth:
        raise InputError(f"{path}: no videos in subset {subset}; accuracy needs at least one")
    unlabelled = [video for video, video_labels in truth.items() if not video_labels]
    if unlabelled:
        raise InputError(
            f"{path}: {len(unlabelled)} of the {len(truth)} videos of subset {subset} have no "
            f"label (the first: {unlabelled[0]!r}); accuracy needs the label of every video"
        )
    return labels, truth, is_activitynet


def read_ranking(
    path: Path, labels: list[str], *, largest_k: int
) -> dict[str, list[tuple[str, float]]]:
    """The scored classes of each video of a result JSON, best first."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), dict):
        raise InputError(f"{path}: no result JSON; expected an object with 'results'")
    known = set(labels)
    ranking = {}
    for video, entry in data["results"].items():
        try:
            clips = [clip["result"] for clip in entry] if _has_segments(entry) else [entry]
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
                f"{len(labels)} classes of the annotation"
            )
        ranking[video] = sorted(total.items(), key=lambda item: -item[1])
    return ranking


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
