"""Videos, shards and stores for the tests of this folder."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from shardbench import Bench
from storing import LAYOUTS

from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.stores import FrameStore, open_store


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small videos: clip.avi and clip.mp4 of 20 frames, sound.mp4, long.mp4."""
    folder = tmp_path_factory.mktemp("clips")
    command = [ffmpeg_binary(), "-loglevel", "error"]
    noise = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2,noise=alls=9:allf=t"]
    tone = ["-f", "lavfi", "-i", "sine=d=1"]
    subprocess.run([*command, *noise, str(folder / "clip.avi")], check=True)
    subprocess.run([*command, *noise, str(folder / "clip.mp4")], check=True)
    subprocess.run([*command, *tone, str(folder / "sound.mp4")], check=True)
    longer = [noise[0], noise[1], noise[2], noise[3].replace("duration=2", "duration=30")]
    subprocess.run([*command, *longer, str(folder / "long.mp4")], check=True)
    return folder


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have every later start of ffmpeg fail."""

    def forbid() -> None:
        path = tmp_path / "no ffmpeg"
        path.write_text("#!/bin/sh\necho ffmpeg was started >&2\nexit 1\n")
        path.chmod(0o755)
        monkeypatch.setenv("R3D_FFMPEG", str(path))

    return forbid


@pytest.fixture(params=LAYOUTS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FrameStore:
    return open_store(tmp_path / "store", request.param)
