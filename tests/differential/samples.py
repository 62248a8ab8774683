"""Lists and frames for both sides, and the way from them to our annotation."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import simplejpeg
from PIL import Image

from r3d.annotations.writing import write_annotation
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.layouts import FileType
from r3d.frames.ledger import write_ledger
from r3d.frames.shards import write_shards
from r3d.frames.stores import FrameStore, VideoRecord, open_store, partial_folder
from r3d.lists import load_list, read_list, save_list

LABELS = ["zumba", "abseiling", "making tea"]
FILE_TYPES: tuple[FileType, ...] = ("jpg", "hdf5")

# Looped, exactly full, and cut into several clips of 16 frames.
_LENGTHS = (40, 1, 16, 17, 5, 33)
_ABSENT = "absent_00000_000000_000010"


@dataclass(frozen=True)
class DataSet:
    """Where everything lies; `frames` and `annotation` by the layout of the frames."""

    lists: Path
    frames: dict[FileType, Path]
    annotation: dict[FileType, Path]
    flow: Path


def make_data_set(folder: Path) -> DataSet:
    """Six training, validation and testing videos, and one more that has no frames."""
    lists = folder / "lists"
    lists.mkdir()
    for subset, short in (("train", "a"), ("val", "b"), ("test", "c")):
        labels = [LABELS[number % len(LABELS)] for number in range(len(_LENGTHS))]
        names = [f"{short}-_{number:07d}" for number in range(len(_LENGTHS))]
        rows = [f"{label},{name},0,10,{subset}" for label, name in zip(labels, names, strict=True)]
        if subset == "train":
            rows.append(f"{LABELS[0]},{_ABSENT.partition('_0000')[0]},0,10,{subset}")
        header = "label,youtube_id,time_start,time_end,split"
        if subset == "test":
            header = header.removeprefix("label,")
            rows = [row.partition(",")[2] for row in rows]
        text = "".join(f"{line}\n" for line in (header, *rows))
        (lists / f"kinetics-700_{subset}.csv").write_text(text)
    frames: dict[FileType, Path] = {}
    annotation: dict[FileType, Path] = {}
    for file_type in FILE_TYPES:
        frames[file_type] = folder / file_type
        annotation[file_type] = annotate(
            "kinetics", lists, "all", frames[file_type], file_type, absent=("absent",)
        )
    write_flow(frames["hdf5"], folder / "flow")
    return DataSet(lists, frames, annotation, folder / "flow")


def annotate(
    list_format: str,
    lists: Path,
    split: str,
    frames: Path,
    file_type: FileType,
    *,
    absent: tuple[str, ...] = (),
) -> Path:
    """Fill a store with frames of the listed videos and write our annotation of a split.

    Videos whose ids begin with one of `absent` get no frames.
    """
    work = frames.with_name(f"{frames.name}-{split}")
    work.mkdir()
    list_table, labels = work / "list.tsv", work / "labels.txt"
    save_list(read_list(list_format, lists, split), list_table, labels)
    keys = [
        key
        for name, key in load_list(list_table)[["id", "key"]].itertuples(index=False)
        if not name.startswith(absent or ("\0",))
    ]
    write_frames(open_store(frames, file_type), keys)
    (shard,) = write_shards([list_table], work, 1)
    options = FrameOptions(file_type=file_type, colour="as_reference")
    extract_shard(shard, work, frames, work / "manifest.tsv", options, threads=1, progress=False)
    write_ledger(
        [work / "manifest.tsv"],
        {split: list_table},
        work / "ledger.tsv",
        max_failure_rate=1,
        refused=work / "refused.tsv",
    )
    output = work / "annotation.json"
    write_annotation(
        list_table, labels, work / "ledger.tsv", output, file_type=file_type, frames=frames
    )
    return output


def write_frames(store: FrameStore, keys: list[str]) -> None:
    """Frames without subsampled chroma, which all decoders decode alike; each video looks its own.

    Their sizes differ from video to video and are upright or not.
    """
    for number, key in enumerate(sorted(keys)):
        if store.record(key):
            continue
        n_frames = _LENGTHS[number % len(_LENGTHS)]
        if store.file_type == "hdf5":
            n_frames = max(n_frames, 2)  # the reference leaves out single frames
        height, width = (48, 64 + number) if number % 2 else (70, 50)
        with partial_folder(store.folder) as partial, store.writer(partial / "0") as writer:
            for frame in range(n_frames):
                pixels = texture(height, width, seed=1000 * number + frame)
                writer.append(simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444"))
            record = VideoRecord("ok", "", n_frames, 25.0, width, height, None)
            writer.commit(store.path(key), record)


def write_flow(frames: Path, target: Path) -> None:
    """Optical flow for every video of a store, in the layout that the reference reads."""
    for number, path in enumerate(sorted(frames.rglob("*.hdf5"))):
        output = target / path.relative_to(frames)
        output.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path) as source, h5py.File(output, "w") as file:
            n_frames = len(source["video"])
            for plane, name in enumerate(("video_u", "video_v")):
                dtype = h5py.vlen_dtype(np.uint8)
                vector = file.create_dataset(name, (n_frames,), dtype=dtype)
                for frame in range(n_frames):
                    pixels = texture(48, 60, seed=10_000 * number + 100 * plane + frame)
                    grey = np.ascontiguousarray(pixels[..., :1])
                    jpeg = simplejpeg.encode_jpeg(grey, colorspace="GRAY")
                    vector[frame] = np.frombuffer(jpeg, np.uint8)


def texture(height: int, width: int, *, seed: int) -> np.ndarray:
    """A picture (h, w, 3), uint8: as in photographs, colours change slower than brightness."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    colours = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-30, 31, (height, width, 1))
    return np.ascontiguousarray((np.asarray(colours) + noise).clip(0, 255).astype(np.uint8))
