"""What came out of tuning: the settings to take, the figures, and the config file with both."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from r3d.compute.machine import machine
from r3d.files import atomic_path

# What a change of an option does besides making things faster.
_EFFECTS = {
    "precision": (
        "changes the rounding of training and inference, and so the trained weights: a finished",
        "training is run again with it. What it does to the accuracy is not measured here.",
    ),
    "accumulate_steps": (
        "takes the batch-norm statistics from each part, as so many GPUs would, which changes the",
        "trained weights: a finished training is run again with it. The batch stays as it is.",
    ),
    "inference_batch_size": ("changes no result beyond rounding.",),
    "n_threads": ("changes no result.",),
    "memory_format": ("changes no result beyond rounding.",),
    "compile": ("changes no result beyond rounding.",),
}

_log = logging.getLogger(__name__)


@dataclass
class Tuned:
    """The result of tuning.

    Attributes:
        device: what was tuned for, in words.
        changes: the options that gain, or that memory demands.
        reasons: what was measured, for each of them.
        kept: what was measured where nothing gained.
        notes: what else there is to say.
    """

    device: str
    changes: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, option: str, value: Any, reasons: Sequence[str]) -> None:
        """Change an option."""
        self.changes[option] = value
        self.reasons[option] = [*self.reasons.get(option, []), *reasons]

    def keep(self, reasons: Sequence[str]) -> None:
        """Leave an option as it is."""
        self.kept += reasons

    def drop(self, option: str) -> None:
        """Leave an option as it is after all, for it did not gain together with the others."""
        del self.changes[option]
        self.keep([*self.reasons.pop(option), "  not taken, as the whole does not gain:"])

    def note(self, text: str) -> None:
        """Say something, now and in the end."""
        _log.info("  %s", text)
        self.notes.append(text)

    def save(self, path: Path, section: Sequence[str], title: Sequence[str]) -> None:
        """Write a config file with the changes, and the figures as comments.

        Args:
            path: the file.
            section: the keys under which the options stand, as `experiments`, `scratch`.
            title: lines that say what the file is.
        """
        versions = ", ".join(f"{name} {version(name)}" for name in ("r3d", "torch"))
        header = [
            *title,
            f"Measured on {date.today()} on {machine()};",
            f"{self.device}; {versions}.",
        ]
        lines = [f"# {line}" for line in header]
        lines += ["", *(f"{'  ' * depth}{key}:" for depth, key in enumerate(section))]
        indent = "  " * len(section)
        if not self.changes:
            lines[-1] += " {}  # nothing gained clearly: the settings stay as they are"
        for option, value in self.changes.items():
            effects = _EFFECTS.get(option, ())
            comment = [*self.reasons[option], *(f"{option} {effects[0]}" for _ in effects[:1])]
            lines += [f"{indent}# {line}" for line in [*comment, *effects[1:]]]
            lines.append(f"{indent}{yaml.safe_dump({option: value}).rstrip()}")
        if self.kept:
            lines += ["", "# Measured, and left as it is:", *(f"#   {line}" for line in self.kept)]
        if self.notes:
            lines += ["", *(f"# Note: {line}" for line in self.notes)]
        with atomic_path(path) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = ", ".join(f"{option}: {value}" for option, value in self.changes.items())
        _log.info("%s: %s", path, settings or "no other settings, as nothing gained clearly")
