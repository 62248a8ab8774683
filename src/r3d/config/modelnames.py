"""Which file stands for a model that is given by its name, as an experiment or as a file."""

import os
from pathlib import Path

from r3d.config.config import Config
from r3d.config.loading import read_config
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.models.released import MODELS_FOLDER, RELEASED
from r3d.models.torchvision_names import NETWORKS, PREFIX, torchvision_file

DEFAULT_CONFIG = Path("config/config.yaml")
"""The config that Snakemake reads where none is given, and so do names of experiments."""


def model_file(name: str | os.PathLike[str], *, configfile: AnyPath | None = None) -> Path:
    """The checkpoint that a name stands for.

    A file is taken as it is. Else the name is looked for in the folder `models`, as that of a
    released file (`r3d50_K_200ep`), and among the experiments of a config, with the split after it
    where there are several (`scratch/01`). That of `torchvision:r3d_18` may have to be fetched yet.

    Args:
        configfile: whose experiments may be meant; `config/config.yaml` by default, if it is there.

    Raises:
        InputError: if there is no such model.
    """
    text, file = os.fspath(name), Path(name)
    if text.startswith(PREFIX):
        return torchvision_file(text)
    if file.is_file():
        return file
    named = MODELS_FOLDER / f"{file.name.removesuffix('.pth')}.pth"
    has_folder = file.name != text
    if not has_folder and named.is_file():
        return named
    if configfile is not None or DEFAULT_CONFIG.is_file():
        path = Path(configfile or DEFAULT_CONFIG)
        config = read_config(path)
        experiment, _, split = text.partition("/")
        if experiment in config.experiments:
            return _file_of_experiment(config, path, experiment, split)
    if not has_folder and named.name in RELEASED:
        raise InputError(
            f"model {text}: there is no {named}; download {named.name}, which is a released file, "
            f"into {MODELS_FOLDER}/: r3d released says from where"
        )
    also = "" if has_folder else f", nor is there {named}"
    raise InputError(
        f"model {text}: no such file{also}; give the path of a checkpoint, the name of one in "
        f"{MODELS_FOLDER}/ (r3d released lists those that were published), an experiment of a "
        f"config, or {', '.join(PREFIX + network for network in NETWORKS)}"
    )


def _file_of_experiment(config: Config, path: Path, experiment: str, split: str) -> Path:
    splits = config.experiment_splits(experiment)
    if not split and len(splits) == 1:
        (split,) = splits
    if split not in splits:
        accepted = ", ".join(f"{experiment}/{name}" for name in splits)
        raise InputError(
            f"model {experiment}{split and '/'}{split}: an experiment of {path} with the splits "
            f"{', '.join(splits)}; accepted: {accepted}"
        )
    model = config.model(experiment, split)
    if isinstance(model, str):
        return model_file(model)
    if not model.is_file():
        raise InputError(
            f"model {experiment}/{split}: {model} is not there yet; make it: "
            f"snakemake --cores 1 --configfile {path} {model}"
        )
    return model
