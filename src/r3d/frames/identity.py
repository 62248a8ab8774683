"""Digests of frames: whether what is made from frames is still of those that are there.

A manifest is not enough: a video that is replaced by one of the same length has the same row.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frames.layouts import FileType
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.frames.stores import open_store
from r3d.tables import read_columns

_VIDEO_DIGITS = 32


def write_shard_digest(
    manifest: Path, frames: Path, output: Path, *, file_type: FileType = "jpg"
) -> None:
    """Write a digest of the frames that a manifest tells of, and below it one of each video's.

    They are over what frames are and what they were made from: the size of the video, how they were
    selected and scaled. Videos without frames do not count, nor does when a video was changed: a
    copy of the same video gives the same frames. The digest of a video says nothing of its name, so
    it stays where other videos let it be called otherwise.

    Args:
        manifest: the table of a shard that was extracted.
        frames: the folder of the frame store.
        output: the file to write: a digest, then a line `<id> TAB <digest>` for each video.
        file_type: layout of the store.
    """
    store = open_store(frames, file_type)
    digest = hashlib.sha256()
    columns = [name for name in MANIFEST_COLUMNS if name not in ("status", "reason")]
    table = read_columns(manifest, columns)
    table = table[~table["frames"].isin(["", "0"])]
    lines = []
    for video, label, key, *values in table.itertuples(index=False, name=None):
        record = store.record(key)
        made_from = dict((record and record.made_from) or {})
        made_from.pop("mtime_ns", None)
        row = [video, label, key, *values, made_from]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        own = hashlib.sha256(json.dumps([*values, made_from], sort_keys=True).encode())
        lines.append(f"\n{video}\t{own.hexdigest()[:_VIDEO_DIGITS]}")
    _write(digest.hexdigest() + "".join(lines), output)


def video_digests(shards: Sequence[Path]) -> dict[str, str]:
    """The digest of each video's frames, by its id, from the digests of all shards.

    Where a file of an earlier version says nothing of single videos, there are none of its shard.
    """
    found: dict[str, str] = {}
    for path in shards:
        for line in _lines(path)[1:]:
            video, _, digest = line.partition("\t")
            found[video] = digest
    return found


def gather_digests(parts: Sequence[Path], output: Path) -> None:
    """Write the digest of a data set from those of its shards, in their order."""
    _write(joint_digest(parts), output)


def joint_digest(parts: Sequence[Path]) -> str:
    """The digest of all frames that the digests in these files are of; of one file, its own."""
    digests = [_read(path) for path in parts]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _read(path: Path) -> str:
    return _lines(path)[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").strip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a digest of frames: {error}") from None


def _write(digest: str, output: Path) -> None:
    with atomic_path(output, durable=True) as partial:
        partial.write_text(f"{digest}\n", encoding="utf-8")
