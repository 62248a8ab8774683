"""int8: the ranges of a network's numbers found on training clips, and what that costs in accuracy.

A calibrated network is kept with a report for the clips and the precision that it was checked with;
who has no clips takes the latest.
"""

import copy
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.clips.loader import ClipBatch
from r3d.config.options import InferenceOptions
from r3d.engines import on_openvino, stored
from r3d.engines.base import Engine
from r3d.engines.on_openvino import OnOpenVino
from r3d.engines.on_torch import OnTorch
from r3d.errors import InputError
from r3d.models.base import VideoModel

Clips = Callable[[], Iterable[ClipBatch]]
"""Opens clips."""
SomeClips = Callable[[], Iterable[ClipBatch] | None]
"""Opens clips, if there are any."""

_MOST_LOST, _WARNED_LOST = 0.05, 0.01
"""Shares of clips that may be right in fp32 only: beyond the first int8 is refused, beyond the
second it is warned of."""
_LEAST_AGREEING = 0.8
"""Share of clips whose best class has to stay, be it the right one or not."""

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What int8 costs, on clips that it was not calibrated on.

    Attributes:
        clips: how many; calibrated_on: and on how many it was calibrated.
        agreeing: the share of clips whose best class is that of fp32.
        largest_difference: of the score of a class, from 0 to 1.
        top1_int8, top1_fp32: shares of clips whose best class is their label; None where no clip
            has a label.
        precision: what was computed in that is not in int8.
    """

    clips: int
    calibrated_on: int
    agreeing: float
    largest_difference: float
    top1_int8: float | None
    top1_fp32: float | None
    precision: str = "fp32"

    def __str__(self) -> str:
        top1 = (
            ""
            if self.top1_int8 is None or self.top1_fp32 is None
            else f"top-1 {self.top1_int8:.3f} (fp32: {self.top1_fp32:.3f}), "
        )
        return (
            f"calibrated on {self.calibrated_on} clips; on {self.clips} others {top1}the best "
            f"class of fp32 for {self.agreeing:.1%}, scores within {self.largest_difference:.1%} "
            f"(with {self.precision} beside int8)"
        )


def open_int8(
    network: VideoModel,
    options: InferenceOptions,
    normalisation: dict[str, Any],
    dtype: torch.dtype,
    clips: tuple[SomeClips, Clips] | None,
) -> Engine:
    """A network in int8: as it was calibrated before, or calibrated and checked now.

    Args:
        network: with folded batch norms, which gives class scores.
        dtype: what is not in int8 is computed in.
        clips: to calibrate on, and to check on. Without, or where there are none to calibrate on,
            it is the latest calibration that is kept.

    Raises:
        InputError: if there is none, or too few of the clips keep their class.
    """
    digest = stored.network_digest(network, normalisation)
    n_frames = options.sample_duration
    training = clips[0]() if clips else None
    if clips is None or training is None:
        path = _latest(digest, n_frames)
        report = _latest_report(path, dtype) if path else None
        found = on_openvino.open_stored(path, dtype, int8=True) if path and report else None
        if found is None or report is None:
            raise InputError(
                "int8: true needs this network calibrated on clips like those of its training, "
                "which was not done here yet; r3d infer --int8 with an annotation of training and "
                "validation videos, and their frames, does it once and keeps it; accepted without: "
                "int8: false"
            )
        need_accuracy(report)
        return found
    pixels = [row[None] for batch in training for row in batch.clips]
    path = _entry(digest, n_frames, _digest([pixels]))
    checked = _digest((batch.clips, batch.labels) for batch in clips[1]())
    file = path / f"{_beginning(dtype)}{checked}.json"
    # What is there already, several may open at once.
    with nullcontext() if file.is_file() else stored.alone(path):
        return _calibrated(file, network, options, normalisation, dtype, pixels, clips[1])


def _calibrated(
    file: Path,
    network: VideoModel,
    options: InferenceOptions,
    normalisation: dict[str, Any],
    dtype: torch.dtype,
    pixels: list[Tensor],
    checked: Clips,
) -> Engine:
    """The network of an entry, or calibrated now on clips (1, t, h, w, c), once it is checked.

    Args:
        file: the report in the entry.
    """
    path = file.parent
    engine, graph = on_openvino.open_stored(path, dtype, int8=True), None
    if engine is None:
        graph = on_openvino.quantize(
            on_openvino.convert(network, normalisation, options.sample_duration), pixels
        )
        engine = OnOpenVino(graph, dtype, int8=True)
    report = _read(file) if graph is None else None
    if report is None:
        exact = OnTorch(
            copy.deepcopy(network), options, torch.device("cpu"), torch.float32, layout="auto"
        )
        report = compare(engine, exact, checked(), calibrated_on=len(pixels))
        report = replace(report, precision=_NAMES[dtype])
        if graph is not None:
            need_accuracy(report)  # what is of no use is not kept
            stored.write_entry(path, partial(on_openvino.save, graph))
        _write(file, report)
    if graph is None:
        need_accuracy(report)
    return engine


def compare(
    engine: Engine, exact: Engine, batches: Iterable[ClipBatch], *, calibrated_on: int
) -> Report:
    """What an engine makes of clips, beside one that is exact.

    Args:
        batches: with labels that are numbers of outputs, -1 where no output is of the class.
    """
    found: list[Tensor] = []
    expected: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in batches:
        found.append(engine(batch).softmax(1))
        expected.append(exact(batch).softmax(1))
        labels.append(batch.labels)
    scores, exact_scores, label = torch.cat(found), torch.cat(expected), torch.cat(labels)
    best, exact_best = scores.argmax(1), exact_scores.argmax(1)
    known = label >= 0
    has_labels = bool(known.any())
    return Report(
        clips=len(label),
        calibrated_on=calibrated_on,
        agreeing=float((best == exact_best).double().mean()),
        largest_difference=float((scores - exact_scores).abs().max()),
        top1_int8=float((best == label)[known].double().mean()) if has_labels else None,
        top1_fp32=float((exact_best == label)[known].double().mean()) if has_labels else None,
    )


def need_accuracy(report: Report) -> None:
    """Say what int8 costs.

    Raises:
        InputError: if that is too much.
    """
    lost = 0.0
    if report.top1_int8 is not None and report.top1_fp32 is not None:
        lost = report.top1_fp32 - report.top1_int8
    is_bad = lost > _MOST_LOST or report.agreeing < _LEAST_AGREEING
    is_notable = lost > _WARNED_LOST
    if is_bad or not report.largest_difference <= 1:  # nor NaN
        raise InputError(
            f"int8: true costs this network too much: {report}; accepted: int8: false, which "
            "computes in fp32 or bf16"
        )
    _log.log(logging.WARNING if is_notable else logging.INFO, "int8: %s", report)


def _entry(digest: str, n_frames: int, clips: str) -> Path:
    return on_openvino.entry_of(digest, n_frames, "int8", version("nncf"), clips)


def _latest(digest: str, n_frames: int) -> Path | None:
    pattern = _entry(digest, n_frames, "*").name
    times = {}
    for path in stored.folder().glob(pattern):
        try:
            times[path] = path.stat().st_mtime_ns
        except OSError:
            continue
    return max(times, key=lambda path: times[path], default=None)


def _digest(parts: Iterable[Iterable[Tensor]]) -> str:
    """What tells clips from any others, in hexadecimal digits."""
    seen = hashlib.sha256()
    for part in parts:
        for tensor in part:
            seen.update(tensor.contiguous().numpy().data)
    return seen.hexdigest()[:16]


def _beginning(dtype: torch.dtype) -> str:
    """Of the names of reports."""
    return f"report-{_NAMES[dtype]}-"


def _latest_report(path: Path, dtype: torch.dtype) -> Report | None:
    """The latest report on a network that is kept, in this precision if there is one."""
    found = []
    for file in path.glob("report-*.json"):
        report = _read(file)
        if report is not None:
            is_same = file.name.startswith(_beginning(dtype))
            found.append(((is_same, file.stat().st_mtime_ns), report))
    return max(found, key=lambda item: item[0])[1] if found else None


def _read(path: Path) -> Report | None:
    try:
        return Report(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, report: Report) -> None:
    """Keep a report, unless the cache cannot be written."""
    with suppress(OSError):
        partial_path = path.with_name(f".{path.name}.{os.getpid()}")
        partial_path.write_text(f"{json.dumps(asdict(report), indent=1)}\n", encoding="utf-8")
        partial_path.replace(path)
