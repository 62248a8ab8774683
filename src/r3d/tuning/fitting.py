"""What fits into memory, found without filling it."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from r3d.compute.machine import give_back_memory
from r3d.errors import InputError

_USABLE = 0.9  # of a GPU's memory


def fewest_parts(run: Callable[[int], object], *, first: int, batch_size: int) -> int:
    """The fewest parts, from `first` on doubling, in which a batch fits into memory.

    Args:
        run: computes a batch in so many parts; raises torch.OutOfMemoryError where it cannot.

    Raises:
        InputError: if not even parts of two clips, the least for batch norm, fit.
    """
    most = max(first, batch_size // 2)
    parts = first
    while True:
        try:
            run(parts)
            return parts
        except torch.OutOfMemoryError:
            if parts == most:
                raise InputError(
                    f"batch_size: a batch of {batch_size} clips does not fit into memory in "
                    f"{parts} parts either; take a smaller network, sample_size or sample_duration"
                ) from None
        free()
        parts = min(2 * parts, most)


def free() -> None:
    """Give memory of what is no longer used back to the machine and the device."""
    gc.collect()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def memory_margin(device: torch.device) -> Iterator[None]:
    """Let a GPU run out of memory before its end: a long training needs some in reserve."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_per_process_memory_fraction(_USABLE)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


class MemoryModel:
    """How much memory a batch takes on a CPU, foretold from smaller ones.

    A machine that runs out of memory does not say so as a GPU does, it kills. So batches that would
    not fit are never tried.

    >>> model = MemoryModel(limit=100)
    >>> model.add(2, 20), model.add(4, 30)
    >>> model.predict(16)
    90
    """

    def __init__(self, limit: int) -> None:
        """Begin with a limit in bytes, of all that the process holds."""
        self._limit = limit
        self._peaks: dict[int, int] = {}

    def add(self, n_clips: int, peak: int) -> None:
        """Note the most bytes that the process held at a batch of so many clips."""
        self._peaks[n_clips] = peak

    def predict(self, n_clips: int) -> int:
        """Bytes, along the line through the two largest batches so far."""
        if len(self._peaks) < 2:
            return max(self._peaks.values(), default=0)
        (small, low), (large, high) = sorted(self._peaks.items())[-2:]
        slope = max(0.0, (high - low) / (large - small))
        return high + round(slope * (n_clips - large))

    def require(self, n_clips: int, *, extra: int = 0) -> None:
        """Check that a batch fits, with `extra` bytes beside it.

        Raises:
            torch.OutOfMemoryError: if not.
        """
        if self.predict(n_clips) + extra > self._limit:
            raise torch.OutOfMemoryError(f"{n_clips} clips do not fit into {self._limit} bytes")
