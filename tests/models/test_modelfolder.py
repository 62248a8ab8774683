"""Folders of model.safetensors and config.json: what others have changed or made up is refused."""

import copy
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from r3d.errors import InputError
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, read_checkpoint
from r3d.models.safetensorfiles import write_model_files

LABELS = ["left", "right"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build_model(model="resnet", model_depth=10, n_classes=2, resnet_widen_factor=0.0625)
    checkpoint = Checkpoint(
        state_dict=network.state_dict(),
        architecture=network.architecture,
        labels=LABELS,
        config={"sample_size": 32, "sample_duration": 8, "model_depth": 10},
        normalisation={"mean": [0.4, 0.5, 0.6], "std": [1.0, 1.0, 1.0], "value_scale": 1},
        epoch=3,
    )
    write_model_files(
        tmp_path / "model.safetensors", tmp_path / "config.json", checkpoint, n_features=32
    )
    return tmp_path


def change(folder: Path, *keys: str, value: Any) -> None:
    """Set one value of the config; None takes it away."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    path.write_text(json.dumps(config))


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 800
    return message


def test_all_that_was_written_is_read(folder: Path):
    for path in (folder, folder / "model.safetensors"):
        found = read_checkpoint(path)
        assert (found.epoch, found.labels) == (3, LABELS)
        assert found.normalisation == {"mean": [0.4, 0.5, 0.6], "std": [1, 1, 1], "value_scale": 1}
        assert found.architecture is not None
        assert found.architecture.resnet_widen_factor == 0.0625


def test_labels_may_be_edited(folder: Path):
    change(folder, "label_names", value=["links", "rechts"])
    assert read_checkpoint(folder).labels == ["links", "rechts"]


def test_weights_alone_are_a_state_dict(folder: Path):
    (folder / "config.json").unlink()
    found = read_checkpoint(folder)
    assert found.labels is None
    assert len(found.state_dict) > 10


def test_a_file_of_another_writer(folder: Path):
    """Only timm's keys and ours of the network; weights that we have no digest of."""
    weights = load_file(folder / "model.safetensors")
    save_file(
        {f"module.{name}": value for name, value in weights.items()}, folder / "own.safetensors"
    )
    change(folder, "r3d", value=None)
    found = read_checkpoint(folder / "own.safetensors")
    assert found.state_dict.keys() == weights.keys()
    assert found.config is not None
    assert (found.config["sample_size"], found.config["sample_duration"]) == (32, 8)
    assert found.labels == LABELS


def test_the_file_may_be_changed_after_it_was_read(folder: Path):
    found = read_checkpoint(folder).state_dict
    before = copy.deepcopy(found)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-2000, 2)
        file.write(b"\xff" * 2000)
    assert all(torch.equal(found[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("num_classes",), 3, "num_classes: 3, and label_names are 2; accepted: as many"),
        (("num_classes",), 10**30, "num_classes"),
        (("label_names",), [1, 2], "labels: no list of class names"),
        (("label_names",), 5, "len"),
        (("model_args",), [], "model_args: a list; accepted: an object"),
        (("model_args", "model_depth"), 18, "model_depth: 18, and its weights are of 10"),
        (("model_args", "model_depth"), {"a": []}, "is broken"),
        (("model_args", "model"), ["x"], "broken"),
        (("model_args", "resnet_widen_factor"), 1e300, "resnet_widen_factor"),
        (("model_args", "x" * 500), 1, "is none of conv1_t_size"),
        (("pretrained_cfg",), "x", "pretrained_cfg: a str; accepted: an object"),
        (("pretrained_cfg", "mean"), [0.1, 0.5, 0.6], "contradicts r3d.normalisation; change both"),
        (("pretrained_cfg", "std"), ["1", 1, 1], "accepted: a list of up to three numbers"),
        (("pretrained_cfg", "mean"), [float("nan")] * 3, "accepted: a list of up to three numbers"),
        (("pretrained_cfg", "mean"), [0] * 100_000, "accepted: a list of up to three numbers"),
        (("pretrained_cfg", "input_size"), [3, 16, 112, 112], "contradicts r3d.config, whose samp"),
        (("pretrained_cfg", "input_size"), [3, 224, 224], r"accepted: [c, t, s, s]"),
        (("r3d",), 7, "r3d: a int; accepted: an object"),
        (("r3d", "config"), [], "r3d.config: a list"),
        (("r3d", "normalisation"), {"value_scale": 7}, "accepted: 1, 255"),
        (("r3d", "epoch"), "many", "epoch: 'many'; accepted: whole numbers"),
        (("r3d", "digest"), "0" * 64, "or remove r3d.digest if the weights are as you want them"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_broken_configs(folder: Path, keys: tuple[str, ...], value: Any, message: str):
    change(folder, *keys, value=value)
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "holds a list; accepted: an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"num_classes": ' + "9" * 10_000 + "}", "a number of more than"),
        (" " * (17 << 20), "larger than 16 MB"),
        ('{"label_names": ["\\ud800"]}', "half of a character"),
    ],
    ids=["empty", "list", "deep", "digits", "large", "surrogate"],
)
def test_configs_that_are_none(folder: Path, text: str, message: str):
    (folder / "config.json").write_text(text)
    assert message in refused(folder)


def test_a_bit_that_was_flipped(folder: Path):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3000] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert "damaged or of another model" in refused(folder)


def test_the_advice_on_other_weights_works(folder: Path):
    weights = load_file(folder / "model.safetensors")
    weights["fc.bias"] += 1
    save_file(weights, folder / "model.safetensors")
    assert "remove r3d.digest" in refused(folder)
    change(folder, "r3d", "digest", value=None)
    assert torch.equal(read_checkpoint(folder).state_dict["fc.bias"], weights["fc.bias"])


def header(entries: dict[str, Any]) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 17 << 20) + b" " * (17 << 20),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"\xff\xfe",
        header({}),
        header({"a": tensor([2**40], 0, 2**42)}),
        header({"a": tensor([4], 0, 16), "b": tensor([4], 8, 24)}) + bytes(24),
        header({"a": tensor([2**62, 4], 0, 16)}) + bytes(16),
        header({"a": tensor([-1], 0, 4)}) + bytes(4),
        header({"a": tensor([4], 0, 16, "F8_E4M3")}) + bytes(16),
        header({"a": tensor([2], 0, 16, "C64")}) + bytes(16),
        header({"a": tensor([4], 0, 16)}) + bytes(16) + b"more",
        header({"a": [[[[]]]] * 1000}),
    ],
    ids=range(15),
)
def test_weights_that_are_none(tmp_path: Path, data: bytes):
    file = tmp_path / "x.safetensors"
    file.write_bytes(data)
    assert str(file) in refused(file)


def test_what_is_no_file(tmp_path: Path):
    assert "cannot be read (Is a directory)" in refused(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    assert "cannot be read" in refused(tmp_path)


def test_the_package_that_reads_them(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "pip install 'r3d[export]'" in refused(folder)
