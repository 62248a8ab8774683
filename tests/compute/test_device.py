"""Where and in which precision a network runs."""

import pytest
import torch

from r3d.compute.device import choose_dtype, memory_format

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_on_cpus_with_tiles_only(monkeypatch, amx: bool, expected: torch.dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose_dtype("auto", CPU) is expected
    assert choose_dtype("bf16", CPU) is torch.bfloat16
    assert choose_dtype("fp32", CPU) is torch.float32


def test_auto_is_channels_last_where_that_is_safe():
    assert memory_format(CPU, torch.float32) is torch.channels_last_3d
    assert memory_format(CPU, torch.bfloat16) is torch.contiguous_format
    assert memory_format(torch.device("cuda"), torch.bfloat16) is torch.channels_last_3d
    assert memory_format(CPU, torch.bfloat16, training=False) is torch.channels_last_3d
    assert memory_format(CPU, torch.float32, "contiguous") is torch.contiguous_format
