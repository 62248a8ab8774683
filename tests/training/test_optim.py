"""Optimisers and schedules: the weights after steps, and the rate of each epoch, by hand."""

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from r3d.config.options import TrainOptions
from r3d.training import leanoptim
from r3d.training.optim import build_optimizer, build_scheduler, step_scheduler

CPU = torch.device("cpu")


def rates(losses: list[float] | None = None, **options: Any) -> list[float]:
    """The learning rate of each epoch; `losses` are those of the validation."""
    chosen = TrainOptions(**{"learning_rate": 1.0, **options})
    optimizer = build_optimizer([nn.Parameter(torch.ones(1))], chosen, CPU)
    scheduler = build_scheduler(optimizer, chosen)
    found = []
    for epoch in range(chosen.n_epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        step_scheduler(scheduler, losses[epoch] if losses else 1.0)
    return found


def after_steps(gradients: list[float], **options: Any) -> float:
    """What becomes of the weight 2.0."""
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = build_optimizer([weight], TrainOptions(**options), CPU)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return weight.item()


def test_multistep_divides_by_ten_after_each_milestone() -> None:
    found = rates(n_epochs=6, multistep_milestones=[2, 5])
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01])


def test_milestones_count_from_the_first_epoch_of_a_warm_up() -> None:
    found = rates(n_epochs=6, multistep_milestones=[4], warmup_epochs=2)
    assert found == pytest.approx([0.01, 0.505, 1, 1, 0.1, 0.1])


def test_plateau_divides_by_ten_once_patience_is_over() -> None:
    losses = [3.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    found = rates(losses, n_epochs=6, lr_scheduler="plateau", plateau_patience=1)
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1])


@pytest.mark.parametrize("warmup_epochs", [0, 4])
def test_cosine_falls_to_zero_at_the_end_after_a_linear_warm_up(warmup_epochs: int) -> None:
    n_epochs = 12
    found = rates(n_epochs=n_epochs, lr_scheduler="cosine", warmup_epochs=warmup_epochs)
    rise = [0.01 + 0.99 * epoch / 4 for epoch in range(warmup_epochs)]
    n_falling = n_epochs - warmup_epochs
    fall = [(1 + math.cos(math.pi * epoch / n_falling)) / 2 for epoch in range(n_falling)]
    assert found == pytest.approx([*rise, *fall])


def test_the_rate_grows_with_the_batch_if_asked() -> None:
    assert rates(n_epochs=1, batch_size=256, learning_rate_batch_size=64) == [4.0]
    assert rates(n_epochs=1, batch_size=256) == [1.0]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    options = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.5, "nesterov": nesterov}
    weight, speed = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        gradient += 0.5 * weight
        speed = 0.9 * speed + gradient
        weight -= 0.1 * (gradient + 0.9 * speed if nesterov else speed)
    assert after_steps([1.0, -3.0, 0.5], **options) == pytest.approx(weight)


def test_dampening_slows_the_momentum_of_sgd() -> None:
    options = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "dampening": 0.5}
    assert after_steps([1.0, 1.0], **options) == pytest.approx(2 - 0.1 * (1 + 0.9 * 1 + 0.5 * 1))


def test_nesterov_has_no_dampening() -> None:
    """As in the reference, which sets it to 0 then."""
    options = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": True}
    assert after_steps([1.0, 1.0], **options, dampening=0.5) == after_steps([1.0, 1.0], **options)


def test_adamw_decays_weights_apart_from_the_gradient() -> None:
    """Loshchilov and Hutter, 2019: a first step of size 1, whatever the gradient, and the decay."""
    options = {"optimizer": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}
    for gradient in (1e-3, 1.0, 100.0):
        found = after_steps([gradient], **options)
        assert found == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1, abs=1e-5)
    assert after_steps([0.0], **options) == pytest.approx(2 * (1 - 0.1 * 0.5))


def test_steps_do_without_torchs_compiler() -> None:
    """Its import takes as long as that of torch."""
    code = """
import sys, torch
from r3d.config.options import TrainingOptions
from r3d.training import leanoptim
from r3d.training.optim import build_optimizer
for optimizer in ("sgd", "adamw"):
    layer = torch.nn.Linear(2, 2)
    options = TrainingOptions(optimizer=optimizer)
    steps = build_optimizer(layer.parameters(), options, torch.device("cpu"))
    layer(torch.ones(1, 2)).sum().backward()
    steps.step()
    steps.zero_grad()
    steps.load_state_dict(steps.state_dict())
assert not {"torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (leanoptim.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (leanoptim.AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_lean_optimisers_step_as_torchs(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    ends = []
    for kind in (ours, theirs):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = kind([weight], lr=0.1, **options)
        for step in range(3):
            optimizer.zero_grad()
            (weight * torch.arange(3) * step).square().sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        ends.append((weight.tolist(), str(optimizer.state_dict())))
    assert ends[0] == ends[1]
