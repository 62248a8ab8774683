"""Running one step as a job of its own process: log file, one-line errors, no orphans."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import NoReturn

from r3d.errors import InputError, Stopped, shown
from r3d.obstacles import obstacle, obstacle_line

_PR_SET_PDEATHSIG = 1
_AGAIN_SECONDS = 0.05
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
    log, too.

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
            show_messages(_LogFile(log, encoding="utf-8", errors="backslashreplace"))
            _die_with_parent()
            yield
    except Exception:
        logging.exception("a bug, please report it with this traceback")
        sys.exit(1)
    finally:
        end_at_interrupts()  # what follows is the end of Python
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


def raise_interrupts() -> None:
    """Let Ctrl-C be a KeyboardInterrupt again, after `end_at_interrupts`."""
    with suppress(ValueError):
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def export_package() -> None:
    """Let the processes started from here import this package, whatever Python they run."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])


class _LogFile(logging.FileHandler):
    """A log that a full disk leaves short: the step itself says what could not be written."""

    def handleError(self, record: logging.LogRecord) -> None:
        if obstacle(sys.exc_info()[1]) is None:
            super().handleError(record)


def show_messages(*handlers: logging.Handler) -> None:
    """Show messages from level INFO on as lines on standard error, and give them to `handlers`."""
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
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
