"""Making sure that what was written outlives a loss of power."""

import ctypes
import os
from pathlib import Path


def sync_filesystem(folder: Path) -> None:
    """Wait until all that was written to the file system of a folder is on the disk.

    For many small files: to wait for each takes a hundred times as long.
    """
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # only Linux has it
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
