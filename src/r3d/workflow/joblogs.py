"""What the log of a job says at its end."""

import re
from dataclasses import dataclass
from pathlib import Path

_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
"""What messages begin with; other lines are a traceback, or come from a library."""

STATE_SAVED = "the state is saved"
"""What a training that was stopped says last."""

_ERROR = "error: "
_TRACEBACK = "Traceback (most recent call last)"
_TAIL_BYTES = 16384


@dataclass(frozen=True)
class Ending:
    """The end of a log.

    lines: its last message without the time, or all last ones where several say what is wrong.
    failed: whether they say so.
    """

    lines: list[str]
    failed: bool


def ending(log: Path, *, most_lines: int = 6) -> Ending:
    """The end of a log, of no lines if there is none."""
    lines = _tail(log)
    begins = [number for number, line in enumerate(lines) if _STAMP.match(line)]
    if begins:
        last = len(begins) - 1
        while last > 0 and all(_says_error(lines[begins[i]]) for i in (last - 1, last)):
            last -= 1
        lines = [_STAMP.sub("", line, count=1) for line in lines[begins[last] :]]
    if any(_TRACEBACK in line for line in lines):
        return Ending(lines[-most_lines:], failed=True)
    errors = [line for line in lines if line.startswith(_ERROR)]
    if errors:
        more = len(errors) - most_lines
        shown = errors[:most_lines] + ([f"and {more} more in the log"] if more > 0 else [])
        return Ending(shown, failed=True)
    return Ending(lines[-most_lines:], failed=False)


def _says_error(line: str) -> bool:
    return _STAMP.sub("", line, count=1).startswith(_ERROR)


def _tail(path: Path) -> list[str]:
    """The last lines of a file, blank ones left out."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]
