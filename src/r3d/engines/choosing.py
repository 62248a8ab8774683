"""`engine: auto` on a CPU: torch, until it is worth while to see whether OpenVINO is faster.

To convert a network and to time both takes seconds. So torch begins, and goes on where there is
little to compute. In long work both compute a few batches in turn; what came out is kept for this
machine and kind of network in the cache of the user.
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
from r3d.compute.machine import processor
from r3d.config.options import InferenceOptions
from r3d.engines import on_openvino, stored
from r3d.engines.base import Engine
from r3d.engines.on_torch import OnTorch
from r3d.files import atomic_path
from r3d.models.base import VideoModel

_FORMAT = 1
_CLEARLY_FASTER = 1.1
_PATIENCE_SECONDS = 15.0
"""Of computing by torch, before both are timed."""
_CONVERSION_SECONDS = 5.0
"""The same where OpenVINO is known to be faster, but has to convert this network."""
_ROUNDS = 3
_ROWS = 8
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""What rounding may change, as a part of the largest output."""

_log = logging.getLogger(__name__)


class Choosing:
    """Torch at first, what is faster later.

    Args:
        plain: the network on torch.
        network: the same, folded.
        choice: what is known of networks of this kind on this machine.
    """

    def __init__(
        self,
        plain: OnTorch,
        network: VideoModel,
        normalisation: dict[str, Any],
        n_frames: int,
        dtype: torch.dtype,
        choice: "Choice",
    ) -> None:
        self._plain, self._network, self._normalisation = plain, network, normalisation
        self._n_frames, self._dtype, self._choice = n_frames, dtype, choice
        self._engine: Engine = plain
        self._is_open = True
        self._seconds = 0.0
        known = choice.speedup() is not None
        self._patience = _CONVERSION_SECONDS if known else _PATIENCE_SECONDS

    @classmethod
    def opened(
        cls,
        plain: OnTorch,
        network: VideoModel,
        normalisation: dict[str, Any],
        options: InferenceOptions,
        dtype: torch.dtype,
    ) -> Engine:
        """What computes a network: at once what is known to be faster, if it is ready."""
        n_frames = options.sample_duration
        choice = Choice(network, options, dtype)
        speedup = choice.speedup()
        if speedup is not None and speedup < _CLEARLY_FASTER:
            return plain
        if speedup is not None:
            digest = stored.network_digest(network, normalisation)
            ready = on_openvino.open_stored(on_openvino.entry_of(digest, n_frames), dtype)
            if ready is not None:
                return ready
        return cls(plain, network, normalisation, n_frames, dtype, choice)

    @property
    def name(self) -> str:
        """What computes now."""
        return self._engine.name

    def __call__(self, batch: ClipBatch) -> Tensor:
        if not self._is_open:
            return self._engine(batch)
        begin = time.perf_counter()
        outputs = self._plain(batch)
        self._seconds += time.perf_counter() - begin
        if self._seconds >= self._patience:
            self._is_open = False
            self._choose(batch, outputs)
        return outputs

    def _choose(self, batch: ClipBatch, outputs: Tensor) -> None:
        batch = ClipBatch(*(part[:_ROWS] for part in batch))
        outputs = outputs[:_ROWS]
        try:
            other = on_openvino.open_openvino(
                self._network, self._normalisation, self._n_frames, self._dtype
            )
            found = other(batch)
        except RuntimeError as error:  # what OpenVINO raises
            reason = str(error).strip().partition("\n")[0]
            _log.info("engine: auto: torch, for OpenVINO does not compute this network: %s", reason)
            self._choice.keep(0.0)
            return
        difference = float((found - outputs).abs().max() / outputs.abs().max())
        if not difference <= _TOLERANCES[self._dtype]:  # nor NaN
            _log.info("engine: auto: torch, for what OpenVINO computes differs (%.0e)", difference)
            self._choice.keep(0.0)
            return
        speedup = _speedup(other, self._plain, batch)
        self._choice.keep(speedup)
        if speedup >= _CLEARLY_FASTER:
            self._engine = other
        _log.info(
            "engine: auto: %s from here on (openvino is %.2f times as fast as torch here)",
            *(self._engine.name, speedup),
        )


def _speedup(other: Engine, plain: Engine, batch: ClipBatch) -> float:
    """How many times as fast one engine is as another, by the clock, in turns."""
    seconds: dict[Engine, float] = {}
    for _ in range(_ROUNDS):
        for engine in (other, plain):
            begin = time.perf_counter()
            engine(batch)
            passed = time.perf_counter() - begin
            seconds[engine] = min(passed, seconds.get(engine, passed))
    return seconds[plain] / seconds[other]


class Choice:
    """How much faster OpenVINO is than torch for networks of a kind on this machine, if known."""

    def __init__(self, network: VideoModel, options: InferenceOptions, dtype: torch.dtype) -> None:
        from importlib.metadata import version

        self._about = [
            _FORMAT,
            processor(),
            torch.__version__,
            version("openvino"),
            torch.get_num_threads(),
            str(dtype),
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
