"""Torchvision's weights of Kinetics-400 as a checkpoint of ours, fetched when first asked for."""

import re
from pathlib import Path
from urllib.error import URLError

from torch import Tensor
from torchvision.models import video

from r3d.errors import InputError
from r3d.models.checkpoint import write_checkpoint
from r3d.models.contents import Checkpoint
from r3d.models.torchvision_names import NETWORKS, torchvision_file

_CLIP = {"sample_duration": 16, "sample_t_stride": 1, "mean_dataset": "torchvision"}
_FRAMES_PER_SECOND = 15.0  # as torchvision states beside the accuracies of its weights
_NAMES = (
    (re.compile(r"^stem\.0\."), "conv1."),
    (re.compile(r"^stem\.1\."), "bn1."),
    (re.compile(r"\.conv(\d)\.0\."), r".conv\1."),
    (re.compile(r"\.conv(\d)\.1\."), r".bn\1."),
)


def fetch(network: str) -> Path:
    """The checkpoint of a network of torchvision's, made if it is not there yet.

    Torchvision downloads the weights into its own cache (`torch.hub.get_dir()`).

    Raises:
        InputError: if they cannot be downloaded, or the checkpoint cannot be written.
    """
    file = torchvision_file(network)
    if file.is_file():
        return file
    weights = video.R3D_18_Weights.KINETICS400_V1
    try:
        state_dict = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise InputError(
            f"model torchvision:{network}: its weights cannot be downloaded ({reason}); on a "
            f"machine with a network, fetch {weights.url} and put it into the folder "
            "hub/checkpoints of TORCH_HOME (~/.cache/torch if it is not set)"
        ) from None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(file, converted(network, state_dict))
    except OSError as error:
        raise InputError(f"checkpoint {file}: cannot be written ({error.strerror})") from None
    return file


def converted(network: str, state_dict: dict[str, Tensor]) -> Checkpoint:
    """Weights of a network of torchvision's under the names of here, and what goes with them."""
    weights = video.R3D_18_Weights.KINETICS400_V1
    shown = weights.transforms()
    renamed = {}
    for name, value in state_dict.items():
        for pattern, present in _NAMES:
            name = pattern.sub(present, name)
        renamed[name] = value
    return Checkpoint(
        state_dict=renamed,
        architecture=NETWORKS[network],
        config={**_CLIP, "sample_size": shown.crop_size[0]},
        labels=list(weights.meta["categories"]),
        normalisation={"mean": list(shown.mean), "std": list(shown.std), "value_scale": 1},
        frames={"short_side": shown.resize_size[0], "fps": _FRAMES_PER_SECOND},
    )
