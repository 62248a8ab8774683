"""Where the JPEGs in an HDF5 file lie, noted behind its end, to read them without HDF5.

To open such a file and find frames in its heaps takes HDF5 several times as long as to read them.
So the writer appends what HDF5 would find out. HDF5 ignores what is behind the end that its
superblock states; when it changes a file it cuts it there or writes on, so that an index is gone
rather than wrong.

    the file of HDF5 | offset (uint64), length (uint32) of each frame | their number (uint64) | mark

All integers are little-endian.
"""

import os
import struct
from collections.abc import Sequence

import h5py
import numpy as np

_MARK = b"R3Dindex"
_START_OF_IMAGE = b"\xff\xd8"  # the first bytes of a JPEG
_TRAILER = struct.Struct("<Q8s")
_PLACE = np.dtype([("offset", "<u8"), ("length", "<u4")])

# HDF5 File Format Specification: an element of variable length refers to an object in the global
# heap (III.E, VIII.C); a collection of that heap is a header and objects, each with a header.
_REFERENCE = np.dtype([("length", "<u4"), ("collection", "<u8"), ("object", "<u4")])
_SIGNATURE = b"GCOL"
_COLLECTION = struct.Struct("<8xQ")
_OBJECT = struct.Struct("<HH4xQ")
_ALIGNMENT = 8


def frame_index(image: bytes, frames: h5py.Dataset) -> bytes:
    """What to append to a file for `read_indexed`; nothing, should frames be stored another way.

    Args:
        image: the file, as HDF5 wrote it.
        frames: its vector of JPEGs, in chunks.
    """
    places = np.empty(len(frames), _PLACE)
    collections: dict[int, dict[int, int]] = {}
    (step,) = frames.chunks
    for begin in range(0, len(frames), step):
        _, chunk = frames.id.read_direct_chunk((begin,))
        references = np.frombuffer(chunk, _REFERENCE)[: len(frames) - begin]
        for i, (length, collection, number) in enumerate(references.tolist(), begin):
            if collection not in collections:
                collections[collection] = _objects(image, collection)
            if number not in collections[collection]:
                return b""
            places[i] = collections[collection][number], length
    return places.tobytes() + _TRAILER.pack(len(frames), _MARK)


def read_indexed(path: str | os.PathLike[str], indices: Sequence[int]) -> list[bytes] | None:
    """The frames with these numbers, from 0; None where no index leads to all of them.

    Raises:
        OSError: if the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END) - _TRAILER.size
        if end < 0:
            return None
        n, mark = _TRAILER.unpack(os.pread(descriptor, _TRAILER.size, end))
        first, last = min(indices), max(indices)
        begin = end - n * _PLACE.itemsize
        if mark != _MARK or begin < 0 or first < 0 or last >= n:
            return None
        span = os.pread(
            descriptor, (last + 1 - first) * _PLACE.itemsize, begin + first * _PLACE.itemsize
        )
        places = np.frombuffer(span, _PLACE)[np.subtract(indices, first)].tolist()
        jpegs = []
        for offset, length in places:
            if offset + length > begin:
                return None
            jpeg = os.pread(descriptor, length, offset)
            # Someone may have put bytes before the file, which HDF5 copes with.
            if len(jpeg) != length or not jpeg.startswith(_START_OF_IMAGE):
                return None
            jpegs.append(jpeg)
    finally:
        os.close(descriptor)
    return jpegs


def _objects(image: bytes, collection: int) -> dict[int, int]:
    """Where the data of the objects of a heap collection begin, by the number of the object."""
    if not image.startswith(_SIGNATURE, collection):
        return {}
    (size,) = _COLLECTION.unpack_from(image, collection)
    starts = {}
    position = collection + _COLLECTION.size
    while position + _OBJECT.size <= collection + size:
        number, _, length = _OBJECT.unpack_from(image, position)
        if number == 0:  # the free space at the end
            break
        position += _OBJECT.size
        starts[number] = position
        position += -(-length // _ALIGNMENT) * _ALIGNMENT
    return starts
