"""Batch norms folded into convolutions: the same scores from fewer layers."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from r3d.models.building import build_model
from r3d.models.folding import fold_batch_norms

# With the batch norms that stay: those before a convolution, and after a sum.
NETWORKS: list[tuple[dict[str, Any], int]] = [
    ({"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.125}, 0),
    ({"model": "resnet", "model_depth": 50, "resnet_shortcut": "A", "no_max_pool": True}, 0),
    ({"model": "resnet2p1d", "model_depth": 50, "resnet_widen_factor": 0.125}, 0),
    # The first of each block, and of a shortcut none.
    ({"model": "preresnet", "model_depth": 18, "resnet_widen_factor": 0.125}, 8),
    ({"model": "preresnet", "model_depth": 50, "resnet_widen_factor": 0.125}, 16),
    ({"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1}, 0),
    ({"model": "resnext", "model_depth": 50, "resnext_cardinality": 8}, 0),
    ({"model": "resnetrs", "model_depth": 50, "resnet_widen_factor": 0.125}, 0),
    # The first of each layer, those of the three transitions and the last.
    ({"model": "densenet", "model_depth": 121}, 58 + 3 + 1),
]


@pytest.mark.parametrize(("options", "n_left"), NETWORKS, ids=lambda value: str(value)[:40])
@torch.inference_mode()
def test_folding_changes_no_score(options: dict[str, Any], n_left: int) -> None:
    torch.manual_seed(1)
    network = build_model(n_classes=5, **options)
    for norm in batch_norms(network):  # as after a training
        nn.init.normal_(norm.running_mean, std=0.3)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    assert len(batch_norms(folded)) == n_left
    clips = torch.randn(2, 3, 8, 40, 48)
    scores = network.eval()(clips)
    error = (folded(clips) - scores).abs().max() / scores.abs().max()
    assert error < 1e-5


def batch_norms(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
