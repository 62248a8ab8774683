"""What a trained network sees in videos: the numbers that its last layer tells classes by.

Clips are streamed and rows go to the disk as they come, so memory stays flat however many videos
there are.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from r3d.annotations.reading import Annotation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.stores import FrameStore
from r3d.inference.applied import ViewOutput, open_application
from r3d.inference.featurefile import FeatureFile, FeatureRow, need_feature_format
from r3d.obstacles import need_writable

_DEFAULT_RUN = RunOptions()


def features(
    options: InferenceOptions,
    *,
    annotation: AnyPath,
    subset: str = "val",
    frames: AnyPath,
    file_type: FileType = "jpg",
    model: AnyPath,
    output: AnyPath,
    run: RunOptions = _DEFAULT_RUN,
    batch_size: int | None = None,
    n_cores: int | None = None,
) -> None:
    """Write the features of a subset of an annotation: what goes into the last layer of a network.

    They are the mean over time and space of what the convolutions give: one row a video, averaged
    over its clips; with `inference_no_average` one row a clip (see `r3d.inference.featurefile` for
    the columns).

    >>> import numpy as np
    >>> import r3d
    >>> r3d.features(
    ...     r3d.InferenceOptions(),
    ...     annotation="annotation.json",
    ...     frames="frames",
    ...     model="model.pth",
    ...     output="features.npz",
    ...     run=r3d.RunOptions(n_threads=0),
    ... )
    >>> with np.load("features.npz") as file:
    ...     file["ids"], file["features"].shape
    (array(['v_left_g01_c01', 'v_right_g01_c01'], dtype='<U15'), (2, 128))

    Args:
        annotation: annotation JSON.
        subset: train, val or test, or their long names.
        frames: folder of the frame store.
        file_type: the kind of the frame store.
        model: checkpoint of the network, or its name, as for `r3d.load_model`.
        output: file to write, `.npz` or `.parquet`.
        run: how to run, which changes no result beyond rounding.
        batch_size: rows of a batch, at most, where `run.inference_batch_size` does not say; 128 by
            default.
        n_cores: cores to use; all by default.

    Raises:
        InputError: if the checkpoint does not fit the options that are given; if the output cannot
            be written.
    """
    need_writable(output)
    need_feature_format(output)
    with open_application(
        options,
        annotation=annotation,
        subset=subset,
        frames=frames,
        file_type=file_type,
        model=model,
        run=run,
        batch_size=batch_size,
        n_cores=n_cores,
        gives="features",
    ) as applied:
        views = applied.model.outputs(applied.batches(), applied.n_rows)
        rows = (
            row
            for video, of_video in applied.by_video(views)
            for row in feature_rows(
                of_video,
                Source.of(applied.samples, video, applied.store),
                no_average=applied.loaded.options.inference_no_average,
                model=f"checkpoint {applied.loaded.file}",
            )
        )
        if not applied.world.is_main:
            applied.world.send_lines(map(_as_line, rows))
            return
        with FeatureFile(output) as file:
            for row in rows:
                file.add(row)
            for line in applied.world.receive_lines():
                file.add(_of_line(line))


class Source(NamedTuple):
    """What is known of a video: its id, its label ("" if none), and the times of its frames.

    first: the number of the frame at `start` seconds; rate: frames a second, NaN where unknown.
    """

    name: str
    label: str
    first: int
    rate: float
    start: float = 0.0

    @classmethod
    def of(cls, samples: Annotation, video: int, store: FrameStore) -> "Source":
        target = int(samples.targets[video])
        rate = math.nan if samples.rates is None else float(samples.rates[video])
        if math.isnan(rate) and not samples.video_paths[video]:
            record = store.record(str(samples.keys[video]))
            rate = (record and record.fps) or math.nan
        label = samples.labels[target] if target >= 0 else ""
        return cls(str(samples.ids[video]), label, FIRST_FRAME[store.file_type], rate)

    def row(self, segment: tuple[int, int], values: np.ndarray) -> FeatureRow:
        begin, end = (self.start + (frame - self.first) / self.rate for frame in segment)
        return FeatureRow(self.name, self.label, segment, (begin, end), values)


def feature_rows(
    views: Iterable[ViewOutput], source: Source, *, no_average: bool, model: str
) -> Iterator[FeatureRow]:
    """The rows of a video: of each clip, or one of all."""
    clips = groupby(views, key=lambda view: view.segment)
    if no_average:
        for segment, of_clip in clips:
            yield source.row(segment, _mean(of_clip, source, model))
        return
    begins, ends = [], []

    def each() -> Iterator[ViewOutput]:
        for segment, of_clip in clips:
            begins.append(segment[0])
            ends.append(segment[1])
            yield from of_clip

    mean = _mean(each(), source, model)
    yield source.row((min(begins), max(ends)), mean)


def _mean(views: Iterable[ViewOutput], source: Source, model: str) -> np.ndarray:
    total, n = np.zeros(1), 0
    for view in views:
        total = total + view.output.numpy()
        n += 1
    if not np.isfinite(total).all():
        raise InputError(
            f"{model}: its features of {source.name} are not finite, as of weights that "
            "are too large; take a checkpoint of a training that did not diverge, or try "
            "precision: fp32"
        )
    return (total / n).astype(np.float32)


def _as_line(row: FeatureRow) -> str:
    """A row as a line of text, for the way to the main process."""
    values = base64.b64encode(row.features.tobytes()).decode()
    return json.dumps([row.name, row.label, row.segment, row.seconds, values])


def _of_line(line: str) -> FeatureRow:
    name, label, segment, seconds, values = json.loads(line)
    array = np.frombuffer(base64.b64decode(values), np.float32)
    return FeatureRow(name, label, tuple(segment), tuple(seconds), array)
