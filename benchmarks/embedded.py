"""The embedded data set with its frames and annotation, for benchmarks that train on it."""

from pathlib import Path

from sidebyside import n_cores

from r3d.annotations.writing import write_annotation
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ledger import write_ledger
from r3d.frames.shards import write_shards
from r3d.lists import read_list, save_list
from r3d.motion import render_motion


def embedded(folder: Path, frames: FrameOptions, **settings: int | float) -> Path:
    """Render it and extract `folder`/frames, a `jpg` store: the annotation of its first split.

    Args:
        settings: of `r3d.motion.render_motion`.
    """
    render_motion(folder / "videos", folder / "lists", threads=n_cores(), **settings)
    listed, labels = folder / "list.tsv", folder / "labels.txt"
    save_list(read_list("ucf101", folder / "lists", "01"), listed, labels)
    (shard,) = write_shards([listed], folder / "shards", 1)
    manifest, ledger = folder / "manifest.tsv", folder / "ledger.tsv"
    extract_shard(
        *(shard, folder / "videos", folder / "frames", manifest),
        frames,
        threads=n_cores(),
        progress=False,
    )
    refused = folder / "refused.tsv"
    write_ledger([manifest], {"01": listed}, ledger, max_failure_rate=0, refused=refused)
    annotation = folder / "annotation.json"
    write_annotation(listed, labels, ledger, annotation, file_type="jpg")
    return annotation
