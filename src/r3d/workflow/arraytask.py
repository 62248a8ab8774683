"""Letting a task of a SLURM job array do its own job, and answer for no other one.

Snakemake's SLURM plugin starts every task of an array as the job of the first task, which runs the
task's own job as a child process. When the child has ended, the parent still looks for the outputs
of the first job. If that one is slower, or fails, all the others fail with it; and a task that
fails removes the outputs of the first one
(https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/447, open with 2.8.0).
"""

import base64
import json
import os
import sys
import zlib

_OPTION = "--slurm-jobstep-array-execs="


def become_own_job() -> None:
    """In a task of an array that was started as another task's job: become the task's own job.

    The process is replaced before it has looked at any file. Elsewhere nothing happens.
    """
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    for argument in sys.argv:
        if task is not None and argument.startswith(_OPTION):
            # Shell commands by task number, without that of the first task: it runs already.
            commands = json.loads(base64.b64decode(argument.removeprefix(_OPTION)))
            if task in commands:
                command = zlib.decompress(bytes.fromhex(commands[task])).decode()
                os.execv("/bin/sh", ["sh", "-c", command])
