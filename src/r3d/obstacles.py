"""What hinders writing, a full disk above all: told from faults of the program, with what to do."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r3d.errors import InputError, WriteError, reason_of

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
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
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
            if not _takes_no_files(folder):
                raise
            raise _no_place(path, folder) from None
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the disk that cannot be written may not be readable either
        return False


def need_writable(path: str | os.PathLike[str], *, folder: bool = False) -> None:
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
    if _takes_no_files(here):
        raise _no_place(path, here)


def _takes_no_files(folder: Path) -> bool:
    """Whether the kernel shows its own things there, as in /proc, and lets nobody add to them.

    Rights do not tell: they are granted to the superuser.
    """
    try:
        if os.statvfs(folder).f_blocks:
            return False
        with tempfile.TemporaryFile(dir=folder):  # some network file systems tell of no blocks
            return False
    except OSError:
        return True


def _no_place(path: str | os.PathLike[str], folder: Path) -> WriteError:
    return WriteError(
        f"{os.fspath(path)}: cannot be written: {folder} takes no files; choose another place"
    )


def _exists(path: Path) -> bool:
    """Whether something is there; a file on the way to it counts as nothing there."""
    try:
        return bool(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
