"""What can be chosen of frames, and their two layouts: known without opening any file."""

from typing import Literal

FileType = Literal["jpg", "hdf5"]
"""A JPEG file a frame, or an HDF5 file of JPEGs a video (`r3d.frames.stores`)."""

FIRST_FRAME: dict[FileType, int] = {"jpg": 1, "hdf5": 0}
"""The number of a video's first frame."""

Colour = Literal["converted", "as_reference"]
"""What becomes of sources whose colours are not those of JPEG (`r3d.frames.selection`)."""
