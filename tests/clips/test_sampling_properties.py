"""Sampling of any video: within its frames, as many as asked for, the same whoever reads them.

The models below list all frames of a video and take clips from the list, as the reference does.
"""

import io
from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from r3d.annotations.reading import Annotation
from r3d.clips.datasets import (
    InferenceClipOptions,
    InferenceClips,
    TrainingClipOptions,
    TrainingClips,
    ValidationClipOptions,
    ValidationClips,
)
from r3d.clips.loader import EpochSampler, make_loader
from r3d.clips.sampling import (
    center_start,
    even_starts,
    frame_indices,
    random_start,
    sliding_starts,
    spread_starts,
)

COUNTS = st.integers(1, 20)
SEGMENTS = st.tuples(st.integers(0, 50), st.integers(1, 120)).map(lambda s: (s[0], s[0] + s[1]))
ANY_SEGMENT = SEGMENTS | st.tuples(st.integers(0, 5), st.integers(2**31 - 9, 2**31 - 1))


def looped(frames: Sequence[int], size: int) -> list[int]:
    return list(islice(cycle(frames), size))


def windows(frames: Sequence[int], size: int, stride: int) -> list[list[int]]:
    """The reference's sliding windows: the first that is too short is looped and the last."""
    found = []
    for position in range(0, len(frames), stride):
        window = frames[position : position + size]
        found.append(looped(window, size))
        if len(window) < size:
            break
    return found


@given(segment=SEGMENTS, size=COUNTS, t_stride=COUNTS)
def test_a_clip_is_the_thinned_out_video_from_its_start_on(
    segment: tuple[int, int], size: int, t_stride: int
):
    start, end = segment
    expected = looped(range(start, end, t_stride), size)
    assert frame_indices(start, end, size=size, t_stride=t_stride) == expected


@given(segment=ANY_SEGMENT, size=COUNTS, t_stride=COUNTS, seed=st.integers(0, 2**32))
def test_a_random_clip_fits_or_begins_with_the_video(
    segment: tuple[int, int], size: int, t_stride: int, seed: int
):
    begin, end = segment
    rng = np.random.default_rng(seed)
    start = random_start(begin, end, size=size, t_stride=t_stride, rng=rng)
    indices = frame_indices(start, end, size=size, t_stride=t_stride)
    assert len(indices) == size
    assert begin <= min(indices) <= max(indices) < end
    if start != begin:
        assert indices == list(range(start, end, t_stride)[:size])


@given(segment=SEGMENTS, size=COUNTS, t_stride=COUNTS)
def test_the_clip_in_the_middle(segment: tuple[int, int], size: int, t_stride: int):
    begin, end = segment
    frames = list(range(begin, end, t_stride))
    start = center_start(begin, end, size=size, t_stride=t_stride)
    assert start == frames[max(0, len(frames) // 2 - size // 2)]
    left, right = frames.index(start), len(frames) - frames.index(start) - size
    assert abs(left - right) <= 1 or len(frames) < size


@given(segment=SEGMENTS, size=COUNTS, t_stride=COUNTS, n_samples=COUNTS)
def test_even_clips_are_those_of_the_reference(
    segment: tuple[int, int], size: int, t_stride: int, n_samples: int
):
    begin, end = segment
    frames = list(range(begin, end, t_stride))
    starts = even_starts(begin, end, size=size, t_stride=t_stride, n_samples=n_samples)
    if n_samples > 1:  # by which it divides
        stride = max(1, ceil((len(frames) - 1 - size) / (n_samples - 1)))
        clips = [frame_indices(s, end, size=size, t_stride=t_stride) for s in starts]
        assert clips == windows(frames, size, stride)[:n_samples]
    else:
        assert list(starts) == [center_start(begin, end, size=size, t_stride=t_stride)]


@given(segment=SEGMENTS, size=COUNTS, t_stride=COUNTS, stride=COUNTS)
def test_windows_are_those_of_the_reference(
    segment: tuple[int, int], size: int, t_stride: int, stride: int
):
    begin, end = segment
    starts = sliding_starts(begin, end, size=size, t_stride=t_stride, stride=stride)
    clips = [frame_indices(s, end, size=size, t_stride=t_stride) for s in starts]
    assert clips == windows(list(range(begin, end, t_stride)), size, stride)
    if stride <= size:  # then no frame of the thinned out video is left out
        assert {index for clip in clips for index in clip} == set(range(begin, end, t_stride))


@given(segment=ANY_SEGMENT, size=COUNTS, t_stride=COUNTS, n_clips=COUNTS)
def test_spread_clips_are_so_many_from_end_to_end(
    segment: tuple[int, int], size: int, t_stride: int, n_clips: int
):
    begin, end = segment
    starts = spread_starts(begin, end, size=size, t_stride=t_stride, n_clips=n_clips)
    assert len(starts) == n_clips
    assert starts == sorted(starts)
    assert begin <= starts[0] <= starts[-1] < end
    if n_clips > 1:
        assert starts[0] == begin
        last = begin + max(0, (end - begin) - ((size - 1) * t_stride + 1))
        assert starts[-1] == last
        steps = [after - before for before, after in pairwise(starts)]
        assert max(steps) - min(steps) <= 1 or end > 2**30  # where fractions round


@given(
    n=st.integers(0, 40),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 1000),
    sizes=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    data=st.data(),
)
def test_any_number_of_processes_goes_through_an_epoch_alike(
    n: int, seed: int, epoch: int, sizes: tuple[int, int], data: Any
):
    """So many processes, stopped together, and another number of them for the rest."""
    alone = list(EpochSampler(n, seed=seed, epoch=epoch))
    assert sorted(video for _, video in alone) == list(range(n))

    def together(size: int, start: int = 0) -> list[tuple[int, int]]:
        ranks = [
            EpochSampler(n, seed=seed, epoch=epoch, rank=rank, world_size=size, start=start)
            for rank in range(size)
        ]
        shares = [list(rank) for rank in ranks]
        assert [len(rank) for rank in ranks] == [len(share) for share in shares]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        return [shares[i % size][i // size] for i in range(sum(map(len, shares)))]

    first, second = sizes
    done = first * data.draw(st.integers(0, n // first))
    assert together(first) == alone
    assert together(second, start=done) == alone[done:]


def _jpeg(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, "jpeg")
    return content.getvalue()


class OneFrame:
    """A store whose frames all look alike, and which notes what is asked of it."""

    file_type = "jpg"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._frame = _jpeg(12, 10)

    def path(self, key: str) -> Path:
        return Path(key)

    def read_at(self, path: Path, indices: list[int]) -> list[bytes]:
        self.asked = indices
        return [self._frame] * len(indices)


def samples(segments: Sequence[tuple[int, int]]) -> Annotation:
    texts = np.array([str(i) for i in range(len(segments))], dtype=np.dtypes.StringDType())
    begins, ends = (np.array(bounds, dtype=np.int32) for bounds in zip(*segments, strict=True))
    return Annotation(
        labels=["a", "b"],
        ids=texts,
        keys=texts,
        video_paths=np.array([""] * len(segments), dtype=np.dtypes.StringDType()),
        targets=np.arange(len(segments), dtype=np.int32) % 2,
        begins=begins,
        ends=ends,
        n_without_frames=0,
    )


SHAPES = st.fixed_dictionaries(
    {
        "sample_size": st.just(8),
        "sample_duration": st.integers(1, 10),
        "sample_t_stride": st.integers(1, 5),
    }
)


@given(
    segments=st.lists(SEGMENTS, min_size=1, max_size=6),
    shape=SHAPES,
    crop=st.sampled_from(["center", "nocrop", "three"]),
    n_clips=st.integers(0, 4),
    stride=st.integers(1, 30),
    world_size=st.integers(1, 8),
    batch_size=st.integers(1, 9),
)
def test_inference_covers_each_video_once_whatever_the_processes(
    segments: list[tuple[int, int]],
    shape: dict[str, int],
    crop: Any,
    n_clips: int,
    stride: int,
    world_size: int,
    batch_size: int,
):
    options = InferenceClipOptions(
        **shape, inference_clips=n_clips, inference_stride=stride, inference_crop=crop
    )
    store = OneFrame()
    clips = InferenceClips(samples(segments), store, options)  # type: ignore[arg-type]
    shards = [clips.shard(rank, world_size) for rank in range(world_size)]
    assert [key for shard in shards for key in shard] == list(range(len(clips)))
    videos = [[clips[key].video for key in shard] for shard in shards]
    for before, after in pairwise(filter(None, videos)):
        assert before[-1] < after[0]  # whole videos
    for shard in shards:
        batches = list(clips.batches(shard, batch_size))
        assert [key for batch in batches for key in batch] == list(shard)
        views = 3 if crop == "three" else 1
        assert all(1 <= len(batch) <= max(1, batch_size // views) for batch in batches)
        if crop == "nocrop":
            assert all(len({clips[key].video for key in batch}) == 1 for batch in batches)
    found: list[list[tuple[int, int]]] = [[] for _ in segments]
    for key in range(len(clips)):
        clip = clips[key]
        begin, end = segments[clip.video]
        assert begin <= min(store.asked) <= max(store.asked) < end
        assert clip.segment == (min(store.asked), max(store.asked) + 1)
        assert all(len(view) == options.sample_duration for view in clip.views)
        found[clip.video].append(clip.segment)
    for (begin, end), own in zip(segments, found, strict=True):
        assert own == sorted(own)
        assert len(own) == n_clips or (n_clips == 0 and own[0][0] == begin < end)


@given(
    segments=st.lists(SEGMENTS, min_size=1, max_size=6),
    shape=SHAPES,
    n_samples=st.integers(1, 5),
    epoch=st.integers(0, 2**40),
    seed=st.integers(0, 2**40),
)
def test_training_and_validation_stay_within_their_videos(
    segments: list[tuple[int, int]], shape: dict[str, int], n_samples: int, epoch: int, seed: int
):
    store = OneFrame()
    known = samples(segments)
    options = TrainingClipOptions(**shape, manual_seed=seed)
    training = TrainingClips(known, store, options)  # type: ignore[arg-type]
    chosen = ValidationClipOptions(**shape, n_val_samples=n_samples)
    validation = ValidationClips(known, store, chosen)  # type: ignore[arg-type]
    for video, (begin, end) in enumerate(segments):
        clip = training[epoch, video]
        asked = store.asked
        assert begin <= min(asked) <= max(asked) < end
        assert (clip.video, clip.label) == (video, video % 2)
        assert clip.views[0].shape == (options.sample_duration, 8, 8, 3)
        again = training[epoch, video]
        assert (again.segment, again.flip, store.asked) == (clip.segment, clip.flip, asked)
    for clip in (validation[key] for key in range(len(validation))):
        begin, end = segments[clip.video]
        assert begin <= clip.segment[0] < clip.segment[1] <= end
    assert len(segments) <= len(validation) <= n_samples * len(segments)


@given(
    segments=st.lists(SEGMENTS, min_size=1, max_size=6),
    shape=SHAPES,
    batch_size=st.integers(1, 5),
)
def test_batches_hold_the_clips_of_their_keys_in_order(
    segments: list[tuple[int, int]], shape: dict[str, int], batch_size: int
):
    options = TrainingClipOptions(**shape)
    clips = TrainingClips(samples(segments), OneFrame(), options)  # type: ignore[arg-type]
    sampler = EpochSampler(len(clips), seed=1)
    loader = make_loader(clips, sampler, batch_size=batch_size)
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        rows = [
            (video, tuple(segment), flip)
            for batch in loader
            for video, segment, flip in zip(
                batch.videos.tolist(), batch.segments.tolist(), batch.flips.tolist(), strict=True
            )
        ]
        expected = [
            (clip.video, clip.segment, clip.flip) for clip in map(clips.__getitem__, sampler)
        ]
        assert rows == expected
