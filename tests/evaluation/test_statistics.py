"""Statistics against values worked out by hand, and against SciPy's own bootstrap."""

import math

import numpy as np
import pytest
from scipy import stats

from r3d.errors import InputError
from r3d.evaluation.statistics import (
    Part,
    accuracy_interval,
    calibration,
    difference_interval,
    mcnemar,
    mean_accuracy_interval,
    mean_class_intervals,
    trainings_interval,
    trainings_test,
    wilson_interval,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (0, 10), (8, 10), (10, 10), (700, 1000)])
def test_wilson_is_the_formula_of_the_paper(correct: int, n: int):
    z = 1.959963984540054
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert wilson_interval(correct, n) == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_counts_that_cannot_be(correct: int, n: int):
    with pytest.raises(InputError, match=f"{correct} of {n} videos"):
        wilson_interval(correct, n)


def test_videos_of_one_recording_make_an_accuracy_less_sure():
    correct = np.repeat([True, False, True, True, False, True, True, True] * 5, 10)
    alone = accuracy_interval(correct)
    assert alone == wilson_interval(int(correct.sum()), len(correct))
    assert accuracy_interval(correct, np.arange(len(correct))) == alone
    grouped = accuracy_interval(correct, np.repeat(np.arange(40), 10))
    # Ten equal videos are as good as one: nearly the interval of 30 of 40.
    assert grouped == pytest.approx(wilson_interval(30, 40), abs=0.02)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)
    all_right = accuracy_interval(np.ones(400, bool), np.repeat(np.arange(40), 10))
    assert all_right == wilson_interval(40, 40)


def test_groups_of_unequal_size_agree_with_scipys_bootstrap():
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 12, 60)
    rates = rng.uniform(0.2, 1, 60)
    groups = np.repeat([f"g{i}" for i in range(60)], sizes)
    correct = rng.uniform(size=sizes.sum()) < np.repeat(rates, sizes)
    sums = np.array([correct[groups == f"g{i}"].sum() for i in range(60)])
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis=-1: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert accuracy_interval(correct, groups) == pytest.approx(tuple(theirs), abs=0.01)


def part(values: np.ndarray, groups: np.ndarray | None = None) -> Part:
    names = np.arange(len(values)) if groups is None else groups
    return Part(np.asarray(values, float), np.array([f"g{name}" for name in names], object))


def test_a_difference_is_paired():
    rng = np.random.default_rng(5)
    one = rng.uniform(size=1000) < 0.7
    other = one.copy()
    other[rng.choice(np.flatnonzero(one), 20, replace=False)] = False
    values = one.astype(float) - other
    low, high = difference_interval([part(values)])
    # 20 of 1000 differ: a standard error of sqrt(20) / 1000, far less than that of each accuracy.
    half = 1.96 * math.sqrt(20) / 1000
    assert (low, high) == pytest.approx((0.02 - half, 0.02 + half), abs=0.002)
    assert difference_interval([part(-values)]) == pytest.approx((-high, -low), abs=0.002)
    assert difference_interval([part(0 * values)]) == (0, 0)
    within_groups = difference_interval([part(values, np.arange(1000) // 100)])
    assert within_groups.low < 0.02 < within_groups.high
    assert difference_interval([part(values, np.zeros(1000))]) == (-1, 1)


def test_the_mean_over_classes_counts_small_ones_as_much():
    classes = np.repeat([0, 1], [900, 100])
    correct = np.concatenate([np.arange(900) % 10 > 0, np.arange(100) % 2 > 0])
    ((low, high), all_right) = mean_class_intervals(np.stack([correct, correct | True]), classes)
    assert all_right == wilson_interval(1000, 1000)
    # Shares of 0.9 and 0.5, whose mean has the standard error of both together, halved.
    half = 1.96 * math.sqrt(0.9 * 0.1 / 900 + 0.5 * 0.5 / 100) / 2
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.006)
    (grouped,) = mean_class_intervals(correct[None], classes, np.arange(1000) // 50)
    assert grouped.low <= 0.7 < grouped.high
    assert mean_class_intervals(correct[None], classes, np.zeros(1000)) == [(0, 1)]


def test_mcnemar_is_a_sign_test_of_those_that_differ():
    one = np.array([True] * 12 + [False] * 3 + [True] * 100 + [False] * 50)
    other = np.array([False] * 12 + [True] * 3 + [True] * 100 + [False] * 50)
    by_hand = 2 * sum(math.comb(15, i) for i in range(4)) / 2**15
    assert mcnemar(one, other) == pytest.approx(by_hand)
    assert mcnemar(one, one) == 1


def test_the_mean_over_splits_agrees_with_scipys_bootstrap():
    rng = np.random.default_rng(6)
    sizes = [rng.integers(1, 9, 40) for _ in range(3)]
    shares = [np.repeat(rng.choice([0, 1 / 3, 2 / 3, 1], 40), size) for size in sizes]
    groups = [np.repeat(100 * fold + np.arange(40), size) for fold, size in enumerate(sizes)]
    ours = mean_accuracy_interval(list(map(part, shares, groups)))
    # Folds have no group in common, so each is nearly drawn by itself.
    variance = 0.0
    for share, group in zip(shares, groups, strict=True):
        kinds = np.unique(group)
        sums = np.array([share[group == kind].sum() for kind in kinds])
        counts = np.array([(group == kind).sum() for kind in kinds])
        found = stats.bootstrap(
            (sums, counts),
            lambda sums, counts, axis=-1: sums.sum(axis) / counts.sum(axis),
            paired=True,
            n_resamples=2000,
            rng=np.random.default_rng(7),
        )
        variance += found.standard_error**2
    mean, error = np.mean([share.mean() for share in shares]), math.sqrt(variance) / 3
    assert ours == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.01)


def test_a_recording_of_several_splits_is_drawn_for_all_of_them():
    correct = np.arange(200) % 3 > 0
    once = mean_accuracy_interval([part(correct)])
    assert once == pytest.approx(wilson_interval(133, 200), abs=0.01)
    # The same videos again, as of the seeds of one split, tell nothing more of other videos.
    assert mean_accuracy_interval([part(correct)] * 3) == pytest.approx(once, abs=0.01)
    others = [part(correct, np.arange(200) + 200 * fold) for fold in range(3)]
    apart = mean_accuracy_interval(others)
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / math.sqrt(3), abs=0.01)
    all_right = mean_accuracy_interval([part(np.ones(40), np.arange(40) // 2)] * 2)
    assert all_right == wilson_interval(20, 20)


def test_the_mean_over_trainings_by_hand():
    assert trainings_interval([[0.5]], 0.25) is None
    assert trainings_interval([[0.5, 0.5]], 0.25) is None
    assert trainings_interval([[0.5], [0.5]], 0.25) is None
    # t of 2 degrees of freedom: 4.3027; the standard error of three seeds is 0.1 / sqrt(3).
    half = 4.302653 * 0.1 / math.sqrt(3)
    seeds = trainings_interval([[0.5, 0.6, 0.7]], 0.25)
    assert seeds == pytest.approx((0.6 - half, 0.6 + half), abs=1e-6)
    # Of folds its square is 1/3 + 1/4 for 1/3; seeds are averaged before.
    half = 4.302653 * 0.1 * math.sqrt(1 / 3 + 1 / 4)
    folds = trainings_interval([[0.45, 0.55], [0.6, 0.6], [0.8, 0.6]], 0.25)
    assert folds == pytest.approx((0.6 - half, 0.6 + half), abs=1e-6)


def test_whether_trainings_differ_is_a_t_test_over_folds_or_seeds():
    one, other = [0.71, 0.8, 0.69, 0.77, 0.74], [0.7, 0.74, 0.66, 0.75, 0.7]
    folds = trainings_test([[value] for value in one], [[value] for value in other], 0.25)
    t = stats.ttest_rel(one, other).statistic * math.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    assert folds == pytest.approx(2 * stats.t.sf(t, 4))
    assert folds > stats.ttest_rel(one, other).pvalue
    # Without what is shared it is the paired test itself, and seeds on one split are no pairs.
    alone = trainings_test([[value] for value in one], [[value] for value in other], 0)
    assert alone == pytest.approx(stats.ttest_rel(one, other).pvalue)
    seeds = trainings_test([one], [other[:3]], 0.25)
    assert seeds == pytest.approx(stats.ttest_ind(one, other[:3], equal_var=False).pvalue)
    assert trainings_test([[0.5]], [[0.6, 0.7]], 0.25) is None
    assert trainings_test([[0.5], [0.6]], [[0.4], [0.5]], 0.25) is None  # equal differences


def test_what_differs_by_rounding_alone_does_not_differ():
    assert trainings_test([[0.7], [0.8]], [[0.5], [0.6]], 0.25) is None
    assert trainings_test([[0.1 + 0.2, 0.3]], [[0.5, 0.5]], 0.25) is None
    assert trainings_interval([[0.1 + 0.2, 0.3]], 0.25) is None
    assert trainings_interval([[0.1, 0.2], [0.15, 0.15 + 1e-16]], 0.25) is None


def test_folds_that_share_training_videos_do_not_pass_for_independent_trainings():
    """Folds that share most of their training videos, of two experiments that are alike."""
    rng = np.random.default_rng(8)
    n_folds, found, naive = 5, 0, 0
    for _ in range(400):
        # Each fold trains on 4 of 5 parts, whose luck its accuracy follows.
        luck = rng.normal(size=(2, n_folds))
        accuracies = [
            [[float((of.sum() - of[fold]) / 4 + 0.5 * rng.normal())] for fold in range(n_folds)]
            for of in luck
        ]
        found += trainings_test(*accuracies, 1 / 4) < 0.05
        naive += trainings_test(*accuracies, 0) < 0.05
    # The correction is the best known, not exact: 5 % would be right.
    assert found / 400 < 0.12
    assert naive > 2 * found


def test_the_mean_over_classes_of_several_splits_is_as_sure_as_their_videos():
    rng = np.random.default_rng(6)
    classes, right = np.arange(600) % 3, rng.uniform(size=600) < 0.7
    splits, names = np.repeat([0, 1, 2], 200), np.arange(600)
    low, high = mean_class_intervals(right[None], classes, names, splits=splits)[0]
    # Splits and classes of one size: as of all videos at once.
    assert (low, high) == pytest.approx(accuracy_interval(right), abs=0.01)
    # The same videos in all splits say no more than those of one.
    again = mean_class_intervals(
        np.tile(right[:200], 3)[None],
        np.tile(classes[:200], 3),
        np.tile(names[:200], 3),
        splits=splits,
    )[0]
    once = mean_class_intervals(right[None, :200], classes[:200], names[:200])[0]
    assert again == pytest.approx(once, abs=1e-9)
    # A split counts as much as another one of more videos: 0 of 2 and 500 of 500.
    uneven = np.repeat([0, 1], [2, 500])
    low, high = mean_class_intervals((uneven == 1)[None], 0 * uneven, splits=uneven)[0]
    assert low == 0.5
    assert high == 1.0  # neither of the two was drawn


def test_calibration_by_hand():
    scores = np.array([0.0, 0.2, 0.2, 0.55, 0.6, 0.95, 1.0, 1.0])
    correct = np.array([False, True, False, True, False, True, True, True])
    found = calibration(scores, correct, n_bins=5)
    assert found.n.tolist() == [3, 0, 2, 0, 3]
    assert found.confidence == pytest.approx([0.4 / 3, 0, 0.575, 0, 2.95 / 3])
    assert found.accuracy == pytest.approx([1 / 3, 0, 0.5, 0, 1])
    by_hand = (abs(0.4 - 1) + abs(1.15 - 1) + abs(2.95 - 3)) / 8
    assert found.error == pytest.approx(by_hand)


def test_many_groups_take_little_memory_and_time():
    correct = np.tile([True, False, True], 40_000)
    interval = accuracy_interval(correct, np.arange(120_000) // 2)
    assert interval == pytest.approx((2 / 3, 2 / 3), abs=0.01)
