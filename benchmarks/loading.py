"""Loading: training clips of 16 x 112 x 112 that one core makes in a second, from each store.

The work of one loader process, in the time of its core: read, decode, crop, resize, put into a
batch. With `crops_per_clip` each of the samples of a decoded clip counts as one. With R3D_REFERENCE
the original's data set and transforms take the place of the recipe's.
"""

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import recipe
import torch
from PIL import Image
from realclips import copies, extract_all, real_clip
from sidebyside import compare, n_cores, parse, publish, rates_table
from torch.utils.data import default_collate
from torchvision.transforms import functional as pixels

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import TrainingClips
from r3d.clips.loader import make_loader
from r3d.clips.modelinput import model_input
from r3d.clips.transforms import View, decode_clip, random_view, short_side_view
from r3d.config.options import TrainingOptions
from r3d.frames.layouts import FileType
from r3d.frames.stores import FrameStore, open_store

OPTIONS = TrainingOptions()
BATCH = 8


class PackedStore(FrameStore):
    """What a store of our own would be: all JPEGs of a video one after the other in one file."""

    file_type = "jpg"

    def __init__(self, jpgs: FrameStore, keys: Sequence[str], folder: Path) -> None:
        super().__init__(folder)
        self._ends: dict[str, np.ndarray] = {}
        for key in keys:
            frames = [path.read_bytes() for path in sorted(jpgs.path(key).glob("*.jpg"))]
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(frames))
            self._ends[str(path)] = np.cumsum([0, *map(len, frames)])

    def read_at(self, path: str | Path, indices: Sequence[int]) -> list[bytes]:
        ends = self._ends[str(path)]
        first, last = min(indices), max(indices)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(ends[first - 1])
            data = file.read(int(ends[last] - ends[first - 1]))
        offset = ends[first - 1]
        return [data[ends[i - 1] - offset : ends[i] - offset] for i in indices]

    _extension = ".packed"
    adopt = writer = _read = _find = _trust = None  # type: ignore[assignment]


def main() -> None:
    """Measure all stores and how well pixels agree with Pillow's."""
    options = parse(__doc__, copies=8, rounds=15, batches=8)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4"):
            copies(real_clip(clip), folder / "videos", options.copies)
        types: tuple[FileType, ...] = ("jpg", "hdf5")
        annotations = {
            file_type: extract_all(
                folder / "videos", folder, file_type, threads=n_cores(), validation=0
            )
            for file_type in types
        }
        samples = {
            file_type: read_annotation(path, subset="training")
            for file_type, path in annotations.items()
        }
        stores = {name: open_store(folder / name / "frames", name) for name in types}
        packed = PackedStore(stores["jpg"], samples["jpg"].keys.tolist(), folder / "packed")
        small = extract_all(
            folder / "videos", folder, "hdf5", threads=n_cores(), validation=0, short_side=128
        )
        parts = {name: (samples[name], stores[name]) for name in types}
        parts["hdf5, short_side 128"] = (
            read_annotation(small, subset="training"),
            open_store(folder / "hdf5128/frames", "hdf5"),
        )
        clips = {name: TrainingClips(*part, OPTIONS) for name, part in parts.items()}
        twice = OPTIONS.model_copy(update={"crops_per_clip": 2})
        for name in ("hdf5", "hdf5, short_side 128"):
            clips[f"{name}, crops_per_clip 2"] = TrainingClips(*parts[name], twice)
        clips["packed"] = TrainingClips(samples["jpg"], packed, OPTIONS)
        whole = TrainingClips(samples["jpg"], stores["jpg"], OPTIONS)
        whole.reduce = False
        clips["jpg, never at half size"] = whole
        frames = folder / "jpg/frames"
        plain = recipe.training_clips(annotations["jpg"], frames)

        variants = {recipe.NAME: _plain(plain, options.batches)}
        for name, dataset in clips.items():
            n_crops = 2 if "crops_per_clip" in name else 1
            variants[f"r3d, {name}"] = _ours(dataset, options.batches, n_crops=n_crops)
        variants["r3d, jpg, normalised floats"] = _ours(
            clips["jpg"], options.batches, as_input=True
        )
        rates = compare(variants, rounds=options.rounds, clock=time.thread_time)
        text = rates_table(rates, "clips", baselines=[recipe.NAME])
        agreement = _agreement(sorted(frames.glob("*/*/")))
        sizes = [_size(folder / name / "frames") for name in ("hdf5", "hdf5128")]
    disk = f"With short_side 128 the frames take {sizes[1] / sizes[0]:.2f} of the disk."
    publish(
        "loading",
        f"{text}\n\n{disk} {agreement}",
        packages=("torch", "simplejpeg", "pillow", "h5py"),
    )


def _plain(dataset: "torch.utils.data.Dataset", n_batches: int) -> Callable[[], float]:
    rng = np.random.default_rng(0)

    def run() -> float:
        for _ in range(n_batches):
            default_collate([dataset[int(i)] for i in rng.integers(len(dataset), size=BATCH)])
        return BATCH * n_batches

    return run


def _ours(
    dataset: TrainingClips, n_batches: int, *, n_crops: int = 1, as_input: bool = False
) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    epoch = 0

    def run() -> float:
        nonlocal epoch
        epoch += 1
        n = BATCH * n_batches
        numbers = rng.integers(len(dataset), size=n // n_crops).tolist()
        keys = [(epoch, number, crop) for number in numbers for crop in range(n_crops)]
        for batch in make_loader(dataset, keys, batch_size=BATCH):
            if as_input:
                model_input(batch, OPTIONS, torch.device("cpu"))
        return n

    return run


def _agreement(folders: Sequence[Path]) -> str:
    """Preprocessing beside Pillow's, over frames of all clips."""
    rng = np.random.default_rng(0)
    evaluation, reduced = [], []
    for folder in folders:
        for path in sorted(folder.glob("*.jpg"))[::40]:
            jpeg = path.read_bytes()
            image = Image.open(io.BytesIO(jpeg)).convert("RGB")
            view = short_side_view(image.height, image.width, 112, "center")
            theirs = pixels.center_crop(pixels.resize(image, 112), 112)
            evaluation.append(_difference(_rendered(jpeg, view), theirs))
            view = random_view(
                image.height, image.width, 112, min_scale=0.25, min_ratio=0.75, rng=rng
            )
            ours = _rendered(jpeg, view, reduce=True)
            if not np.array_equal(ours, _rendered(jpeg, view)):
                reduced.append(_difference(ours, pixels.resized_crop(image, *view.box, [112, 112])))
    return (
        f"Preprocessing for evaluation differs from Pillow's by {np.mean(evaluation):.2f} grey "
        f"levels on average over {len(evaluation)} frames, by {np.max(evaluation):.2f} in the "
        f"frame that differs most. That for training decoded {len(reduced)} of them at half their "
        f"size: these differ by {np.mean(reduced):.2f} and {np.max(reduced):.2f}."
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rendered(jpeg: bytes, view: View, *, reduce: bool = False) -> np.ndarray:
    (clip,) = decode_clip([(jpeg,)], lambda h, w: view, reduce=reduce)
    return clip[0].numpy()


def _difference(ours: np.ndarray, theirs: Image.Image) -> float:
    return float(np.abs(ours.astype(np.int16) - np.asarray(theirs, np.int16)).mean())


if __name__ == "__main__":
    main()
