"""What is to be tuned: an experiment of a config, or a training by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r3d.compute.machine import n_cores
from r3d.config.config import Config, Experiment
from r3d.config.loading import read_config
from r3d.errors import InputError
from r3d.frames.layouts import FileType


@dataclass(frozen=True)
class Task:
    """An experiment and its videos, and how its settings are to be written down.

    Attributes:
        options: the experiment with its present settings.
        annotation: its annotation JSON.
        frames, file_type: folder and kind of the frame store.
        in_workflow: whether it gets as many cores as the workflow gives it, else all.
        section: keys of the config under which its settings stand.
        title: lines that say what was tuned.
    """

    options: Experiment
    annotation: Path
    frames: Path
    file_type: FileType
    in_workflow: bool
    section: Sequence[str]
    title: Sequence[str]


def task_by_hand(
    options: Experiment, *, annotation: Path, frames: Path, file_type: FileType
) -> Task:
    """A training and inference by the options of `r3d train` and `r3d infer`."""
    return Task(
        options,
        annotation,
        frames,
        file_type,
        in_workflow=False,
        section=["defaults"],
        title=[
            f"The fastest settings for {frames}, as `r3d tune` measured them: for the config,",
            "or as options of r3d train and r3d infer.",
        ],
    )


def task_of_config(
    configfile: Path, *, experiment: str | None, split: str | None, output: Path
) -> Task:
    """An experiment of a workflow's config.

    Args:
        experiment: its name; may be None where only one trains.
        split: the split whose videos are read; the first by default.
        output: the config file that is to hold the settings.

    Raises:
        InputError: for a name that the config does not have, or without annotation and frames.
    """
    config = read_config(configfile)
    name = _experiment(config, experiment)
    options = config.experiments[name]
    dataset = config.dataset(options.dataset)
    splits = config.experiment_splits(name)
    if split not in (None, *splits):
        raise InputError(f"--split: {split!r} is not one of {', '.join(map(repr, splits))}")
    annotation = Path(config.annotation(options.dataset, split or splits[0]))
    if not annotation.is_file() or not Path(dataset.frames).is_dir():
        raise InputError(
            f"{annotation}: there are no annotation and frames yet; run first: "
            f"snakemake annotations --cores {n_cores()} --configfile {configfile}"
        )
    return Task(
        options,
        annotation,
        Path(dataset.frames),
        dataset.file_type,
        in_workflow=True,
        section=["experiments", name],
        title=[
            f"The fastest settings of {name} in {configfile}, as `r3d tune` measured them. Usage:",
            f"    snakemake --cores {n_cores()} --configfile {configfile} {output}",
        ],
    )


def _experiment(config: Config, name: str | None) -> str:
    trained = [key for key, experiment in config.experiments.items() if not experiment.no_train]
    if name in trained:
        return name
    if name is None and len(trained) == 1:
        return trained[0]
    raise InputError(
        f"--experiment: {name!r} is not one of the experiments that train: {', '.join(trained)}"
    )
