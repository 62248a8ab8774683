"""Checkpoints: formats that are read, what is written, what is inferred and refused."""

import dataclasses
import functools
import io
import math
import pickle
import resource
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR, ReduceLROnPlateau

import r3d
from r3d.errors import InputError
from r3d.models.architectures import MODEL_DEPTHS, Architecture
from r3d.models.archive import tensors_digest
from r3d.models.base import VideoModel
from r3d.models.building import build_model
from r3d.models.checkpoint import (
    Checkpoint,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from r3d.models.describing import describe

EVERY_NETWORK = [(model, depth) for model, depths in MODEL_DEPTHS.items() for depth in depths]


def tiny(**options: Any) -> VideoModel:
    """A ResNet-10 of 20,000 weights with 4 outputs, unless told otherwise."""
    defaults = {
        "model": "resnet",
        "model_depth": 10,
        "n_classes": 4,
        "resnet_widen_factor": 0.0625,
    }
    return build_model(**(defaults | options))


def on_meta(**options: Any) -> VideoModel:
    with torch.device("meta"):
        return build_model(**options)


@functools.cache
def trained() -> tuple[VideoModel, torch.optim.SGD, MultiStepLR]:
    """A network after two steps, with an optimizer and scheduler that have a state."""
    torch.manual_seed(0)
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = MultiStepLR(optimizer, [1, 5])
    for _ in range(2):
        model(torch.randn(2, 3, 4, 32, 32)).sum().backward()
        optimizer.step()
        scheduler.step()
    return model, optimizer, scheduler


def reference_file(path: Path, *, prefix: str = "", zipped: bool = True) -> dict[str, Tensor]:
    """Write what the reference writes; returns the weights under their plain names."""
    model, optimizer, scheduler = trained()
    weights = OrderedDict((prefix + name, tensor) for name, tensor in model.state_dict().items())
    content = {
        "epoch": 20,
        "arch": "resnet-10",
        "state_dict": weights,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return model.state_dict()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name in expected:
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_reads_files_of_the_reference(tmp_path: Path, prefix: str, zipped: bool) -> None:
    weights = reference_file(tmp_path / "save_20.pth", prefix=prefix, zipped=zipped)
    checkpoint = read_checkpoint(tmp_path / "save_20.pth")
    assert_same(checkpoint.state_dict, weights)
    assert checkpoint.epoch == 20
    assert checkpoint.architecture is None
    assert checkpoint.version is None

    model = tiny()
    load_weights(model, checkpoint.state_dict, "save_20.pth")
    assert_same(model.state_dict(), weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = MultiStepLR(optimizer, [1, 5])
    assert checkpoint.optimizer is not None
    assert checkpoint.scheduler is not None
    optimizer.load_state_dict(checkpoint.optimizer)
    scheduler.load_state_dict(checkpoint.scheduler)
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_reads_a_bare_state_dict(tmp_path: Path, prefix: str) -> None:
    weights = tiny().state_dict()
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert_same(checkpoint.state_dict, weights)
    assert (checkpoint.epoch, checkpoint.optimizer) == (0, None)


def test_reads_weights_without_batch_counters() -> None:
    """Files from before torch 0.4.1 have none."""
    weights = {
        name: tensor
        for name, tensor in trained()[0].state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model = tiny()
    load_weights(model, weights, "old.pth")
    assert torch.equal(model.bn1.running_mean, weights["bn1.running_mean"])


def test_round_trip(tmp_path: Path) -> None:
    model, optimizer, scheduler = trained()
    written = Checkpoint(
        state_dict=model.state_dict(),
        epoch=7,
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        architecture=model.architecture,
        config={"model": "resnet", "multistep_milestones": [50, 100], "resume_path": None},
        labels=["brush hair", "NA", "ключ"],
        normalisation={"mean": [0.4, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
        training={"rng": torch.get_rng_state(), "step": 3, "best": (0.5, 2)},
    )
    write_checkpoint(tmp_path / "latest.pth", written)
    found = read_checkpoint(tmp_path / "latest.pth")

    assert_same(found.state_dict, model.state_dict())
    assert found.version == r3d.__version__
    for field in ("epoch", "architecture", "config", "labels", "normalisation", "scheduler"):
        assert getattr(found, field) == getattr(written, field)
    assert found.training is not None
    assert torch.equal(found.training.pop("rng"), torch.get_rng_state())
    assert found.training == {"step": 3, "best": (0.5, 2)}
    assert found.optimizer is not None
    for index, state in optimizer.state_dict()["state"].items():
        assert torch.equal(
            found.optimizer["state"][index]["momentum_buffer"], state["momentum_buffer"]
        )


def test_the_reference_resumes_from_what_is_written(tmp_path: Path) -> None:
    """The steps of its resume: plain torch.load, compare arch, load the three state dicts."""
    model, optimizer, scheduler = trained()
    write_checkpoint(
        tmp_path / "save_7.pth",
        Checkpoint(
            state_dict={f"module.{name}": value for name, value in model.state_dict().items()},
            epoch=7,
            optimizer=optimizer.state_dict(),
            scheduler=scheduler.state_dict(),
        ),
    )
    content = torch.load(tmp_path / "save_7.pth", weights_only=True)
    assert (content["epoch"], content["arch"]) == (7, "resnet-10")
    other = tiny()
    other.load_state_dict(content["state_dict"])
    resumed = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    resumed.load_state_dict(content["optimizer"])
    schedule = MultiStepLR(resumed, [1, 5])
    schedule.load_state_dict(content["scheduler"])
    # A plain dictionary would do for our torch; earlier ones need the counter.
    assert type(content["scheduler"]["milestones"]) is Counter
    assert schedule.last_epoch == 2
    assert_same(other.state_dict(), model.state_dict())


def test_what_is_absent_is_left_out(tmp_path: Path) -> None:
    """The reference would hand a `None` to its optimizer."""
    model = tiny()
    write_checkpoint(tmp_path / "model.pth", Checkpoint(state_dict=model.state_dict()))
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "version"}


def test_plateau_state_survives(tmp_path: Path) -> None:
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = ReduceLROnPlateau(optimizer, patience=0)
    for loss in (1.0, 2.0, 3.0):
        scheduler.step(loss)
    checkpoint = Checkpoint(state_dict=model.state_dict(), scheduler=scheduler.state_dict())
    write_checkpoint(tmp_path / "latest.pth", checkpoint)
    assert read_checkpoint(tmp_path / "latest.pth").scheduler == scheduler.state_dict()


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    model, path = tiny(), tmp_path / "latest.pth"
    write_checkpoint(path, Checkpoint(state_dict=model.state_dict(), epoch=1))
    unfit = Checkpoint(state_dict=model.state_dict(), epoch=2, training={"folder": Path("x")})
    with pytest.raises(TypeError, match="Path"):
        write_checkpoint(path, unfit)
    assert read_checkpoint(path).epoch == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_written_tensors_lie_on_the_cpu(tmp_path: Path) -> None:
    model = tiny().cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 4, 32, 32, device="cuda")).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(state_dict=model.state_dict(), optimizer=optimizer.state_dict())
    write_checkpoint(tmp_path / "latest.pth", checkpoint)
    content = torch.load(tmp_path / "latest.pth", weights_only=True)
    assert content["state_dict"]["conv1.weight"].device.type == "cpu"
    assert content["optimizer"]["state"][0]["exp_avg"].device.type == "cpu"


class NotPlain:
    """An object that weights_only loading refuses."""


def saved(content: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, cut short or no checkpoint"),
        (b"epoch\tloss\tacc\n1\t0.5\t0.7\n", "is empty, cut short or no checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is empty, cut short or no checkpoint"),
        (saved({"w": torch.ones(9999)})[:20_000], "is empty, cut short or no checkpoint"),
        (saved({"w": torch.ones(999)}, zipped=False)[:-9], "is empty, cut short or no"),
        (saved({"state_dict": {}, "opts": NotPlain()}), "a Python object (test_checkpoint.NotPla"),
        (saved({"opts": NotPlain()}, zipped=False), "holds a Python object (test_checkpoint.Not"),
        (saved(nn.Linear(2, 2)), "holds a Python object (torch.nn.modules.linear.Linear)"),
        (pickle.dumps({"weights": NotPlain()}, protocol=2), "a Python object (test_checkpoint.Not"),
        (saved([torch.ones(2)]), "holds a list; accepted: a dictionary with the key state_dict"),
        (saved(torch.ones(2)), "holds a Tensor; accepted"),
        (saved({"epoch": 3, "model": {"w": torch.ones(2)}}), "has neither a key state_dict nor"),
        (saved({"state_dict": {}}), "its state dict is empty or no dictionary"),
        (saved({"state_dict": [1]}), "its state dict is empty or no dictionary"),
        (saved({"state_dict": {"w": 1}}), "('w' is a int)"),
        (saved({"w": torch.ones(2).to_sparse()}), "'w' is a sparse, quantised or meta tensor"),
        (saved({"w": torch.ones(2, device="meta")}), "'w' is a sparse, quantised or meta tensor"),
        (
            saved({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
            "'w' is a sparse, quantised or meta tensor",
        ),
        (
            saved({"state_dict": {"w": torch.ones(2)}, "architecture": {"model": "vgg"}}),
            "what it says of itself is broken",
        ),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "save_1.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_checkpoint(path)
    assert str(raised.value).startswith(f"checkpoint {path}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def flip(path: Path, offset: int) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """torch itself would load other weights."""
    path = tmp_path / "a.pth"
    write_checkpoint(path, Checkpoint(state_dict=tiny().state_dict()))
    parts = zipfile.ZipFile(path).infolist()
    largest = max(parts, key=lambda part: part.file_size)
    flip(path, largest.header_offset + largest.file_size)
    torch.load(path, weights_only=True)
    with pytest.raises(InputError, match=r"a\.pth: is damaged: .*; copy or download"):
        read_checkpoint(path)


def test_a_compressed_file_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    written = saved({"w": torch.zeros(10**7)})
    with (
        zipfile.ZipFile(io.BytesIO(written)) as plain,
        zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "a.pth").stat().st_size < 10**5
    with pytest.raises(InputError, match="is compressed"):
        read_checkpoint(tmp_path / "a.pth")


def set_in(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def doubled(times: int, value: Any = 1) -> Any:
    """A list of two lists of two lists ..., which is small in a file and endless when spelt out."""
    for _ in range(times):
        value = [value, value]
    return [[value] * 500] * 500


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (set_in("epoch", value=float("inf")), "epoch: inf; accepted: whole numbers from 0"),
        (set_in("epoch", value=-1), "epoch: -1"),
        (set_in("epoch", value=torch.ones(3, 3)), "epoch: holds a tensor"),
        (
            set_in("scheduler", "milestones", value={3: torch.eye(3).to_sparse()}),
            "scheduler: holds a",
        ),
        (
            set_in("architecture", "no_max_pool", value=torch.ones(2)),
            "architecture: holds a tensor",
        ),
        (set_in("architecture", "no_max_pool", value="x"), "no_max_pool: 'x' is refused"),
        (set_in("architecture", "model_depth", value=[18]), "model_depth: a list"),
        (set_in("version", value=doubled(60)), "version: holds too many values"),
        (set_in("config", value={"a": doubled(12, [])}), "config: holds too many values"),
        (
            set_in("optimizer", "param_groups", 0, "lr", value=torch.ones(3)),
            "optimizer: holds a te",
        ),
        (set_in("architecture", "n_classes", value=10**12), "n_classes: 1000000000000 is refused"),
        (set_in("architecture", "n_classes", value=90_000), "n_classes: 90000, and its weights"),
        (set_in("architecture", "resnet_widen_factor", value=2**20), "accepted: numbers from 1/64"),
        (set_in("architecture", "resnet_widen_factor", value="1"), "accepted: numbers from 1/64"),
        (set_in("architecture", value=[1]), "architecture: a list"),
        (set_in("labels", value=["a", 5]), "labels: no list of class names"),
        (set_in("config", value="x"), "config: a str"),
        (set_in("training", value=[1]), "training: a list"),
        (set_in("optimizer", "param_groups", value=5), "optimizer: no state"),
        (set_in("optimizer", "state", value=[1]), "optimizer: no state"),
        (set_in("scheduler", value=3), "scheduler: a int"),
        (
            set_in("state_dict", "fc.weight", value=torch.ones(1).expand(10**6, 10**6)),
            "a file that holds all of its weights",
        ),
        (
            set_in("state_dict", "fc.bias", value=torch.full((4,), float("inf"))),
            "fc.bias holds inf",
        ),
        (set_in("state_dict", "bn1.running_mean", value=torch.full((4,), math.nan)), "holds NaN"),
        (set_in("state_dict", "bn1.running_var", value=-torch.ones(4)), "negative variances"),
        (set_in("state_dict", "fc.bias", value=torch.ones(4).cfloat()), "accepted: real numbers"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], part: str
) -> None:
    model, optimizer, scheduler = trained()
    path = tmp_path / "a.pth"
    write_checkpoint(
        path,
        Checkpoint(
            state_dict=model.state_dict(),
            optimizer=optimizer.state_dict(),
            scheduler=scheduler.state_dict(),
            architecture=model.architecture,
        ),
    )
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(InputError) as raised:
        read_checkpoint(path)
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < len(str(path)) + 400


def test_what_other_programs_add_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    weights = reference_file(path)
    content = torch.load(path, weights_only=True)
    content |= {"best_acc1": torch.tensor(0.5), "ema": {"x": torch.eye(3)}, 7: doubled(60)}
    torch.save(content, path)
    assert_same(read_checkpoint(path).state_dict, weights)


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    """Whatever the file's name, the layout in memory, and how the values came to be."""
    model, optimizer, _ = trained()
    config = {"model": "resnet", "lr_scheduler": "multistep", "note": "resnet"}
    other = tiny()
    other.load_state_dict(model.state_dict())
    other.to(memory_format=torch.channels_last_3d)
    texts = {"".join(key): "".join([*value]) for key, value in config.items()}
    for name, network, said in (("a", model, config), ("another", other, texts)):
        write_checkpoint(
            tmp_path / f"{name}.pth",
            Checkpoint(
                state_dict=network.state_dict(), optimizer=optimizer.state_dict(), config=said
            ),
        )
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another.pth").read_bytes()


def test_a_digest_is_of_the_content() -> None:
    weights = trained()[0].state_dict()
    again = {name: value.clone() for name, value in reversed(weights.items())}
    assert tensors_digest(again) == tensors_digest(weights)
    again["fc.bias"][0] += 1
    assert tensors_digest(again) != tensors_digest(weights)


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Not torch's complaint about the place that it is not at."""
    path = tmp_path / "a.pth"
    write_checkpoint(path, Checkpoint(state_dict=tiny().state_dict(), epoch=1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(path, Checkpoint(state_dict=tiny().state_dict(), epoch=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(path).epoch == 1
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .No such file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(InputError, match=r"cannot be read .Is a directory"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(("model_name", "depth"), EVERY_NETWORK)
def test_describe_every_network(model_name: str, depth: int) -> None:
    model = on_meta(model=model_name, model_depth=depth, n_classes=51)
    assert describe(model.state_dict()) == model.architecture


@pytest.mark.parametrize(
    "options",
    [
        {"model": "resnet", "model_depth": 18, "resnet_shortcut": "A", "conv1_t_size": 3},
        {"model": "resnet", "model_depth": 101, "resnet_shortcut": "A", "n_input_channels": 2},
        {"model": "resnet", "model_depth": 34, "resnet_widen_factor": 0.3},
        {"model": "resnet", "model_depth": 50, "resnet_widen_factor": 1.7},
        {"model": "resnet", "model_depth": 50, "resnet_widen_factor": 2.0},
        {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.016},
        {"model": "resnet2p1d", "model_depth": 10, "resnet_widen_factor": 0.3},
        {"model": "resnet2p1d", "model_depth": 50, "conv1_t_size": 5, "n_input_channels": 2},
        {"model": "preresnet", "model_depth": 18, "resnet_widen_factor": 0.016},
        {"model": "preresnet", "model_depth": 50, "resnet_shortcut": "A"},
        {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1},
        {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 5, "resnet_shortcut": "A"},
        {"model": "resnext", "model_depth": 50, "resnext_cardinality": 1},
        {"model": "resnext", "model_depth": 50, "resnext_cardinality": 16},
        {"model": "resnext", "model_depth": 101, "resnext_cardinality": 64},
        {"model": "densenet", "model_depth": 121, "conv1_t_size": 3, "n_input_channels": 2},
        {"model": "resnetrs", "model_depth": 50, "conv1_t_size": 5, "n_input_channels": 2},
        {"model": "resnetrs", "model_depth": 101, "resnet_widen_factor": 0.016},
        {"model": "resnetrs", "model_depth": 200, "resnet_widen_factor": 2.0},
    ],
)
def test_describe_options(options: dict[str, Any]) -> None:
    model = on_meta(**options, n_classes=9)
    assert describe(model.state_dict()) == model.architecture


@pytest.mark.parametrize("factor", [1 / 3, 0.1, 0.77777, 1.2345, 2.999])
@pytest.mark.parametrize("depth", [10, 50])
def test_described_widen_factor_gives_the_same_widths(factor: float, depth: int) -> None:
    options: dict[str, Any] = {"model": "resnet", "model_depth": depth, "n_classes": 2}
    model = on_meta(**options, resnet_widen_factor=factor)
    again = on_meta(**dataclasses.asdict(describe(model.state_dict())))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


@pytest.mark.parametrize(
    "drop", ["fc.weight", "conv1.weight", "layer2.0.conv1.weight", "layer4.", "layer3.0."]
)
def test_describe_refuses_what_it_does_not_know(drop: str) -> None:
    weights = tiny().state_dict()
    weights = {name: value for name, value in weights.items() if not name.startswith(drop)}
    with pytest.raises(InputError, match=r"no network of resnet, resnet2p1d, preresnet, wide"):
        describe(weights)


RESNET_50 = {"model": "resnet", "model_depth": 50, "n_classes": 400}


@pytest.mark.parametrize(
    ("file", "network", "message"),
    [
        (
            {"n_classes": 700},
            {},
            "layer fc.weight has the shape (700, 2048) in the file and (400, 2048) in the network; "
            "the file holds a resnet-50: set n_pretrain_classes: 700 "
            "(n_classes: 700 to keep its last layer)",
        ),
        (
            {"conv1_t_size": 3},
            {},
            "layer conv1.weight has the shape (64, 3, 3, 7, 7) in the file and (64, 3, 7, 7, 7) in "
            "the network; the file holds a resnet-50: set conv1_t_size: 3",
        ),
        (
            {},
            {"model_depth": 18},
            "the file holds a resnet-50: set model_depth: 50",
        ),
        (
            {},
            {"model_depth": 101},
            "layer layer3.6.conv1.weight (256, 1024, 1, 1, 1) of the network is not in the file; "
            "the file holds a resnet-50: set model_depth: 50",
        ),
        (
            {},
            {"model": "densenet", "model_depth": 121},
            "layer features.conv1.weight (64, 3, 7, 7, 7) of the network is not in the file; "
            "the file holds a resnet-50: set model: resnet, model_depth: 50",
        ),
        (
            {"model": "resnet2p1d"},
            {"model": "preresnet", "model_depth": 34, "n_classes": 7},
            "the file holds a resnet2p1d-50: set model: resnet2p1d, model_depth: 50, "
            "n_pretrain_classes: 400 (n_classes: 400 to keep its last layer)",
        ),
        (
            {"resnet_shortcut": "A"},
            {},
            "layer layer1.0.downsample.0.weight (256, 64, 1, 1, 1) of the network is not in the "
            "file; the file holds a resnet-50: set resnet_shortcut: A",
        ),
        (
            {},
            {"resnet_shortcut": "A"},
            "layer layer1.0.downsample.0.weight (256, 64, 1, 1, 1) of the file is not in the "
            "network; the file holds a resnet-50: set resnet_shortcut: B",
        ),
        (
            {"resnet_widen_factor": 0.5},
            {},
            "(32, 3, 7, 7, 7) in the file and (64, 3, 7, 7, 7) in the network; "
            "the file holds a resnet-50: set resnet_widen_factor: 0.5",
        ),
        (
            {"n_input_channels": 2},
            {},
            "(64, 2, 7, 7, 7) in the file and (64, 3, 7, 7, 7) in the network; "
            "the file holds a resnet-50: set input_type: flow",
        ),
        (
            {"model": "wideresnet", "wide_resnet_k": 3},
            {"model": "wideresnet"},
            "the file holds a wideresnet-50: set wide_resnet_k: 3",
        ),
        (
            {"model": "resnext", "resnext_cardinality": 16},
            {"model": "resnext"},
            "the file holds a resnext-50: set resnext_cardinality: 16",
        ),
    ],
)
def test_mismatch(file: dict[str, Any], network: dict[str, Any], message: str) -> None:
    weights = on_meta(**(RESNET_50 | file)).state_dict()
    with pytest.raises(InputError) as raised:
        load_weights(on_meta(**(RESNET_50 | network)), weights, "a.pth")
    assert str(raised.value).startswith("checkpoint a.pth: layer ")
    assert str(raised.value).endswith(message)


def test_a_widen_factor_with_the_same_widths_is_not_advised() -> None:
    weights = on_meta(**RESNET_50, resnet_widen_factor=1 / 3).state_dict()
    model = on_meta(**(RESNET_50 | {"n_classes": 7}), resnet_widen_factor=0.3333)
    with pytest.raises(InputError, match=r"resnet-50: set n_pretrain_classes: 400 \("):
        load_weights(model, weights, "a.pth")


def test_weights_of_another_network() -> None:
    with pytest.raises(InputError, match=r"conv1\.weight .* the file holds no network of resnet"):
        load_weights(tiny(), {"stem.0.weight": torch.ones(2, 2)}, "other.pth")


def test_a_damaged_file_of_the_right_network() -> None:
    model = tiny()
    weights = model.state_dict()
    del weights["layer4.0.bn2.running_var"]
    with pytest.raises(InputError) as raised:
        load_weights(model, weights, "a.pth")
    assert "layer layer4.0.bn2.running_var (32,) of the network is not in" in str(raised.value)
    assert "a damaged resnet-10: no option makes it fit" in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "conv1_t_stride",
            2,
            "conv1_t_stride is 2 in the file and 1 in the network; the file hold",
        ),
        ("no_max_pool", True, "a resnet-10: set no_max_pool: true"),
    ],
)
def test_options_that_no_shape_depends_on(
    tmp_path: Path, option: str, value: Any, message: str
) -> None:
    written = tiny(**{option: value})
    write_checkpoint(
        tmp_path / "a.pth",
        Checkpoint(state_dict=written.state_dict(), architecture=written.architecture),
    )
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert isinstance(checkpoint.architecture, Architecture)
    with pytest.raises(InputError) as raised:
        load_weights(tiny(), checkpoint.state_dict, "a.pth", architecture=checkpoint.architecture)
    assert message in str(raised.value)
    load_weights(
        tiny(**{option: value}),
        checkpoint.state_dict,
        "a.pth",
        architecture=checkpoint.architecture,
    )


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"model": "resnet", "model_depth": 50, "n_classes": 700}, "it is the released resnet-50"),
        ({"model": "resnet", "model_depth": 10, "n_classes": 700}, "its content is another"),
    ],
)
def test_a_mismatch_says_what_a_released_file_is_by_its_name(
    content: dict[str, Any], part: str
) -> None:
    state_dict = on_meta(**content).state_dict()
    here = on_meta(model="resnet", model_depth=18, n_classes=700)
    with pytest.raises(InputError) as caught:
        load_weights(here, state_dict, Path("models/r3d50_K_200ep.pth"))
    message = str(caught.value)
    assert part in message
    assert "released resnet-50 of Kinetics-700" in message
    assert f"set model_depth: {content['model_depth']}" in message
    assert "\n" not in message


def test_a_network_for_pictures_is_none_for_videos():
    """ResNets of torchvision have the names of ours, and kernels without time."""
    from torchvision.models import resnet18

    with pytest.raises(InputError, match="holds no network of"):
        describe(resnet18().state_dict())
