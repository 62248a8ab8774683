"""Models by name: a file, one in the folder `models`, or one of torchvision's."""

import os
from itertools import islice
from pathlib import Path

from r3d.errors import InputError
from r3d.models.modelfolder import WEIGHTS, weights_file
from r3d.models.released import MODELS_FOLDER, RELEASED
from r3d.models.torchvision_names import (
    NETWORKS,
    PREFIX,
    meant_network,
    torchvision_file,
    torchvision_network,
)

MODEL = "model.pth"
"""What a training calls its model, in a folder of its own."""

_EXPORTED = (".onnx", ".pt2")
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")
_MOST_NAMES = 2000  # of a folder that are looked at


def find_file(name: str | os.PathLike[str]) -> Path | None:
    """The file that a name stands for; None if there is none.

    A file is taken as it is, and so is that in a folder of `model.safetensors` or of a training.
    Any other name without a folder is looked for in `models`, so that `r3d50_K_200ep` is
    `models/r3d50_K_200ep.pth`. That of `torchvision:r3d_18` may have to be fetched yet
    (`r3d.models.fetching`).

    Raises:
        InputError: if torchvision has no such network, or it fits no family; if the file is an
            export that is not read back.
    """
    text, file = os.fspath(name), Path(name)
    if text.startswith(PREFIX):
        return torchvision_file(text)
    if not text:  # which is the working folder to a path
        return None
    for weights in (weights_file(file), file / MODEL):
        if _is_file(weights) or torchvision_network(weights):
            return _readable(weights)
    named = _in_models(file)
    return named if file.name == text and _is_file(named) else None


def no_such_model(name: str | os.PathLike[str], also: str = "") -> InputError:
    """That there is no model of a name, and what is accepted.

    Args:
        also: what else is accepted.
    """
    text, file = os.fspath(name), Path(name)
    if text and _is_folder(file):
        return InputError(
            f"model {text}: a folder without {MODEL} or {WEIGHTS}; {_files_to_give(file)}"
        )
    if file.name != text:  # it has a folder
        where = f"model {text}: no such file"
    elif _in_models(file).name in RELEASED:
        named = _in_models(file)
        return InputError(
            f"model {text}: there is no {named}; download {named.name}, a file that the authors "
            f"released, into {MODELS_FOLDER}/: r3d released says from where"
        )
    elif meant := meant_network(text):
        return InputError(f"model {text}: no such file; {meant}")
    else:
        where = f"model {text}: no such file, nor is there {_in_models(file)}"
    networks = ", ".join(f"{PREFIX}{network}" for network in NETWORKS)
    return InputError(
        f"{where}; give the path of a checkpoint, the name of one in {MODELS_FOLDER}/ (r3d "
        f"released lists those that were published), {also}or {networks}"
    )


def _readable(weights: Path) -> Path:
    if weights.suffix in _EXPORTED:
        raise InputError(
            f"model {weights}: a {weights.suffix} is an export for other programs, which is not "
            "read back; give the checkpoint that it was made of, or export that to a folder, "
            "which is a model here, too"
        )
    return weights


def _files_to_give(folder: Path) -> str:
    """Which file in a folder may be meant."""
    try:
        files = [path for path in islice(folder.iterdir(), _MOST_NAMES) if path.is_file()]
    except OSError:
        files = []
    found = sorted(path for path in files if path.suffix in _CHECKPOINTS)
    if not found:
        return "give the path of a checkpoint, or of a folder that has one"
    more = f", or another of its {len(found)} checkpoints" if len(found) > 1 else ""
    return f"give the file: {found[0]}{more}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, say, is that of no file
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _in_models(file: Path) -> Path:
    return MODELS_FOLDER / f"{file.name.removesuffix('.pth')}.pth"
