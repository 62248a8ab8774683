"""What every engine is: from a batch of clips to what a network gives for each."""

from typing import Protocol

from torch import Tensor

from r3d.clips.loader import ClipBatch


class Engine(Protocol):
    """A network that is ready to compute, with fixed weights."""

    @property
    def name(self) -> str:
        """Which engine in which precision, for people, as "torch 2.15.0 in fp32"."""

    def __call__(self, batch: ClipBatch) -> Tensor:
        """The outputs of a batch: (b, n), fp32, on the CPU."""
