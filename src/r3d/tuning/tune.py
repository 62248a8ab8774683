"""Which settings are the fastest on this machine, as measured with an experiment's own videos.

Settings take turns (`r3d.tuning.turns`), and one is taken only where it clearly gains. What is
taken is at last measured together, loading and training at the same time, against the present
settings: where that does not gain, nothing of it is taken.
"""

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import psutil
import torch

from r3d.annotations.reading import read_annotation
from r3d.compute.device import Layout, choose_device, choose_dtype, memory_format
from r3d.compute.machine import free_memory, n_cores, peak_memory
from r3d.config.config import Experiment
from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.frames.stores import open_store
from r3d.tuning.comparison import LONGEST_TURN_SECONDS, Comparison, compare
from r3d.tuning.fitting import MemoryModel, fewest_parts, free, memory_margin
from r3d.tuning.trials import (
    Inference,
    Loading,
    Steps,
    Subject,
    TrainingRun,
    Trial,
    bytes_of,
    changed,
    copied_samples,
    inference_batch,
    name_of_smaller,
    resized,
    smaller_side,
    training_batch,
)
from r3d.tuning.tuned import Tuned

# Of the time that is given; what is left goes to reading, copying and building networks.
_SHARES = {
    "n_threads": 0.1,
    "precision": 0.1,
    "memory_format": 0.1,
    "compile": 0.1,
    "accumulate_steps": 0.05,
    "training": 0.25,
    "cores": 0.1,
    "inference_batch_size": 0.1,
    "file_type": 0.1,
}
_MEMORY_SHARE = 0.9  # of what is free
_LEAST_PART = 8  # clips of a part where there is a choice: batch norm takes statistics of each
_LOADED = 16  # clips of a batch where only loading is measured

_PRESENT = "present settings"

_log = logging.getLogger(__name__)


def tune(
    options: Experiment,
    *,
    annotation: Path,
    frames: Path,
    file_type: FileType,
    seconds: float,
    in_workflow: bool,
) -> Tuned:
    """Measure what is fastest for an experiment on this machine.

    Args:
        options: the experiment with its present settings.
        annotation: annotation JSON with a training subset.
        frames: folder of the frame store.
        file_type: the kind of the frame store.
        seconds: how long to measure, about.
        in_workflow: whether a process gets as many cores as the workflow gives it, else all.

    Raises:
        InputError: if frames are absent, or a batch of two clips does not fit into memory.
    """
    device = choose_device(no_cuda=options.no_cuda)
    samples = read_annotation(annotation, subset="training")
    try:
        inferred = read_annotation(annotation, subset=options.inference_subset, untrimmed=True)
    except InputError:  # the training subset has frames, the other one has none
        inferred = samples
    per_node = options.resources.processes_per_node
    batch_size = max(1, options.batch_size // (options.resources.nodes * per_node))
    own = {
        "batch_size": batch_size,
        "accumulate_steps": min(options.accumulate_steps, batch_size),
        "crops_per_clip": min(options.crops_per_clip, batch_size),
        "inference_batch_size": options.inference_batch_size or options.batch_size,
    }

    subject = Subject(
        changed(options, own),
        samples,
        inferred,
        open_store(frames, file_type),
        device,
        n_cores=max(1, n_cores() // per_node),
        in_workflow=in_workflow,
    )
    result = Tuned(torch.cuda.get_device_name(device) if device.type == "cuda" else "on the CPU")
    if os.getloadavg()[0] > n_cores():
        result.note("this machine is busy with other work: figures of an idle one are worth more")
    if options.resources.gpus and device.type == "cpu":
        result.note("the experiment asks for GPUs, but this machine has none: this is for its CPU")
    begin = time.monotonic()
    with warnings.catch_warnings():
        # More workers than cores are what has to be measured.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        _Tuner(subject, result, seconds).run()
    _log.info("measured for %.0f s", time.monotonic() - begin)
    return result


class _Tuner:
    """Goes through the settings one after the other, each on top of what has gained before."""

    def __init__(self, subject: Subject, result: Tuned, seconds: float) -> None:
        self._subject, self._result, self._seconds = subject, result, seconds
        self._needed: dict[str, Any] = {}  # options without which the batch does not fit

    def run(self) -> None:
        loading = self._compare_loading()
        self._choose_batch()
        self._compare_steps("precision", self._precisions())
        self._compare_steps("memory_format", self._layouts())
        self._compare_steps("compile", [not self._options().compile])
        self._find_parts()
        self._compare_trainings(loading)
        self._compare_cores()
        self._compare_inference()
        self._compare_stores()

    def _compare_loading(self) -> Comparison:
        present = self._options().n_threads
        numbers = sorted({present, 0, *_doubling(self._subject.n_cores)})
        comparison = self._compare(
            "n_threads",
            "making training clips by n_threads",
            {
                str(n): partial(Loading, self._subject, self._options(n_threads=n), _LOADED)
                for n in numbers
            },
            baseline=str(present),
        )
        self._result.keep(comparison.lines())
        return comparison

    def _choose_batch(self) -> None:
        """Choose a batch whose step can be repeated in the time, and see what memory it takes."""
        _log.info("a training step, from two clips on")
        whole = self._subject.options.batch_size
        longest = min(LONGEST_TURN_SECONDS, self._seconds / 60)
        self._memory = self._memory_model()
        self._batch_size, self._rate = 0, 0.0
        for size in _doubling(whole, first=min(2, whole)):
            if self._batch_size and size > self._rate * longest:
                break
            batch = training_batch(self._subject, size)
            options = self._options(accumulate_steps=1)
            try:
                rate = self._try(self._memory, partial(Steps, self._subject, options, batch), size)
            except torch.OutOfMemoryError:
                free()
                break
            self._batch_size, self._rate = size, rate
        if not self._batch_size:
            raise InputError(
                f"a training step of {min(2, whole)} clips does not fit into memory; take a "
                "smaller network, sample_size or sample_duration"
            )
        if not self._rate:
            raise InputError("the loss of a training step is not finite; set precision: fp32")
        _log.info("  %.4g clips/s with %d clips", self._rate, self._batch_size)
        self._batch = training_batch(self._subject, self._batch_size)

    def _precisions(self) -> list[str]:
        """The precisions beside the present one."""
        return ["bf16"] if self._dtype(self._options()) == torch.float32 else ["fp32"]

    def _layouts(self) -> list[str]:
        """The layouts beside the present one."""
        present = self._memory_format(self._options())
        layouts: list[Layout] = ["contiguous", "channels_last"]
        return [
            layout
            for layout in layouts
            if self._memory_format(self._options(memory_format=layout)) != present
        ]

    def _memory_format(self, options: Experiment) -> torch.memory_format:
        device = self._subject.device
        return memory_format(device, self._dtype(options), options.memory_format)

    def _dtype(self, options: Experiment) -> torch.dtype:
        device, layout = self._subject.device, options.memory_format
        return choose_dtype(options.precision, device, layout, training=True)

    def _compare_steps(self, option: str, others: list[Any]) -> None:
        """Compare the present value of an option of the training step with others."""
        present = getattr(self._options(), option)
        comparison = self._compare(
            option,
            f"training step by {option}",
            {
                str(value): partial(
                    Steps, self._subject, self._options(**{option: value}), self._batch
                )
                for value in [present, *others]
            },
            baseline=str(present),
        )
        values = {str(value): value for value in others}
        winner = comparison.fastest()
        if winner in values:
            self._result.take(option, values[winner], comparison.lines())
        else:
            self._result.keep(comparison.lines())

    def _find_parts(self) -> None:
        """Find in how many parts a batch fits into memory, and which number is the fastest."""
        present, whole = self._options().accumulate_steps, self._subject.options.batch_size
        needed = fewest_parts(self._try_parts, first=present, batch_size=whole)
        if needed != present:
            self._needed["accumulate_steps"] = needed
            reason = f"A batch of {whole} clips does not fit into memory in {present} part(s)."
            self._result.take("accumulate_steps", needed, [reason])
        others = {needed // 2, 2 * needed, 4 * needed} - {0}
        numbers = {needed, *(n for n in others if whole // n >= _LEAST_PART and self._fits(n))}
        if len(numbers) == 1:
            return
        # Each is computed twice before the rounds, of which there are three at least.
        if 5 * len(numbers) * whole / self._rate > 2 * self._seconds * _SHARES["accumulate_steps"]:
            self._result.note(
                f"a batch of {whole} clips fits into memory in {needed} part(s); other values of "
                "accumulate_steps were not timed, for a step takes too long (see --seconds)"
            )
            return
        batch = training_batch(self._subject, whole)
        comparison = self._compare(
            "accumulate_steps",
            f"training step on {whole} clips by accumulate_steps",
            {
                str(n): partial(Steps, self._subject, self._options(accumulate_steps=n), batch)
                for n in sorted(numbers)
            },
            baseline=str(needed),
        )
        winner = int(comparison.fastest())
        if winner != needed:
            self._result.take("accumulate_steps", winner, comparison.lines())
        else:
            self._result.keep(comparison.lines())

    def _try_parts(self, n_parts: int) -> None:
        whole = self._subject.options.batch_size
        options = self._options(accumulate_steps=n_parts)
        if self._subject.device.type == "cpu":
            # The whole batch as bytes and as numbers, and the batches that are loaded ahead.
            clip = options.sample_duration * options.sample_size**2 * options.n_input_channels
            extra = whole * clip * (5 + 2 * options.n_threads)
            self._memory.require(-(-whole // n_parts), extra=extra)
        else:
            with memory_margin(self._subject.device):
                Steps(self._subject, options, training_batch(self._subject, whole)).prepare(0)

    def _fits(self, n_parts: int) -> bool:
        try:
            self._try_parts(n_parts)
        except torch.OutOfMemoryError:
            free()
            return False
        return True

    def _compare_trainings(self, loading: Comparison) -> None:
        """Compare what has gained, with several `n_threads`, to the present settings."""
        gained = [name for name in self._result.changes if name not in self._needed]
        present = self._options().n_threads
        with_gained = ", ".join(f"{name} {self._result.changes[name]}" for name in gained)
        names = {
            n: ", ".join(filter(None, [with_gained, f"n_threads {n}"]))
            for n in sorted({present, *_useful(loading)})
        }
        if not gained:
            names[present] = _PRESENT
        variants = {names[n]: self._options(n_threads=n) for n in names}
        variants[_PRESENT] = changed(self._subject.options, self._needed)
        comparison = self._compare(
            "training",
            "loading and training together",
            {
                name: partial(TrainingRun, self._subject, options, self._batch_size)
                for name, options in variants.items()
            },
            baseline=_PRESENT,
        )
        # More processes have to gain for themselves, not by what gained before.
        measured = [name for name in names.values() if name in comparison.rates]
        best = comparison.fastest(measured, over=names[present])
        if comparison.fastest([best]) != best:
            best = comparison.fastest(measured)  # perhaps only all together gain clearly
        if best == _PRESENT:
            for option in gained:
                self._result.drop(option)
            self._result.keep(comparison.lines())
            return
        lines = comparison.lines()
        n_threads = next(n for n, name in names.items() if name == best)
        if n_threads != present:
            self._result.take("n_threads", n_threads, lines)
        else:
            self._result.take(gained[0], self._result.changes[gained[0]], lines)

    def _compare_cores(self) -> None:
        """See what a training gains by more cores than the workflow gives it."""
        options, n_cores = self._options(), self._subject.n_cores
        computes_here = self._subject.device.type == "cpu" and self._subject.in_workflow
        if not computes_here or options.cores_per_process >= n_cores:
            return
        resources = {**options.resources.model_dump(), "cores": n_cores}
        given, more = f"{options.cores_per_process} cores", f"{n_cores} cores"
        variants = {given: options, more: self._options(n_threads=1, resources=resources)}
        comparison = self._compare(
            "cores",
            "loading and training together, by cores",
            {
                name: partial(TrainingRun, self._subject, variant, self._batch_size)
                for name, variant in variants.items()
            },
            baseline=given,
        )
        self._result.keep(comparison.lines())
        if comparison.fastest() == more:
            self._result.note(
                f"resources: {{cores: {n_cores}}} with n_threads: 1 lets a training compute on all "
                "cores; trainings that could run side by side then wait for each other"
            )

    def _compare_inference(self) -> None:
        """Find the sizes of batches that fit into memory, and the fastest of them."""
        options = self._options()
        present = options.inference_batch_size
        longest = 2 * self._seconds * _SHARES["inference_batch_size"]
        sizes = sorted({present, *(4**i for i in range(1, 7) if 4**i <= 4 * present)})
        clips = inference_batch(self._subject, min(sizes[-1], 64))
        memory, rate, expected = self._memory_model(), 0.0, 0.0
        trials: dict[str, Callable[[], Trial]] = {}
        for size in sizes:
            # Each is computed twice before the rounds, of which there are three at least.
            expected += 5 * size / rate if rate else 0.0
            if expected > longest:
                if size <= present:
                    self._result.note(
                        f"inference_batch_size: not timed, for a batch of {present} takes too long "
                        "(see --seconds)"
                    )
                    return
                break
            make = partial(Inference, self._subject, options, resized(clips, size))
            try:
                rate = self._try(memory, make, size)
            except torch.OutOfMemoryError:
                free()
                break
            trials[str(size)] = make
        if not trials:
            raise InputError(f"inference on {sizes[0]} clips does not fit into memory")
        baseline = str(present) if str(present) in trials else list(trials)[-1]
        comparison = self._compare(
            "inference_batch_size",
            "inference without loading, by inference_batch_size",
            trials,
            baseline=baseline,
        )
        winner = int(comparison.fastest())
        if winner != present:
            reasons = comparison.lines()
            if str(present) not in trials:
                reasons.insert(0, f"A batch of {present} clips does not fit into memory.")
            self._result.take("inference_batch_size", winner, reasons)
        else:
            self._result.keep(comparison.lines())

    def _compare_stores(self) -> None:
        """Compare reading the same frames from both kinds of store, and smaller ones."""
        options = self._options()
        if options.input_type == "flow":  # from hdf5 only
            return
        present, side = self._subject.store.file_type, smaller_side(self._subject)
        with copied_samples(self._subject, side) as subjects:
            comparison = self._compare(
                "file_type",
                "making training clips by file_type of the data set, from cached files",
                {name: partial(Loading, s, options, _LOADED) for name, s in subjects.items()},
                baseline=present,
            )
            sizes = {name: bytes_of(s) for name, s in subjects.items()}
        self._result.keep(comparison.lines())
        winner = comparison.fastest(get_args(FileType))
        if winner != present:
            self._result.note(
                f"frames of file_type: {winner} are read faster than {present}, see above; they "
                "would have to be extracted anew, and a network disk may differ"
            )
        smaller = "" if side is None else name_of_smaller(self._subject, side)
        if smaller in comparison.rates and comparison.fastest([smaller]) == smaller:
            times = comparison.median(smaller) / comparison.median(present)
            self._result.note(
                f"frames extracted with short_side: {side} would be made into clips {times:.1f} "
                f"times as fast and take {sizes[smaller] / sizes[present]:.2f} of the disk (scaled "
                "copies of some were measured); narrow crops would be less sharp, and what it does "
                "to the accuracy is not measured here (docs/tuning.md); nothing was changed"
            )

    def _options(self, **changes: Any) -> Experiment:
        """The options with what has gained so far, and with these changes."""
        return changed(self._subject.options, {**self._result.changes, **changes})

    def _memory_model(self) -> MemoryModel:
        free()  # what is held from larger batches would hide what smaller ones need
        share = _MEMORY_SHARE / self._subject.options.resources.processes_per_node
        held = psutil.Process().memory_info().rss
        return MemoryModel(held + round(share * free_memory()))

    def _try(self, memory: MemoryModel, make: Callable[[], Trial], size: int) -> float:
        """The rate of a trial on so many clips, roughly.

        Raises:
            torch.OutOfMemoryError: if it does not fit; on a CPU, if it is not expected to.
        """
        if self._subject.device.type == "cpu":
            memory.require(size)
        with memory_margin(self._subject.device), peak_memory() as peak:
            rate = make().prepare(0)
        memory.add(size, peak())
        return rate

    def _compare(
        self, share: str, what: str, variants: Mapping[str, Callable[[], Trial]], *, baseline: str
    ) -> Comparison:
        """Let variants take turns for their share of the time."""
        seconds = self._seconds * _SHARES[share]
        return compare(what, variants, baseline=baseline, seconds=seconds)


def _doubling(last: int, *, first: int = 1) -> list[int]:
    """The numbers from the first on, each twice the one before, up to and with the last.

    >>> _doubling(6)
    [1, 2, 4, 6]
    """
    numbers = []
    while first < last:
        numbers.append(first)
        first *= 2
    return [*numbers, last]


def _useful(loading: Comparison) -> list[int]:
    """The numbers of processes that load faster than every smaller number."""
    useful: list[int] = []
    fastest = 0.0
    for name in sorted(loading.rates, key=int):
        if loading.median(name) > 1.03 * fastest:
            useful.append(int(name))
            fastest = loading.median(name)
    return useful
