"""The embedded data set: eight classes that differ in motion only, rendered into real video files.

A moving random texture is encoded by ffmpeg in UCF-101's folder layout, with UCF-101's list files,
so that the pipeline treats it exactly like UCF-101. A single frame tells nothing about the class:

- Every video shows its own texture from its own random pose; the eight videos of one group and
  clip number, one a class, even start from the same frame.
- The texture looks the same at every position, angle and scale. For the scale this takes several
  octaves of one noise whose strengths follow the magnification in a circle (as the tones of
  Shepard's endless scale do: R. N. Shepard, Circularity in judgments of relative pitch, 1964), so
  that zooming never arrives anywhere.

Opposite directions are different classes, so training on it must not flip (`no_hflip`).

It is as hard as is asked for: sixteen classes, noise, and pieces of the texture in front that move
in ways of their own, alike in the videos of all classes. Fewer videos make it harder, too.
"""

import json
import logging
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frames.ffmpeg import ffmpeg_binary

CLASSES = (
    "RotateClockwise",
    "RotateCounterclockwise",
    "TranslateDown",
    "TranslateLeft",
    "TranslateRight",
    "TranslateUp",
    "ZoomIn",
    "ZoomOut",
)
# Along two axes, or with a turn.
_MORE_CLASSES = (
    "SpiralInClockwise",
    "SpiralInCounterclockwise",
    "SpiralOutClockwise",
    "SpiralOutCounterclockwise",
    "TranslateDownLeft",
    "TranslateDownRight",
    "TranslateUpLeft",
    "TranslateUpRight",
)
SPLITS = ("01", "02")

_FPS = 25
_MAX_GROUPS = 8
_OCTAVES = 3
_TEXELS = 512  # side of a texture; a power of two, so that wrapping round is a bit mask
_CYCLES = 12  # highest spatial frequency of a texture, per side
_COARSEST_CYCLES = 1.0  # the lowest octave's highest frequency, per short side of the video
_PIECE = 1 / 3  # side of a piece of clutter, in short sides
_RECORD = "motion.json"
_UNFINISHED = ".unfinished"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Settings:
    """What decides every pixel. `version` changes when the same settings give other videos."""

    videos_per_class: int
    n_frames: int
    width: int
    height: int
    seed: int
    version: int = 1
    n_classes: int = len(CLASSES)
    noise: float = 0.0
    clutter: int = 0

    @property
    def record(self) -> str:
        """All of it, but for what earlier versions did not know and is as they had it."""
        values = asdict(self)
        late = {name: getattr(_Settings, name) for name in ("n_classes", "noise", "clutter")}
        return json.dumps({k: v for k, v in values.items() if k not in late or v != late[k]})


@dataclass(frozen=True)
class _Speed:
    """What one frame adds to the pose: shift in short sides, clockwise radians, octaves."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0


def class_names(n_classes: int) -> tuple[str, ...]:
    """The first so many classes, in order: 8 or 16 of them are a data set."""
    return (*CLASSES, *_MORE_CLASSES)[:n_classes]


def list_names(split: str) -> list[str]:
    """The names of the list files of a split: classes, training and test.

    Raises:
        InputError: there is no such split.
    """
    if split not in SPLITS:
        raise InputError(f"motion data set: no split {split!r}; accepted: {', '.join(SPLITS)}")
    return ["classInd.txt", f"trainlist{split}.txt", f"testlist{split}.txt"]


def render_motion(
    videos: Path,
    lists: Path,
    *,
    videos_per_class: int = 80,
    n_frames: int = 32,
    size: tuple[int, int] = (96, 72),
    seed: int = 1,
    n_classes: int = 8,
    noise: float = 0.0,
    clutter: int = 0,
    threads: int = 2,
) -> None:
    """Render `videos_per_class` videos a class and the lists of two splits.

    Writes `videos`/<Class>/v_<Class>_g<group>_c<clip>.avi (MPEG-4 in AVI, 25 frames per second) and
    then, in `lists`, classInd.txt and {train,test}list{01,02}.txt. The videos come in at most eight
    groups; a split tests a quarter of the groups, another quarter in each split. Equal arguments
    give equal frames (by one version of ffmpeg). Complete videos of an earlier run with equal
    arguments are kept; those of other arguments are replaced.

    Args:
        videos: folder of the class folders.
        lists: folder of the list files.
        videos_per_class: videos a class, at least 2.
        n_frames: frames a video, at least 2.
        size: width and height in pixels, even numbers of at least 16.
        seed: of everything random, 0 or more.
        n_classes: 8 or 16.
        noise: standard deviation of noise that each pixel of each frame has by itself, as a share
            of the range from black to white.
        clutter: pieces of texture in front, a third of the short side wide, each with a
            motion of its own.
        threads: videos are rendered in this many threads.

    Raises:
        InputError: an argument is out of its range.
    """
    width, height = size
    _check(videos_per_class >= 2, "videos_per_class", videos_per_class, "2 or more")
    _check(n_frames >= 2, "n_frames", n_frames, "2 or more")
    _check(min(size) >= 16 and width % 2 == height % 2 == 0, "size", size, "even, 16 or more")
    _check(seed >= 0, "seed", seed, "0 or more")
    _check(n_classes in (8, 16), "n_classes", n_classes, "8, 16")
    _check(0 <= noise <= 1, "noise", noise, "0 to 1")
    _check(0 <= clutter <= 100, "clutter", clutter, "0 to 100")
    _check(threads >= 1, "threads", threads, "1 or more")

    settings = _Settings(
        *(videos_per_class, n_frames, width, height, seed),
        n_classes=n_classes,
        noise=noise,
        clutter=clutter,
    )
    labels = class_names(n_classes)
    _remove_videos_of_other_settings(videos, settings)
    for name in labels:
        (videos / name).mkdir(parents=True, exist_ok=True)
    unfinished = videos / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    with ThreadPoolExecutor(threads) as pool:
        indices = range(videos_per_class)
        rendered = sum(pool.map(lambda index: _render_index(videos, index, settings), indices))
    shutil.rmtree(unfinished, ignore_errors=True)
    _write_lists(lists, videos_per_class, labels)
    n_videos = videos_per_class * n_classes
    there = f", {n_videos - rendered} of them there already" if rendered < n_videos else ""
    _log.info(
        "%s: %d videos of %d classes%s; their lists: %s",
        *(videos, n_videos, n_classes, there, lists),
    )


def render_clips(
    n_clips: int, *, n_frames: int, size: tuple[int, int], seed: int = 1
) -> list[NDArray[np.uint8]]:
    """Clips as those of the data set, each (frames, height, width, 3), without any file.

    Args:
        n_clips: how many; each has a scene of its own, and the next class's motion.
        n_frames: frames a clip.
        size: width and height in pixels.
    """
    settings = _Settings(n_clips, n_frames, *size, seed)
    return [
        _Scene(index, settings).frames(CLASSES[index % len(CLASSES)]) for index in range(n_clips)
    ]


def _check(good: bool, name: str, value: object, accepted: str) -> None:
    if not good:
        raise InputError(f"motion data set: {name} is {value}; accepted: {accepted}")


def _remove_videos_of_other_settings(videos: Path, settings: _Settings) -> None:
    """Leave only videos of these settings in the folder, and its record of them."""
    record = videos / _RECORD
    wanted = settings.record
    if record.is_file() and record.read_text() == wanted:
        return
    if record.is_file():
        for name in class_names(16):
            for video in (videos / name).glob(f"v_{name}_g*_c*.avi"):
                video.unlink()
    with atomic_path(record) as partial:
        partial.write_text(wanted)


def _n_groups(videos_per_class: int) -> int:
    return min(_MAX_GROUPS, videos_per_class)


def _video_name(label: str, index: int, videos_per_class: int) -> str:
    """Path of a video below the videos folder; its index runs through the groups first."""
    clip, group = divmod(index, _n_groups(videos_per_class))
    return f"{label}/v_{label}_g{group + 1:02d}_c{clip + 1:02d}.avi"


def _write_lists(lists: Path, videos_per_class: int, labels: Sequence[str]) -> None:
    n_groups = _n_groups(videos_per_class)
    n_test = max(1, n_groups // 4)
    classes = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    for split_index, split in enumerate(SPLITS):
        train, test = [], []
        for number, label in enumerate(labels, 1):
            for group in range(n_groups):
                tested = group // n_test == split_index
                for index in range(group, videos_per_class, n_groups):
                    name = _video_name(label, index, videos_per_class)
                    if tested:
                        test.append(name)
                    else:
                        train.append(f"{name} {number}")
        for name, lines in zip(list_names(split), (classes, train, test), strict=True):
            _write_lines(lists / name, lines)


def _write_lines(path: Path, lines: list[str]) -> None:
    """Write with CR LF line ends, as the official lists have them."""
    with atomic_path(path) as partial:
        partial.write_text("".join(f"{line}\r\n" for line in lines), newline="")


def _render_index(videos: Path, index: int, settings: _Settings) -> int:
    """Render the videos of one index, one a class, where they are absent; returns how many."""
    n_videos = settings.videos_per_class
    labels = class_names(settings.n_classes)
    targets = {label: videos / _video_name(label, index, n_videos) for label in labels}
    absent = [label for label, target in targets.items() if not target.exists()]
    if not absent:
        return 0
    scene = _Scene(index, settings)
    folder = videos / _UNFINISHED / str(index)
    folder.mkdir(parents=True)
    clips = [scene.frames(label) for label in absent]
    for label, part in zip(absent, _encode(clips, settings, folder), strict=True):
        part.replace(targets[label])
    return len(absent)


def _encode(clips: Sequence[NDArray[np.uint8]], settings: _Settings, folder: Path) -> list[Path]:
    """Encode clips, (frames, height, width, 3) each, into one file each in `folder`.

    One ffmpeg process writes them all: for files this short its start costs more than the
    encoding.
    """
    command = (
        ffmpeg.input(
            "pipe:",
            format="rawvideo",
            pix_fmt="rgb24",
            s=f"{settings.width}x{settings.height}",
            r=_FPS,
        )
        .output(
            "%d.avi",
            format="segment",
            segment_frames=",".join(str(i * settings.n_frames) for i in range(1, len(clips) + 1)),
            reset_timestamps=1,
            vcodec="mpeg4",
            pix_fmt="yuv420p",
            g=1,  # key frames only: what prediction leaves in a frame would tell of the motion
            threads=1,
            **{"q:v": 3, "fflags": "+bitexact", "flags:v": "+bitexact"},
        )
        .global_args("-loglevel", "error")
        .compile(cmd=str(Path(ffmpeg_binary()).absolute()))  # as it runs in another folder
    )
    raw = b"".join(clip.tobytes() for clip in clips)
    done = subprocess.run(command, input=raw, stderr=subprocess.PIPE, cwd=folder, check=False)
    parts = [folder / f"{number}.avi" for number in range(len(clips))]
    if done.returncode or not all(part.is_file() for part in parts):
        raise RuntimeError(f"ffmpeg ({done.returncode}): {done.stderr.decode(errors='replace')}")
    return parts


@dataclass(frozen=True)
class _Pose:
    """Where a texture is seen from at first: radians, octaves, and texels of each octave (3, 2)."""

    angle: float
    level: float
    offsets: NDArray[np.int64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Pose":
        return cls(
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0, _OCTAVES),
            rng.integers(_TEXELS, size=(_OCTAVES, 2)),
        )


class _Scene:
    """A texture and the pose from which all videos of one index start, and what is in front."""

    def __init__(self, index: int, settings: _Settings) -> None:
        self._index = index
        self._settings = settings
        rng = np.random.default_rng([settings.seed, index])
        self._texture = _texture(rng)
        self._pose = _Pose.draw(rng)
        self._clutter = [_Piece.draw(rng, settings) for _ in range(settings.clutter)]

        # Where each pixel is, as complex numbers x + iy with y downwards, in short sides from the
        # centre: (height, width).
        short_side = min(settings.width, settings.height)
        x = (np.arange(settings.width, dtype=np.float32) - settings.width / 2) / short_side
        y = (np.arange(settings.height, dtype=np.float32) - settings.height / 2) / short_side
        self._places = x + 1j * y[:, None]
        self._time = np.arange(settings.n_frames, dtype=np.float32)[:, None, None]

    def frames(self, label: str) -> NDArray[np.uint8]:
        """The frames of this scene under the motion of a class: (frames, height, width, 3)."""
        settings = self._settings
        number = 1 + class_names(16).index(label)
        rng = np.random.default_rng([settings.seed, self._index, number])
        total = self._seen(self._pose, _draw_speed(label, rng))
        for piece in self._clutter:
            place = piece.place + (piece.drift.right + 1j * piece.drift.down) * self._time
            away = self._places - place
            inside = np.maximum(abs(away.real), abs(away.imag)) <= _PIECE / 2
            np.copyto(total, self._seen(piece.pose, piece.speed), where=inside[..., None])
        pixels = 127.5 + 45 * total
        if settings.noise:
            pixels += 255 * settings.noise * rng.standard_normal(pixels.shape, np.float32)
        return pixels.clip(0, 255).astype(np.uint8)

    def _seen(self, pose: _Pose, speed: _Speed) -> NDArray[np.float32]:
        """The texture from a pose on, by its strength: (frames, height, width, 3)."""
        time = self._time
        # Where in the world each pixel of each frame looks: (frames, height, width).
        shift = (speed.right + 1j * speed.down) * time
        turn = np.exp(1j * (pose.angle - speed.turn * time))
        world = ((self._places - shift) * turn).astype(np.complex64)

        # Zooming in takes every octave to lower frequencies; one that leaves below comes back
        # above, and at both ends its strength is zero.
        total = np.zeros((*world.shape, 3), np.float32)
        for octave, (offset_x, offset_y) in enumerate(pose.offsets):
            level = (pose.level + octave - speed.zoom * time) % _OCTAVES
            strength = np.sin(np.pi * level / _OCTAVES) ** 2
            texels = world * (_COARSEST_CYCLES / _CYCLES * _TEXELS * 2**level).astype(np.float32)
            column = (np.floor(texels.real).astype(np.int32) + offset_x) & (_TEXELS - 1)
            row = (np.floor(texels.imag).astype(np.int32) + offset_y) & (_TEXELS - 1)
            samples = self._texture.take(row * _TEXELS + column, axis=0)
            total += strength[..., None].astype(np.float32) * samples
        return total


@dataclass(frozen=True)
class _Piece:
    """A square in front of a scene: its first place and drift, and how what it shows moves."""

    place: complex
    drift: _Speed
    pose: _Pose
    speed: _Speed

    @classmethod
    def draw(cls, rng: np.random.Generator, settings: _Settings) -> "_Piece":
        """Anywhere in the picture, with the motions of any two of the classes."""
        short_side = min(settings.width, settings.height)
        x, y = (rng.uniform(-0.5, 0.5) * n / short_side for n in (settings.width, settings.height))
        speeds = [_draw_speed(str(rng.choice(class_names(16))), rng) for _ in range(2)]
        return cls(complex(x, y), speeds[0], _Pose.draw(rng), speeds[1])


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth, isotropic, periodic noise of unit variance a channel: (texels * texels, 3)."""
    vertical = np.fft.fftfreq(_TEXELS, 1 / _TEXELS)[:, None]
    horizontal = np.fft.rfftfreq(_TEXELS, 1 / _TEXELS)
    inside = np.hypot(vertical, horizontal) <= _CYCLES
    inside[0, 0] = False  # equal mean brightness
    spectrum = np.zeros((3, *inside.shape), np.complex64)
    parts = rng.standard_normal((2, 3, np.count_nonzero(inside)))
    spectrum[:, inside] = parts[0] + 1j * parts[1]
    noise = np.fft.irfft2(spectrum, s=(_TEXELS, _TEXELS)).reshape(3, -1).T
    return np.ascontiguousarray(noise / noise.std(axis=0), dtype=np.float32)


def _draw_speed(label: str, rng: np.random.Generator) -> _Speed:
    shift = rng.uniform(0.02, 0.06)
    turn = rng.uniform(0.06, 0.15)
    zoom = rng.uniform(0.08, 0.18)
    along = shift / 2**0.5  # each of two axes
    return {
        "RotateClockwise": _Speed(turn=turn),
        "RotateCounterclockwise": _Speed(turn=-turn),
        "TranslateDown": _Speed(down=shift),
        "TranslateLeft": _Speed(right=-shift),
        "TranslateRight": _Speed(right=shift),
        "TranslateUp": _Speed(down=-shift),
        "ZoomIn": _Speed(zoom=zoom),
        "ZoomOut": _Speed(zoom=-zoom),
        "SpiralInClockwise": _Speed(turn=turn, zoom=zoom),
        "SpiralInCounterclockwise": _Speed(turn=-turn, zoom=zoom),
        "SpiralOutClockwise": _Speed(turn=turn, zoom=-zoom),
        "SpiralOutCounterclockwise": _Speed(turn=-turn, zoom=-zoom),
        "TranslateDownLeft": _Speed(right=-along, down=along),
        "TranslateDownRight": _Speed(right=along, down=along),
        "TranslateUpLeft": _Speed(right=-along, down=-along),
        "TranslateUpRight": _Speed(right=along, down=-along),
    }[label]
