"""List, classes and ledger -> the annotation JSON of one split."""

import json
import logging
from pathlib import Path

import pandas as pd

from r3d.annotations.format import is_rate, load_annotation
from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.ledger import load_ledger
from r3d.frames.stores import open_store
from r3d.lists.base import frame_key
from r3d.lists.tables import load_labels, load_list

_log = logging.getLogger(__name__)


def write_annotation(
    list_table: Path,
    labels: Path,
    ledger: Path,
    output: Path,
    *,
    file_type: FileType,
    frames: Path | None = None,
) -> None:
    """Write the annotation of one split from its list, its classes and the data set's ledger.

    Args:
        frames: the folder of the frame store, for the `video_path` of videos whose frames are not
            at `<label>/<id>`; without it, such a video is an `InputError`.
    """
    classes = load_labels(labels)
    videos = load_list(list_table)
    unknown = videos[~videos["label"].isin([*classes, ""])]
    if len(unknown):
        raise InputError(
            f"{list_table}: unknown class {unknown['label'].iloc[0]!r} of video "
            f"{unknown['id'].iloc[0]!r}; accepted are the {len(classes)} of {labels}"
        )
    known = _ledger_frames(ledger).reindex(videos["id"])
    n_frames = known["frames"]
    if n_frames.isna().any():
        absent = n_frames.index[n_frames.isna()]
        raise InputError(
            f"{ledger}: {len(absent)} videos of {list_table} are absent, the first: {absent[0]!r}; "
            "expected a row for each"
        )
    first = FIRST_FRAME[file_type]
    quoted = {label: json.dumps(label) for label in ["", *classes]}
    columns = (videos["id"], videos["subset"], videos["label"], n_frames.astype(int), known["key"])
    # Line by line: a dictionary of all videos of a large data set would take gigabytes.
    with atomic_path(output) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        file.write(f'{{"labels": {json.dumps(classes)},\n"database": {{')
        separator = "\n"
        for name, subset, label, n, key in zip(*(c.tolist() for c in columns), strict=True):
            fields = [f'"label": {quoted[label]}'] if label else []
            place = ""
            if n > 0:
                fields.append(f'"segment": [{first}, {first + n}]')
                if key != frame_key(label, name):
                    place = f', "video_path": {json.dumps(_place(frames, file_type, name, key))}'
            entry = f'{{"subset": "{subset}", "annotations": {{{", ".join(fields)}}}{place}}}'
            file.write(f"{separator}{json.dumps(name)}: {entry}")
            separator = ",\n"
        file.write("\n}}\n")
    subsets = videos["subset"].value_counts(sort=False)
    _log.info(
        "%s: %d videos (%s) of %d classes, %d without frames",
        *(output, len(videos), ", ".join(f"{n} {subset}" for subset, n in subsets.items())),
        *(len(classes), (n_frames == 0).sum()),
    )


def _place(frames: Path | None, file_type: FileType, name: str, key: str) -> str:
    """Where the frames of a key are, as an annotation states it."""
    if frames is None:
        raise InputError(
            f"video {name!r} has its frames at {key!r} and not at its label and id, which only "
            "video_path can tell: give the folder of the frames"
        )
    return str(open_store(frames, file_type).path(key))


def write_activitynet(json_in: Path, ledger: Path, output: Path, *, file_type: FileType) -> None:
    """Add frame rates and frame ranges from the ledger to the official ActivityNet JSON.

    Where the ledger has no rate, as the video is gone, that of the JSON is kept, to which the
    reference has added it.
    """
    data = load_annotation(json_in)
    frames = _ledger_frames(ledger)
    absent = [name for name in data["database"] if name not in frames.index]
    if absent:
        raise InputError(
            f"{ledger}: {len(absent)} videos of {json_in} are absent, the first: {absent[0]!r}; "
            "expected a row for each"
        )
    first = FIRST_FRAME[file_type]
    counts, rates = frames["frames"].to_dict(), frames["fps"].to_dict()
    for name, entry in data["database"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
            raise InputError(
                f"{json_in}: entry {name!r} has no list of annotations; expected the official JSON"
            )
        entry["frames"] = [first, first + counts[name]]
        if rates[name] > 0:
            entry["fps"] = rates[name]
        if counts[name] > 0 and entry["annotations"] and not is_rate(entry.get("fps")):
            raise InputError(
                f"{ledger}: video {name!r} has frames but no fps, nor has {json_in}, so its "
                "segments cannot be found in them; put its video into the videos folder"
            )
    with atomic_path(output) as partial:
        partial.write_text(json.dumps(data) + "\n", encoding="ascii")
    n_without = sum(counts[name] == 0 for name in data["database"])
    _log.info("%s: %d videos, %d without frames", output, len(data["database"]), n_without)


def _ledger_frames(ledger: Path) -> pd.DataFrame:
    """Key, number (0 without) and rate of the frames of each video, indexed by id."""
    table = load_ledger(ledger).set_index("id")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise InputError(f"{ledger}: video {twice!r} has two rows; expected one")
    return table[["key", "frames", "fps"]]
