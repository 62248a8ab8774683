"""The same pictures in another form are found, other pictures are not."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from r3d.doctor.nearduplicates import DISTANCE, FrameHashes, hash_frames, match_videos
from r3d.frames.decoding import read_jpegs
from r3d.frames.selection import Selection

SIZE = (240, 320)


def scene(seed: int) -> list[np.ndarray]:
    """Six frames of soft shapes that move: (240, 320, 3) bytes each."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (60, 120, 3), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((2 * SIZE[1], SIZE[0]), Image.BICUBIC))
    return [np.ascontiguousarray(wide[:, 30 * i : 30 * i + SIZE[1]]) for i in range(6)]


def coded(frames: list[np.ndarray], quality: int = 90) -> list[bytes]:
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(f), quality=quality) for f in frames]


def grey(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).convert("L").convert("RGB"))


def smaller(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((171, 128), Image.BICUBIC))


def with_logo(frame: np.ndarray) -> np.ndarray:
    marked = frame.copy()
    marked[20:100, 60:250] = 255
    return marked


def brighter(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame.astype(int) * 1.2 + 20, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [grey, smaller, with_logo, brighter])
def test_a_video_in_another_form(change) -> None:
    originals = [hash_frames(coded(scene(seed))) for seed in range(4)]
    changed = hash_frames(coded([change(frame) for frame in scene(2)], quality=40))
    (match,) = match_videos([changed], originals)
    assert (match.first, match.second) == (0, 2)
    assert match.share >= 0.8


def test_a_part_of_a_video() -> None:
    """It is within the other, so all of its frames match, though not all of the other's."""
    short, long = hash_frames(coded(scene(1)[2:4])), hash_frames(coded(scene(1)))
    assert [match.share for match in match_videos([long], [short])] == [1.0]


def test_a_few_equal_frames_are_no_near_duplicate() -> None:
    title = scene(9)[:2]
    one, other = (hash_frames(coded([*title, *scene(seed)])) for seed in (1, 2))
    assert match_videos([one], [other]) == []


def test_frames_that_show_nothing_are_not_compared() -> None:
    black = hash_frames(coded([np.zeros((*SIZE, 3), np.uint8)] * 6))
    assert not black.usable.any()
    assert match_videos([black], [black]) == []
    assert match_videos([], [black]) == []


def test_small_and_narrow_pictures() -> None:
    for height, width in ((8, 8), (1, 30), (37, 500), (2160, 64)):
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert len(hash_frames(coded([picture]))) == 1
    with pytest.raises(ValueError, match=r"JPEG|jpeg"):
        hash_frames([b"no picture"])


def random_videos(n: int, rng: np.random.Generator) -> list[FrameHashes]:
    usable = np.ones((10, 5), bool)
    bits = rng.integers(0, 2**64, (n, 10, 5, 4), dtype=np.uint64)
    return [FrameHashes(each, usable) for each in bits]


@pytest.mark.parametrize(("flipped", "found"), [(20, 40), (2 * DISTANCE, 0)])
def test_among_thousands_of_videos(flipped: int, found: int) -> None:
    rng = np.random.default_rng(1)
    training, held_out = random_videos(3000, rng), random_videos(600, rng)
    for number in range(40):
        bits = training[number].bits.copy()
        for frame in range(10):
            for bit in rng.choice(256, flipped, replace=False).tolist():
                bits[frame, 0, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
        bits[:, 1:] = held_out[number].bits[:, 1:]
        held_out[number] = FrameHashes(bits, held_out[number].usable)
    matches = match_videos(held_out, training)
    assert [(m.first, m.second) for m in matches] == [(i, i) for i in range(found)]


def test_thousands_of_equal_videos_are_not_compared_in_all_pairs() -> None:
    """As a static camera makes them: each is found all the same."""
    video = hash_frames(coded(scene(3)))
    matches = match_videos([video] * 300, [video] * 2000)
    assert {match.first for match in matches} == set(range(300))


def test_real_near_duplicates(shared: Path) -> None:
    folder = shared / "data/near_duplicates"
    files = [*sorted(folder.glob("*.mp4")), shared / "data/videos/kinetics_clip.mp4"]
    if len(files) < 5:
        pytest.skip("the shared near-duplicates are not on this machine")
    selection = Selection(short_side=240, quality=None, fps=1.0, start=None, end=None)
    videos = [hash_frames(read_jpegs(file, selection)) for file in files]
    names = [file.stem for file in files]
    pairs = {(names[m.first], names[m.second]) for m in match_videos(videos, videos)}
    versions = {name for name in names if name.startswith("pattern-sd")}
    assert len(versions) == 3
    apart = {pair for pair in pairs if pair[0] != pair[1]}
    assert apart == {(a, b) for a in versions for b in versions if a != b}
