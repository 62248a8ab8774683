"""The machine: what it is, which cores are ours, and how much memory is left."""

import ctypes
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_SAMPLE_SECONDS = 0.005
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in malloc.h
_LARGEST, _LARGEST_BEFORE = 2**31 - 1, 32 << 20
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def machine() -> str:
    """Processor, cores and memory of this machine, and how busy it was with other work."""
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{processor()}, {n_cores()} cores, {gigabytes:.0f} GiB, load {os.getloadavg()[0]:.1f}"


def keep_memory() -> None:
    """Have memory that is freed stay with this process, for what it allocates next (glibc).

    Tensors of a step are larger than what glibc keeps by default: it asks the system for the same
    memory in each step again, which clears it page by page. That was a sixth to a quarter of the
    time of a training step on a CPU. The process gives none of it back before its end, but by
    `give_back_memory`.
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        # One is refused by older versions, which take no more than the other.
        if any(libc.mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_BEFORE)):
            libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def give_back_memory() -> None:
    """Give the memory that is freed by now back to the system (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its control groups."""
    return min([psutil.virtual_memory().available, *_free_in_groups()])


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Yield a function that tells the most bytes that this process has held since, as sampled."""
    process, ended = psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def sample() -> int:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        return peak

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            sample()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield sample
    finally:
        ended.set()
        watcher.join()


def _free_in_groups() -> Iterator[int]:
    """The memory that is left in each control group of this process that has a limit."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, limit, usage = _GROUPS, "memory.max", "memory.current"
        elif controllers == "memory":
            root = _GROUPS / "memory"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            # Without a limit the file is absent or says "max".
            with suppress(OSError, ValueError):
                free = int((folder / limit).read_text()) - int((folder / usage).read_text())
                yield free + _reclaimable(folder)
            if folder == root:
                break


def _reclaimable(group: Path) -> int:
    """Bytes of cached files in a control group, which make room where it is needed."""
    found = re.search(
        r"^(?:total_)?inactive_file (\d+)$", (group / "memory.stat").read_text(), re.M
    )
    return int(found[1]) if found else 0
