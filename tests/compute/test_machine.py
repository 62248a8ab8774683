"""What the machine tells: memory that is left, and memory that was held."""

import platform
import subprocess
import sys

import psutil
import pytest

from r3d.compute.machine import free_memory, machine, n_cores


def test_free_memory_is_no_more_than_the_machine_has():
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_a_limit_of_a_control_group_counts(tmp_path, monkeypatch):
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("700000\n")
    (group / "memory.stat").write_text("anon 600000\ninactive_file 50000\n")
    (tmp_path / "cgroup").write_text("0::/group/inner\n")
    monkeypatch.setattr("r3d.compute.machine._GROUPS", tmp_path)
    monkeypatch.setattr("r3d.compute.machine._OWN_GROUPS", tmp_path / "cgroup")
    assert free_memory() == 350_000
    (group / "memory.max").write_text("max\n")
    assert free_memory() > 1_000_000


PEAK = """
from r3d.compute.machine import peak_memory

with peak_memory() as peak:
    before = peak()
    block = b"x" * (200 << 20)
    peak()
    del block
    print(peak() - before)
"""


def test_the_peak_outlasts_the_memory():
    # In a process of its own: what tests before have left may be freed just then.
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150 << 20


def test_the_machine_in_words():
    assert f"{n_cores()} cores" in machine()


KEPT = """
import resource, sys
import torch
from r3d.compute.machine import keep_memory
from r3d.tuning.fitting import free
import psutil

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_memory()
for n in range(24):
    if n == 16:  # by then it has found its places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = psutil.Process().memory_info().rss
free()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_kept_until_it_is_given_back():
    found = {}
    for how in ("kept", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True
        )
        found[how] = [int(line) for line in done.stdout.split()]
    pages, given_back = found["kept"]
    assert pages < found["plain"][0] / 3
    assert given_back > 50 << 20  # what a forecast of memory must not take for used
