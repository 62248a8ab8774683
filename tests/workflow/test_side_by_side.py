"""Two workflows at the same time: side by side, or refused where they would share a folder."""

import os
import signal
import time
from pathlib import Path

import pytest
from smallrun import SmallRun

from r3d.frames.ffmpeg import ffmpeg_binary

pytestmark = pytest.mark.workflow


def another(run: SmallRun, results: str, frames: str) -> SmallRun:
    """A config beside that of a run, in the same folder."""
    other = SmallRun(run.folder)
    other.config["results"] = results
    other.own["frames"] = frames
    return other


def test_only_what_shares_a_folder_is_refused(tmp_path: Path):
    run = SmallRun(tmp_path / "checkout")
    run.fill(tmp_path / "encoded")
    slow = tmp_path / "slow-ffmpeg"
    slow.write_text(f'#!/bin/sh\nsleep 60\nexec {ffmpeg_binary()} "$@"\n')
    slow.chmod(0o755)
    (run.folder / "link").symlink_to("jpg")
    first = run.start("frames", R3D_FFMPEG=str(slow))
    try:
        while not (run.folder / "jpg/.r3d.lock").exists():
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.01)
        for results, frames, shared in (
            ("./results/", "jpg2", "results"),
            ("results2", "jpg", "jpg"),
            ("results2", "link", "link"),
        ):
            refusal = another(run, results, frames).fail("frames")
            assert f"another snakemake is at work in {shared};" in refusal
        other = another(run, "results2", "jpg2")
        other.run("frames")
        assert first.poll() is None, "the other was not beside it"
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=60)
    run.run("frames")  # the locks have ended with their process
