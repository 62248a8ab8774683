"""Files of features: rows that are written part by part, however many there are.

    ids        the video of each row
    labels     its class; "" (npz) or null (Parquet) where unknown
    segments   the frames it is from, begin <= i < end
    seconds    the same in seconds of the video; NaN or null where its rate is unknown
    features   numbers of the layer before the classes, fp32

A `.npz` loads with `numpy.load` and without pickle; a `.parquet` has `begin`, `end`,
`begin_seconds` and `end_seconds` in place of the two pairs.
"""

import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from r3d.errors import InputError
from r3d.files import AnyPath, atomic_path
from r3d.obstacles import writing

_PART_BYTES = 8 << 20
"""What is in memory at a time of the largest column."""

_COLUMNS = ("ids", "labels", "segments", "seconds", "features")
_PLACES = np.dtype([("segments", "<i8", 2), ("seconds", "<f8", 2)])


class FeatureRow(NamedTuple):
    """What the network says of a clip, or of all clips of a video on average.

    Attributes:
        name: the id of the video.
        label: its class, "" where unknown.
        segment: the frames that it is from, begin <= i < end.
        seconds: the same in seconds; NaN where unknown.
        features: (n,), fp32.
    """

    name: str
    label: str
    segment: tuple[int, int]
    seconds: tuple[float, float]
    features: np.ndarray


def need_feature_format(output: AnyPath) -> None:
    """Check that a file of features can be written by the extension of its name.

    Raises:
        InputError: if the extension is no format, or its package is not installed.
    """
    suffix = Path(output).suffix
    if suffix not in (".npz", ".parquet"):
        raise InputError(
            f"output {output}: {suffix or 'no extension'} is no format of features; accepted: "
            "NAME.npz, NAME.parquet"
        )
    if suffix == ".parquet":
        _parquet()


class FeatureFile(AbstractContextManager["FeatureFile"]):
    """Collects rows on the disk of the output, and writes it when the block ends well.

    >>> with FeatureFile("features.npz") as file:
    ...     file.add(FeatureRow("a", "run", (0, 16), (0.0, 0.64), np.zeros(512, np.float32)))

    Args:
        output: file to write, `.npz` or `.parquet`.

    Raises:
        InputError: as `need_feature_format`; if it cannot be written.
    """

    def __init__(self, output: AnyPath) -> None:
        need_feature_format(output)
        self._output = Path(output)
        self._n_features: int | None = None
        self._widths = {"ids": 1, "labels": 1}
        self.n_rows = 0

    def __enter__(self) -> Self:
        with writing(self._output), ExitStack() as files:
            folder = self._output.parent
            folder.mkdir(parents=True, exist_ok=True)
            # Without a name, so that nothing stays of a process that is killed.
            self._names, self._places, self._features = (
                files.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(3)
            )
            self._files = files.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._files:
            if kind is None:
                with atomic_path(self._output) as partial:
                    write = _write_npz if self._output.suffix == ".npz" else _write_parquet
                    write(self, partial)

    def add(self, row: FeatureRow) -> None:
        """Take the next row; all have as many features."""
        features = np.ascontiguousarray(row.features, np.float32)
        if self._n_features is None:
            self._n_features = len(features)
        assert features.shape == (self._n_features,)
        for column, text in (("ids", row.name), ("labels", row.label)):
            self._widths[column] = max(self._widths[column], len(text))
        place = np.array((row.segment, row.seconds), _PLACES)
        with writing(self._output):
            self._names.write(json.dumps([row.name, row.label]).encode() + b"\n")
            self._places.write(place.tobytes())
            self._features.write(features.data)
        self.n_rows += 1

    def tell(self) -> tuple[int, ...]:
        """Where the file stands, for `go_back`."""
        files = (self._names, self._places, self._features)
        return (self.n_rows, *(file.tell() for file in files))

    def go_back(self, place: tuple[int, ...]) -> None:
        """Forget the rows that came after a place."""
        self.n_rows = place[0]
        for file, position in zip(
            (self._names, self._places, self._features), place[1:], strict=True
        ):
            file.seek(position)
            file.truncate()

    @property
    def n_features(self) -> int:
        """Numbers of a row; 0 without any row."""
        return self._n_features or 0

    def parts(self, *columns: str) -> Iterator[dict[str, np.ndarray]]:
        """Some of the columns in parts of bounded size."""
        n_rows = max(1, _PART_BYTES // max(1, 4 * self.n_features))
        for file in (self._names, self._places, self._features):
            file.seek(0)
        for begin in range(0, self.n_rows, n_rows):
            n = min(n_rows, self.n_rows - begin)
            part: dict[str, np.ndarray] = {}
            if not {"ids", "labels"}.isdisjoint(columns):
                names = [json.loads(self._names.readline()) for _ in range(n)]
                part["ids"] = np.array([name for name, _ in names], self.kind("ids"))
                part["labels"] = np.array([label for _, label in names], self.kind("labels"))
            if not {"segments", "seconds"}.isdisjoint(columns):
                places = np.frombuffer(self._places.read(n * _PLACES.itemsize), _PLACES)
                part["segments"], part["seconds"] = places["segments"], places["seconds"]
            if "features" in columns:
                features = np.frombuffer(self._features.read(n * 4 * self.n_features), "<f4")
                part["features"] = features.reshape(n, self.n_features)
            yield part

    def kind(self, column: str) -> str:
        """The type of a column of texts that holds the longest one."""
        return f"<U{self._widths[column]}"


def _write_npz(rows: FeatureFile, path: Path) -> None:
    """A zip of .npy members, each of which is gone through by itself."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "ids": (rows.kind("ids"), ()),
        "labels": (rows.kind("labels"), ()),
        "segments": ("<i8", (2,)),
        "seconds": ("<f8", (2,)),
        "features": ("<f4", (rows.n_features,)),
    }
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, (kind, shape) in shapes.items():
            # A fixed date, so that equal features are equal bytes.
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as column:
                header = {"descr": kind, "fortran_order": False, "shape": (rows.n_rows, *shape)}
                np.lib.format.write_array_header_1_0(column, header)
                for part in rows.parts(name):
                    column.write(np.ascontiguousarray(part[name], kind).tobytes())


def _write_parquet(rows: FeatureFile, path: Path) -> None:
    """A row group for each part."""
    pa, pq = _parquet()
    vectors = pa.list_(pa.float32(), rows.n_features)
    schema = pa.schema(
        [
            *(("id", pa.string()), ("label", pa.string())),
            *(("begin", pa.int64()), ("end", pa.int64())),
            *(("begin_seconds", pa.float64()), ("end_seconds", pa.float64())),
            ("features", vectors),
        ]
    )
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        for part in rows.parts(*_COLUMNS):
            columns = [
                pa.array(part["ids"].tolist(), pa.string()),
                pa.array([label or None for label in part["labels"].tolist()], pa.string()),
                *(pa.array(part["segments"][:, i]) for i in (0, 1)),
                *(
                    pa.array(
                        [None if math.isnan(s) else s for s in part["seconds"][:, i].tolist()]
                    ).cast(pa.float64())
                    for i in (0, 1)
                ),
                pa.FixedSizeListArray.from_arrays(
                    pa.array(part["features"].reshape(-1)), type=vectors
                ),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputError(
            ".parquet needs the package pyarrow: pip install 'r3d[parquet]', or write .npz"
        ) from None
    return pyarrow, parquet
