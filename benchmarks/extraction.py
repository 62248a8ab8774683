"""Extraction: videos per second of the shard extraction and of the plain recipe.

    python benchmarks/extraction.py [--old-ffmpeg /usr/bin/ffmpeg --old-ffprobe /usr/bin/ffprobe]

The recipe runs ffprobe and ffmpeg for each video; the wheel that brings ffmpeg has no ffprobe, so
it is given that of the system. With R3D_REFERENCE the original script runs (it needs joblib).
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import recipe
from PIL import Image
from realclips import copies, cuts, real_clip
from sidebyside import compare, n_cores, parse, publish, rates_table

from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.shards import write_shards
from r3d.lists import SplitOptions, read_list, save_list


def main() -> None:
    """Measure clips of UCF-101's format, and 1080p videos."""
    options = parse(
        __doc__,
        clips=24,
        large=4,
        rounds=7,
        old_ffmpeg=shutil.which("ffmpeg") or "",
        old_ffprobe=shutil.which("ffprobe") or "",
    )
    old = (options.old_ffmpeg, options.old_ffprobe)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = folder / "small"
        n_classes = n_cores()  # what the original works on at a time
        copies(real_clip("ucf101_clip.avi"), small, options.clips, n_classes=n_classes)
        large = folder / "large"
        cuts(
            real_clip("kinetics_clip.mp4"),
            large,
            options.large,
            n_classes=n_classes,
            seconds=2,
            filters="scale=1920:1080",
        )
        texts = []
        for title, videos in (("320 x 240, 164 frames", small), ("1920 x 1080, 56 frames", large)):
            variants = _variants(videos, folder / "frames", old)
            rates = compare(variants, rounds=options.rounds)
            recipes = [variant for variant in rates if variant.startswith(recipe.NAME)]
            rows = rates_table(rates, "videos", baselines=recipes)
            texts.append(f"**{title}**\n\n{rows}\n\n{_agreement(folder / 'frames')}")
            shutil.rmtree(folder / "frames")
    publish("extraction", "\n\n".join(texts), packages=("r3d", "av"))


def _variants(videos: Path, frames: Path, old: tuple[str, str]) -> dict[str, Callable[[], float]]:
    paths = sorted(videos.rglob("*.*"))
    table_path, labels = frames / "list.tsv", frames / "labels.txt"
    frames.mkdir(exist_ok=True)
    split = SplitOptions(validation_fraction=0)
    save_list(read_list("folders", videos, "all", split), table_path, labels)
    (shard,) = write_shards([table_path], frames / "shards", 1)
    new = ffmpeg_binary()

    def ours(file_type: str) -> Callable[[], float]:
        def run() -> float:
            target = _fresh(frames / file_type)
            options = FrameOptions(file_type=file_type)
            manifest = frames / "manifest.tsv"
            extract_shard(
                shard, videos, target, manifest, options, threads=n_cores(), progress=False
            )
            return len(paths)

        return run

    def plain(ffmpeg: str, ffprobe: str, name: str) -> Callable[[], float]:
        def run() -> float:
            target = _fresh(frames / name)
            recipe.extract(paths, target, ffmpeg=ffmpeg, ffprobe=ffprobe, n_jobs=n_cores())
            return len(paths)

        return run

    found = {"r3d frames": ours("jpg"), "r3d frames, hdf5": ours("hdf5")}
    old_ffmpeg, old_ffprobe = old
    if old_ffprobe:
        found[f"{recipe.NAME}, same ffmpeg"] = plain(new, old_ffprobe, "same")
    if not recipe.CHECKOUT:
        found["recipe without ffprobe, same ffmpeg"] = plain(new, "", "same")
    if old_ffmpeg and old_ffprobe:
        found[f"{recipe.NAME}, ffmpeg of the system"] = plain(old_ffmpeg, old_ffprobe, "system")
    return found


def _fresh(folder: Path) -> Path:
    """One more folder in this one.

    Nothing is deleted before the end: without a journal, ext4 steps over every file of the last
    minutes that was deleted before it makes a new one.
    """
    folder.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def _agreement(frames: Path) -> str:
    """Frames of both sides, compared one by one."""
    counts, differences = [], []
    made = {name: next((frames / name).iterdir()) for name in ("same", "jpg")}
    for theirs in sorted(made["same"].glob("*/*")):
        ours = sorted(made["jpg"].glob(f"*/{theirs.name}/*.jpg"))
        images = sorted(theirs.glob("*.jpg"))
        counts.append((len(ours), len(images)))
        for a, b in zip(ours, images, strict=False):
            pixels = [np.asarray(Image.open(path), np.int16) for path in (a, b)]
            differences.append(np.abs(pixels[0] - pixels[1]).mean())
    equal = sum(ours == theirs for ours, theirs in counts)
    return (
        f"Same frames: {equal} of {len(counts)} videos have the same number; "
        f"{np.mean(differences):.3f} grey levels apart on average, "
        f"{np.max(differences):.2f} in the frame that differs most."
    )


if __name__ == "__main__":
    main()
