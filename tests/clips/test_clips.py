"""Clips of a data set and the batches that they travel in."""

import logging
import math
import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Client, Connection
from multiprocessing.resource_sharer import DupFd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import simplejpeg
import torch

from r3d.annotations.reading import Annotation
from r3d.clips.datasets import (
    ClipOptions,
    EvaluationClips,
    InferenceClipOptions,
    InferenceClips,
    TrainingClipOptions,
    TrainingClips,
    ValidationClipOptions,
    ValidationClips,
)
from r3d.clips.loader import (
    ClipBatch,
    ClipLoader,
    EpochSampler,
    WorkerLost,
    _init_worker,
    make_loader,
    worker_count,
)
from r3d.clips.sampling import even_starts, sliding_starts
from r3d.clips.transforms import View, decode_clip, short_side_view
from r3d.config.options import RunOptions
from r3d.errors import InputError
from r3d.frames.stores import Hdf5Store, JpgStore

SIZES = ("40x32", "32x40", "32x32", "64x48")
N_FRAMES = 100


def jpegs(size: str, *, components: int = 3) -> list[bytes]:
    """Frames of which the brightness tells the number: 2 grey levels a frame."""
    width, height = map(int, size.split("x"))
    texture = np.random.default_rng(0).integers(0, 40, (height, width, components))
    return [
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(texture + 2 * index, dtype=np.uint8),
            colorspace="RGB" if components == 3 else "GRAY",
            quality=95,
        )
        for index in range(N_FRAMES)
    ]


def shown(clip: torch.Tensor) -> list[int]:
    """The numbers of the frames of a clip, told by their brightness."""
    return ((clip.float().mean((1, 2, 3)) - 19.5) / 2).round().int().tolist()


def write_jpg(folder: Path, frames: dict[int, bytes]) -> None:
    folder.mkdir(parents=True)
    for index, jpeg in frames.items():
        (folder / f"image_{index:05d}.jpg").write_bytes(jpeg)


@pytest.fixture(scope="module")
def jpg(tmp_path_factory: pytest.TempPathFactory) -> JpgStore:
    """A video of each size, and two of which frame 3 is cut off or of another size."""
    folder = tmp_path_factory.mktemp("jpg")
    videos = {size: dict(enumerate(jpegs(size))) for size in SIZES}
    videos["broken"] = videos["40x32"] | {3: videos["40x32"][3][:300]}
    videos["resized"] = videos["40x32"] | {3: videos["64x48"][3]}
    for name, frames in videos.items():
        frames.pop(0, None)
        write_jpg(folder / name, frames)
    return JpgStore(folder)


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory: pytest.TempPathFactory) -> Hdf5Store:
    """The same, numbered from 0, and optical flow of which u is 20 grey levels above v."""
    folder = tmp_path_factory.mktemp("hdf5")
    for size in SIZES:
        grey = jpegs(size, components=1)
        with h5py.File(folder / f"{size}.hdf5", "w") as file:
            for name, frames in (("video", jpegs(size)), ("video_u", grey[10:]), ("video_v", grey)):
                vector = file.create_dataset(name, (len(frames),), h5py.vlen_dtype(np.uint8))
                for index, jpeg in enumerate(frames):
                    vector[index] = np.frombuffer(jpeg, np.uint8)
    return Hdf5Store(folder)


def annotation(
    lengths: Sequence[int], *, begin: int = 1, keys: Sequence[str] = ("40x32",)
) -> Annotation:
    """Videos of these lengths, labelled in turn, with their frames under these keys in turn."""
    n = len(lengths)
    text = np.dtypes.StringDType()
    begins = np.full(n, begin, np.int32)
    return Annotation(
        labels=["run", "jump", "swim"],
        ids=np.array([f"video_{i}" for i in range(n)], dtype=text),
        keys=np.array([keys[i % len(keys)] for i in range(n)], dtype=text),
        video_paths=np.array([""] * n, dtype=text),
        targets=(np.arange(n) % 3).astype(np.int32),
        begins=begins,
        ends=begins + np.array(lengths, np.int32),
        n_without_frames=0,
    )


SMALL = ClipOptions(sample_size=16, sample_duration=4)
TWO = partial(even_starts, n_samples=2)
EVERY_FOUR = partial(sliding_starts, stride=4)
TRAINING = TrainingClipOptions(sample_size=16, sample_duration=4)


def batches(loader: ClipLoader) -> list[ClipBatch]:
    return list(loader)


def joined(parts: list[ClipBatch]) -> ClipBatch:
    return ClipBatch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


# --- training


def test_a_training_clip_holds_what_it_says(jpg: JpgStore) -> None:
    samples = annotation([30, 30, 30], begin=5)
    clips = TrainingClips(samples, jpg, replace(TRAINING, train_crop="center"))
    for video in range(3):
        clip = clips[1, video]
        (view,) = clip.views
        assert view.shape == (4, 16, 16, 3)
        begin, end = clip.segment
        assert 5 <= begin < end <= 35
        assert shown(view) == list(range(begin, end))
        assert (clip.video, clip.label) == (video, video)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"train_crop": "corner", "colorjitter": True},
        {"sample_t_stride": 3},
    ],
)
def test_batches_depend_on_seed_epoch_and_sample_only(
    jpg: JpgStore, change: dict[str, Any]
) -> None:
    samples = annotation([30] * 10, keys=("40x32", "32x40"))
    clips = TrainingClips(samples, jpg, replace(TRAINING, **change))
    sampler = EpochSampler(10, seed=1, epoch=2)
    alone = batches(make_loader(clips, sampler, batch_size=3))
    assert [len(batch.clips) for batch in alone] == [3, 3, 3, 1]
    torch.rand(5)
    for n_workers in (1, 2):
        loader = make_loader(clips, sampler, batch_size=3, n_workers=n_workers)
        for _ in range(2):  # the second time with workers that already did an epoch
            for given, expected in zip(loader, alone, strict=True):
                for tensor, other in zip(given, expected, strict=True):
                    assert torch.equal(tensor, other)
    one = joined(alone)
    by_hand = clips[2, int(one.videos[4])]
    assert torch.equal(by_hand.views[0], one.clips[4])
    assert by_hand.flip == one.flips[4]


def test_another_epoch_or_seed_gives_other_clips(jpg: JpgStore) -> None:
    samples = annotation([100] * 6)

    def draw(epoch: int, seed: int) -> list[tuple[int, int]]:
        options = replace(TRAINING, manual_seed=seed)
        clips = TrainingClips(samples, jpg, options)
        return [clips[epoch, video].segment for video in range(6)]

    draws = [draw(0, 1), draw(1, 1), draw(0, 2)]
    assert draws[0] == draw(0, 1)
    assert len({tuple(segments) for segments in draws}) == 3
    assert len(set(draws[0])) > 1


def test_starts_and_flips_are_drawn_evenly(jpg: JpgStore) -> None:
    clips = TrainingClips(annotation([7]), jpg, TRAINING)
    drawn = [clips[epoch, 0] for epoch in range(400)]
    starts = [clip.segment[0] for clip in drawn]
    assert set(starts) == {1, 2, 3, 4}
    assert min(starts.count(start) for start in range(1, 5)) > 60
    assert 150 < sum(clip.flip for clip in drawn) < 250
    steady = replace(TRAINING, no_hflip=True, train_t_crop="center")
    clips = TrainingClips(annotation([7]), jpg, steady)
    assert {(clips[e, 0].flip, clips[e, 0].segment) for e in range(20)} == {(False, (2, 6))}


def test_random_crops_are_used(jpg: JpgStore) -> None:
    samples = annotation([4], keys=("64x48",))
    clips = TrainingClips(samples, jpg, TRAINING)
    center = TrainingClips(samples, jpg, replace(TRAINING, train_crop="center"))
    assert torch.equal(center[0, 0].views[0], center[1, 0].views[0])
    different = {clips[epoch, 0].views[0].numpy().tobytes() for epoch in range(10)}
    assert len(different) == 10


def test_frames_are_decoded_at_half_size_for_training_only(jpg: JpgStore) -> None:
    samples = annotation([4], keys=("64x48",))
    frames = [(jpeg,) for jpeg in jpg.read("64x48", range(1, 5))]

    def view(height: int, width: int) -> View:
        return short_side_view(height, width, 16, "center")

    ((whole,), (half,)) = (decode_clip(frames, view, reduce=reduce) for reduce in (False, True))
    assert not torch.equal(whole, half)
    training = TrainingClips(samples, jpg, replace(TRAINING, train_crop="center", no_hflip=True))
    assert torch.equal(training[0, 0].views[0], half)
    evaluation = EvaluationClips(samples, jpg, SMALL, choose_starts=EVERY_FOUR)
    assert torch.equal(evaluation[0].views[0], whole)


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_short_videos_loop(hdf5: Hdf5Store, n_frames: int) -> None:
    clips = TrainingClips(
        annotation([n_frames], begin=0), hdf5, replace(TRAINING, train_crop="center")
    )
    clip = clips[0, 0]
    assert clip.segment == (0, n_frames)
    assert shown(clip.views[0]) == [i % n_frames for i in range(4)]


def test_frozen_clips_show_one_frame(jpg: JpgStore) -> None:
    options = replace(TRAINING, frozen=True, train_crop="center")
    clip = TrainingClips(annotation([50]), jpg, options)[3, 0]
    begin, end = clip.segment
    assert end - begin == 4
    assert shown(clip.views[0]) == [begin] * 4


def test_colours_change_alike_in_all_frames(jpg: JpgStore) -> None:
    options = replace(TRAINING, train_crop="center", frozen=True)
    samples = annotation([9])
    plain = TrainingClips(samples, jpg, options)
    jittered = TrainingClips(samples, jpg, replace(options, colorjitter=True))
    for epoch in range(3):
        (before,), (after,) = plain[epoch, 0].views, jittered[epoch, 0].views
        assert (after.float() - before.float()).abs().mean() > 1
        assert torch.equal(after, after[:1].expand_as(after))


# --- stores


def test_both_stores_give_the_same_clips(jpg: JpgStore, hdf5: Hdf5Store) -> None:
    for video in range(len(SIZES)):
        one = TrainingClips(annotation([80] * 4, keys=SIZES), jpg, TRAINING)[0, video]
        other = TrainingClips(annotation([80] * 4, begin=0, keys=SIZES), hdf5, TRAINING)[0, video]
        assert one.segment == (other.segment[0] + 1, other.segment[1] + 1)
        later = one.views[0].float() - other.views[0].float()
        assert later.mean().item() == pytest.approx(2, abs=0.3)  # one frame apart, 2 grey levels


def test_a_video_path_leads_elsewhere(jpg: JpgStore, tmp_path: Path) -> None:
    write_jpg(tmp_path / "elsewhere", dict(enumerate(jpegs("32x32")[50:60], start=1)))
    samples = annotation([9, 9], keys=["absent"])
    samples.video_paths[0] = str(tmp_path / "elsewhere")
    clips = TrainingClips(samples, jpg, replace(TRAINING, train_crop="center"))
    clip = clips[0, 0]
    assert shown(clip.views[0]) == [index + 49 for index in range(*clip.segment)]
    with pytest.raises(InputError, match=r"absent/image_0000\d\.jpg"):
        clips[0, 1]


def test_flow_clips_have_two_components(jpg: JpgStore, hdf5: Hdf5Store) -> None:
    options = replace(TRAINING, input_type="flow", train_crop="center")
    samples = annotation([30], begin=0)
    (batch,) = make_loader(
        TrainingClips(samples, hdf5, options), EpochSampler(1, seed=1), batch_size=1
    )
    assert batch.clips.shape == (1, 4, 16, 16, 2)
    u, v = batch.clips[0].float().unbind(-1)
    assert (u - v).mean().item() == pytest.approx(20, abs=0.5)
    assert shown(batch.clips[0, ..., 1:]) == list(range(*batch.segments[0].tolist()))
    with pytest.raises(InputError, match="file_type: hdf5, not jpg"):
        TrainingClips(samples, jpg, options)


# --- the order of an epoch


@pytest.mark.parametrize("n", [1, 2, 7, 8, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_processes_share_an_epoch(n: int, world_size: int) -> None:
    whole = [video for _, video in EpochSampler(n, seed=1, epoch=3)]
    assert sorted(whole) == list(range(n))
    parts = []
    for rank in range(world_size):
        sampler = EpochSampler(n, seed=1, epoch=3, rank=rank, world_size=world_size)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    assert sorted(video for part in parts for _, video in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("start", [0, 4, 20, 22])
def test_an_epoch_continues_where_it_stopped(start: int, world_size: int) -> None:
    for rank in range(world_size):
        sampler = EpochSampler(22, seed=5, rank=rank, world_size=world_size)
        sampler.set_epoch(6)
        whole = list(sampler)
        sampler.set_epoch(6, start=start)
        assert list(sampler) == whole[start // world_size :]
        assert len(sampler) == len(whole) - start // world_size


# Of unequal size, and mixed.
SKEWED = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [60, 30, 9, 1]))


@pytest.mark.parametrize(
    ("balance", "expected"),
    # Shares in proportion to 1, to the square root of the size, and to the size.
    [(1, [25, 25, 25, 25]), (0.5, [44.97, 31.8, 17.42, 5.81]), (0, [60, 30, 9, 1])],
)
def test_classes_come_as_often_as_their_balance_says(balance: float, expected: list[float]) -> None:
    counts = []
    for epoch in range(20):
        sampler = EpochSampler(100, seed=3, epoch=epoch, classes=SKEWED, class_balance=balance)
        numbers = np.array([number for _, number in sampler])
        assert len(set(numbers.tolist())) == len(numbers) == 100
        times = np.bincount(numbers % 100, minlength=100)
        counts.append(np.bincount(SKEWED, weights=times))
        for label in range(4):  # one video of a class comes once more than another at most
            assert np.ptp(times[label == SKEWED]) <= 1
        # The clips of a video that comes k times are its first k.
        assert all(number < 100 * times[number % 100] for number in numbers)
    for found, wanted in zip(np.transpose(counts), expected, strict=True):
        assert set(found) <= {math.floor(wanted), math.ceil(wanted)}
        assert found.mean() == pytest.approx(wanted, abs=0.4)


def test_balanced_epochs_are_shared_and_continued_like_others() -> None:
    def keys(**place: int) -> list[tuple[int, int]]:
        return list(EpochSampler(100, seed=3, epoch=2, classes=SKEWED, class_balance=0.8, **place))

    whole = keys()
    assert sorted(keys(rank=0, world_size=2) + keys(rank=1, world_size=2)) == sorted(whole)
    assert keys(rank=1, world_size=2) == whole[1::2]
    assert keys(start=30) == whole[30:]
    assert keys(start=30, rank=2, world_size=3) == whole[32::3]


def test_clips_of_a_video_that_comes_again_differ(jpg: JpgStore) -> None:
    clips = TrainingClips(annotation([100] * 3), jpg, TRAINING)
    drawn = [clips[0, number] for number in (1, 4, 7)]
    assert [clip.video for clip in drawn] == [1, 1, 1]
    assert len({clip.segment for clip in drawn}) == 3
    assert clips[0, 4].segment == drawn[1].segment


def test_each_epoch_has_its_order() -> None:
    orders = {
        tuple(video for _, video in EpochSampler(20, seed=seed, epoch=epoch))
        for seed in (1, 2)
        for epoch in (0, 1, 2)
    }
    assert len(orders) == 6


# --- validation and inference


def test_validation_takes_evenly_spaced_clips(jpg: JpgStore) -> None:
    options = ValidationClipOptions(sample_size=16, sample_duration=4, n_val_samples=3)
    clips = ValidationClips(annotation([20, 1, 5]), jpg, options)
    drawn = [clips[key] for key in range(len(clips))]
    assert [(clip.video, clip.segment) for clip in drawn] == [
        (0, (1, 5)),
        (0, (9, 13)),
        (0, (17, 21)),
        (1, (1, 2)),
        (2, (1, 5)),
        (2, (2, 6)),
        (2, (3, 6)),
    ]
    assert shown(drawn[-1].views[0]) == [3, 4, 5, 3]
    assert not any(clip.flip for clip in drawn)


@pytest.mark.parametrize("t_stride", [1, 2])
def test_inference_slides_over_whole_videos(hdf5: Hdf5Store, t_stride: int) -> None:
    options = InferenceClipOptions(
        sample_size=16, sample_duration=4, sample_t_stride=t_stride, inference_stride=4
    )
    clips = InferenceClips(annotation([10, 3], begin=0), hdf5, options)
    frames: dict[int, list[int]] = {0: [], 1: []}
    for key in range(len(clips)):
        clip = clips[key]
        frames[clip.video] += dict.fromkeys(shown(clip.views[0]))
    assert frames == {0: list(range(0, 10, t_stride)), 1: list(range(0, 3, t_stride))}


def test_a_long_video_costs_no_memory(jpg: JpgStore) -> None:
    tracemalloc.start()
    options = InferenceClipOptions(sample_size=16, sample_duration=16, inference_stride=1)
    clips = InferenceClips(annotation([10**9]), jpg, options)
    loader = make_loader(clips, clips.shard(0, 1), batch_size=8)
    n_batches = len(loader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_batches == (10**9 - 15 + 7) // 8
    assert peak < 10**6


def test_uncropped_videos_share_no_batch(jpg: JpgStore) -> None:
    options = InferenceClipOptions(
        sample_size=16, sample_duration=4, inference_stride=4, inference_crop="nocrop"
    )
    samples = annotation([20, 9, 40], keys=("40x32", "32x40", "32x32"))
    clips = InferenceClips(samples, jpg, options)
    loader = make_loader(clips, clips.shard(0, 1), batch_size=4)
    parts = list(loader)
    assert len(loader) == len(parts)
    assert [(set(part.videos.tolist()), tuple(part.clips.shape)) for part in parts] == [
        ({0}, (4, 4, 16, 20, 3)),
        ({0}, (1, 4, 16, 20, 3)),
        ({1}, (3, 4, 20, 16, 3)),
        ({2}, (4, 4, 16, 16, 3)),
        ({2}, (4, 4, 16, 16, 3)),
        ({2}, (2, 4, 16, 16, 3)),
    ]


def test_three_views_are_rows_of_one_batch(jpg: JpgStore) -> None:
    clips = EvaluationClips(annotation([20, 20]), jpg, SMALL, choose_starts=TWO, crop="three")
    parts = list(make_loader(clips, clips.shard(0, 1), batch_size=6))
    assert [part.videos.tolist() for part in parts] == [[0] * 6, [1] * 6]
    assert parts[1].labels.tolist() == [1] * 6
    assert parts[0].segments.tolist() == [[1, 5]] * 3 + [[16, 20]] * 3
    center = EvaluationClips(annotation([20, 20]), jpg, SMALL, choose_starts=TWO)
    assert torch.equal(parts[0].clips[1], center[0].views[0])
    assert not torch.equal(parts[0].clips[0], parts[0].clips[2])


@pytest.mark.parametrize("world_size", [1, 2, 3, 10])
def test_shards_are_whole_videos_each_once(jpg: JpgStore, world_size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 50).tolist()
    clips = EvaluationClips(annotation(lengths), jpg, SMALL, choose_starts=EVERY_FOUR)
    shards = [clips.shard(rank, world_size) for rank in range(world_size)]
    assert [key for shard in shards for key in shard] == list(range(len(clips)))
    edges = np.cumsum([0] + [-(-length // 4) for length in lengths])
    assert {shard.start for shard in shards} <= set(edges.tolist())
    assert max(map(len, shards)) < len(clips) / world_size + 100


def test_more_processes_than_videos(jpg: JpgStore) -> None:
    clips = EvaluationClips(annotation([5]), jpg, SMALL, choose_starts=EVERY_FOUR)
    shards = [clips.shard(rank, 3) for rank in range(3)]
    assert sorted(map(len, shards)) == [0, 0, 2]
    for shard in shards:
        assert len(batches(make_loader(clips, shard, batch_size=1))) == len(shard)


# --- trouble


def test_no_more_workers_than_cores_unless_they_are_asked_for(
    jpg: JpgStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then without a warning."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert worker_count(RunOptions()) == 2
    assert worker_count(RunOptions(n_threads=3)) == 3
    assert worker_count(RunOptions(n_threads=0)) == 0
    clips = TrainingClips(annotation([4, 4]), jpg, TRAINING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = make_loader(clips, EpochSampler(2, seed=1), batch_size=1, n_workers=3)
        assert len(list(loader)) == 2


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_broken_frame_is_one_line_that_names_it(jpg: JpgStore, n_workers: int) -> None:
    clips = TrainingClips(annotation([4, 4], keys=["broken"]), jpg, TRAINING)
    loader = make_loader(clips, EpochSampler(2, seed=1), batch_size=2, n_workers=n_workers)
    assert re.fullmatch(r".*/broken: frame 3: .*; extract the video again", _error_of(loader))
    assert jpg.marked(["broken", "40x32"]) == ["broken"]


def _error_of(loader: ClipLoader) -> str:
    try:
        list(loader)
    except InputError as error:
        return str(error)
    return ""


def test_a_killed_worker_is_one_line_with_a_remedy(jpg: JpgStore) -> None:
    clips = TrainingClips(annotation([12] * 200), jpg, TRAINING)
    loader = make_loader(clips, EpochSampler(200, seed=1), batch_size=1, n_workers=2)
    before = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    next(iterator)
    assert signal.getsignal(signal.SIGCHLD) is handler  # else it would strike anywhere
    worker = next(iter(set(multiprocessing.active_children()) - before))
    worker.kill()
    with pytest.raises(WorkerLost, match=r"a worker was killed, .*; lower n_threads") as caught:
        list(iterator)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_memory_that_does_not_suffice_is_one_line(
    jpg: JpgStore, monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(JpgStore, "read_at", fail)
    clips = TrainingClips(annotation([12] * 4), jpg, TRAINING)
    loader = make_loader(clips, EpochSampler(4, seed=1), batch_size=2, n_workers=n_workers)
    with pytest.raises(WorkerLost, match="there is too little memory; lower n_threads"):
        list(loader)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small /dev/shm")
def test_a_small_shared_memory_is_one_line(jpg: JpgStore, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    clips = TrainingClips(annotation([12] * 4), jpg, TRAINING)
    script.write_bytes(b"")
    (tmp_path / "clips").write_bytes(pickle.dumps(clips))
    script.write_text(
        "import pickle, sys\nfrom r3d.clips.loader import *\n"
        "clips = pickle.load(open(sys.argv[1], 'rb'))\n"
        "try:\n"
        "    list(make_loader(clips, EpochSampler(4, seed=1), batch_size=4, n_workers=1))\n"
        "except WorkerLost as error:\n    print(error)\n"
    )
    mount = 'mount -t tmpfs -o size=8k tmpfs /dev/shm || exit 9; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, script, tmp_path / "clips"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    if done.returncode in (1, 9) and not done.stdout:
        pytest.skip(f"no mount here: {done.stderr}")
    (line,) = done.stdout.splitlines()
    assert "do not fit into the shared memory (/dev/shm, 0 MB free" in line


def test_frames_of_two_sizes_are_refused(jpg: JpgStore) -> None:
    clips = TrainingClips(annotation([4], keys=["resized"]), jpg, TRAINING)
    with pytest.raises(InputError, match=r"resized: frame 3: .* 64 x 48 .* 40 x 32"):
        clips[0, 0]


def test_labels_are_needed_where_they_are_used(jpg: JpgStore) -> None:
    samples = annotation([9, 9])
    samples.targets[1] = -1
    for make in (
        lambda: TrainingClips(samples, jpg, TRAINING),
        lambda: ValidationClips(samples, jpg, ValidationClipOptions()),
    ):
        with pytest.raises(InputError, match="1 videos have no label, the first: 'video_1'"):
            make()
    options = InferenceClipOptions(sample_size=16, sample_duration=4)
    assert InferenceClips(samples, jpg, options)[1].label == -1


def test_videos_without_frames_are_counted_in_the_log(
    jpg: JpgStore, caplog: pytest.LogCaptureFixture
) -> None:
    samples = replace(annotation([9, 9]), n_without_frames=3)
    with caplog.at_level(logging.WARNING):
        assert len(TrainingClips(samples, jpg, TRAINING)) == 2
    assert "3 of 5 videos have no frames" in caplog.text


def test_any_object_with_the_options_will_do(jpg: JpgStore) -> None:
    everything = SimpleNamespace(
        **vars(TRAINING),
        **{"n_val_samples": 2, "inference_stride": 8, "inference_crop": "center"},
        inference_clips=0,
    )
    samples = annotation([9])
    assert torch.equal(
        TrainingClips(samples, jpg, everything)[0, 0].views[0],
        TrainingClips(samples, jpg, TRAINING)[0, 0].views[0],
    )
    assert len(ValidationClips(samples, jpg, everything)) == 2
    assert len(InferenceClips(samples, jpg, everything)) == 2


# --- processes


def test_the_random_state_of_the_caller_is_left_alone(jpg: JpgStore) -> None:
    clips = TrainingClips(annotation([9]), jpg, TRAINING)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(make_loader(clips, EpochSampler(1, seed=1), batch_size=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_outlive_a_signal_to_the_whole_group(
    jpg: JpgStore, request: pytest.FixtureRequest
) -> None:
    clips = TrainingClips(annotation([9] * 12), jpg, TRAINING)
    # After a training a library starts threads in a worker as soon as it is set up.
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(2)
    torch.nn.Conv3d(3, 8, 3)(torch.zeros(1, 3, 8, 32, 32))
    before = set(multiprocessing.active_children())
    loader = make_loader(clips, EpochSampler(12, seed=1), batch_size=1, n_workers=2, prefetch=1)
    iterator = iter(loader)
    next(iterator)
    next(iterator)  # both workers are at work by now
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for worker in workers:
        assert worker.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal_from_elsewhere(worker.pid, number)
    assert len(list(iterator)) == 10
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:  # only the parent ends them
        worker.terminate()
        worker.join(timeout=20)
        assert worker.exitcode == 0


def test_a_worker_has_nothing_to_say_to_a_parent_that_is_gone(tmp_path: Path) -> None:
    """Which was killed while a batch was handed over."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=_hand_over, args=(there, tmp_path / "stderr"))
    worker.start()
    address, key = here.recv()
    for read in (0, 4):  # nothing, or a part of what is said first
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            client.recv(read)
    Client(address, authkey=key).close()  # so the others are done with
    worker.kill()
    worker.join()
    assert not (tmp_path / "stderr").read_text()


def _hand_over(to: Connection, stderr: Path) -> None:
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = open(2, "w")  # noqa: SIM115 - pytest has put something in its place
    _init_worker(0)
    address, _ = DupFd(0)._id  # type: ignore[attr-defined]
    to.send((address, bytes(multiprocessing.current_process().authkey)))
    signal.pause()


def _signal_from_elsewhere(pid: int, number: int) -> None:
    child = os.fork()
    if child == 0:
        os.kill(pid, number)
        os._exit(0)
    os.waitpid(child, 0)


def test_a_data_set_is_small_to_send(jpg: JpgStore) -> None:
    n = 20_000
    clips = TrainingClips(annotation([9] * n), jpg, TRAINING)
    assert len(pickle.dumps(clips)) < 100 * n


# Which of them is Python's default depends on its version.
@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_workers_share_the_lists(jpg: JpgStore, start_method: str) -> None:
    few, many = 1_000, 300_000
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(start_method, force=True)
    try:
        own = {n: _largest_own_memory(jpg, n) for n in (few, many)}
    finally:
        multiprocessing.set_start_method(before, force=True)
    copy = many * (3 * 16 + len(LONG_ID.format(0)) + 3 * 4)
    assert copy > 25e6
    assert own[many] < own[few] + copy / 3


LONG_ID = "video_{:030}"


def _largest_own_memory(jpg: JpgStore, n: int) -> int:
    """What the largest of two workers has for itself after some batches of n videos, in bytes."""
    ids = np.array([LONG_ID.format(i) for i in range(n)], dtype=np.dtypes.StringDType())
    clips = TrainingClips(replace(annotation([9] * n), ids=ids), jpg, TRAINING)
    sampler = EpochSampler(n, seed=1)
    parts = iter(make_loader(clips, sampler, batch_size=16, n_workers=2))
    for _ in range(20):
        next(parts)
    return max(
        psutil.Process(worker.pid).memory_full_info().uss
        for worker in multiprocessing.active_children()
    )
