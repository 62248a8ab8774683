"""The video networks of torchvision: which are taken over, known without importing torch.

Their weights, of Kinetics-400, are fetched and written as checkpoints in `fetching`. A file of such
weights, be they torchvision's own or trained further, is known by the names in it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from r3d.errors import InputError
from r3d.models.architectures import Architecture
from r3d.models.released import MODELS_FOLDER

PREFIX = "torchvision:"

NETWORKS: dict[str, Architecture] = {
    "r3d_18": Architecture(
        model="resnet", model_depth=18, n_classes=400, conv1_t_size=3, no_max_pool=True
    )
}

CLIPS: dict[str, Any] = {
    "sample_size": 112,
    "sample_duration": 16,
    "sample_t_stride": 1,
    "mean_dataset": "torchvision",
}
"""The options of their clips."""

FRAMES: dict[str, Any] = {"short_side": 128, "fps": 15.0}
"""What the frames of their training were like, as torchvision states beside its accuracies."""

NORMALISATION: dict[str, Any] = {
    "mean": [0.43216, 0.394666, 0.37645],
    "std": [0.22803, 0.22145, 0.216989],
    "value_scale": 1,
}
"""What their inputs are normalised with."""

_NAMES = (
    (re.compile(r"^stem\.0\."), "conv1."),
    (re.compile(r"^stem\.1\."), "bn1."),
    (re.compile(r"\.conv(\d)\.0\."), r".conv\1."),
    (re.compile(r"\.conv(\d)\.1\."), r".bn\1."),
)
_Weights = TypeVar("_Weights")

_REFUSED = {
    "mc3_18": "its later convolutions have no extent in time, as those of all families here have",
    "r2plus1d_18": "its stem and the middle widths of its blocks are not those of resnet2p1d",
}


def torchvision_file(name: str) -> Path:
    """Where the checkpoint of a network such as `torchvision:r3d_18` lies once it was fetched.

    Raises:
        InputError: if it is none that is taken over.
    """
    network = name.removeprefix(PREFIX)
    if network not in NETWORKS:
        raise InputError(f"model {name}: {_refusal(network)}")
    return MODELS_FOLDER / f"torchvision_{network}.pth"


def torchvision_network(file: Path) -> str | None:
    """The network whose checkpoint this file is by its name; None if it is another file."""
    return next((name for name in NETWORKS if torchvision_file(name) == file), None)


def meant_network(name: str) -> str:
    """That one of torchvision's is meant by a name without the prefix; "" if none is.

    >>> meant_network("r3d_18")
    'torchvision calls a network so: torchvision:r3d_18'
    """
    if name in NETWORKS:
        return f"torchvision calls a network so: {PREFIX}{name}"
    return f"torchvision's {name} is refused: {_refusal(name)}" if name in _REFUSED else ""


def renamed(state_dict: Mapping[str, _Weights]) -> dict[str, _Weights]:
    """Weights under the names of here, in their order."""
    result = {}
    for name, value in state_dict.items():
        for pattern, present in _NAMES:
            name = pattern.sub(present, name)
        result[name] = value
    return result


def are_torchvisions(state_dict: Mapping[str, Any]) -> bool:
    """Whether weights have the names of a network that is taken over.

    Raises:
        InputError: if they have those of one that is not.
    """
    if not {"stem.0.weight", "fc.weight"} <= state_dict.keys():
        return False
    if "layer1.0.conv1.0.0.weight" in state_dict:
        raise InputError(f"torchvision's r2plus1d_18: {_refusal('r2plus1d_18')}")
    later: tuple[int, ...] = getattr(state_dict.get("layer2.0.conv1.0.weight"), "shape", ())
    if len(later) == 5 and later[2] == 1:
        raise InputError(f"torchvision's mc3_18: {_refusal('mc3_18')}")
    return True


def _refusal(network: str) -> str:
    reason = _REFUSED.get(network, "it is none of torchvision's that fits a family here")
    return f"{reason}; accepted: {', '.join(f'{PREFIX}{name}' for name in NETWORKS)}"
