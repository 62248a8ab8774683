"""One's own list: a CSV file with path, label and, as far as wanted, subset, start and end."""

from pathlib import Path

from r3d.errors import InputError
from r3d.lists.base import (
    ListFormat,
    SplitOptions,
    VideoList,
    distinct_keys,
    name_videos,
    stem,
    subset_name,
    unique_ids,
    video_rows,
)
from r3d.lists.reading import Table, only_file, read_table
from r3d.lists.splitting import split_subsets


def _files(folder: Path, split: str) -> list[Path]:
    return [only_file(folder, ".csv")]


def _subsets(table: Table) -> list[str]:
    names = [text.strip().lower() for text in table.columns["subset"]]
    full = {}
    for name, line in zip(names, table.lines, strict=True):
        if name not in full:
            try:
                full[name] = subset_name(name)
            except InputError as error:
                raise InputError(f"{table.file}, line {line}: {error}") from None
    return [full[name] for name in names]


def _segments(table: Table) -> list[tuple[str, str, str]]:
    """Start and end in seconds as plain decimals, and both in milliseconds as an end of the id.

    Milliseconds keep dots out of ids, which are file names to which an extension is added. Without
    a start it is 0, without an end that of the file.
    """
    blank = [""] * len(table.lines)
    starts, ends = (table.columns.get(name, blank) for name in ("start", "end"))
    return [
        _segment(start.strip(), end.strip(), f"{table.file}, line {line}")
        for start, end, line in zip(starts, ends, table.lines, strict=True)
    ]


def _segment(start: str, end: str, where: str) -> tuple[str, str, str]:
    if not start and not end:
        return "", "", ""
    try:
        begin_ms = round(float(start or 0) * 1000)
        end_ms = round(float(end) * 1000) if end else None
    except (ValueError, OverflowError):
        begin_ms, end_ms = -1, None
    if begin_ms < 0 or (end_ms is not None and begin_ms >= end_ms):
        raise InputError(
            f"{where}: start {start!r} and end {end!r}; "
            "expected seconds with 0 <= start < end, or empty for those of the file"
        )
    if end_ms is None:
        return _seconds(begin_ms), "", f"_{begin_ms:07d}_end"
    return _seconds(begin_ms), _seconds(end_ms), f"_{begin_ms:07d}_{end_ms:07d}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def _read(folder: Path, split: str, options: SplitOptions) -> VideoList:
    (file,) = _files(folder, split)
    table = read_table(file, ("path", "label"), ("subset", "start", "end"))
    paths, labels = ([text.strip() for text in table.columns[name]] for name in ("path", "label"))
    paths = [path.removeprefix("./") for path in paths]  # as `find .` gives them
    segments = _segments(table)
    if "subset" in table.columns:
        subsets = _subsets(table)
    else:
        subsets = split_subsets(labels, paths, options, str(file))
    learned = {label for label, subset in zip(labels, subsets, strict=True) if subset == "training"}
    # Without training videos it is a list to apply a model to: a label is what is known of a video.
    classes = sorted({*(learned or labels)} - {""})
    starts, ends, suffixes = zip(*segments, strict=True) if segments else ((), (), ())
    rows = video_rows(
        file, table.lines, labels=labels, subsets=subsets, paths=paths, starts=starts, ends=ends
    )
    ids = [name + suffix for name, suffix in zip(unique_ids(paths), suffixes, strict=True)]
    names = [stem(path) + suffix for path, suffix in zip(paths, suffixes, strict=True)]
    return VideoList(classes, name_videos(rows, ids, distinct_keys(labels, names, ids)))


def _testing_has_labels(folder: Path) -> bool | None:
    (file,) = _files(folder, "all")
    table = read_table(file, ("label",), ("subset",))
    subsets = _subsets(table) if "subset" in table.columns else []
    labels = zip(table.columns["label"], subsets, strict=False)
    testing = [label.strip() for label, subset in labels if subset == "testing"]
    return any(testing) if testing else None


FORMAT = ListFormat(
    splits=("all",),
    files=_files,
    read=_read,
    class_source="the labels of the training videos",
    testing_has_labels=_testing_has_labels,
    needed_subsets=(),
)
