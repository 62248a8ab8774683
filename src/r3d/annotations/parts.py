"""Digests of the parts of an annotation: what a training or an application of a model depends on.

An annotation changes with every video that is listed, a model only with those it is trained and
validated on. So a workflow compares these digests, and not the annotation, to tell whether a model
or a result is still right.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from r3d.annotations.format import load_annotation
from r3d.files import atomic_path, read_text
from r3d.frames.identity import joint_digest, video_digests
from r3d.lists.base import SUBSETS, subset_name
from r3d.lists.tables import load_labels
from r3d.tables import read_columns

TRAINING = "trainval"
"""The part that a training depends on: the videos of training and validation."""

PARTS = (TRAINING, "train", "val", "test")
"""The parts that have a digest: the training's, and each subset that a model is applied to."""


def write_part_digests(
    list_table: Path,
    labels: Path,
    ledger: Path,
    frames: Sequence[Path],
    outputs: Mapping[str, Path],
    *,
    official: Path | None = None,
) -> None:
    """Write the digest of each part of a split, a line each.

    It is over the classes and, in the order of the list, what is said of each video with frames and
    what these are. For a training the ids do not count: they change where a new video has the name
    of an old one, and nothing is trained on them.

    Args:
        frames: the digests of the frames of all shards (`r3d.frames.identity`).
        outputs: the file to write for each of `PARTS`.
        official: the JSON of ActivityNet, whose segments count too.
    """
    digests, rest = video_digests(frames), joint_digest(frames)
    known = read_columns(ledger, ("id", "frames"))
    with_frames = {
        name for name, n in zip(known["id"], known["frames"], strict=True) if n not in ("", "0")
    }
    entries = load_annotation(official)["database"] if official is not None else {}
    said: dict[str, list[str]] = {subset: [] for subset in SUBSETS}  # of each subset's videos
    named: dict[str, list[str]] = {subset: [] for subset in SUBSETS}  # the same with their ids
    columns = ("id", "subset", "label", "path", "start", "end")
    videos = read_columns(list_table, columns)
    for name, subset, *about in zip(*(videos[column].tolist() for column in columns), strict=True):
        if name in with_frames:
            if entries:
                about.append(json.dumps(entries.get(name), sort_keys=True))
            text = "\t".join([*about, digests.get(name, rest)])
            said[subset].append(text)
            named[subset].append(f"{name}\t{text}")
    classes = json.dumps(load_labels(labels))
    for part, output in outputs.items():
        if part == TRAINING:
            texts = ["training", *said["training"], "validation", *said["validation"]]
        else:
            texts = named[subset_name(part)]
        _write(_of_texts([classes, *texts]), output)


def merge_part_digests(
    sources: Mapping[str, Mapping[str, Path]], outputs: Mapping[str, Path]
) -> None:
    """Write the digests of a merged annotation from those of the data sets that it consists of.

    Args:
        sources: by the name of each data set the files of its parts.
    """
    for part, output in outputs.items():
        lines = [f"{name} {read_text(files[part]).strip()}" for name, files in sources.items()]
        _write(_of_texts(lines), output)


def _of_texts(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()


def _write(digest: str, output: Path) -> None:
    with atomic_path(output) as partial:
        partial.write_text(f"{digest}\n", encoding="utf-8")
