"""Predictions: the scores of extraction and inference, over any number and kind of videos."""

import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import example
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from miniatures import Videos
from PIL import Image
from running import ROOT

import r3d
from r3d.annotations.writing import write_annotation
from r3d.cli.predict import predict_command
from r3d.clips.datasets import InferenceClipOptions, inference_starts
from r3d.config.normalisation import input_normalisation
from r3d.config.options import TrainingOptions
from r3d.engines.choosing import Choosing
from r3d.errors import InputError
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.ledger import write_ledger
from r3d.frames.shards import write_shards
from r3d.inference import streaming
from r3d.inference.outputs import Outputs
from r3d.inference.predict import Prediction, predict
from r3d.inference.sources import find_videos
from r3d.inference.streaming import ClipCutter
from r3d.inference.trained import load_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

LABELS = ["left", "right", "=up", "it's 100%: {x} $(touch oops) `id` 上"]
KINDS = (".timeline.csv", ".timeline.png", ".captioned.mp4")
RUN = r3d.RunOptions(n_threads=2, no_cuda=True)
SIDE = 36


def write_model(path: Path, **options: Any) -> Path:
    """An untrained network whose scores differ widely from clip to clip."""
    torch.manual_seed(3)
    chosen = TrainingOptions(
        **{
            "model_depth": 10,
            "resnet_widen_factor": 0.125,
            "sample_size": 32,
            "sample_duration": 8,
            "precision": "fp32",
            **options,
        }
    )
    network = build_model(n_classes=len(LABELS), **chosen.network())
    network.fc.weight.data *= 10
    checkpoint = Checkpoint(
        state_dict=network.state_dict(),
        epoch=1,
        architecture=network.architecture,
        config=chosen.model_dump(),
        labels=LABELS,
        normalisation=input_normalisation(chosen),
    )
    write_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and videos of several containers, lengths, rates and shapes."""
    folder = tmp_path_factory.mktemp("predict")
    write_model(folder / "model.pth")
    videos = Videos(folder / "kinds")
    for name, kind, seconds in (
        ("bars.mp4", 1, 2.3),
        ("two.avi", 0, 5),
        ("web.webm", 0, 1.1),
        ("short.mkv", 0, 0.4),
        ("one.mp4", 1, 0.1),
    ):
        videos.put(folder / "videos" / name, kind=kind, seconds=seconds)
    make(folder / "videos/tall.mp4", "testsrc2=size=40x90:rate=12.5:duration=2")
    make(folder / "videos/ntsc.mov", "mandelbrot=size=64x48:rate=30000/1001", "-t", "1.7")
    return folder


def make(path: Path, source: str, *options: str) -> Path:
    """Write a video that a filter of ffmpeg draws."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coded = ("-c:v", "libx264", "-preset", "ultrafast")
    command = [ffmpeg_binary(), "-y", "-loglevel", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *options, *coded, f"file:{path}"], check=True)
    return path


def of_extraction(
    place: Path, videos: Sequence[Path], model: Path, *, options: Any, side: int = SIDE
) -> dict[str, dict[str, float]]:
    """What extraction and `infer` say of videos: the score of each class by the name of each."""
    rows = [
        (str(n), LABELS[0], "validation", f"{LABELS[0]}/{n}", str(video.absolute()), "", "")
        for n, video in enumerate(videos)
    ]
    columns = ["id", "label", "subset", "key", "path", "start", "end"]
    place.mkdir()
    pd.DataFrame(rows, columns=columns).to_csv(place / "list.tsv", sep="\t", index=False)
    (place / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="utf-8")
    (shard,) = write_shards([place / "list.tsv"], place / "shards", 1)
    frames = FrameOptions(short_side=side, quality=2)
    extract_shard(
        shard,
        Path("/"),
        place / "frames",
        place / "manifest.tsv",
        frames,
        threads=2,
        progress=False,
    )
    write_ledger(
        [place / "manifest.tsv"],
        {"all": place / "list.tsv"},
        place / "ledger.tsv",
        max_failure_rate=0,
        refused=place / "refused.tsv",
    )
    write_annotation(
        place / "list.tsv",
        place / "labels.txt",
        place / "ledger.tsv",
        place / "annotation.json",
        file_type="jpg",
    )
    r3d.infer(
        options.model_copy(update={"output_topk": 0}),
        annotation=place / "annotation.json",
        frames=place / "frames",
        model=model,
        output=place / "result.json",
        run=r3d.RunOptions(n_threads=0, no_cuda=True),
        batch_size=5,
    )
    results = json.loads((place / "result.json").read_text())["results"]
    return {videos[int(name)].name: by_label(result) for name, result in results.items()}


def by_label(result: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in result}


def check_equal(place: Path, videos: Sequence[Path], model: Path, side: int, **options: Any):
    trained = load_model(model, output_topk=0, **options)
    expected = of_extraction(place, videos, model, options=trained.options, side=side)
    selection = trained.selection(short_side=side)
    found = {
        prediction.video.name: by_label(prediction.result)
        for prediction in predict(trained, videos, selection=selection, run=RUN)
    }
    assert list(found) == [video.name for video in videos]
    scores = np.array([list(expected[name].values()) for name in found])
    assert scores.max(1).min() < 0.99
    assert scores.max(0).max() - scores.max(0).min() > 0.05  # they do depend on the videos
    for name, result in found.items():
        assert result == pytest.approx(expected[name], abs=1e-3), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inference_stride": 3},
        {"inference_stride": 11, "sample_t_stride": 2},
        {"inference_stride": 5, "sample_t_stride": 3, "inference_crop": "three"},
        {"inference_stride": 8, "inference_crop": "nocrop"},
        {"inference_clips": 3},
        {"inference_clips": 1, "sample_t_stride": 2, "inference_crop": "three"},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()) or "default",
)
def test_scores_are_those_of_extraction_and_inference(
    folder: Path, tmp_path: Path, options: dict[str, Any]
):
    videos = sorted((folder / "videos").iterdir())
    check_equal(tmp_path / "extracted", videos, folder / "model.pth", SIDE, **options)


def test_so_they_are_of_a_control_without_motion(folder: Path, tmp_path: Path):
    model = write_model(tmp_path / "model.pth", frozen=True)
    videos = sorted((folder / "videos").iterdir())
    check_equal(tmp_path / "extracted", videos, model, SIDE)


def test_so_they_are_of_real_clips(shared: Path, tmp_path: Path):
    model = write_model(tmp_path / "model.pth", sample_size=112, sample_duration=16)
    videos = sorted((shared / "data/videos").iterdir())
    check_equal(tmp_path / "extracted", videos, model, 240)


def test_a_part_of_a_video_at_another_rate(folder: Path):
    """As `video_input` gives it, which is compared with extraction elsewhere."""
    model = load_model(folder / "model.pth")
    video = folder / "videos/two.avi"
    part = {"short_side": SIDE, "fps": 5.0, "start": 1.3, "end": 3.4}
    expected = model.best(model.video_input(video, **part), k=4)
    (found,) = predict(model, [video], selection=model.selection(**part), run=RUN)
    assert by_label(found.result) == pytest.approx(dict(expected), abs=1e-4)
    assert found.seconds == pytest.approx(2.1, abs=0.2)


def test_batches_hold_clips_of_several_videos_and_are_always_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[list[int]] = []
    collate = streaming.collate_clips

    def counting(clips: Any) -> Any:
        sizes[-1].append(len({clip.video for clip in clips}))
        return collate(clips)

    monkeypatch.setattr(streaming, "collate_clips", counting)
    model = load_model(folder / "model.pth")
    videos = sorted((folder / "videos").iterdir()) * 2
    scores = []
    for n_threads in (1, 4, 4):
        sizes.append([])
        run = r3d.RunOptions(n_threads=n_threads, no_cuda=True, inference_batch_size=16)
        scores.append([prediction.result for prediction in predict(model, videos, run=run)])
    assert max(sizes[0]) > 2
    assert scores[0] == scores[1] == scores[2]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("n_clips", [0, 3], ids=["sliding", "spread"])
def test_videos_tell_how_many_clips_they_have(
    folder: Path, monkeypatch: pytest.MonkeyPatch, n_clips: int
):
    """For the choice of an engine, before they are decoded."""
    told: list[int | None] = []
    monkeypatch.setattr(Choosing, "choose", lambda self, batch, n_rows: told.append(n_rows))
    options = {"inference_clips": n_clips, "inference_crop": "three"}
    model = load_model(folder / "model.pth", **options)
    video = folder / "videos" / "two.avi"
    found = list(predict(model, [folder / "nothing.avi", video, video], run=RUN))
    assert found[1].clips == found[2].clips > 1
    assert told == [3 * 3 * found[1].clips]  # as if the first one were like the others
    assert found[1].computed.startswith("torch ")


def jpegs(n: int) -> Iterator[bytes]:
    for shade in range(n):
        file = io.BytesIO()
        Image.new("RGB", (40, 36), (shade % 256,) * 3).save(file, "jpeg")
        yield file.getvalue()


@pytest.mark.parametrize("options", [{}, {"inference_stride": 2}, {"inference_clips": 4}])
def test_what_is_kept_of_a_video_does_not_grow(options: dict[str, int]):
    clips: list[tuple[int, int]] = []
    chosen = InferenceClipOptions(sample_size=32, sample_duration=8, **options)
    cutter = ClipCutter(chosen, lambda views, segment: clips.append(segment))
    most = 0
    for jpeg in jpegs(1000):
        cutter.append(jpeg)
        kept = [len(cutter._jpegs), len(cutter._rendered)]
        most = max(most, kept[1] if options.get("inference_clips") else max(kept))
    cutter.finish()
    assert most <= 8
    starts = inference_starts(chosen)(0, 1000, size=8)
    assert [segment[0] for segment in clips] == list(starts)


def test_many_frames_wait_on_the_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "_SPOOLED_BYTES", 5000)
    clips: list[list[torch.Tensor]] = []
    chosen = InferenceClipOptions(sample_size=32, sample_duration=4, inference_clips=2)
    cutter = ClipCutter(chosen, lambda views, segment: clips.append(views))
    for jpeg in jpegs(100):
        cutter.append(jpeg)
    cutter.finish()
    assert [int(frame.float().mean().round()) for clip in clips for frame in clip[0]] == [
        *(0, 1, 2, 3),
        *(96, 97, 98, 99),
    ]
    cutter.close()
    with pytest.raises(ValueError, match="closed"):
        cutter._jpegs[0]


def test_a_try_that_is_given_up_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Time stamps may turn out to mislead when clips have been computed already."""
    decode_file = streaming.decode_file

    def twice(path: Any, selection: Any, *, new_sink: Any, **rest: Any) -> Any:
        def first(plan: Any) -> Any:
            with new_sink(plan) as sink:
                for jpeg in jpegs(37):
                    sink.append(jpeg)
            return new_sink(plan)

        return decode_file(path, selection, new_sink=first, **rest)

    model = load_model(folder / "model.pth")
    videos = [folder / "videos" / name for name in ("two.avi", "bars.mp4")]
    expected = [p.result for p in predict(model, videos, run=RUN)]
    monkeypatch.setattr(streaming, "decode_file", twice)
    found = list(predict(model, videos, run=RUN))
    for prediction, result in zip(found, expected, strict=True):
        assert by_label(prediction.result) == pytest.approx(by_label(result), abs=1e-5)
    assert [prediction.clips for prediction in found] == [4, 2]


def test_a_fault_of_the_program_is_none_of_a_video(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(streaming, "decode_file", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        list(predict(load_model(folder / "model.pth"), [folder / "videos/two.avi"], run=RUN))


def test_the_scores_of_each_second(folder: Path):
    model = load_model(folder / "model.pth", inference_stride=8, output_topk=0)
    video = folder / "videos/two.avi"  # 10 frames a second, clips of 8 frames
    selection = model.selection(short_side=SIDE)
    (prediction,) = predict(model, [video], selection=selection, timeline=True, run=RUN)
    timeline = prediction.timeline
    assert timeline is not None
    assert timeline.spans == [(float(n), n + 1.0) for n in range(5)]
    with torch.inference_mode():
        clips = model.network(model.video_input(video, short_side=SIDE)).softmax(1).numpy()
    assert len(clips) == 7  # from frame 0, 8, 16, 24, 32, 40 and, looped, 48
    expected = [
        0.8 * clips[0] + 0.2 * clips[1],
        0.6 * clips[1] + 0.4 * clips[2],
        0.4 * clips[2] + 0.6 * clips[3],
        0.2 * clips[3] + 0.8 * clips[4],
        0.8 * clips[5] + 0.2 * clips[6],
    ]
    assert np.allclose(timeline.scores, expected, atol=1e-5)
    assert timeline.scores.std(0).max() > 0.01
    (entry, *_) = timeline.results(1)
    assert entry["segment"] == [0.0, 1.0]
    assert entry["result"][0]["label"] == LABELS[int(np.argmax(expected[0]))]


def test_a_part_has_the_seconds_of_the_video(folder: Path):
    model = load_model(folder / "model.pth")
    selection = model.selection(short_side=SIDE, start=1.5, end=3.2)
    video = folder / "videos/two.avi"
    (prediction,) = predict(model, [video], selection=selection, timeline=True, run=RUN)
    assert prediction.timeline is not None
    assert prediction.timeline.spans == [(1.5, 2.0), (2.0, 3.0), (3.0, pytest.approx(3.2, abs=0.1))]


def test_networks_of_flow_are_refused(folder: Path, tmp_path: Path):
    write_model(tmp_path / "flow.pth", input_type="flow")
    with pytest.raises(InputError, match="takes optical flow") as caught:
        run(str(tmp_path / "flow.pth"), "videos/two.avi")
    assert "\n" not in str(caught.value)


# The command.


@pytest.fixture
def inside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.pth").symlink_to(folder / "model.pth")
    (tmp_path / "videos").symlink_to(folder / "videos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, stdin: bytes = b"", status: int = 0) -> Result:
    done = CliRunner().invoke(
        predict_command, ["--no_cuda", "--short_side=36", *arguments], input=stdin
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done


def names_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def lines_of(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines(keepends=True)


def test_the_table_for_people_fits_a_terminal(inside: Path):
    done = run("model.pth", "videos/two.avi", "videos/bars.mp4", "--timeline")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "videos/two.avi"
    assert re.fullmatch(r"  0\.\d{3}  \S.*", lines[1])
    assert lines[5] == "  second"
    assert re.fullmatch(r"      0:04  0\.\d{3}  .+", lines[10])
    assert lines[11] == "videos/bars.mp4"
    assert done.stderr == ""


def test_json_and_csv_say_the_same(inside: Path):
    printed = json.loads(run("model.pth", "videos", "--json").stdout)
    assert [entry["video"] for entry in printed["results"]] == [
        f"videos/{name}" for name in sorted(names_in("videos"))
    ]
    done = run("--csv", "model.pth", "videos")  # what follows is no file to write
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 4 * len(printed["results"])
    first = printed["results"][0]
    assert set(first) == {"video", "seconds", "clips", "result", "computed"}
    for row, entry in zip(rows[:4], first["result"], strict=True):
        assert float(row["score"]) == entry["score"]
        assert row["label"] == entry["label"].replace("=up", "'=up")
    done = run("model.pth", "--json", "all.json", "videos", "--csv", "all.csv")
    assert json.loads(Path("all.json").read_text()) == printed
    assert list(csv.DictReader(lines_of("all.csv"))) == rows
    assert done.stdout.startswith("videos/")


def test_a_video_is_never_taken_for_the_file_to_write(inside: Path):
    before = Path("videos/two.avi").read_bytes()
    run("model.pth", "--json", "videos/two.avi")
    done = run("model.pth", "videos/two.avi", "--json=videos/two.avi", status=2)
    assert "does not end in .json" in done.stderr
    assert Path("videos/two.avi").read_bytes() == before


def test_a_folder_keeps_all(inside: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    for name in ("a/TWO.avi", "two.mp4"):
        Path(name).symlink_to(Path("videos/two.avi").resolve())
    videos = ["videos/two.avi", "a/TWO.avi", "two.mp4", "none.mp4"]
    done = run("model.pth", *videos, "--output", "kept", "--timeline", "--captions", status=1)
    assert done.stderr == "none.mp4: missing: no such file\n"
    names = ["two", "TWO-2", "two-3"]
    expected = {f"{name}{kind}" for name in names for kind in KINDS}
    assert names_in("kept") == {*expected, "predictions.json", "predictions.csv"}
    results = json.loads(Path("kept/predictions.json").read_text())["results"]
    assert [entry.get("files", {}).get("table") for entry in results] == [
        *(f"{name}.timeline.csv" for name in names),
        None,
    ]
    assert results[3] == {"video": "none.mp4", "error": "missing: no such file"}
    rows = list(csv.reader(lines_of("kept/predictions.csv")))
    assert rows[-1] == ["none.mp4", "", "", "", "missing: no such file"]
    table = list(csv.reader(lines_of("kept/two.timeline.csv")))
    assert table[0][:2] == ["start", "end"]
    assert sorted(table[0][2:]) == sorted([*LABELS[:2], f"'{LABELS[2]}", LABELS[3]])
    assert [row[0] for row in table[1:]] == [f"{n}.000" for n in range(5)]
    assert float(table[1][2]) == pytest.approx(
        by_label(results[0]["timeline"][0]["result"])[table[0][2].removeprefix("'")], abs=1e-5
    )
    assert Image.open("kept/two.timeline.png").width > 500


def frames_and_sound(path: Path) -> tuple[list[np.ndarray], int]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        n_sound = len(container.streams.audio)
    return frames, n_sound


@pytest.mark.parametrize("label", LABELS)
def test_captions_are_drawn_and_sound_is_kept(inside: Path, tmp_path: Path, label: str):
    sine = ("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac", "-pix_fmt", "yuv444p")
    video = make(tmp_path / "it's 100%.mp4", "color=red:size=161x91:rate=10:duration=2", *sine)
    prediction = Prediction(video, [{"label": label, "score": 0.5}], 1, 2.0)
    with Outputs(
        selection=load_model("model.pth").selection(), folder=tmp_path, captions=True
    ) as outputs:
        assert outputs.add(prediction) == ""
    plain, _ = frames_and_sound(video)
    shown, n_sound = frames_and_sound(tmp_path / "it's 100%.captioned.mp4")
    assert (len(shown), n_sound) == (20, 1)
    assert shown[0].shape == (92, 162, 3)
    for frame in (shown[0], shown[-1]):
        difference = np.abs(frame[:91, :158].astype(int) - plain[0][:, :158].astype(int)).max(
            (1, 2)
        )
        assert difference[:75].max() < 30
        assert difference[80:].min() > 50  # the strip
        assert frame[78:, :, 1].max() > 150  # the text, where the video has no green
    assert not (tmp_path / "oops").exists()


def test_captions_follow_the_timeline(inside: Path, tmp_path: Path):
    make(tmp_path / "long.mp4", "color=blue:size=96x64:rate=5:duration=3")
    run("model.pth", "long.mp4", "--captions", "--output=kept", "--inference_stride=5")
    frames, n_sound = frames_and_sound(tmp_path / "kept/long.captioned.mp4")
    assert (len(frames), n_sound) == (15, 0)
    model = load_model("model.pth", inference_stride=5)
    (prediction,) = predict(model, ["long.mp4"], timeline=True, run=RUN)
    timeline = prediction.timeline
    assert timeline is not None
    for second in (0, 1, 2):  # a class of its own in each
        timeline._sums[second][:] = np.eye(4)[second] * timeline._frames[second]
    for start, n_frames, expected in ((None, 15, [5, 10]), (0.6, 12, [2, 7])):
        selection = model.selection(start=start)
        with Outputs(selection=selection, folder=tmp_path, captions=True) as outputs:
            outputs.add(prediction)
        frames, _ = frames_and_sound(tmp_path / "long.captioned.mp4")
        assert len(frames) == n_frames
        changes = [
            n
            for n in range(1, n_frames)
            if np.abs(frames[n].astype(int) - frames[n - 1].astype(int))[50:].max() > 60
        ]
        assert changes == expected


def test_captions_need_a_folder(inside: Path):
    with pytest.raises(InputError, match="with --output FOLDER"):
        run("model.pth", "videos/two.avi", "--captions")


def test_a_bad_file_is_a_line_and_the_rest_goes_on(inside: Path, tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n")
    whole = Path("videos/two.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    bad = ["empty.mp4", "text.mp4", "pipe.mp4", "nothing", "none.mp4", "loop.mp4", "x" * 300]
    done = run("model.pth", "videos/bars.mp4", *bad, "half.avi", "videos/two.avi", status=1)
    lines = done.stderr.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted([*bad, "half.avi"])
    (half,) = [line for line in lines if line.startswith("half.avi")]
    assert "truncated: " in half
    videos = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert videos == ["videos/bars.mp4", "half.avi", "videos/two.avi"]


ODD_NAMES = [
    "it's.mp4",
    'a "quote".mp4',
    "per%cent%05d.mp4",
    "[a]*?.mp4",
    "Übung 上.mp4",
    "semi;colon:$(touch x).mp4",
    "-dash.mp4",
    "back\\slash.mp4",
    "two\nlines.mp4",
    "\x1b[31mred.mp4",
    os.fsdecode(b"latin\xe9.mp4"),
]


def test_what_is_odd_about_a_whole_video_is_no_truncation(shared: Path, inside: Path):
    done = run("model.pth", str(shared / "data/videos/corrupted.mp4"))
    assert "corrupted.mp4: faulty: 50 of 50 frames: " in done.stderr


def test_on_a_terminal_a_document_stays_whole(inside: Path):
    """What is wrong with videos comes after it, where both are shown on one screen.

    So does what is logged while it is written, as of precision: auto.
    """
    command = [sys.executable, "-m", "r3d", "predict", "model.pth", "--no_cuda", "--short_side=36"]
    command += ["none.avi", "videos/two.avi", "none.mp4", "videos/bars.mp4", "--json"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # of the end of the terminal
            while data := os.read(ours, 1 << 16):
                shown += data
    os.close(ours)
    assert process.returncode == 1
    begin, end = shown.index(b"{"), shown.rindex(b"\n]}") + 4
    assert len(json.loads(shown[begin : end + 1])["results"]) == 4
    lines = shown[end:].decode().split()
    assert [word for word in lines if word.startswith("none")] == ["none.avi:", "none.mp4:"]
    assert b"precision: auto is " in shown[end:]


def test_odd_names(inside: Path, tmp_path: Path):
    (tmp_path / "odd").mkdir()
    for name in ODD_NAMES:
        (tmp_path / "odd" / name).symlink_to(Path("videos/bars.mp4").resolve())
    os.chdir("odd")
    asked = ["../model.pth", *ODD_NAMES]
    done = run("--json", "--output=../kept", "--timeline", "--captions", "--", *asked)
    assert done.stderr == ""
    results = json.loads(done.stdout)["results"]
    assert len(results) == len(ODD_NAMES)
    assert [entry["video"] for entry in results[:-1]] == ODD_NAMES[:-1]
    assert results[-1]["video"] == "latin\\xe9.mp4"
    for entry in results:
        for name in entry["files"].values():
            assert (
                tmp_path / "kept" / os.fsencode(name).decode("utf-8", "surrogateescape")
            ).exists()
    printed = run("../model.pth", "..").stdout
    assert "\x1b" not in printed
    assert "../odd/two\\nlines.mp4" in printed.splitlines()
    assert not list(tmp_path.rglob("x"))


def test_lists_on_standard_input(inside: Path):
    names = b"videos/two.avi\r\n\n  \nvideos/bars.mp4"
    assert len(json.loads(run("model.pth", "-", "--json", stdin=names).stdout)["results"]) == 2
    names = b"videos/two.avi\0videos/bars.mp4\0"
    done = run("model.pth", "-", "videos/one.mp4", "--json", stdin=names)
    assert len(json.loads(done.stdout)["results"]) == 3
    done = run("model.pth", "-", "--json", stdin=b"\n", status=1)
    assert done.stderr.startswith("standard input: lists no video")
    assert json.loads(done.stdout) == {"results": []}


def test_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/b/2.MP4", "a/1.mkv", "a/notes.txt", "a/.hidden.mp4", "a/.x/3.mp4", "c/4.avi"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")  # a circle

    def found(*given: str) -> list[str]:
        videos, problems = find_videos(given)
        assert not problems
        return [str(video) for video in videos]

    assert found("a") == ["a/1.mkv", "a/b/2.MP4"]
    assert found("a/1.mkv", "a", "./a/1.mkv") == ["a/1.mkv", "a/b/2.MP4"]
    assert found("*/*.[am]*") == ["a/1.mkv", "c/4.avi"]
    assert found("**/[24].*") == ["a/b/2.MP4", "c/4.avi"]
    assert found("[ac]") == ["a/1.mkv", "a/b/2.MP4", "c/4.avi"]
    assert found("a/notes.txt") == ["a/notes.txt"]  # whoever names a file means it
    assert found("none*.mp4") == ["none*.mp4"]
    Path("c/4.avi").unlink()
    assert find_videos([""]) == (
        [],
        ["'': an empty name is no video; accepted: files, folders, patterns, -"],
    )
    assert find_videos(["c"])[1][0].startswith(
        "c: no video in this folder; a video ends in one of .mp4"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pth", "videos"], "none.pth: no such file"),
        (["videos/two.avi", "videos"], "two.avi"),
        (["model.pth", "videos", "--sample_size=x"], "sample_size"),
        (["model.pth", "videos", "--start=2", "--end=1"], "end: 1.0 is refused"),
        (["model.pth", "videos", "--json", "--csv"], "both to standard output"),
    ],
)
def test_what_is_refused(inside: Path, arguments: list[str], message: str):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x"])
@pytest.mark.parametrize("option", ["--start", "--end", "--fps"])
def test_odd_numbers_are_refused(inside: Path, option: str, value: str):
    done = run("model.pth", "videos", f"{option}={value}", status=2)
    assert f"Invalid value for '{option}'" in done.stderr


def test_an_interrupt_keeps_what_is_written(inside: Path, tmp_path: Path):
    make(tmp_path / "long.mp4", "testsrc2=size=64x48:rate=25:duration=400")
    asked = ["model.pth", "videos/bars.mp4", "long.mp4", "--output=kept", "--inference_stride=1"]
    command = [sys.executable, "-m", "r3d", "predict", "--no_cuda", *asked]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "videos/bars.mp4\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(20) == 130
    assert "Traceback" not in said
    results = json.loads(Path("kept/predictions.json").read_text())["results"]
    assert [entry["video"] for entry in results] == ["videos/bars.mp4"]
    assert len(Path("kept/predictions.csv").read_text().splitlines()) == 5
    assert names_in("kept") == {"predictions.csv", "predictions.json"}


def test_every_command_of_the_page_runs(tmp_path: Path):
    page = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.S))
    commands, n_installations = re.subn("(?m)^pip install .*\n", "", commands)
    assert (commands.count("r3d predict"), n_installations) == (9, 1)
    example.demo_folder(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/r3d"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m r3d "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said.count("answers: the answers about 4 videos") == 1
    # The second time it is known what int8 costs.
    reports = [line for line in said if line.startswith("int8: calibrated on ")]
    assert len(reports) == 2
    assert reports[0] == reports[1]
    assert json.loads((tmp_path / "int8.json").read_text())["computed"].endswith(" in int8")
    lines = done.stdout.splitlines()
    assert lines[0] == "data/motion/videos/ZoomIn/v_ZoomIn_g01_c01.avi"
    videos = [line for line in lines if not line.startswith(" ")]
    assert any("/TranslateLeft/" in line for line in videos)
    answers = json.loads((tmp_path / "answers.json").read_text())["results"]
    rows = list(csv.DictReader(lines_of(str(tmp_path / "answers.csv"))))
    assert len(rows) == 5 * len(answers) > 0
    kept = names_in(str(tmp_path / "answers"))
    assert {f"v_ZoomIn_g01_c01{kind}" for kind in KINDS} < kept
