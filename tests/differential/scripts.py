"""The reference's scripts of frame extraction, run as their users run them."""

import os
import shutil
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from r3d.frames.ffmpeg import ffmpeg_binary

# What the scripts need and may not be there: joblib, of which they use the following alone, and
# ffprobe, which wheels of ffmpeg do not bring. With a path alone it says what ffmpeg says.
_JOBLIB = """\
def delayed(function):
    return lambda *arguments: (function, arguments)


class Parallel:
    def __init__(self, **_):
        pass

    def __call__(self, tasks):
        return [function(*arguments) for function, arguments in tasks]
"""
_FFPROBE = """\
#!{python}
import os
import sys

if len(sys.argv) == 2:
    os.execv({ffmpeg!r}, ["ffmpeg", "-hide_banner", "-i", sys.argv[1]])
import av

with av.open(sys.argv[-1]) as container:
    stream = container.streams.video[0]
    rate = stream.average_rate
    print(stream.codec_context.width, stream.codec_context.height, sep="\\n")
    print("0/0" if rate is None else f"{{rate.numerator}}/{{rate.denominator}}")
    print("N/A" if stream.duration is None else float(stream.duration * stream.time_base))
"""


class Scripts:
    """Runs `util_scripts` of a checkout with the ffmpeg that we run."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Put what may be missing into `folder`."""
        self._root = root
        folder.mkdir()
        (folder / "ffmpeg").symlink_to(ffmpeg_binary())
        if not shutil.which("ffprobe"):
            ffprobe = folder / "ffprobe"
            ffprobe.write_text(_FFPROBE.format(python=sys.executable, ffmpeg=ffmpeg_binary()))
            ffprobe.chmod(ffprobe.stat().st_mode | stat.S_IXUSR)
        modules = [str(root)]
        if find_spec("joblib") is None:
            (folder / "joblib.py").write_text(_JOBLIB)
            modules.append(str(folder))
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(modules),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `util_scripts.<name>`, which may fail."""
        return subprocess.run(
            [sys.executable, "-m", f"util_scripts.{name}", *map(str, arguments)],
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
