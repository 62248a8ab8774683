"""What engines make of a network, kept: to convert one takes seconds, to open it again a fraction.

Entries are folders in the cache of the user, found by what the network is, and may go at any time.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from r3d import files
from r3d.models.base import VideoModel
from r3d.paths import cache_folder

_FORMAT = 1
_MOST_BYTES = 4 << 30
_WAIT_SECONDS = 600


def folder() -> Path:
    """Where the entries of this user are."""
    return cache_folder("engines")


def network_digest(network: VideoModel, normalisation: dict[str, Any]) -> str:
    """What tells the graph of a network with its weights from any other, in hexadecimal digits.

    The versions of what makes graphs of networks, torch and r3d, are part of it: another one
    converts anew. Those of the engine, and of what else it needs, are in the names of its entries.
    """
    makers = [torch.__version__, version("r3d")]
    modules = [(name, type(module).__name__) for name, module in network.named_modules()]
    kernels = [
        (name, module.stride, module.padding)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv3d)
    ]
    about = [_FORMAT, makers, repr(network.architecture), modules, kernels, normalisation]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def entry(*about: str) -> Path:
    """The entry about something, which may be there or not."""
    return folder() / "-".join(about)


def alone(path: Path) -> AbstractContextManager[object]:
    """Let one process at a time look for an entry and make it: others wait, and find it there."""
    return files.alone(cache_folder("locks") / path.name, wait_seconds=_WAIT_SECONDS)


def write_entry(path: Path, write: Callable[[Path], object]) -> bool:
    """Make an entry as a whole, unless the cache cannot be written; whether it is there then.

    Args:
        write: puts files into the folder that it is given.
    """
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=path.parent))
        try:
            write(partial)
            with suppress(FileExistsError):
                partial.rename(path)
        except OSError:
            # Another process was faster, or there is no room: what is there counts.
            pass
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _bound(path)
    return path.is_dir()


def use_entry(path: Path) -> bool:
    """Whether an entry is there, which counts as used now where it may be changed."""
    with suppress(OSError):
        os.utime(path)
    return os.access(path, os.R_OK | os.X_OK)


def remove_entry(path: Path) -> None:
    """Remove an entry that is of no use."""
    shutil.rmtree(path, ignore_errors=True)


def _bound(newest: Path) -> None:
    """Remove what was not used for longest, beyond the size that the cache may have."""
    with suppress(OSError):
        entries = sorted(newest.parent.iterdir(), key=lambda path: -path.stat().st_mtime_ns)
        total = 0
        for path in entries:
            total += sum(size for size in _sizes(path))
            if total > _MOST_BYTES and path != newest:
                remove_entry(path)


def _sizes(path: Path) -> Iterator[int]:
    for file in path.rglob("*"):
        with suppress(OSError):
            yield file.stat().st_size
