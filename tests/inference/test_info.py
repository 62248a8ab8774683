"""`r3d info`: what a file is, told without loading it."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from running import ROOT
from running import r3d as run_r3d
from torch import nn

from r3d.config.normalisation import input_normalisation
from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.exporting.export import export
from r3d.inference.info import describe_file, lines
from r3d.inference.trained import load_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

TINY: dict[str, Any] = {"model_depth": 10, "resnet_widen_factor": 0.0625}
CLIP: dict[str, Any] = {"sample_size": 64, "sample_duration": 8, "sample_t_stride": 2}


def network_of(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(**{"model": "resnet", "n_classes": 3, **TINY, **options})


def checkpoint_of(**more: Any) -> Checkpoint:
    options = TrainingOptions(**TINY, **CLIP, n_epochs=30, batch_size=8, no_max_pool=True)
    network = build_model(n_classes=3, **options.network())
    given = {
        "epoch": 7,
        "config": options.model_dump(),
        "labels": ["run", "walk", "a very long name " * 9],
        "normalisation": input_normalisation(options),
        "frames": {"short_side": 72, "rates": [25.0, 30.0]},
        **more,
    }
    return Checkpoint(state_dict=network.state_dict(), architecture=network.architecture, **given)


def told(path: Path) -> dict[str, str]:
    found = lines(describe_file(path))
    assert len(found) == 10
    assert all("\n" not in line for line in found)
    return {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in found}


def test_a_model_of_ours(tmp_path: Path):
    checkpoint = checkpoint_of()
    write_checkpoint(tmp_path / "model.pth", checkpoint)
    found = told(tmp_path / "model.pth")
    assert found["kind"].startswith("model of r3d 0")
    assert found["network"].startswith("resnet-10, 0.06")
    assert "no_max_pool: true" in found["network"]
    assert "resnet_widen_factor: 0.0625" in found["network"]
    assert "wide_resnet_k" not in found["network"]
    assert found["classes"].startswith("3: run, walk, a very long name")
    assert len(found["classes"]) < 100
    assert found["clips"] == "8 frames, 64 x 64 pixels, one frame of 2"
    assert found["frames"] == "short side 72, 25 to 30 a second"
    assert found["normalised"].startswith("mean 0.4345 0.4051 0.3775, deviation 0.2768")
    assert found["trained"].startswith("7 of 30 epochs, batch_size: 8, learning_rate: 0.1")
    assert found["started from"] == "random weights"
    n = sum(value.numel() for value in network_of(no_max_pool=True).parameters())
    assert describe_file(tmp_path / "model.pth")["parameters"] == n


def test_a_state_of_a_training(tmp_path: Path):
    config = {**checkpoint_of().config, "pretrain_path": "models/r3d50_K_200ep.pth"}
    network = network_of()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state = checkpoint_of(
        config=config, training={"epoch": 7, "code": "x"}, optimizer=optimizer.state_dict()
    )
    write_checkpoint(tmp_path / "latest.pth", state)
    found = told(tmp_path / "latest.pth")
    assert found["kind"].startswith("training state of r3d 0")
    assert found["started from"] == "models/r3d50_K_200ep.pth"


def test_a_file_of_the_reference(tmp_path: Path):
    state = {f"module.{name}": value for name, value in network_of().state_dict().items()}
    optimizer = torch.optim.SGD(network_of().parameters(), lr=0.1).state_dict()
    content = {"epoch": 3, "arch": "resnet-10", "state_dict": state, "optimizer": optimizer}
    torch.save(content, tmp_path / "save_3.pth")
    found = told(tmp_path / "save_3.pth")
    assert found["kind"] == "training state of another program"
    assert "no_max_pool: not stated" in found["network"]
    assert found["classes"].startswith("3, whose names are not stated; class_order ")
    assert found["clips"].startswith("not stated: sample_size: 112, sample_duration: 16, ")
    assert found["frames"].startswith("not stated: short_side: 240")
    assert found["normalised"].startswith("not stated: mean_dataset: kinetics")
    assert found["trained"] == "3 epochs"


def test_released_weights_by_their_name(tmp_path: Path):
    network = build_model(model="resnet", model_depth=18, n_classes=700)
    path = tmp_path / "r3d18_K_200ep.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    found = told(path)
    assert found["known as"].startswith("the released resnet-18 of Kinetics-700")
    assert "on Kinetics-700" in found["trained"]
    assert found["classes"].startswith("700: ")
    assert found["classes"].endswith("(by its name or shape)")


def test_weights_of_2018(tmp_path: Path):
    network = build_model(model="densenet", model_depth=121, n_classes=400)
    state = {
        f"module.{name}".replace("features.conv1", "features.conv0"): value
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": state}, tmp_path / "densenet-121-kinetics.pth")
    found = told(tmp_path / "densenet-121-kinetics.pth")
    assert "2018" in found["known as"]
    assert "(hara2018)" in found["normalised"]


def test_a_folder_of_safetensors(tmp_path: Path):
    write_checkpoint(tmp_path / "model.pth", checkpoint_of())
    export(load_model(tmp_path / "model.pth"), tmp_path / "hub", checkpoint=checkpoint_of())
    ours, folder = told(tmp_path / "model.pth"), told(tmp_path / "hub")
    assert folder["kind"].startswith("folder of r3d 0")
    for name in ("network", "classes", "clips", "frames", "normalised", "trained"):
        assert folder[name] == ours[name]
    (tmp_path / "hub/config.json").unlink()
    assert told(tmp_path / "hub/model.safetensors")["kind"] == "safetensors"


def test_json_holds_all(tmp_path: Path):
    write_checkpoint(tmp_path / "model.pth", checkpoint_of())
    done = run_r3d(tmp_path, "info", "model.pth", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["labels"] == checkpoint_of().labels
    assert found["network"]["model_depth"] == 10
    assert found["clips"]["sample_size"] == 64
    text = run_r3d(tmp_path, "info", "model.pth").stdout
    assert text.splitlines() == lines({**found, "file": "model.pth"})


def test_neither_torch_nor_weights_are_loaded(tmp_path: Path):
    path = tmp_path / "model.pth"
    write_checkpoint(path, checkpoint_of())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        assert largest.file_size > 50_000
    data = bytearray(path.read_bytes())
    place = largest.header_offset + 2000
    data[place : place + 1000] = b"\x7f" * 1000  # which a loading would refuse
    path.write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        load_model(path)
    program = (
        "import sys; from r3d.inference.info import describe_file, lines; "
        f"print(lines(describe_file({str(path)!r}))[0]); print('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"sample_size": [[]], "sample_duration": {}}},
        {"config": {"n_epochs": "x" * 10_000, "pretrain_path": ["\n" * 50]}},
        {"normalisation": {"mean": "x", "std": None, "value_scale": []}},
        {"frames": {"short_side": [], "rates": [{}], "fps": "fast"}},
        {"labels": ["a\n\x1b[31mb", "\u202ec", "d"]},
    ],
    ids=["clips", "training", "normalisation", "frames", "labels"],
)
def test_files_that_say_odd_things(tmp_path: Path, change: dict[str, Any]):
    checkpoint = dataclasses.replace(checkpoint_of(), **change)
    write_checkpoint(tmp_path / "model.pth", checkpoint)
    done = run_r3d(tmp_path, "info", "model.pth")
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert len(done.stderr.strip().splitlines()) == 1
        return
    found = done.stdout.splitlines()
    assert len(found) == 10
    assert all(line.isprintable() and len(line) < 1100 for line in found)


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04" + bytes(100)])
def test_files_that_are_none(tmp_path: Path, content: bytes):
    (tmp_path / "x.pth").write_bytes(content)
    done = run_r3d(tmp_path, "info", "x.pth")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.strip().splitlines()) == 1
