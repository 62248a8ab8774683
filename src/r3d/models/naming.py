"""Models by name: a file, one in the folder `models`, or one of torchvision's."""

import os
from pathlib import Path

from r3d.errors import InputError
from r3d.models.modelfolder import weights_file
from r3d.models.released import MODELS_FOLDER, RELEASED
from r3d.models.torchvision_names import NETWORKS, PREFIX, torchvision_file, torchvision_network


def find_file(name: str | os.PathLike[str]) -> Path | None:
    """The file that a name stands for; None if there is none.

    A file is taken as it is, and so is that in a folder of `model.safetensors`. Any other name
    without a folder is looked for in `models`, so that `r3d50_K_200ep` is
    `models/r3d50_K_200ep.pth`. That of `torchvision:r3d_18` may have to be fetched yet
    (`r3d.models.fetching`).

    Raises:
        InputError: if torchvision has no such network, or it fits no family.
    """
    text, file = os.fspath(name), Path(name)
    if text.startswith(PREFIX):
        return torchvision_file(text)
    weights = weights_file(file)
    if weights.is_file() or torchvision_network(weights):
        return weights
    named = _in_models(file)
    return named if file.name == text and named.is_file() else None


def no_such_model(name: str | os.PathLike[str], also: str = "") -> InputError:
    """That there is no model of a name, and what is accepted.

    Args:
        also: what else is accepted.
    """
    text, file = os.fspath(name), Path(name)
    if file.name != text:  # it has a folder
        where = f"model {text}: no such file"
    elif _in_models(file).name in RELEASED:
        named = _in_models(file)
        return InputError(
            f"model {text}: there is no {named}; download {named.name}, a file that the authors "
            f"released, into {MODELS_FOLDER}/: r3d released says from where"
        )
    else:
        where = f"model {text}: no such file, nor is there {_in_models(file)}"
    networks = ", ".join(f"{PREFIX}{network}" for network in NETWORKS)
    return InputError(
        f"{where}; give the path of a checkpoint, the name of one in {MODELS_FOLDER}/ (r3d "
        f"released lists those that were published), {also}or {networks}"
    )


def _in_models(file: Path) -> Path:
    return MODELS_FOLDER / f"{file.name.removesuffix('.pth')}.pth"
