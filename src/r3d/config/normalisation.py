"""What the input of a network is normalised with, as options say."""

from typing import Any

from r3d.config.options import InferenceOptions, TrainingOptions

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
    "torchvision": ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
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
