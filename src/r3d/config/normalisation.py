"""What the input of a network is normalised with, as options say."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from r3d.config.options import InferenceOptions, TrainingOptions
from r3d.models.contents import NORMALISATION_2018
from r3d.models.known import OPTIONS_2018, Known
from r3d.models.torchvision_names import NORMALISATION as OF_TORCHVISION

NORMALISING = ("mean_dataset", "no_mean_norm", "no_std_norm", "value_scale")
"""The options of the normalisation."""

# Mean and standard deviation of RGB in [0, 1] over the training frames of a data set.
NORMALISATION: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "kinetics": ((0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)),
    "activitynet": ((0.4477, 0.4209, 0.3906), (0.2767, 0.2695, 0.2714)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Of ActivityNet and of Kinetics, as the code of Hara et al. of 2018 had them.
    "hara2018": (
        (114.7748 / 255, 107.7354 / 255, 99.475 / 255),
        (38.7568578 / 255, 37.88248729 / 255, 40.02898126 / 255),
    ),
    # Of Kinetics-400, as torchvision has them for its video networks.
    "torchvision": (tuple(OF_TORCHVISION["mean"]), tuple(OF_TORCHVISION["std"])),
}


def input_normalisation(options: TrainingOptions | InferenceOptions) -> dict[str, Any]:
    """Mean and standard deviation per channel, and the value scale, as checkpoints state them."""
    mean, std = normalisation(
        options.mean_dataset,
        n_channels=options.n_input_channels,
        value_scale=options.value_scale,
        no_mean_norm=options.no_mean_norm,
        no_std_norm=options.no_std_norm,
    )
    return {"mean": list(mean), "std": list(std), "value_scale": options.value_scale}


def normalisation(
    mean_dataset: str,
    *,
    n_channels: int = 3,
    value_scale: int = 1,
    no_mean_norm: bool = False,
    no_std_norm: bool = False,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for inputs from 0 to `value_scale`.

    Args:
        mean_dataset: a key of `NORMALISATION`.
        n_channels: 3, or 2 for optical flow, which takes the first two numbers.
        no_mean_norm: do not shift (mean 0).
        no_std_norm: do not scale (standard deviation 1).
    """
    mean, std = NORMALISATION[mean_dataset]
    return (
        tuple(0.0 if no_mean_norm else value * value_scale for value in mean[:n_channels]),
        tuple(1.0 if no_std_norm else value * value_scale for value in std[:n_channels]),
    )


def normalising_options(known: Known) -> dict[str, Any]:
    """The options of the normalisation of a model's training, as far as its file or name tells."""
    stated = {**known.assumed, **known.config}
    options = {name: stated[name] for name in NORMALISING if name in stated}
    if options or known.normalisation is None:
        return options
    if known.normalisation == NORMALISATION_2018:
        return OPTIONS_2018
    # A file may state the normalisation without the options that gave it.
    channels = {"input_type": "flow" if known.architecture.n_input_channels == 2 else "rgb"}
    flags = (False, True)
    for values in product(NORMALISATION, flags, flags, (1, 255)):
        options = dict(zip(NORMALISING, values, strict=True))
        found = input_normalisation(InferenceOptions.model_validate({**channels, **options}))
        if same_normalisation(found, known.normalisation):
            return options
    return {}


def same_normalisation(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether two normalisations are equal but for rounding."""
    if other is None:
        return False
    try:
        return one["value_scale"] == other["value_scale"] and all(
            abs(a - b) <= 1e-6 * one["value_scale"]
            for name in ("mean", "std")
            for a, b in zip(one[name], other[name], strict=True)
        )
    except (LookupError, TypeError, ValueError):  # a file may state anything
        return False
