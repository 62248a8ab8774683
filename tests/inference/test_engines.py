"""Engines compute what torch computes, and say in one line where they cannot."""

import dataclasses
import importlib
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from synthetic import LABELS, write_frames
from torch import Tensor
from torch import distributed as dist

from r3d.annotations.results import read_result
from r3d.cli.predict import predict_command
from r3d.clips.loader import ClipBatch
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.engines import calibrating, choosing, on_openvino, stored
from r3d.engines.choosing import Choosing
from r3d.engines.graph import export_graph
from r3d.engines.on_torch import OnTorch
from r3d.engines.opening import device_for, need_engine, open_engine
from r3d.errors import InputError
from r3d.inference import applied
from r3d.inference.features import features
from r3d.inference.infer import infer
from r3d.models.architectures import FAMILIES as FAMILIES_OF_NETWORKS
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

CPU = torch.device("cpu")
CLIPS = {"sample_size": 32, "sample_duration": 8, "inference_stride": 8, "precision": "fp32"}
NETWORK = {"model_depth": 10, "resnet_widen_factor": 0.0625}
TINY: dict[str, Any] = {**NETWORK, **CLIPS}
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
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of 5 videos of 20 frames in each class, and a model."""
    folder = tmp_path_factory.mktemp("data")
    write_frames(folder, n_training=2, n_validation=3, n_frames=20)
    write_checkpoint(
        folder / "model.pth",
        Checkpoint(
            state_dict=network().state_dict(),
            labels=LABELS,
            config=InferenceOptions(**TINY).model_dump(),
            normalisation=input_normalisation(InferenceOptions(**TINY)),
        ),
    )
    return folder


def network(n_classes: int = 2, **options: Any) -> Any:
    """An untrained network of which batch norms do something."""
    torch.manual_seed(0)
    made = build_model(
        n_classes=n_classes, **InferenceOptions(**(options or NETWORK)).network()
    ).eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return made


def batch_of(shape: Sequence[int]) -> ClipBatch:
    """Clips (b, t, h, w, c) of noise."""
    n = shape[0]
    rng = torch.Generator().manual_seed(n)
    return ClipBatch(
        clips=torch.randint(0, 256, tuple(shape), dtype=torch.uint8, generator=rng),
        labels=torch.zeros(n, dtype=torch.long),
        flips=torch.zeros(n, dtype=torch.bool),
        videos=torch.zeros(n, dtype=torch.long),
        segments=torch.zeros(n, 2, dtype=torch.long),
    )


def run_options(engine: str, **more: Any) -> RunOptions:
    return RunOptions(engine=engine, no_cuda=True, n_threads=0, **more)  # type: ignore[arg-type]


def assert_near(found: Tensor, expected: Tensor, part: float) -> None:
    """Within a part of the largest value."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= part * float(expected.abs().max())


def scores(data: Path, output: Path, engine: str, **options: Any) -> np.ndarray:
    """The scores of all videos or clips of the subset, by `r3d infer`."""
    infer(
        InferenceOptions(**{**TINY, "output_topk": 0, **options}),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        model=data / "model.pth",
        output=output,
        batch_size=4,
        run=run_options(engine),
        n_cores=1,
    )
    results = json.loads(output.read_text())["results"].values()
    return np.array(
        [[entry["score"] for entry in sorted(best, key=lambda e: e["label"])] for best in results]
    )


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


# Which one `auto` takes.


BATCH = (2, 8, 32, 32, 3)
LONG = 100
"""Rows for which a second each is worth any trial."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Nothing is known yet, and this is how many seconds each engine takes for a row."""
    shutil.rmtree(choices(), ignore_errors=True)
    monkeypatch.setattr(choosing, "_LONG_SECONDS", 15.0)
    seconds = {"torch": 1.0, "openvino": 0.5}
    monkeypatch.setattr(
        choosing,
        "_seconds",
        lambda engine, batch: len(batch.clips) * seconds[engine.name.partition(" ")[0]],
    )
    return seconds


def auto(**more: Any) -> Any:
    return open_engine(network(), InferenceOptions(**TINY), run_options("auto", **more), CPU)


def chosen(n_rows: int | None, engine: Any = None) -> str:
    """Which engine is chosen for so many rows, in a word."""
    engine = engine or auto()
    engine.choose(batch_of(BATCH), n_rows)
    return str(engine.name.partition(" ")[0])


def choices() -> Path:
    """Where it is kept what came of trials."""
    return stored.folder().with_name("engine_choices")


def test_short_work_is_torchs(clock: dict[str, float], monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(on_openvino, "convert", None)
        assert chosen(15) == "torch"
        assert chosen(None) == "torch"
        nothing = auto()
        nothing.choose(None, 0)
        assert nothing.name.startswith("torch ")
        assert isinstance(auto(deterministic=True), OnTorch)
    assert chosen(16) == "openvino"


def test_auto_takes_what_is_measured_to_be_faster(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    engine = auto()
    with caplog.at_level(logging.INFO):
        assert chosen(LONG, engine) == "openvino"
    assert "openvino is 2.00 times as fast" in caplog.text
    batch = batch_of(BATCH)
    torchs = open_engine(network(), InferenceOptions(**TINY), run_options("torch"), CPU)
    assert_near(engine(batch), torchs(batch), 1e-3)
    # It is known the next time, and that network is converted already.
    monkeypatch.setattr(on_openvino, "convert", None)
    monkeypatch.setattr(choosing, "_seconds", None)
    assert chosen(1) == chosen(None) == "openvino"


def test_another_network_is_converted_where_that_pays(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    """At twice the speed, half of the time is won; 5 seconds are to be."""
    assert chosen(LONG) == "openvino"
    monkeypatch.setattr(on_openvino, "open_stored", lambda *_: None)
    clock["openvino"] = 9.0  # is not measured again
    assert chosen(None) == chosen(10) == "torch"
    assert chosen(11) == "openvino"


def test_auto_keeps_torch_where_nothing_is_gained(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    clock["openvino"] = 0.95
    assert chosen(LONG) == "torch"
    monkeypatch.setattr(choosing, "_seconds", None)
    assert chosen(LONG) == "torch"


def test_auto_keeps_torch_where_results_differ(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    outputs = on_openvino.OnOpenVino.outputs
    with monkeypatch.context() as patch:
        patch.setattr(on_openvino.OnOpenVino, "outputs", lambda *a: 1.1 * outputs(*a))
        assert chosen(LONG) == "torch"
    assert chosen(LONG) == "torch"


def test_auto_is_torch_where_openvino_is_missing(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(on_openvino, "find_spec", lambda name: None)
    assert chosen(LONG) == "torch"


def test_the_measurement_is_real(monkeypatch: pytest.MonkeyPatch):
    shutil.rmtree(choices(), ignore_errors=True)
    monkeypatch.setattr(choosing, "_LONG_SECONDS", 0.0)
    chosen(1)
    (kept,) = choices().iterdir()
    assert 0.02 < json.loads(kept.read_text())[1] < 50


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "known"])
def test_a_result_is_of_one_engine(
    data: Path,
    tmp_path: Path,
    clock: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
):
    """From the first batch on, to the last bit."""
    clock["torch"], clock["openvino"] = 10.0, 1.0
    if is_known:
        scores(data, tmp_path / "before.json", "auto")
        monkeypatch.setattr(choosing, "_seconds", None)
    found = scores(data, tmp_path / "auto.json", "auto", inference_no_average=False)
    assert np.array_equal(found, scores(data, tmp_path / "other.json", "openvino"))
    assert not np.array_equal(found, scores(data, tmp_path / "torch.json", "torch"))
    for name, engine in (("auto", "openvino"), ("torch", "torch")):
        file = tmp_path / f"{name}.json"
        computed = json.loads(file.read_text())["computed"]
        assert computed.startswith(f"{engine} ")
        assert computed.endswith(" in fp32")
        assert len(read_result(file, None, largest_k=1).ranking) == 6


def test_the_number_of_rows_is_that_of_all_views(
    data: Path, tmp_path: Path, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    found: list[int | None] = []
    monkeypatch.setattr(Choosing, "choose", lambda self, batch, n_rows: found.append(n_rows))
    for crop in ("center", "three"):
        scores(data, tmp_path / "result.json", "auto", inference_crop=crop)
    assert found == [18, 54]


def choose_with_others(rank: int, folder: Path) -> str:
    """What one of two processes that work together takes."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        return chosen(1)
    finally:
        dist.destroy_process_group()


def _knows_nothing(folder: Path) -> None:
    """The second of the two, with the networks of the first but without its choices."""
    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(folder)
    (folder / "taken").write_text(choose_with_others(1, folder))


def test_processes_that_work_together_take_the_same(clock: dict[str, float], tmp_path: Path):
    assert chosen(LONG) == "openvino"
    shutil.copytree(stored.folder(), tmp_path / "r3d" / "engines")
    spawn = multiprocessing.get_context("spawn")
    other = spawn.Process(target=_knows_nothing, args=(tmp_path,))
    other.start()
    assert choose_with_others(0, tmp_path) == "openvino"
    other.join()
    assert (tmp_path / "taken").read_text() == "openvino"


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


def test_int8_needs_clips_to_calibrate_on(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="int8: true needs this network calibrated"):
        open_engine(
            network(n_classes=3), InferenceOptions(**TINY, int8=True), run_options("auto"), CPU
        )
    alone = tmp_path / "annotation.json"
    content = json.loads((data / "annotation.json").read_text())
    for entry in content["database"].values():
        entry["subset"] = "validation"
    alone.write_text(json.dumps(content))
    with pytest.raises(InputError, match="training"):
        infer(
            InferenceOptions(**TINY, int8=True),
            annotation=alone,
            frames=data / "jpg",
            model=data / "model.pth",
            output=tmp_path / "val.json",
            run=run_options("auto"),
            n_cores=1,
        )
    assert not (tmp_path / "val.json").exists()


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


def test_a_refusal_is_one_line_of_the_command(data: Path):
    """Before any video is opened."""
    model = str(data / "model.pth")
    result = CliRunner().invoke(
        predict_command, [model, "nothing.avi", "--engine", "onnxruntime", "--precision", "bf16"]
    )
    assert isinstance(result.exception, InputError)
    assert "engine: onnxruntime computes in fp32" in str(result.exception)
