"""Models by name as files that are there: torchvision's weights are fetched when first asked for.

They become checkpoints of ours, in the folder `models`.
"""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.errors import InputError
from r3d.models.checkpoint import write_checkpoint
from r3d.models.contents import Checkpoint
from r3d.models.naming import find_file, no_such_model
from r3d.models.torchvision_names import CLIPS, NETWORKS, torchvision_file, torchvision_network

_FRAMES_PER_SECOND = 15.0  # as torchvision states beside the accuracies of its weights
_NAMES = (
    (re.compile(r"^stem\.0\."), "conv1."),
    (re.compile(r"^stem\.1\."), "bn1."),
    (re.compile(r"\.conv(\d)\.0\."), r".conv\1."),
    (re.compile(r"\.conv(\d)\.1\."), r".bn\1."),
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
    weights = _weights()
    shown = weights.transforms()
    renamed = {}
    for name, value in state_dict.items():
        for pattern, present in _NAMES:
            name = pattern.sub(present, name)
        renamed[name] = value
    return Checkpoint(
        state_dict=renamed,
        architecture=NETWORKS[network],
        config=CLIPS,
        labels=list(weights.meta["categories"]),
        normalisation={"mean": list(shown.mean), "std": list(shown.std), "value_scale": 1},
        frames={"short_side": shown.resize_size[0], "fps": _FRAMES_PER_SECOND},
    )


def _weights() -> Any:
    """Torchvision's entry of its weights."""
    from torchvision.models import video  # which takes as long as torch

    return video.R3D_18_Weights.KINETICS400_V1
