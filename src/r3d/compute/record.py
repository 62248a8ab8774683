"""Where a step has run: the machine, its versions, how long it took and how much memory.

Each attempt is an entry of a small JSON file beside the step's log, so that a training that was
stopped and went on elsewhere says both.
"""

import hashlib
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from r3d.compute.machine import machine
from r3d.errors import InputError, Stopped
from r3d.files import atomic_path, read_json

_PACKAGES = ("r3d", "torch", "torchvision", "numpy", "simplejpeg", "pillow", "h5py")
_MOST_ATTEMPTS = 50
_STATUS = Path("/proc/self/status")


def record_of(log: str | Path) -> Path:
    """The record of a step, by its log."""
    return Path(log).with_suffix(".run.json")


@contextmanager
def recorded(
    log: str | Path, work: Mapping[str, Any], *, cores: int, on_gpus: Callable[[], dict[str, Any]]
) -> Iterator[None]:
    """Note the run of the block: {of, began, seconds, ended, machine, cores, versions, memory_mb}.

    memory_mb is the most that this process or any one of its children has held. What cannot be
    written is left out: it is not the work.

    Args:
        work: what is done; attempts at other work are forgotten.
        cores: how many it may use.
        on_gpus: asked at the end for what there is to say of GPUs.
    """
    path = record_of(log)
    text = json.dumps({name: str(value) for name, value in work.items()}, sort_keys=True)
    entry: dict[str, Any] = {
        "of": hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:12],
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": None,
        "ended": "",
        "machine": machine().rpartition(", load")[0],
        "cores": cores,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    before = [attempt for attempt in read_record(path) if attempt["of"] == entry["of"]]
    _write(path, [*before[-_MOST_ATTEMPTS:], entry])
    begin = time.perf_counter()
    ended = "failed"
    try:
        yield
        ended = "finished"
    except (Stopped, KeyboardInterrupt, SystemExit):
        ended = "stopped"
        raise
    finally:
        entry |= {"seconds": round(time.perf_counter() - begin, 1), "ended": ended}
        entry |= {"memory_mb": _peak_mb(), **on_gpus()}
        _write(path, [*before[-_MOST_ATTEMPTS:], entry])


def read_record(path: Path) -> list[dict[str, Any]]:
    """The attempts that a record names, the first first; none if there is no such file."""
    try:
        attempts = read_json(path)["attempts"]
        return [attempt for attempt in attempts if {"of", "machine"} <= attempt.keys()]
    except (InputError, LookupError, TypeError, AttributeError):
        return []


def _write(path: Path, attempts: list[dict[str, Any]]) -> None:
    with suppress(InputError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            partial.write_text(json.dumps({"attempts": attempts}, indent=1) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _peak_mb() -> int:
    """Of this process since its program began, which `getrusage` does not tell, or of a child."""
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with suppress(OSError, StopIteration, ValueError):
        lines = _STATUS.read_text().splitlines()
        own = next(line for line in lines if line.startswith("VmHWM:"))
        kilobytes = max(kilobytes, int(own.split()[1]))
    return round(kilobytes / 1024)
