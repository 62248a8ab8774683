"""From the name of a model to its file, which is fetched if torchvision has it."""

import os
from pathlib import Path

from r3d.config.modelnames import model_file
from r3d.files import AnyPath
from r3d.models.fetching import present_file


def find_model(name: str | os.PathLike[str], *, configfile: AnyPath | None = None) -> Path:
    """The checkpoint that a name stands for, as `r3d.config.modelnames.model_file` finds it.

    >>> find_model("scratch/01", configfile="config/config.yaml")
    PosixPath('results/experiments/scratch/01/model.pth')

    Raises:
        InputError: if there is no such model, or it cannot be downloaded.
    """
    return present_file(model_file(name, configfile=configfile))
