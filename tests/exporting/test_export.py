"""Exported models: they compute what the checkpoint does, or are not handed over."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from miniatures import Videos

from r3d.cli.exporting import export_command
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions
from r3d.errors import InputError
from r3d.exporting import export as exporting
from r3d.exporting.export import export
from r3d.inference.trained import TrainedModel, load_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

TINY: dict[str, Any] = {"model_depth": 10, "resnet_widen_factor": 0.0625}
CLIP: dict[str, Any] = {"sample_size": 32, "sample_duration": 8}
LABELS = ["wave", "clap", "naïve '\"\\ 舞"]

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {**TINY, "resnet_shortcut": "A"},
    "flow": {**TINY, "input_type": "flow", "conv1_t_stride": 2, "no_max_pool": True},
    "bottlenecks": {"model_depth": 50, "resnet_widen_factor": 0.0625, "conv1_t_size": 3},
    "resnet2p1d": {"model": "resnet2p1d", **TINY},
    "preresnet": {"model": "preresnet", **TINY},
    "wideresnet": {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1},
    "resnext": {"model": "resnext", "model_depth": 50, "resnext_cardinality": 1},
    "resnetrs": {"model": "resnetrs", "model_depth": 50, "resnet_widen_factor": 0.0625},
    "densenet": {"model": "densenet", "model_depth": 121},
}


def write_model(path: Path, labels: list[str] | None = LABELS, **given: Any) -> TrainedModel:
    torch.manual_seed(1)
    options = InferenceOptions(**CLIP, **given)
    network = build_model(n_classes=3, **options.network())
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # what was trained is not the identity
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    checkpoint = Checkpoint(
        state_dict=network.state_dict(),
        architecture=network.architecture,
        config=options.model_dump(),
        labels=labels,
        normalisation=input_normalisation(options),
        epoch=7,
    )
    write_checkpoint(path, checkpoint)
    return load_model(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return write_model(tmp_path_factory.mktemp("model") / "model.pth", **TINY)


def frames_of(model: TrainedModel) -> np.ndarray:
    """Frames that are neither rendered nor decoded, of clips side by side."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (3 * 8, 32, 32, model.options.n_input_channels), np.uint8)


def logits_of(model: TrainedModel, frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        inputs = model.frames_input(frames)
        return model.network(torch.cat([part[None] for part in inputs])).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_computes_the_same_elsewhere(tmp_path: Path, name: str):
    options = {**NETWORKS[name], "inference_stride": 8}
    model = write_model(tmp_path / "model.pth", **options)
    frames = frames_of(model)
    pixels = frames.reshape(3, 8, *frames.shape[1:])
    expected = logits_of(load_model(tmp_path / "model.pth", inference_stride=8), frames)
    assert expected.shape == (3, 3)

    said = export(model, tmp_path / "model.pt2")
    assert "(accepted: 1e-04)" in said
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        for n in (1, 2, 3):  # any number of clips at a time
            found = program(torch.from_numpy(pixels[:n])).numpy()
            np.testing.assert_allclose(found, expected[:n], rtol=1e-3, atol=1e-4)

    export(model, tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for n in (1, 2, 3):
        (found,) = session.run(["logits"], {"pixels": pixels[:n]})
        np.testing.assert_allclose(found, expected[:n], rtol=1e-3, atol=1e-4)

    export(model, tmp_path / "folder")
    again = load_model(tmp_path / "folder", inference_stride=8)
    assert again.network.architecture == model.network.architecture
    assert np.array_equal(logits_of(again, frames), expected)


def test_graphs_name_their_classes_and_what_they_take(tmp_path: Path, model: TrainedModel):
    export(model, tmp_path / "a.pt2")
    export(model, tmp_path / "a.onnx", pixels="float32")
    extra = {"r3d.json": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    known = json.loads(extra["r3d.json"])
    assert known["labels"] == LABELS
    assert known["input"].startswith("pixels: uint8 from 0 to 255, (batch, 8, 32, 32, 3)")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == LABELS
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == (
        "pixels",
        "tensor(float)",
        ["batch", 8, 32, 32, 3],
    )
    assert (given.name, given.shape) == ("logits", ["batch", 3])


def test_a_model_that_does_not_name_its_classes(tmp_path: Path):
    model = write_model(tmp_path / "model.pth", labels=None, **TINY)
    export(model, tmp_path / "a.onnx")
    export(model, tmp_path / "folder")
    assert (
        "labels"
        not in onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    )
    assert "label_names" not in json.loads((tmp_path / "folder/config.json").read_text())
    assert load_model(tmp_path / "folder").labels is None


def test_a_folder_is_timms_and_tells_all(tmp_path: Path):
    given = {**TINY, "sample_t_stride": 2, "value_scale": 255, "mean_dataset": "activitynet"}
    model = write_model(tmp_path / "model.pth", **given)
    export(model, tmp_path / "new/folder/", checkpoint=read_checkpoint(tmp_path / "model.pth"))
    folder = tmp_path / "new/folder"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    cfg = config["pretrained_cfg"]
    assert (config["architecture"], config["num_classes"], config["num_features"]) == (
        *("resnet-10", 3),
        32,
    )
    assert config["label_names"] == LABELS
    assert cfg["input_size"] == [3, 8, 32, 32]
    # Of pixels from 0 to 1, whatever the scale of the training.
    assert cfg["mean"] == pytest.approx([0.4477, 0.4209, 0.3906])
    assert cfg["std"] == pytest.approx([0.2767, 0.2695, 0.2714])
    assert (cfg["interpolation"], cfg["crop_mode"], cfg["crop_pct"]) == ("bilinear", "center", 1)
    assert (cfg["classifier"], cfg["first_conv"]) == ("fc", "conv1")
    for path in (folder, folder / "model.safetensors"):
        again = load_model(path)
        assert again.labels == LABELS
        assert again.options == model.options
        assert read_checkpoint(path).epoch == 7


@pytest.mark.parametrize("model_name", ["resnet2p1d", "densenet"])
def test_layers_that_have_other_names(tmp_path: Path, model_name: str):
    export(write_model(tmp_path / "model.pth", **NETWORKS[model_name]), tmp_path / "folder")
    cfg = json.loads((tmp_path / "folder/config.json").read_text())["pretrained_cfg"]
    weights = read_checkpoint(tmp_path / "folder").state_dict
    assert f"{cfg['first_conv']}.weight" in weights
    assert f"{cfg['classifier']}.weight" in weights


def test_a_network_that_sees_no_motion_sees_none_elsewhere(tmp_path: Path):
    model = write_model(tmp_path / "model.pth", **TINY, frozen=True)
    pixels = frames_of(model).reshape(3, 8, 32, 32, 3)
    still = np.repeat(pixels[:, :1], 8, axis=1)
    export(model, tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    with torch.no_grad():
        assert torch.equal(*(program(torch.from_numpy(part)) for part in (pixels, still)))
    export(model, tmp_path / "folder")
    assert load_model(tmp_path / "folder").options.frozen


def test_clips_of_videos(tmp_path: Path, model: TrainedModel):
    Videos(tmp_path / "kinds").put(tmp_path / "video.mp4", seconds=3)
    said = export(model, tmp_path / "a.pt2", videos=[tmp_path / "video.mp4"])
    assert "its scores of 2 clips of 1 video are the checkpoint's" in said
    with pytest.raises(InputError, match=r"none\.mp4: missing"):
        export(model, tmp_path / "b.pt2", videos=[tmp_path / "none.mp4"])
    assert not (tmp_path / "b.pt2").exists()


def test_an_experiment_is_compared_on_videos_of_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those that can be decoded; any other model on rendered clips, which is said."""
    monkeypatch.chdir(tmp_path)
    write_model(Path("results/experiments/mine/all/model.pth"), **TINY)
    Videos(tmp_path / "kinds").put(Path("videos/b/video.mp4").absolute(), seconds=1)
    Path("videos/a").mkdir()
    Path("videos/a/broken.mp4").write_text("no video")
    Path("own.yaml").write_text(
        "datasets: {own: {format: folders, lists: videos, videos: videos, frames: frames}}\n"
        "experiments: {mine: {dataset: own}}\n"
    )
    words = ["--output", "folder", "--configfile", "own.yaml"]
    said = CliRunner().invoke(export_command, ["mine", *words]).output
    assert re.search(r"scores of \d clips of 1 video are the checkpoint's", said), said
    said = (
        CliRunner()
        .invoke(export_command, ["results/experiments/mine/all/model.pth", "--output", "other"])
        .output
    )
    assert "rendered clips (no video is given) are the checkpoint's" in said


@pytest.mark.parametrize("output", ["a.pt2", "a.onnx", "a/"])
def test_what_computes_something_else_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
):
    model = write_model(tmp_path / "model.pth", **TINY)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patched:
        if output == "a/":
            # Weights that are whole and wrong: of the digest they know nothing.
            right = exporting.write_model_files

            def wrong(weights: Path, config: Path, checkpoint: Checkpoint, **rest: Any) -> None:
                checkpoint.state_dict["fc.bias"] = checkpoint.state_dict["fc.bias"] + 0.01
                right(weights, config, checkpoint, **rest)

            patched.setattr(exporting, "write_model_files", wrong)
        else:
            normalisation = input_normalisation(model.options)
            slightly = {**normalisation, "mean": [m + 0.01 for m in normalisation["mean"]]}
            patched.setattr("r3d.exporting.graph.input_normalisation", lambda _: slightly)
        with pytest.raises(InputError, match=r"not handed over, and nothing .* accepted: up to 1e"):
            export(model, output)
    assert sorted(tmp_path.rglob("*")) == before
    export(model, output)
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("r3d.exporting.checking.TOLERANCE", -1.0)
    with pytest.raises(InputError, match="nothing was written"):
        export(model, output)
    assert made == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_scores_that_are_no_numbers(tmp_path: Path, model: TrainedModel):
    model = write_model(tmp_path / "model.pth", **TINY)
    with torch.no_grad():
        model.network.fc.weight.mul_(1e38)
        model.network.fc.weight.mul_(1e38)
    with pytest.raises(InputError, match=r"scores of .* are not finite"):
        export(model, tmp_path / "a.pt2")


@pytest.mark.parametrize(
    ("output", "package"),
    [
        *(("a.onnx", name) for name in ("onnx", "onnxscript", "onnxruntime")),
        ("folder", "safetensors"),
    ],
)
def test_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: TrainedModel, output: str, package: str
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs the package {package}: pip install 'r3d\[export"):
        export(model, tmp_path / output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.pth", r"\.pth is no format to export to; accepted: NAME.pt2, NAME.onnx, or a folder"),
        ("file/a.onnx", "file is a file; give a path below folders only"),
        ("/proc/a.onnx", "/proc takes no files; choose another place"),
        ("/proc/folder", "/proc takes no files; choose another place"),
        ("", "holds other things, such as file; give a model a folder of its own, such as"),
        ("other", "holds other things, such as config.json"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, model: TrainedModel, output: str, message: str):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    for name in ("config.json", "model.safetensors"):  # of another program
        (tmp_path / "other" / name).write_text("{}")
    with pytest.raises(InputError, match=message):
        export(model, tmp_path / output)
