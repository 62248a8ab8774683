"""Several samples of each clip: what they share, and that it is read and decoded once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from r3d.annotations.reading import Annotation
from r3d.clips.datasets import Clip, ClipShape, TrainingClipOptions, TrainingClips
from r3d.clips.loader import EpochSampler, collate_clips, make_loader
from r3d.clips.transforms import View, decode_clip, decode_views, short_side_view
from r3d.config.options import TrainingOptions

# Boxes of a quarter of a frame have too few pixels for half the size, larger ones have them.
HEIGHT, WIDTH, SIDE = 48, 64, 16
ONE = TrainingClipOptions(sample_size=SIDE, sample_duration=4)
TWO = replace(ONE, crops_per_clip=2)
N_VIDEOS = 12


class Frames:
    """A store of 30 frames of noise, which notes what is read from it."""

    file_type = "jpg"

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (30, HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        large = np.ascontiguousarray(pixels.repeat(4, 1).repeat(4, 2))
        self._jpegs = [simplejpeg.encode_jpeg(frame) for frame in large]
        self.read: list[tuple[str, int]] = []

    def path(self, key: str) -> Path:
        return Path(key)

    def read_at(self, path: Path, indices: list[int]) -> list[bytes]:
        self.read += [(str(path), index) for index in indices]
        return [self._jpegs[index] for index in indices]


def samples(n: int = N_VIDEOS) -> Annotation:
    texts = np.array([str(i) for i in range(n)], dtype=np.dtypes.StringDType())
    return Annotation(
        labels=["a", "b"],
        ids=texts,
        keys=texts,
        video_paths=np.array([""] * n, dtype=np.dtypes.StringDType()),
        targets=np.arange(n, dtype=np.int32) % 2,
        begins=np.ones(n, np.int32),
        ends=np.full(n, 29, np.int32),
        n_without_frames=0,
    )


def clips_of(options: TrainingClipOptions, store: Any = None) -> TrainingClips:
    return TrainingClips(samples(), Frames() if store is None else store, options)


def assert_same(one: Clip, other: Clip) -> None:
    assert one[1:] == other[1:]
    for view, expected in zip(one.views, other.views, strict=True):
        assert torch.equal(view, expected)


# --- what the samples of a clip share


@pytest.mark.parametrize("change", [{}, {"train_crop": "corner", "colorjitter": True}])
def test_samples_of_a_clip_share_its_frames_and_nothing_else(change: dict[str, Any]) -> None:
    clips = clips_of(replace(ONE, crops_per_clip=3, **change))
    starts, flips, n_same = set(), Counter[tuple[bool, ...]](), 0
    for epoch in range(20):
        for number in range(N_VIDEOS):
            drawn = [clips[epoch, number, crop] for crop in range(3)]
            assert len({clip.segment for clip in drawn}) == 1
            assert {(clip.video, clip.label) for clip in drawn} == {(number, number % 2)}
            starts.add(drawn[0].segment[0])
            flips[tuple(clip.flip for clip in drawn)] += 1
            views = [clip.views[0] for clip in drawn]
            n_same += sum(torch.equal(views[i], views[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert len(starts) == 25
    # All eight ways to flip three of them, each about 30 times.
    assert len(flips) == 8
    assert min(flips.values()) > 12
    assert n_same < 5  # of 720 pairs, by chance


def test_samples_of_other_colours_only() -> None:
    clips = clips_of(replace(TWO, train_crop="center", no_hflip=True, randaugment=9))
    different = [
        not torch.equal(clips[0, number, 0].views[0], clips[0, number, 1].views[0])
        for number in range(N_VIDEOS)
    ]
    assert sum(different) > N_VIDEOS / 2  # some of the changes do nothing


def test_the_first_sample_is_that_of_a_training_with_one() -> None:
    one, two = clips_of(ONE), clips_of(TWO)
    for clips in (one, two):
        clips.reduce = False  # else the other sample has a say in the size that is decoded at
    for number in range(2 * N_VIDEOS):
        assert_same(two[5, number, 0], one[5, number])
        assert_same(two[5, number], one[5, number])


def test_one_sample_is_drawn_as_ever() -> None:
    """Of the stream of seed, epoch and video: the start, then the flip, then the box."""
    options = replace(ONE, train_crop="center", manual_seed=7)
    for number in range(N_VIDEOS):
        rng = np.random.default_rng(np.random.SeedSequence((7, 3), spawn_key=(number,)))
        start = 1 + int(rng.integers(28 - 4 + 1))
        clip = clips_of(options)[3, number]
        assert (clip.segment, clip.flip) == ((start, start + 4), rng.random() < 0.5)


def test_a_number_that_is_too_large_is_no_sample() -> None:
    with pytest.raises(IndexError, match="crop 2 of crops_per_clip: 2"):
        clips_of(TWO)[0, 0, 2]


def test_samples_of_another_shape() -> None:
    shape = ClipShape(size=8, duration=2, t_stride=3)
    one, other = clips_of(TWO).__getitems__([(0, 4, 0, shape), (0, 4, 1, shape)])
    assert one.segment == other.segment
    assert one.segment[1] - one.segment[0] == 4
    assert one.views[0].shape == other.views[0].shape == (2, 8, 8, 3)


# --- decoding


def test_a_batch_reads_each_of_its_clips_once() -> None:
    store = Frames()
    clips = clips_of(TWO, store)
    sampler = EpochSampler(N_VIDEOS, seed=1, crops_per_clip=2, batch_size=8)
    (*batches,) = make_loader(clips, sampler, batch_size=8)
    assert [len(batch.clips) for batch in batches] == [8, 8, 8]
    assert len(store.read) == len(set(store.read)) == 4 * N_VIDEOS
    for batch in batches:
        assert set(Counter(batch.videos.tolist()).values()) == {2}
    # As a DataLoader of one's own does, with torch's batches of the sampler.
    store.read.clear()
    sampler = EpochSampler(N_VIDEOS, seed=1, crops_per_clip=2)
    list(DataLoader(clips, batch_size=8, sampler=sampler, collate_fn=collate_clips))
    assert len(store.read) == 4 * N_VIDEOS


def test_a_sample_does_not_depend_on_the_others_of_its_batch() -> None:
    clips = clips_of(TWO)
    keys = [(2, number, crop) for number in range(N_VIDEOS) for crop in range(2)]
    alone = [clips[key] for key in keys]
    n_larger = 0
    for begin, end in ((0, 24), (1, 8), (0, 2)):
        for clip, expected in zip(
            clips.__getitems__(keys[begin:end]), alone[begin:end], strict=True
        ):
            assert_same(clip, expected)
    twice = clips.__getitems__([keys[0], keys[3], keys[0]])
    for clip, place in zip(twice, (0, 3, 0), strict=True):
        assert_same(clip, alone[place])
    # And that says something: some would be decoded at half the size, were they the only ones.
    for number in range(N_VIDEOS):
        n_larger += not torch.equal(clips_of(ONE)[2, number].views[0], alone[2 * number].views[0])
    assert 0 < n_larger < N_VIDEOS


@pytest.mark.parametrize(
    ("sizes", "divisor"), [((8, 16), 2), ((16, 8), 2), ((25, 8), 1), ((12, 12), 4), ((25, 48), 1)]
)
def test_frames_are_decoded_once_at_the_largest_size_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], divisor: int
) -> None:
    frames = [(jpeg,) for jpeg in Frames().read_at(Path(), list(range(3)))]
    views = [short_side_view(HEIGHT, WIDTH, size, "center") for size in sizes]
    decoded = []

    def decode(*arguments: Any, **options: Any) -> np.ndarray:
        decoded.append(options["min_height"])
        return actual(*arguments, **options)

    actual = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    both = decode_views(frames, lambda h, w: views, reduce=True)
    assert decoded == [HEIGHT // divisor] * 3
    assert [clip.shape for (clip,) in both] == [(3, size, size, 3) for size in sizes]
    for place, view in enumerate(views):
        (alone,) = decode_views(frames, lambda h, w: views, reduce=True, shown=[place])
        assert torch.equal(alone[0], both[place][0])

        def least(height: int, width: int, view: View = view) -> View:
            return view

        (single,) = decode_clip(frames, least, reduce=True)
        assert (single.float() - both[place][0].float()).abs().mean() < 8


# --- the order of an epoch


@given(
    n=st.integers(1, 20),
    crops=st.integers(2, 4),
    batch_size=st.integers(1, 20),
    world_size=st.integers(1, 4),
    data=st.data(),
)
def test_an_epoch_has_each_sample_once_whatever_the_processes(
    n: int, crops: int, batch_size: int, world_size: int, data: Any
) -> None:
    batch_size *= world_size
    options: dict[str, Any] = {"seed": 3, "epoch": 2, "crops_per_clip": crops}
    plain = [number for _, number in EpochSampler(n, seed=3, epoch=2)]
    in_a_row = list(EpochSampler(n, **options))
    assert in_a_row == [(2, number, crop) for number in plain for crop in range(crops)]
    whole = list(EpochSampler(n, **options, batch_size=batch_size))
    n_steps = -(-len(whole) // batch_size)
    start = batch_size * data.draw(st.integers(0, n_steps - 1))
    ranks = [
        EpochSampler(
            n,
            **options,
            **{"batch_size": batch_size, "rank": rank, "world_size": world_size, "start": start},
        )
        for rank in range(world_size)
    ]
    shares = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(share) for share in shares]
    for begin in range(start, len(whole), batch_size):
        # A batch has the next of the samples in a row, the first crops of all clips before others.
        batch = whole[begin : begin + batch_size]
        assert sorted(batch) == sorted(in_a_row[begin : begin + batch_size])
        assert [crop for *_, crop in batch] == sorted(crop for *_, crop in batch)
        first = (begin - start) // world_size
        parts = [share[first : first + batch_size // world_size] for share in shares]
        assert sorted(key for part in parts for key in part) == sorted(batch)
        if batch_size % (crops * world_size) == 0 and len(batch) == batch_size:
            for part in parts:  # whole clips, and all of each
                assert set(Counter(number for _, number, _ in part).values()) == {crops}


def test_neighbours_are_of_different_videos() -> None:
    order = list(EpochSampler(20, seed=1, crops_per_clip=2, batch_size=8))
    for begin in range(0, 40, 8):
        numbers = [number for _, number, _ in order[begin : begin + 8]]
        assert all(one != other for one, other in zip(numbers, np.roll(numbers, 1), strict=True))


def test_balanced_classes_keep_their_shares() -> None:
    classes = np.repeat([0, 1], [9, 3])
    options: dict[str, Any] = {"seed": 1, "classes": classes, "class_balance": 1}
    plain = list(EpochSampler(12, **options))
    keys = list(EpochSampler(12, **options, crops_per_clip=2, batch_size=6))
    assert sorted(keys) == sorted((*key, crop) for key in plain for crop in range(2))
    assert Counter(classes[number % 12] for _, number, _ in keys) == {0: 12, 1: 12}


# --- the option


def test_a_clip_has_to_fit_into_a_batch() -> None:
    with pytest.raises(ValueError, match=r"crops_per_clip: 5 cannot exceed batch_size \(4\)"):
        TrainingOptions(crops_per_clip=5, batch_size=4)
    assert TrainingOptions(crops_per_clip=4, batch_size=4).crops_per_clip == 4
