"""What an examination found: each finding with its severity, and what to do."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from r3d.errors import InputError
from r3d.files import AnyPath, atomic_path

_log = logging.getLogger(__name__)

Severity = Literal["error", "warning", "note"]
"""error: a step would stop, or give something useless. warning: results would be less than they
look. note: good to know."""

EXIT_STATUS: dict[Severity, int] = {"note": 0, "warning": 1, "error": 2}

_FIRST_FEW = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    check: one word for the kind of finding; docs/doctor.md explains each.
    where: the data set, the split or the experiment that it concerns.
    text: what is wrong, in a sentence.
    remedy: what to do about it; "" for notes that ask for nothing.
    examples: the first few of what it is about.
    """

    severity: Severity
    check: str
    where: str
    text: str
    remedy: str = ""
    examples: tuple[str, ...] = ()


@dataclass
class Report:
    """All findings, and the figures of each data set."""

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(
        self,
        severity: Severity,
        check: str,
        where: str,
        text: str,
        remedy: str = "",
        examples: Iterable[str] = (),
    ) -> None:
        shown = [_shown(example) for example, _ in zip(examples, range(_FIRST_FEW), strict=False)]
        finding = Finding(severity, check, where, _shown(text), _shown(remedy), tuple(shown))
        if finding not in self.findings:
            self.findings.append(finding)

    @property
    def severity(self) -> Severity:
        """The gravest severity of all findings; "note" without any."""
        return max((f.severity for f in self.findings), key=EXIT_STATUS.__getitem__, default="note")

    @property
    def exit_status(self) -> int:
        """0 with notes at most, 1 with warnings, 2 with errors."""
        return EXIT_STATUS[self.severity]

    def raise_errors(self) -> None:
        """Do nothing unless there are errors.

        Raises:
            InputError: naming the first of them.
        """
        errors = [finding for finding in self.findings if finding.severity == "error"]
        if errors:
            first = errors[0]
            raise InputError(
                f"{len(errors)} errors, the first: {first.where}: {first.check}: {first.text}"
            )

    def text(self) -> str:
        """The findings for a person, the gravest first, and how many there are."""
        lines = []
        for finding in sorted(self.findings, key=lambda f: -EXIT_STATUS[f.severity]):
            lines.append(f"{finding.severity}: {finding.where}: {finding.check}: {finding.text}")
            if finding.examples:
                lines.append(f"    for example: {', '.join(finding.examples)}")
            if finding.remedy:
                lines.append(f"    what to do: {finding.remedy}")
        counts = Counter(finding.severity for finding in self.findings)
        total = [f"{counts[s]} {s}{'s' * (counts[s] != 1)}" for s in reversed(EXIT_STATUS)]
        return "\n".join([*lines, ", ".join(total)]) + "\n"

    def json(self) -> str:
        """All of it for a program."""
        content = {
            "severity": self.severity,
            "exit_status": self.exit_status,
            "findings": [asdict(finding) for finding in self.findings],
            "datasets": self.datasets,
        }
        return json.dumps(content, indent=1) + "\n"

    def save(self, path: AnyPath) -> None:
        """Write `json` to a file."""
        with atomic_path(path) as partial:
            partial.write_text(self.json(), encoding="utf-8")
        _log.info("%s: %d findings", path, len(self.findings))


def _shown(text: str) -> str:
    """A text that no terminal takes for commands, whatever the name of a file holds."""
    return text if text.isprintable() else ascii(text)[1:-1]
