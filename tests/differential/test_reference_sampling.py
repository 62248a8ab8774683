"""Which frames make a clip: the reference's temporal transforms and ours."""

import random
from typing import Any

import numpy as np
import pytest
from checkout import Reference
from deviations import DEVIATIONS

from r3d.clips.sampling import (
    center_start,
    even_starts,
    frame_indices,
    random_start,
    sliding_starts,
)

pytestmark = pytest.mark.differential

SIZES = (1, 8, 16)
N_FRAMES = (*range(1, 70), 100, 127, 128, 129, 250)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("begin", [0, 1])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("TemporalBeginCrop", {}),
        ("TemporalCenterCrop", {}),
        *[("TemporalEvenCrop", {"n_samples": n}) for n in (2, 3, 10)],
        *[("SlidingWindow", {"stride": n}) for n in (1, 8, 16, 40)],
    ],
)
def test_the_same_frames(
    reference: Reference, name: str, options: dict[str, int], begin: int, size: int
) -> None:
    transform = getattr(reference.module("temporal_transforms"), name)(size, **options)
    for n_frames in N_FRAMES:
        end = begin + n_frames
        expected = transform(list(range(begin, end)))
        if not isinstance(expected[0], list):
            expected = [expected]
        found = [
            frame_indices(start, end, size=size)
            for start in starts(name, begin, end, size=size, **options)
        ]
        assert found == expected, n_frames


def starts(name: str, begin: int, end: int, **options: Any) -> Any:
    match name:
        case "TemporalBeginCrop":
            return [begin]
        case "TemporalCenterCrop":
            return [center_start(begin, end, **options)]
        case "TemporalEvenCrop":
            return even_starts(begin, end, **options)
        case _:
            return sliding_starts(begin, end, **options)


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 10, 12])
def test_random_starts(reference: Reference, n_frames: int) -> None:
    transform = reference.module("temporal_transforms").TemporalRandomCrop(8)
    rng = np.random.default_rng(1)
    random.seed(1)
    theirs, ours = set(), set()
    for _ in range(200):
        theirs.add(tuple(transform(list(range(1, n_frames + 1)))))
        start = random_start(1, n_frames + 1, size=8, rng=rng)
        ours.add(tuple(frame_indices(start, n_frames + 1, size=8)))
    last = {tuple(range(n_frames - 7, n_frames + 1))} if n_frames > 8 else set()
    assert last.isdisjoint(theirs), DEVIATIONS["last start"]
    assert ours == theirs | last


@pytest.mark.parametrize("n_frames", [40, 41])
def test_one_sample(reference: Reference, n_frames: int) -> None:
    transforms = reference.module("temporal_transforms")
    frames = list(range(1, n_frames + 1))
    (start,) = even_starts(1, n_frames + 1, size=16, n_samples=1)
    assert frame_indices(start, n_frames + 1, size=16) == transforms.TemporalCenterCrop(16)(frames)
    # DEVIATIONS["one sample"]
    with pytest.raises(ZeroDivisionError):
        transforms.TemporalEvenCrop(16, 1)(frames)


def test_stride(reference: Reference) -> None:
    """In training both sides take every second frame; in inference only ours does."""
    transforms = reference.module("temporal_transforms")
    frames = list(range(1, 41))
    steps = [transforms.TemporalSubsampling(2), transforms.TemporalCenterCrop(16)]
    start = center_start(1, 41, size=16, t_stride=2)
    found = frame_indices(start, 41, size=16, t_stride=2)
    assert found == transforms.Compose(steps)(frames)

    steps = [transforms.TemporalSubsampling(2), transforms.SlidingWindow(16, 16)]
    neighbours = transforms.Compose(steps)(frames)[0]
    assert neighbours == list(range(1, 17)), DEVIATIONS["stride"]
    start = sliding_starts(1, 41, size=16, stride=16, t_stride=2)[0]
    assert frame_indices(start, 41, size=16, t_stride=2) == list(range(1, 33, 2))
