"""3D ResNet-RS: a ResNet for videos brought up to date (Du et al., arXiv 2109.01696, 2021).

As published, after the authors' configuration (TensorFlow model garden, `resnet_3d_rs`):

- a stem of three convolutions, the first over time too, and pooling over space only;
- bottlenecks whose first convolution is over time (1 frame in stages 1 and 2, 3 frames in stages 3
  and 4) and whose second is over space; the stages keep the length of the clip;
- squeeze and excitation with a ratio of 1/4 in each block, self-gating before it in the last block
  of each stage (Xie et al., S3D-G, 2018);
- pointwise shortcuts with the stride, without the pooling that ResNet-RS for pictures has there;
- stochastic depth whose rate grows from stage to stage: 2, 3, 4 and 5 fifths of it;
- the initial weights of the gates.

It was published with `conv1_t_size` 5, `conv1_t_stride` 2 and clips of 32 frames of 224 pixels.
Chosen here: convolutions are drawn, and batch norms keep their statistics, as in the other families
(there convolutions are drawn by fan in); `resnet_widen_factor`; `no_max_pool`.
"""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from r3d.models.architectures import Architecture
from r3d.models.base import BatchNorm3d, Conv3d, StochasticDepth
from r3d.models.families.resnet import MakeBlock, ResNet, conv1x1x1, widened
from r3d.models.families.resnet2p1d import conv1x3x3
from r3d.models.pooling import MaxPool3d

_SQUEEZED = 4  # how many times as many channels come out as there are in between
_FRAMES = (1, 1, 3, 3)  # that the first convolution of a block sees, by stage


class SqueezeExcitation(nn.Module):
    """Weigh channels by what the whole clip shows (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(1, channels // _SQUEEZED)
        self.reduce = nn.Linear(channels, middle)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Linear(middle, channels)
        for layer in (self.reduce, self.expand):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean(dim=(2, 3, 4))  # (b, c)
        weights = self.reduce(weights)  # (b, c / 4)
        weights = self.relu(weights)
        weights = self.expand(weights)  # (b, c)
        return x * torch.sigmoid(weights)[:, :, None, None, None]


class SelfGating(nn.Module):
    """Weigh channels by a linear function of their means over time and space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean(dim=(2, 3, 4))  # (b, c)
        weights = self.linear(weights)
        return x * torch.sigmoid(weights)[:, :, None, None, None]


class GatedBottleneck(nn.Module):
    """A convolution over time, one over space that carries the stride, a pointwise one, gates."""

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module,
        *,
        n_frames: int,
        gated: bool,
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = Conv3d(
            in_channels,
            width,
            kernel_size=(n_frames, 1, 1),
            padding=(n_frames // 2, 0, 0),
            bias=False,
        )
        self.bn1 = BatchNorm3d(width)
        self.conv2 = conv1x3x3(width, width, stride)
        self.bn2 = BatchNorm3d(width)
        self.conv3 = conv1x1x1(width, out_channels)
        self.bn3 = BatchNorm3d(out_channels)
        self.gate = SelfGating(out_channels) if gated else nn.Identity()
        self.se = SqueezeExcitation(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)  # (b, width, t, h, w)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)  # (b, width, t, h / stride, w / stride)
        out = self.bn2(out)
        out = self.relu(out)
        out = self.conv3(out)  # (b, 4 * width, ...)
        out = self.bn3(out)
        out = self.gate(out)
        out = self.se(out)
        out = self.depth(out)
        out += self.downsample(x)
        return self.relu(out)


class ResNetRS(ResNet):
    """A ResNet with a stem of three convolutions and other blocks from stage to stage."""

    def _make_stem(self, width: int) -> None:
        t_size = self.architecture.conv1_t_size
        narrow = max(1, width // 2)
        self.conv1 = Conv3d(
            self.architecture.n_input_channels,
            narrow,
            kernel_size=(t_size, 3, 3),
            stride=(self.architecture.conv1_t_stride, 2, 2),
            padding=(t_size // 2, 1, 1),
            bias=False,
        )
        self.bn1 = BatchNorm3d(narrow)
        self.conv2 = conv1x3x3(narrow, narrow)
        self.bn2 = BatchNorm3d(narrow)
        self.conv3 = conv1x3x3(narrow, width)
        self.bn3 = BatchNorm3d(width)

    def _make_pool(self) -> nn.Module:
        return MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def _make_shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        if stride == 1 and in_channels == out_channels:
            return nn.Identity()
        return nn.Sequential(
            conv1x1x1(in_channels, out_channels, (1, stride, stride)),
            BatchNorm3d(out_channels),
        )

    def _of_place(self, make_block: MakeBlock, stage: int, *, last: bool) -> MakeBlock:
        return partial(make_block, n_frames=_FRAMES[stage], gated=last)

    def _stem(self, x: Tensor) -> Tensor:
        x = self.conv1(x)  # (b, 32, t, h / 2, w / 2)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.conv2(x)
        x = self.bn2(x)
        x = self.relu(x)
        x = self.conv3(x)  # (b, 64, t, h / 2, w / 2)
        x = self.bn3(x)
        return self.relu(x)

    def depth_shares(self) -> list[float]:
        shares = (2 / 5, 3 / 5, 4 / 5, 1.0)
        counted = zip(shares, self.architecture.blocks, strict=True)
        return [share for share, n_blocks in counted for _ in range(n_blocks)]


def build(architecture: Architecture) -> ResNetRS:
    """A 3D ResNet-RS."""
    return ResNetRS(architecture, GatedBottleneck, GatedBottleneck.expansion, widened(architecture))
