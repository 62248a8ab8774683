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
    while True:
        time.sleep(_LOOK_SECONDS)
        for job in _preempted_jobs(folder, start):
            print(f"SLURM job {job} was preempted; it is put back into the queue", file=sys.stderr)
            _ask("scontrol", "requeue", job)


def _preempted_jobs(folder: str, start: str) -> list[str]:
    # Number, time of submission, comment, which tells Snakemake's jobs from others, and folder.
    answer = _ask("squeue", "--me", "--noheader", "--states=PREEMPTED", "--format=%i|%V|%k|%Z")
    rows = [row.split("|") for row in answer.splitlines()]
    return [
        row[0]
        for row in rows
        if row[1] >= start and row[2].startswith("rule_") and row[-1].strip() == folder
    ]


def _ask(*command: str) -> str:
    """What a command of SLURM says; nothing if it fails, as it is asked again."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "SLURM_TIME_FORMAT": _TIME_FORMAT},
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
