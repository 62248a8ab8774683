"""What a trained network sees in videos: the numbers that its last layer tells classes by.

Clips are streamed and rows go to the disk as they come, so memory stays flat however many videos
there are.
"""

import base64
import json
import math
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from r3d.annotations.reading import Annotation, read_annotation
from r3d.clips.datasets import InferenceClips
from r3d.clips.loader import make_loader, worker_count
from r3d.compute.device import choose_device, choose_dtype, enough_memory, same_bits, use_cores
from r3d.compute.distributed import join_world
from r3d.config.networks import given_options
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.form import form_of_frames
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.stores import FrameStore, open_store
from r3d.inference.featurefile import FeatureFile, FeatureRow, need_feature_format
from r3d.inference.infer import LOOKED_AT, ViewOutput, clip_outputs, prepare, say_what_differs
from r3d.inference.loading import read_model
from r3d.models.base import remove_head
from r3d.obstacles import need_writable

_DEFAULT_RUN = RunOptions()
_BATCH_SIZE = TrainingOptions().batch_size


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
    annotation = Path(annotation)
    need_writable(output)
    need_feature_format(output)
    device = choose_device(no_cuda=run.no_cuda)
    dtype = choose_dtype(options.precision, device)
    use_cores(n_cores)
    with same_bits(run.deterministic), join_world(device) as world:
        device = world.own(device)
        store = open_store(frames, file_type)
        samples = read_annotation(annotation, subset=subset, untrimmed=True, store=store)
        # What the outputs are called does not matter here.
        loaded = read_model(model, {**given_options(options), "class_order": None})
        options, network = loaded.options, loaded.network
        if world.is_main:
            say_what_differs(loaded, form_of_frames(store, samples.places(store, LOOKED_AT)))
        remove_head(network)
        layout = prepare(network, device, dtype, run.memory_format)

        clips = InferenceClips(samples, store, options)
        loader = make_loader(
            clips,
            clips.shard(world.rank, world.size),
            batch_size=run.inference_batch_size or batch_size or _BATCH_SIZE,
            n_workers=worker_count(run),
            pin_memory=device.type == "cuda",
        )
        views = clip_outputs(network, loader, options, device, dtype, layout)
        videos = tqdm(
            groupby(views, key=lambda view: view.video),
            total=len(samples) // world.size,
            unit="video",
            disable=not world.is_main,
            mininterval=1 if sys.stderr.isatty() else 30,
        )
        rows = (
            row
            for video, of_video in videos
            for row in feature_rows(
                of_video,
                Source.of(samples, video, store),
                no_average=options.inference_no_average,
                model=f"checkpoint {loaded.file}",
            )
        )
        with enough_memory("lower inference_batch_size or sample_size"):
            if not world.is_main:
                world.send_lines(map(_as_line, rows))
                return
            with FeatureFile(output) as file:
                for row in rows:
                    file.add(row)
                for line in world.receive_lines():
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
