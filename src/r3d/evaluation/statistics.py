"""How sure an accuracy is, whether two differ, and whether scores can be taken at their word.

Videos that were cut from one recording are alike: a network that gets one of them gets the others
more often than chance. So where groups are known, they are what is drawn anew, not the videos.

The distributions are those of `scipy.special`: `scipy.stats` takes longer to import than pandas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from r3d.errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

CONFIDENCE = 0.95
"""Of all intervals."""

_DRAWS = 2000
_CLASS_DRAWS, _CLASS_DRAWS_AT_A_TIME = 1000, 100

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The bounds between which the true value lies, in `CONFIDENCE` of all such intervals."""

    low: float
    high: float


def wilson_interval(correct: int, n: int) -> Interval:
    """Wilson's interval of a share of independent videos (Wilson, 1927).

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)

    Raises:
        InputError: if there are no videos, or more correct ones than videos.
    """
    if not 0 <= correct <= n or not n:
        raise InputError(f"accuracy: {correct} of {n} videos; accepted: 0 to n of 1 or more")
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    share, wide = correct / n, z * z / n
    middle = share + wide / 2
    reach = z * sqrt(share * (1 - share) / n + wide / (4 * n))
    low, high = (middle - reach) / (1 + wide), (middle + reach) / (1 + wide)
    return Interval(low if correct else 0.0, high if correct < n else 1.0)


def accuracy_interval(correct: Flags, groups: npt.ArrayLike | None = None) -> Interval:
    """The interval of an accuracy: Wilson's, or where videos share groups a bootstrap over those.

    Args:
        correct: whether each video is right.
        groups: what each video was cut from; equal values are one group.
    """
    index = _group_index(groups, len(correct))
    if index is None:
        return wilson_interval(int(correct.sum()), len(correct))
    interval = _bootstrap(correct.astype(float), index, lowest=0.0)
    if interval.low < interval.high:
        return interval
    # Groups that are all the same, such as all right: so many independent videos say as much.
    n_groups = int(index.max()) + 1
    return wilson_interval(round(float(correct.mean()) * n_groups), n_groups)


def difference_interval(one: Flags, other: Flags, groups: npt.ArrayLike | None = None) -> Interval:
    """The interval of the difference of two accuracies on the same videos, by paired bootstrap.

    Args:
        one, other: whether each video is right in either experiment.
        groups: as in `accuracy_interval`; each video is its own group by default.
    """
    index = _group_index(groups, len(one))
    if index is None:
        index = np.arange(len(one))
    return _bootstrap(one.astype(float) - other.astype(float), index, lowest=-1.0)


def mean_class_intervals(
    correct: Flags, classes: npt.NDArray[np.int64], groups: npt.ArrayLike | None = None
) -> list[Interval]:
    """The intervals of the mean of the accuracies of the classes, by a bootstrap over groups.

    A class that is not drawn does not count in that draw.

    Args:
        correct: (runs, videos) whether each video is right in each of several experiments.
        classes: (videos,) the number of each video's class.
        groups: as in `accuracy_interval`; each video is its own group by default.
    """
    n = len(classes)
    index = _group_index(groups, n)
    if index is None:
        index = np.arange(n)
    n_groups, n_classes = int(index.max()) + 1, int(classes.max()) + 1
    if n_groups < 2:
        return [Interval(0.0, 1.0)] * len(correct)

    from scipy import sparse

    def by_group(values: Numbers) -> "sparse.csr_array":
        return sparse.coo_array((values, (index, classes)), (n_groups, n_classes)).tocsr()

    right = [by_group(flags.astype(float)) for flags in correct]
    listed = by_group(np.ones(n))
    rng, even = np.random.default_rng(0), np.full(n_groups, 1 / n_groups)
    means: list[list[float]] = [[] for _ in right]
    for _ in range(_CLASS_DRAWS // _CLASS_DRAWS_AT_A_TIME):
        times = rng.multinomial(n_groups, even, size=_CLASS_DRAWS_AT_A_TIME).astype(float)
        n_drawn = times @ listed
        n_drawn[n_drawn == 0] = np.nan
        for found, part in zip(means, right, strict=True):
            found += np.nanmean((times @ part) / n_drawn, axis=1).tolist()
    return [_percentiles(np.array(found)) for found in means]


def mcnemar(one: Flags, other: Flags) -> float:
    """The p-value of McNemar's exact test: two experiments are equally often right alone.

    >>> one = np.array([True] * 9 + [False])
    >>> mcnemar(one, ~one)  # 9 videos are right in one only, 1 in the other only
    0.021484375
    """
    alone, other_alone = int((one & ~other).sum()), int((other & ~one).sum())
    n, fewer = alone + other_alone, min(alone, other_alone)
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5)))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's interval of a mean over splits or seeds; None where they do not differ.

    >>> low, high = mean_interval([0.5, 0.6, 0.7])
    >>> round(low, 3), round(high, 3)
    (0.352, 0.848)
    """
    if len(set(values)) < 2:
        return None
    reach = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * stdev(values)
    middle, reach = float(np.mean(values)), reach / sqrt(len(values))
    return Interval(middle - reach, middle + reach)


@dataclass(frozen=True)
class Calibration:
    """How often videos of a score are right, in bins of equal width from 0 to 1.

    n: (bins,) videos of each.
    confidence: (bins,) mean best score of its videos, 0 in an empty one.
    accuracy: (bins,) share of them that are right, 0 in an empty one.
    """

    n: npt.NDArray[np.int64]
    confidence: Numbers
    accuracy: Numbers

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al., ICML 2017): the mean distance of the two."""
        return float((self.n * np.abs(self.confidence - self.accuracy)).sum() / self.n.sum())


def calibration(scores: Numbers, correct: Flags, n_bins: int = 15) -> Calibration:
    """Compare the best score of each video with whether it is right.

    A score at the upper edge of a bin belongs to it, and so does 0 to the first.

    >>> two = calibration(np.array([0.9, 0.8]), np.array([True, False]), n_bins=2)
    >>> two.n.tolist(), round(two.error, 2)
    ([0, 2], 0.35)
    """
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    bins = np.searchsorted(edges, scores, side="left")
    n = np.bincount(bins, minlength=n_bins)
    least_one = np.maximum(n, 1)
    return Calibration(
        n=n,
        confidence=np.bincount(bins, weights=scores, minlength=n_bins) / least_one,
        accuracy=np.bincount(bins, weights=correct, minlength=n_bins) / least_one,
    )


def _group_index(groups: npt.ArrayLike | None, n: int) -> npt.NDArray[np.int64] | None:
    """A number from 0 for the group of each video; None where none has two."""
    if groups is None:
        return None
    found, index = np.unique(np.asarray(groups), return_inverse=True)
    return None if len(found) == n else index.reshape(n)


def _bootstrap(values: Numbers, index: npt.NDArray[np.int64], lowest: float) -> Interval:
    """The percentile interval of the mean over videos, with whole groups drawn anew.

    Groups with the same sum and size are the same to it, so how often each kind is drawn is enough.
    """
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    if len(sizes) < 2:
        return Interval(lowest, 1.0)  # one recording tells nothing of others
    # Both are whole numbers, a sum never larger than its size.
    wide = 2 * int(sizes.max()) + 1
    kinds, numbers = np.unique(sizes * wide + sums.astype(int) + wide // 2, return_counts=True)
    sizes, sums = kinds // wide, kinds % wide - wide // 2
    rng = np.random.default_rng(0)
    times = rng.multinomial(int(numbers.sum()), numbers / numbers.sum(), size=_DRAWS)
    return _percentiles((times @ sums) / (times @ sizes))


def _percentiles(means: Numbers) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))
