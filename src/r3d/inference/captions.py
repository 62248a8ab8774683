"""Videos with captions burnt in: text is drawn here, and laid over the video by ffmpeg.

Labels come from anywhere. They are never part of a command or a filter: ffmpeg gets pictures on its
standard input, one for each second.
"""

import subprocess
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frames.ffmpeg import JpegStream, ffmpeg_binary, jpeg_command
from r3d.frames.jpegs import frame_size
from r3d.frames.probing import FORMATS, PROTOCOLS, VideoError, VideoInfo, probe
from r3d.frames.selection import Selection, plan
from r3d.inference.timeline import Timeline

_FONT = "fonts/ttf/DejaVuSans.ttf"  # of Latin, Greek, Cyrillic and more; it comes with matplotlib
_HEIGHT, _TEXT_HEIGHT = 0.11, 0.6  # of the strip, of the short side; of the text, of the strip
_LEAST_ROWS, _LEAST_TEXT_ROWS = 14, 8
_SHADE = (0, 0, 0, 160)
_TIMEOUT_SECONDS = 60.0
_COMPLAINT_CHARACTERS = 200


def write_captioned(
    video: Path, captions: Iterable[str], output: Path, *, start: float | None, end: float | None
) -> None:
    """Write a video as MP4, upright and with its sound, with captions at its lower edge.

    Args:
        captions: the text of each second; the last one stays.
        start, end: seconds of the part to write; None for the beginning and the end.

    Raises:
        InputError: if it cannot be read or written.
    """
    try:
        info = probe(video)
        height, width = _size(video, info)
    except (VideoError, ValueError) as error:
        raise InputError(f"{video}: no captions: {error}") from None
    rows = max(_LEAST_ROWS, round(_HEIGHT * min(height, width)))
    with atomic_path(output) as partial, tempfile.TemporaryFile() as complaints:
        # Seconds are those of the video: the first one may have begun before the part.
        begun = (start or 0.0) % 1.0
        graph = _graph(info.stream, begun, is_odd=bool(height % 2 or width % 2))
        command = _command(video, graph, f"{width}x{rows}", partial, start=start, end=end)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        )
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                for text in captions:
                    pipe.write(_strip(text, rows, width))
        except BrokenPipeError:  # the video is shorter, or cannot be written
            pass
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait():
            complaints.seek(0)
            said = " ".join(complaints.read().decode(errors="replace").split())
            reason = said[:_COMPLAINT_CHARACTERS] or f"status {process.returncode}"
            raise InputError(f"{output}: ffmpeg could not write the captions: {reason}")


def second_by_second(timeline: Timeline) -> list[str]:
    """The best class of each second from the first one on; where no clip shows any, the last."""
    texts: list[str] = []
    first = int(timeline.spans[0][0])
    for entry in timeline.results(1):
        best = entry["result"][0]
        text = caption(best["label"], best["score"])
        missing = int(entry["segment"][0]) - first - len(texts)
        texts += [texts[-1]] * missing if texts else []
        texts.append(text)
    return texts


def caption(label: str, score: float) -> str:
    """The text of a caption."""
    return f"{label}  {score:.2f}"


def _size(video: Path, info: VideoInfo) -> tuple[int, int]:
    """Height and width in pixels of the frames, upright."""
    selection = Selection(short_side=0, quality=None, fps=None, start=None, end=None)
    command = jpeg_command(video, info, selection, plan(info, selection), binary=ffmpeg_binary())
    with JpegStream(command, timeout_seconds=_TIMEOUT_SECONDS, is_cancelled=lambda: False) as jpegs:
        for jpeg in jpegs:
            return frame_size(jpeg)
    raise VideoError("empty", "no frame")


def _graph(stream: int, begun: float, *, is_odd: bool) -> str:
    """The filters that lay the pictures of the second input over a stream of the first.

    Args:
        begun: seconds by which the first picture is earlier than the first frame.
    """
    pictures = f"[1:v]settb=1/1000,setpts=PTS-{round(1000 * begun)}[strip];"
    shown = f"[0:{stream}]"
    even = ""
    if is_odd:  # the usual subsampling of colours needs even sides
        even = f"{shown}format=yuv444p,pad=w=ceil(iw/2)*2:h=ceil(ih/2)*2[even];"
        shown = "[even]"
    overlay = "overlay=x=0:y=H-h:eof_action=repeat,format=yuv420p"
    return f"{pictures}{even}{shown}[strip]{overlay}[shown]"


def _command(
    video: Path,
    graph: str,
    pictures_size: str,
    output: Path,
    *,
    start: float | None,
    end: float | None,
) -> list[str]:
    part = [*(["-ss", f"{start:.6f}"] if start else []), *(["-to", f"{end:.6f}"] if end else [])]
    return [
        *(ffmpeg_binary(), "-nostdin", "-loglevel", "error", "-y", *part),
        *("-protocol_whitelist", PROTOCOLS, "-format_whitelist", FORMATS, "-i", f"file:{video}"),
        *("-protocol_whitelist", "pipe", "-f", "rawvideo", "-pix_fmt", "rgba"),
        *("-video_size", pictures_size, "-framerate", "1", "-i", "pipe:0"),
        *("-filter_complex", graph, "-map", "[shown]", "-map", "0:a:0?", "-c:a", "aac"),
        *("-f", "mp4", "-movflags", "+faststart", f"file:{output}"),
    ]


@lru_cache(maxsize=2)
def _strip(text: str, rows: int, width: int) -> bytes:
    """A text on a dark strip, as large as fits: RGBA."""
    from matplotlib import get_data_path  # which nothing else should wait for

    text = "".join(c if c.isprintable() else " " for c in text)
    picture = Image.new("RGBA", (width, rows), _SHADE)
    draw = ImageDraw.Draw(picture)
    font = str(Path(get_data_path()) / _FONT)
    margin = rows // 4
    size = max(_LEAST_TEXT_ROWS, round(_TEXT_HEIGHT * rows))
    while draw.textlength(text, ImageFont.truetype(font, size)) > width - 2 * margin:
        if size > _LEAST_TEXT_ROWS:
            size -= 1
        elif len(text) > 1:
            text = text[:-2] + "\N{HORIZONTAL ELLIPSIS}"
        else:
            break
    draw.text((margin, rows / 2), text, "white", ImageFont.truetype(font, size), anchor="lm")
    return picture.tobytes()
