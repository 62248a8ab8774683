"""Headers of checkpoints that were read before, as long as the file has its size and time.

Snakemake reads a config in each of its jobs. They are kept in the cache of the user, and may go at
any time.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from r3d.files import AnyPath, atomic_path
from r3d.models.header import Foreign, Shape, read_header
from r3d.paths import cache_folder

_FORMAT = 1
_MOST_ENTRIES = 256
_SHAPE, _FOREIGN = "\0shape", "\0object"


def cached_header(path: AnyPath) -> Any:
    """As `read_header`, from the cache if the file was read before.

    Raises:
        InputError: if the file cannot be read, or is none of `torch.save`.
    """
    file = Path(path).absolute()
    try:
        state = file.stat()
    except OSError:
        return read_header(path)  # which says what is wrong
    about = [_FORMAT, str(file), state.st_size, state.st_mtime_ns]
    entry = cache_folder("headers") / f"{hashlib.sha256(os.fsencode(file)).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, RecursionError):
        there, content = json.loads(entry.read_bytes(), object_hook=_read)
        if there == about:
            return content
    content = read_header(path)
    with suppress(OSError, ValueError, TypeError, RecursionError):
        text = json.dumps([about, content], default=_written)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(entry) as partial:
            partial.write_text(text, encoding="utf-8")
        entries = sorted(entry.parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for oldest in entries[:-_MOST_ENTRIES]:
            oldest.unlink(missing_ok=True)
    return content


def _written(value: Any) -> dict[str, Any]:
    if isinstance(value, Shape):
        return {_SHAPE: value.shape}
    if isinstance(value, Foreign):
        return {_FOREIGN: value.name}
    raise TypeError(f"{type(value).__name__} is not cached")


def _read(pairs: dict[str, Any]) -> Any:
    if pairs.keys() == {_SHAPE}:
        return Shape(tuple(pairs[_SHAPE]))
    if pairs.keys() == {_FOREIGN}:
        return Foreign(pairs[_FOREIGN])
    return pairs
