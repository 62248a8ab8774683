"""Data sets in miniature: the real list formats and real videos, in seconds.

Each function fills a folder and says what the shipped config of that data set has to be told: where
lists and videos are and how many classes there are.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg

from r3d.frames.ffmpeg import ffmpeg_binary

RATE = 10
"""Frames a second of every video."""

_SECONDS = 2
_CODECS = {
    ".avi": ["-c:v", "mpeg4", "-vtag", "xvid"],
    ".mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"],
    ".mkv": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"],
    ".webm": ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"],
}
_SOURCES = ("testsrc2=size=48x36", "smptebars=size=48x36")


class Videos:
    """Videos of 48 x 36 pixels; each kind is encoded once and copied from then on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)

    def put(self, path: Path, *, kind: int = 0, seconds: float = _SECONDS) -> None:
        """Write a video in the format that the extension says; kinds look differently."""
        source = self._folder / f"{kind}_{seconds:g}{path.suffix}"
        if not source.exists():
            picture = f"{_SOURCES[kind % len(_SOURCES)]}:rate={RATE}:duration={seconds:g}"
            arguments = ["-f", "lavfi", "-i", picture, *_CODECS[path.suffix], str(source)]
            command = [ffmpeg_binary(), "-nostdin", "-loglevel", "error", *arguments]
            subprocess.run(command, check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)

    def put_frames(self, folder: Path, **options: Any) -> None:
        """Write the frames of a video as the reference keeps them, without the video."""
        video = folder.with_suffix(".mp4")
        self.put(video, **options)
        folder.mkdir()
        command = [ffmpeg_binary(), "-nostdin", "-loglevel", "error", "-i", str(video)]
        subprocess.run([*command, str(folder / "image_%05d.jpg")], check=True)
        video.unlink()

    def put_all(self, folder: Path, names: Sequence[str], **options: Any) -> None:
        for name in names:
            self.put(folder / name, **options)


def _write(path: Path, lines: Sequence[str], *, newline: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}{newline}" for line in lines), encoding="utf-8", newline="")


def _places(folder: Path, lists: str = "lists") -> dict[str, Any]:
    return {
        "lists": str(folder / lists),
        "videos": str(folder / "videos"),
        "frames": str(folder / "frames"),
    }


def ucf101(folder: Path, videos: Videos) -> dict[str, Any]:
    classes = ["ApplyEyeMakeup", "YoYo"]
    # As in the real files: CR LF, and an index in the training lists only.
    lines = [f"{number} {name}" for number, name in enumerate(classes, 1)]
    _write(folder / "lists/classInd.txt", lines, newline="\r\n")
    names = {
        (label, group): f"{label}/v_{label}_g{group:02d}_c01.avi"
        for label in classes
        for group in (1, 2, 3)
    }
    for split in (1, 2):
        train = [
            f"{name} {classes.index(label) + 1}"
            for (label, group), name in names.items()
            if group != split
        ]
        test = [name for (_, group), name in names.items() if group == split]
        _write(folder / f"lists/trainlist{split:02d}.txt", train, newline="\r\n")
        _write(folder / f"lists/testlist{split:02d}.txt", test, newline="\r\n")
    for (label, _), name in names.items():
        videos.put(folder / "videos" / name, kind=classes.index(label))
    return {**_places(folder), "n_classes": 2, "splits": ["01", "02"]}


HMDB51_NAMES = (
    "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi",
    "A[1]_(x)_b&c;d_wave_f_cm_np1_ba_med_1.avi",
    "#20_!@+~Boden_wave_u_cm_np1_fr_goo_2.avi",
)


def hmdb51(folder: Path, videos: Videos) -> dict[str, Any]:
    for kind, label in enumerate(("brush_hair", "wave")):
        names = [name.replace("wave", label) for name in HMDB51_NAMES]
        lines = [f"{name} {use} " for name, use in zip(names, (1, 1, 2), strict=True)]
        _write(folder / f"lists/{label}_test_split1.txt", [*lines, "left_out.avi 0 "])
        videos.put_all(folder / "videos" / label, names, kind=kind)
    return {**_places(folder), "n_classes": 2, "splits": ["1"]}


def kinetics(
    folder: Path,
    videos: Videos,
    *,
    files: str,
    header: str = "label,youtube_id,time_start,time_end,split",
    extensions: Sequence[str] = (".mp4",),
) -> dict[str, Any]:
    """`files` is the name of a list file with {} for its subset; test videos have no labels."""
    rest = ",0" if header.endswith("is_cc") else ""
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    # The first class of the training list is the last in the alphabet.
    for kind, label in enumerate(("zumba", "abseiling")):
        for subset, ids in (("train", ("-aB_", "0_-x")), ("val", ("_v-1",))):
            for number, prefix in enumerate(ids):
                name = f"{prefix}{kind:07d}"
                rows[subset].append(f"{label},{name},{number},{number + 10},{subset}{rest}")
                file = f"{name}_{number:06d}_{number + 10:06d}"
                extension = extensions[(kind + number) % len(extensions)]
                videos.put(folder / f"videos/{label}/{file}{extension}", kind=kind)
    for number in range(2):
        name = f"test{number:07d}"
        rows["test"].append(f"{name},5,15,test{rest}")
        videos.put(folder / f"videos/test/{name}_000005_000015{extensions[-1]}")
    for subset, lines in rows.items():
        first = header.removeprefix("label,") if subset == "test" else header
        _write(folder / "lists" / files.format(subset), [first, *lines])
    return {**_places(folder), "n_classes": 2}


def mit(folder: Path, videos: Videos, *, same_names: bool = False) -> dict[str, Any]:
    """With `same_names` every class has videos of the same names."""
    classes = ["clapping", "arresting"]
    _write(folder / "moments_categories.txt", [f"{label},{i}" for i, label in enumerate(classes)])
    for file, n_videos in (("trainingSet.csv", 2), ("validationSet.csv", 1)):
        rows = []
        for kind, label in enumerate(classes):
            for number in range(n_videos):
                own = "" if same_names else f"_{kind}"
                name = f"{label}/flickr-{file[0]}-{number}{own}.mp4"
                rows.append(f"{name},{label},3,0")
                videos.put(folder / "videos" / name, kind=kind)
        _write(folder / file, rows)
    return {**_places(folder, "."), "n_classes": 2}


def activitynet(folder: Path, videos: Videos) -> dict[str, Any]:
    taxonomy = [
        {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None},
        {"nodeId": 1, "nodeName": "Sports", "parentId": 0, "parentName": "Root"},
        {"nodeId": 2, "nodeName": "Long jump", "parentId": 1, "parentName": "Sports"},
        {"nodeId": 3, "nodeName": "Archery", "parentId": 1, "parentName": "Sports"},
    ]
    database = {}
    for kind, label in enumerate(("Long jump", "Archery")):
        for number, subset in enumerate(("training", "training", "validation")):
            segments = [[0.4, 1.6], [2.0, 3.5]] if number == 0 else [[1.0, 2.5]]
            name = f"--{kind}xYz{number}-_"
            database[name] = {
                "duration": 4.0,
                "subset": subset,
                "resolution": "48x36",
                "url": f"https://www.youtube.com/watch?v={name}",
                "annotations": [{"segment": segment, "label": label} for segment in segments],
            }
            extension = (".mp4", ".mkv", ".webm")[number]
            if (kind, number) == (0, 0):
                # Its frames and its rate are all that the reference has left.
                database[name]["fps"] = RATE
                videos.put_frames(folder / f"frames/v_{name}", kind=kind, seconds=4)
            else:
                videos.put(folder / f"videos/v_{name}{extension}", kind=kind, seconds=4)
    content = {"version": "VERSION 1.3", "taxonomy": taxonomy, "database": database}
    _write(folder / "activity_net.v1-3.min.json", [json.dumps(content)])
    return {**_places(folder, "activity_net.v1-3.min.json"), "n_classes": 2}


def stair(folder: Path, videos: Videos) -> dict[str, Any]:
    for kind, label in enumerate(("drinking", "bowing")):
        names = [f"a{number:03d}-{kind:04d}.mp4" for number in range(3)]
        videos.put_all(folder / "videos" / label, names, kind=kind)
    return {**_places(folder, "videos"), "n_classes": 2}


def own_folders(folder: Path, videos: Videos) -> dict[str, Any]:
    for subset, n_videos in (("train", 2), ("val", 1), ("test", 1)):
        for kind, label in enumerate(("jump high", "sit")):
            names = [f"{subset} {number}.mp4" for number in range(n_videos)]
            videos.put_all(folder / "videos" / subset / label, names, kind=kind)
    return _places(folder, "videos")


def own_csv(folder: Path, videos: Videos) -> dict[str, Any]:
    """Segments of two long videos; testing videos have no labels."""
    rows = ["path,label,subset,start,end"]
    for kind, label in enumerate(("null", "jump")):
        videos.put(folder / f"videos/long {kind}.mkv", kind=kind, seconds=4)
        for number, subset in enumerate(("training", "training", "validation", "testing")):
            shown = "" if subset == "testing" else label
            rows.append(f"long {kind}.mkv,{shown},{subset},{0.8 * number:g},{0.8 * number + 1:g}")
    _write(folder / "list.csv", rows)
    return _places(folder, "list.csv")


def flow(folder: Path) -> dict[str, Any]:
    """Optical flow that was made elsewhere, without any video."""
    rng = np.random.default_rng(0)
    rows = ["path,label,subset"]
    for label in ("left", "right"):
        for number, subset in enumerate(("training", "training", "validation")):
            rows.append(f"{label}_{number}.avi,{label},{subset}")
            path = folder / f"frames/{label}/{label}_{number}.hdf5"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                for name in ("video_u", "video_v"):
                    frames = file.create_dataset(name, (12,), dtype=h5py.vlen_dtype(np.uint8))
                    for i in range(len(frames)):
                        picture = rng.integers(0, 256, (36, 48, 1), dtype=np.uint8)
                        jpeg = simplejpeg.encode_jpeg(picture, colorspace="GRAY")
                        frames[i] = np.frombuffer(jpeg, np.uint8)
    _write(folder / "list.csv", rows)
    return {**_places(folder, "list.csv"), "format": "csv", "file_type": "hdf5"}


MINIATURES: dict[str, dict[str, Callable[[Path, Videos], dict[str, Any]]]] = {
    "ucf101": {"ucf101": ucf101},
    "hmdb51": {"hmdb51": hmdb51},
    "kinetics400": {"kinetics400": partial(kinetics, files="kinetics_{}.csv")},
    "kinetics600": {"kinetics600": partial(kinetics, files="kinetics-600_{}.csv")},
    "kinetics700": {
        "kinetics700": partial(
            kinetics,
            files="{}.csv",
            header="label,youtube_id,time_start,time_end,split,is_cc",
            extensions=(".mp4", ".mkv", ".webm"),
        )
    },
    "mit": {"mit": partial(mit, same_names=True)},
    "activitynet": {"activitynet": activitynet},
    "stair": {"stair": stair},
    "own": {"from_folders": own_folders, "from_csv": own_csv},
}
"""For each shipped config what makes its data sets."""
