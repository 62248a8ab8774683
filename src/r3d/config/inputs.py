"""What a config points to, checked before any job starts.

Only names are looked at and files that stay small (class lists, and the list of the test videos if
they are asked for): nothing grows with the data set.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from r3d.config.config import Config, Dataset, MergedDataset
from r3d.config.loading import examine
from r3d.config.starts import check_starts
from r3d.errors import InputError, reason_of
from r3d.lists import ListFormat, list_format, splits_there
from r3d.motion import class_names, list_names
from r3d.obstacles import need_writable


def list_files(dataset: Dataset, split: str) -> list[Path]:
    """The list files that a split of a data set is read from, which may be a fold.

    Raises:
        InputError: if the folder or a file is missing and is not to be rendered either.
    """
    folder, split = Path(dataset.lists), dataset.listed_split(split)
    if dataset.render:
        return [folder / name for name in list_names(split)]
    return _format(dataset).files(folder, split)


def has_labels(dataset: Dataset | MergedDataset, subset: str) -> bool | None:
    """Whether any video of a subset (train, val or test) has a label; None if it has no videos.

    Raises:
        InputError: if the lists have to be read for this and cannot be.
    """
    if subset != "test":
        return True
    if isinstance(dataset, MergedDataset):
        parts = [has_labels(part, subset) for part in dataset.parts.values()]
        known = [labelled for labelled in parts if labelled is not None]
        return any(known) if known else None
    if dataset.render:
        return None
    return _format(dataset).testing_has_labels(Path(dataset.lists))


def check_inputs(raw: Mapping[str, Any]) -> Config:
    """The config, if it is right and lists, videos and weights are where it says.

    Raises:
        InputError: with a line for each key that is wrong, its value and what is accepted.
    """
    config, problems = examine(raw)
    if config is not None:
        problems += [f"config: {problem}" for problem in missing_inputs(config)]
    if config is None or problems:
        raise InputError("\n".join(problems))
    return config


def missing_inputs(config: Config) -> Iterator[str]:
    """What is not there, or not what the config says of it."""
    yield from _check_output("results", config.results)
    for name, part in config.datasets.items():
        yield from _check_dataset(f"datasets.{name}", part)
    for name, experiment in config.experiments.items():
        order = experiment.class_order
        if order not in (None, "annotation") and not Path(order).is_file():
            yield (
                f"experiments.{name}.class_order: {order!r} is no file; give a file that "
                "lists the classes, or the word annotation"
            )
        known = experiment.dataset in (*config.datasets, *config.merged)
        dataset = config.dataset(experiment.dataset) if known else None
        classes = None if dataset is None else _classes(dataset)
        yield from check_starts(f"experiments.{name}", experiment, classes)
        if dataset is None:
            continue
        with suppress(InputError):  # of the lists, which are checked above
            if has_labels(dataset, experiment.inference_subset) is None:
                yield (
                    f"experiments.{name}.inference_subset: 'test' has no videos in the lists of "
                    f"{experiment.dataset}; accepted: train, val"
                )


def _classes(dataset: Dataset | MergedDataset) -> list[str] | int | None:
    """The classes of a data set, or how many; None if that takes more than a look."""
    if isinstance(dataset, MergedDataset):
        return dataset.n_classes
    with suppress(InputError, OSError):  # of the lists, which are checked by themselves
        labels = _labels(dataset)
        if labels is not None:
            return list(labels)
    return dataset.n_classes


def _check_dataset(where: str, dataset: Dataset) -> Iterator[str]:
    for key in ("videos", "lists") if dataset.render else ():
        yield from _check_output(f"{where}.{key}", getattr(dataset, key))
    if not Path(dataset.frames).is_dir():  # frames that are there may be complete
        yield from _check_output(f"{where}.frames", dataset.frames)
    if not dataset.render:
        if not any(Path(folder).is_dir() for folder in (dataset.videos, dataset.frames)):
            yield (
                f"{where}.videos: {dataset.videos!r} is no folder, and there are no frames in "
                f"{dataset.frames!r} either; give the folder that holds the videos"
            )
        if not Path(dataset.lists).exists():
            yield (
                f"{where}.lists: {dataset.lists!r} does not exist; "
                f"give the folder that holds the {dataset.format} lists"
            )
            return
    elif dataset.format != "ucf101":
        yield f"{where}.render: goes with format: 'ucf101', not {dataset.format!r}"
        return
    try:
        for split in dataset.all_splits:
            list_files(dataset, split)
        labels = _labels(dataset)
    except (InputError, OSError) as error:
        yield f"{where}.lists: {reason_of(error)}{_other_splits(where, dataset)}"
        return
    if labels is not None and dataset.n_classes not in (None, len(labels)):
        yield (
            f"{where}.n_classes: {dataset.n_classes} does not match the {len(labels)} classes of "
            f"the lists in {dataset.lists!r}; give {len(labels)} or leave it out"
        )


def _labels(dataset: Dataset) -> Sequence[str] | None:
    """The classes of the lists; None if that takes more than a look."""
    if dataset.render:
        return class_names(dataset.render.n_classes)
    return _format(dataset).labels(Path(dataset.lists))


def _other_splits(where: str, dataset: Dataset) -> str:
    """How to use those splits of which there are files, where all are asked for; "" if all are.

    They are to be named: a table of accuracies must not depend on which lists happen to be there.
    """
    there = [] if dataset.render else splits_there(dataset.format, Path(dataset.lists))
    if dataset.splits or there == list(dataset.all_splits):
        return ""
    named = ", ".join(f'"{split}"' for split in there)
    return f"; to use those that are there: {where}.splits: [{named}]"


def _check_output(where: str, folder: str) -> Iterator[str]:
    try:
        need_writable(folder, folder=True)
    except InputError as error:
        yield f"{where}: {error}"


def _format(dataset: Dataset) -> ListFormat:
    return list_format(dataset.format, dataset.n_classes)
