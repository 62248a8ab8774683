"""Keeping two workflows from filling one folder at the same time."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from r3d.errors import InputError, reason_of
from r3d.files import AnyPath, hold_lock

_NAME = ".r3d.lock"


def hold_folders(
    results: AnyPath, filled: Iterable[AnyPath]
) -> list[AbstractContextManager[object]]:
    """Hold the folders that a workflow fills, made if absent, until this process ends.

    Unlike the lock of Snakemake, which is for all that runs in one working folder, these are for
    the folders themselves, from wherever they are used, and end with the process, however it ends.

    Args:
        results: the folder of the results.
        filled: other folders. One that cannot be written is not held: nobody fills it.

    Raises:
        InputError: if another workflow holds one of them, or the results cannot be written.
    """
    # A folder may have several names in a config; a second lock on it would wait for the first.
    others = {Path(folder).resolve(): Path(folder) for folder in filled}
    others.pop(Path(results).resolve(), None)
    try:
        held = [_hold(Path(results))]
    except OSError as error:
        raise InputError(
            f"results: {str(results)!r} cannot be written: {reason_of(error)}; make room or rights "
            "there, or give another folder"
        ) from None
    # In one order everywhere, so that of two that want the same folders the first gets them all.
    for _, folder in sorted(others.items()):
        try:
            held.append(_hold(folder))
        except OSError:
            continue
    return held


def _hold(folder: Path) -> AbstractContextManager[object]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return hold_lock(folder / _NAME)
    except TimeoutError:
        raise InputError(
            f"another snakemake is at work in {folder}; wait for it, stop it, or give this config "
            "another folder"
        ) from None
