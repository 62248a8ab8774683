"""Clips of a data set: what training, validation and inference read.

A data set here holds a few arrays and no state that changes: a key says all about a clip, so any
worker can make it, and a training clip depends on (seed, epoch, sample) only. Workers decode, crop
and resize; a batch travels as bytes (see `r3d.clips.transforms`, and `r3d.clips.loader` for
batches).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset

from r3d.annotations.reading import Annotation
from r3d.clips.sampling import (
    center_start,
    even_starts,
    frame_indices,
    freeze,
    random_start,
    sliding_starts,
    spread_starts,
)
from r3d.clips.transforms import (
    FrameError,
    View,
    corner_view,
    decode_views,
    jitter_colors,
    rand_augment,
    random_jitter,
    random_view,
    short_side_view,
)
from r3d.errors import InputError
from r3d.frames.stores import FrameStore, Hdf5Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipOptions:
    """What a clip is: side in pixels, frames, every how manyth frame; `frozen` removes motion.

    The options of this module bear the names of the config; any object with these attributes will
    do in their place.
    """

    sample_size: int = 112
    sample_duration: int = 16
    sample_t_stride: int = 1
    frozen: bool = False
    input_type: Literal["rgb", "flow"] = "rgb"

    @classmethod
    def of(cls, options: object) -> Self:
        """The options of this class out of those that an object has."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class TrainingClipOptions(ClipOptions):
    """How training clips vary."""

    train_crop: Literal["random", "corner", "center"] = "random"
    train_crop_min_scale: float = 0.25
    train_crop_min_ratio: float = 0.75
    train_t_crop: Literal["random", "center"] = "random"
    no_hflip: bool = False
    colorjitter: bool = False
    randaugment: int = 0
    crops_per_clip: int = 1
    manual_seed: int = 1


@dataclass(frozen=True)
class ValidationClipOptions(ClipOptions):
    """How many clips of a video are validated."""

    n_val_samples: int = 3


@dataclass(frozen=True)
class InferenceClipOptions(ClipOptions):
    """Distance of the windows in frames, or how many clips instead, and the crop of each."""

    inference_stride: int = 16
    inference_clips: int = 0
    inference_crop: Literal["center", "nocrop", "three"] = "center"


class ClipShape(NamedTuple):
    """The side of a clip in pixels, its frames, and every how manyth frame of a video they are."""

    size: int
    duration: int
    t_stride: int


class Clip(NamedTuple):
    """Some frames of a video in one or more views.

    Attributes:
        views: a uint8 tensor (t, h, w, c) for each crop.
        label: class index, -1 if unknown.
        flip: whether it is to be mirrored on the device.
        video: the number of its video in the data set.
        segment: the frames of the video from which it is, begin <= i < end.
    """

    views: list[Tensor]
    label: int
    flip: bool
    video: int
    segment: tuple[int, int]


class ClipDataset(Dataset[Clip], ABC):
    """Clips of the samples of an annotation; what the keys are is up to the class."""

    reduce: bool = False  # how frames are decoded (see `r3d.clips.transforms.decode_clip`)

    def __init__(self, samples: Annotation, store: FrameStore, options: ClipOptions) -> None:
        if samples.n_without_frames:
            _log.warning(
                "%d of %d videos have no frames and are left out",
                samples.n_without_frames,
                samples.n_without_frames + len(samples),
            )
        if options.input_type == "flow" and not isinstance(store, Hdf5Store):
            raise InputError(
                f"input_type: flow needs frames of file_type: hdf5, not {store.file_type}"
            )
        self._samples = samples
        self._store = store
        self._options = options
        self._shape = ClipShape(
            options.sample_size, options.sample_duration, options.sample_t_stride
        )

    @abstractmethod
    def __len__(self) -> int:
        """The number of clips."""

    @abstractmethod
    def __getitem__(self, key: Any) -> Clip:
        """The clip of a key."""

    def __getitems__(self, keys: Sequence[Any]) -> list[Clip]:
        """The clips of the keys of a batch, as a `DataLoader` asks for them."""
        return [self[key] for key in keys]

    @abstractmethod
    def batches(self, keys: Any, batch_size: int) -> Iterable[list[Any]]:
        """The keys of batches of at most `batch_size` rows."""

    def _segment(self, video: int) -> tuple[int, int]:
        return int(self._samples.begins[video]), int(self._samples.ends[video])

    def _read(
        self,
        video: int,
        start: int,
        shape: ClipShape,
        choose_views: Callable[[int, int], Sequence[View]],
        shown: Sequence[int] | None = None,
    ) -> tuple[list[list[Tensor]], tuple[int, int]]:
        """The views of the clip from frame `start` on, and the segment that it covers."""
        indices = frame_indices(
            start, self._segment(video)[1], size=shape.duration, t_stride=shape.t_stride
        )
        segment = min(indices), max(indices) + 1
        if self._options.frozen:
            indices = freeze(indices)
        distinct = list(dict.fromkeys(indices))  # a looped frame is decoded once
        path = self._samples.video_paths[video] or self._store.path(self._samples.keys[video])
        try:
            views = decode_views(
                self._jpegs(path, distinct), choose_views, reduce=self.reduce, shown=shown
            )
        except FrameError as error:
            what = f"frame {distinct[error.position]}: {error.reason}"
            raise self._store.damaged(path, what) from None
        if len(distinct) < len(indices):
            positions = [distinct.index(index) for index in indices]
            views = [[crop[positions] for crop in crops] for crops in views]
        return views, segment

    def _jpegs(self, path: str | Path, indices: list[int]) -> list[tuple[bytes, ...]]:
        if self._options.input_type == "rgb":
            return [(jpeg,) for jpeg in self._store.read_at(path, indices)]
        assert isinstance(self._store, Hdf5Store)
        return list(zip(*self._store.read_flow_at(path, indices), strict=True))


class _Source(NamedTuple):
    """What the crops of a clip have in common."""

    epoch: int
    number: int
    shape: ClipShape


class TrainingClips(ClipDataset):
    """One clip a video, anew in each epoch.

    A key is (epoch, number of the video), as `EpochSampler` gives them: then the clip depends on
    nothing but the key and the options. Numbers from `len` on are more clips of the same videos,
    in their order. With a `ClipShape` as its last part it is of that shape. The number alone gives
    a clip that varies by torch's random state, as data sets usually do.

    With `crops_per_clip` above 1 the third part of a key is a number below it. Keys that differ in
    nothing else show the same frames, and all else is drawn for each by itself. Those of a batch
    are read and decoded together.

    >>> import r3d
    >>> samples = r3d.read_annotation("annotation.json", subset="training")
    >>> options = r3d.TrainingOptions(sample_size=32)
    >>> clips = r3d.TrainingClips(samples, r3d.open_store("frames", "jpg"), options)
    >>> clips[0].views[0].shape
    torch.Size([16, 32, 32, 3])
    """

    reduce = True
    _options: TrainingClipOptions

    def __init__(self, samples: Annotation, store: FrameStore, options: object) -> None:
        """Take samples, the store of their frames, and options as in `TrainingClipOptions`.

        Raises:
            InputError: if a sample has no label.
        """
        chosen = TrainingClipOptions.of(options)
        if chosen.randaugment:
            import torchvision  # noqa: F401  (once, before worker processes are forked)
        super().__init__(samples, store, chosen)
        _require_labels(samples)

    @property
    def classes(self) -> np.ndarray:
        """The class of each video, (videos,)."""
        return self._samples.targets

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, keys: Any, batch_size: int) -> Iterable[list[Any]]:
        return BatchSampler(keys, batch_size, drop_last=False)

    def __getitem__(self, key: tuple[Any, ...] | int) -> Clip:
        (clip,) = self.__getitems__([key])
        return clip

    def __getitems__(self, keys: Sequence[tuple[Any, ...] | int]) -> list[Clip]:
        asked = [self._parts(key) for key in keys]
        wanted: dict[_Source, list[int]] = {}
        for source, crop in dict.fromkeys(asked):
            wanted.setdefault(source, []).append(crop)
        made = {
            (source, crop): clip
            for source, crops in wanted.items()
            for crop, clip in zip(crops, self._crops(source, crops), strict=True)
        }
        return [made[one] for one in asked]

    def _parts(self, key: tuple[Any, ...] | int) -> tuple[_Source, int]:
        """The clip of a key, and which of its crops."""
        if not isinstance(key, tuple):
            if not -len(self) <= key < len(self):  # what ends a loop over a sequence
                raise IndexError(f"video {key} of {len(self)}")
            key = _random_epoch(), key % len(self)
        epoch, number, *rest = key
        shape = rest.pop() if rest and isinstance(rest[-1], ClipShape) else self._shape
        crop = rest[0] if rest else 0
        if crop >= self._options.crops_per_clip:
            raise IndexError(f"crop {crop} of crops_per_clip: {self._options.crops_per_clip}")
        return _Source(epoch, number, shape), crop

    def _crops(self, source: _Source, crops: Sequence[int]) -> list[Clip]:
        """Some crops of a clip, which is read and decoded once for all of them."""
        options, (epoch, number, shape) = self._options, source
        video = number % len(self)

        def stream(*place: int) -> np.random.Generator:
            # The spawn key keeps the stream apart from that of the order of the epoch.
            seed = np.random.SeedSequence((options.manual_seed, epoch), spawn_key=(number, *place))
            return np.random.default_rng(seed)

        # The first crop goes on with the stream that the frames are drawn from.
        rngs = [stream(), *(stream(crop) for crop in range(1, options.crops_per_clip))]
        begin, end = self._segment(video)
        size, t_stride = shape.duration, shape.t_stride
        if options.train_t_crop == "random":
            start = random_start(begin, end, size=size, t_stride=t_stride, rng=rngs[0])
        else:
            start = center_start(begin, end, size=size, t_stride=t_stride)
        flips = [not options.no_hflip and bool(rng.random() < 0.5) for rng in rngs]
        shown, segment = self._read(
            video,
            start,
            shape,
            lambda h, w: [self._view(h, w, shape.size, rng) for rng in rngs],
            crops,
        )
        label = int(self._samples.targets[video])
        return [
            Clip(self._recoloured(views, rngs[crop]), label, flips[crop], video, segment)
            for crop, views in zip(crops, shown, strict=True)
        ]

    def _recoloured(self, views: list[Tensor], rng: np.random.Generator) -> list[Tensor]:
        options = self._options
        if options.colorjitter:
            jitter = random_jitter(rng)
            views = [jitter_colors(view, jitter) for view in views]
        if options.randaugment:
            views = [rand_augment(view, options.randaugment, rng) for view in views]
        return views

    def _view(self, height: int, width: int, size: int, rng: np.random.Generator) -> View:
        options = self._options
        match options.train_crop:
            case "random":
                return random_view(
                    height,
                    width,
                    size,
                    min_scale=options.train_crop_min_scale,
                    min_ratio=options.train_crop_min_ratio,
                    rng=rng,
                )
            case "corner":
                return corner_view(height, width, size, rng=rng)
            case "center":
                return short_side_view(height, width, size, "center")


class EvaluationClips(ClipDataset):
    """Clips that cover videos evenly, without augmentation. A key is the number of a clip.

    The clips of a video follow each other. Nothing is kept but how many a video has, so an hour
    takes as much memory as a second.
    """

    def __init__(
        self,
        samples: Annotation,
        store: FrameStore,
        options: ClipOptions,
        *,
        choose_starts: Callable[..., Sequence[int]],
        crop: Literal["center", "nocrop", "three"] = "center",
    ) -> None:
        """Take samples, the store of their frames, and which clips to cut from them.

        Args:
            choose_starts: gives the first frames of the clips of a segment (see
                `r3d.clips.sampling`).
            crop: the views of a clip (see `r3d.clips.transforms.short_side_view`).
        """
        super().__init__(samples, store, options)
        self._choose_starts, self._crop = choose_starts, crop
        self._n_views = 3 if crop == "three" else 1
        segments = zip(samples.begins.tolist(), samples.ends.tolist(), strict=True)
        counts = [len(self._starts(begin, end)) for begin, end in segments]
        # The clips of video i have the keys first[i] to first[i + 1] - 1.
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, key: int) -> Clip:
        if not -len(self) <= key < len(self):  # what ends a loop over a sequence
            raise IndexError(f"clip {key} of {len(self)}")
        key %= len(self)
        video = int(np.searchsorted(self._first, key, side="right")) - 1
        start = self._starts(*self._segment(video))[key - int(self._first[video])]
        (views,), segment = self._read(
            video,
            start,
            self._shape,
            lambda h, w: [short_side_view(h, w, self._shape.size, self._crop)],
        )
        return Clip(views, int(self._samples.targets[video]), False, video, segment)

    @property
    def n_videos(self) -> int:
        return len(self._first) - 1

    def keys_of(self, video: int) -> range:
        """The keys of the clips of a video."""
        return range(int(self._first[video]), int(self._first[video + 1]))

    def shard(self, rank: int, world_size: int) -> range:
        """The keys for one of several processes: whole videos, each clip in one process only."""
        begin, end = (
            int(self._first[np.searchsorted(self._first, len(self) * part // world_size)])
            for part in (rank, rank + 1)
        )
        return range(begin, end)

    def batches(self, keys: Sequence[int], batch_size: int) -> Iterable[list[int]]:
        edges = np.array([0, len(keys)])
        if self._crop == "nocrop":  # clips of different videos differ in size
            edges = np.union1d(edges, np.searchsorted(np.asarray(keys), self._first))
        return _Batches(keys, edges, max(1, batch_size // self._n_views))

    def _starts(self, begin: int, end: int) -> Sequence[int]:
        shape = self._shape
        return self._choose_starts(begin, end, size=shape.duration, t_stride=shape.t_stride)


class ValidationClips(EvaluationClips):
    """The clips that training is validated on: options as in `ValidationClipOptions`.

    >>> import r3d
    >>> samples = r3d.read_annotation("annotation.json", subset="validation")
    >>> options = r3d.TrainingOptions(sample_size=32, n_val_samples=1)
    >>> clips = r3d.ValidationClips(samples, r3d.open_store("frames", "jpg"), options)
    >>> len(clips) == len(samples)
    True

    Raises:
        InputError: if a sample has no label.
    """

    def __init__(self, samples: Annotation, store: FrameStore, options: object) -> None:
        chosen = ValidationClipOptions.of(options)
        _require_labels(samples)
        choose_starts = partial(even_starts, n_samples=chosen.n_val_samples)
        super().__init__(samples, store, chosen, choose_starts=choose_starts)


class InferenceClips(EvaluationClips):
    """The clips of whole videos to infer from: options as in `InferenceClipOptions`.

    >>> import r3d
    >>> samples = r3d.read_annotation("annotation.json", subset="validation")
    >>> options = r3d.InferenceOptions(sample_size=32, inference_stride=8)
    >>> clips = r3d.InferenceClips(samples, r3d.open_store("frames", "jpg"), options)
    >>> clips[1].segment  # frames 9 to 24 of the first video
    (9, 25)
    """

    def __init__(self, samples: Annotation, store: FrameStore, options: object) -> None:
        chosen = InferenceClipOptions.of(options)
        super().__init__(
            samples,
            store,
            chosen,
            choose_starts=inference_starts(chosen),
            crop=chosen.inference_crop,
        )


def inference_starts(options: InferenceClipOptions) -> Callable[..., Sequence[int]]:
    """What chooses the first frames of the clips to infer from (see `r3d.clips.sampling`)."""
    if options.inference_clips:
        return partial(spread_starts, n_clips=options.inference_clips)
    return partial(sliding_starts, stride=options.inference_stride)


def _random_epoch() -> int:
    return int(torch.randint(2**31, ()))


def _require_labels(samples: Annotation) -> None:
    unknown = np.flatnonzero(samples.targets < 0)
    if len(unknown):
        raise InputError(
            f"{len(unknown)} videos have no label, the first: {samples.ids[unknown[0]]!r}; "
            "training and validation need one for each"
        )


class _Batches:
    """Batches of up to `size` keys, each within one of the runs keys[edges[i] : edges[i + 1]]."""

    def __init__(self, keys: Sequence[int], edges: np.ndarray, size: int) -> None:
        self._keys, self._edges, self._size = keys, edges, size

    def __len__(self) -> int:
        return int(np.sum(-(-np.diff(self._edges) // self._size)))

    def __iter__(self) -> Iterator[list[int]]:
        for begin, end in pairwise(self._edges.tolist()):
            for start in range(begin, end, self._size):
                yield list(self._keys[start : min(start + self._size, end)])
