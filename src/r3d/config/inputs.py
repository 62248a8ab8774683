"""What a config points to, checked before any job starts.

Only names are looked at and files that stay small (class lists, and the list of the test videos if
they are asked for): nothing grows with the data set.
"""

from pathlib import Path

from r3d.config.config import Config, Dataset, Experiment, MergedDataset
from r3d.errors import InputError
from r3d.lists import FORMATS
from r3d.models.released import released_weights
from r3d.motion import CLASSES, list_names


def list_files(dataset: Dataset, split: str) -> list[Path]:
    """The list files that a split of a data set is read from.

    Raises:
        InputError: if the folder or a file is missing and is not to be rendered either.
    """
    folder = Path(dataset.lists)
    if dataset.render:
        return [folder / name for name in list_names(split)]
    return FORMATS[dataset.format].files(folder, split)


def has_labels(dataset: Dataset | MergedDataset, subset: str) -> bool | None:
    """Whether a subset (train, val or test) can be evaluated; None if it has no videos.

    Raises:
        InputError: if the lists have to be read for this and cannot be.
    """
    if subset != "test":
        return True
    if isinstance(dataset, MergedDataset):
        parts = [has_labels(part, subset) for part in dataset.parts.values()]
        known = [labelled for labelled in parts if labelled is not None]
        return all(known) if known else None
    if dataset.render:
        return None
    return FORMATS[dataset.format].testing_has_labels(Path(dataset.lists))


def check_inputs(config: Config) -> None:
    """Check that lists, videos and weights are where the config says, and the class counts.

    Raises:
        InputError: naming the key, its value and what is missing or does not match.
    """
    for name, part in config.datasets.items():
        _check_dataset(f"config: datasets.{name}", part)
    for name, experiment in config.experiments.items():
        for key in ("pretrain_path", "resume_path"):
            path = getattr(experiment, key)
            if path is not None and not Path(path).is_file():
                raise InputError(
                    f"config: experiments.{name}.{key}: {path!r} is no file; "
                    "give the path of a checkpoint"
                )
        order = experiment.class_order
        if order not in (None, "annotation") and not Path(order).is_file():
            raise InputError(
                f"config: experiments.{name}.class_order: {order!r} is no file; give a file that "
                "lists the classes, or the word annotation"
            )
        dataset = config.dataset(experiment.dataset)
        _check_released(f"config: experiments.{name}", experiment, dataset)
        if has_labels(dataset, experiment.inference_subset) is None:
            raise InputError(
                f"config: experiments.{name}.inference_subset: 'test' has no videos in the lists "
                f"of {experiment.dataset}; accepted: train, val"
            )


def _check_released(where: str, experiment: Experiment, dataset: Dataset | MergedDataset) -> None:
    """What the name of a released file says of its network; the file itself is not opened."""
    released = experiment.pretrain_path and released_weights(experiment.pretrain_path)
    if not released:
        return
    options = experiment.network()
    # Without a training the last layer stays, and its outputs are the classes of the data set.
    n_classes = dataset.n_classes if experiment.no_train else experiment.n_pretrain_classes
    if n_classes:
        options["n_classes"] = n_classes
    if misfit := released.misfit(options):
        raise InputError(
            f"{where}.pretrain_path: {experiment.pretrain_path!r} is by its name {released}: "
            f"{misfit} (rename the file if it is another)"
        )


def _check_dataset(where: str, dataset: Dataset) -> None:
    if not dataset.render:
        if not Path(dataset.lists).exists():
            raise InputError(
                f"{where}.lists: {dataset.lists!r} does not exist; "
                f"give the folder that holds the {dataset.format} lists"
            )
        if not any(Path(folder).is_dir() for folder in (dataset.videos, dataset.frames)):
            raise InputError(
                f"{where}.videos: {dataset.videos!r} is no folder, and there are no frames in "
                f"{dataset.frames!r} either; give the folder that holds the videos"
            )
    elif dataset.format != "ucf101":
        raise InputError(f"{where}.render: goes with format: 'ucf101', not {dataset.format!r}")
    try:
        for split in dataset.all_splits:
            list_files(dataset, split)
        labels = CLASSES if dataset.render else FORMATS[dataset.format].labels(Path(dataset.lists))
    except InputError as error:
        raise InputError(f"{where}.lists: {error}") from None
    if labels is not None and dataset.n_classes not in (None, len(labels)):
        raise InputError(
            f"{where}.n_classes: {dataset.n_classes} does not match the {len(labels)} classes of "
            f"the lists in {dataset.lists!r}; give {len(labels)} or leave it out"
        )
