"""Where the JPEGs in an HDF5 file lie, noted behind its end, to read them without HDF5.

To open such a file and find frames in its heaps takes HDF5 several times as long as to read them,
and on a damaged heap it never ends. So the writer appends what HDF5 would find out, and checksums.
HDF5 ignores what is behind the end that its superblock states; when it changes a file it cuts it
there or writes on, so that an index is gone rather than wrong.

    the file of HDF5
    offset (uint64), length (uint32), CRC-32 (uint32) of each frame
    the record of the video, JSON
    number of frames (uint64), bytes of the file of HDF5 (uint64), bytes of the record (uint32),
        CRC-32 (uint32) of the index up to here, mark

Files of before have no record and no checksums in it:

    the file of HDF5 | offset (uint64), length (uint32) of each frame | their number (uint64) | mark

All integers are little-endian.
"""

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import h5py
import numpy as np

_MARK = b"R3Dinde2"
_TRAILER = struct.Struct("<QQII8s")
_PLACE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
_CHECKED_BYTES = _TRAILER.size - 12  # of the trailer, before its checksum
_FORMER_MARK = b"R3Dindex"
_FORMER_TRAILER = struct.Struct("<Q8s")
_FORMER_PLACE = np.dtype([("offset", "<u8"), ("length", "<u4")])
_START_OF_IMAGE = b"\xff\xd8"  # the first bytes of a JPEG
_TAIL_BYTES = 4096  # what is read at once: the whole index of a short video
_MAX_GAP_BYTES = 65_536  # between frames, to be read with them
_MAX_BYTES = 1 << 28  # of a frame, and of an index: what is more was not written by us

# HDF5 File Format Specification: an element of variable length refers to an object in the global
# heap (III.E, VIII.C); a collection of that heap is a header and objects, each with a header.
_REFERENCE = np.dtype([("length", "<u4"), ("collection", "<u8"), ("object", "<u4")])
_SIGNATURE = b"GCOL"
# It states its end in its superblock (II.A), of which version 0 is the one that is written.
_SUPERBLOCK = b"\x89HDF\r\n\x1a\n\0"
_STATED_END_AT = 40
_COLLECTION = struct.Struct("<4s4xQ")
_OBJECT = struct.Struct("<HH4xQ")
_ALIGNMENT = 8


class DamagedFrame(Exception):
    """A frame is not what was written; `index` is its number."""

    def __init__(self, index: int) -> None:
        super().__init__(f"frame {index} is damaged")
        self.index = index


class _Index(NamedTuple):
    """An index by its trailer.

    n: number of frames.
    begin: where it begins in the file.
    place: what it has of a frame; `_PLACE`, or as files of before have it.
    shift: of all places: someone may have put bytes before the file, which HDF5 copes with.
    record_bytes, crc32: length of the record, checksum of the index.
    """

    n: int
    begin: int
    place: np.dtype
    shift: int
    record_bytes: int
    crc32: int


def frame_index(
    descriptor: int, frames: h5py.Dataset, checksums: Sequence[int], record: str
) -> bytes:
    """What to append to a file for `read_indexed`; nothing, should frames be stored another way.

    Args:
        descriptor: of the file, as HDF5 wrote it.
        frames: its vector of JPEGs, in chunks.
        checksums: CRC-32 of each.
        record: of the video, JSON.
    """
    places = np.empty(len(frames), _PLACE)
    places["crc32"] = checksums
    collections: dict[int, dict[int, int]] = {}
    (step,) = frames.chunks
    for begin in range(0, len(frames), step):
        _, chunk = frames.id.read_direct_chunk((begin,))
        references = np.frombuffer(chunk, _REFERENCE)[: len(frames) - begin]
        for i, (length, collection, number) in enumerate(references.tolist(), begin):
            if collection not in collections:
                collections[collection] = _objects(descriptor, collection)
            if number not in collections[collection]:
                return b""
            places[i]["offset"] = collections[collection][number]
            places[i]["length"] = length
    text = record.encode()
    size = os.fstat(descriptor).st_size
    trailer = _TRAILER.pack(len(frames), size, len(text), 0, _MARK)
    body = places.tobytes() + text + trailer[:_CHECKED_BYTES]
    return body + struct.pack("<I8s", crc32(body), _MARK)


def read_indexed(path: str | os.PathLike[str], indices: Sequence[int]) -> list[bytes] | None:
    """The frames with these numbers, from 0; None where no index leads to all of them.

    Raises:
        OSError: if the file cannot be read.
        DamagedFrame: if the index is whole but a frame is not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        index = _parse(tail, size)
        first, last = min(indices), max(indices)
        if index is None or first < 0 or last >= index.n:
            return None
        at = index.begin + first * index.place.itemsize - (size - len(tail))
        length = (last + 1 - first) * index.place.itemsize
        if at >= 0:
            span = tail[at : at + length]
        else:
            span = os.pread(descriptor, length, index.begin + first * index.place.itemsize)
        places = np.frombuffer(span, index.place)[np.subtract(indices, first)].tolist()
        jpegs = _read_places(descriptor, places, index)
        for i, jpeg in zip(indices, jpegs, strict=True):
            if jpeg is None:
                if index.place is _PLACE and _is_whole(descriptor, index, size):
                    raise DamagedFrame(i)
                return None
    finally:
        os.close(descriptor)
    return jpegs  # type: ignore[return-value]


def read_record(path: str | os.PathLike[str]) -> str | None:
    """The record that the index of a file has; None where it has none, or the index is damaged.

    Raises:
        OSError: if the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        tail = os.pread(descriptor, _TRAILER.size, max(0, size - _TRAILER.size))
        index = _parse(tail, size)
        if index is None or index.place is not _PLACE or not _is_whole(descriptor, index, size):
            return None
        at = index.begin + index.n * _PLACE.itemsize
        return os.pread(descriptor, index.record_bytes, at).decode()
    finally:
        os.close(descriptor)


def has_spoilt_index(path: str | os.PathLike[str]) -> bool:
    """Whether something follows the end that HDF5 states and is no whole index.

    Raises:
        OSError: if the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        head = os.pread(descriptor, _STATED_END_AT + 8, 0)
        if not head.startswith(_SUPERBLOCK):  # as we write it, and nothing put before it
            return False
        if int.from_bytes(head[_STATED_END_AT:], "little") >= size:
            return False
        index = _parse(os.pread(descriptor, _TRAILER.size, max(0, size - _TRAILER.size)), size)
        if index is None:
            return True
        return index.place is _PLACE and not _is_whole(descriptor, index, size)
    finally:
        os.close(descriptor)


def _parse(tail: bytes, size: int) -> _Index | None:
    """The index of a file of a size by its last bytes."""
    if tail.endswith(_MARK) and len(tail) >= _TRAILER.size:
        n, file_bytes, record_bytes, checksum, _ = _TRAILER.unpack(tail[-_TRAILER.size :])
        begin = size - _TRAILER.size - record_bytes - n * _PLACE.itemsize
        shift = begin - file_bytes
        index = _Index(n, begin, _PLACE, shift, record_bytes, checksum)
        right = n > 0 and begin >= 0 and shift >= 0 and size - begin <= _MAX_BYTES
        return index if right else None
    if tail.endswith(_FORMER_MARK) and len(tail) >= _FORMER_TRAILER.size:
        n, _ = _FORMER_TRAILER.unpack(tail[-_FORMER_TRAILER.size :])
        begin = size - _FORMER_TRAILER.size - n * _FORMER_PLACE.itemsize
        return _Index(n, begin, _FORMER_PLACE, 0, 0, 0) if n > 0 and begin >= 0 else None
    return None


def _read_places(
    descriptor: int, places: list[tuple[int, ...]], index: _Index
) -> list[bytes | None]:
    """The frames at these places; None for one that is not what the index says."""
    offsets = [place[0] + index.shift for place in places]
    ends = [offset + place[1] for offset, place in zip(offsets, places, strict=True)]
    begin, end = min(offsets), max(ends)
    together = b""
    wanted = min(sum(place[1] for place in places) + _MAX_GAP_BYTES, _MAX_BYTES)
    if end <= index.begin and end - begin <= wanted:
        together = os.pread(descriptor, end - begin, begin)  # frames of a clip lie side by side
    jpegs: list[bytes | None] = []
    for offset, stop, place in zip(offsets, ends, places, strict=True):
        if together:
            jpeg = together[offset - begin : stop - begin]
        elif stop <= index.begin and stop - offset <= _MAX_BYTES:
            jpeg = os.pread(descriptor, stop - offset, offset)
        else:
            jpeg = b""
        right = len(jpeg) == place[1] and jpeg.startswith(_START_OF_IMAGE)
        if right and len(place) > 2:
            right = crc32(jpeg) == place[2]
        jpegs.append(jpeg if right else None)
    return jpegs


def _is_whole(descriptor: int, index: _Index, size: int) -> bool:
    """Whether an index is as it was written."""
    stop = size - _TRAILER.size + _CHECKED_BYTES
    return crc32(os.pread(descriptor, stop - index.begin, index.begin)) == index.crc32


def _objects(descriptor: int, collection: int) -> dict[int, int]:
    """Where the data of the objects of a heap collection begin, by the number of the object."""
    header = os.pread(descriptor, _COLLECTION.size, collection)
    if len(header) < _COLLECTION.size or not header.startswith(_SIGNATURE):
        return {}
    _, size = _COLLECTION.unpack(header)
    starts = {}
    position = collection + _COLLECTION.size
    while position + _OBJECT.size <= collection + size:
        header = os.pread(descriptor, _OBJECT.size, position)
        if len(header) < _OBJECT.size:
            return {}
        number, _, length = _OBJECT.unpack(header)
        if number == 0:  # the free space at the end
            break
        position += _OBJECT.size
        starts[number] = position
        position += -(-length // _ALIGNMENT) * _ALIGNMENT
    return starts
