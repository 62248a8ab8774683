"""Killing Snakemake, its jobs and all their processes at moments of every stage."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas as pd
from smallrun import SmallRun

STAGES = (
    *("start", "render_motion", "list_split", "shard_videos", "extract_shard", "gather_ledger"),
    *("annotate_split", "train_model", "infer_subset", "evaluate_subset", "follow_videos"),
    *("plot_curves", "plot_confusion", "summarise", "make_gallery", "make_report"),
)
"""In their order: Snakemake before its first job, and the scripts of the rules."""

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("job", "snakemake", "group")

_START_SECONDS = 3.0
_POLL_SECONDS = 0.005
_FINE_SECONDS = 0.0003  # to see a file that is there for a moment
_LONGEST_SECONDS = 120.0


@dataclass(frozen=True)
class Kill:
    """A signal at a moment.

    Attributes:
        stage: one of `STAGES`.
        moment: what of the stage is waited for; "any" is a random time of it.
        number: the signal.
        target: who gets it: the process of the job, Snakemake's, or all processes.
        patient: whether the next start waits until what outlives Snakemake has ended.
    """

    stage: str
    moment: str
    number: signal.Signals
    target: str
    patient: bool = False

    def __str__(self) -> str:
        return f"{self.number.name} to {self.target}, {self.stage}: {self.moment}"


def _writing(pattern: str) -> Callable[[Path, int], bool]:
    """Whether a file that matches is there, such as the temporary file of one being written."""
    return lambda folder, _: next(folder.glob(pattern), None) is not None


def _at_once(*_: object) -> bool:
    """While Python still imports what the job needs."""
    return True


def _workers(_: Path, job: int) -> bool:
    return bool(children(job))


def _validating(folder: Path, _: int) -> bool:
    """Whether the state has been saved since the last step, and no validation logged since."""
    for batches in folder.glob("results/checkpoints/*/*/*/train_batch.log"):
        with suppress(FileNotFoundError):
            names = ("val.log", "train_batch.log", "latest.pth")
            times = [batches.with_name(name).stat().st_mtime_ns for name in names]
            return times[0] < times[1] < times[2]
    return False


_RUN_FOLDER = "results/checkpoints/*/*/*"
_MOMENTS: dict[tuple[str, str], Callable[[Path, int], bool]] = {
    ("render_motion", "a video written"): _writing("data/videos/*/.*"),
    ("extract_shard", "frames written"): _writing("data/frames/.partial/*/*"),
    ("train_model", "begins"): _at_once,
    ("train_model", "workers start"): _workers,
    ("train_model", "a state written"): _writing(f"{_RUN_FOLDER}/.latest.*"),
    ("train_model", "the best state written"): _writing(f"{_RUN_FOLDER}/.best.*"),
    ("train_model", "a kept state written"): _writing(f"{_RUN_FOLDER}/.save_*"),
    ("train_model", "validation"): _validating,
    ("train_model", "the model written"): _writing("results/experiments/*/*/.model.*"),
    ("infer_subset", "workers start"): _workers,
    ("infer_subset", "the result written"): _writing("results/experiments/*/*/.val.*"),
    ("evaluate_subset", "begins"): _at_once,
}
MOMENTS = sorted(
    [*((stage, "any") for stage in STAGES), *_MOMENTS], key=lambda m: STAGES.index(m[0])
)


def draw_kills(number: int, seed: int) -> list[Kill]:
    """Kills spread over all moments, and at each over signals and targets."""
    rng = random.Random(seed)
    ways = [(number, target) for number in SIGNALS for target in TARGETS]
    dealt: dict[tuple[str, str], list[tuple[signal.Signals, str]]] = {}
    for moment in MOMENTS:
        # Before there is a job, there is none to kill.
        own = [way for way in ways if moment[0] != "start" or way[1] != "job"]
        dealt[moment] = rng.sample(own, len(own))
    order = rng.sample(MOMENTS, len(MOMENTS))
    kills = []
    for i in range(number):
        moment = order[i % len(order)]
        ways = dealt[moment]
        kills.append(Kill(*moment, *ways[i // len(order) % len(ways)], rng.random() < 0.5))
    return rng.sample(kills, number)  # so that any part of them is spread, too


@dataclass(frozen=True)
class Outcome:
    """What a kill did: how Snakemake ended, and what was printed."""

    kill: Kill
    status: int
    output: str


def disturb(whole: SmallRun, run: SmallRun, kills: list[Kill], seed: int) -> Iterator[Outcome]:
    """Start a workflow and kill it, again and again; a kill whose moment passes is left out.

    Args:
        whole: the same workflow, finished undisturbed.
    """
    stages = _Stages(whole.folder, run.folder)
    rng = random.Random(seed)
    output = run.folder.with_name(f"{run.folder.name}.output")
    process = None
    try:
        for kill in sorted(kills, key=lambda kill: STAGES.index(kill.stage)):
            if process is None:
                stages.begin()
                with output.open("w") as file:
                    process = run.start(output=file)
            target = _wait_for(kill, run.folder, process, stages, rng)
            if target is None:
                continue
            with suppress(ProcessLookupError):
                (os.killpg if kill.target == "group" else os.kill)(target, kill.number)
            status = _status_after(kill, process, stages)
            if status is None:
                continue  # the job had come to its end, and the next kill is of the same run
            process = None
            if kill.patient:
                wait_for_end(run.folder)
            yield Outcome(kill, status, output.read_text(errors="replace"))
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _status_after(kill: Kill, process: subprocess.Popen[str], stages: "_Stages") -> int | None:
    """How Snakemake ends; None if it goes on, as the job that was to be killed had just ended."""
    if kill.target != "job":
        return process.wait(timeout=_LONGEST_SECONDS)
    _wait_until(lambda: process.poll() is not None or stages.passed(kill.stage), kill)
    return process.poll()


class _Stages:
    """How far a run is, and how long each stage takes, by the benchmarks that Snakemake writes."""

    def __init__(self, whole: Path, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[str, list[Path]] = {}
        for path in whole.glob("results/benchmarks/**/*.tsv"):
            name = path.relative_to(whole)
            self._tables.setdefault(name.with_suffix("").parts[2], []).append(name)
        self.seconds = {
            stage: max(float(pd.read_csv(whole / name, sep="\t")["s"][0]) for name in names)
            for stage, names in self._tables.items()
        }

    def begin(self) -> None:
        self._logs = self._n_logs()

    def begun(self) -> bool:
        """Whether Snakemake has read our profile since `begin`, as it has once it has a log."""
        return self._n_logs() > self._logs

    def _n_logs(self) -> int:
        return len(list(self._folder.glob(".snakemake/log/*")))

    def passed(self, stage: str) -> bool:
        names = self._tables.get(stage, [])
        return bool(names) and all((self._folder / name).exists() for name in names)


def _wait_for(
    kill: Kill,
    folder: Path,
    process: subprocess.Popen[str],
    stages: _Stages,
    rng: random.Random,
) -> int | None:
    """The process to kill once the moment has come; None if it has passed."""
    job: int | None = None

    def begun() -> bool:
        nonlocal job
        if kill.stage == "start":  # when our profile is read: before, there is nothing of ours
            job = process.pid if stages.begun() else None
        else:
            job = job_of(process.pid, kill.stage)
        return job is not None or process.poll() is not None or stages.passed(kill.stage)

    _wait_until(begun, kill)
    if job is None:
        return None
    if kill.moment == "any":
        time.sleep(rng.uniform(0, stages.seconds.get(kill.stage, _START_SECONDS)))
    else:
        came = _MOMENTS[kill.stage, kill.moment]
        found = False

        def over() -> bool:
            nonlocal found
            found = came(folder, job)
            return found or not Path(f"/proc/{job}/cwd").exists()

        _wait_until(over, kill, poll_seconds=_FINE_SECONDS)
        if not found:
            return None
        time.sleep(rng.choice((0, 0.001, 0.003, 0.01)))
    if process.poll() is not None:
        return None
    return job if kill.target == "job" else process.pid


def _wait_until(
    condition: Callable[[], bool], kill: Kill, *, poll_seconds: float = _POLL_SECONDS
) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waiting for {kill}"
        time.sleep(poll_seconds)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return found
    for path in (thread / "children" for thread in threads):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def job_of(snakemake: int, stage: str) -> int | None:
    """The process of a job of this stage, which a server of warm starts may have forked."""
    begun = children(snakemake)
    for child in [*begun, *(forked for server in begun for forked in children(server))]:
        with suppress(OSError):
            if f".{stage}.py".encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def wait_for_end(folder: Path) -> None:
    """Wait until no process works in a folder any more."""
    deadline = time.monotonic() + 60
    while alive := processes_in(folder):
        assert time.monotonic() < deadline, f"these go on after the end of Snakemake: {alive}"
        time.sleep(0.02)


def processes_in(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "cwd").readlink() == folder:
                found.append((path / "cmdline").read_text(errors="replace").replace("\0", " "))
    return found


def made(folder: Path) -> dict[str, bytes]:
    """All files but Snakemake's notes; of what tells times only the names count."""
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name.parts[0] == ".snakemake" or path.is_dir():
            continue
        if path.suffix == ".hdf5":  # with a copy of the record behind its end
            with h5py.File(path, locking=False) as file:
                frames = [frame.tobytes() for frame in file["video"]]
                content = b"".join([*frames, file.attrs["record"].encode()])
        else:
            content = path.read_bytes()
        told = name.parts[:2] in (("results", "logs"), ("results", "benchmarks"))
        told = told or name.name in ("speed.log", "index.html")
        # Of the rendered video, which is another file in each folder.
        files[str(name)] = b"" if told else re.sub(rb'"mtime_ns": \d+', b"", content)
    return files
