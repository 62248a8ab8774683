"""The frame stores: where the frames of videos lie as JPEGs, and how they get there whole.

A layout is one module here and one entry of `_STORES`.
"""

from pathlib import Path

from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.layouts import FileType
from r3d.frames.stores.base import FrameStore, FrameWriter, NameRefused, VideoRecord
from r3d.frames.stores.hdf5 import Hdf5Store
from r3d.frames.stores.jpg import JpgStore
from r3d.frames.stores.partial import filling, partial_folder

__all__ = [
    "FrameStore",
    "FrameWriter",
    "Hdf5Store",
    "JpgStore",
    "NameRefused",
    "VideoRecord",
    "filling",
    "open_store",
    "partial_folder",
]

_STORES: dict[FileType, type[FrameStore]] = {"jpg": JpgStore, "hdf5": Hdf5Store}


def open_store(folder: AnyPath, file_type: FileType = "jpg", *, lent: bool = False) -> FrameStore:
    """The store in a folder, of the layout "jpg" or "hdf5".

    Args:
        lent: whether nothing may be noted down in it, such as how many frames were counted.

    >>> import r3d
    >>> store = r3d.open_store("frames", "jpg")
    >>> record = store.record("left/v_left_g01_c01")
    >>> record.status, record.frames
    ('ok', 32)
    >>> jpegs = store.read("left/v_left_g01_c01", [1, 2])
    """
    if file_type not in _STORES:
        raise InputError(f"file_type: {file_type!r} is not one of {', '.join(_STORES)}")
    return _STORES[file_type](Path(folder), lent=lent)
