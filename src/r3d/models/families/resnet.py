"""3D ResNets (Hara et al., CVPR 2018), the 3D form of He et al. 2016.

The other ResNet-like families are this network with other blocks, widths or another stem.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from r3d.models.architectures import Architecture
from r3d.models.base import (
    BatchNorm3d,
    Conv3d,
    GlobalAverage,
    StochasticDepth,
    VideoModel,
    initialise,
)
from r3d.models.pooling import MaxPool3d

WIDTHS = (64, 128, 256, 512)


def conv1x1x1(
    in_channels: int, out_channels: int, stride: int | tuple[int, int, int] = 1
) -> Conv3d:
    """A pointwise convolution without bias."""
    return Conv3d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


def conv3x3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> Conv3d:
    """A convolution over 3 frames and 3 x 3 pixels that keeps the size, without bias."""
    return Conv3d(
        in_channels,
        out_channels,
        kernel_size=3,
        stride=stride,
        padding=1,
        groups=groups,
        bias=False,
    )


class PadShortcut(nn.Module):
    """Shortcut A of He et al. 2016: every `stride`-th position, new channels filled with zeros."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        # Two numbers a dimension, from the last (w) to the channels.
        return functional.pad(x, (0, 0, 0, 0, 0, 0, 0, self.new_channels))


def make_shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The way around a block: the identity, or shortcut A or B where the size changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "A":
        return PadShortcut(out_channels - in_channels, stride)
    return nn.Sequential(
        conv1x1x1(in_channels, out_channels, stride),
        BatchNorm3d(out_channels),
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv3x3x3(in_channels, width, stride)
        self.bn1 = BatchNorm3d(width)
        self.conv2 = conv3x3x3(width, width)
        self.bn2 = BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)  # (b, width, t / stride, h / stride, w / stride)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        out = self.depth(out)
        out += self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """A 3 x 3 x 3 convolution between two pointwise ones; it carries the stride.

    Args:
        middle: its channels, where they are not the block's width.
        groups: it works in this many groups of channels.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module,
        *,
        middle: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        middle = middle or width
        self.conv1 = conv1x1x1(in_channels, middle)
        self.bn1 = BatchNorm3d(middle)
        self.conv2 = conv3x3x3(middle, middle, stride, groups)
        self.bn2 = BatchNorm3d(middle)
        self.conv3 = conv1x1x1(middle, width * self.expansion)
        self.bn3 = BatchNorm3d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)  # (b, middle, t, h, w)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)  # (b, middle, t / stride, h / stride, w / stride)
        out = self.bn2(out)
        out = self.relu(out)
        out = self.conv3(out)  # (b, expansion * width, ...)
        out = self.bn3(out)
        out = self.depth(out)
        out += self.downsample(x)
        return self.relu(out)


MakeBlock = Callable[..., nn.Module]


class ResNet(VideoModel):
    """Stem, four stages of blocks, mean over time and space, linear layer.

    Args:
        make_block: makes a block from input channels, width, stride and shortcut.
        expansion: output channels of a block divided by its width.
        widths: the widths of the four stages; the first is the stem's too.
    """

    def __init__(
        self,
        architecture: Architecture,
        make_block: MakeBlock,
        expansion: int,
        widths: Sequence[int],
    ) -> None:
        super().__init__(architecture)
        self._make_stem(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if architecture.no_max_pool else self._make_pool()
        stages = []
        channels = widths[0]
        for stage, (width, n_blocks) in enumerate(zip(widths, architecture.blocks, strict=True)):
            blocks = []
            for index in range(n_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                shortcut = self._make_shortcut(channels, width * expansion, stride)
                make = self._of_place(make_block, stage, last=index == n_blocks - 1)
                blocks.append(make(channels, width, stride, shortcut))
                channels = width * expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.average = GlobalAverage()
        self.dropout = nn.Dropout(0)
        self.fc = nn.Linear(channels, architecture.n_classes)
        initialise(self)

    def _make_stem(self, width: int) -> None:
        t_size = self.architecture.conv1_t_size
        self.conv1 = Conv3d(
            self.architecture.n_input_channels,
            width,
            kernel_size=(t_size, 7, 7),
            stride=(self.architecture.conv1_t_stride, 2, 2),
            padding=(t_size // 2, 3, 3),
            bias=False,
        )
        self.bn1 = BatchNorm3d(width)

    def _make_pool(self) -> nn.Module:
        return MaxPool3d(kernel_size=3, stride=2, padding=1)

    def _make_shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return make_shortcut(self.architecture.resnet_shortcut, in_channels, out_channels, stride)

    def _of_place(self, make_block: MakeBlock, stage: int, *, last: bool) -> MakeBlock:
        """What makes the blocks of a stage, from 0, or the last of them."""
        return make_block

    def _stem(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.bn1(x)
        return self.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self._stem(x)  # (b, 64, t, h / 2, w / 2)
        x = self.maxpool(x)  # (b, 64, t / 2, h / 4, w / 4)
        x = self.layer1(x)  # (b, expansion * 64, t / 2, h / 4, w / 4)
        x = self.layer2(x)  # (b, expansion * 128, t / 4, h / 8, w / 8)
        x = self.layer3(x)  # (b, expansion * 256, t / 8, h / 16, w / 16)
        x = self.layer4(x)  # (b, expansion * 512, t / 16, h / 32, w / 32)
        x = self.average(x)  # (b, expansion * 512)
        x = self.dropout(x)
        return self.fc(x)  # (b, n_classes)


def widened(architecture: Architecture) -> list[int]:
    """The widths of the four stages times `resnet_widen_factor`, rounded down."""
    return [int(width * architecture.resnet_widen_factor) for width in WIDTHS]


def is_deep(architecture: Architecture) -> bool:
    """Whether a ResNet has bottlenecks: from 50 layers on."""
    return architecture.model_depth >= 50


def build(architecture: Architecture) -> ResNet:
    """A 3D ResNet."""
    block = Bottleneck if is_deep(architecture) else BasicBlock
    return ResNet(architecture, block, block.expansion, widened(architecture))
