"""Where and in which precision a network runs."""

import pytest
import torch

from r3d.compute.device import choose_dtype, memory_format, need_gpus
from r3d.compute.distributed import join_world
from r3d.errors import InputError

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


def test_gpus_that_are_not_there(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    need_gpus(0, "resources.gpus")
    assert not caplog.records
    need_gpus(2, "resources.gpus")
    assert "resources.gpus: 2, but torch finds no GPU (CUDA) here: the CPU" in caplog.text
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    need_gpus(1, "resources.gpus")
    with pytest.raises(InputError, match=r"^resources\.gpus: 2, but this machine has 1 .* up to 1"):
        need_gpus(2, "resources.gpus")


def test_memory_of_a_device_that_does_not_suffice_is_a_line_with_a_remedy():
    with pytest.raises(InputError) as caught, join_world(CPU):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has\nmore")
    assert "accumulate_steps" in str(caught.value)
    assert "Tried to allocate 9 GiB)" in str(caught.value)
    assert "\n" not in str(caught.value)
