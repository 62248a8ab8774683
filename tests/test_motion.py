"""The embedded data set: real files in UCF-101's form, told apart by motion and by nothing else."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from r3d.errors import InputError
from r3d.lists import read_list
from r3d.motion import CLASSES, SPLITS, class_names, list_names, render_motion

N_VIDEOS, N_FRAMES, WIDTH, HEIGHT = 12, 18, 96, 72


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion 100%d")  # a name that patterns of ffmpeg stumble over
    render_motion(
        folder / "videos",
        folder / "lists",
        videos_per_class=N_VIDEOS,
        n_frames=N_FRAMES,
        size=(WIDTH, HEIGHT),
    )
    return folder


def decode(path: Path) -> np.ndarray:
    """Grey frames: (frames, height, width), float."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return np.stack(frames).astype(float)


def videos_of(folder: Path, label: str) -> list[Path]:
    return sorted((folder / "videos" / label).iterdir())


def test_layout_is_that_of_ucf101(folder: Path) -> None:
    for label in CLASSES:
        names = [path.name for path in videos_of(folder, label)]
        groups = [(group, clip) for group in range(1, 9) for clip in (1, 2)][:N_VIDEOS]
        assert len(names) == N_VIDEOS
        assert names[:3] == [f"v_{label}_g{g:02d}_c{c:02d}.avi" for g, c in groups[:3]]
    visible = {p.name for p in (folder / "videos").iterdir() if not p.name.startswith(".")}
    assert visible == {*CLASSES, "motion.json"}


def test_lists_are_those_of_ucf101(folder: Path) -> None:
    lists = folder / "lists"
    assert {p.name for p in lists.iterdir()} == {n for s in SPLITS for n in list_names(s)}
    classes = (lists / "classInd.txt").read_bytes()
    assert classes.startswith(b"1 RotateClockwise\r\n2 RotateCounterclockwise\r\n")
    train = (lists / "trainlist01.txt").read_bytes()
    assert train.startswith(b"RotateClockwise/v_RotateClockwise_g03_c01.avi 1\r\n")
    assert train.endswith(b"/v_ZoomOut_g08_c01.avi 8\r\n")
    test = (lists / "testlist02.txt").read_bytes()
    assert test.startswith(b"RotateClockwise/v_RotateClockwise_g03_c01.avi\r\n")


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_lists_every_video_once_and_tests_other_groups(folder: Path, split: str) -> None:
    video_list = read_list("ucf101", folder / "lists", split)
    videos = video_list.videos
    assert tuple(video_list.labels) == CLASSES
    assert sorted(videos["path"]) == sorted(
        f"{label}/{path.name}" for label in CLASSES for path in videos_of(folder, label)
    )
    groups = videos["id"].str.extract(r"_(g\d+)_")[0]
    tested = set(groups[videos["subset"] == "validation"])
    assert tested == {"01": {"g01", "g02"}, "02": {"g03", "g04"}}[split]
    assert tested.isdisjoint(groups[videos["subset"] == "training"])
    assert videos[videos["subset"] == "validation"]["label"].value_counts().nunique() == 1


@pytest.mark.parametrize("label", CLASSES)
def test_videos_have_the_asked_form_and_only_key_frames(folder: Path, label: str) -> None:
    for path in videos_of(folder, label):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
            assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 25)
            assert stream.codec_context.name == "mpeg4"
            # A predicted frame would carry traces of the motion.
            assert keys == [True] * N_FRAMES


def moved(frames: np.ndarray, label: str) -> np.ndarray:
    """Frames after one step of a motion of middle speed, by the nearest pixel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    y, x = y - HEIGHT / 2, x - WIDTH / 2
    sine, cosine = np.sin(0.1), np.cos(0.1)
    scale = 2**0.13
    turned = {
        "Clockwise": (cosine * x + sine * y, cosine * y - sine * x),
        "Counterclockwise": (cosine * x - sine * y, cosine * y + sine * x),
    }
    # Where each pixel came from; y points down, so a positive angle turns clockwise.
    source_x, source_y = {
        **{f"Rotate{way}": place for way, place in turned.items()},
        **{f"SpiralIn{way}": (a / scale, b / scale) for way, (a, b) in turned.items()},
        **{f"SpiralOut{way}": (a * scale, b * scale) for way, (a, b) in turned.items()},
        "TranslateDownLeft": (x + 2, y - 2),
        "TranslateDownRight": (x - 2, y - 2),
        "TranslateUpLeft": (x + 2, y + 2),
        "TranslateUpRight": (x - 2, y + 2),
        "TranslateDown": (x, y - 3),
        "TranslateLeft": (x + 3, y),
        "TranslateRight": (x - 3, y),
        "TranslateUp": (x, y + 3),
        "ZoomIn": (x / scale, y / scale),
        "ZoomOut": (x * scale, y * scale),
    }[label]
    rows = np.rint(source_y + HEIGHT / 2).astype(int).clip(0, HEIGHT - 1)
    columns = np.rint(source_x + WIDTH / 2).astype(int).clip(0, WIDTH - 1)
    return frames[:, rows, columns]


def seen(path: Path, guesses: Sequence[str]) -> str:
    """The motion that explains a video best."""
    frames = decode(path)
    errors = {
        guess: np.square(moved(frames[:-1], guess) - frames[1:])[:, 8:-8, 8:-8].mean()
        for guess in guesses
    }
    return min(errors, key=errors.__getitem__)


@pytest.mark.parametrize("label", CLASSES)
def test_the_motion_is_the_one_that_the_class_names(folder: Path, label: str) -> None:
    assert {seen(path, CLASSES) for path in videos_of(folder, label)} == {label}


def test_sixteen_classes_are_the_eight_and_eight_more(folder: Path, tmp_path: Path) -> None:
    render_motion(
        *(tmp_path / "videos", tmp_path / "lists"),
        **{"videos_per_class": N_VIDEOS, "n_frames": N_FRAMES, "size": (WIDTH, HEIGHT)},
        n_classes=16,
    )
    labels = class_names(16)
    assert labels[:8] == CLASSES
    assert tuple(read_list("ucf101", tmp_path / "lists", "01").labels) == labels
    for label in labels[8:]:
        assert {seen(path, labels) for path in videos_of(tmp_path, label)[:4]} == {label}
    old, new = (videos_of(place, "ZoomIn")[5] for place in (folder, tmp_path))
    assert old.read_bytes() == new.read_bytes()


def test_noise_and_clutter_tell_nothing_of_the_class(tmp_path: Path) -> None:
    options = {"videos_per_class": 2, "n_frames": 6, "size": (WIDTH, HEIGHT)}
    frames = {}
    for name, made in (("plain", {}), ("clutter", {"clutter": 2}), ("noise", {"noise": 0.1})):
        render_motion(tmp_path / name, tmp_path / "lists", **options, **made)
        frames[name] = np.stack(
            [decode(path) for path in sorted((tmp_path / name).rglob("*_c01.avi"))]
        )
    clutter = np.abs(frames["clutter"] - frames["plain"]) > 30
    # Alike in the two videos of each class, of which each has another scene.
    for group in (0, 1):
        firsts = frames["clutter"][group::2, 0]
        assert np.abs(firsts - firsts[0]).max() == 0
    assert 0.03 < clutter.mean() < 0.3
    assert clutter[:, -1].mean() > 0.03
    # Grey is a mean of three channels, each with noise of 25 levels.
    noise = frames["noise"] - frames["plain"]
    assert 10 < noise.std() < 25
    assert abs(np.corrcoef(noise[0, 0].ravel(), noise[0, 1].ravel())[0, 1]) < 0.1


def test_the_videos_of_earlier_versions_are_kept(tmp_path: Path) -> None:
    options = {"videos_per_class": 2, "n_frames": 3, "size": (32, 16)}
    render_motion(tmp_path / "videos", tmp_path, **options)
    record = tmp_path / "videos/motion.json"
    assert record.read_text() == (
        '{"videos_per_class": 2, "n_frames": 3, "width": 32, "height": 16, "seed": 1, "version": 1}'
    )
    render_motion(tmp_path / "videos", tmp_path, **options, clutter=1)
    assert json.loads(record.read_text())["clutter"] == 1


def test_the_videos_of_one_group_and_clip_start_from_the_same_frame(folder: Path) -> None:
    first = np.stack([[decode(p)[0] for p in videos_of(folder, label)] for label in CLASSES])
    assert np.abs(first - first[0]).max() == 0
    assert np.abs(first[0, 1:] - first[0, :-1]).mean() > 20


def test_single_frames_look_alike_in_all_classes(folder: Path) -> None:
    """No brightness, contrast, sharpness or direction of a late frame tells the class."""
    features = []
    for label in CLASSES:
        last = np.stack([decode(path)[-1] for path in videos_of(folder, label)])
        across, down = np.diff(last, axis=2), np.diff(last, axis=1)
        columns = [last.mean((1, 2)), last.std((1, 2)), across.std((1, 2)), down.std((1, 2))]
        features.append(np.stack(columns, axis=1))
    values = np.stack(features)  # (classes, videos, features)
    between = values.mean(axis=1).var(axis=0, ddof=1) * N_VIDEOS
    within = values.var(axis=1, ddof=1).mean(axis=0)
    # The F statistic of 8 classes of 12 videos exceeds 2.8 in one of a hundred chance draws.
    assert (between / within < 2.8).all()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.avi")}


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    options = {"videos_per_class": 2, "n_frames": 3, "size": (32, 16)}
    for name, seed, threads in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        render_motion(tmp_path / name, tmp_path, seed=seed, threads=threads, **options)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_a_second_run_completes_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    options = {"videos_per_class": 2, "n_frames": 3, "size": (32, 16)}
    videos = tmp_path / "videos"
    render_motion(videos, tmp_path, **options)
    lost = videos / "ZoomIn/v_ZoomIn_g02_c01.avi"
    frames = decode(lost)
    lost.unlink()
    left_over = videos / ".unfinished/1/0.avi"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"half a video")
    others = [path for path in videos.rglob("v_*.avi") if path != lost]
    for path in others:
        os.utime(path, (1, 1))

    render_motion(videos, tmp_path, **options)

    assert (decode(lost) == frames).all()
    assert all(path.stat().st_mtime == 1 for path in others)


def test_videos_of_other_settings_are_replaced(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    render_motion(videos, tmp_path, videos_per_class=3, n_frames=2, size=(32, 16))
    render_motion(videos, tmp_path, videos_per_class=2, n_frames=4, size=(32, 16))
    paths = list(videos.rglob("*.avi"))
    assert len(paths) == 2 * len(CLASSES)
    assert {len(decode(path)) for path in paths} == {4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"videos_per_class": 1}, "videos_per_class is 1; accepted: 2 or more"),
        ({"n_frames": 1}, "n_frames is 1; accepted: 2 or more"),
        ({"size": (97, 72)}, r"size is \(97, 72\); accepted: even, 16 or more"),
        ({"size": (96, 8)}, r"size is \(96, 8\)"),
        ({"seed": -1}, "seed is -1; accepted: 0 or more"),
        ({"threads": 0}, "threads is 0; accepted: 1 or more"),
        ({"n_classes": 9}, "n_classes is 9; accepted: 8, 16"),
        ({"noise": 1.5}, "noise is 1.5; accepted: 0 to 1"),
        ({"clutter": -1}, "clutter is -1; accepted: 0 to 100"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_motion(tmp_path / "videos", tmp_path / "lists", **options)
    assert list(tmp_path.iterdir()) == []


def test_there_are_two_splits() -> None:
    assert list_names("02") == ["classInd.txt", "trainlist02.txt", "testlist02.txt"]
    with pytest.raises(InputError, match=r"no split '03'; accepted: 01, 02"):
        list_names("03")
