"""Where a step has run, noted beside its log: each attempt, the memory it took, how it ended."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from r3d.compute.record import read_record, record_of, recorded
from r3d.errors import InputError, Stopped


def ran(log: Path, work: dict[str, Any], error: BaseException | None = None) -> None:
    with recorded(log, work, cores=2, on_gpus=lambda: {"gpus": ["a card"], "gpu_memory_mb": 7}):
        if error is not None:
            raise error


def test_each_attempt_says_where_it_ran_and_how_it_ended(tmp_path: Path):
    log = tmp_path / "logs/train_model/base_01.log"
    crash = RuntimeError("CUDA error")
    for error in (Stopped("told to stop"), InputError("a frame is gone"), crash, None):
        with suppress(Stopped, InputError, RuntimeError):
            ran(log, {"learning_rate": 0.1}, error)
    attempts = read_record(record_of(log))
    assert [attempt["ended"] for attempt in attempts] == [
        *("stopped", "failed", "failed", "finished")
    ]
    for attempt in attempts:
        assert attempt["machine"]
        assert "load" not in attempt["machine"]
        assert attempt["seconds"] >= 0
        assert 10 < attempt["memory_mb"] < 100_000
        assert attempt["cores"] == 2
        assert (attempt["gpus"], attempt["gpu_memory_mb"]) == (["a card"], 7)
        assert attempt["versions"]["torch"]


def test_other_work_begins_a_new_record(tmp_path: Path):
    log = tmp_path / "base.log"
    for rate in (0.1, 0.1, 0.2):
        ran(log, {"learning_rate": rate})
    assert len(read_record(record_of(log))) == 1


def test_an_attempt_that_is_killed_has_begun(tmp_path: Path):
    log = tmp_path / "base.log"
    with recorded(log, {}, cores=1, on_gpus=dict):
        (attempt,) = read_record(record_of(log))
    assert attempt["began"]
    assert (attempt["seconds"], attempt["ended"]) == (None, "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attempts": 3}', '{"attempts": [1, {}]}'])
def test_a_record_that_is_none_is_no_obstacle(tmp_path: Path, text: str):
    log = tmp_path / "base.log"
    record_of(log).write_text(text)
    ran(log, {})
    assert len(json.loads(record_of(log).read_text())["attempts"]) == 1


def test_what_cannot_be_noted_does_not_stop_the_work(tmp_path: Path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    ran(tmp_path / "logs/base.log", {})
