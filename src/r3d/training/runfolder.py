"""The folder in which a training keeps what has to outlive its process.

    <checkpoints>/<fingerprint>/
        latest.pth          the whole state, after each epoch and when the training is stopped
        previous.pth        the one before, in case that latest.pth gets damaged
        best.pth            the state with the best validation accuracy
        save_<epoch>.pth    every so many epochs, named as in the reference
        train.log  train_batch.log  val.log      tab separated, the reference's columns
        speed.log           what each epoch took, and how long of it was waiting for data
        tensorboard/        the same by epoch, if asked for

The fingerprint stands for everything that the trained weights depend on, so a change of options
never resumes from the state of other options, and changing them back does not begin again.
"""

import csv
import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.files import atomic_path, hold_lock
from r3d.models.checkpoint import Checkpoint, read_checkpoint
from r3d.obstacles import writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TRAIN_COLUMNS = ("epoch", "loss", "acc", "lr")
BATCH_COLUMNS = ("epoch", "batch", "iter", "loss", "acc", "lr")
VAL_COLUMNS = ("epoch", "loss", "acc")
SPEED_COLUMNS = ("epoch", "clips", "seconds", "waiting")
Row = tuple[float, ...]

# An earlier process that was told to stop may still be saving its state.
_LOCK_SECONDS = 120

_log = logging.getLogger(__name__)


def fingerprint(
    options: TrainingOptions, inputs: Iterable[Path], digests: Iterable[bytes] = ()
) -> str:
    """Twelve hex digits of all that the trained weights depend on.

    Options at their defaults do not count, so that a new option does not part a training from its
    state. The number of epochs counts only where the schedule depends on it: else a training can
    be prolonged.

    Args:
        inputs: files whose bytes count, such as `resume_path`.
        digests: of contents that count whatever file they are in: samples and pretrained weights.
    """
    # Which experiment or file the weights come from does not matter, their content does.
    ignored = {"pretrain", "pretrain_path", "resume_path", "final_model"}
    if options.multigrid == "none":  # whose cycles are laid out by them
        if options.lr_scheduler != "cosine":
            ignored.add("n_epochs")
        if options.overwrite_milestones:
            ignored |= {"multistep_milestones", "overwrite_milestones"}
    values = options.model_dump(exclude=ignored, exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in inputs:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for content in digests:
        digest.update(content)
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """The files of one training; `lock` it while training."""

    path: Path

    @property
    def latest(self) -> Path:
        return self.path / "latest.pth"

    @property
    def previous(self) -> Path:
        return self.path / "previous.pth"

    @property
    def best(self) -> Path:
        return self.path / "best.pth"

    def periodic(self, epoch: int) -> Path:
        """The checkpoint that is kept of an epoch."""
        return self.path / f"save_{epoch}.pth"

    def keep_previous(self) -> None:
        """Let the latest state be the previous one, before another takes its place."""
        if not self.latest.is_file():
            return
        self.previous.unlink(missing_ok=True)
        try:
            self.previous.hardlink_to(self.latest)  # so that there is a latest one all the time
        except OSError:  # a file system without links
            self.latest.replace(self.previous)

    def state_before(self, n_epochs: int, *, with_best: bool) -> tuple[Path, Checkpoint] | None:
        """The furthest state of at most so many epochs, `None` if there is none to go on from.

        A state that is damaged is passed over, and that is said.

        Args:
            with_best: the state of its best epoch has to be here, too. If a longer training has put
                a later one in its place, a state before it is taken, so that it is trained again.
        """
        limit = (n_epochs, 0)
        for path in self._states():
            checkpoint = _read_state(path)
            if checkpoint is None:
                continue
            epoch, step, best_epoch = _progress(checkpoint)
            if (epoch, step) > limit:
                continue
            if not with_best or best_epoch == 0 or self.state_of(best_epoch):
                return path, checkpoint
            limit, with_best = (best_epoch - 1, sys.maxsize), False
        return None

    def state_of(self, epoch: int) -> tuple[Path, Checkpoint] | None:
        """The state after an epoch, if it is kept."""
        for path in (self.best, self.periodic(epoch), self.latest, self.previous):
            if path.is_file():
                checkpoint = _read_state(path)
                if checkpoint is not None and _progress(checkpoint)[:2] == (epoch, 0):
                    return path, checkpoint
        return None

    def _states(self) -> Iterator[Path]:
        """The states there are to resume from, the furthest first."""
        yield from (path for path in (self.latest, self.previous) if path.is_file())
        kept: list[tuple[int, int, Path]] = []
        for path in (*self.path.glob("save_*.pth"), self.best):
            checkpoint = _read_state(path) if path.is_file() else None
            if checkpoint is not None:
                kept.append((*_progress(checkpoint)[:2], path))
        yield from (path for *_, path in sorted(kept, reverse=True))

    def lock(self) -> AbstractContextManager[object]:
        """Hold the folder for this process; the kernel lets go when the process ends.

        Raises:
            InputError: if another process trains here and does not end soon.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = self.path.with_suffix(".lock")
        try:
            lock = hold_lock(lock_file)
        except TimeoutError:
            _log.info("another process still holds %s; waiting for it", self.path)
            try:
                lock = hold_lock(lock_file, wait_seconds=_LOCK_SECONDS)
            except TimeoutError:
                raise InputError(
                    f"training state {self.path}: another process trains here; "
                    "stop it first, or wait for it"
                ) from None
        return lock

    def set_aside_finished(self, n_epochs: int, code: str) -> None:
        """Keep a finished training by other code under another name and begin anew.

        Its result is not that of the present code. One that is not finished goes on, whatever code
        began it: weeks of training are not thrown away for an edit.
        """
        state = _read_state(self.latest) if self.latest.is_file() else None
        if state is None and self.previous.is_file():
            state = _read_state(self.previous)
            if state is not None:  # else the damaged one would be the previous one soon
                self.previous.replace(self.latest)
        if state is None or state.training is None:
            return
        earlier = str(state.training.get("code", ""))
        if state.epoch < n_epochs or earlier == code or not re.fullmatch(r"\w+", earlier):
            return
        name = f"{self.path.name}.{earlier}"
        taken = sum(1 for _ in self.path.parent.glob(f"{name}*"))
        target = self.path.with_name(f"{name}.{taken}" if taken else name)
        self.path.rename(target)
        self.path.mkdir()
        _log.info("kept the finished training by earlier code in %s", target)

    def adopt(self, earlier: "RunFolder") -> None:
        """Take over the folder that an earlier version gave this training, under its own name."""
        if self.path.exists() or not earlier.path.is_dir():
            return
        with earlier.lock():
            earlier.path.rename(self.path)
        _log.info("the state of the training is now in %s, before in %s", self.path, earlier.path)

    def begun_from_a_file(self) -> bool:
        """Whether the training here went on from a file: its log does not begin with epoch 1."""
        log = self.path / "train.log"
        if not log.is_file():
            return False
        with log.open(newline="", encoding="utf-8") as file:
            return next(
                (row["epoch"] != "1" for row in csv.DictReader(file, delimiter="\t")), False
            )

    def copy_logs(
        self, train_log: Path, val_log: Path, speed_log: Path | None, *, n_epochs: int
    ) -> None:
        """Copy the logs by epoch, up to the last one."""

        def is_asked(row: dict[str, str]) -> bool:
            return int(row["epoch"]) <= n_epochs

        _copy(self.path / "train.log", train_log, TRAIN_COLUMNS, is_asked)
        _copy(self.path / "val.log", val_log, VAL_COLUMNS, is_asked)
        if speed_log is not None:
            _copy(self.path / "speed.log", speed_log, SPEED_COLUMNS, is_asked)


def tensorboard_writer() -> "type[SummaryWriter]":
    """The class that writes logs for TensorBoard, which need not be installed.

    Raises:
        InputError: if it is not.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise InputError(
            "tensorboard: true needs the package tensorboard: "
            "pip install 'r3d[tensorboard]', or set tensorboard: false"
        ) from None
    return SummaryWriter


class TrainingLogs:
    """The logs of a training that goes on, without the rows that its state does not contain."""

    def __init__(self, folder: Path, epoch: int, step: int, *, tensorboard: bool) -> None:
        """Open the logs after so many finished epochs and steps of the next.

        Args:
            tensorboard: whether epochs are logged for TensorBoard, too, in `folder`/tensorboard.
        """
        self._tensorboard = None
        if tensorboard:
            writer = tensorboard_writer()
            self._tensorboard = writer(folder / "tensorboard", purge_step=epoch + 1)
        self._train = folder / "train.log"
        self._batches = folder / "train_batch.log"
        self._val = folder / "val.log"
        self._speed = folder / "speed.log"

        def is_done(row: dict[str, str]) -> bool:
            last_step = row.get("batch", "inf")
            return (int(row["epoch"]) - 1, float(last_step)) <= (epoch, step)

        for log, columns in (
            (self._train, TRAIN_COLUMNS),
            (self._batches, BATCH_COLUMNS),
            (self._val, VAL_COLUMNS),
            (self._speed, SPEED_COLUMNS),
        ):
            _copy(log, log, columns, is_done)

    def epoch(self, train_row: Row, val_row: Row | None, speed_row: Row) -> None:
        """Log an epoch; without a validation only its training."""
        _append(self._train, [train_row])
        _append(self._speed, [speed_row])
        if val_row is not None:
            _append(self._val, [val_row])
        if self._tensorboard is not None:
            rows = {"train": (TRAIN_COLUMNS, train_row), "val": (VAL_COLUMNS, val_row or ())}
            for subset, (columns, row) in rows.items():
                for column, value in zip(columns[1:], row[1:], strict=False):
                    self._tensorboard.add_scalar(f"{subset}/{column}", value, int(train_row[0]))
            self._tensorboard.flush()

    def batches(self, rows: Iterable[Row]) -> None:
        """Log steps."""
        _append(self._batches, rows)


def _read_state(path: Path) -> Checkpoint | None:
    """A state of a run folder; None, and said, if there is nothing to go on from in it."""
    try:
        checkpoint = read_checkpoint(path)
        _progress(checkpoint)
    except (InputError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"checkpoint {path}: ")
        _log.warning("%s is passed over, and the state before it used: %s", path, reason)
        return None
    return checkpoint


def _progress(state: Checkpoint) -> tuple[int, int, int]:
    """Epochs and steps that a state has done, and its best epoch."""
    if state.training is None:
        raise LookupError("it is no state of a training")
    return (
        int(state.training["epoch"]),
        int(state.training["step"]),
        int(state.training.get("best_epoch", 0)),
    )


def _copy(
    log: Path, output: Path, columns: tuple[str, ...], keep: Callable[[dict[str, str]], bool]
) -> None:
    """Write the header and the rows to keep, those of a log that there may not be yet."""
    rows: list[dict[str, str]] = []
    if log.is_file():
        with log.open(newline="", encoding="utf-8") as file:
            # The last row of a killed process may be half a row.
            rows = [
                row
                for row in csv.DictReader(file, delimiter="\t")
                if None not in row.values() and keep(row)
            ]
    with atomic_path(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _append(path: Path, rows: Iterable[Row]) -> None:
    with writing(path), path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
