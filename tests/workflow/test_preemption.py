"""Which preempted jobs are brought back, by what squeue says."""

from pathlib import Path

import pytest

from r3d.workflow.preemption import preempted_jobs, requeue_preempted_jobs

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


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others on the path, for programs that stand for SLURM's."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def say(folder: Path, name: str, text: bytes, *, status: int = 0) -> None:
    """Let a program say something, and exit with a status."""
    (folder / f"{name}.txt").write_bytes(text)
    program = folder / name
    program.write_text(f'#!/bin/sh\ncat "{folder}/{name}.txt"\nexit {status}\n')
    program.chmod(0o755)


def test_only_snakemakes_own_jobs_of_this_run_are_brought_back(programs: Path):
    say(programs, "squeue", ROWS.encode() + b"12|\xff\n")
    assert preempted_jobs("/data/a|b", START) == ["7", "8_3"]


def test_an_answer_of_squeue_that_fails_is_none(programs: Path):
    say(programs, "squeue", ROWS.encode(), status=1)
    assert preempted_jobs("/data/a|b", START) == []


def test_a_refusal_is_told_of_once_and_tried_again(
    programs: Path, capsys: pytest.CaptureFixture[str]
):
    say(programs, "squeue", ROWS.splitlines()[0].encode())
    say(programs, "scontrol", b"Requested operation is\n disabled\n", status=1)
    told: set[str] = set()

    def said() -> str:
        requeue_preempted_jobs("/data/a|b", START, told)
        return capsys.readouterr().err

    reason = "it cannot be put back into the queue: Requested operation is disabled"
    assert said() == f"SLURM job 7 was preempted; {reason}\n"
    assert said() == ""
    say(programs, "scontrol", b"")
    assert said() == "SLURM job 7 was preempted; it is put back into the queue\n"
