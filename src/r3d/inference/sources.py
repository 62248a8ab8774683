"""Which videos a person means: files, folders, patterns and a list on standard input."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from r3d.errors import reason_of
from r3d.lists.base import VIDEO_EXTENSIONS

STANDARD_INPUT = "-"


def find_videos(given: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The video files that are meant, and a line for each thing that means none.

    A file is taken whatever its name; a folder stands for the videos in it, by their endings, at
    any depth; a pattern for what it matches, as in a shell (`**` for any depth); and `-` for what
    standard input lists: a path a line, or each ended by a null byte. What is not there is taken
    for a file. What is given twice is taken once.
    """
    videos: dict[Path, None] = {}
    problems: list[str] = []
    for text in given:
        listed = _listed() if text == STANDARD_INPUT else [text]
        if not listed:
            problems.append("standard input: lists no video; accepted: a path a line")
        if not text:  # an unset variable of a script, which Path would take for this folder
            problems.append("'': an empty name is no video; accepted: files, folders, patterns, -")
            continue
        for path in (path for one in listed for path in _matches(one)):
            if _is_folder(path):
                found = list(_in_folder(path, problems))
                videos.update(dict.fromkeys(found))
                if not found:
                    problems.append(
                        f"{path}: no video in this folder; a video ends in one of "
                        f"{' '.join(VIDEO_EXTENSIONS)}"
                    )
            else:
                videos[path] = None
    return list(videos), problems


def videos_below(folder: Path) -> Iterator[Path]:
    """The videos in a folder at any depth, one by one; none of what cannot be read."""
    return _in_folder(folder, [])


def _listed() -> list[str]:
    """The paths on standard input, of any bytes."""
    data = sys.stdin.buffer.read()
    lines = data.split(b"\0") if b"\0" in data else data.replace(b"\r\n", b"\n").split(b"\n")
    return [os.fsdecode(line) for line in lines if line.strip()]


def _matches(text: str) -> list[Path]:
    """The path, or the paths that a pattern matches; a file of that very name comes first."""
    if not glob.has_magic(text) or "\0" in text or os.path.lexists(text):
        return [Path(text)]
    names = glob.glob(text, recursive=True)  # noqa: PTH207  (may be absolute)
    return sorted(path for path in map(Path, names) if not _through_link(path, text)) or [
        Path(text)
    ]


def _through_link(path: Path, pattern: str) -> bool:
    """Whether `**` went through a link to a folder, which may lead round in circles."""
    if "**" not in pattern:
        return False
    return any(
        folder.is_symlink() and not pattern.startswith(f"{folder}/") for folder in path.parents
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, say: whoever opens it says so
        return False


def _in_folder(folder: Path, problems: list[str]) -> Iterator[Path]:
    """The videos in a folder, sorted; hidden files and folders are left alone."""

    def tell(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read: {reason_of(error)}")

    for place, folders, files in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_EXTENSIONS:
                yield Path(place, name)
