"""Weight files of the code of 2018: other names in DenseNets, a narrower stem in two families."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from r3d.models.building import build_model
from r3d.models.checkpoint import NORMALISATION_2018, load_weights, read_checkpoint
from r3d.models.describing import describe


def as_in_2018(network: nn.Module) -> nn.Module:
    """A ResNeXt or wide ResNet with the stem of 64 channels that it had then."""
    block = network.layer1[0]
    network.conv1 = nn.Conv3d(3, 64, (7, 7, 7), (1, 2, 2), (3, 3, 3), bias=False)
    network.bn1 = nn.BatchNorm3d(64)
    block.conv1 = nn.Conv3d(64, block.conv1.out_channels, 1, bias=False)
    if isinstance(block.downsample, nn.Sequential):
        block.downsample[0] = nn.Conv3d(64, block.downsample[0].out_channels, 1, bias=False)
    return network


def write(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """As torch 0.3 did: with the prefix of data parallelism, without counters of batches."""
    named = {
        f"module.{name}": value
        for name, value in weights.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save({"epoch": 200, "arch": "of then", "state_dict": named}, path)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "resnext", "model_depth": 50},
        {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 2},
    ],
    ids=lambda options: options["model"],
)
def test_a_narrow_stem_gives_the_same_scores_and_trains_alike(tmp_path: Path, options):
    torch.manual_seed(0)
    then = as_in_2018(build_model(n_classes=5, **options))
    for module in then.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias)
    write(tmp_path / "old.pth", then.state_dict())

    checkpoint = read_checkpoint(tmp_path / "old.pth")
    assert checkpoint.normalisation == NORMALISATION_2018
    assert describe(checkpoint.state_dict).model == options["model"]
    now = build_model(n_classes=5, **options)
    load_weights(now, checkpoint.state_dict, "old.pth")
    clips = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(now.eval()(clips), then.eval()(clips), rtol=1e-4, atol=1e-4)

    optimizer = torch.optim.SGD(now.train().parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        now(clips).square().mean().backward()
        optimizer.step()
    assert not torch.equal(now.conv1.weight[:64], then.conv1.weight)
    assert len(now.conv1.weight) > 64
    for added in (now.conv1.weight[64:], now.bn1.weight[64:], now.layer1[0].conv1.weight[:, 64:]):
        assert not added.any()


def test_names_of_a_densenet(tmp_path: Path):
    now = build_model(n_classes=5, model="densenet", model_depth=121)
    names = {
        name: re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", name)
        .replace("features.conv1", "features.conv0")
        .replace("features.norm1", "features.norm0")
        for name in now.state_dict()
    }
    write(tmp_path / "old.pth", {names[name]: value for name, value in now.state_dict().items()})
    checkpoint = read_checkpoint(tmp_path / "old.pth")
    assert checkpoint.normalisation == NORMALISATION_2018
    other = build_model(n_classes=5, model="densenet", model_depth=121)
    load_weights(other, checkpoint.state_dict, "old.pth")
    for name, value in now.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("model", ["resnext", "wideresnet"])
def test_present_weights_stay_as_they_are(tmp_path: Path, model: str):
    network = build_model(n_classes=5, model=model, model_depth=50)
    write(tmp_path / "new.pth", network.state_dict())
    checkpoint = read_checkpoint(tmp_path / "new.pth")
    assert checkpoint.normalisation is None
    for name, value in checkpoint.state_dict.items():
        assert torch.equal(value, network.state_dict()[name])
