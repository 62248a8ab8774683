"""The config file: every option with its type, default and accepted values, in one place.

A config has data sets, experiments and defaults for all experiments. The keys of an experiment
carry the option names of the reference implementation. `load_config` turns the parsed YAML into
frozen objects or raises one `InputError` that names key, value and what is accepted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from r3d.errors import InputError
from r3d.lists import FORMATS
from r3d.options import (
    Count,
    CountOrZero,
    FileType,
    Fraction,
    InferenceOptions,
    ModelOptions,
    Number,
    Positive,
    Resources,
    RunOptions,
    Section,
    TrainingOptions,
)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]*"


class Rendering(Section):
    """The embedded motion data set, rendered before its lists are read (`r3d.motion`)."""

    videos_per_class: Annotated[int, Field(ge=2)] = 80
    """Videos of each class."""
    n_frames: Annotated[int, Field(ge=2)] = 32
    """Frames of each video."""
    seed: CountOrZero = 1
    """Seed of everything random."""


class Dataset(Section):
    """Where a data set lies and how its frames are made."""

    format: str
    """Kind of its lists: activitynet, csv, folders, hmdb51, kinetics, mit or ucf101."""
    lists: str
    """Folder of the list files; the file itself for csv and activitynet; for folders the videos."""
    videos: str
    """Folder of the videos, laid out as the lists say."""
    frames: str
    """Folder of the frames, to be filled or filled before."""
    n_classes: Count | None = None
    """Number of classes, to be checked against the lists; none is not checked."""
    splits: list[str] | None = None
    """The official splits to use, as ["01", "02"]; all if not given."""
    render: Rendering | None = None
    """Render the embedded motion data set into `videos` and `lists`."""

    file_type: FileType = "jpg"
    """Store of the frames: a JPEG file each, or an HDF5 file of JPEGs a video."""
    short_side: CountOrZero = 240
    """Short side of the frames, in pixels; 0 keeps the size."""
    quality: Annotated[int, Field(ge=2, le=31)] | None = None
    """JPEG quantiser of ffmpeg, 2 (best) to 31; none is ffmpeg's own choice."""
    fps: Positive | None = None
    """Frames a second to select; none, or more than the video has, keeps all."""
    timeout_seconds: Positive = 600.0
    """Give up a video whose extraction takes longer."""
    shards: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Parts that the videos are divided into; each is a job."""
    max_failure_rate: Fraction = 0.1
    """Largest share of listed videos without frames; more stop the run."""

    validation_fraction: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    """Share of the videos for validation where the lists do not split them."""
    split_seed: CountOrZero = 1
    """Seed of that split."""
    group_pattern: str | None = None
    """Regular expression that finds in a path what must not be split, such as "_g(\\d+)_"."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.format not in FORMATS:
            raise ValueError(f"format: {self.format!r} is not one of {', '.join(FORMATS)}")
        accepted = FORMATS[self.format].splits
        for split in self.splits or ():
            if split not in accepted:
                raise ValueError(
                    f"splits: {split!r} is not a split of {self.format}; "
                    f"accepted: {', '.join(map(repr, accepted))}"
                )
        if self.splits is not None and (
            not self.splits or len(set(self.splits)) < len(self.splits)
        ):
            raise ValueError(f"splits: {self.splits} must name each split once, at least one")
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise ValueError(
                    f"group_pattern: {self.group_pattern!r} is no regular expression ({error})"
                ) from None
        return self

    @property
    def frame_options(self) -> dict[str, Any]:
        """The arguments of `r3d.frames.FrameOptions`."""
        names = ("file_type", "short_side", "quality", "fps", "timeout_seconds")
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
    inference_subset: Literal["train", "val", "test"] = "val"
    """Subset to apply the trained model to."""
    no_train: bool = False
    """Apply the model of `pretrain` or `pretrain_path` as it is."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.no_train and not (self.pretrain or self.pretrain_path):
            raise ValueError(
                "no_train: true needs pretrain (an experiment) or pretrain_path (a file)"
            )
        processes = self.resources.nodes * self.resources.processes_per_node
        if self.batch_size % processes and not self.no_train:
            raise ValueError(
                f"batch_size: {self.batch_size} is the whole batch and must be a multiple of the "
                f"{processes} processes that share it (resources)"
            )
        if self.batchnorm_sync and self.no_cuda and processes > 1:
            raise ValueError(
                f"batchnorm_sync: true works on GPUs only, and no_cuda: true puts {processes} "
                "processes on the CPU"
            )
        return self

    @property
    def accuracy_ks(self) -> list[int]:
        """The k of the top-k accuracies that the stored results suffice for."""
        return [k for k in (1, 5) if self.output_topk <= 0 or k <= self.output_topk]

    def options(self, group: type[Section]) -> dict[str, Any]:
        """The plain values of a group of options, as the params of a rule."""
        return self.model_dump(include=set(group.model_fields))


class Config(Section):
    """The whole config file."""

    results: str = "results"
    """Folder of all results but the frames."""
    datasets: Annotated[dict[str, Dataset], Field(min_length=1)]
    merged: dict[str, list[str]] = Field(default_factory=dict)
    """Data sets that are the union of some of `datasets`."""
    experiments: dict[str, Experiment] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind in ("datasets", "merged", "experiments"):
            for name in getattr(self, kind):
                if not re.fullmatch(NAME_PATTERN, name):
                    raise ValueError(
                        f"{kind}: the name {name!r} may hold letters, digits, '_' and '-' only"
                    )
        for name, parts in self.merged.items():
            self._check_merged(name, parts)
        for name, experiment in self.experiments.items():
            self._check_experiment(f"experiments.{name}", experiment)
        for name, experiment in self.experiments.items():
            if experiment.pretrain is not None:
                self._check_start(f"experiments.{name}", experiment, experiment.pretrain)
        self._check_cycles()
        return self

    def dataset(self, name: str) -> Dataset | MergedDataset:
        """The data set of a name."""
        if name in self.merged:
            return MergedDataset({part: self.datasets[part] for part in self.merged[name]})
        return self.datasets[name]

    def _check_merged(self, name: str, parts: list[str]) -> None:
        where = f"merged.{name}"
        if name in self.datasets:
            raise ValueError(f"{where}: {name!r} is the name of a data set already")
        if len(parts) < 2 or len(set(parts)) < len(parts):
            raise ValueError(f"{where}: {parts} must name two data sets or more, each once")
        file_types = {}
        for part in parts:
            if part not in self.datasets:
                raise ValueError(
                    f"{where}: {part!r} is not one of the data sets: {', '.join(self.datasets)}"
                )
            dataset = self.datasets[part]
            if dataset.format == "activitynet":
                raise ValueError(
                    f"{where}: {part!r} has segments in seconds (format: activitynet), which "
                    "cannot be merged with whole videos"
                )
            if len(dataset.all_splits) > 1:
                raise ValueError(
                    f"{where}: {part!r} has several splits "
                    f"({', '.join(map(repr, dataset.all_splits))}): give it one (its splits)"
                )
            file_types[part] = dataset.file_type
        if len(set(file_types.values())) > 1:
            raise ValueError(
                f"{where}: its data sets differ in file_type "
                f"({', '.join(f'{part}: {kind}' for part, kind in file_types.items())})"
            )

    def _check_experiment(self, where: str, experiment: Experiment) -> None:
        names = [*self.datasets, *self.merged]
        if experiment.dataset not in names:
            raise ValueError(
                f"{where}.dataset: {experiment.dataset!r} is not one of the data sets: "
                f"{', '.join(names)}"
            )
        dataset = self.dataset(experiment.dataset)
        if experiment.input_type == "flow" and dataset.file_type != "hdf5":
            raise ValueError(
                f"{where}.input_type: 'flow' is read from frames of file_type: hdf5 only, and "
                f"that of {experiment.dataset} is {dataset.file_type!r}"
            )
        accepted = dataset.all_splits
        splits = experiment.splits
        _check_distinct(f"{where}.splits", splits)
        for split in splits or ():
            if split not in accepted:
                raise ValueError(
                    f"{where}.splits: {split!r} is not a split in use of {experiment.dataset}; "
                    f"accepted: {', '.join(map(repr, accepted))}"
                )
        if experiment.pretrain not in (None, *self.experiments):
            raise ValueError(
                f"{where}.pretrain: {experiment.pretrain!r} is not one of the experiments: "
                f"{', '.join(self.experiments)}"
            )

    def _check_start(self, where: str, experiment: Experiment, start: str) -> None:
        """Refuse what does not fit the experiment that another one starts from."""
        source = self.experiments[start]
        available = self.experiment_splits(start)
        if source.dataset == experiment.dataset:
            wanted = experiment.splits or self.dataset(experiment.dataset).all_splits
            missing = [split for split in wanted if split not in available]
            if missing:
                raise ValueError(
                    f"{where}.pretrain: {start!r} does not train on split {missing[0]!r}; "
                    f"it trains on {', '.join(map(repr, available))}"
                )
        elif len(available) > 1:
            raise ValueError(
                f"{where}.pretrain: {start!r} trains on another data set and on several splits "
                f"({', '.join(map(repr, available))}): give it one"
            )
        names = list(ModelOptions.model_fields)
        if experiment.no_train:  # else the inputs may be others
            names += ["no_mean_norm", "no_std_norm", "value_scale"]
            if not (experiment.no_mean_norm and experiment.no_std_norm):
                names.append("mean_dataset")
        for name in names:
            here, there = getattr(experiment, name), getattr(source, name)
            if here != there:
                raise ValueError(
                    f"{where}.{name}: {here!r} does not fit pretrain: {start!r}, "
                    f"whose {name} is {there!r}"
                )
        known = self.dataset(source.dataset).n_classes
        own = self.dataset(experiment.dataset).n_classes
        if experiment.no_train and None not in (known, own) and known != own:
            raise ValueError(
                f"{where}.no_train: true, but {experiment.dataset} has {own} classes and "
                f"pretrain: {start!r} was trained on {known}"
            )
        if experiment.n_pretrain_classes and known not in (None, experiment.n_pretrain_classes):
            raise ValueError(
                f"{where}.n_pretrain_classes: {experiment.n_pretrain_classes} does not fit "
                f"pretrain: {start!r}, which has {known} classes; 0 takes them from its model"
            )

    def _check_cycles(self) -> None:
        for name in self.experiments:
            chain = [name]
            while (before := self.experiments[chain[-1]].pretrain) is not None:
                if before in chain:
                    raise ValueError(
                        f"experiments.{name}.pretrain: the chain "
                        f"{' <- '.join([*chain, before])} never starts"
                    )
                chain.append(before)

    def experiment_splits(self, name: str) -> tuple[str, ...]:
        """The splits that an experiment runs on: its own choice, or all of its data set."""
        experiment = self.experiments[name]
        return tuple(experiment.splits or self.dataset(experiment.dataset).all_splits)

    def annotation(self, dataset: str, split: str) -> str:
        """The annotation JSON of a split of a data set."""
        return f"{self.results}/datasets/{dataset}/annotations/{dataset}_{split}.json"

    def pretrain_split(self, name: str, split: str) -> str:
        """The split of the experiment that `name` starts from: the same on the same data set."""
        experiment = self.experiments[name]
        assert experiment.pretrain is not None
        if self.experiments[experiment.pretrain].dataset == experiment.dataset:
            return split
        return self.experiment_splits(experiment.pretrain)[0]


def _check_distinct(where: str, splits: list[str] | None) -> None:
    if splits is not None and (not splits or len(set(splits)) < len(splits)):
        raise ValueError(f"{where}: {splits} must name each split once, at least one")


def load_config(raw: Mapping[str, Any]) -> Config:
    """Validate a parsed config and fill in defaults.

    Raises:
        InputError: naming the first key that is wrong, its value and what is accepted.
    """
    raw = {key: value for key, value in raw.items() if value is not None}
    defaults = raw.pop("defaults", {})
    if not isinstance(defaults, Mapping):
        raise InputError(f"config: defaults: {defaults!r} must be a mapping of experiment options")
    for key in defaults:
        if key not in Experiment.model_fields:
            raise InputError(_unknown_key(("defaults", key), defaults[key], Experiment))
    own = raw.get("experiments", {})
    if isinstance(own, Mapping):
        raw["experiments"] = {
            name: {**defaults, **(options or {})} if isinstance(options or {}, Mapping) else options
            for name, options in own.items()
        }
    try:
        return Config.model_validate(_plain(raw))
    except ValidationError as error:
        raise InputError(one_line(error, _plain(own))) from None


def read_config(path: str | Path) -> Config:
    """Load a config from a YAML file.

    Raises:
        InputError: if the file is absent, is not YAML or holds a wrong value.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"config {path}: is not valid YAML ({reason})") from None
    if not isinstance(raw, Mapping):
        raise InputError(f"config {path}: must be a mapping with the keys datasets, experiments")
    return load_config(raw)


def _plain(value: Any) -> Any:
    """Ordinary dicts and lists with string keys, whatever the YAML loader made."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def one_line(error: ValidationError, own: Mapping[str, Any] | None = None) -> str:
    """The first problem of a validation as `config: key: value: what is accepted`.

    Args:
        own: the experiments of a config without the defaults that were added to them.
    """
    first = error.errors()[0]
    location, value = first["loc"], first["input"]
    if first["type"] == "extra_forbidden":
        return _unknown_key(location, value, _section_at(location[:-1]))
    match location:
        case ("experiments", name, key, *rest) if own and key not in (own[str(name)] or {}):
            location = ("defaults", key, *rest) if first["type"] != "missing" else location
    where = ".".join(str(part) for part in location)
    if first["type"] == "value_error":  # raised by the checks of the sections, which name the key
        return f"config: {'.'.join(filter(None, [where, str(first['ctx']['error'])]))}"
    if first["type"] == "missing":
        return f"config: {where}: this key is required"
    problem = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "string_type" and isinstance(value, int | float):
        problem += f'; put it in quotes, as "{value}"'
    return f"config: {where}: {value!r} is refused: {problem}"


def _unknown_key(location: tuple[int | str, ...], value: Any, section: type[BaseModel]) -> str:
    key = str(location[-1])
    accepted = list(section.model_fields)
    if section is Config:
        accepted.append("defaults")
    close = difflib.get_close_matches(key, accepted, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    where = ".".join(str(part) for part in location)
    return (
        f"config: {where}: unknown key, given {value!r}{hint}; "
        f"accepted: {', '.join(sorted(accepted))}"
    )


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The section class that a location inside the config points to."""
    match location:
        case ("datasets", _, "render"):
            return Rendering
        case ("datasets", *_):
            return Dataset
        case ("experiments", _, "resources"):
            return Resources
        case ("experiments", *_):
            return Experiment
    return Config
