"""Scripts that begin in forks of a server: as processes of their own, however they or it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from r3d.workflow.warmstart import WarmProcess, WarmStart


@pytest.fixture
def servers() -> Iterator[WarmStart]:
    started = WarmStart()
    yield started
    started.close()


def run(servers: WarmStart, folder: Path, text: str, **variables: str) -> WarmProcess:
    script = folder / "step.py"
    script.write_text(text)
    return servers.start(script, {**os.environ, **variables})


def server_of(process: WarmProcess) -> psutil.Process:
    found = psutil.Process(process.pid).parent()
    assert found is not None
    return found


def test_a_script_is_a_process_of_its_own(servers: WarmStart, tmp_path: Path):
    text = f"""
import os, sys
from pathlib import Path
{{}}
told = [str(os.getpid()), sys.argv[0], os.environ["STEP"], __name__, "xmlrpc.client" in sys.modules]
Path({str(tmp_path / "told")!r}).write_text(repr(told))
"""
    for names, known in (("", False), ("if 0:\n    from xmlrpc.client import Marshaller", True)):
        process = run(servers, tmp_path, text.format(names), STEP="one")
        assert process.wait() == 0
        told = [str(process.pid), str(tmp_path / "step.py"), "one", "__main__", known]
        assert (tmp_path / "told").read_text() == repr(told)


def test_it_is_seen_under_its_own_name(servers: WarmStart, tmp_path: Path):
    process = run(servers, tmp_path, "import time; time.sleep(60)")
    deadline = time.monotonic() + 20
    while str(tmp_path / "step.py") not in psutil.Process(process.pid).cmdline():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("1 / 0", 1),
        ("from no_such_module import x", 1),
    ],
)
def test_how_it_ends_is_told(
    servers: WarmStart, tmp_path: Path, end: str, status: int, capfd: pytest.CaptureFixture[str]
):
    assert run(servers, tmp_path, end).wait() == status
    assert ("Traceback" in capfd.readouterr().err) == (status == 1)


def test_what_comes_at_the_end_of_python_comes(
    servers: WarmStart, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    text = """
import atexit, sys, threading, time
atexit.register(print, "third")
threading.Thread(target=lambda: (time.sleep(0.2), print("second"))).start()
print("first")
sys.exit("what went wrong")
"""
    assert run(servers, tmp_path, text).wait() == 1
    said = capfd.readouterr()
    assert (said.out.split(), said.err) == (["first", "second", "third"], "what went wrong\n")


@pytest.mark.parametrize("safe", ["", "1"])
def test_it_finds_modules_where_any_script_does(
    servers: WarmStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: str
):
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the user is imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    folder = tmp_path / "scripts"
    folder.mkdir()
    text = f"""
import random, sys
from pathlib import Path
with Path({str(tmp_path / "told")!r}).open("a") as file:
    print(sys.path, file=file)
"""
    assert run(servers, folder, text).wait() == 0
    subprocess.run([sys.executable, folder / "step.py"], check=True)
    warm, cold = (tmp_path / "told").read_text().splitlines()
    assert warm == cold


def test_its_temporary_files_are_where_its_environment_says(
    servers: WarmStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "asking.py").write_text("import tempfile\nx = tempfile.gettempdir()\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    text = f"""
import sys, tempfile
from asking import x
sys.exit(x == tempfile.gettempdir() or tempfile.gettempdir() != {str(tmp_path)!r})
"""
    assert run(servers, tmp_path, text, TMPDIR=str(tmp_path)).wait() == 0


def test_what_ends_all_processes_leaves_the_server_to_tell(servers: WarmStart, tmp_path: Path):
    text = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""
    process = run(servers, tmp_path, text)
    server = server_of(process)
    time.sleep(0.5)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        server.send_signal(number)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 7
    assert run(servers, tmp_path, "").wait() == 0
    assert server.is_running()


def test_a_server_that_was_killed_is_replaced(servers: WarmStart, tmp_path: Path):
    process = run(servers, tmp_path, "import time; time.sleep(60)")
    server = server_of(process)
    server.kill()
    assert process.wait() == -signal.SIGKILL
    while server.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # as a job it would have been told
    assert run(servers, tmp_path, "").wait() == 0


def test_a_request_that_fails_leaves_the_server_and_its_jobs(
    servers: WarmStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # What a script names is imported in the server: one module ends Python, and by the other the
    # next fork finds no room.
    (tmp_path / "ending.py").write_text("raise SystemExit(5)")
    (tmp_path / "failing.py").write_text("""
import errno, os
forks = os.fork
def fork():
    os.fork = forks
    raise BlockingIOError(errno.EAGAIN, "no more processes")
os.fork = fork
""")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    others = tmp_path / "others"
    others.mkdir()
    text = f"""
import sys, time
from pathlib import Path
while not Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.01)
sys.exit(7)
"""
    goes_on = run(servers, tmp_path, text)
    server = server_of(goes_on)
    assert run(servers, others, "from ending import x").wait() == 5
    with pytest.raises(ChildProcessError):
        run(servers, others, "from failing import x")
    before = server.rlimit(psutil.RLIMIT_NOFILE)
    assert before is not None
    server.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
    with pytest.raises(ChildProcessError):
        run(servers, others, "")
    server.rlimit(psutil.RLIMIT_NOFILE, before)
    assert run(servers, others, "").wait() == 0
    (tmp_path / "go").touch()
    assert goes_on.wait() == 7  # the end of a job is still heard of
    assert server.is_running()


def test_the_end_of_a_job_leaves_a_long_request_whole():
    """The end of a process interrupts the wait for the rest."""
    text = """
import signal, socket, subprocess, sys
from threading import Timer
from r3d.workflow.warmstart import _receive
ended = []
signal.signal(signal.SIGCHLD, lambda *_: ended.append(True))
ours, theirs = socket.socketpair()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
ours.sendall(b"a" * 1000)
rest = Timer(1.5, ours.sendall, [b"b" * 1000])
rest.start()
assert _receive(theirs, 2000) == b"a" * 1000 + b"b" * 1000
assert ended and child.wait() == 0
"""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)


def test_servers_end_with_those_that_use_them(tmp_path: Path):
    servers = WarmStart()
    process = run(servers, tmp_path, "import time; time.sleep(0.5)")
    server = server_of(process)
    assert process.wait() == 0
    servers.close()
    assert not server.is_running()


STOPPED = """
import os, sys
from threading import Event, Thread
from r3d.workflow.jobs import end_at_interrupts, raise_interrupts
from r3d.workflow.warmstart import WarmStart
end_at_interrupts()
raise_interrupts(on_sigterm=True)
servers = WarmStart()
ended = Event()
def job():
    print(servers.start(sys.argv[1], dict(os.environ)).wait(), flush=True)
    ended.set()
Thread(target=job).start()
try:
    ended.wait()
except KeyboardInterrupt:
    ended.wait()  # as Snakemake waits for its jobs
servers.close()
"""


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("running", signal.SIGTERM, 7),
        ("importing", signal.SIGTERM, -signal.SIGTERM),
        ("importing", signal.SIGINT, -signal.SIGINT),
    ],
)
def test_a_signal_to_the_workflow_alone_stops_its_jobs(
    tmp_path: Path, moment: str, number: signal.Signals, status: int
):
    (tmp_path / "slow.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'importing')!r}).touch()\n"
        "import time\ntime.sleep(1)\nx = 1\n"
    )
    (tmp_path / "step.py").write_text(f"""
import signal, sys, time
from pathlib import Path
from slow import x
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT}})
Path({str(tmp_path / "running")!r}).touch()
time.sleep(20)
""")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path / "step.py")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / moment).exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert int(process.communicate(timeout=15)[0]) == status


def test_a_script_that_is_held_can_be_looked_at_first(servers: WarmStart, tmp_path: Path):
    """However fast it would be over: Snakemake measures the memory of a process by its number."""
    script = tmp_path / "step.py"
    begun = tmp_path / "begun"
    script.write_text(f"open({str(begun)!r}, 'w')")
    process = servers.start(script, dict(os.environ), held=True)
    time.sleep(0.2)
    assert Path(f"/proc/{process.pid}").exists()
    assert not begun.exists()
    process.begin()
    assert process.wait() == 0
    assert begun.exists()
