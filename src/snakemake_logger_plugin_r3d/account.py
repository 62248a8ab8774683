"""The account of a run: from what Snakemake reports to the lines that a person reads."""

import logging
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r3d.workflow.joblogs import STATE_SAVED, ending
from r3d.workflow.jobs import stopped_by_signal

_FEW = 12
"""Of a rule with more jobs than this, quick ones and shards are counted in a line now and then."""

_GATHERED_LINES = 10
_GATHERED_SECONDS = 10
_LONG_SECONDS = 30
_FIRST_SILENCE = 60
_LONGEST_SILENCE = 3600
_SHOWN_FAILURES = 10
_WIDTH = 100

# What Snakemake and the SLURM plugin say of themselves, or for each job once more.
_NOISE = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Conda environments: ignored|Singularity|"
    r"Apptainer|Group jobs: inactive|Select jobs|Execute \d+ jobs|DAG of jobs will be|"
    r"Updating checkpoint|Updating jobs|Removing temporary|Write-protecting|Touching output|"
    r"Job rate limit|Waiting for queue|Processed \d+ potential|Shutting down|Elapsed time|"
    r"Exiting because a job|Storing output|SLURM run ID|Job \d+ has been submitted|"
    r"Submitted array job|Array job submission does not allow|Cleaning up SLURM|"
    r"'sacct' unavailable|Falling back to 'sacct'|"
    r"This was a dry-run|The run involves checkpoint|Reasons:|Some jobs were triggered|"
    r"Rules with (provenance|missing|outdated)|\d+ jobs have (missing|outdated)|host: |None$"
)
_JOB_FAILED = "At least one job did not complete successfully"
_SCRIPT_FAILED = re.compile(r"(RuleException|CalledProcessError)\b.*CalledProcessError", re.DOTALL)
_TRIED_AGAIN = re.compile(r"Trying to restart job (\d+)")
_INTERRUPTED = "Terminating processes on user request"
_GRACEFULLY = "Will exit after finishing currently running jobs"
_COMPLETE_LOG = re.compile(r"Complete log\(s\): (.*)")

_REASONS = {
    "Forced execution": "asked for",
    "Incomplete output": "not finished last time",
    "Code has changed": "its code has changed",
    "Params have changed": "its settings have changed",
    "Set of input files has changed": "it has other inputs",
    "Software environment": "its software environment has changed",
    "Updated input files": "newer: ",
    "Missing output": "not made yet",
    "Input files updated by another job": "after steps before it",
}


@dataclass
class _Job:
    """A job that has been started: what it is called, since when, and how often."""

    rule: str
    name: str
    start: float
    of_experiment: bool


class Account:
    """What is said of a run; `take` is given all records of its log."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        quiet: Collection[str] = (),
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._clock = clock
        self._quiet = bool({"RULES", "PROGRESS"} & set(quiet))
        self._reasons = "REASON" not in quiet and not self._quiet
        self._dry_run = dry_run
        self._started = False  # whether there are jobs to be done
        self._planned: Counter[str] = Counter()
        self._counts: dict[str, int] = {}
        self._asked: dict[str, list[tuple[str, str]]] = {}  # of a dry run: names and reasons
        self._running: dict[int, _Job] = {}
        self._ended: list[_Job] = []  # to be told of with the next count of jobs
        self._done, self._total = 0, 0
        self._gathered: Counter[str] = Counter()
        self._first: dict[str, float] = {}
        self._told: dict[str, tuple[int, float]] = {}
        self._failures: Counter[str] = Counter()
        self._failed: set[int] = set()
        self._told_of_groups: set[int] = set()  # failed jobs that are reported once more, alone
        self._unexplained = ""  # that something failed, which is to be said of it by itself
        self._tails: set[tuple[str, ...]] = set()
        self._stopping = False
        self._stopped: list[str] = []
        self._complete_log = ""
        self._last_line = clock()
        self._silence = _FIRST_SILENCE
        self._hinted = False

    def take(self, record: logging.LogRecord) -> None:
        """Take note of a record, and say what there is to say."""
        event = getattr(record, "event", None)
        kind = str(getattr(event, "value", event or "")).lower()
        if kind == "run_info":
            self._plan(record)
        elif kind == "job_info":
            self._start(record)
        elif kind == "job_finished":
            self._finish(record)
        elif kind == "progress":
            self._count(record)
        elif kind == "job_error":
            if int(vars(record)["jobid"]) in self._told_of_groups:
                self._told_of_groups.remove(int(vars(record)["jobid"]))
            else:
                self._fail(vars(record), record.created)
        elif kind == "group_error":
            self._fail_group(vars(record), record.created)
        elif kind in ("", "error"):
            text = record.getMessage() if record.msg else ""
            if not kind:  # of what a plugin has caught; the complete log has the traceback
                text = text.partition("\nTraceback (most recent call last)")[0]
            self._message(record, text)
        # What other events tell is in these, or nobody's concern.

    def end(self) -> None:
        """Say how the run ended, if not well: nothing comes after."""
        if self._dry_run:
            self._tell_plan()
        for rule in list(self._gathered):
            self._tell_gathered(rule)
        again = f"{shlex.join(['snakemake', *sys.argv[1:]])}"
        if self._stopping or (self._failures and stopped_by_signal()):
            self._end_stopped(again)
        elif self._failures:
            n_failed = len(self._failed)
            hidden = sum(max(0, n - _SHOWN_FAILURES) for n in self._failures.values())
            more = f" ({hidden} of them not shown)" if hidden else ""
            self._say(
                f"{_number(n_failed, 'job')} failed{more}, {self._done} of {self._total} are done. "
                f"Mend what is said above, then go on with: {again}"
            )
            if self._complete_log:
                self._say(f"all that Snakemake said: {self._complete_log}")
        elif self._unexplained:
            self._say(self._unexplained)
            if self._complete_log:
                self._say(f"all that Snakemake said: {self._complete_log}")

    def tell_of_long_jobs(self) -> None:
        """Name the jobs at work if nothing has been said for long; the pauses grow."""
        now = self._clock()
        if self._quiet or not self._running or self._stopping:
            return
        if now - self._last_line < self._silence:
            return
        self._silence = min(2 * self._silence, _LONGEST_SILENCE)
        jobs = sorted(self._running.values(), key=lambda job: job.start)
        shown = [f"{job.name} ({_duration(now - job.start)})" for job in jobs[:3]]
        more = [f"{len(jobs) - 3} more"] if len(jobs) > 3 else []
        hint = "" if self._hinted else "; epochs and time left: r3d status"
        self._hinted = True
        self._say(f"at work: {', '.join(shown + more)}{hint}")

    def _plan(self, record: logging.LogRecord) -> None:
        stats = dict(getattr(record, "stats", None) or {})
        total = stats.pop("total", sum(stats.values()))
        first = not self._planned
        self._planned.update({name: n - self._planned[name] for name, n in stats.items()})
        if not self._dry_run:
            self._started = True
            self._total = total
            if first and not self._quiet:
                self._say(_wrapped(f"{_number(total, 'job')}: ", _counted(stats)))

    def _start(self, record: logging.LogRecord) -> None:
        fields = vars(record)
        rule = str(fields["rule_name"])
        wildcards = dict(fields.get("wildcards") or {})
        subject = "/".join(str(value) for value in wildcards.values())
        if self._dry_run:
            reason = str(fields.get("reason") or "")
            self._asked.setdefault(rule, []).append((subject, reason))
            return
        if not fields.get("output"):
            return  # a name for what others make
        now = record.created
        self._first.setdefault(rule, now)
        name = f"{rule} {subject}".rstrip()
        job = _Job(rule, name, now, of_experiment="experiment" in wildcards)
        self._running[int(fields["jobid"])] = job

    def _finish(self, record: logging.LogRecord) -> None:
        number = int(vars(record)["job_id"])
        self._failed.discard(number)
        job = self._running.pop(number, None)
        if job is not None:
            self._ended.append(job)
            self._counts[job.rule] = self._counts.get(job.rule, 0) + 1

    def _count(self, record: logging.LogRecord) -> None:
        self._done, self._total = int(vars(record)["done"]), int(vars(record)["total"])
        ended, self._ended = self._ended, []
        for job in ended:
            seconds = record.created - job.start
            alone = job.of_experiment and seconds >= _LONG_SECONDS
            if self._quiet:
                continue
            if self._planned[job.rule] <= _FEW or alone:
                self._say(f"{self._progress()} {job.name}  {_duration(seconds)}")
                continue
            self._gathered[job.rule] += 1
            told, when = self._told.get(job.rule, (0, self._first[job.rule]))
            n, planned = self._counts[job.rule], self._planned[job.rule]
            enough = n - told >= -(-planned // _GATHERED_LINES)
            if n >= planned or (enough and record.created - when >= _GATHERED_SECONDS):
                self._told[job.rule] = n, record.created
                self._tell_gathered(job.rule)

    def _tell_gathered(self, rule: str) -> None:
        if self._gathered.pop(rule, 0):
            n, planned = self._counts[rule], self._planned[rule]
            elapsed = _duration(self._clock() - self._first[rule])
            self._say(f"{self._progress()} {rule}: {n} of {max(n, planned)}  {elapsed}")

    def _progress(self) -> str:
        total = str(self._total)
        return f"[{self._done:>{len(total)}}/{total}]"

    def _fail_group(self, fields: Mapping[str, Any], now: float) -> None:
        """Tell of jobs that a cluster runs as one: of those whose logs tell why, or else of all."""
        jobs = list(fields.get("job_error_info") or ())
        of_group = list(fields.get("aux_logs") or ())
        self._told_of_groups.update(int(job["jobid"]) for job in jobs)
        to_blame = [
            job for job in jobs if any(ending(Path(log)).failed for log in job.get("log") or ())
        ]
        for job in to_blame or jobs:
            self._fail({**job, "log": [*(job.get("log") or ()), *of_group]}, now)
        for job in jobs:
            self._running.pop(int(job["jobid"]), None)

    def _fail(self, fields: Mapping[str, Any], now: float) -> None:
        number = int(fields["jobid"])
        job = self._running.pop(number, None)
        rule = str(fields["rule_name"])
        name = job.name if job else rule
        logs = [Path(log) for log in fields.get("log") or ()]
        ends = [ending(log) for log in logs]
        if self._stopping or stopped_by_signal():
            said = next((end.lines[-1] for end in ends if end.lines), "")
            if STATE_SAVED in said:
                self._stopped.append(f"{name}: {said}")
            self._failures[rule] += 1
            return
        self._failed.add(number)
        self._failures[rule] += 1
        if self._failures[rule] > _SHOWN_FAILURES:
            return
        after = f" after {_duration(now - job.start)}" if job else ""
        # A job of a cluster may have come to its end without a word in its own log.
        lines = next((end.lines for end in ends if end.lines), [])
        log = next((log for log, end in zip(logs, ends, strict=True) if end.lines), None)
        known = tuple(lines) in self._tails
        self._tails.add(tuple(lines))
        where = f"; its log, {log}, ends with" if log else "; its log is empty"
        what = "STOPPED" if lines and STATE_SAVED in lines[-1] else "FAILED"
        self._say(f"{what} {name}{after}{where}{' what is said above' if known else ':'}")
        if not known:
            for line in lines:
                self._say(f"    {line}")
        told = str(fields.get("rule_msg") or "").partition("For further error details")[0].strip()
        if told:
            self._say(f"    {told}")
            self._say(f"    {', '.join(map(str, logs))}")

    def _message(self, record: logging.LogRecord, text: str) -> None:
        if record.levelno < logging.INFO or not text.strip():
            return
        if found := _COMPLETE_LOG.match(text):
            self._complete_log = found[1]
        elif found := _TRIED_AGAIN.match(text):
            self._failed.discard(int(found[1]))
            self._say("    it is tried again")
        elif text.startswith(_INTERRUPTED):
            self._stopping = True
            self._say("stopping; what runs is being saved ...")
        elif text.startswith(_GRACEFULLY):
            self._say("stopping when the jobs that run have ended; Ctrl-C stops them, too")
        elif self._stopping and record.levelno >= logging.ERROR:
            pass
        elif _JOB_FAILED in text or _SCRIPT_FAILED.match(text):
            self._unexplained = self._unexplained or text
        elif not _NOISE.match(text):
            self._say(text)

    def _end_stopped(self, again: str) -> None:
        for line in self._stopped[:_SHOWN_FAILURES]:
            self._say(line)
        if len(self._stopped) > _SHOWN_FAILURES:
            self._say(f"and {len(self._stopped) - _SHOWN_FAILURES} more, likewise")
        failed = f", {_number(len(self._failed), 'job')} failed" if self._failed else ""
        self._say(
            f"stopped; {self._done} of {self._total} jobs are done{failed}, and what was at work "
            f"goes on from where it is, with: {again}"
        )

    def _tell_plan(self) -> None:
        """Of a dry run: how many jobs of each rule, of what, and why."""
        if not self._planned:
            return
        planned, self._planned = self._planned, Counter()
        total = sum(planned.values())
        self._say(f"{_number(total, 'job')} to be done")
        width = max(map(len, planned))
        for rule, n in planned.items():
            jobs = self._asked.get(rule, [])
            of = _shortened(sorted(subject for subject, _ in jobs if subject))
            why = _why(reason for _, reason in jobs) if self._reasons else ""
            of += f"  ({why})" if why else ""
            self._say(f"{n:>6} {rule:<{width}}  {of}".rstrip())
        self._say("nothing was done (a dry run); each job by itself: -n -p")

    def _say(self, text: str) -> None:
        self._last_line = self._clock()
        self._write(text)


def _why(reasons: Iterable[str]) -> str:
    """The causes of jobs in a few words, those of their own before what others set off."""
    found: dict[str, None] = {}
    for reason in reasons:
        for phrase, words in _REASONS.items():
            if phrase not in reason:
                continue
            if words.endswith(": "):
                files = reason.partition(f"{phrase}: ")[2].partition(";")[0]
                words += _shortened(files.split(", "))
            found[words] = None
    order = [words for start in _REASONS.values() for words in found if words.startswith(start)]
    own = [words for words in order if words != _REASONS["Input files updated by another job"]]
    return "; ".join((own or order)[:3])


def _shortened(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _counted(stats: dict[str, int]) -> list[str]:
    return [f"{n} {name}" for name, n in stats.items()]


def _wrapped(start: str, parts: list[str]) -> str:
    """Parts with commas between, in lines of at most so many characters."""
    lines = [start]
    for i, part in enumerate(parts):
        text = part + ("," if i < len(parts) - 1 else "")
        if len(lines[-1]) + len(text) + 1 > _WIDTH:
            lines.append("   ")
        lines[-1] += text if lines[-1] in (start,) else f" {text}"
    return "\n".join(lines)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
