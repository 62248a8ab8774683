"""Bringing back jobs that SLURM has cancelled in favour of more urgent ones.

Snakemake's SLURM plugin leaves a job that is PREEMPTED to SLURM and waits for it. Where preemption
cancels (`PreemptMode=CANCEL`) instead of requeueing, SLURM has no more plans with the job, and
Snakemake would wait forever.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime

_LOOK_SECONDS = 60
_ANSWER_SECONDS = 60
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


def bring_back_preempted_jobs(folder: str) -> None:
    """Have SLURM requeue what is preempted of the jobs that Snakemake submits from now on.

    It goes on in the background while this process lives. Without SLURM nothing happens.

    Args:
        folder: working folder of the jobs.
    """
    if shutil.which("squeue") is None:
        return
    now = datetime.now().strftime(_TIME_FORMAT)
    threading.Thread(target=_look_on, args=(folder, now), daemon=True).start()


def _look_on(folder: str, start: str) -> None:
    told: set[str] = set()  # of a refusal, which may end: it is tried again
    while True:
        time.sleep(_LOOK_SECONDS)
        requeue_preempted_jobs(folder, start, told)


def requeue_preempted_jobs(folder: str, start: str, told: set[str]) -> None:
    """Requeue the preempted jobs, and say so; of one that cannot be, only when it is not in `told`.

    Args:
        folder, start: as for `preempted_jobs`.
        told: jobs whose refusal has been told of; brought up to date.
    """
    for job in preempted_jobs(folder, start):
        status, answer = _ask("scontrol", "requeue", job)
        if status == 0:
            told.discard(job)
            outcome = "it is put back into the queue"
        elif job in told:
            continue
        else:
            told.add(job)
            outcome = f"it cannot be put back into the queue: {' '.join(answer.split())}"
        print(f"SLURM job {job} was preempted; {outcome}", file=sys.stderr)


def preempted_jobs(folder: str, start: str) -> list[str]:
    """The numbers of Snakemake's own jobs that are PREEMPTED.

    Args:
        folder: working folder of the jobs.
        start: jobs submitted earlier are left alone, 2026-01-31T12:00:00.
    """
    # Number, time of submission, and comment: Snakemake gives its jobs one. The folder comes last,
    # as it may hold any character.
    format = "--format=%i|%V|%k|%Z"
    status, answer = _ask("squeue", "--me", "--noheader", "--states=PREEMPTED", format)
    if status:  # it is asked again
        return []
    rows = [row.split("|", 3) for row in answer.splitlines()]
    return [
        row[0]
        for row in rows
        if len(row) == 4
        and row[1] >= start
        and row[2].startswith("rule_")
        and row[3].strip() == folder
    ]


def _ask(*command: str) -> tuple[int, str]:
    """The exit status of a command of SLURM, and what it says."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "SLURM_TIME_FORMAT": _TIME_FORMAT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            timeout=_ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 1, str(error)
    return done.returncode, done.stdout
