"""Settings that take turns: which of them is the fastest, and whether it clearly gains."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from r3d.errors import InputError
from r3d.tuning.fitting import free
from r3d.tuning.trials import Trial
from r3d.tuning.turns import Rates, ratio, take_turns

LONGEST_TURN_SECONDS = 5.0

_ROUNDS = 7
_LONG_SECONDS = 20  # of preparation, to be told of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """Rates of variants that took turns, by name.

    Attributes:
        what: what was done, as in "training step by precision".
        baseline: the variant that the others have to be faster than.
        preparing: seconds before the first turn of each, as a compiler needs.
        refused: why further variants have no rates.
    """

    what: str
    baseline: str
    rates: Rates
    preparing: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def fastest(self, names: Iterable[str] | None = None, *, over: str | None = None) -> str:
        """The fastest variant of those that clearly gain over another one, else that one.

        Args:
            names: those to choose from; all by default.
            over: the one to be faster than; the baseline by default.
        """
        over = over or self.baseline
        gaining = [name for name in names or self.rates if ratio(self.rates, name, over).is_gain]
        return max(gaining, key=self.median, default=over)

    def median(self, name: str) -> float:
        """The clips a second of a variant."""
        return float(np.median(self.rates[name]))

    def lines(self) -> list[str]:
        """What was measured, for reading."""
        lines = [f"{self.what}, clips/s in the median of {len(self.rates[self.baseline])} rounds:"]
        for name in self.rates:
            times = 1 if name == self.baseline else ratio(self.rates, name, self.baseline)
            lines.append(f"  {name}: {self.median(name):.4g}, x {times}")
            if self.preparing.get(name, 0) > _LONG_SECONDS:
                lines[-1] += f", after {self.preparing[name]:.0f} s of preparation"
        return lines + [f"  {name}: {reason}" for name, reason in self.refused.items()]


def compare(
    what: str, variants: Mapping[str, Callable[[], Trial]], *, baseline: str, seconds: float
) -> Comparison:
    """Let variants take turns for so many seconds, about; tell what comes out on the way.

    A variant that does not work on this machine is refused, and the baseline has to.

    Args:
        what: what is done, in words.
        variants: makes the trial of each.
        baseline: the variant that the others have to be faster than.

    Raises:
        InputError: if the loss of the baseline is not finite.
    """
    _log.info("%s: %s (%.0f s)", what, " | ".join(variants), seconds)
    # A turn in each of five rounds, and as long again before the first one.
    turn_seconds = min(LONGEST_TURN_SECONDS, seconds / (6 * len(variants)))
    begin = time.monotonic()
    trials: dict[str, Trial] = {}
    preparing: dict[str, float] = {}
    refused: dict[str, str] = {}
    for name, make in variants.items():
        prepared = time.monotonic()
        try:
            trials[name] = make()
            trials[name].prepare(turn_seconds)
        except (RuntimeError, InputError) as error:  # no memory, or nothing to compile with
            if name == baseline:
                raise
            trials.pop(name, None)
            refused[name] = f"does not work here ({_reason(error)})"
            free()
        preparing[name] = time.monotonic() - prepared
    left = seconds - (time.monotonic() - begin)
    turns = {name: trial.turn for name, trial in trials.items()}
    rates = take_turns(turns, rounds=_ROUNDS, seconds=left)
    for name in [name for name in rates if not rates[name].all()]:
        if name == baseline:
            raise InputError(f"{what}: {name}: the loss is not finite; set precision: fp32")
        refused[name] = "the loss is not finite"
        del rates[name]
    del trials, turns
    free()
    comparison = Comparison(what, baseline, rates, preparing, refused)
    for line in comparison.lines()[1:]:
        _log.info("%s", line)
    return comparison


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "not enough memory"
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
