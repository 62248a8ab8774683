"""The ledger of a data set: one row a video, with what became of it and why."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from r3d.errors import InputError
from r3d.lists.tables import load_list
from r3d.tables import read_columns, write_table

_log = logging.getLogger(__name__)

MANIFEST_COLUMNS = ("id", "label", "key", "status", "reason", "frames", "fps", "width", "height")
"""Columns of a manifest.

status: ok, truncated (frames, but errors, clearly fewer than the container states, or clearly more
    than its time stamps explain; both are used), missing (no file), empty (no bytes, video stream
    or frame), corrupt (nothing decodable).
reason: why it is not ok; of one that is, why its stated rate was not followed, or "".
frames, fps, width, height: of the extracted frames; "0" and "" for videos without.
"""

USED = ("ok", "truncated")

_FIRST_FEW = 3


def write_ledger(
    manifests: Sequence[Path],
    lists: Mapping[str, Path],
    output: Path,
    *,
    max_failure_rate: float,
    refused: Path,
) -> None:
    """Put the manifests of all shards together, sorted by id, with each video's subset.

    A data set with a single split gets a column `subset`, one with more a column `subset_<split>`
    for each; "" says that the split leaves the video out.

    Args:
        lists: the list table of each split.
        max_failure_rate: share of the videos that may lack frames.
        refused: where the ledger stands for inspection if more do; not `output`, as a workflow
            removes the output of a step that failed.

    Raises:
        InputError: if more lack frames; if a listed video is in no manifest, or a video in two.
    """
    ledger = _read_manifests(manifests).set_index("id", drop=False)
    if not ledger.index.is_unique:
        repeated = ledger.index[ledger.index.duplicated()][0]
        raise InputError(f"manifests: video {repeated!r} is in two; extract its shards again")
    for split, table in lists.items():
        subsets = load_list(table).set_index("id")["subset"]
        absent = subsets.index.difference(ledger.index)
        if len(absent):
            raise InputError(
                f"manifests: {len(absent)} videos of {table} are absent, the first: {absent[0]!r}; "
                "extract the shards of this list"
            )
        column = "subset" if len(lists) == 1 else f"subset_{split}"
        ledger[column] = subsets.reindex(ledger.index, fill_value="")
    ledger = ledger.sort_index()
    failed = ledger[~ledger["status"].isin(USED)]
    if len(failed) > max_failure_rate * len(ledger):
        write_table(ledger, refused)
        raise InputError(_refusal(failed, len(ledger), max_failure_rate, refused))
    write_table(ledger, output)
    refused.unlink(missing_ok=True)
    without = f"{len(failed)} without frames ({_counts(failed)})" if len(failed) else "all used"
    _log.info("%s: %d videos, %s", output, len(ledger), without)


def load_ledger(path: Path) -> pd.DataFrame:
    """The ledger with numbers as numbers: frames, width and height (0 for none), fps (NaN)."""
    try:
        columns = path.open(encoding="utf-8").readline().rstrip("\n").split("\t")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a ledger: {error.strerror}") from None
    subsets = [name for name in columns if name.startswith("subset")]
    ledger = read_columns(path, (*MANIFEST_COLUMNS, *subsets))
    try:
        for name in ("frames", "width", "height"):
            ledger[name] = ledger[name].replace("", "0").astype(int)
        ledger["fps"] = ledger["fps"].replace("", "nan").astype(float)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: frames, fps, width and height have to be numbers: {error}"
        ) from None
    return ledger


def _read_manifests(manifests: Sequence[Path]) -> pd.DataFrame:
    tables = [read_columns(manifest, MANIFEST_COLUMNS) for manifest in manifests]
    return pd.concat(tables, ignore_index=True)


def _refusal(failed: pd.DataFrame, listed: int, max_failure_rate: float, refused: Path) -> str:
    counts = _counts(failed)
    first = failed.head(_FIRST_FEW)
    examples = "; ".join(f"{row.id}: {row.reason}" for row in first.itertuples())
    return (
        f"{len(failed)} of {listed} videos have no frames ({counts}), a share of "
        f"{len(failed) / listed:.4g}, and max_failure_rate is {max_failure_rate:g}; "
        f"the first: {examples}; see {refused}, mend the videos or raise max_failure_rate"
    )


def _counts(videos: pd.DataFrame) -> str:
    """How many there are of each status: `2 missing, 1 corrupt`."""
    return ", ".join(f"{n} {status}" for status, n in videos["status"].value_counts().items())
