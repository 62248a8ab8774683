"""Scores of a video over time: how likely each class is in each of its seconds."""

import csv
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor

from r3d.inference.infer import best_classes
from r3d.tables import without_formulas


class Timeline:
    """The scores of each second of a video, the mean of the clips that show some of it.

    A clip counts by how much of the second it shows. Seconds are those of the video: the first one
    may begin in the middle, where a segment does, and the last one ends with the last frame.

    >>> timeline = Timeline(["left", "right"], rate=10.0)
    >>> timeline.add((0, 16), torch.tensor([1.0, 0.0]))  # frames 0 to 15: 1.6 seconds
    >>> timeline.add((15, 20), torch.tensor([0.0, 1.0]))
    >>> timeline.spans
    [(0.0, 1.0), (1.0, 2.0)]
    >>> timeline.scores.round(2).tolist()  # 0.6 seconds of the one clip, 0.5 of the other
    [[1.0, 0.0], [0.55, 0.45]]

    Args:
        labels: of the classes.
        rate: frames a second.
        start: seconds of the video at which its first frame counts.
    """

    def __init__(self, labels: list[str], *, rate: float, start: float = 0.0) -> None:
        self.labels = labels
        self._rate, self._start = rate, start
        self._sums: dict[int, np.ndarray] = {}  # second -> score times frames of each class
        self._frames: dict[int, float] = {}
        self._end = start

    def add(self, segment: tuple[int, int], score: Tensor) -> None:
        """Count the scores (classes,) of a clip that shows the frames begin <= i < end."""
        begin, end = (round(self._start + frame / self._rate, 6) for frame in segment)
        self._end = max(self._end, end)
        values = score.numpy()
        for second in range(int(begin), int(np.ceil(end))):
            share = min(end, second + 1) - max(begin, second)
            if second not in self._sums:
                self._sums[second] = np.zeros(len(values), np.float32)
                self._frames[second] = 0.0
            self._sums[second] += share * values
            self._frames[second] += share

    @property
    def spans(self) -> list[tuple[float, float]]:
        """The spans of time (seconds) that clips show something of, one a second."""
        return [
            (max(self._start, float(second)), min(self._end, second + 1.0))
            for second in sorted(self._sums)
        ]

    @property
    def scores(self) -> np.ndarray:
        """The scores in these spans, (spans, classes)."""
        return np.stack([self._sums[n] / self._frames[n] for n in sorted(self._sums)])

    def classes(self, k: int) -> list[int]:
        """The numbers of the classes among the `k` best of any span, the first the best."""
        scores = self.scores
        # Of equal scores the first in class order is the best, as in `best_classes`.
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.unique(ranked)
        return [int(n) for n in found[np.argsort(-scores.mean(0)[found], kind="stable")]]

    def results(self, k: int) -> list[dict[str, Any]]:
        """The `k` best classes of each span, as `inference_no_average` gives those of clips."""
        return [
            {
                "segment": [round(time, 3) for time in span],
                "result": best_classes(torch.from_numpy(scores), self.labels, k),
            }
            for span, scores in zip(self.spans, self.scores, strict=True)
        ]

    def write(self, file: TextIO, k: int) -> None:
        """Write CSV: a row a span, a column for each of `classes`."""
        classes = self.classes(k)
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("start", "end", *without_formulas(self.labels[n] for n in classes)))
        for span, scores in zip(self.spans, self.scores, strict=True):
            times = (f"{time:.3f}" for time in span)
            rows.writerow((*times, *(f"{scores[n]:.6f}" for n in classes)))
