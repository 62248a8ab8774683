"""Starting the scripts of jobs in processes that have imported already what a script imports.

A small step of a workflow takes longer to import its libraries than to work. So a server imports
them once, and each script runs in a fork of it: a process of its own, as it would be anyway, which
begins in a hundredth of a second. There are two servers, begun by the first script that needs
them: one for the steps with torch and one for those without, which it would only make larger.

>>> process = WarmStart().start("step.py", {"OMP_NUM_THREADS": "2"})
>>> process.wait()
0
"""

import ast
import atexit
import ctypes
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from r3d.workflow.jobs import WARM_STARTS, pass_on_late

_WITH_TORCH = re.compile(r"from r3d\.(clips|compute|inference|models|training)\b")
# As long as the command line of a script may get: that of the server gives it the room.
_ROOM = 400
_HELD = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


class WarmStart:
    """The servers of this process, which end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[bool, _Server] = {}

    def start(
        self, script: str | Path, environment: dict[str, str], *, held: bool = False
    ) -> "WarmProcess":
        """Run a script of Python in a fork of a server.

        Args:
            environment: all of its variables.
            held: whether the script waits for `WarmProcess.begin`. Until then its process can be
                looked at, however little it has to do: its end is the server's to notice.

        Raises:
            OSError: if there is no server to be had.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            request = json.dumps({"script": str(script), "environment": environment}).encode()
            with_torch = bool(_WITH_TORCH.search(Path(script).read_text(encoding="utf-8")))
            with self._lock:
                server = self._servers.get(with_torch)
                if server is None or not server.lives():  # perhaps somebody has killed it
                    server = self._servers[with_torch] = _Server()
                socket.send_fds(server.connection, [len(request).to_bytes(8)], [theirs.fileno()])
                server.connection.sendall(request)
        process = WarmProcess(ours)
        if not held:
            process.begin()
        return process

    def close(self) -> None:
        """End the servers, as the end of this process does."""
        with self._lock:
            while self._servers:
                self._servers.popitem()[1].close()


class _Server:
    """The process of a server, and the connection that it lives by."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        # With -P, as a file of the current folder may have the name of any module.
        command = [sys.executable, "-P", "-m", WARM_STARTS, str(theirs.fileno()), "-" * _ROOM]
        # Threads of a library would not live on in a fork.
        environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
        # No signal that a terminal or a scheduler sends to all processes ends it: jobs answer those
        # in their own time, and their end has to be told.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        try:
            with theirs:
                descriptors = [theirs.fileno()]
                self._process = subprocess.Popen(command, env=environment, pass_fds=descriptors)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def lives(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self.connection.close()
        self._process.wait()


class WarmProcess:
    """A script that runs; `pid` is that of its process.

    Raises:
        OSError: if the server has ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        line = self._lines.readline()
        if not line:
            self._close()
            raise ChildProcessError("the server of warm starts has ended")
        self.pid = int(line)
        pass_on_late(self.pid)  # while the server imported there was nobody to get the signal
        self.returncode: int | None = None

    def begin(self) -> None:
        """Let the script begin."""
        with suppress(OSError):  # it has ended by a signal
            self._connection.sendall(b"\n")

    def wait(self) -> int:
        """Wait for its end: the status, or the negative number of the signal that ended it."""
        if self.returncode is None:
            line = self._lines.readline()
            # Without a server nobody knows; the process has been told to end, too.
            self.returncode = int(line) if line else -signal.SIGKILL
            self._close()
        return self.returncode

    def _close(self) -> None:
        self._lines.close()
        self._connection.close()


def _serve(connection: socket.socket) -> str | None:
    """Fork for each request until the other end is closed; in a fork, return its script."""
    answers: dict[int, socket.socket] = {}

    def reap(*_: object) -> None:
        for pid in list(answers):
            # The next end may interrupt this function, by itself, which then has told of this one.
            with suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with answers.pop(pid) as answer, suppress(OSError):
                        answer.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    while True:
        size, descriptors, _, _ = socket.recv_fds(connection, 8, 1)
        if not size:
            return None
        text = _receive(connection, int.from_bytes(size))
        if not descriptors:
            continue  # too many files are open to take it, which closed it
        answer = socket.socket(fileno=descriptors[0])
        # One request that fails must not end the server, and by that all jobs: the other end finds
        # its connection closed, and starts the script as any process.
        try:
            request = json.loads(text)
            _import_what(request["script"])
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            pid = os.fork()
        except Exception:  # no more processes or no more memory
            pid = None
            answer.close()
        if pid == 0:
            for inherited in (connection, *answers.values()):
                inherited.close()
            with answer:
                if not answer.recv(1):  # nobody is there any more who would have it begin
                    os._exit(1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(**request)
            return str(request["script"])
        if pid is not None:
            answers[pid] = answer
            with suppress(OSError):
                answer.sendall(b"%d\n" % pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or less if the other end is closed: the end of a job interrupts a wait."""
    received = bytearray()
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            break
        received += part
    return bytes(received)


def _import_what(script: str) -> None:
    """Import the modules that a script names in `from ... import`.

    What cannot be imported, the script itself will say.
    """
    with suppress(Exception, SystemExit):
        for node in ast.walk(ast.parse(Path(script).read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                import_module(node.module)


def _become(script: str, environment: dict[str, str]) -> None:
    """Have this fork look like a process that was started for the script.

    Libraries that count their threads once, as OpenMP does, have done so in the server: scripts set
    them by `use_cores`.
    """
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # of another TMPDIR, if an import in the server has asked
    sys.argv[:] = [script]
    if not environment.get("PYTHONSAFEPATH"):
        sys.path.insert(0, str(Path(script).resolve().parent))
    with suppress(OSError, ValueError, IndexError):
        _show_command(f"{sys.executable}\0{script}\0".encode())
    # Ctrl-C waits until the job lets it in; see `interrupts_held`.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGINT})


def _run(script: str) -> NoReturn:
    """Run the script and end as Python does, but for taking all modules apart.

    In a fork that would copy the memory that it shares: of torch, as long as an import of it.
    """
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            status = (end.code or 0) & 0xFF
        else:
            print(end.code, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # As in the forks of multiprocessing.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody may be there to read it
            stream.flush()
    os._exit(status)


def _show_command(command: bytes) -> None:
    """Put another command line where the system shows that of this process (Linux)."""
    # From the end of the name, which may hold anything: fields 48 and 49 of the line.
    numbers = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(numbers[45]), int(numbers[46])
    if 0 < len(command) <= end - begin:
        ctypes.memmove(begin, command.ljust(end - begin, b"\0"), end - begin)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        found = _serve(requests)
    if found is None:
        os._exit(0)  # at once: with it end the jobs of a workflow that was killed
    _run(found)
