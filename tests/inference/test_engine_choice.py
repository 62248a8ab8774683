"""`engine: auto`: torch, or OpenVINO where that was tried and is faster."""

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_runs import (
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
from torch import distributed as dist

from r3d.annotations.results import read_result
from r3d.config.options import InferenceOptions
from r3d.engines import choosing, on_openvino, stored
from r3d.engines.choosing import Choosing
from r3d.engines.on_torch import OnTorch
from r3d.engines.opening import open_engine

frontend = pytest.importorskip("openvino.frontend")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What these tests convert, they share; what others keep, they do not see."""
    with own_cache(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


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


def auto(net: Any = None, **more: Any) -> Any:
    net = net or network()
    return open_engine(net, InferenceOptions(**TINY), run_options("auto", **more), CPU)


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


@pytest.mark.parametrize("failure", [RuntimeError, MemoryError, frontend.GeneralFailure])
def test_a_failure_is_told_and_openvino_tried_again(
    clock: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: type[Exception],
):
    """Of all networks of this kind, the next time."""

    def fails(*_: Any) -> None:
        raise failure("Exception from core.cpp:84:\nCheck 'a' failed at b.cpp:1:\nno\nmemory\n\n")

    for known in (False, True):
        caplog.clear()
        with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
            patch.setattr(on_openvino, "open_stored" if known else "open_openvino", fails)
            assert chosen(LONG) == "torch"
        (said,) = caplog.messages
        assert said == (
            "engine: auto: torch, for OpenVINO does not compute this network: no memory"
        )
        assert chosen(LONG) == "openvino"


def test_auto_is_torch_where_openvino_cannot_convert(
    clock: dict[str, float], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        engine = auto(unconvertible())
        assert chosen(LONG, engine) == "torch"
    (said,) = caplog.messages
    assert "OpenVINO does not compute this network: " in said
    assert "special_bessel_j0" in said
    assert engine(batch_of(BATCH)).isfinite().all()
    assert chosen(LONG) == "openvino"  # others of this kind


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_outputs_that_are_all_the_same_rule_nothing_out(clock: dict[str, float], value: float):
    odd = network()
    torch.nn.init.zeros_(odd.fc.weight)
    torch.nn.init.constant_(odd.fc.bias, value)
    assert chosen(LONG, auto(odd)) == ("openvino" if value == 0 else "torch")
    assert chosen(LONG) == "openvino"


def test_what_is_known_is_of_one_processor_and_layout(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    """One home may serve machines whose processors share a name."""
    clock["openvino"] = 1.0
    assert chosen(LONG) == "torch"
    clock["openvino"] = 0.5
    assert chosen(LONG) == "torch"
    assert chosen(LONG, auto(memory_format="channels_last")) == "torch"  # as auto is
    assert chosen(LONG, auto(memory_format="contiguous")) == "openvino"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert chosen(LONG) == "openvino"


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
