"""Pooling, with gradients that are the same bits in each run where torch's on CUDA are not.

There torch adds the gradients of windows in any order, and refuses to where deterministic
algorithms are asked for (`r3d.compute.device.same_bits`). Elsewhere torch's own are used, which are
faster.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Of time, height and width; one number stands for all three.
_Three = tuple[int, int, int]
Lengths = int | _Three


class MaxPool3d(nn.MaxPool3d):
    """Max pooling: (b, c, t, h, w) to (b, c, t', h', w')."""

    def __init__(self, kernel_size: Lengths, stride: Lengths, padding: Lengths) -> None:
        super().__init__(kernel_size, stride, padding)
        self._window = (kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and torch.are_deterministic_algorithms_enabled():
            return ordered_max_pool(x, *self._window)
        return super().forward(x)


def avg_pool3d(x: Tensor, kernel_size: tuple[int, int, int], stride: int) -> Tensor:
    """The mean over windows without padding: (b, c, t, h, w) to (b, c, t', h', w')."""
    if x.is_cuda and torch.are_deterministic_algorithms_enabled():
        return ordered_avg_pool(x, kernel_size, stride)
    return functional.avg_pool3d(x, kernel_size, stride=stride)


def ordered_max_pool(x: Tensor, size: Lengths, stride: Lengths, padding: Lengths) -> Tensor:
    """Max pooling whose gradient is a sum in a fixed order."""
    pooled: Tensor = _OrderedMaxPool.apply(x, *map(_three, (size, stride, padding)))
    return pooled


def ordered_avg_pool(x: Tensor, kernel_size: tuple[int, int, int], stride: int) -> Tensor:
    """Average pooling as a sum of slices, whose gradient is a sum in a fixed order."""
    counts = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel_size, strict=True)]
    total = x.new_zeros((*x.shape[:2], *counts))
    for offsets in product(*map(range, kernel_size)):
        total = total + x[_every(offsets, counts, _three(stride))]
    return total / (kernel_size[0] * kernel_size[1] * kernel_size[2])


class _OrderedMaxPool(torch.autograd.Function):
    """Gradients go to the maxima: of each place in the windows by itself, where none share one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: _Three, stride: _Three, padding: _Three) -> Tensor:
        pooled, indices = functional.max_pool3d(x, size, stride, padding, return_indices=True)
        ctx.save_for_backward(indices)
        ctx.settings = (x.shape, size, stride, padding)
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (indices,) = ctx.saved_tensors
        shape, size, stride, padding = ctx.settings
        inner, counts = shape[2:], indices.shape[2:]
        padded = [
            max((count - 1) * step + length, around + n)
            for n, count, step, length, around in zip(
                inner, counts, stride, size, padding, strict=True
            )
        ]
        total = gradient.new_zeros((*shape[:2], *padded))
        for offsets in product(*map(range, size)):
            here = _place(offsets, inner, counts, stride, padding, indices.device)
            total[_every(offsets, counts, stride)] += gradient.masked_fill(indices != here, 0)
        t, h, w = (slice(around, around + n) for n, around in zip(inner, padding, strict=True))
        return total[:, :, t, h, w], None, None, None


def _three(lengths: Lengths) -> _Three:
    return (lengths, lengths, lengths) if isinstance(lengths, int) else lengths


def _every(offsets: tuple[int, ...], counts: Sequence[int], stride: _Three) -> tuple[slice, ...]:
    """The index of what lies at an offset of each window."""
    inner = (
        slice(offset, offset + (count - 1) * step + 1, step)
        for offset, count, step in zip(offsets, counts, stride, strict=True)
    )
    return (slice(None), slice(None), *inner)


def _place(
    offsets: tuple[int, ...],
    inner: tuple[int, int, int],
    counts: Sequence[int],
    stride: _Three,
    padding: _Three,
    device: torch.device,
) -> Tensor:
    """The number of what lies at an offset of each window (t', h', w'); -1 in the padding."""
    t, h, w = (
        torch.arange(count, device=device) * step + offset - around
        for offset, count, step, around in zip(offsets, counts, stride, padding, strict=True)
    )
    number = (t[:, None, None] * inner[1] + h[:, None]) * inner[2] + w
    for axis, (positions, n) in enumerate(zip((t, h, w), inner, strict=True)):
        outside = ((positions < 0) | (positions >= n)).view(
            [-1 if a == axis else 1 for a in range(3)]
        )
        number = number.masked_fill(outside, -1)
    return number
