"""3D ResNeXts: the 3 x 3 x 3 convolution of a bottleneck works in groups (Xie et al. 2017)."""

from functools import partial
from typing import ClassVar

from torch import nn

from r3d.models.architectures import Architecture
from r3d.models.families.resnet import Bottleneck, ResNet

WIDTHS = (128, 256, 512, 1024)


class ResNeXtBottleneck(Bottleneck):
    """A bottleneck of `cardinality` groups, each `width / 32` channels wide (4 in stage 1)."""

    expansion: ClassVar[int] = 2

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: nn.Module, *, cardinality: int
    ) -> None:
        middle = cardinality * width // 32
        super().__init__(in_channels, width, stride, shortcut, middle=middle, groups=cardinality)


def build(architecture: Architecture) -> ResNet:
    """A 3D ResNeXt; the stem has 128 channels."""
    block = partial(ResNeXtBottleneck, cardinality=architecture.resnext_cardinality)
    return ResNet(architecture, block, ResNeXtBottleneck.expansion, WIDTHS)
