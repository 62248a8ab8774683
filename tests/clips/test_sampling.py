"""Which frames make a clip."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from r3d.clips.sampling import (
    center_start,
    even_starts,
    frame_indices,
    freeze,
    random_start,
    sliding_starts,
    spread_starts,
)


def clips(op: str, begin: int, end: int, **options: int) -> list[list[int]]:
    size, t_stride = options.pop("size"), options.pop("t_stride", 1)
    common = {"size": size, "t_stride": t_stride}
    starts = {
        "begin": lambda: [begin],
        "center": lambda: [center_start(begin, end, **common)],
        "even": lambda: even_starts(begin, end, **common, **options),
        "sliding": lambda: sliding_starts(begin, end, **common, **options),
    }[op]()
    return [frame_indices(start, end, **common) for start in starts]


def test_equals_the_golden_lists(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "temporal.json").read_text())
    assert len(cases) > 40
    for case in cases:
        options = {key: case[key] for key in ("size", "stride", "n_samples") if key in case}
        assert clips(case["op"], 1, case["n_frames"] + 1, **options) == case["clips"], case


@pytest.mark.parametrize("n_frames", [1, 2, 15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("t_stride", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("begin", {}),
        ("center", {}),
        ("even", {"n_samples": 1}),
        ("even", {"n_samples": 3}),
        ("even", {"n_samples": 10}),
        ("sliding", {"stride": 8}),
        ("sliding", {"stride": 16}),
        ("sliding", {"stride": 40}),
    ],
)
def test_every_stride_takes_the_clips_of_the_thinned_out_video(
    op: str, options: dict[str, int], t_stride: int, n_frames: int
) -> None:
    begin = 7
    thinned = list(range(begin, begin + n_frames, t_stride))
    expected = [
        [thinned[position] for position in clip]
        for clip in clips(op, 0, len(thinned), size=16, **options)
    ]
    assert clips(op, begin, begin + n_frames, size=16, t_stride=t_stride, **options) == expected


@pytest.mark.parametrize(("n_frames", "expected"), [(200, [0, 46, 92, 138]), (3, [0])])
def test_even_clips_by_hand(n_frames: int, expected: list[int]) -> None:
    starts = list(even_starts(0, n_frames, size=16, n_samples=5))
    assert starts[: len(expected)] == expected
    assert len(starts) == (5 if n_frames == 200 else 1)


def test_windows_cover_every_frame_once() -> None:
    for n_frames, t_stride in itertools.product(range(1, 70), (1, 2)):
        windows = clips("sliding", 1, n_frames + 1, size=16, stride=16, t_stride=t_stride)
        frames = [index for window in windows for index in dict.fromkeys(window)]
        assert frames == list(range(1, n_frames + 1, t_stride))


def test_windows_are_never_listed() -> None:
    starts = sliding_starts(1, 10**15, size=16, stride=1)  # listing them would fill any memory
    assert len(starts) == 10**15 - 15
    assert starts[-2:] == range(10**15 - 16, 10**15 - 14)


@pytest.mark.parametrize(
    ("begin", "end", "t_stride", "starts"),
    [
        (1, 21, 1, {1, 2, 3, 4, 5}),
        (0, 16, 1, {0}),
        (30, 62, 2, {30, 31}),
        (1, 6, 1, {1}),
        (1, 20, 3, {1}),
        (4, 5, 1, {4}),
    ],
)
def test_random_draws_every_start_that_fits(
    begin: int, end: int, t_stride: int, starts: set[int]
) -> None:
    rng = np.random.default_rng(1)
    drawn = [random_start(begin, end, size=16, t_stride=t_stride, rng=rng) for _ in range(400)]
    assert set(drawn) == starts
    counts = [drawn.count(start) for start in starts]
    assert min(counts) > 0.6 * 400 / len(starts)
    for start in starts:
        indices = frame_indices(start, end, size=16, t_stride=t_stride)
        assert len(indices) == 16
        assert begin <= min(indices) <= max(indices) < end


def test_a_frozen_clip_shows_its_first_frame_only() -> None:
    assert freeze([5, 7, 9, 5]) == [5, 5, 5, 5]


def test_a_segment_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="begin 5 and end 5"):
        frame_indices(5, 5, size=16)


@pytest.mark.parametrize(
    ("n_frames", "n_clips", "t_stride", "starts"),
    [
        (300, 10, 1, [1, 33, 64, 96, 127, 159, 190, 222, 253, 285]),
        (64, 3, 2, [1, 17, 34]),
        (16, 2, 1, [1, 1]),
        (5, 3, 1, [1, 1, 1]),
        (20, 1, 1, [3]),
    ],
)
def test_spread_clips_reach_from_the_first_to_the_last_frame(
    n_frames: int, n_clips: int, t_stride: int, starts: list[int]
) -> None:
    found = spread_starts(1, n_frames + 1, size=16, n_clips=n_clips, t_stride=t_stride)
    assert found == starts
