"""What is measured to find the fastest settings: the real parts of a training, in short turns.

A trial does a turn's work with some settings and tells its rate in clips a second. Clips are always
those of the user's videos.
"""

import io
import math
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import simplejpeg
import torch

from r3d.annotations.reading import Annotation
from r3d.clips.datasets import InferenceClips, TrainingClips
from r3d.clips.loader import ClipBatch, EpochSampler, make_loader
from r3d.compute.device import choose_dtype, use_cores
from r3d.compute.distributed import World
from r3d.config.config import Experiment
from r3d.engines.on_torch import OnTorch
from r3d.errors import InputError
from r3d.frames.jpegs import frame_size
from r3d.frames.layouts import FIRST_FRAME, FileType
from r3d.frames.stores import FrameStore, VideoRecord, open_store, partial_folder
from r3d.models.base import freeze_before
from r3d.models.building import build_model
from r3d.training.state import TrainState
from r3d.training.step import TrainStep

_MOST_BATCHES = 64  # of a turn
_SAMPLE_VIDEOS, _SAMPLE_FRAMES = 32, 300  # videos to copy, and frames of each at most
_CLEARLY_SMALLER = 1.25  # what a short side is divided by at least, to be worth an extraction


def changed(options: Experiment, changes: dict[str, Any]) -> Experiment:
    """The options with some of them changed, validated anew."""
    return Experiment.model_validate({**options.model_dump(), **changes})


@dataclass(frozen=True)
class Subject:
    """What is tuned: the experiment, as one of its processes sees it, and its videos.

    Attributes:
        options: with the process's share of the batch as `batch_size`.
        samples: the videos to train on.
        inference_samples: those to apply the network to.
        n_cores: the process's share of the machine's cores.
        in_workflow: whether it gets no more of them than the workflow gives it, else all.
    """

    options: Experiment
    samples: Annotation
    inference_samples: Annotation
    store: FrameStore
    device: torch.device
    n_cores: int
    in_workflow: bool

    def use_cores(self, options: Experiment) -> None:
        """Have torch compute on the cores that the experiment is given."""
        n_cores = self.n_cores
        if self.in_workflow:
            n_cores = min(n_cores, options.cores_per_process)
        use_cores(n_cores)


class Trial(ABC):
    """Work in turns, each over in about the same time."""

    batch_size: int
    n_batches = 1

    def prepare(self, seconds: float) -> float:
        """Do what only the first time takes, then let a turn take about `seconds`.

        Returns:
            The rate of a single batch.
        """
        self._work(1)
        rate = self._work(1)
        n_batches = int(seconds * rate / self.batch_size)
        self.n_batches = min(_MOST_BATCHES, max(1, n_batches))
        return rate

    def turn(self) -> float:
        """Clips a second; 0 if the loss was not finite."""
        return self._work(self.n_batches)

    @abstractmethod
    def _work(self, n_batches: int) -> float: ...


class Loading(Trial):
    """Making batches of training clips, with as many processes as `n_threads`."""

    _epochs = count()  # each turn reads other videos, as a training does

    def __init__(self, subject: Subject, options: Experiment, batch_size: int) -> None:
        self._subject, self._options, self.batch_size = subject, options, batch_size
        samples = _at_least(subject.samples, 2 * _MOST_BATCHES * batch_size)
        clips = TrainingClips(samples, subject.store, options)
        n_crops = options.crops_per_clip
        self._n_clips = len(clips) * n_crops
        self._order = EpochSampler(len(clips), seed=options.manual_seed, crops_per_clip=n_crops)
        self._loader = make_loader(
            clips,
            self._order,
            batch_size=batch_size,
            n_workers=options.n_threads,
            pin_memory=subject.device.type == "cuda",
        )

    def _batches(self, n: int) -> Iterator[ClipBatch]:
        """The last `n` batches of an epoch: the workers have nothing left to do after them."""
        self._subject.use_cores(self._options)
        self._order.set_epoch(next(self._epochs), start=self._n_clips - n * self.batch_size)
        return iter(self._loader)

    def _work(self, n_batches: int) -> float:
        # The first batches of all workers come at the same time; only what follows has a rate.
        n_first = max(1, self._options.n_threads)
        batches = self._batches(n_first + n_batches)
        for _ in range(n_first):
            next(batches)
        begin = time.perf_counter()
        for _ in batches:
            pass
        return n_batches * self.batch_size / (time.perf_counter() - begin)


class Steps(Trial):
    """Steps of the optimiser on a batch in memory."""

    def __init__(self, subject: Subject, options: Experiment, batch: ClipBatch) -> None:
        self._subject, self._options, self._batch = subject, options, batch
        self.batch_size = len(batch.clips)
        self._step = _training_step(subject, options, self.batch_size)

    def _work(self, n_batches: int) -> float:
        self._subject.use_cores(self._options)
        begin = time.perf_counter()
        for _ in range(n_batches):
            sums = self._step(self._batch, number=1, n_clips=self.batch_size)
        loss = float(sums[0])  # waits for the device
        rate = n_batches * self.batch_size / (time.perf_counter() - begin)
        return rate if math.isfinite(loss) else 0.0


class TrainingRun(Loading):
    """A training: batches are made while the optimiser steps."""

    def __init__(self, subject: Subject, options: Experiment, batch_size: int) -> None:
        super().__init__(subject, options, batch_size)
        self._step = _training_step(subject, options, batch_size)

    def _work(self, n_batches: int) -> float:
        # From the first batch's arrival to that of one more than is measured: so many steps and so
        # many batches made, however they overlap.
        batches = self._batches(n_batches + 1)
        batch = next(batches)
        begin = time.perf_counter()
        for _ in range(n_batches):
            sums = self._step(batch, number=1, n_clips=self.batch_size)
            batch = next(batches)
        loss = float(sums[0])
        rate = n_batches * self.batch_size / (time.perf_counter() - begin)
        return rate if math.isfinite(loss) else 0.0


class Inference(Trial):
    """The network's scores of a batch in memory."""

    def __init__(self, subject: Subject, options: Experiment, batch: ClipBatch) -> None:
        self._subject, self._options, self._batch = subject, options, batch
        self.batch_size = len(batch.clips)
        n_classes = len(subject.samples.labels)
        network = build_model(n_classes=n_classes, **options.network())
        device, layout = subject.device, options.memory_format
        dtype = choose_dtype(options.precision, device, layout)
        self._engine = OnTorch(network, options, device, dtype, layout)

    def _work(self, n_batches: int) -> float:
        self._subject.use_cores(self._options)
        begin = time.perf_counter()
        n_scores = sum(len(self._engine(self._batch)) for _ in range(n_batches))
        return n_scores / (time.perf_counter() - begin)


def _training_step(subject: Subject, options: Experiment, batch_size: int) -> TrainStep:
    """The step of a fresh network that trains the layers that the experiment trains."""
    share = batch_size / subject.options.batch_size
    options = changed(
        options,
        {
            # A smaller batch than the experiment's is computed in parts of the same size.
            "accumulate_steps": max(1, round(options.accumulate_steps * share)),
            # The weights stay near their beginning, so that all steps compute on alike numbers.
            "learning_rate": 1e-6,
            "learning_rate_batch_size": 0,
        },
    )
    labels, device = subject.samples.labels, subject.device
    state = TrainState(options, labels, None, device, options.memory_format)
    freeze_before(state.network, options.ft_begin_module)
    state.network.train()
    return TrainStep(state, run=options, device=device, world=World())


def training_batch(subject: Subject, size: int) -> ClipBatch:
    """A batch of training clips in memory."""
    clips = TrainingClips(_at_least(subject.samples, size), subject.store, subject.options)
    order = EpochSampler(len(clips), seed=subject.options.manual_seed)
    return next(iter(make_loader(clips, order, batch_size=size)))


def inference_batch(subject: Subject, size: int) -> ClipBatch:
    """A batch of the clips that the network is applied to, repeated where they are too few."""
    clips = InferenceClips(subject.inference_samples, subject.store, subject.options)
    keys = range(min(len(clips), size))
    return resized(next(iter(make_loader(clips, keys, batch_size=size))), size)


@contextmanager
def copied_samples(subject: Subject, short_side: int | None = None) -> Iterator[dict[str, Subject]]:
    """Copies of some videos in a store of each kind, beside the frames if there may be files.

    Args:
        short_side: to make one more copy of the present kind, its frames scaled down to this.

    Yields:
        What is tuned with the copies as its videos, by `file_type`; the smaller ones by
        `name_of_smaller`.
    """
    samples, store = subject.samples, subject.store
    chosen = np.unique(np.linspace(0, len(samples) - 1, _SAMPLE_VIDEOS).astype(int))
    ends = np.minimum(samples.ends[chosen], samples.begins[chosen] + _SAMPLE_FRAMES)
    kinds: dict[str, tuple[FileType, int | None]] = {
        kind: (kind, None) for kind in get_args(FileType)
    }
    if short_side is not None:
        kinds[name_of_smaller(subject, short_side)] = store.file_type, short_side
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(partial_folder(store.folder))
        except InputError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subjects = {}
        for place, (name, (file_type, side)) in enumerate(kinds.items()):
            copy = open_store(folder / str(place), file_type)
            for i, end in zip(chosen, ends, strict=True):
                path = samples.video_paths[i] or store.path(samples.keys[i])
                jpegs = store.read_at(path, range(samples.begins[i], end))
                if side is not None:
                    try:
                        jpegs = [scaled_down(jpeg, side) for jpeg in jpegs]
                    except ValueError as error:
                        raise store.damaged(path, str(error)) from None
                with copy.writer(folder / "partial") as writer:
                    for jpeg in jpegs:
                        writer.append(jpeg)
                    size = (writer.width, writer.height)
                    record = VideoRecord("ok", "", len(jpegs), None, *size, made_from=None)
                    writer.commit(copy.path(str(i)), record)
            first = FIRST_FRAME[file_type]
            text = np.dtypes.StringDType()
            copied = replace(
                samples,
                ids=samples.ids[chosen],
                keys=np.array([str(i) for i in chosen], dtype=text),
                video_paths=np.array([""] * len(chosen), dtype=text),
                targets=samples.targets[chosen],
                begins=np.full(len(chosen), first, np.int32),
                ends=(first + ends - samples.begins[chosen]).astype(np.int32),
                n_without_frames=0,
            )
            subjects[name] = replace(subject, samples=copied, store=copy)
        yield subjects


def name_of_smaller(subject: Subject, short_side: int) -> str:
    return f"{subject.store.file_type}, short_side {short_side}"


def smaller_side(subject: Subject) -> int | None:
    """The short side of frames that would do for the clips, None where those there are are such.

    It is 8/7 of `sample_size`: 128 for 112, as published preprocessing has it.
    """
    side = round(subject.options.sample_size * 8 / 7 / 2) * 2
    samples, store = subject.samples, subject.store
    path = samples.video_paths[0] or store.path(samples.keys[0])
    (jpeg,) = store.read_at(path, [int(samples.begins[0])])
    return side if min(frame_size(jpeg)) >= _CLEARLY_SMALLER * side else None


def scaled_down(jpeg: bytes, short_side: int) -> bytes:
    """A frame scaled to a short side, and coded as finely as it was.

    Raises:
        ValueError: if it is no whole JPEG.
    """
    from PIL import Image, JpegImagePlugin

    picture = Image.fromarray(simplejpeg.decode_jpeg(jpeg, "RGB"))
    with Image.open(io.BytesIO(jpeg)) as coded:
        assert isinstance(coded, JpegImagePlugin.JpegImageFile)
        tables, sampling = coded.quantization, JpegImagePlugin.get_sampling(coded)
    factor = short_side / min(picture.size)
    width, height = (max(2, round(side * factor / 2) * 2) for side in picture.size)
    smaller = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(
        smaller, "JPEG", qtables=tables, subsampling=max(sampling, 0), optimize=True
    )
    return smaller.getvalue()


def bytes_of(subject: Subject) -> int:
    """What the JPEGs of all videos take."""
    samples, store = subject.samples, subject.store
    return sum(
        len(jpeg)
        for key, begin, end in zip(samples.keys, samples.begins, samples.ends, strict=True)
        for jpeg in store.read(str(key), range(begin, end))
    )


def resized(batch: ClipBatch, size: int) -> ClipBatch:
    """A batch of so many rows, repeated if need be."""
    rows = torch.arange(size) % len(batch.clips)
    return ClipBatch(*(tensor[rows] for tensor in batch))


def _at_least(samples: Annotation, n: int) -> Annotation:
    """The samples as often as it takes for there to be `n`."""
    times = math.ceil(n / len(samples))
    arrays = {
        field.name: np.tile(getattr(samples, field.name), times)
        for field in fields(samples)
        if field.type is np.ndarray
    }
    return replace(samples, **arrays)  # type: ignore[arg-type]
