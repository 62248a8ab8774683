"""Pooling with gradients in a fixed order: the values and gradients of torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from r3d.models.pooling import MaxPool3d, avg_pool3d, ordered_avg_pool, ordered_max_pool


def whole_numbers(*shape: int) -> Tensor:
    """Few values, so that many are equal, and sums are exact in any order."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(1)).float()


def value_and_gradient(function, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    pooled = function(x)
    pooled.backward(whole_numbers(*pooled.shape))
    assert x.grad is not None
    return pooled.detach(), x.grad


@pytest.mark.parametrize("inner", [(1, 1, 1), (2, 3, 4), (4, 7, 8), (5, 6, 6), (1, 9, 2)])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(3, 2, 1), (3, 1, 1), (2, 2, 0), (3, 3, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))],
)
def test_maxima(inner: tuple[int, int, int], size: Any, stride: Any, padding: Any):
    if isinstance(size, int) and min(inner) + 2 * padding < size:
        pytest.skip("no window fits")
    x = whole_numbers(2, 3, *inner)
    expected = value_and_gradient(lambda x: functional.max_pool3d(x, size, stride, padding), x)
    given = value_and_gradient(lambda x: ordered_max_pool(x, size, stride, padding), x)
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("inner", [(1, 1, 1), (2, 3, 4), (4, 7, 8), (1, 9, 2)])
def test_means(inner: tuple[int, int, int]):
    t, h, w = (min(2, n) for n in inner)
    x = 8 * whole_numbers(2, 3, *inner)
    expected = value_and_gradient(lambda x: functional.avg_pool3d(x, (t, h, w), stride=2), x)
    given = value_and_gradient(lambda x: ordered_avg_pool(x, (t, h, w), stride=2), x)
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_is_used_where_bits_count():
    x = torch.randn(2, 64, 16, 56, 56, device="cuda", dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        for pool in (MaxPool3d(3, 2, 1), lambda x: avg_pool3d(x, (2, 2, 2), 2)):
            found = [value_and_gradient(lambda x, pool=pool: pool(x).cpu(), x) for _ in range(3)]
            assert all(torch.equal(found[0][1], gradient) for _, gradient in found)
    finally:
        torch.use_deterministic_algorithms(False)
