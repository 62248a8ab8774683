"""Where and in which precision a network runs."""

import os
from pathlib import Path

import pytest
import torch

from r3d.compute import device
from r3d.compute.device import choose_device, choose_dtype, memory_format, need_gpus, same_bits
from r3d.compute.distributed import join_world
from r3d.errors import InputError

CPU = torch.device("cpu")


def test_precision_as_asked():
    assert choose_dtype("bf16", CPU) is torch.bfloat16
    assert choose_dtype("fp32", CPU) is torch.float32


def test_a_card_is_taken_before_torch_looks_for_one(monkeypatch):
    order = []
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(device, "take_cards", lambda *_: order.append("taken"))
    monkeypatch.setattr(device, "give_back_cards", lambda: order.append("given back"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: order.append("looked") or True)
    assert choose_device(no_cuda=True) == CPU
    assert order == []
    assert choose_device() == torch.device("cuda")
    assert order == ["taken", "looked", "looked"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    del order[:]
    choose_device()  # by a program that has chosen its cards itself
    assert order == ["looked"]


def test_a_card_that_torch_cannot_use_is_for_others(monkeypatch, tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Made-Up (UUID: GPU-0c0c)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for given in (None, "0"):
        if given is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert choose_device() == CPU  # and not a wait at the second time
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == given


@pytest.mark.parametrize("first", ["torch", "r3d"])
def test_a_card_that_cuda_does_not_compute_on_is_said(monkeypatch, caplog, first: str):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = 4 if first == "torch" else 1  # it reads once what is visible
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: seen, raising=False)
    for name in ("CUDA_VISIBLE_DEVICES", "R3D_TAKEN_DEVICES"):
        monkeypatch.setenv(name, "GPU-0f0f")
    choose_device()
    said = [line for line in caplog.messages if "computes on the first" in line]
    assert len(said) == (first == "torch")
    caplog.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")  # chosen by the user
    monkeypatch.setattr(device, "take_cards", lambda *_: None)
    choose_device()
    assert not caplog.messages


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


def switches() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic


def test_same_bits_are_asked_of_all_that_torch_uses_and_only_in_the_block(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    before = switches()
    with same_bits(False):
        assert switches() == before
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with same_bits(True):
        assert switches() == (True, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert switches() == before == (False, False)


def test_what_has_no_deterministic_form_is_one_line():
    with pytest.raises(InputError) as caught, same_bits(True):
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    assert "\n" not in str(caught.value)
    assert "has no form of put_ that gives the same bits" in str(caught.value)
    assert "deterministic: false" in str(caught.value)
    assert switches() == (False, False)
    with pytest.raises(RuntimeError, match="a bug"), same_bits(True):
        raise RuntimeError("a bug")


@pytest.mark.parametrize(("given", "in_use"), [("", True), (":16:4", False), (":0:0", True)])
def test_bits_that_cannot_be_the_same_are_refused(monkeypatch, given: str, in_use: bool):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    if not given:
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use)
    with pytest.raises(InputError, match="needs CUBLAS_WORKSPACE_CONFIG=:4096:8"), same_bits(True):
        pytest.fail("it went on")
    assert switches() == (False, False)


@pytest.mark.parametrize("given", [":4096:8", ":16:8"])
def test_a_workspace_that_is_fixed_is_left_as_it_is(monkeypatch, given: str):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with same_bits(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == given
