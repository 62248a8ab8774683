"""Accuracy of a result JSON against an annotation JSON, counted as the reference counts it.

A video is correct at k when its class is among the k best of its result. The reference goes through
the videos that the annotation lists in a subset, so results of other videos do not count, and a
listed video without a result is wrong, or left out if asked: both numbers are given here.

A model may be applied to videos of classes that are not its own, or to some without a label. Right
or wrong can be only what it knows: the others are left out, and counted.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from r3d.annotations.format import UNREADABLE, classes_of, label_of, load_annotation
from r3d.annotations.results import ClipCounts, read_result
from r3d.errors import InputError
from r3d.evaluation.challenge import avg_hit_at_k, hit_at_k, mean_average_precision
from r3d.files import AnyPath, atomic_path
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
    left_out: videos of the subset without a label, or with one that is no class of the model; they
        count nowhere else.
    unlisted: results of videos that the subset does not list; they count nowhere else.
    challenge: only for an ActivityNet annotation.
    clips: how many single clips are right, where the result says it; not for ActivityNet, of whose
        videos many clips show nothing of their class.
    """

    subset: str
    labels: list[str]
    listed: np.ndarray
    found: np.ndarray
    correct: Mapping[int, np.ndarray]
    confusion: np.ndarray
    left_out: int
    unlisted: int
    challenge: ChallengeScores | None
    clips: ClipCounts | None = None

    def accuracy(self, k: int) -> float | None:
        """Top-k accuracy over the listed videos: one without a result is wrong.

        None if there are none, as all are left out.
        """
        listed = self.listed.sum()
        return float(self.correct[k].sum() / listed) if listed else None

    def accuracy_found(self, k: int) -> float | None:
        """Top-k accuracy over the videos with a result; None if there are none."""
        found = self.found.sum()
        return float(self.correct[k].sum() / found) if found else None

    def mean_class_accuracy(self) -> float | None:
        """The mean of the top-1 accuracies of the classes with listed videos; None if all lack."""
        present = self.listed > 0
        if not present.any():
            return None
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
        shares = {k: self.accuracy(k) for k in self.correct}
        tops = ", ".join(
            f"top-{k} {'unknown' if share is None else f'{share:.4f}'}"
            for k, share in shares.items()
        )
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
            "left_out": self.left_out,
            "unlisted": self.unlisted,
            "accuracy": {k: self.accuracy(k) for k in self.correct},
            "accuracy_found": {k: self.accuracy_found(k) for k in self.correct},
            "mean_class_accuracy": self.mean_class_accuracy(),
        }
        if self.clips and self.clips.n:
            summary["clips"] = self.clips.n
            summary["clip_accuracy"] = self.clips.correct / self.clips.n
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
    The classes are the model's, which the result states; those of the annotation if it does not.

    Raises:
        InputError: a file that is not as described, a class of the result that is none of these, a
            subset without videos or labels, a result that shares no video with it, a k above what
            is stored.
    """
    annotation, result = Path(annotation), Path(result)
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise InputError(f"top-k accuracy: k is {ks[0] if ks else 'missing'}; accepted: 1 or more")
    annotated, own_labels, is_activitynet = _read_truth(annotation, subset_name(subset))
    labels, ranking, clips = read_result(result, annotated, largest_k=ks[-1])
    found_videos = own_labels.keys() & ranking.keys()
    if ranking and not found_videos:
        raise InputError(
            f"{result}: none of its {len(ranking)} videos (the first: {next(iter(ranking))!r}) is "
            f"among the {len(own_labels)} that {annotation} lists as {subset_name(subset)}"
        )
    truth = _among(own_labels, labels)
    left_out = len(own_labels) - len(truth)
    if left_out:
        first = next(video for video in own_labels if video not in truth)
        _log.warning(
            "%d of %d videos are left out of the accuracy, the first: %s; they have no label, or "
            "one that is none of the %d classes of the model",
            *(left_out, len(own_labels), first, len(labels)),
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
    if is_activitynet and truth:
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
        left_out=left_out,
        unlisted=len(ranking) - len(found_videos),
        challenge=challenge,
        clips=None if is_activitynet else clips,
    )


def _read_truth(path: Path, subset: str) -> tuple[list[str], dict[str, list[str]], bool]:
    """The classes, those of each video of the subset, and whether the file is ActivityNet's.

    Videos of unknown class have none.
    """
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
    if not any(truth.values()):
        raise InputError(
            f"{path}: none of the {len(truth)} videos of subset {subset} has a label; accuracy "
            "needs the label of one or more"
        )
    return labels, truth, is_activitynet


def _among(own_labels: dict[str, list[str]], labels: list[str]) -> dict[str, list[str]]:
    """The videos with a label among these classes, and which of theirs are."""
    known = set(labels)
    kept = {video: [name for name in own if name in known] for video, own in own_labels.items()}
    return {video: own for video, own in kept.items() if own}


def _first_other(labels: Iterable[str], known: set[str]) -> str:
    return next(label for label in labels if label not in known)
