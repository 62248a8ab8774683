"""GPUs shared out among the jobs of a machine: made-up cards, real processes."""

import os
import re
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from r3d.compute import cards
from r3d.errors import InputError

# Takes cards as a job does, says which, and computes until it is told to end.
JOB = """
import logging, os, sys
from r3d.compute.cards import take_cards
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
take_cards(int(sys.argv[1]), "resources.gpus")
print("has", os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules, flush=True)
sys.stdin.read()
"""
SECONDS = 90  # at most, on a busy machine


class Job:
    """A process that has said what it got."""

    def __init__(self, n: int = 1, command: list[str] | None = None) -> None:
        command = command or [sys.executable, "-u", "-c", JOB, str(n)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "it waits too long"
        return self.process.stdout.readline().decode().strip()

    def cards(self) -> list[str]:
        """What it has, once it has it."""
        while not (line := self.line()).startswith("has "):
            assert line, "it ended"
        _, names, torch_is_there = line.split(" ")
        assert torch_is_there == "False"
        return names.split(",")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=SECONDS)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch):
    for name in (
        *("CUDA_VISIBLE_DEVICES", "R3D_TAKEN_DEVICES", "LOCAL_RANK"),
        *("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"),
    ):
        monkeypatch.delenv(name, raising=False)
    jobs: list[Job] = []

    def started(n: int = 1, command: list[str] | None = None) -> Job:
        jobs.append(Job(n, command))
        return jobs[-1]

    yield started
    for job in jobs:
        job.process.kill()
        job.process.communicate()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Make this a machine with so many cards that no other test has, or with instances of them."""

    def made(n: int, instances: int = 0) -> list[str]:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        lines, names = [], []
        for number in range(n):
            names.append(f"GPU-{uuid.uuid4()}")
            lines.append(f"GPU {number}: NVIDIA Made-Up 80GB (UUID: {names[-1]})")
            for instance in range(instances):
                names.append(f"MIG-{uuid.uuid4()}")
                lines.append(f"  MIG 1g.10gb     Device  {instance}: (UUID: {names[-1]})")
        program = folder / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return names

    return made


def test_each_of_several_jobs_has_a_card_of_its_own_and_the_next_waits(start, machine):
    names = machine(3)
    jobs = [start() for _ in names]
    given = {job.cards()[0]: job for job in jobs}
    assert given.keys() == set(names)
    waiting = start()
    assert waiting.line().startswith("waiting for 1 of the 3 GPUs that are here: other jobs have")
    given[names[1]].end()  # killed: nothing of it tidies up
    assert waiting.cards() == [names[1]]


def test_jobs_that_want_several_get_them_one_after_the_other(start, machine):
    names = machine(3)
    single, pair = start(), start(2)
    assert sorted([*single.cards(), *pair.cards()]) == sorted(names)
    whole = start(3)
    assert whole.line().startswith("waiting for 3 of the 3 GPUs")
    late = start(2)
    assert late.line().startswith("waiting for 2 of the 3 GPUs")
    single.end()  # what it had is not for the later one, which could not go on with it either
    pair.end()
    assert whole.cards() == names
    whole.end()
    assert len(late.cards()) == 2


def test_who_wants_several_waits_for_cards_of_its_own_set_only(start, machine, monkeypatch):
    machine(4)

    def asked(n: int, given: str) -> Job:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        return start(n)

    single = asked(1, "1")
    assert single.cards() == ["1"]
    first = asked(2, "0,1")
    assert first.line().startswith("waiting for 1 of the 2 GPUs")
    # One that shares a card with it waits, and is nothing to wait for itself.
    between = asked(2, "1,2")
    assert between.line().startswith("waiting for 2 of the 2 GPUs")
    beside = asked(2, "2,3")
    assert beside.cards() == ["2", "3"]
    single.end()
    assert first.cards() == ["0", "1"]
    first.end()
    beside.end()
    assert between.cards() == ["1", "2"]


def test_jobs_that_want_several_of_sets_that_overlap_all_get_them(start, machine, monkeypatch):
    machine(4)
    jobs = []
    for given in ("0,1", "1,2", "2,0", "3,2,1,0") * 2:  # a ring, in which each shares with each
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        code = JOB.replace("sys.stdin.read()", "")  # it ends as soon as it has them
        jobs.append(start(command=[sys.executable, "-u", "-c", code, "2"]))
    assert all(len(job.cards()) == 2 for job in jobs)


def test_more_than_there_are_is_refused(start, machine, monkeypatch):
    machine(2)
    with pytest.raises(InputError, match=r"^resources\.gpus: 3, but this machine has 2 .* up to 2"):
        cards.take_cards(3, "resources.gpus")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(InputError, match="has 1 for this process"):
        cards.need_cards(2, "resources.gpus")


def test_several_instances_of_divided_cards_are_refused_to_one_job(start, machine, monkeypatch):
    names = machine(2, instances=2)
    for number, message in ((2, r"2, but .*MIG.* accepted: up to 1, or 0"), (5, "has 4 for this")):
        with pytest.raises(InputError, match=rf"^resources\.gpus: .*{message}"):
            cards.need_cards(number, "resources.gpus")
    with pytest.raises(InputError, match="MIG"):
        cards.take_cards(2, "resources.gpus")
    cards.need_cards(1, "resources.gpus")
    # Beside whole cards these are taken.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join([names[1], names[0], names[3]]))
    assert start(2).cards() == [names[0], names[3]]


@pytest.mark.parametrize("as_number", [True, False])
def test_only_cards_that_were_given_are_taken(start, machine, monkeypatch, as_number: bool):
    names = machine(4)
    others = start()
    assert others.cards() == names[:1]
    given = ["2", "0"] if as_number else [names[2][:12], names[0][:12]]  # CUDA accepts a beginning
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(given))
    job = start()
    assert job.cards() == given[:1]
    waiting = start()
    assert waiting.line().startswith("waiting for 1 of the 2 GPUs")
    others.end()  # which was given its card as one of all four
    assert waiting.cards() == given[1:]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,0", ["1"]),  # as CUDA, nothing after one that there is not
        ("0,7,1", ["0"]),
        ("1, 1,0", ["1", "0"]),
        ("GPU-none,0", []),
    ],
)
def test_what_a_given_set_means(machine, monkeypatch, given: str, expected: list[str]):
    machine(2)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert [card.name for card in cards.visible_cards()] == expected


def test_instances_of_a_divided_card_are_cards(start, machine, monkeypatch):
    names = machine(1, instances=2)
    jobs = [start(), start()]
    assert sorted(job.cards()[0] for job in jobs) == sorted(names[1:])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{names[2]},MIG-GPU-old/1/0")
    assert [card.name for card in cards.visible_cards()] == [names[2], "MIG-GPU-old/1/0"]


def test_a_job_of_slurm_has_the_cards_of_its_own_whoever_has_the_same_numbers(
    start, machine, monkeypatch
):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for job in ("901", "902"):  # as with control groups, in which numbers begin anew
        monkeypatch.setenv("SLURM_JOB_ID", f"{job}-{os.getpid()}")
        assert start(2).cards() == ["0", "1"]
    assert start().line().startswith("waiting for 1 of the 2 GPUs")  # beside the one of this job


def test_a_job_of_slurm_without_cards_takes_none_of_those_it_sees(start, machine, monkeypatch):
    machine(2)
    monkeypatch.setenv("SLURM_JOB_ID", f"903-{os.getpid()}")
    job = start()
    assert re.match(r"SLURM gave this job none of the 2 GPUs .* \{gpus: N\}", job.line())
    assert job.cards() == [""]  # nor does torch see them
    # Unless it is told so, by its user or by SLURM, which does not always say it to CUDA as well.
    with monkeypatch.context() as told:
        told.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert start().cards() == ["1"]
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    assert len(start(2).cards()) == 2


def test_a_job_of_slurm_on_a_node_without_cards_says_nothing(start, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("SLURM_JOB_ID", "904")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cards, "_DRIVER", tmp_path / "gpus")
    cards.take_cards()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_what_a_job_starts_has_its_cards_and_forked_workers_do_not_keep_them(start, machine):
    names = machine(1)
    code = f"""
import os, subprocess, sys
from r3d.compute.cards import take_cards
take_cards()
if os.fork() == 0:  # as a process that loads clips, which may not notice at once that it is alone
    os.close(1), os.close(2)
    os.read(0, 1)
    os._exit(0)
subprocess.run([sys.executable, "-u", "-c", {JOB!r}, "1"], stdin=sys.stdin)
"""
    job = start(command=[sys.executable, "-u", "-c", code])
    assert job.cards() == names
    waiting = start()
    assert waiting.line().startswith("waiting")
    job.end()
    assert waiting.cards() == names


def test_processes_of_a_torchrun_by_hand_see_all_cards_and_wait_for_none(
    start, machine, monkeypatch
):
    names = machine(2)
    other = start()
    assert other.cards() == names[:1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for rank in range(3):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert start().cards() == ["0", "1"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert start().cards() == ["None"]


def test_threads_of_a_process_take_cards_once(start, machine):
    names = machine(2)
    code = """
import os, sys, threading
from r3d.compute.cards import take_cards
threads = [threading.Thread(target=take_cards, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("has", os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules, flush=True)
sys.stdin.read()
"""
    job = start(command=[sys.executable, "-u", "-c", code])
    first = job.cards()
    assert len(first) == 1
    assert {*first, *start().cards()} == set(names)


def test_who_is_interrupted_while_it_waits_for_several_keeps_none(start, machine):
    names = machine(2)
    code = """
import logging, os, sys
from r3d.compute.cards import take_cards
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
try:
    take_cards(2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
take_cards(2)
print("has", os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules, flush=True)
sys.stdin.read()
"""
    other = start()
    (has,) = other.cards()
    job = start(command=[sys.executable, "-u", "-c", code])
    assert job.line().startswith("waiting for 1 of the 2 GPUs")
    job.process.send_signal(signal.SIGINT)
    assert job.line() == "interrupted"
    pair = start(2)  # waits for the other's only, and not for what the interrupted one had
    assert pair.line().startswith("waiting for 1 of the 2 GPUs")
    other.end()
    assert pair.cards() == names
    pair.end()
    job.process.stdin.write(b"\n")
    assert job.cards() == names
    assert has in names


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("cuda: Optional[str] = '13.2'\nhip: Optional[str] = None", True),
        ("cuda = '12.6'", True),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None", False),
        ("cuda = None", False),
        ("__version__ = '9'", True),  # it does not say
        (None, True),
    ],
)
def test_whether_torch_computes_on_cards_is_read(tmp_path: Path, version: str | None, expected):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('loaded')")
    if version is not None:
        (package / "version.py").write_text(f"from typing import Optional\n{version}\n")
    code = f"""
import sys
from r3d.compute.cards import torch_has_cuda
sys.path.insert(0, {str(tmp_path)!r})
print(torch_has_cuda())
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{expected}\n"


def test_what_is_read_of_the_torch_here_is_so():
    assert cards.torch_has_cuda() == bool(torch.version.cuda)


def test_without_a_driver_there_is_none_and_nothing_is_taken(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cards, "_DRIVER", tmp_path / "gpus")
    assert cards.visible_cards() == []
    cards.take_cards(4)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    # Where its program is not installed, the driver itself says which there are.
    for bus, name in (("0000:41:00.0", "GPU-b1"), ("0000:01:00.0", "GPU-a0")):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        text = f"Model: \t\t NVIDIA Made-Up\nGPU UUID:\t {name}\nDevice Minor: \t 0\n"
        (tmp_path / "gpus" / bus / "information").write_text(text)
    assert [card.name for card in cards.visible_cards()] == ["GPU-a0", "GPU-b1"]
