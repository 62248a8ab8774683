"""Turns: who is measured when, and what counts as a gain."""

import numpy as np
import pytest

from r3d.tuning.turns import Ratio, ratio, take_turns


def test_variants_alternate():
    seen: list[str] = []
    variants = {name: lambda name=name: float(seen.append(name) or 1) for name in "ab"}
    rates = take_turns(variants, rounds=3)
    assert seen == ["a", "b"] * 3
    assert {name: len(values) for name, values in rates.items()} == {"a": 3, "b": 3}


def test_three_rounds_are_made_whatever_the_time():
    assert len(take_turns({"a": lambda: 1.0}, rounds=7, seconds=0)["a"]) == 3


@pytest.mark.parametrize(
    ("rates", "is_gain"),
    [
        ([1.00, 1.00, 1.00], False),
        ([1.02, 1.02, 1.02], False),
        ([1.05, 1.05, 1.05], True),
        ([0.90, 1.05, 1.20], False),
        ([1.40, 1.50, 1.60], True),
        ([0.50, 0.50, 0.50], False),
    ],
)
def test_a_gain_is_more_than_noise(rates: list[float], is_gain: bool):
    # Both are measured on a machine that gets slower; only ratios within a round count.
    drift = np.array([100.0, 10.0, 1.0])
    measured = {"new": np.array(rates) * drift, "old": drift}
    assert ratio(measured, "new", "old").is_gain is is_gain


def test_a_ratio_reads_as_median_and_quartiles():
    assert str(Ratio(1.0, 1.25, 1.5)) == "1.25 (1.00 to 1.50)"
