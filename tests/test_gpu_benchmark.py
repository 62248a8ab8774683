"""benchmarks/gpu.py, which runs on machines that have no r3d, runs here on the CPU."""

import importlib
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
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("gpu")


@pytest.mark.parametrize(
    ("name", "model", "depth"),
    [("r3d18", "resnet", 18), ("r3d50", "resnet", 50), ("r(2+1)d50", "resnet2p1d", 50)],
)
def test_its_networks_are_those_of_r3d(gpu, name: str, model: str, depth: int):
    with torch.device("meta"):
        ours = build_model(model=model, model_depth=depth, n_classes=700)
        clips = torch.empty(2, 3, 16, 112, 112)
        its = gpu.Shape(name).network()
    assert sorted(p.shape for p in its.parameters()) == sorted(p.shape for p in ours.parameters())
    with FlopCounterMode(display=False) as counter:
        ours(clips).sum().backward()
    assert gpu.flops_a_clip(gpu.Shape(name)) == counter.get_total_flops() / 2


def test_a_network_of_r3d_alone_is_measured_where_r3d_has_it(gpu):
    assert gpu.Shape("preresnet18", n_classes=5).network().fc.out_features == 5
    assert gpu.Shape("preresnet18").is_there()
    assert not gpu.Shape("nosuchnet50").is_there()


@pytest.mark.parametrize("size", [(16, 32, 32), (5, 19, 14)], ids=["even", "odd"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_all_forms_of_the_stem_compute_the_same(gpu, size, layout: torch.memory_format):
    torch.manual_seed(0)
    clips = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=layout)
    found = {}
    for form in gpu.STEMS:
        torch.manual_seed(1)
        stem = gpu.Stem(8, form).double().to(memory_format=layout)
        features = stem(clips)
        (features * torch.arange(features.numel()).reshape(features.shape).cos()).sum().backward()
        found[form] = (features.detach(), stem.weight.grad)
    assert len(found) > 3
    for features, gradient in found.values():
        torch.testing.assert_close(features, found["plain"][0])
        torch.testing.assert_close(gradient, found["plain"][1])


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
    forms = [row for row in rows if "channels" in row[0] and "+" not in row[0]]
    assert len(forms) == 8
    assert all(float(rate) > 0 for row in forms for rate in row[1:])
    (waiting,) = [row for row in rows if row[:2] == ["48", "1"]]  # short side, workers
    assert 0 <= float(waiting[-1].rstrip("%")) <= 100
    costs = {row[0]: float(row[2]) for row in rows if row[0] in ("false", "true") and row[2][-1:]}
    assert costs["false"] == 1
    (both,) = [row for row in rows if row[0] == "gloo"]
    assert float(both[-1]) < 1e-3
    (resumed,) = [row for row in rows if row[:2] == ["true", "true"]]
    assert float(resumed[2]) == 0
    assert (ROOT / "docs/benchmarks.md").read_bytes() == page  # figures of a GPU only


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith("Not measured")
