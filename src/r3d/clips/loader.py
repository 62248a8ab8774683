"""Batches of clips: their order, and the processes that make them.

>>> clips = TrainingClips(read_annotation(path, subset="training"), store, options)
>>> sampler = EpochSampler(len(clips), seed=1)
>>> loader = make_loader(clips, sampler, batch_size=128, n_workers=4)
>>> for epoch in range(200):
...     sampler.set_epoch(epoch)
...     for batch in loader:
...         inputs = model_input(batch, options, device)
"""

import errno
import multiprocessing.connection
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from r3d.clips.balance import balanced_numbers
from r3d.clips.datasets import Clip, ClipDataset
from r3d.config.options import RunOptions
from r3d.errors import InputError

# A forked worker shares lists and libraries with this process. Python's choice from 3.14 on would
# have each load torch anew (0.4 GB) and keep its own copy of the lists. Elsewhere forks are unsafe.
_START_METHOD = "fork" if sys.platform == "linux" else None
_SHARED_MEMORY = Path("/dev/shm")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ClipBatch(NamedTuple):
    """Clips on their way to the device; a clip of several views takes as many rows.

    Attributes:
        clips: (b, t, h, w, c), uint8.
        labels: (b,), int64; -1 where unknown.
        flips: (b,), bool.
        videos: (b,), int64, numbers of the videos in the data set.
        segments: (b, 2), int64, begin and end frame of each.
    """

    clips: Tensor
    labels: Tensor
    flips: Tensor
    videos: Tensor
    segments: Tensor


class EpochSampler:
    """The keys of an epoch for `TrainingClips`, in an order drawn from (seed, epoch).

    >>> import r3d
    >>> sampler = r3d.EpochSampler(3, seed=1)
    >>> list(sampler)  # of epoch 0: its keys say which
    [(0, 0), (0, 1), (0, 2)]
    >>> sampler.set_epoch(1)
    >>> list(sampler)
    [(1, 2), (1, 0), (1, 1)]

    Each of several processes gets every `world_size`-th sample: together they get each once, and
    their shares differ by at most one.

    With `crops_per_clip` each clip comes so many times in a row, as the keys (epoch, number, crop):

    >>> list(r3d.EpochSampler(2, seed=1, crops_per_clip=2))
    [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]
    >>> list(r3d.EpochSampler(2, seed=1, crops_per_clip=2, batch_size=4))
    [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]

    Args:
        n: number of videos.
        start: samples of the epoch that all processes together are done with; with it an epoch
            continues where it stopped, be it with another number of processes.
        classes: (n,), the class of each video, which `class_balance` needs.
        class_balance: from 0, each video once, to 1, each class equally often
            (`r3d.clips.balance`).
        crops_per_clip: samples of each clip, which is decoded once for those of a batch.
        batch_size: samples of a batch over all processes. In each batch the first crops of all its
            clips come before the second ones and so on. So processes have whole clips, if
            `batch_size` can be divided by their number times `crops_per_clip`, and neighbours,
            which are mixed with each other, are of different videos.
    """

    def __init__(
        self,
        n: int,
        *,
        seed: int,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        classes: np.ndarray | None = None,
        class_balance: float = 0,
        crops_per_clip: int = 1,
        batch_size: int = 1,
    ) -> None:
        self._classes, self._class_balance = classes, class_balance
        self._crops_per_clip, self._batch_size = crops_per_clip, batch_size
        self._n, self._seed, self._rank, self._world_size = n, seed, rank, world_size
        self.set_epoch(epoch, start=start)

    def set_epoch(self, epoch: int, *, start: int = 0) -> None:
        """Choose the epoch, and the place in it, of the next iteration."""
        self._epoch, self._start = epoch, start

    def __len__(self) -> int:
        n_samples = self._n * self._crops_per_clip
        return len(range(self._start + self._rank, n_samples, self._world_size))

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        epoch = self._epoch
        share = slice(self._start + self._rank, None, self._world_size)
        if self._crops_per_clip == 1:
            for number in self._order()[share]:
                yield epoch, int(number)
            return
        places, crops = np.divmod(np.arange(self._n * self._crops_per_clip), self._crops_per_clip)
        order = np.lexsort((crops, np.arange(len(crops)) // self._batch_size))[share]
        for number, crop in zip(self._order()[places[order]], crops[order], strict=True):
            yield epoch, int(number), int(crop)

    def _order(self) -> np.ndarray:
        """The numbers of the clips, (n,)."""
        rng = np.random.default_rng((self._seed, self._epoch))
        if self._classes is None or self._class_balance == 0:
            return rng.permutation(self._n)
        return balanced_numbers(self._classes, self._class_balance, rng)


class ClipLoader:
    """The batches of a data set, made by worker processes; can be gone through again and again.

    Raises:
        InputError: when a clip cannot be made.
        WorkerLost: when there are not the means to make them, memory above all.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[ClipBatch]:
        batches = None
        try:
            with _signals_held(), _deaths_noticed_here(), _any_number_of_workers():
                batches = iter(self._loader)
            for batch in batches:
                if isinstance(batch, InputError):
                    # A new one, for `batch` would hold its own traceback and so this loader, whose
                    # workers end at once if it is freed, but slowly if it is garbage in a cycle.
                    raise type(batch)(str(batch))
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            # A death may be noticed as workers that are kept begin an epoch.
            iterator = batches or getattr(self._loader, "_iterator", None)
            reason = _lack(error) or _death(getattr(iterator, "_workers", ()))
            if isinstance(error, InputError) or reason is None:
                raise
            raise WorkerLost(_advice(reason)) from None


class WorkerLost(InputError):
    """A worker has died, or has not the memory that it needs; what was trained before is right."""


def _advice(reason: str) -> str:
    return (
        f"loading clips: {reason}; lower n_threads (0 loads without other processes and shared "
        "memory, and no result changes), lower batch_size (another training), or allow more; then "
        "start again"
    )


def _lack(error: BaseException) -> str | None:
    """What a process that makes or passes on batches has too little of, None if it is not that."""
    text = str(error)
    if "in DataLoader worker process" in text:  # the traceback of one, which has looked at it
        return None
    number = getattr(error, "errno", None)
    if "shared memory" in text or "shm" in text or "/torch_" in text or number == errno.ENOSPC:
        free = shutil.disk_usage(_SHARED_MEMORY).free >> 20 if _SHARED_MEMORY.is_dir() else 0
        return (
            f"batches do not fit into the shared memory ({_SHARED_MEMORY}, {free} MB free; "
            "docker run --shm-size=8g allows more)"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "allocate memory" in text:
        return "there is too little memory"
    if number in (errno.EMFILE, errno.ENFILE) or "open files" in text or "ancdata" in text:
        return "too many files are open (ulimit -n 65536 allows more)"
    if number == errno.EAGAIN:
        return "no more processes may be started (ulimit -u)"
    return None


def _death(workers: Iterable[Any]) -> str | None:
    """How a worker ended that should not have, None if none did."""
    workers = list(workers)
    # The end of what it was writing is seen a moment before its own.
    ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=1)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(timeout=1)  # its status comes a moment after its end, too
        if worker.exitcode == -signal.SIGBUS:
            return _lack(RuntimeError("shm"))
        if worker.exitcode == -signal.SIGKILL:
            return "a worker was killed, as the system does where memory runs out"
        if worker.exitcode:
            return f"a worker ended with status {worker.exitcode}"
    return None


def make_loader(
    dataset: ClipDataset,
    keys: EpochSampler | Sequence[int] | Iterable[list[Any]],
    *,
    batch_size: int | None,
    n_workers: int = 0,
    pin_memory: bool = False,
    prefetch: int = 2,
) -> ClipLoader:
    """A loader of batches in the order of the keys.

    Args:
        keys: an `EpochSampler` for `TrainingClips`; for the others an `EvaluationClips.shard`, or
            some keys in order.
        batch_size: rows of a batch, at most; None: `keys` gives those of a batch at a time.
        n_workers: processes that make batches, kept from epoch to epoch; 0: this one does.
        pin_memory: whether batches go into memory that a CUDA device copies from fast.
        prefetch: batches that each worker makes ahead.
    """
    batches: Any = keys if batch_size is None else dataset.batches(keys, batch_size)
    with _any_number_of_workers():
        loader = DataLoader(
            _Guarded(dataset),
            batch_sampler=batches,
            num_workers=n_workers,
            multiprocessing_context=_START_METHOD if n_workers else None,
            collate_fn=_collate_guarded,
            pin_memory=pin_memory,
            worker_init_fn=_init_worker,
            persistent_workers=n_workers > 0,
            prefetch_factor=prefetch if n_workers else None,
            generator=torch.Generator(),  # else each iteration advances the global random state
        )
    return ClipLoader(loader)


def worker_count(run: RunOptions) -> int:
    """Processes that load clips: as many as are asked for; by default no more than there are cores.

    No result depends on it.
    """
    if "n_threads" in run.model_fields_set:
        return run.n_threads
    return min(run.n_threads, len(os.sched_getaffinity(0)))


class _Guarded(Dataset[Clip]):
    """Clips by whole batches, or what is wrong with one of them.

    That comes from a worker as a value, for an exception would arrive as a traceback of many lines.
    """

    def __init__(self, dataset: ClipDataset) -> None:
        self._dataset = dataset

    def __getitems__(self, keys: Sequence[Any]) -> list[Clip] | InputError:
        try:
            return self._dataset.__getitems__(keys)
        except InputError as error:
            return error
        except MemoryError as error:
            return WorkerLost(_advice(_lack(error) or ""))


def _collate_guarded(clips: list[Clip] | InputError) -> ClipBatch | InputError:
    if isinstance(clips, InputError):
        return clips
    try:
        return collate_clips(clips)
    except (RuntimeError, OSError, MemoryError) as error:
        reason = _lack(error)
        if reason is None:
            raise
        return WorkerLost(_advice(reason))


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """The clips of a data set of this package as a batch: the `collate_fn` of a `DataLoader`.

    >>> import r3d
    >>> from torch.utils.data import DataLoader
    >>> samples = r3d.read_annotation("annotation.json", subset="training")
    >>> options = r3d.TrainingOptions(sample_size=32)
    >>> clips = r3d.TrainingClips(samples, r3d.open_store("frames", "jpg"), options)
    >>> loader = DataLoader(clips, batch_size=4, shuffle=True, collate_fn=r3d.collate_clips)
    >>> next(iter(loader)).clips.shape
    torch.Size([4, 16, 32, 32, 3])
    """
    rows = [(view, clip) for clip in clips for view in clip.views]
    return ClipBatch(
        clips=default_collate([view for view, _ in rows]),  # in a worker: into shared memory
        labels=torch.tensor([clip.label for _, clip in rows]),
        flips=torch.tensor([clip.flip for _, clip in rows]),
        videos=torch.tensor([clip.video for _, clip in rows]),
        segments=torch.tensor([clip.segment for _, clip in rows]),
    )


@contextmanager
def _any_number_of_workers() -> Iterator[None]:
    """Keep torch from warning of more workers than cores: those were asked for (`worker_count`)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let requests to stop wait while workers start.

    All threads of a worker then have them blocked from the beginning: also those that libraries
    start before `_init_worker` has its turn, any of which the signal would else end.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _deaths_noticed_here() -> Iterator[None]:
    """Notice the death of a worker where a batch is waited for, after seconds, and not at once.

    Torch has the signal of it raise an exception wherever this process is: in the middle of a step,
    say, which spoils the state that is to be saved.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where torch leaves the signal alone
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _init_worker(_: int) -> None:
    """One thread a worker, as there are many; and let the parent decide when it ends.

    A scheduler stops a job by a signal to all its processes. The parent then saves its state, for
    which it must not lose its workers; they end with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _tell_nobody_who_is_gone
    torch.set_num_threads(1)
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_end_on_request, args=(os.getppid(),), daemon=True).start()


def _tell_nobody_who_is_gone(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The thread that hands batches over fails where the parent is killed meanwhile."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _end_on_request(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
