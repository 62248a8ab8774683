"""`engine: auto` on a CPU: torch, or OpenVINO where it is worth while, from the first score on.

To convert a network and to time both takes seconds. So torch computes where there is little to do.
For long work both compute some clips in turn; what came out is kept for this machine and kind of
network in the cache of the user.
"""

import hashlib
import json
import logging
import time
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.compute.device import same_everywhere
from r3d.compute.machine import processor
from r3d.compute.precision import instructions
from r3d.config.options import InferenceOptions
from r3d.engines import on_openvino, stored
from r3d.engines.base import Engine
from r3d.engines.on_torch import OnTorch
from r3d.files import atomic_path
from r3d.models.base import VideoModel

_FORMAT = 1
_CLEARLY_FASTER = 1.1
_LONG_SECONDS = 15.0
"""Work of torch for which it is worth while to time both."""
_CONVERSION_SECONDS = 5.0
"""What OpenVINO has to win where it is known to be faster, but has to convert this network."""
_ROUNDS = 3
_ROWS = 4
"""Of the first batch, by which engines are timed and compared."""
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""What rounding may change, as a part of the largest output."""

_log = logging.getLogger(__name__)


class Choosing:
    """Torch, unless `choose` finds that OpenVINO is better.

    Args:
        plain: the network on torch.
        network: the same, folded.
    """

    def __init__(
        self,
        plain: OnTorch,
        network: VideoModel,
        normalisation: dict[str, Any],
        options: InferenceOptions,
        dtype: torch.dtype,
    ) -> None:
        self._plain, self._network, self._normalisation = plain, network, normalisation
        self._options, self._dtype = options, dtype
        self._engine: Engine = plain

    @property
    def name(self) -> str:
        """What computes."""
        return self._engine.name

    def __call__(self, batch: ClipBatch) -> Tensor:
        return self._engine(batch)

    def choose(self, batch: ClipBatch | None, n_rows: int | None) -> None:
        """Choose what computes, before it does.

        Of processes that work together each has to ask, and the first one chooses for all.

        Args:
            batch: the first one; None if there is none.
            n_rows: of all batches, about; None if nobody knows.
        """

        def first() -> bool:
            self._engine = self._chosen(batch, n_rows)
            return self._engine is not self._plain

        self._engine = self._plain
        if same_everywhere(first) and self._engine is self._plain:
            self._engine = self._converted()

    def _chosen(self, batch: ClipBatch | None, n_rows: int | None) -> Engine:
        if not on_openvino.is_installed():
            return self._plain
        choice = Choice(self._network, self._options, self._dtype, self._plain.layout)
        speedup = choice.speedup()
        if speedup is not None and speedup < _CLEARLY_FASTER:
            return self._plain
        if speedup is not None:
            digest = stored.network_digest(self._network, self._normalisation)
            entry = on_openvino.entry_of(digest, self._options.sample_duration)
            try:
                ready = on_openvino.open_stored(entry, self._dtype)
            except on_openvino.failures() as error:  # as for want of memory
                return self._not_computed(error)
            if ready is not None:
                _log.info("engine: auto: %s, known to be faster here", ready.name)
                return ready
        if batch is None or n_rows is None:
            return self._plain
        worth = _CONVERSION_SECONDS / (1 - 1 / speedup) if speedup else _LONG_SECONDS
        # What computes for the first time is slow: where that would do, a single clip tells.
        if any(self._seconds_of(n_rows, batch, by=n) <= worth for n in (1, _ROWS, _ROWS)):
            return self._plain
        batch = _some(batch, _ROWS)
        try:
            other = self._converted()
            found = other(batch)
        except on_openvino.failures() as error:
            # Maybe for want of memory just now, or of this network only: that is not kept.
            return self._not_computed(error)
        expected = self._plain(batch)
        if not expected.isfinite().all():  # which tells nothing of others of this kind
            _log.info("engine: auto: torch, for what this network gives is not finite")
            return self._plain
        if not self._agree(found, expected):
            choice.keep(0.0)
            return self._plain
        if speedup is None:
            speedup = _speedup(other, self._plain, batch)
            choice.keep(speedup)
        chosen: Engine = other if speedup >= _CLEARLY_FASTER else self._plain
        _log.info(
            "engine: auto: %s (openvino is %.2f times as fast as torch here)", chosen.name, speedup
        )
        return chosen

    def _seconds_of(self, n_rows: int, batch: ClipBatch, *, by: int) -> float:
        """How long torch would take for so many rows, by some of a batch."""
        batch = _some(batch, by)
        return _seconds(self._plain, batch) / len(batch.clips) * n_rows

    def _converted(self) -> Engine:
        return on_openvino.open_openvino(
            self._network, self._normalisation, self._options.sample_duration, self._dtype
        )

    def _not_computed(self, error: Exception) -> Engine:
        """Torch, and why."""
        reason = on_openvino.reason_of(error)
        _log.info("engine: auto: torch, for OpenVINO does not compute this network: %s", reason)
        return self._plain

    def _agree(self, found: Tensor, expected: Tensor) -> bool:
        """Whether what OpenVINO computes is what torch does, which is finite."""
        difference, largest = (float(part.abs().max()) for part in (found - expected, expected))
        if difference <= _TOLERANCES[self._dtype] * largest:  # not so with a NaN
            return True
        _log.info(
            "engine: auto: torch, for what OpenVINO computes differs (by %.0e of %.0e)",
            *(difference, largest),
        )
        return False


def _some(batch: ClipBatch, n: int) -> ClipBatch:
    """The first rows of a batch."""
    return ClipBatch(*(part[:n] for part in batch))


def _seconds(engine: Engine, batch: ClipBatch) -> float:
    """How long an engine takes for a batch, by the clock."""
    begin = time.perf_counter()
    engine(batch)
    return time.perf_counter() - begin


def _speedup(other: Engine, plain: Engine, batch: ClipBatch) -> float:
    """How many times as fast one engine is as another, by the clock, in turns."""
    rounds = [(_seconds(plain, batch), _seconds(other, batch)) for _ in range(_ROUNDS)]
    of_plain, of_other = map(min, zip(*rounds, strict=True))
    return of_plain / of_other


class Choice:
    """How much faster OpenVINO is than torch for networks of a kind on this machine, if known.

    Args:
        layout: of clips and weights, for torch.
    """

    def __init__(
        self,
        network: VideoModel,
        options: InferenceOptions,
        dtype: torch.dtype,
        layout: torch.memory_format,
    ) -> None:
        from importlib.metadata import version

        self._about = [
            _FORMAT,
            processor(),
            instructions(),
            torch.__version__,
            version("openvino"),
            torch.get_num_threads(),
            str(dtype),
            str(layout),
            repr(network.architecture),
            [options.sample_duration, options.sample_size],
        ]
        digest = hashlib.sha256(json.dumps(self._about).encode()).hexdigest()[:32]
        self._file = stored.folder().with_name("engine_choices") / f"{digest}.json"

    def speedup(self) -> float | None:
        """What was measured; None if nothing was."""
        with suppress(OSError, ValueError, TypeError, RecursionError):
            about, speedup = json.loads(self._file.read_bytes())
            if about == self._about and isinstance(speedup, float):
                return speedup
        return None

    def keep(self, speedup: float) -> None:
        """Keep what was measured, if the cache can be written."""
        with suppress(OSError), atomic_path(self._file) as new:
            new.write_text(json.dumps([self._about, speedup]), encoding="utf-8")
