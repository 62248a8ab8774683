"""The frame stores: where the frames of videos lie as JPEGs, and how they get there whole.

A layout is one module here and one entry of `_STORES`.
"""

from pathlib import Path

from r3d.frames.layouts import FileType
from r3d.frames.stores.base import FrameStore, FrameWriter, VideoRecord
from r3d.frames.stores.hdf5 import Hdf5Store
from r3d.frames.stores.jpg import JpgStore
from r3d.frames.stores.partial import partial_folder

__all__ = [
    "FrameStore",
    "FrameWriter",
    "Hdf5Store",
    "JpgStore",
    "VideoRecord",
    "open_store",
    "partial_folder",
]

_STORES: dict[FileType, type[FrameStore]] = {"jpg": JpgStore, "hdf5": Hdf5Store}


def open_store(folder: Path, file_type: FileType) -> FrameStore:
    """The store in a folder, of the layout "jpg" or "hdf5"."""
    return _STORES[file_type](folder)
