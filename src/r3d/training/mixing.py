"""Mixup and CutMix over a batch of clips."""

import numpy as np
from torch import Tensor
from torch.nn import functional


def mix_clips(
    clips: Tensor,
    targets: Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Mix each clip of a batch with its neighbour, the batch being in random order already.

    Mixup (Zhang et al., 2018) blends whole clips; CutMix (Yun et al., 2019) pastes one rectangle,
    the same in all frames. With both alphas above zero each batch draws one of the two.

    Args:
        clips: (b, c, t, h, w), floating point.
        targets: (b, classes), the probability of each class.
        rng: decides everything random, so that a batch can be mixed again alike.

    Returns:
        Mixed clips and targets of the same shapes.
    """
    use_cutmix = cutmix_alpha > 0 and (mixup_alpha == 0 or rng.random() < 0.5)
    alpha = cutmix_alpha if use_cutmix else mixup_alpha
    share = float(rng.beta(alpha, alpha))
    if use_cutmix:
        top, bottom, left, right = _rectangle(clips.shape[-2], clips.shape[-1], 1 - share, rng)
        mixed = clips.clone()
        mixed[..., top:bottom, left:right] = clips.roll(1, 0)[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (clips.shape[-2] * clips.shape[-1])
    else:
        mixed = clips.lerp(clips.roll(1, 0), 1 - share)
    return mixed, targets.lerp(targets.roll(1, 0), 1 - share)


def class_probabilities(labels: Tensor, n_classes: int) -> Tensor:
    """One-hot targets (b, classes) of integer labels (b,)."""
    return functional.one_hot(labels, n_classes).float()


def _rectangle(
    height: int, width: int, area: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a rectangle of that share of the area, cut off at the border."""
    half_height, half_width = height * area**0.5 / 2, width * area**0.5 / 2
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    rows = np.clip([y - half_height, y + half_height], 0, height).round().astype(int)
    columns = np.clip([x - half_width, x + half_width], 0, width).round().astype(int)
    return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])
