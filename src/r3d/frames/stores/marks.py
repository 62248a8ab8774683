"""Marks beside frames that were met damaged, so that the next extraction looks at them.

<folder>/.damaged/<name>    the damage in one line, of the frames at <folder>/<name>

A mark is a question, not a verdict: the store then checks all frames of the video, and removes the
mark if they are right (`FrameStore.record`), or once they are made anew.
"""

from contextlib import suppress
from pathlib import Path

DAMAGED = ".damaged"
"""The folder with the marks of all frames in a folder."""


def mark(path: Path, reason: str) -> bool:
    """Mark the frames at a path; say whether that was possible."""
    place = _place(path)
    try:
        place.parent.mkdir(exist_ok=True, parents=True)
        place.write_text(f"{reason}\n", encoding="utf-8")
    except OSError:
        return False
    return True


def is_marked(path: Path) -> bool:
    try:
        return _place(path).exists()
    except OSError:
        return False


def unmark(path: Path) -> None:
    place = _place(path)
    with suppress(OSError):
        place.unlink()
        place.parent.rmdir()  # if it was the last one


def marked_names(folder: Path) -> set[str]:
    """The names of what is marked in a folder."""
    try:
        return {path.name for path in (folder / DAMAGED).iterdir()}
    except OSError:
        return set()


def _place(path: Path) -> Path:
    return path.parent / DAMAGED / path.name
