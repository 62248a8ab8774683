"""The annotations of several data sets -> one."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r3d.annotations.format import UNREADABLE, classes_of, label_of, load_annotation
from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frames.layouts import FileType
from r3d.frames.stores import FrameStore, open_store
from r3d.lists.base import frame_key

_log = logging.getLogger(__name__)


def merge_annotations(
    parts: Mapping[str, tuple[Path, Path]], output: Path, *, file_type: FileType
) -> None:
    """Write the annotations of several data sets as one.

    The classes are those of the data sets, one list after the other, as in the outputs of the
    networks that were released for merged data. What the data sets have the same names for is not
    the same: a class becomes `<data set>/<label>`, an id `<data set>/<id>`, and `video_path` says
    where the frames are.

    Args:
        parts: by the name of each data set its annotation and the folder of its frames.
    """
    labels, databases = [], []
    for name, (annotation, frames) in parts.items():
        data = load_annotation(annotation)
        if "taxonomy" in data:
            raise InputError(
                f"{annotation}: is ActivityNet's, with segments in seconds; accepted are "
                "annotations of whole videos"
            )
        labels += [f"{name}/{label}" for label in classes_of(data, annotation)]
        databases.append((name, annotation, data["database"], open_store(frames, file_type)))
    with atomic_path(output) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        file.write(f'{{"labels": {json.dumps(labels)},\n"database": {{')
        separator = "\n"
        for name, annotation, database, store in databases:
            for video, entry in database.items():
                try:
                    merged = _merged(name, video, entry, store)
                except UNREADABLE as error:
                    raise InputError(
                        f"{annotation}: entry {video!r} cannot be merged "
                        f"({type(error).__name__}: {error}); expected an annotation of this package"
                    ) from None
                file.write(f"{separator}{json.dumps(f'{name}/{video}')}: {json.dumps(merged)}")
                separator = ",\n"
        file.write("\n}}\n")
    n_videos = sum(len(database) for _, _, database, _ in databases)
    _log.info(
        "%s: %d videos of %d classes, of %s", output, n_videos, len(labels), " and ".join(parts)
    )


def _merged(name: str, video: str, entry: dict[str, Any], store: FrameStore) -> dict[str, Any]:
    """The entry of a video in the annotation of a merged data set."""
    annotations = dict(entry["annotations"])
    label = label_of(annotations)
    if label:
        annotations["label"] = f"{name}/{label}"
    place = entry.get("video_path", "")
    if not isinstance(place, str):
        raise TypeError("its video_path is no text")
    place = place or str(store.path(frame_key(label or "", video)))
    return {"subset": entry["subset"], "annotations": annotations, "video_path": place}
