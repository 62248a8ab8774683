"""Wide 3D ResNets: bottlenecks `wide_resnet_k` times as wide (Zagoruyko and Komodakis 2016)."""

from typing import ClassVar

from r3d.models.architectures import Architecture
from r3d.models.families.resnet import WIDTHS, Bottleneck, ResNet


class WideBottleneck(Bottleneck):
    """A bottleneck that widens its output two times, not four."""

    expansion: ClassVar[int] = 2


def build(architecture: Architecture) -> ResNet:
    """A wide 3D ResNet; the stem is widened too."""
    widths = [width * architecture.wide_resnet_k for width in WIDTHS]
    return ResNet(architecture, WideBottleneck, WideBottleneck.expansion, widths)
