"""Files: read with one-line errors, written so that no reader sees half of one, and locked."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from r3d.errors import InputError

AnyPath = str | os.PathLike[str]
"""A path as a person writes it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an exception.

    The temporary file lies in the same folder (made if absent) and keeps the file extension, so
    that writers that choose their format by extension work.

    >>> with atomic_path("results/summary.tsv") as partial:
    ...     partial.write_text("...")
    """
    path = Path(path)
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
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{file}: {twice!r} occurs twice; every key may occur once")
        return result

    text = read_text(file)
    try:
        return json.loads(text, object_pairs_hook=unique if unique_keys else None)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: not valid JSON: {error.msg}") from None
