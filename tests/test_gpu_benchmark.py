"""benchmarks/gpu.py, which runs on machines that have no r3d, runs here on the CPU."""

import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from running import ROOT
from torch.utils.flop_counter import FlopCounterMode

from r3d.models.building import build_model

SCRIPT = ROOT / "benchmarks/gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def test_its_network_is_r3d50(gpu):
    with torch.device("meta"):
        ours = build_model(model="resnet", model_depth=50, n_classes=700)
        clips = torch.empty(2, 3, 16, 112, 112)
        its = gpu.Shape().network()
    assert sorted(p.shape for p in its.parameters()) == sorted(p.shape for p in ours.parameters())
    with FlopCounterMode(display=False) as counter:
        ours(clips).sum().backward()
    assert gpu.flops_a_clip(gpu.Shape()) == counter.get_total_flops() / 2


def test_it_runs_on_a_cpu():
    page = (ROOT / "docs/benchmarks.md").read_bytes()
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--no-compile"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if "|" in line]
    steps = [row for row in rows if re.match(r"fp32|TF32|\+ ", row[0])]
    assert len(steps) == 6
    assert all(float(row[2]) > 0 and float(row[4]) > 0 for row in steps)
    assert steps[0][3] == "1.00"
    (waiting,) = [row for row in rows if row[0].isdecimal()]
    assert 0 <= float(waiting[-1].rstrip("%")) <= 100
    costs = {row[0]: float(row[2]) for row in rows if row[0] in ("false", "true")}
    assert costs.keys() == {"false", "true"}
    assert costs["false"] == 1
    assert costs["true"] > 0
    assert (ROOT / "docs/benchmarks.md").read_bytes() == page  # figures of a GPU only


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith("Not measured")
