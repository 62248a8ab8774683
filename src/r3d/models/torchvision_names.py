"""The video networks of torchvision: which are taken over, known without importing torch.

Their weights, of Kinetics-400, are fetched and written as checkpoints in `fetching`.
"""

from pathlib import Path
from typing import Any

from r3d.errors import InputError
from r3d.models.architectures import Architecture
from r3d.models.known import Known
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
        reason = _REFUSED.get(network, "it is none of torchvision's that fits a family here")
        accepted = ", ".join(f"{PREFIX}{network}" for network in NETWORKS)
        raise InputError(f"model {name}: {reason}; accepted: {accepted}")
    return MODELS_FOLDER / f"torchvision_{network}.pth"


def torchvision_network(file: Path) -> str | None:
    """The network whose checkpoint this file is by its name; None if it is another file."""
    return next((name for name in NETWORKS if torchvision_file(name) == file), None)


def known_of_torchvision(network: str) -> Known:
    """What is known of a network of torchvision's before it was fetched."""
    return Known(
        file=torchvision_file(network),
        architecture=NETWORKS[network],
        states_architecture=True,
        config=CLIPS,
    )
