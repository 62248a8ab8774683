"""Models by name as files that are there: torchvision's weights are fetched when first asked for.

They become checkpoints of ours, in the folder `models`.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.errors import InputError
from r3d.models.checkpoint import write_checkpoint
from r3d.models.contents import Checkpoint
from r3d.models.naming import find_file, no_such_model
from r3d.models.torchvision_names import (
    CLIPS,
    FRAMES,
    NETWORKS,
    NORMALISATION,
    renamed,
    torchvision_file,
    torchvision_network,
)


def present_file(name: str | os.PathLike[str]) -> Path:
    """The file that a name stands for (`r3d.models.naming`), fetched if torchvision has it.

    Raises:
        InputError: if there is none, or it cannot be fetched.
    """
    file = find_file(name)
    if file is None:
        raise no_such_model(name)
    network = torchvision_network(file)
    return file if network is None else fetch(network)


def fetch(network: str) -> Path:
    """The checkpoint of a network of torchvision's, made if it is not there yet.

    Torchvision downloads the weights into its own cache (`torch.hub.get_dir()`).

    Raises:
        InputError: if they cannot be downloaded, or the checkpoint cannot be written.
    """
    file = torchvision_file(network)
    if file.is_file():
        return file
    weights = _weights()
    try:
        state_dict = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        place = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        raise InputError(
            f"model torchvision:{network}: its weights cannot be downloaded or read ({reason}); "
            f"on a machine with a network, download {weights.url} and put it at {place}"
        ) from None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(file, converted(network, state_dict))
    except OSError as error:
        raise InputError(f"checkpoint {file}: cannot be written ({error.strerror})") from None
    return file


def converted(network: str, state_dict: dict[str, Tensor]) -> Checkpoint:
    """Weights of a network of torchvision's under the names of here, and what goes with them."""
    return Checkpoint(
        state_dict=renamed(state_dict),
        architecture=NETWORKS[network],
        config=CLIPS,
        labels=list(_weights().meta["categories"]),
        normalisation=NORMALISATION,
        frames=FRAMES,
    )


def _weights() -> Any:
    """Torchvision's entry of its weights."""
    from torchvision.models import video  # which takes as long as torch

    return video.R3D_18_Weights.KINETICS400_V1
