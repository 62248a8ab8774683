"""The runs that a report tells of, read from the files that the steps before have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from r3d.annotations.results import read_result
from r3d.evaluation.statistics import Flags
from r3d.files import read_json
from r3d.tables import read_columns


@dataclass(frozen=True)
class RunFiles:
    """Where the files of one run are, and which run it is.

    split: its split, or the fold of a cross-validation.
    seed: of its training; None where nothing says it.
    accuracy, videos, result, confusion: of the subset that the model was applied to.
    train_log, val_log, speed_log: of its training; None where the model is another experiment's.
    gallery: folder of `r3d.inference.gallery`, if there is one.
    model: names the model that was applied; None of one that the run has for itself.
    """

    experiment: str
    split: str
    subset: str
    accuracy: Path
    videos: Path
    result: Path
    confusion: Path
    train_log: Path | None = None
    val_log: Path | None = None
    speed_log: Path | None = None
    gallery: Path | None = None
    seed: int | None = None
    model: str | None = None

    @property
    def name(self) -> str:
        """The run as folders are called (`r3d.config.config.Config.runs`)."""
        return self.accuracy.parent.name


@dataclass(frozen=True, eq=False)
class Run:
    """An experiment on a split with a seed, applied to a subset of videos with labels.

    files: where all of it was read.
    accuracy: the content of the accuracy file.
    labels: the classes.
    videos: a row for each listed video of the subset: id, label, status, reason and group.
    best: for each of them the best classes and their scores, none where there is no result.
    n_training: how many videos the split has for training.
    """

    files: RunFiles
    accuracy: dict[str, Any]
    labels: list[str]
    videos: pd.DataFrame
    best: list[list[tuple[str, float]]]
    n_training: int = 0

    def truth(self, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """The number of each video's class among these; -1 of one that is not."""
        index = {label: number for number, label in enumerate(labels)}
        return np.array([index.get(label, -1) for label in self.videos["label"]], np.int64)

    def predicted(self, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """The number of the best class of each video among these; -1 without a result."""
        index = {label: number for number, label in enumerate(labels)}
        return np.array([index[best[0][0]] if best else -1 for best in self.best], np.int64)

    @cached_property
    def score(self) -> npt.NDArray[np.float64]:
        """The score of the best class; 0 without a result."""
        return np.array([best[0][1] if best else 0.0 for best in self.best])

    @cached_property
    def found(self) -> Flags:
        """Whether each video has a result."""
        return np.array([bool(best) for best in self.best], bool)

    @cached_property
    def group_names(self) -> npt.NDArray[np.object_]:
        """What each video was cut from; one that does not tell has its own."""
        group, own = self.videos["group"], "\n" + self.videos["id"]
        return group.where(group != "", own).to_numpy(object)

    @cached_property
    def groups(self) -> npt.NDArray[np.int64]:
        """The same, as numbers."""
        return pd.factorize(self.group_names)[0].astype(np.int64)

    def correct(self, k: int) -> Flags:
        """Whether the class of each video is among the k best."""
        if k == 1:  # that of a video of several classes, too
            return (self.videos["correct"] == "yes").to_numpy()
        pairs = zip(self.videos["label"], self.best, strict=True)
        return np.array([label in [name for name, _ in best[:k]] for label, best in pairs], bool)


def read_run(files: RunFiles) -> Run | None:
    """Read a run; None of one whose model knows the label of no video.

    Raises:
        InputError: if a file is not as the steps before write it.
    """
    accuracy = read_json(files.accuracy)
    ks = [int(k) for k in accuracy["accuracy"]]
    columns = ("id", "label", "subset", "correct", "status", "reason", "group")
    videos = read_columns(files.videos, columns)
    n_training = int((videos["subset"] == "training").sum())
    # Only videos of the subset that the model was applied to, and with a label, are right or wrong.
    videos = videos[videos["correct"] != ""].reset_index(drop=True)
    if videos.empty:
        return None
    classes = read_columns(files.confusion, ("class",))["class"].tolist()
    labels, ranking, _ = read_result(files.result, classes, largest_k=max(ks))
    best = [ranking.get(video, [])[: max(ks)] for video in videos["id"]]
    return Run(files, accuracy, labels, videos, best, n_training)


def same_videos(runs: Sequence[Run]) -> list[list[int]]:
    """The numbers of those runs that are about the same videos, and so can be compared.

    They have the same classes, too: other data sets may call other videos the same.
    """
    found: dict[Any, list[int]] = {}
    for number, run in enumerate(runs):
        videos = run.videos
        key = (run.files.split, run.files.subset, *videos["id"], *videos["label"])
        found.setdefault(key, []).append(number)
    return list(found.values())
