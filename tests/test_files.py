"""Files appear whole, and what killed writers leave is removed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r3d import files
from r3d.files import atomic_path

WRITER = """
import sys, time
from r3d.files import atomic_path
with atomic_path(sys.argv[1], durable=True) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


# As of a loader, whose processes notice the end of their parent after seconds.
FORKING_WRITER = """
import os, sys, time
from r3d.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.write_text("half")
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
"""


def start_writer(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path):
    path = tmp_path / "latest.pth"
    others = [".latest.pth", ".latest.notes.pth", ".save_1.0123abcd-abcdefgh.pth"]
    for name in others:
        (tmp_path / name).write_text("mine")
    killed, live = start_writer(path), start_writer(path)
    try:
        assert len(hidden(tmp_path)) == len(others) + 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with atomic_path(path) as partial:
            partial.write_text("whole")
        assert path.read_text() == "whole"
        left = [name for name in hidden(tmp_path) if name not in others]
        assert len(left) == 1
        assert (tmp_path / left[0]).read_text() == "half"
    finally:
        live.kill()
        live.wait()
    with atomic_path(path) as partial:
        partial.write_text("again")
    assert hidden(tmp_path) == sorted(others)


def test_what_a_killed_writer_left_is_removed_though_its_fork_lives_on(tmp_path: Path):
    path = tmp_path / "val.json"
    command = [sys.executable, "-c", FORKING_WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        try:
            killed.kill()
            killed.wait()
            with atomic_path(path) as partial:
                partial.write_text("whole")
            os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)
    assert path.read_text() == "whole"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("age_hours", "stays"), [(1, True), (25, False)])
def test_what_another_machine_writes_stays_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_hours: float, stays: bool
):
    """Its lock may not be seen from here."""
    monkeypatch.setattr(files, "_machine", lambda: "01234567")
    writer = start_writer(tmp_path / "latest.pth")
    writer.kill()
    writer.wait()
    (left,) = hidden(tmp_path)
    before = time.time() - age_hours * 3600
    os.utime(tmp_path / left, (before, before))
    with atomic_path(tmp_path / "latest.pth") as partial:
        partial.write_text("whole")
    assert hidden(tmp_path) == ([left] if stays else [])


def test_a_failed_block_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with atomic_path(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not list(tmp_path.iterdir())
