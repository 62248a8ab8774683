"""Which clips each step of a training has: how many, of which shape, and in which order.

The plain schedule goes through the training videos once an epoch, in batches of one size and clips
of one shape. Multigrid training (Wu et al., A Multigrid Method for Efficiently Training Video
Models, 2020) spends most of its steps on clips that are smaller, shorter or both, and has as many
times more of them in a batch, so that a step costs what it did:

    long cycle, between two drops of the learning rate, in four equal parts:
        clips         8 x           4 x           2 x           1
        frames        1/4           1/2           1/2           1
        side          1/sqrt(2)     1/sqrt(2)     1             1
    short cycle, from step to step, with the frames of the long cycle's part:
        side          that of the part            1/2           1/sqrt(2)

A shorter clip takes its frames further apart and shows the same span of time. The learning rate
grows with the root of the batch of the long cycle, not with that of the short one. (Published is in
proportion to the batch; in short trainings that was the worse, see docs/benchmarks.md.) After the
last drop, or in the last quarter where that is not in the second half, the clips are those of the
plain schedule. (The public code goes on with the short cycle there; that was worse, too.)

One and a half times the clips are seen over the whole training. They are had in less than half the
steps, and the epochs are shortened alike: everything that is said in epochs, such as milestones,
warm-up and checkpoints, stays where it was in the training. So an epoch is not once through the
videos; the next one goes on where it stopped among them.

A step's clips follow from its number alone, so a training is gone on with at any of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from math import isqrt, sqrt
from typing import Any

from r3d.clips.datasets import ClipShape
from r3d.clips.loader import EpochSampler
from r3d.config.options import TrainingOptions

# How many times the clips of the plain schedule are seen (EPOCH_FACTOR of the published code).
_CLIPS_SEEN = Fraction(3, 2)
# What the frames are divided by in the parts of the long cycle, and which have the smaller side.
_LONG_CYCLE = ((4, True), (2, True), (2, False), (1, False))
# After a drop this late the clips are whole; if there is none, from here on.
_LATE, _BEFORE_THE_END = Fraction(1, 2), Fraction(3, 4)


@dataclass(frozen=True)
class Grid:
    """What a step computes on.

    Attributes:
        shape: of its clips.
        n_batches: how many batches of the plain schedule have as many clips.
        rate: factor on the learning rate.
        is_base: whether its clips have the largest size of the steps around it, so that the running
            statistics of batch norms follow them.
    """

    shape: ClipShape
    n_batches: int = 1
    rate: float = 1
    is_base: bool = True


@dataclass(frozen=True)
class _Stage:
    """A part of the training up to `end`, in epochs, in which steps take the grids in turns."""

    end: Fraction
    grids: tuple[Grid, ...]

    @property
    def mean_batches(self) -> Fraction:
        return Fraction(sum(grid.n_batches for grid in self.grids), len(self.grids))


class Schedule(ABC):
    """The steps of a training: epochs count from 0, the steps of an epoch from 1."""

    @abstractmethod
    def n_steps(self, epoch: int) -> int:
        """Steps of an epoch."""

    @abstractmethod
    def n_steps_before(self, epoch: int) -> int:
        """Steps of all epochs before one."""

    @abstractmethod
    def seen(self, epoch: int, step: int) -> int:
        """Clips of the first `step` steps of an epoch, over all processes."""

    @abstractmethod
    def grid(self, epoch: int, step: int) -> Grid:
        """What a step computes on."""

    def n_clips(self, epoch: int, step: int) -> int:
        """Clips of a step, over all processes."""
        return self.seen(epoch, step) - self.seen(epoch, step - 1)

    @abstractmethod
    def n_clips_before(self, epoch: int) -> int:
        """Clips of all epochs before one."""


def make_schedule(options: TrainingOptions, n_clips: int, world_size: int = 1) -> Schedule:
    """The schedule that the options ask for.

    Args:
        n_clips: training videos, times `crops_per_clip`.
        world_size: processes that share each batch.
    """
    if options.multigrid == "none":
        return PlainSchedule(options, n_clips, world_size)
    return MultigridSchedule(options, n_clips)


class PlainSchedule(Schedule):
    """Batches of one size and shape, an epoch going once through the videos.

    A last batch with fewer than two clips a process is left out, unless it is the only one: batch
    norm has no statistics of a single clip, and no process may be without one.
    """

    def __init__(self, options: TrainingOptions, n_clips: int, world_size: int) -> None:
        self._n_clips, self._size = n_clips, options.batch_size
        full, rest = divmod(n_clips, options.batch_size)
        self._n_steps = full + (rest >= 2 * world_size or full == 0)
        self._grid = Grid(_full_shape(options))

    def n_steps(self, epoch: int) -> int:
        return self._n_steps

    def n_steps_before(self, epoch: int) -> int:
        return epoch * self._n_steps

    def seen(self, epoch: int, step: int) -> int:
        return min(step * self._size, self._n_clips)

    def grid(self, epoch: int, step: int) -> Grid:
        return self._grid

    def n_clips_before(self, epoch: int) -> int:
        return epoch * self.seen(0, self._n_steps)


class MultigridSchedule(Schedule):
    """Steps of about the same cost on clips of several shapes (see the module).

    >>> options = TrainingOptions(multigrid="both", batch_size=32)
    >>> schedule = MultigridSchedule(options, n_clips=32_000)
    >>> schedule.n_steps(0)  # 1000 in the plain schedule
    328
    >>> [schedule.grid(0, step).shape for step in (1, 2, 3)]
    [ClipShape(size=78, duration=4, t_stride=4), ClipShape(size=56, duration=4, t_stride=4), ClipShape(size=78, duration=4, t_stride=4)]
    """  # noqa: E501

    def __init__(self, options: TrainingOptions, n_clips: int) -> None:
        self._size, self._stages = options.batch_size, _stages(options)
        begins = [Fraction(0), *(stage.end for stage in self._stages)]
        batches = sum(
            (end - begin) * stage.mean_batches
            for stage, (begin, end) in zip(self._stages, pairwise(begins), strict=True)
        )
        # Steps of an epoch; epochs of fewer than one would have nothing to log.
        plain = Fraction(n_clips, options.batch_size)
        self._steps = max(Fraction(1), plain * _CLIPS_SEEN * options.n_epochs / batches)
        self._ends = [int(stage.end * self._steps) for stage in self._stages]

    def n_steps(self, epoch: int) -> int:
        return self.n_steps_before(epoch + 1) - self.n_steps_before(epoch)

    def n_steps_before(self, epoch: int) -> int:
        return int(epoch * self._steps)

    def seen(self, epoch: int, step: int) -> int:
        before = self.n_steps_before(epoch)
        return self._n_clips_until(before + step) - self._n_clips_until(before)

    def grid(self, epoch: int, step: int) -> Grid:
        place = self.n_steps_before(epoch) + step - 1
        begin = 0
        for stage, end in zip(self._stages, self._ends, strict=True):
            if place < end:
                return stage.grids[(place - begin) % len(stage.grids)]
            begin = end
        raise IndexError(f"epoch {epoch} has no step {step}")

    def n_clips_before(self, epoch: int) -> int:
        return self._n_clips_until(self.n_steps_before(epoch))

    def _n_clips_until(self, n_steps: int) -> int:
        """Clips of the first steps of the whole training."""
        batches = begin = 0
        for stage, end in zip(self._stages, self._ends, strict=True):
            turns, rest = divmod(max(0, min(n_steps, end) - begin), len(stage.grids))
            batches += turns * sum(grid.n_batches for grid in stage.grids)
            batches += sum(grid.n_batches for grid in stage.grids[:rest])
            begin = end
        return batches * self._size


class ShapedBatches:
    """The keys of batches for `TrainingClips`: one process's share of each step of a schedule.

    The videos are gone through again and again, whichever epochs that is in: a key is (pass, video,
    shape), in the order that a plain epoch of that number has.

    Args:
        order: of the passes, all of it.
    """

    def __init__(
        self,
        schedule: MultigridSchedule,
        order: EpochSampler,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._schedule, self._order = schedule, order
        order.set_epoch(0)
        self._n_samples = len(order)
        self._rank, self._world_size = rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, start: int = 0) -> None:
        """Choose the epoch, and the clips of it that are done, of the next iteration."""
        self._epoch, self._start = epoch, start

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        schedule, epoch, start = self._schedule, self._epoch, self._start
        keys = self._keys(schedule.n_clips_before(epoch) + start)
        for step in range(1, schedule.n_steps(epoch) + 1):
            if schedule.seen(epoch, step) <= start:
                continue
            shape = schedule.grid(epoch, step).shape
            # The first crops of all clips before the second ones, as in plain batches.
            batch = sorted(islice(keys, schedule.n_clips(epoch, step)), key=lambda key: key[2:])
            yield [(*key, shape) for key in batch[self._rank :: self._world_size]]

    def _keys(self, place: int) -> Iterator[tuple[int, ...]]:
        """The clips from a place on in all passes, one after the other."""
        number, start = divmod(place, self._n_samples)
        while True:
            self._order.set_epoch(number, start=start)
            yield from self._order
            number, start = number + 1, 0


def _full_shape(options: TrainingOptions) -> ClipShape:
    return ClipShape(options.sample_size, options.sample_duration, options.sample_t_stride)


def _stages(options: TrainingOptions) -> list[_Stage]:
    """The parts of a training: whole long cycles, and at last the plain shape."""
    n_epochs = options.n_epochs
    drops: list[Fraction] = []
    if options.lr_scheduler == "multistep":
        milestones = sorted(set(options.multistep_milestones))
        drops = [Fraction(epoch) for epoch in milestones if epoch < n_epochs]
    if not drops or drops[-1] < _LATE * n_epochs:
        drops.append(_BEFORE_THE_END * n_epochs)
    parts = _LONG_CYCLE if options.multigrid in ("long", "both") else ((1, False),)
    stages = []
    for begin, end in pairwise([Fraction(0), *drops]):
        for number, (divisor, small) in enumerate(parts, start=1):
            stage_end = begin + (end - begin) * number / len(parts)
            stages.append(_Stage(stage_end, _grids(options, divisor, small)))
    return [*stages, _Stage(Fraction(n_epochs), (Grid(_full_shape(options)),))]


def _grids(options: TrainingOptions, divisor: int, small: bool) -> tuple[Grid, ...]:
    """What the steps of a part take in turns; the first is that of the long cycle.

    So no epoch is validated before the running statistics of batch norms have been fed.
    """
    full = options.sample_size
    smaller = isqrt(full * full // 2) // 2 * 2  # rounded down: twice as many clips are no more work
    base = (smaller, 2) if small else (full, 1)
    sides = [base]
    if options.multigrid in ("short", "both"):
        sides = [base, (full // 2, 4), (smaller, 2)]
    duration, t_stride = options.sample_duration // divisor, options.sample_t_stride * divisor
    rate = sqrt(divisor * base[1])
    return tuple(
        Grid(ClipShape(side, duration, t_stride), divisor * more, rate, (side, more) == base)
        for side, more in sides
    )
