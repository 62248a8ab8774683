"""Small lists of every format, made from a model of what they say."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r3d.lists import VideoList

Files = dict[str, str | bytes]

SUBSETS = ("training", "validation")


@dataclass(frozen=True)
class Video:
    """What a list says of a video."""

    name: str
    label: str
    subset: str


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def ucf101(labels: list[str], videos: list[Video]) -> Files:
    numbers = {label: number for number, label in enumerate(labels, 1)}
    lines = {
        "training": [f"{v.label}/{v.name}.avi {numbers[v.label]}\n" for v in videos],
        "validation": [f"{v.label}/{v.name}.avi\r\n" for v in videos],
    }
    chosen = {
        subset: "".join(
            line
            for line, video in zip(lines[subset], videos, strict=True)
            if video.subset == subset
        )
        for subset in SUBSETS
    }
    return {
        "classInd.txt": "".join(f"{number} {label}\n" for label, number in numbers.items()),
        "trainlist01.txt": chosen["training"],
        "testlist01.txt": chosen["validation"],
    }


def hmdb51(labels: list[str], videos: list[Video]) -> Files:
    files: Files = {}
    for label in labels:
        own = [video for video in videos if video.label == label]
        lines = [f"{v.name}.avi {1 + SUBSETS.index(v.subset)} \n" for v in own]
        files[f"{label}_test_split1.txt"] = "".join(["left out.avi 0\n", *lines])
    return files


def kinetics(labels: list[str], videos: list[Video]) -> Files:
    files: Files = {}
    for name, subset in (("train", "training"), ("val", "validation")):
        rows = [
            (video.label, video.name, number, number + 10, name)
            for number, video in enumerate(videos)
            if video.subset == subset
        ]
        header = ("label", "youtube_id", "time_start", "time_end", "split")
        files[f"kinetics-400_{name}.csv"] = csv_text([header, *rows])
    return files


def mit(labels: list[str], videos: list[Video]) -> Files:
    files: Files = {
        "moments_categories.txt": "".join(f"{label},{i}\n" for i, label in enumerate(labels))
    }
    for name, subset in (("training", "training"), ("validation", "validation")):
        rows = [(f"{v.label}/{v.name}.mp4", v.label, 3, 1) for v in videos if v.subset == subset]
        files[f"{name}Set.csv"] = csv_text(rows)
    return files


def own_csv(labels: list[str], videos: list[Video]) -> Files:
    rows = [(f"{video.label}/{video.name}.mp4", video.label, video.subset) for video in videos]
    return {"list.csv": csv_text([("path", "label", "subset"), *rows])}


def activitynet(labels: list[str], videos: list[Video]) -> Files:
    nodes: list[dict[str, Any]] = [{"nodeId": 0, "nodeName": "Root", "parentId": None}]
    nodes += [{"nodeId": i, "nodeName": label, "parentId": 0} for i, label in enumerate(labels, 1)]
    database = {
        video.name: {
            "subset": video.subset,
            "duration": 9.5,
            "annotations": [{"label": video.label, "segment": [0.5, 3]}],
        }
        for video in videos
    }
    return {"activity_net.json": json.dumps({"taxonomy": nodes, "database": database})}


def folders(labels: list[str], videos: list[Video]) -> Files:
    return {
        f"{'train' if video.subset == 'training' else 'val'}/{video.label}/{video.name}.mp4": b"-"
        for video in videos
    }


WRITERS = {
    "activitynet": activitynet,
    "csv": own_csv,
    "folders": folders,
    "hmdb51": hmdb51,
    "kinetics": kinetics,
    "mit": mit,
    "ucf101": ucf101,
}
SPLITS = {"ucf101": "01", "hmdb51": "1"}

LABELS, VIDEOS = (
    ["run", "walk"],
    [
        Video("a", "run", "training"),
        Video("b", "walk", "training"),
        Video("c", "run", "validation"),
        Video("d", "walk", "validation"),
    ],
)


def assert_inside(video_list: VideoList) -> None:
    """Check that ids are names, and that keys and paths stay in the folders that they are in."""
    videos = video_list.videos
    assert videos["id"].is_unique
    for video_id in videos["id"]:
        assert os.path.normpath(f"/store/{video_id}") == f"/store/{video_id}"
        assert "/" not in video_id
    for column in ("key", "path"):
        for name in videos[column]:
            assert os.path.normpath(f"/store/{name}") == f"/store/{name}"
            assert not {"\0", "\n", "\r", "\\"} & set(name)
    assert set(videos["subset"]) <= {"training", "validation", "testing"}
    assert set(videos["label"]) <= {*video_list.labels, ""}
