"""Which preempted jobs are brought back, by what squeue says."""

from pathlib import Path

import pytest

from r3d.preemption import preempted_jobs

START = "2026-01-31T12:00:00"
ROWS = """\
7|2026-01-31T12:00:05|rule_train_model|/data/a|b
8_3|2026-01-31T12:00:00|rule_extract_shard|/data/a|b
5|2026-01-31T11:59:59|rule_train_model|/data/a|b
9|2026-01-31T12:00:05|rule_train_model|/data/other
10|2026-01-31T12:00:05|my own job|/data/a|b
11|2026-01-31T12:00:05||/data/a|b
slurm_load_jobs error: Unable to contact slurm controller
"""


def test_only_snakemakes_own_jobs_of_this_run_are_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answer(tmp_path, monkeypatch, ROWS.encode() + b"12|\xff\n")
    assert preempted_jobs("/data/a|b", START) == ["7", "8_3"]


def test_without_an_answer_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preempted_jobs("/data/a|b", START) == []


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: bytes) -> None:
    """Let squeue answer with these rows."""
    (folder / "rows").write_bytes(rows)
    squeue = folder / "squeue"
    squeue.write_text(f'#!/bin/sh\nexec cat "{folder}/rows"\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
