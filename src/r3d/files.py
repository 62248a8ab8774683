"""Files: read with one-line errors, written so that no reader sees half of one, and locked."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from r3d.errors import InputError, shown
from r3d.obstacles import writing

AnyPath = str | os.PathLike[str]
"""A path as a person writes it."""

_ABANDONED_SECONDS = 24 * 3600
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_handles: set[int] = set()  # of the temporary files that this process writes


def _let_go() -> None:
    """Close the handles that a fork has inherited: it would hold their locks beyond its parent."""
    while _handles:
        os.close(_handles.pop())


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def atomic_path(path: AnyPath, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an exception.

    The temporary file lies in the same folder (made if absent) and keeps the file extension, so
    that writers that choose their format by extension work. What a killed writer has left of the
    same file is removed.

    >>> with atomic_path("results/summary.tsv") as partial:
    ...     partial.write_text("...")

    Args:
        durable: whether the content has to be on the disk before the file counts, for results that
            take long to make again: else a machine that loses power may keep an empty file.

    Raises:
        WriteError: if the place cannot be written, be it a full disk or a folder that is gone.
    """
    with writing(path), _replaced(Path(path), durable=durable) as partial:
        yield partial


@contextmanager
def _replaced(path: Path, *, durable: bool) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    handle, partial = _new_partial(path)
    writer = os.getpid()
    try:
        yield partial
        # mkstemp makes the file private; the result gets the permissions of an ordinary new file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        if durable:
            _to_disk(partial)
        partial.replace(path)
        if durable:
            with suppress(OSError):  # some file systems do not do it for folders
                _to_disk(path.parent)
    finally:
        if os.getpid() == writer:  # and not a fork of it
            _handles.discard(handle)
            os.close(handle)
            partial.unlink(missing_ok=True)


def _new_partial(path: Path) -> tuple[int, Path]:
    """A temporary file for `path`, and the handle that holds its lock as long as it is written."""
    while True:
        handle, name = tempfile.mkstemp(
            prefix=f"{_start(path)}{_machine()}-", suffix=path.suffix, dir=path.parent
        )
        _handles.add(handle)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        _handles.remove(handle)
        os.close(handle)  # taken for an abandoned one before it was locked


def _start(path: Path) -> str:
    """How the names of temporary files of a path begin."""
    return f".{os.fsencode(path.stem)[:100].decode(errors='ignore')}."


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_left_over(path: Path) -> None:
    """Remove temporary files of `path` whose writer is gone: nobody holds their lock.

    Locks are not always seen from other machines: what one of them writes counts as given up only
    when it has not changed for a day.
    """
    start = _start(path)
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start)]
    for name in names:
        rest = name.removeprefix(start)
        if not re.fullmatch(rf"[0-9a-f]{{8}}-\w{{8}}{re.escape(path.suffix)}", rest):
            continue
        partial = path.with_name(name)
        with suppress(OSError):
            handle = os.open(partial, os.O_RDWR)
            try:
                age = time.time() - os.fstat(handle).st_mtime
                if rest.startswith(_machine()) or age > _ABANDONED_SECONDS:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    partial.unlink()
            finally:
                os.close(handle)


@cache
def _machine() -> str:
    """Eight hex digits of the running kernel, whose locks all its processes see."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    return hashlib.sha256(f"{platform.node()} {boot}".encode()).hexdigest()[:8]


def hold_lock(
    path: AnyPath, *, wait_seconds: float = 0, optional: bool = False
) -> AbstractContextManager[object]:
    """Hold a lock on a file, made if absent; the kernel lets go when the process ends.

    >>> with hold_lock("results/.lock"):
    ...     ...

    Args:
        optional: whether to go on without a lock where the file system has none.

    Raises:
        TimeoutError: if another process holds it and does not let go in time.
    """
    try:
        return FileLock(path).acquire(timeout=wait_seconds)
    except OSError as error:
        if not optional or error.errno not in _NO_LOCKS:
            raise
        return nullcontext()


def alone(lock: Path, *, wait_seconds: float) -> AbstractContextManager[object]:
    """Hold a lock if it is to be had in that time, its folder made if absent; else go on without.

    For work that several processes may do, but one would do for all.
    """
    with suppress(OSError, RuntimeError):  # a timeout is an OSError, too
        lock.parent.mkdir(parents=True, exist_ok=True)
        return hold_lock(lock, wait_seconds=wait_seconds, optional=True)
    return nullcontext()


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark.

    Raises:
        InputError: if the file cannot be read, or naming the line that is not UTF-8.
    """
    where = shown(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{where}, line {line}: byte 0x{data[error.start]:02x} at position {error.start} "
            "is not UTF-8; save the file as UTF-8 text"
        ) from None


def read_json(file: Path, *, unique_keys: bool = False) -> Any:
    """Read a JSON file; with `unique_keys`, refuse an object that repeats a key.

    Raises:
        InputError: naming the line that is not valid, or the key that is repeated.
    """

    where = shown(file)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            uses = Counter(name for name, _ in pairs)
            twice = next(name for name, n in uses.items() if n > 1)
            raise InputError(f"{where}: {twice!r} occurs twice; every key may occur once")
        return result

    text = read_text(file)
    _refuse_half_characters(file, text)
    try:
        return json.loads(text, object_pairs_hook=unique if unique_keys else None)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(
            f"{where}: lists and objects are nested too deeply to be read; expected a few levels"
        ) from None
    except ValueError:  # of Python's own limit on the digits of an integer
        digits = sys.get_int_max_str_digits()
        found = re.search(rf"\d{{{digits + 1},}}", text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise InputError(
            f"{where}, line {line}: a number of more than {digits} digits; expected numbers as "
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
    where = shown(file)
    for match in _ESCAPE.finditer(text):
        if match[1]:
            line = text.count("\n", 0, match.start()) + 1
            raise InputError(
                f"{where}, line {line}: {match[0]} is half of a character (a lone surrogate); "
                "write the text in UTF-8 or its escapes in pairs"
            )
