"""R(2+1)D: every convolution over time and space is one over space, then one over time.

Tran et al., CVPR 2018: the middle width keeps the number of weights of the 3D convolution.
"""

from typing import ClassVar

from torch import Tensor, nn

from r3d.models.architectures import Architecture
from r3d.models.base import BatchNorm3d, Conv3d, StochasticDepth
from r3d.models.families.resnet import ResNet, conv1x1x1, is_deep, widened


def middle_width(in_channels: int, out_channels: int, *, frames: int = 3, area: int = 9) -> int:
    """Channels between a convolution over space and one over time.

    Chosen so that both together have as many weights as one convolution over `frames` and `area`
    pixels:

    >>> middle_width(64, 64)  # 64 * 64 * 27 // (64 * 9 + 3 * 64)
    144
    """
    full = in_channels * out_channels * frames * area
    return full // (in_channels * area + frames * out_channels)


def conv1x3x3(in_channels: int, out_channels: int, stride: int = 1) -> Conv3d:
    """A convolution over 3 x 3 pixels of one frame that keeps the size, without bias."""
    return Conv3d(
        in_channels,
        out_channels,
        kernel_size=(1, 3, 3),
        stride=(1, stride, stride),
        padding=(0, 1, 1),
        bias=False,
    )


def conv3x1x1(in_channels: int, out_channels: int, stride: int = 1) -> Conv3d:
    """A convolution over 3 frames of one pixel that keeps the size, without bias."""
    return Conv3d(
        in_channels,
        out_channels,
        kernel_size=(3, 1, 1),
        stride=(stride, 1, 1),
        padding=(1, 0, 0),
        bias=False,
    )


class FactoredBasicBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions, each factored into space and time."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        middle1 = middle_width(in_channels, width)
        middle2 = middle_width(width, width)
        self.conv1_s = conv1x3x3(in_channels, middle1, stride)
        self.bn1_s = BatchNorm3d(middle1)
        self.conv1_t = conv3x1x1(middle1, width, stride)
        self.bn1_t = BatchNorm3d(width)
        self.conv2_s = conv1x3x3(width, middle2)
        self.bn2_s = BatchNorm3d(middle2)
        self.conv2_t = conv3x1x1(middle2, width)
        self.bn2_t = BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1_s(x)  # (b, middle1, t, h / stride, w / stride)
        out = self.bn1_s(out)
        out = self.relu(out)
        out = self.conv1_t(out)  # (b, width, t / stride, h / stride, w / stride)
        out = self.bn1_t(out)
        out = self.relu(out)
        out = self.conv2_s(out)  # (b, middle2, ...)
        out = self.bn2_s(out)
        out = self.relu(out)
        out = self.conv2_t(out)  # (b, width, ...)
        out = self.bn2_t(out)
        out = self.depth(out)
        out += self.downsample(x)
        return self.relu(out)


class FactoredBottleneck(nn.Module):
    """A 3 x 3 x 3 convolution, factored into space and time, between two pointwise ones."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        middle = middle_width(width, width)
        self.conv1 = conv1x1x1(in_channels, width)
        self.bn1 = BatchNorm3d(width)
        self.conv2_s = conv1x3x3(width, middle, stride)
        self.bn2_s = BatchNorm3d(middle)
        self.conv2_t = conv3x1x1(middle, width, stride)
        self.bn2_t = BatchNorm3d(width)
        self.conv3 = conv1x1x1(width, width * self.expansion)
        self.bn3 = BatchNorm3d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)  # (b, width, t, h, w)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2_s(out)  # (b, middle, t, h / stride, w / stride)
        out = self.bn2_s(out)
        out = self.relu(out)
        out = self.conv2_t(out)  # (b, width, t / stride, h / stride, w / stride)
        out = self.bn2_t(out)
        out = self.relu(out)
        out = self.conv3(out)  # (b, expansion * width, ...)
        out = self.bn3(out)
        out = self.depth(out)
        out += self.downsample(x)
        return self.relu(out)


class ResNet2p1d(ResNet):
    """A ResNet whose stem is factored too."""

    def _make_stem(self, width: int) -> None:
        t_size = self.architecture.conv1_t_size
        # Counted for 3 input channels with 2 as well, so that RGB and flow have the same widths.
        middle = middle_width(3, width, frames=t_size, area=49)
        self.conv1_s = Conv3d(
            self.architecture.n_input_channels,
            middle,
            kernel_size=(1, 7, 7),
            stride=(1, 2, 2),
            padding=(0, 3, 3),
            bias=False,
        )
        self.bn1_s = BatchNorm3d(middle)
        self.conv1_t = Conv3d(
            middle,
            width,
            kernel_size=(t_size, 1, 1),
            stride=(self.architecture.conv1_t_stride, 1, 1),
            padding=(t_size // 2, 0, 0),
            bias=False,
        )
        self.bn1_t = BatchNorm3d(width)

    def _stem(self, x: Tensor) -> Tensor:
        x = self.conv1_s(x)  # (b, middle, t, h / 2, w / 2)
        x = self.bn1_s(x)
        x = self.relu(x)
        x = self.conv1_t(x)  # (b, 64, t, h / 2, w / 2)
        x = self.bn1_t(x)
        return self.relu(x)


def build(architecture: Architecture) -> ResNet2p1d:
    """An R(2+1)D network."""
    block = FactoredBottleneck if is_deep(architecture) else FactoredBasicBlock
    return ResNet2p1d(architecture, block, block.expansion, widened(architecture))
