"""Which file stands for a model that is given by its name, as an experiment or as a file."""

import os
from pathlib import Path

from r3d.config.config import Config
from r3d.config.loading import read_config
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.models.naming import find_file, no_such_model

DEFAULT_CONFIG = Path("config/config.yaml")
"""The config that Snakemake reads where none is given, and so do names of experiments."""


def model_file(name: str | os.PathLike[str], *, configfile: AnyPath | None = None) -> Path:
    """The checkpoint that a name stands for.

    What is no file, neither one in `models` nor one of torchvision's (`r3d.models.naming`), is an
    experiment of a config, with the run after it where it has several (`Config.runs`), as
    `scratch/01`.

    Args:
        configfile: whose experiments may be meant; `config/config.yaml` by default, if it is there.

    Raises:
        InputError: if there is no such model.
    """
    file = find_file(name)
    if file is not None:
        return file
    path = Path(configfile or DEFAULT_CONFIG)
    if configfile is None and not path.is_file():
        raise no_such_model(name)
    config = read_config(path)
    found = _experiment(config, name)
    if found is None:
        names = ", ".join(config.experiments)
        raise no_such_model(name, f"an experiment of {path} ({names}), ")
    return _file_of_experiment(config, path, *found)


def folders_of_videos(
    name: str | os.PathLike[str], *, configfile: AnyPath | None = None
) -> list[Path]:
    """Where the videos are that the model of an experiment is about; none of another model.

    Args:
        name, configfile: as for `model_file`; the path of its file stands for an experiment, too.
    """
    try:
        config = read_config(Path(configfile or DEFAULT_CONFIG))
    except InputError:
        return []
    found = _experiment(config, name)
    if found is None:
        return []
    dataset = config.experiments[found[0]].dataset
    parts = config.merged.get(dataset, [dataset])
    return [Path(config.datasets[part].videos) for part in parts]


def _experiment(config: Config, name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """The experiment that is meant and its run ("" if it is not said), by name or by path."""
    experiment, _, run = os.fspath(name).partition("/")
    if experiment in config.experiments:
        return experiment, run
    return _of_path(config, Path(name))


def _of_path(config: Config, path: Path) -> tuple[str, str] | None:
    """The experiment, and its run, whose model or its folder this path will be."""
    for name in config.experiments:
        for run in config.runs(name):
            model = config.model(name, run)
            if isinstance(model, Path) and path in (model, model.parent):
                return name, run
    return None


def _file_of_experiment(config: Config, path: Path, experiment: str, run: str) -> Path:
    runs = config.runs(experiment)
    if not run and len(runs) == 1:
        (run,) = runs
    if run not in runs:
        # Of a path such as scratch/01/model.pth the run is meant.
        meant = [name for name in runs if run.startswith(f"{name}/")]
        accepted = ", ".join(f"{experiment}/{name}" for name in meant or runs)
        raise InputError(
            f"model {experiment}{run and '/'}{run}: an experiment of {path} with the runs "
            f"{', '.join(runs)}; accepted: {accepted}"
        )
    model = config.model(experiment, run)
    if isinstance(model, str):
        found = find_file(model)
        if found is None:
            raise no_such_model(model)
        return found
    if not model.is_file():
        raise InputError(
            f"model {experiment}/{run}: {model} is not there yet; make it: "
            f"snakemake --cores 1 --configfile {path} {model}"
        )
    return model
