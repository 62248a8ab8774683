"""How many single clips a network gets right, counted while the scores of their videos go by."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from r3d.annotations.reading import Annotation
from r3d.compute.distributed import World


class _Scored(Protocol):
    """What a network says of one view of a clip: the softmax (classes,)."""

    @property
    def video(self) -> int: ...
    @property
    def segment(self) -> tuple[int, int]: ...
    @property
    def score(self) -> Tensor: ...


_Row = TypeVar("_Row", bound=_Scored)


class ClipCounter:
    """Counts clips of videos with a label that the model knows; the views of a clip are one.

    Args:
        samples: the videos, with the classes of their annotation.
        labels: the classes of the model.
    """

    def __init__(self, samples: Annotation, labels: Sequence[str]) -> None:
        index = {label: number for number, label in enumerate(labels)}
        self._classes = [index.get(label, -1) for label in samples.labels]
        self._targets = samples.targets
        self._n = self._correct = 0

    def counted(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """The rows of one video, unchanged, with those of a clip one after the other."""
        clip: tuple[int, tuple[int, int]] | None = None
        total, target = torch.empty(0), -1
        for row in rows:
            if (row.video, row.segment) != clip:
                self._count(total, target)
                clip, total = (row.video, row.segment), torch.zeros_like(row.score)
                number = int(self._targets[row.video])
                target = self._classes[number] if number >= 0 else -1
            if target >= 0:
                total += row.score
            yield row
        self._count(total, target)

    def totals(self, world: World, device: torch.device) -> dict[str, int]:
        """Over all processes, each of which has to ask: clips, and those that are right."""
        counts = world.sum(torch.tensor([self._n, self._correct], device=device))
        return dict(zip(("n", "correct"), counts.tolist(), strict=True))

    def _count(self, total: Tensor, target: int) -> None:
        if target >= 0:
            self._n += 1
            self._correct += int(total.argmax()) == target
