"""Where frames are while they are not complete."""

import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock

from r3d.files import hold_lock
from r3d.frames.stores.base import PARTIAL, writing
from r3d.frames.stores.durable import sync_filesystem

_DAYS_UNTIL_ABANDONED = 7


@contextmanager
def partial_folder(store: Path) -> Iterator[Path]:
    """A folder in .partial inside the store for what is not complete yet, removed at the end.

    Those that dead processes left behind are removed too. A process holds a lock on a file beside
    its folder, which the system releases however it ends.
    """
    root = store / PARTIAL
    folder = root / f"{os.getpid()}-{secrets.token_hex(4)}@{socket.gethostname()}"
    # The lock is taken before it has the name by which others find it.
    unlocked = folder.with_name(f"{folder.name}.new")
    with writing(store):
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        lock = hold_lock(unlocked, optional=True)  # without it, nobody removes what is left
        unlocked.touch()
    with lock:
        try:
            with writing(store):
                unlocked.rename(_lock_file(folder))
                folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for path in (unlocked, _lock_file(folder)):
                path.unlink(missing_ok=True)


@contextmanager
def filling(store: Path) -> Iterator[Callable[[], Path]]:
    """Yield what gives the one `partial_folder` of the block, made when it is first asked for.

    So a store to which nothing is added may be read-only. At the end what was added is on the disk:
    what is then written about it remains true after a loss of power.

    >>> with filling(store) as partial:
    ...     with open_store(store).writer(partial() / "0") as writer:
    ...         ...
    """
    with suppress(OSError):
        _remove_abandoned(store / PARTIAL)
    lock = Lock()
    folders: list[Path] = []
    with ExitStack() as stack:

        def folder() -> Path:
            with lock:
                if not folders:
                    folders.append(stack.enter_context(partial_folder(store)))
            return folders[0]

        yield folder
    if folders:
        with writing(store):
            sync_filesystem(store)


def _remove_abandoned(root: Path) -> None:
    for lock_file in root.glob("*.lock"):
        with suppress(OSError):  # a live process holds it, or another has just removed it
            # Not every network file system passes locks on to other machines.
            ours = lock_file.stem.partition("@")[2] == socket.gethostname()
            age_days = (time.time() - lock_file.stat().st_mtime) / 86_400
            if not ours and age_days < _DAYS_UNTIL_ABANDONED:
                continue
            with hold_lock(lock_file):
                shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                lock_file.unlink()


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
