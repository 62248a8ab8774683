"""3D DenseNets: a layer's input is the output of all layers before it (Huang et al. 2017)."""

from collections import OrderedDict

import torch
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
from r3d.models.pooling import MaxPool3d, avg_pool3d

GROWTH_RATE = 32
BOTTLENECK_SIZE = 4
STEM_CHANNELS = 64


class DenseLayer(nn.Module):
    """A pointwise and a 3 x 3 x 3 convolution that add `GROWTH_RATE` channels to the input."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        middle = BOTTLENECK_SIZE * GROWTH_RATE
        self.norm1 = BatchNorm3d(in_channels)
        self.conv1 = Conv3d(in_channels, middle, kernel_size=1, bias=False)
        self.norm2 = BatchNorm3d(middle)
        self.conv2 = Conv3d(middle, GROWTH_RATE, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.depth = StochasticDepth()

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(x)
        out = self.relu(out)
        out = self.conv1(out)  # (b, 128, t, h, w)
        out = self.norm2(out)
        out = self.relu(out)
        out = self.conv2(out)  # (b, 32, t, h, w)
        out = self.depth(out)
        return torch.cat([x, out], dim=1)  # (b, c + 32, t, h, w)


class Transition(nn.Module):
    """Half the channels and half the size in time and space."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm3d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = Conv3d(in_channels, in_channels // 2, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        x = self.relu(x)
        x = self.conv(x)  # (b, c / 2, t, h, w)
        # A short clip has one frame left before the last transition: nothing to halve there.
        t, h, w = (min(2, size) for size in x.shape[2:])
        return avg_pool3d(x, (t, h, w), stride=2)  # (b, c / 2, t / 2, h / 2, w / 2)


class DenseNet(VideoModel):
    """Stem, four dense blocks with transitions between them, mean, linear layer."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        t_size = architecture.conv1_t_size
        features: OrderedDict[str, nn.Module] = OrderedDict()
        features["conv1"] = Conv3d(
            architecture.n_input_channels,
            STEM_CHANNELS,
            kernel_size=(t_size, 7, 7),
            stride=(architecture.conv1_t_stride, 2, 2),
            padding=(t_size // 2, 3, 3),
            bias=False,
        )
        features["norm1"] = BatchNorm3d(STEM_CHANNELS)
        features["relu1"] = nn.ReLU(inplace=True)
        if not architecture.no_max_pool:
            features["pool1"] = MaxPool3d(kernel_size=3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for block, n_layers in enumerate(architecture.blocks, start=1):
            if block > 1:
                features[f"transition{block - 1}"] = Transition(channels)
                channels //= 2
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, n_layers + 1):
                layers[f"denselayer{layer}"] = DenseLayer(channels)
                channels += GROWTH_RATE
            features[f"denseblock{block}"] = nn.Sequential(layers)
        features["norm5"] = BatchNorm3d(channels)
        self.features = nn.Sequential(features)
        self.average = GlobalAverage()
        self.dropout = nn.Dropout(0)
        self.classifier = nn.Linear(channels, architecture.n_classes)
        initialise(self)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (b, c, t / 16, h / 32, w / 32)
        x = functional.relu(x, inplace=True)
        x = self.average(x)  # (b, c)
        x = self.dropout(x)
        return self.classifier(x)  # (b, n_classes)


def build(architecture: Architecture) -> DenseNet:
    """A 3D DenseNet-BC (bottlenecks and compression by a half)."""
    return DenseNet(architecture)
