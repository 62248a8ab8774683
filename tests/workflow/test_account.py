"""What is printed of a run: by records as Snakemake makes them, and by small workflows."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running import ALL_OF_SNAKEMAKE, ROOT

from r3d.workflow.joblogs import ending
from snakemake_logger_plugin_r3d.account import Account


class Said:
    """An account, what it has said, and the seconds of its clock."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.account = Account(self.lines.append, clock=lambda: self.now, **options)

    def tell(self, event: str | None, message: str = "", level: int = logging.INFO, **fields: Any):
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        vars(record).update(fields, created=self.now)
        if event:
            vars(record)["event"] = SimpleNamespace(value=event)
        self.account.take(record)

    def plan(self, **stats: int) -> None:
        self.tell("run_info", stats={**stats, "total": sum(stats.values())})

    def start(self, number: int, rule: str, **fields: Any) -> None:
        wildcards = {"experiment": "scratch", "split": f"{number:02d}"}
        given = {"wildcards": wildcards, "output": ["x"], "reason": "", **fields}
        self.tell("job_info", jobid=number, rule_name=rule, **given)

    def finish(self, number: int, done: int, total: int) -> None:
        self.tell("job_finished", job_id=number)
        self.tell("progress", done=done, total=total)

    def fail(self, number: int, rule: str, *logs: Path, told: str | None = None) -> None:
        fields = {"rule_name": rule, "log": list(map(str, logs)), "rule_msg": told}
        self.tell("job_error", jobid=number, **fields)


def log(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"2026-01-31 12:00:00,123 {line}\n" for line in lines))
    return path


def test_a_line_a_job_with_what_it_is_about_and_how_long_it_took():
    said = Said()
    said.plan(train_model=2, all=1)
    said.start(1, "train_model")
    said.now = 192
    said.finish(1, 1, 12)
    said.start(0, "all", output=[], wildcards={})
    said.finish(0, 2, 12)
    assert said.lines == [
        "3 jobs: 2 train_model, 1 all",
        "[ 1/12] train_model scratch/01  3 min 12 s",
    ]


@pytest.mark.parametrize("n", [256, 2000])
def test_many_shards_are_a_few_lines(n: int):
    said = Said()
    said.plan(extract_shard=n, train_model=1)
    for number in range(n):
        said.start(number, "extract_shard", wildcards={"dataset": "d", "shard": f"{number:04d}"})
        said.now += 7
        said.finish(number, number + 1, n + 1)
    said.start(n, "train_model")
    said.finish(n, n + 1, n + 1)
    said.account.end()
    assert len(said.lines) <= 13
    assert said.lines[-2].startswith(f"[{n}/{n + 1}] extract_shard: {n} of {n}  ")
    assert said.lines[-1].endswith(f"train_model scratch/{n:02d}  0 s")


def test_many_trainings_are_a_line_each():
    said = Said()
    said.plan(train_model=30)
    for number in range(30):
        said.start(number, "train_model")
        said.now += 100
        said.finish(number, number + 1, 30)
    assert sum("train_model scratch/" in line for line in said.lines) == 30


def test_a_long_silence_names_what_is_at_work():
    said = Said()
    said.start(1, "train_model")
    for said.now in range(0, 12 * 3600, 5):
        said.account.tell_of_long_jobs()
    first = "at work: train_model scratch/01 (1 min 0 s); epochs and time left: r3d status"
    assert said.lines[0] == first
    assert len(said.lines) < 20


def test_what_failed_is_said_once_with_the_end_of_its_log(tmp_path: Path):
    said = Said()
    said.plan(train_model=4)
    for number in range(4):
        said.start(number, "train_model")
    one = log(tmp_path / "one.log", "begun", "error: no frames; make them")
    said.fail(0, "train_model", one)
    said.tell("error", "RuleException:\nCalledProcessError in file", logging.ERROR)
    said.tell(None, "Exiting because a job execution failed. Look above", logging.ERROR)
    said.fail(1, "train_model", log(tmp_path / "two.log", "error: no frames; make them"))
    said.fail(2, "train_model", tmp_path / "none.log")
    said.tell(None, "Trying to restart job 2.")
    said.finish(2, 1, 4)
    cluster = tmp_path / "slurm.log"
    cluster.write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    told = "SLURM-job '7' failed, SLURM status is: 'FAILED'. For further error details see the"
    said.fail(3, "train_model", tmp_path / "none.log", cluster, told=told)
    said.account.end()
    text = "\n".join(said.lines)
    assert text.count("error: no frames; make them") == 1
    assert f"FAILED train_model scratch/01 after 0 s; its log, {tmp_path}/two.log, ends" in text
    assert "its log is empty" in text
    assert "it is tried again" in text
    assert "Detected 1 oom_kill event" in text
    assert "SLURM-job '7' failed, SLURM status is: 'FAILED'." in text
    assert "RuleException" not in text
    assert "3 jobs failed, 1 of 4 are done" in said.lines[-1]
    assert "go on with: snakemake" in said.lines[-1]


@pytest.mark.parametrize("again", [True, False], ids=["and by themselves", "once"])
def test_of_a_failed_group_is_told_what_failed_in_it(tmp_path: Path, again: bool):
    said = Said()
    said.plan(annotate_split=1, train_model=1, infer_subset=1)
    logs = [
        log(tmp_path / "fine.log", "all done"),
        log(tmp_path / "wrong.log", "begun", "error: no frames; make them"),
        tmp_path / "none.log",
    ]
    rules = ["annotate_split", "train_model", "infer_subset"]
    jobs = [
        {"jobid": number, "rule_name": rule, "log": [str(path)], "rule_msg": None}
        for number, (rule, path) in enumerate(zip(rules, logs, strict=True))
    ]
    for number, rule in enumerate(rules):
        said.start(number, rule)
    said.tell("group_error", "Error in group", logging.ERROR, aux_logs=[], job_error_info=jobs)
    if again:  # as Snakemake does
        for number, (rule, path) in enumerate(zip(rules, logs, strict=True)):
            said.fail(number, rule, path)
    said.tell(None, "At least one job did not complete successfully.", logging.ERROR)
    said.account.end()
    assert sum(line.startswith("FAILED") for line in said.lines) == 1
    assert said.lines[1].startswith(f"FAILED train_model scratch/01 after 0 s; its log, {logs[1]}")
    assert "    error: no frames; make them" in said.lines
    assert said.lines[-1].startswith("1 job failed, 0 of 3 are done")


def test_a_group_whose_jobs_said_nothing_is_told_with_the_log_of_the_cluster(tmp_path: Path):
    said = Said()
    said.start(1, "train_model")
    said.start(2, "train_model")
    cluster = tmp_path / "slurm.log"
    cluster.write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    jobs = [{"jobid": number, "rule_name": "train_model", "log": []} for number in (1, 2)]
    said.tell("group_error", aux_logs=[str(cluster)], job_error_info=jobs)
    said.account.end()
    text = "\n".join(said.lines)
    assert text.count("Detected 1 oom_kill event") == 1
    assert text.count("FAILED train_model") == 2
    assert said.lines[-1].startswith("2 jobs failed")


def test_a_failure_that_no_job_tells_of_is_said():
    said = Said()
    said.tell(None, "At least one job did not complete successfully.", logging.ERROR)
    assert said.lines == []
    said.account.end()
    assert said.lines == ["At least one job did not complete successfully."]


def test_a_message_has_what_it_is_formatted_with():
    said = Said()
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%d of %s", (3, "them"), None)
    said.account.take(record)
    assert said.lines == ["3 of them"]


def test_many_failures_are_counted(tmp_path: Path):
    said = Said()
    said.plan(extract_shard=300)
    for number in range(300):
        said.start(number, "extract_shard")
        said.fail(number, "extract_shard", log(tmp_path / "log", f"error: {number}"))
    said.account.end()
    assert len(said.lines) < 25
    assert said.lines[-1].startswith("300 jobs failed (290 of them not shown)")


def test_warnings_and_what_is_not_known_are_said():
    said = Said()
    said.tell(None, "Select jobs to execute...")
    said.tell(None, "Creating conda environment environment.yml...")
    said.tell(None, "a warning\nTraceback (most recent call last):\n  x", logging.WARNING)
    said.tell("error", "MissingInputException in rule x", logging.ERROR)
    assert said.lines == [
        "Creating conda environment environment.yml...",
        "a warning",
        "MissingInputException in rule x",
    ]


@pytest.mark.parametrize(
    ("lines", "end", "failed"),
    [
        (["begun", "done"], ["done"], False),
        (["begun", "error: a", "error: b"], ["error: a", "error: b"], True),
        (["error: a", "mended", "done"], ["done"], False),
        (["a bug\nTraceback (most recent call last):\nKeyError: 1"], ["KeyError: 1"], True),
        (["error: a\nUserWarning: leaked"], ["error: a"], True),
        ([], [], False),
    ],
)
def test_the_end_of_a_log(tmp_path: Path, lines: list[str], end: list[str], failed: bool):
    found = ending(log(tmp_path / "log", *lines))
    assert (found.lines[-len(end) :] if end else found.lines, found.failed) == (end, failed)
    assert ending(tmp_path / "none") == ending(log(tmp_path / "empty"))


SNAKEFILE = """
from r3d.workflow.jobs import export_package
export_package()
rule all:
    input: expand("{n}.txt", n=range(3))
rule make:
    output: "{n}.txt"
    log: "{n}.log"
    script: "make.py"
"""
SCRIPT = """
from pathlib import Path
from r3d.workflow.jobs import job
with job(snakemake.log[0]):
    import logging, sys
    from r3d.errors import InputError
    logging.info("a message")
    print("a library's warning", file=sys.stderr)
    if snakemake.wildcards.n == "1" and not Path("mended").exists():
        raise InputError("one is wrong; mend it")
    Path(snakemake.output[0]).touch()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "make.py").write_text(SCRIPT)
    return tmp_path


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.workflow
def test_a_workflow_of_ones_own_that_fails_and_is_mended(folder: Path):
    status, said = snakemake(folder, "--logger", "r3d", "--keep-going")
    assert status == 1
    assert said.count("error: one is wrong; mend it") == 1
    assert "a message" not in said
    assert "a library's warning" in (folder / "2.log").read_text()
    assert "1 job failed, 2 of 4 are done" in said
    assert "\x1b" not in said
    (folder / "mended").touch()
    status, said = snakemake(folder, "--logger", "r3d", "-n")
    assert (status, said.count("\n")) == (0, 4)
    assert re.search(r"^ +1 make +1  \(not made yet\)$", said, re.MULTILINE)
    # Asked for, all of Snakemake's own, with what jobs say.
    status, said = snakemake(folder, "--logger", "r3d", *ALL_OF_SNAKEMAKE)
    assert status == 0
    assert "rule make:" in said
    assert "a message" in said
