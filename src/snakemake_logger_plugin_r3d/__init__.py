"""What Snakemake prints while the workflow runs: a line a job, and what failed, once.

It is chosen by `logger: r3d` in profiles/default, or `snakemake --logger r3d`. With
`--printshellcmds` (-p), `--verbose` or `--debug-dag` it prints what Snakemake itself does. The
complete log below .snakemake/log is Snakemake's own in any case.
"""

import logging
import os
import sys
import threading

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from r3d.workflow.jobs import TERMINAL, file_identity
from snakemake_logger_plugin_r3d.account import Account

__all__ = ["LogHandler"]


class LogHandler(LogHandlerBase):
    """Prints the account of a run, without colours."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        self._all = bool(settings.printshellcmds or settings.verbose or settings.debug_dag)
        self._stream = sys.stdout if settings.stdout else sys.stderr
        self._snakemakes = _snakemakes_handler(settings)
        quiet = {getattr(kind, "name", str(kind)).upper() for kind in settings.quiet or ()}
        self._silent = "ALL" in quiet and not settings.dryrun
        self._account = Account(self._write, quiet=quiet, dry_run=bool(settings.dryrun))
        self._over = threading.Event()
        if self._all or self._silent or settings.dryrun:
            return
        if (identity := file_identity(2)) is not None:
            os.environ[TERMINAL] = identity  # jobs then leave the terminal alone
        threading.Thread(target=self._tell_of_long_jobs, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._all or self._silent:
            self._snakemakes.handle(record)
            return
        try:
            self._account.take(record)
        except BrokenPipeError:
            raise
        except Exception:  # a run goes on, and says what it says, whatever a version has changed
            self._snakemakes.handle(record)

    def close(self) -> None:
        if not self._over.is_set():
            self._over.set()
            if not (self._all or self._silent):
                with self.lock or threading.RLock():
                    self._account.end()
            os.environ.pop(TERMINAL, None)
        super().close()

    def _tell_of_long_jobs(self) -> None:
        while not self._over.wait(5):
            with self.lock or threading.RLock():
                self._account.tell_of_long_jobs()

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False


def _snakemakes_handler(settings: OutputSettingsLoggerInterface) -> logging.Handler:
    """What Snakemake itself prints with."""
    # Not at the top: Snakemake imports the plugins before it has imported itself.
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    chosen = {name: getattr(settings, name) for name in ("quiet", "debug_dag", "verbose")}
    more = {name: getattr(settings, name) for name in ("dryrun", "printshellcmds")}
    return ColorizingTextHandler(
        nocolor=settings.nocolor,
        stream=sys.stdout if settings.stdout else sys.stderr,
        filter=DefaultFilter(**chosen, **more),
        formatter=DefaultFormatter(settings.quiet, settings.show_failed_logs),
    )
