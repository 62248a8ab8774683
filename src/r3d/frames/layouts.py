"""The two layouts of frames, which are the reference's: known without opening any file."""

from typing import Literal

FileType = Literal["jpg", "hdf5"]
"""A JPEG file a frame, or an HDF5 file of JPEGs a video (`r3d.frames.stores`)."""

FIRST_FRAME: dict[FileType, int] = {"jpg": 1, "hdf5": 0}
"""The number of a video's first frame."""
