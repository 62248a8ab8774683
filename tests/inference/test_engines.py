"""Engines compute what torch computes, and say in one line where they cannot."""

import dataclasses
import errno
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from engine_runs import (
    CLIPS,
    CPU,
    TINY,
    assert_near,
    batch_of,
    network,
    own_cache,
    run_options,
    scores,
    unconvertible,
    write_data,
)
from torch import Tensor

from r3d.cli.predict import predict_command
from r3d.clips.loader import ClipBatch
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.engines import calibrating, on_onnxruntime, on_openvino, stored
from r3d.engines.graph import export_graph
from r3d.engines.on_torch import OnTorch
from r3d.engines.opening import Calibration, device_for, need_engine, open_engine
from r3d.errors import InputError
from r3d.inference import applied
from r3d.inference.features import features
from r3d.models.architectures import FAMILIES as FAMILIES_OF_NETWORKS
from r3d.models.building import build_model

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

FAMILIES: list[dict[str, Any]] = [
    {"model": "resnet", "model_depth": 18, "resnet_shortcut": "A", "resnet_widen_factor": 0.125},
    {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.125, "input_type": "flow"},
    {"model": "resnet2p1d", "model_depth": 10, "resnet_widen_factor": 0.125},
    {"model": "preresnet", "model_depth": 10, "resnet_widen_factor": 0.125},
    {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1},
    {"model": "resnext", "model_depth": 50, "resnext_cardinality": 8},
    {"model": "densenet", "model_depth": 121},
]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What these tests convert, they share; what others keep, they do not see."""
    with own_cache(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("crop", ["center", "nocrop", "three"])
def test_another_engine_gives_the_same_scores(data: Path, tmp_path: Path, engine: str, crop: str):
    expected = scores(data, tmp_path / "1.json", "torch", inference_crop=crop)
    found = scores(data, tmp_path / "2.json", engine, inference_crop=crop)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert expected.std() > 0.01


def test_bf16_scores_are_within_a_hundredth(data: Path, tmp_path: Path):
    expected = scores(data, tmp_path / "1.json", "torch")
    found = scores(data, tmp_path / "2.json", "openvino", precision="bf16")
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert np.abs(found - expected).max() > 1e-7  # it is not fp32


@pytest.mark.parametrize("options", FAMILIES, ids=lambda o: f"{o['model']}-{len(o)}")
def test_every_family_is_computed_at_any_size(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    family = FAMILIES_OF_NETWORKS[options["model"]]
    if options["model_depth"] > 18:  # more blocks of the same kind take time only
        shallow = dataclasses.replace(family, blocks={options["model_depth"]: (2, 1, 2, 1)})
        monkeypatch.setitem(FAMILIES_OF_NETWORKS, options["model"], shallow)
    chosen = InferenceOptions(**CLIPS, **options)
    net = network(**options)
    plain = OnTorch(network(**options), chosen, CPU, torch.float32, "auto")
    other = open_engine(net, chosen, run_options("openvino"), CPU)
    channels = chosen.n_input_channels
    for n, height, width in ((1, 32, 32), (3, 32, 32), (2, 33, 47), (1, 64, 40)):
        batch = batch_of((n, 8, height, width, channels))
        assert_near(other(batch), plain(batch), 1e-4)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_features_are_those_of_torch(data: Path, tmp_path: Path, engine: str):
    found = {}
    for name in ("torch", engine):
        features(
            InferenceOptions(**TINY),
            annotation=data / "annotation.json",
            frames=data / "jpg",
            model=data / "model.pth",
            output=tmp_path / f"{name}.npz",
            run=run_options(name),
            n_cores=1,
        )
        with np.load(tmp_path / f"{name}.npz") as file:
            found[name] = file["features"]
    np.testing.assert_allclose(found[engine], found["torch"], rtol=1e-3, atol=1e-4)
    assert found["torch"].shape[1] > 2


def test_golden_logits(shared: Path):
    """What the reference computes, OpenVINO computes: golden clips are given as they are."""
    from models.test_models import OPTIONS, drawn, generator  # the recipe of the golden values

    entry = json.loads((shared / "golden" / "models.json").read_text())[0]
    options = {OPTIONS.get(name, name): value for name, value in entry["options"].items()}
    shape = {name: entry[name] for name in ("model", "model_depth", "n_classes")}
    net = build_model(**shape, n_input_channels=entry["n_input_channels"], **options)
    net.load_state_dict({name: drawn(name, value) for name, value in net.state_dict().items()})
    size, duration, channels = (
        entry[name] for name in ("sample_size", "sample_duration", "n_input_channels")
    )
    clips = generator("input").standard_normal((2, channels, duration, size, size))
    as_they_are = {"mean": [0.0] * channels, "std": [1.0] * channels, "value_scale": 255}
    program = export_graph(
        net.eval(), as_they_are, clip_shape=(duration, 0, 0, channels), pixels="float32"
    )
    import openvino

    engine = on_openvino.OnOpenVino(openvino.convert_model(program), torch.float32)
    pixels = torch.from_numpy(clips.astype(np.float32)).permute(0, 2, 3, 4, 1)
    logits = engine.outputs(pixels)
    expected = torch.tensor(entry["logits_first8"])
    assert_near(logits[:, :8], expected, 1e-3)
    assert logits.argmax(dim=1).tolist() == entry["argmax"]


def test_a_second_opening_converts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options, batch = InferenceOptions(**TINY), batch_of((2, 8, 32, 32, 3))
    run = run_options("openvino")
    expected = open_engine(network(), options, run, CPU)(batch)
    convert = on_openvino.convert
    monkeypatch.setattr(on_openvino, "convert", None)
    assert torch.equal(open_engine(network(), options, run, CPU)(batch), expected)
    # Other weights are another network.
    other = network()
    other.fc.bias.data += 1
    monkeypatch.setattr(on_openvino, "convert", convert)
    assert_near(open_engine(other, options, run, CPU)(batch), expected + 1, 1e-4)
    # What is broken is made again.
    for entry in stored.folder().iterdir():
        (entry / "model.xml").write_text("<net")
        (entry / "model.bin").write_bytes(b"")
    assert torch.equal(open_engine(network(), options, run, CPU)(batch), expected)
    # Without a cache it computes, too.
    shutil.rmtree(tmp_path / "r3d")
    (tmp_path / "r3d").write_text("in the way")
    assert torch.equal(open_engine(network(), options, run, CPU)(batch), expected)


def test_what_is_kept_outlives_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options, run = InferenceOptions(**TINY), run_options("openvino")
    open_engine(network(), options, run, CPU)

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(on_openvino.OnOpenVino, "__init__", fails)
        with pytest.raises(RuntimeError, match="no memory"):
            open_engine(network(), options, run, CPU)
    monkeypatch.setattr(on_openvino, "convert", None)
    open_engine(network(), options, run, CPU)


def test_another_version_of_what_makes_graphs_makes_its_own(monkeypatch: pytest.MonkeyPatch):
    normalisation = input_normalisation(InferenceOptions(**TINY))
    known = version
    before = stored.network_digest(network(), normalisation)
    assert stored.network_digest(network(), normalisation) == before
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0")
        assert stored.network_digest(network(), normalisation) != before
    for package, entry in (
        ("r3d", lambda: stored.network_digest(network(), normalisation)),
        ("nncf", lambda: calibrating._entry("a", 8, "clips")),
    ):
        before = entry()
        with monkeypatch.context() as patch:
            for module in (stored, calibrating):
                patch.setattr(
                    module, "version", lambda name, p=package: "99.0" if name == p else known(name)
                )
            assert entry() != before


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_entry_of_someone_else_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
):
    """Where the time of use cannot be noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options, run = InferenceOptions(**TINY), run_options(engine)
    open_engine(network(), options, run, CPU)

    def refuses(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", refuses)
    for module in (on_openvino, on_onnxruntime):
        monkeypatch.setattr(module, "export_graph", None)
    open_engine(network(), options, run, CPU)


@pytest.mark.parametrize("version", ["2026.4.1-21234-abc", "2026.10.0-21234", "2026.4.1"])
def test_an_entry_has_the_version_without_its_build(monkeypatch: pytest.MonkeyPatch, version: str):
    monkeypatch.setattr(on_openvino._openvino(), "__version__", version)
    assert on_openvino.entry_of("a", 8, "int8").name == f"a-8-openvino-{version.split('-')[0]}-int8"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(stored, "_MOST_BYTES", 250)
    for name in ("a", "b", "c"):
        path = stored.entry(name, "x")
        assert stored.write_entry(path, lambda folder: (folder / "f").write_bytes(b"0" * 100))
        time.sleep(0.02)
        stored.use_entry(stored.entry("a", "x"))
        time.sleep(0.02)
    assert sorted(path.name for path in stored.folder().iterdir()) == ["a-x", "c-x"]


def test_threads_are_those_that_torch_has():
    """One thread takes no more time of processors than passes."""
    engine = open_engine(network(), InferenceOptions(**TINY), run_options("openvino"), CPU)
    batch = batch_of((8, 8, 64, 64, 3))
    engine(batch)
    process = psutil.Process()
    begin, used = time.perf_counter(), sum(process.cpu_times()[:2])
    while time.perf_counter() < begin + 0.5:
        engine(batch)
    used, passed = sum(process.cpu_times()[:2]) - used, time.perf_counter() - begin
    assert used < 1.25 * passed


INTERRUPTED = """
import os, signal, sys, time
import openvino, torch
from openvino import opset13
from r3d.engines.on_openvino import OnOpenVino
parameter = opset13.parameter([1, 4], openvino.Type.f32)
graph = openvino.Model([opset13.relu(parameter)], [parameter])
first, second = (OnOpenVino(graph, torch.float32) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
os.kill(os.getpid(), signal.SIGINT)
time.sleep(5)
"""


def test_signals_are_handled_after_engines_are_gone():
    """The stack that OpenVINO has given them is there."""
    assert subprocess.run([sys.executable, "-c", INTERRUPTED], timeout=60).returncode == 7


def test_of_several_at_once_one_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    converted = []
    convert = on_openvino.convert

    def slowly(*arguments: Any) -> Any:
        converted.append(arguments)
        time.sleep(0.5)
        return convert(*arguments)

    monkeypatch.setattr(on_openvino, "convert", slowly)
    options = InferenceOptions(**TINY)
    with ThreadPoolExecutor(2) as pool:
        opened = [
            pool.submit(open_engine, network(), options, run_options("openvino"), CPU)
            for _ in range(2)
        ]
    assert len({engine.result().name for engine in opened}) == 1
    assert len(converted) == 1


# int8.


def test_int8_is_calibrated_on_the_training_clips_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("nncf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = scores(data, tmp_path / "1.json", "torch")
    # Of two classes that an untrained network gives nearly the same, the best one may change.
    monkeypatch.setattr(calibrating, "_MOST_LOST", 1.0)
    monkeypatch.setattr(calibrating, "_LEAST_AGREEING", 0.0)
    with caplog.at_level(logging.INFO):
        found = scores(data, tmp_path / "2.json", "auto", int8=True)
    assert "calibrated on 12 clips; on 18 others top-1 " in caplog.text
    assert " in int8" in caplog.text
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert np.abs(found - expected).max() > 1e-4  # it is not fp32
    monkeypatch.setattr(on_openvino, "quantize", None)
    assert np.array_equal(scores(data, tmp_path / "3.json", "openvino", int8=True), found)
    # Who has no training clips takes what is kept.
    alone = open_engine(network(), InferenceOptions(**TINY, int8=True), run_options("auto"), CPU)
    assert alone.name.endswith(" in int8")
    # What it costs on other clips, or beside another precision, is not known yet.
    compared = []
    compare = calibrating.compare
    monkeypatch.setattr(
        calibrating, "compare", lambda *a, **k: (compared.append(a), compare(*a, **k))[1]
    )
    content = json.loads((data / "annotation.json").read_text())
    content["database"].pop(
        next(n for n, e in content["database"].items() if e["subset"] != "training")
    )
    (tmp_path / "jpg").symlink_to(data / "jpg")
    shutil.copy(data / "model.pth", tmp_path)
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    for _ in range(2):
        scores(tmp_path, tmp_path / "4.json", "openvino", int8=True)
        assert len(compared) == 1
    for _ in range(2):
        scores(tmp_path, tmp_path / "5.json", "openvino", int8=True, precision="bf16")
        assert len(compared) == 2


def test_int8_is_compared_by_the_names_of_classes():
    """The annotation may have other classes than the model, in another order."""
    batch = batch_of((4, 8, 4, 4, 3))._replace(labels=torch.tensor([0, 1, 2, -1]))
    (found,) = applied._with_outputs([batch], ["b", "other", "a"], ["a", "b", "c"])
    assert found.labels.tolist() == [1, -1, 0, -1]

    def right(batch: ClipBatch) -> Tensor:
        return torch.tensor([[0, 9, 0], [0, 0, 9], [9, 0, 0], [0, 0, 9]], dtype=torch.float32)

    report = calibrating.compare(right, right, [found], calibrated_on=4)  # type: ignore[arg-type]
    assert (report.top1_int8, report.top1_fp32, report.agreeing) == (1, 1, 1)


def test_int8_that_costs_accuracy_is_refused(caplog: pytest.LogCaptureFixture):
    good = calibrating.Report(100, 64, 0.99, 0.02, top1_int8=0.9, top1_fp32=0.9)
    calibrating.need_accuracy(good)
    assert not caplog.records
    calibrating.need_accuracy(good.__class__(100, 64, 0.97, 0.02, 0.88, 0.9))
    assert "top-1 0.880 (fp32: 0.900)" in caplog.text
    for bad in (
        calibrating.Report(100, 64, 0.9, 0.3, top1_int8=0.8, top1_fp32=0.9),
        calibrating.Report(100, 64, 0.5, 0.3, top1_int8=None, top1_fp32=None),
        calibrating.Report(100, 64, 0.5, 0.3, top1_int8=0.12, top1_fp32=0.12),
        calibrating.Report(100, 64, 1.0, float("nan"), top1_int8=0.9, top1_fp32=0.9),
    ):
        with pytest.raises(InputError, match=r"int8: true costs .* accepted: int8: false"):
            calibrating.need_accuracy(bad)


def test_int8_needs_clips_to_calibrate_on():
    with pytest.raises(InputError, match="int8: true needs this network calibrated"):
        open_engine(
            network(n_classes=3), InferenceOptions(**TINY, int8=True), run_options("auto"), CPU
        )


def test_int8_without_training_videos_takes_what_was_calibrated(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `r3d predict` does; where nothing was, it says what to do, which works."""
    pytest.importorskip("nncf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibrating, "_MOST_LOST", 1.0)
    monkeypatch.setattr(calibrating, "_LEAST_AGREEING", 0.0)
    content = json.loads((data / "annotation.json").read_text())
    content["database"] = {
        name: entry for name, entry in content["database"].items() if entry["subset"] != "training"
    }
    (tmp_path / "jpg").symlink_to(data / "jpg")
    shutil.copy(data / "model.pth", tmp_path)
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"int8: true needs .* r3d infer --int8 with .* training and validation"
    ) as refused:
        scores(tmp_path, tmp_path / "1.json", "auto", int8=True)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "1.json").exists()
    expected = scores(data, tmp_path / "2.json", "auto", int8=True)
    monkeypatch.setattr(on_openvino, "quantize", None)
    assert np.array_equal(scores(tmp_path, tmp_path / "1.json", "auto", int8=True), expected)


def test_features_are_not_computed_in_int8(data: Path, tmp_path: Path):
    features(
        InferenceOptions(**TINY, int8=True),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        model=data / "model.pth",
        output=tmp_path / "features.npz",
        run=run_options("torch"),
        n_cores=1,
    )
    assert (tmp_path / "features.npz").exists()


# What is refused.


@pytest.mark.parametrize(
    ("package", "engine", "int8", "extra"),
    [
        ("openvino", "openvino", False, "openvino"),
        ("openvino", "auto", True, "openvino"),
        ("nncf", "auto", True, "openvino"),
        ("onnxruntime", "onnxruntime", False, "onnxruntime"),
        ("onnxscript", "onnxruntime", False, "onnxruntime"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, package: str, engine: str, int8: bool, extra: str
):
    find, load = importlib.util.find_spec, importlib.import_module

    def load_other(name: str) -> Any:
        if name == package:
            raise ModuleNotFoundError(name)
        return load(name)

    monkeypatch.setattr(
        on_openvino, "find_spec", lambda name: None if name == package else find(name)
    )
    monkeypatch.setattr("r3d.engines.onnxfiles.import_module", load_other)
    with pytest.raises(
        InputError, match=rf"needs the package {package}: pip install 'r3d\[{extra}"
    ):
        need_engine(InferenceOptions(**TINY, int8=int8), run_options(engine), CPU)
    # torch goes on without them.
    need_engine(InferenceOptions(**TINY), run_options("auto"), CPU)
    assert (
        "torch " in open_engine(network(), InferenceOptions(**TINY), run_options("torch"), CPU).name
    )


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_of_the_cpu_refuse_a_gpu(engine: str):
    with pytest.raises(InputError, match=f"engine: {engine} computes on the CPU.*no_cuda: true"):
        need_engine(InferenceOptions(), RunOptions(engine=engine), torch.device("cuda"))
    with pytest.raises(InputError, match=r"int8: true computes on the CPU.*no_cuda: true"):
        need_engine(InferenceOptions(int8=True), RunOptions(), torch.device("cuda"))


@pytest.mark.parametrize(
    ("options", "run"),
    [({}, {"engine": "openvino"}), ({}, {"engine": "onnxruntime"}), ({"int8": True}, {})],
)
def test_nobody_waits_for_a_gpu_that_is_refused_then(monkeypatch, tmp_path, options, run):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Made-Up (UUID: GPU-0e0e)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("r3d.compute.device.take_cards", lambda *_: pytest.fail("it waits"))
    with pytest.raises(InputError, match=r"computes on the CPU.*no_cuda: true"):
        device_for(InferenceOptions(**options), RunOptions(**run))
    # With the remedy it computes there.
    assert device_for(InferenceOptions(**options), RunOptions(**run, no_cuda=True)) == CPU


def test_what_an_engine_does_not_compute_in_is_refused():
    with pytest.raises(InputError, match="engine: onnxruntime computes in fp32"):
        need_engine(InferenceOptions(precision="bf16"), run_options("onnxruntime"), CPU)
    for engine in ("torch", "onnxruntime"):
        with pytest.raises(InputError, match=f"int8: true goes with .* not {engine}"):
            need_engine(InferenceOptions(int8=True), run_options(engine), CPU)


@pytest.mark.parametrize(
    ("asked", "int8", "remedy"),
    [
        ("engine: openvino", False, "engine: torch"),
        ("int8: true", True, "int8: false with engine: torch"),
    ],
)
def test_a_network_that_openvino_cannot_convert_is_refused(asked: str, int8: bool, remedy: str):
    pytest.importorskip("nncf")
    batch = batch_of((2, 8, 32, 32, 3))
    clips = Calibration(lambda: [batch], lambda: [batch])
    options = InferenceOptions(**TINY, int8=int8)
    with pytest.raises(
        InputError, match=rf"^{asked}: OpenVINO .* cannot convert .*bessel"
    ) as found:
        open_engine(unconvertible(), options, run_options("openvino"), CPU, clips)
    assert str(found.value).endswith(f"; accepted for it: {remedy}")
    assert "\n" not in str(found.value)
    # With the remedy it computes.
    options = InferenceOptions(**TINY)
    engine = open_engine(unconvertible(), options, run_options("torch"), CPU)
    assert engine(batch).isfinite().all()


def test_a_refusal_is_one_line_of_the_command(data: Path):
    """Before any video is opened."""
    model = str(data / "model.pth")
    result = CliRunner().invoke(
        predict_command, [model, "nothing.avi", "--engine", "onnxruntime", "--precision", "bf16"]
    )
    assert isinstance(result.exception, InputError)
    assert "engine: onnxruntime computes in fp32" in str(result.exception)
