"""A trained network at work: what infer, predict, features and galleries open.

network -> an engine on a device -> the outputs of the views of clips, batch by batch
annotation, frames, checkpoint -> the same, with the clips of a subset and who shares the work
"""

import logging
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from r3d.annotations.reading import Annotation, NoVideosError, read_annotation
from r3d.clips.datasets import InferenceClips
from r3d.clips.loader import ClipBatch, make_loader, worker_count
from r3d.compute.device import (
    enough_memory,
    same_bits,
    use_cores,
)
from r3d.compute.distributed import World, join_world
from r3d.config.networks import given_options
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.engines.base import Engine
from r3d.engines.choosing import Choosing
from r3d.engines.opening import Calibration, device_for, open_engine
from r3d.files import AnyPath
from r3d.frames.form import FrameForm, form_of_frames
from r3d.frames.layouts import FileType
from r3d.frames.stores import FrameStore, open_store
from r3d.inference.classes import named_classes
from r3d.inference.loading import LoadedModel, read_model
from r3d.models.base import VideoModel, remove_head

_LOOKED_AT = 16
"""Videos that tell what frames are like."""
_BATCH_SIZE = TrainingOptions().batch_size
_CALIBRATED_ON, _CHECKED_ON, _ROWS = 64, 256, 8
"""Clips of which int8 has its ranges, clips that it is checked on, and how many at a time."""

Gives = Literal["scores", "features"]
"""Class scores, or what goes into the last layer."""

_log = logging.getLogger(__name__)


class ViewOutput(NamedTuple):
    """What a network gives for one view of a clip: (n,), fp32."""

    video: int
    segment: tuple[int, int]
    output: Tensor


class ViewScore(NamedTuple):
    """What a network says of one view of a clip: the softmax (classes,)."""

    video: int
    segment: tuple[int, int]
    score: Tensor


_View = TypeVar("_View", ViewOutput, ViewScore)


@dataclass(frozen=True, eq=False)
class AppliedModel:
    """A network that is ready to compute.

    Attributes:
        engine: what computes it.
        device: where.
    """

    engine: Engine
    device: torch.device

    def outputs(
        self, batches: Iterable[ClipBatch], n_rows: Callable[[], int | None]
    ) -> Generator[ViewOutput, None, None]:
        """What the network gives for the views of clips, batch by batch, in their order.

        All of it is computed by one engine. Of processes that work together each has to ask.

        Args:
            n_rows: tells how many views there will be, about, once the first batch is there; None
                if nobody knows.
        """
        for batch, outputs in self._computed(batches, n_rows):
            yield from map(ViewOutput, *_rows(batch), outputs)

    def scores(
        self, batches: Iterable[ClipBatch], n_rows: Callable[[], int | None]
    ) -> Generator[ViewScore, None, None]:
        """What the network says of the views of clips, as `outputs` gives it."""
        for batch, outputs in self._computed(batches, n_rows):
            yield from map(ViewScore, *_rows(batch), outputs.softmax(1))

    def _computed(
        self, batches: Iterable[ClipBatch], n_rows: Callable[[], int | None]
    ) -> Iterator[tuple[ClipBatch, Tensor]]:
        rest = iter(batches)
        batch = next(rest, None)
        if isinstance(self.engine, Choosing):
            self.engine.choose(batch, n_rows())
        while batch is not None:
            yield batch, self.engine(batch)
            batch = next(rest, None)


def _rows(batch: ClipBatch) -> tuple[list[int], list[tuple[int, int]]]:
    """The video and the segment of each row of a batch."""
    segments = [(begin, end) for begin, end in batch.segments.tolist()]
    return batch.videos.tolist(), segments


def apply_model(
    network: VideoModel,
    options: InferenceOptions,
    run: RunOptions,
    device: torch.device,
    calibration: Calibration | None = None,
) -> AppliedModel:
    """Put a network into its fastest form, in place.

    Args:
        calibration: where int8 has its ranges from; the latest that is kept by default.

    Raises:
        InputError: if the engine of `run` cannot compute it.
    """
    return AppliedModel(open_engine(network, options, run, device, calibration), device)


@dataclass(frozen=True, eq=False)
class Application:
    """A checkpoint applied to a subset of an annotation, by one of the processes that share it.

    Attributes:
        labels: the classes in the order of the scores; none where features are asked for.
        batch_size: rows of a batch, at most.
    """

    world: World
    store: FrameStore
    samples: Annotation
    loaded: LoadedModel
    labels: list[str]
    clips: InferenceClips
    model: AppliedModel
    run: RunOptions
    batch_size: int

    def batches(self, keys: Sequence[int] | None = None) -> Iterable[ClipBatch]:
        """The batches of clips: of this process's share, or of given ones."""
        return make_loader(
            self.clips,
            self.clips.shard(self.world.rank, self.world.size) if keys is None else keys,
            batch_size=self.batch_size,
            n_workers=worker_count(self.run),
            pin_memory=self.model.device.type == "cuda",
        )

    def n_rows(self) -> int:
        """How many rows the batches of this process's share have together."""
        n_views = 3 if self.loaded.options.inference_crop == "three" else 1
        return n_views * len(self.clips.shard(self.world.rank, self.world.size))

    def by_video(self, views: Iterable[_View]) -> Iterator[tuple[int, Iterator[_View]]]:
        """The views of each video; how far it is shows on standard error."""
        return iter(
            tqdm(
                groupby(views, key=lambda view: view.video),
                total=len(self.samples) // self.world.size,
                unit="video",
                disable=not self.world.is_main,
                mininterval=1 if sys.stderr.isatty() else 30,
            )
        )


@contextmanager
def open_application(
    options: InferenceOptions,
    *,
    annotation: AnyPath,
    subset: str,
    frames: AnyPath,
    file_type: FileType,
    model: AnyPath,
    run: RunOptions,
    batch_size: int | None = None,
    n_cores: int | None = None,
    gives: Gives = "scores",
    only: Collection[str] | None = None,
) -> Iterator[Application]:
    """Open a checkpoint and the subset of an annotation that it is applied to.

    Args:
        annotation, subset, frames, file_type, model, run, batch_size, n_cores: as of
            `r3d.inference.infer.infer`.
        only: the ids of the samples to take; all by default.

    Raises:
        InputError: if the checkpoint does not fit the options that are given, nothing names its
            classes, or the memory of the device does not suffice.
    """
    if gives == "features":
        options = without_int8(options)
    device = device_for(options, run)
    use_cores(n_cores)
    n_rows = run.inference_batch_size or batch_size or _BATCH_SIZE
    remedy = f"lower inference_batch_size (it is {n_rows}) or sample_size"
    with same_bits(run.deterministic), join_world(device) as world, enough_memory(remedy):
        device = world.own(device)
        store = open_store(frames, file_type)
        samples = read_annotation(Path(annotation), subset=subset, untrimmed=True, store=store)
        given = given_options(options)
        if gives == "scores":
            loaded = read_model(model, given, annotated=samples.labels)
            labels = named_classes(loaded.known, loaded.labels, samples.labels)
        else:  # what the outputs are called does not matter
            loaded = read_model(model, {**given, "class_order": None})
            labels = []
            remove_head(loaded.network)
        if world.is_main:
            _say_what_differs(loaded, form_of_frames(store, samples.places(store, _LOOKED_AT)))
        if only is not None:
            samples = _only(samples, only)
        clips = InferenceClips(samples, store, loaded.options)

        def training_clips() -> Iterable[ClipBatch] | None:
            try:
                training = read_annotation(
                    Path(annotation), subset="train", untrimmed=True, store=store
                )
            except NoVideosError:
                return None
            return _some(InferenceClips(training, store, loaded.options), _CALIBRATED_ON)

        def checked_clips() -> Iterable[ClipBatch]:
            return _with_outputs(_some(clips, _CHECKED_ON), samples.labels, labels)

        calibration = Calibration(training_clips, checked_clips)
        yield Application(
            world=world,
            store=store,
            samples=samples,
            loaded=loaded,
            labels=labels,
            clips=clips,
            model=apply_model(loaded.network, loaded.options, run, device, calibration),
            run=run,
            batch_size=n_rows,
        )


def without_int8(options: InferenceOptions) -> InferenceOptions:
    """The options for what int8 was not checked for: features, and maps of them."""
    if not options.int8:
        return options
    _log.info("int8: true is for class scores only; features are computed without")
    return options.model_copy(update={"int8": False})


def _some(clips: InferenceClips, n: int) -> Iterable[ClipBatch]:
    """The batches of some clips, evenly."""
    keys = range(0, len(clips), max(1, len(clips) // n))[:n]
    return make_loader(clips, keys, batch_size=_ROWS)


def _with_outputs(
    batches: Iterable[ClipBatch], annotated: list[str], outputs: list[str]
) -> Iterator[ClipBatch]:
    """Batches whose labels are the numbers of outputs, -1 where none is of the class."""
    numbers = {label: number for number, label in enumerate(outputs)}
    table = torch.tensor([*(numbers.get(label, -1) for label in annotated), -1])
    for batch in batches:
        yield batch._replace(labels=table[batch.labels.clamp(min=-1)])


def _only(samples: Annotation, ids: Collection[str]) -> Annotation:
    """Some samples of an annotation, in its order."""
    kept = np.flatnonzero(np.isin(samples.ids.astype(object), np.array(list(ids), object)))
    arrays: dict[str, Any] = {
        field.name: value[kept]
        for field in fields(samples)
        if isinstance(value := getattr(samples, field.name), np.ndarray)
    }
    return replace(samples, **arrays, n_without_frames=0)


def _say_what_differs(loaded: LoadedModel, frames: FrameForm) -> None:
    """Log in one line each how a model is applied otherwise than it was trained."""
    for note in loaded.notes:
        _log.warning("%s", note)
    if difference := loaded.frames and loaded.frames.difference(frames):
        _log.warning("checkpoint %s: applied to frames of %s", loaded.file, difference)
