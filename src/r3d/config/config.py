"""The config file: data sets, experiments, and defaults for all experiments.

The keys of an experiment carry the option names of the reference implementation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from r3d.config.options import (
    Count,
    Fraction,
    InferenceOptions,
    Number,
    PathText,
    Positive,
    RunOptions,
    Section,
    Seed,
    TrainingOptions,
)
from r3d.frames.layouts import Colour, FileType
from r3d.lists import FORMATS, all_folds, fold_of

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]*"

_MOST_FOLDS, _MOST_SEEDS = 100, 100


def _checked_seeds(value: Any) -> Any:
    """Seeds as they are, or how many; said in one go, not once for either form."""
    seeds = value if isinstance(value, list) else [value]
    numbers = [seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool)]
    lowest, most = (0, 2**63 - 1) if isinstance(value, list) else (1, _MOST_SEEDS)
    if value is not None and (
        len(numbers) < len(seeds)
        or not 1 <= len(set(seeds)) == len(seeds) <= _MOST_SEEDS
        or not all(lowest <= number <= most for number in numbers)
    ):
        raise PydanticCustomError(
            "seeds",
            f"give up to {_MOST_SEEDS} distinct whole numbers from 0 on, as [1, 2, 3], or how many",
        )
    return value


Seeds = Annotated[int | list[int] | None, BeforeValidator(_checked_seeds)]


class Rendering(Section):
    """The embedded motion data set, rendered before its lists are read (`r3d.motion`)."""

    videos_per_class: Annotated[int, Field(ge=2)] = 80
    """Videos of each class."""
    n_frames: Annotated[int, Field(ge=2)] = 32
    """Frames of each video."""
    seed: Seed = 1
    """Seed of everything random."""
    n_classes: Literal[8, 16] = 8
    """Classes of motion: turns, shifts and zooms; or shifts along two axes and spirals, too."""
    noise: Fraction = 0.0
    """Noise of each pixel of each frame: its standard deviation, as a share of the whole range."""
    clutter: Annotated[int, Field(ge=0, le=100)] = 0
    """Pieces of texture in front, with motions of their own."""


class Dataset(Section):
    """Where a data set lies and how its frames are made."""

    format: str
    """Kind of its lists: activitynet, csv, folders, hmdb51, kinetics, mit or ucf101."""
    lists: PathText
    """Folder of the list files; the file itself for csv and activitynet; for folders the videos."""
    videos: PathText
    """Folder of the videos, laid out as the lists say."""
    frames: PathText
    """Folder of the frames, to be filled or filled before."""
    n_classes: Count | None = None
    """Number of classes, to be checked against the lists; none is not checked."""
    splits: list[str] | None = None
    """The official splits to use, as ["01", "02"]; all if not given."""
    render: Rendering | None = None
    """Render the embedded motion data set into `videos` and `lists`."""

    file_type: FileType = "jpg"
    """Store of the frames: a JPEG file each, or an HDF5 file of JPEGs a video."""
    short_side: Annotated[int, Field(ge=0, le=65_535)] = 240
    """Short side of the frames, in pixels; 0 keeps the size."""
    quality: Annotated[int, Field(ge=2, le=31)] | None = None
    """JPEG quantiser of ffmpeg, 2 (best) to 31; none is ffmpeg's own choice."""
    fps: Annotated[Positive, Field(le=1e8)] | None = None
    """Frames a second to select; none, or more than the video has, keeps all."""
    colour: Colour = "converted"
    """Of BT.709 and BT.2020 sources: `converted` to what JPEG means, or `as_reference` has them."""
    timeout_seconds: Annotated[Positive, Field(le=1e8)] = 600.0
    """Give up a video whose extraction takes longer."""
    shards: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Parts that the videos are divided into; each is a job."""
    max_failure_rate: Fraction = 0.1
    """Largest share of listed videos without frames; more stop the run."""

    validation_fraction: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    """Share of the videos for validation where the lists do not split them."""
    split_seed: Seed = 1
    """Seed of that split."""
    group_pattern: str | None = None
    """Regular expression that finds in a path what must not be split, such as "_g(\\d+)_"."""

    def problems(self) -> Iterator[str]:
        if self.format not in FORMATS:
            yield (f"format: {self.format!r} is not one of {', '.join(FORMATS)}")
            return
        accepted = FORMATS[self.format].splits
        for split in self.splits or ():
            if split not in accepted:
                yield (
                    f"splits: {split!r} is not a split of {self.format}; "
                    f"accepted: {', '.join(map(repr, accepted))}"
                )
        if self.splits is not None and (
            not self.splits or len(set(self.splits)) < len(self.splits)
        ):
            yield (f"splits: {self.splits} must name each split once, at least one")
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                yield (f"group_pattern: {self.group_pattern!r} is no regular expression ({error})")

    @property
    def frame_options(self) -> dict[str, Any]:
        """The arguments of `r3d.frames.extract.FrameOptions`."""
        names = ("file_type", "short_side", "quality", "fps", "colour", "timeout_seconds")
        return {name: getattr(self, name) for name in names}

    @property
    def split_options(self) -> dict[str, Any]:
        """The arguments of `r3d.lists.SplitOptions`."""
        names = ("validation_fraction", "split_seed", "group_pattern")
        return {name: getattr(self, name) for name in names}

    @property
    def all_splits(self) -> tuple[str, ...]:
        """The splits in use: those chosen, or all that the format has."""
        return tuple(self.splits) if self.splits else FORMATS[self.format].splits

    def listed_split(self, split: str) -> str:
        """The split whose list holds the videos of another one, which may be a fold of them."""
        return split if fold_of(split) is None else self.all_splits[0]


@dataclass(frozen=True)
class MergedDataset:
    """The union of data sets, with what an experiment asks of a data set."""

    parts: Mapping[str, Dataset]

    all_splits: ClassVar[tuple[str, ...]] = ("all",)

    @property
    def file_type(self) -> FileType:
        """The same in all parts."""
        return self._first.file_type

    @property
    def frames(self) -> str:
        """A store of the right layout; where the frames are says each entry of the annotation."""
        return self._first.frames

    @property
    def n_classes(self) -> int | None:
        """The classes of all parts, as far as the config states them."""
        counts = [part.n_classes for part in self.parts.values()]
        return None if None in counts else sum(filter(None, counts))

    @property
    def _first(self) -> Dataset:
        return next(iter(self.parts.values()))


class Experiment(TrainingOptions, InferenceOptions, RunOptions):
    """One training with all options, or with `no_train` one application of a trained model."""

    dataset: str
    """Name of the data set."""
    splits: list[str] | None = None
    """Splits to run on, each by itself; all that the data set uses if not given."""
    folds: Annotated[int, Field(ge=2, le=_MOST_FOLDS)] | None = None
    """Cross-validate in place of splits: divide the videos for training and validation of a csv,
    folders or ucf101 into so many folds, and train as often, each time validating on another one.
    Groups stay together, classes are divided evenly. An experiment that starts from another one on
    the same data set has its folds."""
    seeds: Seeds = None
    """Train each split or fold once with each of these seeds, as [1, 2, 3]; or how many, from
    manual_seed on. With no_train they choose among the seeds of the experiment of pretrain; all of
    them if not given."""
    inference_subset: Literal["train", "val", "test"] = "val"
    """Subset to apply the trained model to."""
    no_train: bool = False
    """Apply the model of `pretrain` or `pretrain_path` as it is, with network, clips and
    normalisation of its training; another size, length or stride of the clips that is given is used
    and said."""

    def problems(self) -> Iterator[str]:
        if self.no_train and not (self.pretrain or self.pretrain_path):
            yield ("no_train: true needs pretrain (an experiment) or pretrain_path (a file)")
        one_model = self.source_run or (self.pretrain_path and not self.pretrain)
        if self.no_train and one_model and self.seeds not in (None, 1):
            which = f"pretrain: {self.pretrain}" if self.pretrain else "pretrain_path"
            yield (
                f"seeds: {self.seeds} does not go with no_train and {which}, which is one model; "
                "leave it out, or set seeds: null where defaults give it"
            )
        if self.folds and self.splits:
            yield (
                f"folds: {self.folds} and splits: {self.splits} exclude each other: folds are made "
                "anew from all videos; give one of them"
            )
        processes = self.resources.nodes * self.resources.processes_per_node
        if self.batch_size % processes and not self.no_train:
            yield (
                f"batch_size: {self.batch_size} is the whole batch and must be a multiple of the "
                f"{processes} processes that share it (resources)"
            )
        if self.batchnorm_sync and self.no_cuda and processes > 1:
            yield (
                f"batchnorm_sync: true works on GPUs only, and no_cuda: true puts {processes} "
                "processes on the CPU"
            )

    @property
    def source(self) -> str | None:
        """The experiment of `pretrain`."""
        return self.pretrain and self.pretrain.partition("/")[0]

    @property
    def source_run(self) -> str:
        """Its run, if `pretrain` gives one (`Config.runs`); else ""."""
        return (self.pretrain or "").partition("/")[2]

    @property
    def accuracy_ks(self) -> list[int]:
        """The k of the top-k accuracies that the stored results suffice for."""
        return [k for k in (1, 5) if self.output_topk <= 0 or k <= self.output_topk]

    def options(self, group: type[Section]) -> dict[str, Any]:
        """The plain values of a group of options, as the params of a rule.

        With `no_train` those only that are given: the model brings those of its training.
        """
        return self.model_dump(include=set(group.model_fields), exclude_unset=self.no_train)


class Config(Section):
    """The whole config file."""

    results: PathText = "results"
    """Folder of all results but the frames."""
    datasets: Annotated[dict[str, Dataset], Field(min_length=1)]
    """Data sets, by names of your choice."""
    merged: dict[str, list[str]] = Field(default_factory=dict)
    """Data sets that are the union of some of `datasets`."""
    experiments: dict[str, Experiment] = Field(default_factory=dict)
    """Experiments, by names of your choice."""

    def dataset(self, name: str) -> Dataset | MergedDataset:
        """The data set of a name."""
        if name in self.merged:
            return MergedDataset({part: self.datasets[part] for part in self.merged[name]})
        return self.datasets[name]

    def folds(self, name: str) -> int | None:
        """The folds of an experiment: its own, or those of what it starts from on its data set."""
        experiment = self.experiments[name]
        start = self.experiments.get(experiment.source or "")
        chosen = experiment.folds or experiment.splits or experiment.source_run
        if chosen or start is None or start.dataset != experiment.dataset:
            return experiment.folds
        return self.folds(str(experiment.source))

    def experiment_splits(self, name: str) -> tuple[str, ...]:
        """The splits that an experiment runs on: folds, its own choice, or all of its data set."""
        experiment = self.experiments[name]
        if n := self.folds(name):
            return tuple(fold.name for fold in all_folds(n))
        return tuple(experiment.splits or self.dataset(experiment.dataset).all_splits)

    def splits_in_use(self, name: str) -> tuple[str, ...]:
        """The splits of a data set with the folds that experiments divide its videos into."""
        of_experiments = [
            split
            for experiment, options in self.experiments.items()
            if options.dataset == name
            for split in self.experiment_splits(experiment)
        ]
        return tuple(dict.fromkeys([*self.dataset(name).all_splits, *of_experiments]))

    def seeds(self, name: str) -> tuple[int, ...]:
        """The seeds that an experiment trains with, or those of the models that it applies."""
        experiment = self.experiments[name]
        source, run = experiment.source, experiment.source_run
        if experiment.no_train:
            if source not in self.experiments:
                return (experiment.manual_seed,)
            if run or experiment.seeds is None:
                return (self.seed(source, run),) if run else self.seeds(source)
        if isinstance(experiment.seeds, list):
            return tuple(experiment.seeds)
        first = self._manual_seed(name)
        return tuple(range(first, first + (experiment.seeds or 1)))

    def runs(self, name: str) -> tuple[str, ...]:
        """The runs of an experiment, each a training or application of its own: split and seed.

        The run with `manual_seed` is called like its split, so that it stays what it is when seeds
        are added; another one has its seed behind: `01-seed2`.
        """
        return tuple(
            self._run(name, split, seed)
            for split in self.experiment_splits(name)
            for seed in self.seeds(name)
        )

    def seed(self, name: str, run: str) -> int:
        """The seed of a run of an experiment."""
        stated = _SEED.search(run)
        return int(stated[1]) if stated else self._manual_seed(name)

    def _run(self, name: str, split: str, seed: int) -> str:
        return split if seed == self._manual_seed(name) else f"{split}-seed{seed}"

    def _manual_seed(self, name: str) -> int:
        experiment = self.experiments[name]
        if experiment.no_train and experiment.source in self.experiments:
            return self._manual_seed(experiment.source)
        return experiment.manual_seed

    def training_options(self, name: str, run: str) -> dict[str, Any]:
        """The plain values of the options of a run's training, as the params of a rule."""
        options = self.experiments[name].options(TrainingOptions)
        return {**options, "manual_seed": self.seed(name, run)}

    def annotation(self, dataset: str, split: str) -> str:
        """The annotation JSON of a split of a data set."""
        return f"{self.results}/datasets/{dataset}/annotations/{dataset}_{split}.json"

    def model(self, name: str, run: str) -> Path | str:
        """The model that a run applies: its own, or with `no_train` its start."""
        if self.experiments[name].no_train:
            start = self.start(name, run)
            assert start is not None
            return start
        return Path(self.results, "experiments", name, run, "model.pth")

    def start(self, name: str, run: str) -> Path | str | None:
        """What a run starts from: a model of another experiment, what `pretrain_path` names."""
        experiment = self.experiments[name]
        if experiment.source:
            return self.model(experiment.source, self.pretrain_run(name, run))
        return experiment.pretrain_path

    def pretrain_run(self, name: str, run: str) -> str:
        """The run that a run of `name` starts from: the one that is given, if it is.

        Else on the same data set that of the same split, and that with the same seed, if there are
        several.
        """
        experiment = self.experiments[name]
        source = experiment.source
        assert source is not None
        if experiment.source_run:
            return experiment.source_run
        same = self.experiments[source].dataset == experiment.dataset
        split = split_of(run) if same else self.experiment_splits(source)[0]
        seeds, seed = self.seeds(source), self.seed(name, run)
        return self._run(source, split, seed if seed in seeds else seeds[0])

    def origin(self, name: str) -> Experiment:
        """The experiment that makes the model which one with `no_train` applies, or names it."""
        experiment = self.experiments[name]
        while experiment.no_train and experiment.source:
            experiment = self.experiments[experiment.source]
        return experiment


_SEED = re.compile(r"-seed(\d+)$")


def split_of(run: str) -> str:
    """The split of a run, which may be a fold.

    >>> split_of("01"), split_of("fold1of5-seed2")
    ('01', 'fold1of5')
    """
    return _SEED.sub("", run)
