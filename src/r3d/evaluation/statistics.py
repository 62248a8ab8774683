"""How sure an accuracy is, whether two differ, and whether scores can be taken at their word.

Videos that were cut from one recording are alike: a network that gets one of them gets the others
more often than chance. So where groups are known, they are what is drawn anew, not the videos.

The distributions are those of `scipy.special`: `scipy.stats` takes longer to import than pandas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

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

# Means of equal accuracies differ by the rounding of floats, those of one more video by far more.
_EQUAL = 1e-9

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The bounds between which the true value lies, in `CONFIDENCE` of all such intervals."""

    low: float
    high: float


class Part(NamedTuple):
    """The videos of a split: of each a value, as the share of runs that are right, and a group.

    Equal groups in several splits are one group; a video by itself has its own.
    """

    values: Numbers
    groups: npt.NDArray[Any]


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
    interval = _bootstrap(correct, index)
    return _of_some_width(interval, float(correct.mean()), int(index.max()) + 1)


def mean_accuracy_interval(parts: Sequence[Part]) -> Interval:
    """The interval of the mean of accuracies over splits or folds, by a bootstrap over groups.

    It says how far other videos would lead, with the networks as they are. A group of several
    splits is drawn for all of them.

    Args:
        parts: for each split its videos.
    """
    interval, n_groups = _bootstrap_parts(parts, lowest=0.0)
    mean = float(np.mean([part.values.mean() for part in parts]))
    return _of_some_width(interval, mean, n_groups)


def difference_interval(parts: Sequence[Part]) -> Interval:
    """The interval of the mean difference of two accuracies, by a paired bootstrap over groups.

    Args:
        parts: for each split its videos, whose values are the differences of the two.
    """
    return _bootstrap_parts(parts, lowest=-1.0)[0]


def mean_class_intervals(
    correct: Flags | Numbers,
    classes: npt.NDArray[np.int64],
    groups: npt.ArrayLike | None = None,
    *,
    splits: npt.NDArray[np.int64] | None = None,
) -> list[Interval]:
    """The intervals of the mean of the accuracies of the classes, by a bootstrap over groups.

    A class that is not drawn does not count in that draw, nor does a split of which none is.

    Args:
        correct: (runs, videos) whether each video is right in each of several experiments, or the
            share of their runs in which it is.
        classes: (videos,) the number of each video's class.
        groups: as in `accuracy_interval`; each video is its own group by default.
        splits: (videos,) the number of the split that each video is judged in: the mean is that
            over splits. One by default.
    """
    n = len(classes)
    index = _group_index(groups, n)
    if index is None:
        index = np.arange(n)
    n_groups, n_classes = int(index.max()) + 1, int(classes.max()) + 1
    if splits is None:
        splits = np.zeros(n, np.int64)
    n_splits = int(splits.max()) + 1
    columns = splits * n_classes + classes
    if n_groups < 2:
        return [Interval(0.0, 1.0)] * len(correct)

    from scipy import sparse

    def by_group(values: Numbers) -> "sparse.csr_array":
        shape = (n_groups, n_splits * n_classes)
        return sparse.coo_array((values, (index, columns)), shape).tocsr()

    right = [by_group(flags.astype(float)) for flags in correct]
    listed = by_group(np.ones(n))
    rng, even = np.random.default_rng(0), np.full(n_groups, 1 / n_groups)
    means: list[list[float]] = [[] for _ in right]
    for _ in range(_CLASS_DRAWS // _CLASS_DRAWS_AT_A_TIME):
        times = rng.multinomial(n_groups, even, size=_CLASS_DRAWS_AT_A_TIME).astype(float)
        n_drawn = (times @ listed).reshape(-1, n_splits, n_classes)
        n_seen = (n_drawn > 0).sum(axis=2)
        n_judged = (n_seen > 0).sum(axis=1)
        for found, part in zip(means, right, strict=True):
            of_classes = (times @ part).reshape(n_drawn.shape) / np.maximum(n_drawn, 1)
            of_splits = of_classes.sum(axis=2) / np.maximum(n_seen, 1)
            found += (of_splits.sum(axis=1) / n_judged).tolist()
    return [_of_some_width(_percentiles(np.array(found)), found[0], n_groups) for found in means]


def mcnemar(one: Flags, other: Flags) -> float:
    """The p-value of McNemar's exact test: two experiments are equally often right alone.

    >>> one = np.array([True] * 9 + [False])
    >>> mcnemar(one, ~one)  # 9 videos are right in one only, 1 in the other only
    0.021484375
    """
    alone, other_alone = int((one & ~other).sum()), int((other & ~one).sum())
    n, fewer = alone + other_alone, min(alone, other_alone)
    return min(1.0, 2 * float(special.bdtr(fewer, n, 0.5)))


def trainings_interval(values: Sequence[Sequence[float]], test_share: float) -> Interval | None:
    """The interval of a mean over trainings, from how much they differ; None if that is not known.

    Of several splits or folds: Student's over them, with seeds averaged before, since trainings on
    one split are not independent of each other. Splits share training videos, so that the
    differences between them understate the variance; it is corrected as Nadeau and Bengio do
    (Inference for the generalization error, Machine Learning 2003): its factor is not 1 / k but
    1 / k + test / train. Of one split: Student's over its seeds; of other videos it says nothing.

    >>> low, high = trainings_interval([[0.5], [0.6], [0.7]], test_share=0.5)
    >>> round(low, 3), round(high, 3)
    (0.207, 0.993)

    Args:
        values: for each split the accuracies of its seeds.
        test_share: test videos for each training video.
    """
    found = _student(values, test_share)
    if found is None:
        return None
    mean, error, freedom = found
    reach = error * float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
    return Interval(max(0.0, mean - reach), min(1.0, mean + reach))


def trainings_test(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], test_share: float
) -> float | None:
    """The p-value of two experiments being equally good, from how much trainings differ.

    Of several splits: the paired t-test over them, with seeds averaged before, corrected as in
    `trainings_interval`. Of one split: Welch's t-test over the seeds, which are not pairs. None
    where trainings are too few to tell, or do not differ.

    Args:
        one, other: for each split, the same in both, the accuracies of the seeds.
        test_share: test videos for each training video.
    """
    if len(one) > 1:
        pairs = zip(one, other, strict=True)
        found = _student([[float(np.mean(a) - np.mean(b))] for a, b in pairs], test_share)
        if found is None:
            return None
        mean, error, freedom = found
        return float(2 * special.stdtr(freedom, -abs(mean) / error))
    (here,), (there,) = one, other
    if min(len(here), len(there)) < 2 or max(np.ptp(here), np.ptp(there)) < _EQUAL:
        return None
    from scipy import stats

    return float(stats.ttest_ind(here, there, equal_var=False).pvalue)


def _student(
    values: Sequence[Sequence[float]], test_share: float
) -> tuple[float, float, int] | None:
    """Mean, its standard error and degrees of freedom; None of one value, or of equal ones."""
    shared = test_share
    units = [float(np.mean(of_split)) for of_split in values]
    if len(values) == 1:
        units, shared = list(values[0]), 0.0
    if np.ptp(units) < _EQUAL:
        return None
    error = float(np.std(units, ddof=1) * np.sqrt(1 / len(units) + shared))
    return float(np.mean(units)), error, len(units) - 1


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


def _bootstrap(correct: Flags, index: npt.NDArray[np.int64]) -> Interval:
    """The percentile interval of an accuracy, with whole groups drawn anew.

    Groups with the same sum and size are the same to it, so how often each kind is drawn is enough.
    """
    sums, sizes = np.bincount(index[correct], minlength=int(index.max()) + 1), np.bincount(index)
    if len(sizes) < 2:
        return Interval(0.0, 1.0)  # one recording tells nothing of others
    wide = int(sizes.max()) + 1  # a sum is never larger than its size
    kinds, numbers = np.unique(sizes * wide + sums, return_counts=True)
    sizes, sums = kinds // wide, kinds % wide
    rng = np.random.default_rng(0)
    times = rng.multinomial(int(numbers.sum()), numbers / numbers.sum(), size=_DRAWS)
    return _percentiles((times @ sums) / (times @ sizes))


def _bootstrap_parts(parts: Sequence[Part], lowest: float) -> tuple[Interval, int]:
    """The percentile interval of the mean over splits of means over videos; how many groups.

    Whole groups are drawn anew. A split of which none is drawn does not count in that draw.
    """
    names, index = np.unique(np.concatenate([part.groups for part in parts]), return_inverse=True)
    n_groups = len(names)
    if n_groups < 2:
        return Interval(lowest, 1.0), n_groups
    own = np.split(index.reshape(-1), np.cumsum([len(part.groups) for part in parts])[:-1])
    counts = [
        np.bincount(places, weights=weights, minlength=n_groups)
        for part, places in zip(parts, own, strict=True)
        for weights in (part.values, np.ones(len(places)))
    ]
    # Groups that are alike in all splits are the same to it: how often each kind is drawn counts.
    kinds, numbers = np.unique(np.round(counts, 9).T, axis=0, return_counts=True)
    rng = np.random.default_rng(0)
    times = rng.multinomial(n_groups, numbers / n_groups, size=_DRAWS)
    sums, sizes = times @ kinds[:, ::2], times @ kinds[:, 1::2]
    sizes[sizes == 0] = np.nan
    return _percentiles(np.nanmean(sums / sizes, axis=1)), n_groups


def _of_some_width(interval: Interval, mean: float, n_groups: int) -> Interval:
    """A bootstrap's interval, unless its groups are all the same, such as all right.

    Then so many independent videos say as much.
    """
    if interval.low < interval.high:
        return interval
    return wilson_interval(round(mean * n_groups), n_groups)


def _percentiles(means: Numbers) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))
