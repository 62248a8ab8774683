"""Networks of benchmarks/gpu.py, and other forms of their stem that compute the same.

Needs torch only. The networks are the 3D ResNets of Hara et al. and R(2+1)D, as the reference and
r3d build them; of a family that is not among these r3d itself makes the network.

The stem, 7 x 7 x 7 on three channels, is a third of the work of a network and does not fit tensor
cores, which multiply 8 or 16 channels at a time. Each form rearranges clips and weights; the
weights that are trained stay those of the stem, so it is a matter of speed only which form computes
it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stem(nn.Conv3d):
    """The first convolution, (b, 3, t, h, w) to (b, width, t, h / 2, w / 2), computed by a form."""

    def __init__(self, width: int, form: str = "plain") -> None:
        super().__init__(3, width, 7, (1, 2, 2), 3, bias=False)
        self.form = form

    def forward(self, clips: Tensor) -> Tensor:
        return STEMS[self.form](clips, self.weight)


def plain(clips: Tensor, weight: Tensor) -> Tensor:
    """As it is."""
    return functional.conv3d(clips, weight, stride=(1, 2, 2), padding=3)


def padded(clips: Tensor, weight: Tensor, *, channels: int) -> Tensor:
    """With channels of zeros, which make no difference."""
    return plain(_with_channels(clips, channels), _with_channels(weight, channels))


def blocks(clips: Tensor, weight: Tensor, *, channels: int = 12) -> Tensor:
    """Blocks of 2 x 2 pixels as channels, so that nothing is strided: 12 channels, 7 x 4 x 4.

    A pixel 2 i + k - 3 of the kernel's 7 lies in the block i + (k + 1) // 2 - 2; with a zero in
    front the 7 are 8, which are 4 blocks, two of them before i and one after.
    """
    clips, weight = _blocks_of_clips(clips), _blocks_of_weight(weight)
    clips, weight = _with_channels(clips, channels), _with_channels(weight, channels)
    return functional.conv3d(functional.pad(clips, (2, 1, 2, 1)), weight, padding=(3, 0, 0))


def frames(clips: Tensor, weight: Tensor, *, channels: int = 21) -> Tensor:
    """The 7 frames of the kernel as channels of pictures: 21 channels, 7 x 7."""
    clips, weight = _frames_of_clips(clips), _frames_of_weight(weight)
    pictures, weight = _with_channels(clips, channels), _with_channels(weight, channels)
    return functional.conv2d(pictures, weight, stride=2, padding=3)


def frames_and_blocks(clips: Tensor, weight: Tensor, *, channels: int = 84) -> Tensor:
    """Both: 84 channels, 4 x 4."""
    clips = _frames_of_clips(_blocks_of_clips(clips))
    weight = _frames_of_weight(_blocks_of_weight(weight))
    clips, weight = _with_channels(clips, channels), _with_channels(weight, channels)
    return functional.conv2d(functional.pad(clips, (2, 1, 2, 1)), weight)


def _of_pictures(form: Callable[..., Tensor], **options: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A form that gives pictures (b * t, c, h, w), as one that gives clips (b, c, t, h, w)."""

    def stem(clips: Tensor, weight: Tensor) -> Tensor:
        pictures = form(clips, weight, **options)
        n, t = len(clips), clips.shape[2]
        # With channels last it stays where it is in memory: b, t, h, w, c either way.
        return pictures.unflatten(0, (n, t)).transpose(1, 2)

    return stem


def _with(form: Callable[..., Tensor], **options: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda clips, weight: form(clips, weight, **options)


STEMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain": plain,
    "padded to 4 channels": _with(padded, channels=4),
    "padded to 8 channels": _with(padded, channels=8),
    "blocks as 12 channels": blocks,
    "blocks as 16 channels": _with(blocks, channels=16),
    "frames as 21 channels": _of_pictures(frames),
    "frames as 24 channels": _of_pictures(frames, channels=24),
    "both as 84 channels": _of_pictures(frames_and_blocks),
    "both as 96 channels": _of_pictures(frames_and_blocks, channels=96),
}
"""Forms of the stem, from clips (b, 3, t, h, w) and weights (width, 3, 7, 7, 7)."""


def _with_channels(x: Tensor, channels: int) -> Tensor:
    """Zeros behind the channels of (n, c, ...), up to so many."""
    missing = channels - x.shape[1]
    if not missing:
        return x
    layout = _layout(x)
    return functional.pad(x, [0, 0] * (x.dim() - 2) + [0, missing]).contiguous(memory_format=layout)


def _blocks_of_clips(clips: Tensor) -> Tensor:
    """(b, c, t, h, w) to (b, 4 c, t, h / 2, w / 2), rounded up."""
    clips, layout = (
        functional.pad(clips, (0, clips.shape[4] % 2, 0, clips.shape[3] % 2)),
        _layout(clips),
    )
    b, c, t, h, w = clips.shape
    split = clips.reshape(b, c, t, h // 2, 2, w // 2, 2)
    found = split.permute(0, 1, 4, 6, 2, 3, 5).reshape(b, 4 * c, t, h // 2, w // 2)
    return found.contiguous(memory_format=layout)


def _blocks_of_weight(weight: Tensor) -> Tensor:
    """(width, c, t, 7, 7) to (width, 4 c, t, 4, 4)."""
    return _blocks_of_clips(functional.pad(weight, (1, 0, 1, 0)))


def _frames_of_clips(clips: Tensor) -> Tensor:
    """(b, c, t, h, w) to (b * t, 7 c, h, w): around each frame."""
    layout = torch.channels_last if _layout(clips) is torch.channels_last_3d else _layout(clips)
    around = functional.pad(clips, (0, 0, 0, 0, 3, 3)).unfold(2, 7, 1)  # (b, c, t, h, w, 7)
    pictures = around.permute(0, 2, 1, 5, 3, 4).flatten(2, 3).flatten(0, 1)
    return pictures.contiguous(memory_format=layout)


def _frames_of_weight(weight: Tensor) -> Tensor:
    """(width, c, 7, h, w) to (width, 7 c, h, w)."""
    return weight.flatten(1, 2)


def _layout(x: Tensor) -> torch.memory_format:
    last = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


class Block(nn.Module):
    """Two 3 x 3 x 3 convolutions, or one between two pointwise ones, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, *, deep: bool, factored: bool):
        super().__init__()
        out = 4 * width if deep else width
        if deep:
            parts = [
                *(nn.Conv3d(channels, width, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU()),
                *(convolution(width, width, stride, factored), nn.BatchNorm3d(width), nn.ReLU()),
                *(nn.Conv3d(width, out, 1, bias=False), nn.BatchNorm3d(out)),
            ]
        else:
            parts = [
                *(convolution(channels, out, stride, factored), nn.BatchNorm3d(out), nn.ReLU()),
                *(convolution(out, out, 1, factored), nn.BatchNorm3d(out)),
            ]
        self.parts = nn.Sequential(*parts)
        self.downsample = None
        if stride > 1 or channels != out:
            shortcut = nn.Conv3d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.parts(x) + shortcut)


class ResNet(nn.Module):
    """From clips (b, 3, t, h, w) to scores (b, n_classes)."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        *,
        deep: bool,
        factored: bool = False,
        width: int = 64,
        n_classes: int = 700,
        stem: str = "plain",
    ) -> None:
        super().__init__()
        self.stem: nn.Module = Stem(width, stem)
        if factored:
            middle = middle_width(3, width, frames=7, area=49)
            self.stem = nn.Sequential(
                nn.Conv3d(3, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                *(nn.BatchNorm3d(middle), nn.ReLU()),
                nn.Conv3d(middle, width, (7, 1, 1), padding=(3, 0, 0), bias=False),
            )
        self.bn = nn.BatchNorm3d(width)
        stages, channels = [], width
        for stage, n in enumerate(blocks):
            for block in range(n):
                stride = 2 if stage and not block else 1
                part = Block(channels, width << stage, stride, deep=deep, factored=factored)
                stages.append(part)
                channels = (4 if deep else 1) * (width << stage)
        self.stages = nn.Sequential(nn.MaxPool3d(3, 2, 1), *stages)
        self.fc = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.stem(x)))
        return self.fc(self.stages(x).mean((2, 3, 4)))


def convolution(channels: int, out: int, stride: int, factored: bool) -> nn.Module:
    """3 x 3 x 3, or over space and then over time with as many weights."""
    if not factored:
        return nn.Conv3d(channels, out, 3, stride, 1, bias=False)
    middle = middle_width(channels, out, frames=3, area=9)
    return nn.Sequential(
        nn.Conv3d(channels, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        *(nn.BatchNorm3d(middle), nn.ReLU()),
        nn.Conv3d(middle, out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


def middle_width(channels: int, out: int, *, frames: int, area: int) -> int:
    """Channels between space and time, for as many weights as both together have."""
    return channels * out * frames * area // (channels * area + frames * out)


NETWORKS: dict[str, Callable[..., ResNet]] = {
    "r3d18": partial(ResNet, (2, 2, 2, 2), deep=False),
    "r3d50": partial(ResNet, (3, 4, 6, 3), deep=True),
    "r(2+1)d50": partial(ResNet, (3, 4, 6, 3), deep=True, factored=True),
    "tiny": partial(ResNet, (1, 1), deep=True, width=8),
}
"""Networks by name, of the options of `ResNet`."""
