"""Pre-activation 3D ResNets: norm and ReLU come before each convolution (He et al. 2016b).

Stem and head are the ResNet's, so the stem's output is normalised before the first block and there
is no norm after the last: kept as in the published implementation, whose weights depend on it.
"""

from typing import ClassVar

from torch import Tensor, nn

from r3d.models.architectures import Architecture
from r3d.models.base import BatchNorm3d, StochasticDepth
from r3d.models.families.resnet import ResNet, conv1x1x1, conv3x3x3, is_deep, widened


class PreActivationBasicBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.bn1 = BatchNorm3d(in_channels)
        self.conv1 = conv3x3x3(in_channels, width, stride)
        self.bn2 = BatchNorm3d(width)
        self.conv2 = conv3x3x3(width, width)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(x)
        out = self.relu(out)
        out = self.conv1(out)  # (b, width, t / stride, h / stride, w / stride)
        out = self.bn2(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.depth(out)
        out += self.downsample(x)
        return out


class PreActivationBottleneck(nn.Module):
    """A 3 x 3 x 3 convolution between two pointwise ones; it carries the stride."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.bn1 = BatchNorm3d(in_channels)
        self.conv1 = conv1x1x1(in_channels, width)
        self.bn2 = BatchNorm3d(width)
        self.conv2 = conv3x3x3(width, width, stride)
        self.bn3 = BatchNorm3d(width)
        self.conv3 = conv1x1x1(width, width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(x)
        out = self.relu(out)
        out = self.conv1(out)  # (b, width, t, h, w)
        out = self.bn2(out)
        out = self.relu(out)
        out = self.conv2(out)  # (b, width, t / stride, h / stride, w / stride)
        out = self.bn3(out)
        out = self.relu(out)
        out = self.conv3(out)  # (b, expansion * width, ...)
        out = self.depth(out)
        out += self.downsample(x)
        return out


def build(architecture: Architecture) -> ResNet:
    """A pre-activation 3D ResNet."""
    block = PreActivationBottleneck if is_deep(architecture) else PreActivationBasicBlock
    return ResNet(architecture, block, block.expansion, widened(architecture))
