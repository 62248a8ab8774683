"""Running one step as a job of its own process: log file, one-line errors, no orphans."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from threading import Timer
from typing import Any, NoReturn, TextIO, cast

from r3d.errors import InputError, Stopped, shown
from r3d.obstacles import obstacle, obstacle_line

TERMINAL = "R3D_TERMINAL"
"""The variable that says of which file, by `file_identity`, Snakemake prints a line a job to."""

WARM_STARTS = "r3d.workflow.warmstart"
"""The module that the servers run which fork for jobs."""

_SHELLS = {"sh", "bash", "dash", "zsh"}
_PR_SET_PDEATHSIG = 1
_AGAIN_SECONDS = 0.05
_LOG_FORMAT = "%(asctime)s %(message)s"
_LINE = 4000  # characters: a file may hold labels and numbers of any length


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on bad input or when stopped; a bug keeps its traceback.

    A full disk, a lack of rights and the like are the person's business wherever they are met.
    The exit status is 1, or that of a process that the signal ended, so that a scheduler tries
    again.
    """
    interrupts: list[int] = []

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.default_int_handler, signal.SIG_DFL):
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, interrupt)
            sys.unraisablehook = _interrupt_again
    try:
        yield
    except InputError as error:
        _say(error)
    except OSError as error:
        found = obstacle(error)
        if found is None:
            raise
        where = "a file" if found.filename is None else found.filename
        _say(InputError(f"{where} cannot be read or written: {obstacle_line(found)}"))
    except Stopped as stopped:
        logging.warning("%s", stopped)
        sys.exit(128 + signal.SIGTERM)
    except BaseException:
        # Whatever an import or a library has made of it.
        if not interrupts:
            raise
        sys.exit(128 + signal.SIGINT)
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:  # a block that comes after has its own
            signal.signal(signal.SIGINT, before)


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Have Ctrl-C come once more in a moment: a destructor swallows it, and would show where."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        timer = Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


def _say(error: InputError) -> NoReturn:
    for problem in str(error).split("\n"):
        logging.error("error: %s", _shortened(shown(problem)))
    sys.exit(1)


def _shortened(line: str) -> str:
    half = _LINE // 2
    return line if len(line) <= _LINE else f"{line[:half]} ... {line[-half:]}"


@contextmanager
def job(log: str | Path, *, append: bool = False) -> Iterator[None]:
    """Run the block as a job of a workflow: messages go to a log file and standard error.

    Bad input ends the process with status 1 and its one line; the traceback of a bug goes to the
    log, too. Where standard error is the terminal in which Snakemake prints a line a job, the log
    has all of it, and what libraries print.

    Args:
        append: whether the process is one of several that write to the log.
    """
    show_messages()
    try:
        with one_line_errors():
            _let_interrupts_in()
            Path(log).parent.mkdir(parents=True, exist_ok=True)
            if not append:
                Path(log).unlink(missing_ok=True)
            _write_log(Path(log))
            _die_with_parent()
            yield
    except Exception:
        logging.exception("a bug, please report it with this traceback")
        sys.exit(1)
    finally:
        end_at_interrupts()  # what follows is the end of Python
        if sys.__stderr__ is not None:
            sys.stderr = sys.__stderr__  # a full log is no reason for another status
        logging.shutdown()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Have the processes that this thread starts in the block hold Ctrl-C back until they are jobs.

    The terminal sends it to all processes, also to those in which Python is still importing, and
    which would say where in an import they were.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _let_interrupts_in() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_at_interrupts() -> None:
    """Let Ctrl-C end this process without a word: there is nothing to be brought to an end."""
    with suppress(ValueError):  # not in the main thread
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


_stopped: list[int] = []


def stopped_by_signal() -> bool:
    """Whether a signal has come that `raise_interrupts` waits for."""
    return bool(_stopped)


def raise_interrupts(*, on_sigterm: bool) -> None:
    """Let Ctrl-C be a KeyboardInterrupt again, after `end_at_interrupts`; the second ends at once.

    Jobs that outlive their workflow end with it, and a training saves its state (`job`).

    Args:
        on_sigterm: whether SIGTERM is the same, for this process and the jobs on this machine.
            Snakemake itself would wait until they have come to their end.
    """

    def stop(number: int, _: object) -> None:
        _stopped.append(number)
        for each in (signal.SIGINT, signal.SIGTERM) if on_sigterm else (signal.SIGINT,):
            signal.signal(each, signal.SIG_DFL)
        if number == signal.SIGTERM:  # a terminal sends Ctrl-C to all by itself
            _pass_on(number)
        raise KeyboardInterrupt

    with suppress(ValueError):
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, stop)
        if on_sigterm and signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
            signal.signal(signal.SIGTERM, stop)


def pass_on_late(pid: int) -> None:
    """Send a job that has just begun the signal that was passed on, or came to all, before."""
    if _stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, _stopped[-1])


def _pass_on(number: int) -> None:
    """Send a signal to the jobs that this process has started, by shells or warm starts."""
    import psutil

    started = psutil.Process().children()
    while started:
        process = started.pop()
        with suppress(psutil.Error):
            if process.name() in _SHELLS:
                started += process.children()
            elif WARM_STARTS in process.cmdline():
                # A fork is a job from its beginning, when it still looks like its server.
                for forked in process.children():
                    with suppress(psutil.Error):
                        forked.send_signal(number)
            else:
                process.send_signal(number)


def export_package() -> None:
    """Let the processes started from here import this package, whatever Python they run."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])


def file_identity(descriptor: int) -> str | None:
    """What tells the file behind a descriptor from others, be it a terminal, a pipe or a file."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}:{status.st_rdev}"


class _LogFile(logging.FileHandler):
    """A log that a full disk leaves short: the step itself says what could not be written."""

    terminal: int | None = None
    """Where messages go that the log cannot take, if nothing else shows them."""

    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, _WithoutBars(super()._open()))

    def handleError(self, record: logging.LogRecord) -> None:
        if obstacle(sys.exc_info()[1]) is None:
            super().handleError(record)
        elif self.terminal is not None:
            with suppress(OSError):
                os.write(self.terminal, f"{record.getMessage()}\n".encode(errors="replace"))


class _WithoutBars:
    """A text stream that progress bars are kept from: they begin anew by a carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_bar = False

    def write(self, text: str) -> int:
        self._in_bar = text.startswith("\r") or (self._in_bar and text == "\n")
        return len(text) if self._in_bar else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write_log(log: Path) -> None:
    """Send messages to a log and standard error, or all of standard error to the log."""
    handler = _LogFile(log, encoding="utf-8", errors="backslashreplace")
    stream = cast(TextIOWrapper, handler.stream)
    own = file_identity(2)
    # Of several processes of a job, the first has done so for all.
    shared = own is not None and own == file_identity(stream.fileno())
    if not shared and (own is None or own != os.environ.get(TERMINAL)):
        show_messages(handler)
        return
    if not shared:
        handler.terminal = os.dup(2)
        os.dup2(stream.fileno(), 2)
    sys.stderr = stream
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def show_messages(*handlers: logging.Handler) -> None:
    """Show messages from level INFO on as lines on standard error, and give them to `handlers`."""
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    terminal = logging.StreamHandler()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[terminal, *handlers], force=True)


def _die_with_parent() -> None:
    """Have the kernel send SIGTERM when the process that started this one ends (Linux).

    When a workflow is killed outright, its jobs stop too, instead of running on beside the jobs of
    the next start.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:  # the parent ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
