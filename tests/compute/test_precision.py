"""Whether bf16 is worth its rounding on a CPU: measured, kept, and the same in all processes."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from r3d.compute import device, precision
from r3d.compute.device import choose_dtype, memory_format, precision_begun_with

CPU = torch.device("cpu")
FORMATS = {
    dtype: memory_format(CPU, dtype, training=True) for dtype in (torch.float32, torch.bfloat16)
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing was measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/r3d/precision"


def measure(monkeypatch: pytest.MonkeyPatch, speedup: float, *, is_sure: bool = True) -> list[bool]:
    """Let a measurement say this; a list of what was measured."""
    measured: list[bool] = []

    def fake(formats: precision.Formats, *, training: bool) -> tuple[float, bool]:
        measured.append(training)
        return speedup, is_sure

    monkeypatch.setattr(precision, "_measured", fake)
    return measured


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [(0.7, "fp32"), (1.1, "fp32"), (1.8, "bf16"), (0.0, "fp32")],
    ids=["slower", "hardly faster", "faster", "garbage"],
)
def test_auto_is_what_is_clearly_faster_and_says_so(
    cache: Path, monkeypatch, caplog, speedup: float, expected: str
):
    measure(monkeypatch, speedup)
    device._say_once.cache_clear()
    caplog.set_level(logging.INFO)
    assert choose_dtype("auto", CPU, training=True) is choose_dtype(expected, CPU)
    (said,) = caplog.messages
    assert said.startswith(f"precision: auto is {expected} in training: bf16 ")
    assert (f"is {speedup:.2f} times as fast as fp32" if speedup else "other results") in said


def test_it_is_measured_once_for_each_kind_of_step_and_layout(cache: Path, monkeypatch):
    measured = measure(monkeypatch, 2.0)
    for _ in range(3):
        for training in (True, False):
            for layout in ("auto", "contiguous", "channels_last"):
                choose_dtype("auto", CPU, layout, training=training)
    # In inference auto is channels last in both precisions.
    assert sorted(measured) == [False] * 2 + [True] * 3
    monkeypatch.setattr(precision, "processor", lambda: "another one")  # one home, two machines
    choose_dtype("auto", CPU)
    assert len(measured) == 6
    # Of one name, with other instructions.
    for capability, amx in (("SVE256", False), ("SVE256", True)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        choose_dtype("auto", CPU)
        choose_dtype("auto", CPU)
    assert len(measured) == 8


@pytest.mark.parametrize("damage", ["", "{", "[1]", "[[], 2.0]", '[{}, "2"]'])
def test_a_damaged_entry_is_measured_again(cache: Path, monkeypatch, damage: str):
    measured = measure(monkeypatch, 2.0)
    choose_dtype("auto", CPU)
    (entry,) = cache.glob("*.json")
    entry.write_text(damage)
    assert choose_dtype("auto", CPU) is torch.bfloat16
    assert len(measured) == 2


def test_an_unsteady_measurement_is_used_and_not_kept(cache: Path, monkeypatch):
    measured = measure(monkeypatch, 2.0, is_sure=False)
    for _ in range(2):
        assert choose_dtype("auto", CPU) is torch.bfloat16
    assert len(measured) == 2


def test_it_goes_without_a_cache(tmp_path: Path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    measure(monkeypatch, 2.0)
    assert choose_dtype("auto", CPU) is torch.bfloat16


def test_results_that_are_not_near_rule_bf16_out(monkeypatch):
    def steps(formats: precision.Formats, *, training: bool):
        good, bad = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
        return {torch.float32: lambda: [good], torch.bfloat16: lambda: [bad]}

    monkeypatch.setattr(precision, "_steps", steps)
    assert precision._measured(FORMATS, training=True) == (0.0, True)


@pytest.mark.parametrize("training", [True, False])
def test_the_measurement_itself_is_short_and_leaves_torch_as_it_was(training: bool):
    before = torch.get_num_threads(), torch.random.get_rng_state(), torch.is_grad_enabled()
    begin = time.process_time()
    with torch.inference_mode():  # from wherever it is asked
        speedup, _ = precision._measured(FORMATS, training=training)
    assert time.process_time() - begin < 3  # a second where nothing else runs
    # Within what was seen of any CPU, and its results are near those of fp32.
    assert 0.05 < speedup < 50
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    assert torch.is_grad_enabled() == before[2]


# The ranks of a training: each has a cache of its own, in which another answer is kept.
RANK = """
import sys, torch
from torch import distributed as dist
from r3d.compute import precision
from r3d.compute.device import choose_dtype
rank = int(sys.argv[1])
store = dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
precision._measured = lambda *_, **__: ([2.0, 0.5][rank], True)
print(choose_dtype("auto", torch.device("cpu"), training=True))
dist.destroy_process_group()
"""


def test_processes_that_work_together_take_the_choice_of_the_first(tmp_path: Path):
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / f"cache{rank}")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=120)[0].strip() for rank in ranks] == ["torch.bfloat16"] * 2


# Jobs that begin at the same time: one measures, the others take what it found.
JOB = """
import sys
import torch
from pathlib import Path
from r3d.compute import precision
from r3d.compute.device import choose_dtype
def measured(*_, **__):
    with Path(sys.argv[1]).open("a") as file:
        file.write("measured\\n")
    return 2.0, True
precision._measured = measured
print(choose_dtype("auto", torch.device("cpu")))
"""


def test_jobs_that_begin_together_measure_once(cache: Path, tmp_path: Path):
    command = [sys.executable, "-c", JOB, str(tmp_path / "notes")]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {job.communicate(timeout=120)[0].strip() for job in jobs} == {"torch.bfloat16"}
    assert (tmp_path / "notes").read_text() == "measured\n"
    (entry,) = cache.glob("*.json")
    assert json.loads(entry.read_text())[1] == 2.0


@pytest.mark.parametrize(
    ("config", "tiles", "expected"),
    [
        (None, True, "auto"),  # a file of the reference does not say
        ({}, True, "auto"),
        ({"precision": "bf16"}, False, "bf16"),
        ({"precision": "fp32"}, True, "fp32"),
        ({"precision": "auto"}, True, "bf16"),  # of an earlier version, which went by a flag
        ({"precision": "auto"}, False, "fp32"),
    ],
)
def test_what_a_training_began_with(monkeypatch, config, tiles: bool, expected: str):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert precision_begun_with(config, CPU) == expected
