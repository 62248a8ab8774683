"""A task of an array becomes its own job."""

import base64
import json
import os
import subprocess
import sys
import zlib

import pytest

SCRIPT = """
from r3d.workflow.arraytask import become_own_job
become_own_job()
print("the job of the first task")
"""


def run(task: str | None, commands: dict[int, str] | None) -> subprocess.CompletedProcess[str]:
    """What a process says that is started as the first task's job, for this task."""
    arguments = ["--jobs", "1"]
    if commands is not None:  # packed as the plugin does it
        packed = {n: zlib.compress(text.encode(), 9).hex() for n, text in commands.items()}
        payload = base64.b64encode(json.dumps(packed).encode()).decode()
        arguments.append(f"--slurm-jobstep-array-execs={payload}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("SLURM_ARRAY_TASK_ID", None)
    if task is not None:
        environment["SLURM_ARRAY_TASK_ID"] = task
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


COMMANDS = {2: "echo second 'job'; exit 7", 3: 'echo "third $SLURM_ARRAY_TASK_ID"'}


@pytest.mark.parametrize(
    ("task", "commands", "said", "status"),
    [
        ("2", COMMANDS, "second job", 7),
        ("3", COMMANDS, "third 3", 0),
        ("1", COMMANDS, "the job of the first task", 0),
        ("2", None, "the job of the first task", 0),  # what a task has become
        (None, None, "the job of the first task", 0),
    ],
)
def test_each_task_does_its_own_job(
    task: str | None, commands: dict[int, str] | None, said: str, status: int
):
    result = run(task, commands)
    assert (result.stdout.strip(), result.returncode) == (said, status), result.stderr
