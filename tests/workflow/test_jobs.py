"""A job says in one line what the machine does not let it do; a bug keeps its traceback."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

from r3d.workflow.jobs import TERMINAL, file_identity, interrupts_held

SCRIPT = """
import sys
from pathlib import Path
from r3d.workflow.jobs import job
with job(sys.argv[1]):
    {step}
"""


def run(folder: Path, step: str, log: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(step=step), str(log or folder / "log")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            "Path('log/below').touch()",
            "error: log/below cannot be read or written: Not a directory",
        ),
        ("Path('.').write_text('')", "error: . cannot be read or written: Is a directory"),
        ("Path('n' * 300).touch()", "File name too long; choose a shorter name"),
        ("open('/dev/full', 'w').write('x' * 100_000)", "No space left on device; make room there"),
        (
            "exec('try: open(\\'/dev/full\\', \\'wb\\', 0).write(b\\'x\\')\\n"
            "except OSError: raise RuntimeError(1) from None\\n')",
            None,
        ),
        ("Path('missing').read_text()", None),
    ],
    ids=["below a file", "a folder", "long", "full", "hidden cause", "our own fault"],
)
def test_what_the_machine_refuses_is_one_line(tmp_path: Path, step: str, message: str | None):
    done = run(tmp_path, step)
    assert done.returncode == 1
    for text in (done.stderr, (tmp_path / "log").read_text()):
        if message is None:
            assert "a bug, please report it" in text
            assert "Traceback" in text
        else:
            (line,) = text.splitlines()
            assert message in line


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    done = run(tmp_path, "pass", tmp_path / "file/log")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "file" in line


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root may mount")
def test_a_full_disk_under_the_log_does_not_hide_what_is_wrong(tmp_path: Path):
    folder = tmp_path / "full"
    folder.mkdir()
    step = "from r3d.errors import InputError; raise InputError('what is wrong')"
    script = SCRIPT.format(step=step)
    fill = f"mount -t tmpfs -o size=4k tmpfs {folder} && head -c 4096 /dev/zero > {folder}/zeros"
    in_mount = ["unshare", "--mount", "sh", "-c", f'({fill}) || exit 9; exec "$@"', "sh"]
    done = subprocess.run(
        [*in_mount, sys.executable, "-c", script, str(folder / "log")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    if done.returncode == 9:
        pytest.skip(f"no mount here: {done.stderr}")
    assert done.returncode == 1
    assert done.stderr == "error: what is wrong\n"


def test_where_a_line_a_job_is_printed_a_job_says_all_in_its_log(tmp_path: Path):
    """Also its second process, and what goes around Python; bars of progress are for nobody."""
    script = """
import logging, os, subprocess, sys
from r3d.workflow.jobs import job
append = len(sys.argv) > 1
with job("log", append=append):
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm
    with logging_redirect_tqdm():
        for _ in tqdm(range(3), mininterval=0):
            logging.info("step of %d", len(sys.argv))
    print("a library", file=sys.stderr, flush=True)
    os.write(2, b"a library in C\\n")
    if not append:
        subprocess.run([sys.executable, __file__, "second"], check=True)
"""
    (tmp_path / "script.py").write_text(script)
    with (tmp_path / "terminal").open("w") as terminal:
        identity = file_identity(terminal.fileno())
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), TERMINAL: str(identity)}
        command = [sys.executable, "script.py"]
        subprocess.run(command, cwd=tmp_path, env=environment, stderr=terminal, check=True)
    assert (tmp_path / "terminal").read_text() == ""
    lines = (tmp_path / "log").read_text().splitlines()
    said = [re.sub(r"^[-0-9]{10} [0-9:,]{12} ", "", line) for line in lines]
    once = ["a library", "a library in C"]
    assert said == [*["step of 1"] * 3, *once, *["step of 2"] * 3, *once]


def test_what_a_full_log_does_not_take_is_on_the_terminal(tmp_path: Path):
    step = "from r3d.errors import InputError; raise InputError('what is wrong')"
    (tmp_path / "log").symlink_to("/dev/full")
    script = SCRIPT.format(step=step).replace("job(sys.argv[1])", "job(sys.argv[1], append=True)")
    with (tmp_path / "terminal").open("w") as terminal:
        identity = file_identity(terminal.fileno())
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), TERMINAL: str(identity)}
        command = [sys.executable, "-c", script, "log"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, stderr=terminal)
    assert done.returncode == 1
    assert (tmp_path / "terminal").read_text() == "error: what is wrong\n"


@pytest.mark.parametrize(
    ("script", "slow"), [("train_model", "torch"), ("evaluate_subset", "pandas")]
)
def test_ctrl_c_while_a_script_of_a_rule_imports_ends_quietly(
    tmp_path: Path, script: str, slow: str
):
    """A terminal sends it to all processes of the workflow."""
    package = tmp_path / "slow" / slow
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import time\nprint('importing', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise ImportError('broken')\n"
    )
    path = ROOT / f"workflow/scripts/{script}.py"
    run_script = (
        "import runpy, types; "
        f"runpy.run_path({str(path)!r}, {{'snakemake': types.SimpleNamespace(log=['log'])}})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", run_script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package.parent), str(ROOT / "src")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in errors


def test_scripts_of_rules_import_the_library_where_a_signal_is_handled():
    for path in (ROOT / "workflow/scripts").glob("*.py"):
        top = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)
        ]
        assert {node.module for node in top} <= {"pathlib", "r3d.workflow.jobs"}, path.name


def test_ctrl_c_that_a_destructor_swallows_ends_the_job(tmp_path: Path):
    step = (
        "import os, signal, time\\n"
        "class Thing:\\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT); time.sleep(1)\\n"
        "del [Thing()][0]\\n"
        "time.sleep(60)"
    )
    done = run(tmp_path, f"exec('{step}')")
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == ""


def test_ctrl_c_waits_until_the_job_is_under_way(tmp_path: Path):
    """As the terminal sends it to all processes, also to those that still import."""
    script = SCRIPT.format(step="print('not reached')")
    slow = "import time; print('importing', flush=True); time.sleep(0.5)\n"
    with interrupts_held():
        process = subprocess.Popen(
            [sys.executable, "-c", slow + script, str(tmp_path / "log")],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 128 + signal.SIGINT
