"""Variants that take turns, so that a noisy machine does not decide which is the fastest.

A round is one turn of each variant. What counts is the ratio of two rates in the same round.
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Rates = dict[str, np.ndarray]

_LEAST_ROUNDS = 3
_LEAST_GAIN = 0.03


class Ratio(NamedTuple):
    """How many times the rate of a baseline: the median over the rounds, and the quartiles."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def is_gain(self) -> bool:
        """Whether the gain is 3 % or more, and more than what the rounds differ by.

        >>> Ratio(1.08, 1.10, 1.12).is_gain, Ratio(1.02, 1.10, 1.18).is_gain
        (True, False)
        """
        return self.middle - 1 >= max(_LEAST_GAIN, self.high - self.low)


def take_turns(
    variants: Mapping[str, Callable[[], float]], *, rounds: int, seconds: float = float("inf")
) -> Rates:
    """Let each variant in turn do some work and say at which rate it did, `rounds` times.

    Args:
        seconds: no further round is begun after this time, except for the first three.

    Returns:
        The rates of each variant, (rounds,).
    """
    begin = time.monotonic()
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for done in range(rounds):
        if done >= _LEAST_ROUNDS and time.monotonic() - begin > seconds:
            break
        for name, run in variants.items():
            rates[name].append(run())
    return {name: np.array(values) for name, values in rates.items()}


def ratio(rates: Rates, name: str, baseline: str) -> Ratio:
    """The rate of a variant by that of the baseline, over the rounds."""
    return Ratio(*np.percentile(rates[name] / rates[baseline], [25, 50, 75]).tolist())
