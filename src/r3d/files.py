"""Files: read with one-line errors, written so that no reader sees half of one, and locked."""

import errno
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock

from r3d.errors import InputError, WriteError, reason_of

AnyPath = str | os.PathLike[str]
"""A path as a person writes it."""


@contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an exception.

    The temporary file lies in the same folder (made if absent) and keeps the file extension, so
    that writers that choose their format by extension work.

    >>> with atomic_path("results/summary.tsv") as partial:
    ...     partial.write_text("...")

    Raises:
        WriteError: if the place cannot be written, be it a full disk or a folder that is gone.
    """
    with writing(path), _replaced(Path(path)) as partial:
        yield partial


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem[:100]}.", suffix=path.suffix, dir=path.parent
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp makes the file private; the result gets the permissions of an ordinary new file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# What hinders a program to write a file or folder, and what a person can do about it.
_ELSEWHERE = "or choose another place"
_NO_RIGHT = f"give this user the right to it, {_ELSEWHERE}"
_FAULTY = f"see to the disk or its connection and start again, {_ELSEWHERE}"
_OBSTACLES = {
    errno.ENOSPC: f"make room there, {_ELSEWHERE}",
    errno.EDQUOT: f"make room within your quota, {_ELSEWHERE}",
    errno.EFBIG: f"raise the limit on the size of a file (ulimit -f), {_ELSEWHERE}",
    errno.EROFS: _NO_RIGHT,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EISDIR: "give the path of a file",
    errno.EEXIST: "give another path, or remove what is there",
    errno.ENOTDIR: "give a path below folders only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "give a path without a circle of links",
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT),
        _FAULTY,
    ),
}


def obstacle(error: BaseException | None) -> OSError | None:
    """The fault of disk, rights or path in which an exception has its cause; None if there is none.

    A file that is not there is none of them: that may well be a fault of the program.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OBSTACLES:
            return error
        error = error.__cause__ or error.__context__
    return None


def obstacle_line(error: OSError) -> str:
    """What hinders, and what to do about it: `No space left on device; make room there, ...`."""
    return f"{reason_of(error)}; {_OBSTACLES[error.errno or 0]}"


@contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Make an obstacle to writing `path` the person's business: it is no fault of the program.

    Raises:
        WriteError: naming the path, what hinders, and what to do.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        folder = Path(path).parent
        if folder.is_dir():
            raise
        raise WriteError(
            f"{os.fspath(path)}: cannot be written: the folder {folder} is gone; start again, "
            "and leave it while this runs"
        ) from None
    except Exception as error:
        found = obstacle(error)
        if found is None:
            raise
        kept = "; what was there before is kept" if _is_file(Path(path)) else ""
        raise WriteError(
            f"{os.fspath(path)}: cannot be written: {obstacle_line(found)}{kept}"
        ) from error


def need_writable(path: AnyPath, *, folder: bool = False) -> None:
    """Refuse an output that could not be written in the end; nothing is made or changed.

    Args:
        folder: whether it is a folder that may hold things already, not a file.

    Raises:
        WriteError: naming the path and what is in the way.
    """
    path = Path(path)
    here = path.absolute()
    try:
        if not folder and _exists(here) and not here.is_file():
            kind = "a folder" if here.is_dir() else "no ordinary file"
            remedy = (
                f"give the path of a file, such as {path / 'NAME'}"
                if here.is_dir()
                else ("give the path of a file")
            )
            raise WriteError(f"{path}: cannot be written: it is {kind}; {remedy}")
        if not folder:
            here = here.parent
        while not _exists(here):
            here = here.parent
    except OSError as error:
        if obstacle(error) is None:
            raise
        raise WriteError(f"{path}: cannot be written: {obstacle_line(error)}") from None
    if not here.is_dir():
        where = "it is a file" if here == path.absolute() else f"{here} is a file"
        raise WriteError(f"{path}: cannot be written: {where}; give a path below folders only")
    if not os.access(here, os.W_OK | os.X_OK):
        raise WriteError(
            f"{path}: cannot be written: {here} is read-only for this user; {_NO_RIGHT}"
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the disk that cannot be written may not be readable either
        return False


def _exists(path: Path) -> bool:
    """Whether something is there; a file on the way to it counts as nothing there."""
    try:
        return bool(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def hold_lock(path: AnyPath, *, wait_seconds: float = 0) -> AcquireReturnProxy:
    """Hold a lock on a file, made if absent; the kernel lets go when the process ends.

    >>> with hold_lock("results/.lock"):
    ...     ...

    Raises:
        TimeoutError: if another process holds it and does not let go in time.
    """
    return FileLock(path).acquire(timeout=wait_seconds)


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark.

    Raises:
        InputError: if the file cannot be read, or naming the line that is not UTF-8.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}, line {line}: byte 0x{data[error.start]:02x} at position {error.start} "
            "is not UTF-8; save the file as UTF-8 text"
        ) from None


def read_json(file: Path, *, unique_keys: bool = False) -> Any:
    """Read a JSON file; with `unique_keys`, refuse an object that repeats a key.

    Raises:
        InputError: naming the line that is not valid, or the key that is repeated.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            uses = Counter(name for name, _ in pairs)
            twice = next(name for name, n in uses.items() if n > 1)
            raise InputError(f"{file}: {twice!r} occurs twice; every key may occur once")
        return result

    text = read_text(file)
    _refuse_half_characters(file, text)
    try:
        return json.loads(text, object_pairs_hook=unique if unique_keys else None)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(
            f"{file}: lists and objects are nested too deeply to be read; expected a few levels"
        ) from None
    except ValueError:  # of Python's own limit on the digits of an integer
        digits = sys.get_int_max_str_digits()
        found = re.search(rf"\d{{{digits + 1},}}", text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise InputError(
            f"{file}, line {line}: a number of more than {digits} digits; expected numbers as "
            "they occur in videos"
        ) from None


# An escape in JSON: two halves of a character that belong together, half of one alone, any other.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def _refuse_half_characters(file: Path, text: str) -> None:
    """JSON can spell surrogates one by one, which no file name and no UTF-8 text can hold."""
    if not re.search(r"\\u[dD][89a-fA-F]", text):
        return
    for match in _ESCAPE.finditer(text):
        if match[1]:
            line = text.count("\n", 0, match.start()) + 1
            raise InputError(
                f"{file}, line {line}: {match[0]} is half of a character (a lone surrogate); "
                "write the text in UTF-8 or its escapes in pairs"
            )
