"""int8: the ranges of a network's numbers found on training clips, and what that costs in accuracy.

A calibrated network is kept with its report; who has no clips to calibrate on takes the latest.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
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

_REPORT = "report.json"
_MOST_LOST, _WARNED_LOST = 0.05, 0.01
"""Shares of clips that may be right in fp32 only: beyond the first int8 is refused, beyond the
second it is warned of."""
_LEAST_AGREEING = 0.8
"""Share of clips whose best class has to stay where nothing says which one is right."""

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
    """

    clips: int
    calibrated_on: int
    agreeing: float
    largest_difference: float
    top1_int8: float | None
    top1_fp32: float | None

    def __str__(self) -> str:
        top1 = (
            ""
            if self.top1_int8 is None or self.top1_fp32 is None
            else f"top-1 {self.top1_int8:.3f} (fp32: {self.top1_fp32:.3f}), "
        )
        return (
            f"calibrated on {self.calibrated_on} clips; on {self.clips} others {top1}the best "
            f"class of fp32 for {self.agreeing:.1%}, scores within {self.largest_difference:.1%}"
        )


def open_int8(
    network: VideoModel,
    options: InferenceOptions,
    normalisation: dict[str, Any],
    dtype: torch.dtype,
    clips: tuple[Clips, Clips] | None,
) -> Engine:
    """A network in int8: as it was calibrated before, or calibrated and checked now.

    Args:
        network: with folded batch norms, which gives class scores.
        dtype: what is not in int8 is computed in.
        clips: to calibrate on, and to check on; None for the latest calibration that is kept.

    Raises:
        InputError: if there is none, or too few of the clips keep their class.
    """
    digest = stored.network_digest(network, normalisation)
    n_frames = options.sample_duration
    if clips is None:
        path = _latest(digest, n_frames)
        found = _open(path, dtype) if path else None
        if found is None:
            raise InputError(
                "int8: true needs this network calibrated on clips like those of its training, "
                "which was not done here yet; r3d infer --int8 with its annotation and frames does "
                "it and keeps it; accepted without: int8: false"
            )
        return found
    pixels = [row[None] for batch in clips[0]() for row in batch.clips]
    seen = hashlib.sha256()
    for clip in pixels:
        seen.update(clip.contiguous().numpy())
    path = _entry(digest, n_frames, seen.hexdigest()[:16])
    found = _open(path, dtype)
    if found is not None:
        return found
    graph = on_openvino.quantize(on_openvino.convert(network, normalisation, n_frames), pixels)
    engine = OnOpenVino(graph, dtype, int8=True)
    exact = OnTorch(
        copy.deepcopy(network), options, torch.device("cpu"), torch.float32, layout="auto"
    )
    report = compare(engine, exact, clips[1](), calibrated_on=len(pixels))
    need_accuracy(report)

    def write(folder: Path) -> None:
        on_openvino.save(graph, folder)
        text = json.dumps(asdict(report), indent=1)
        (folder / _REPORT).write_text(f"{text}\n", encoding="utf-8")

    stored.write_entry(path, write)
    return engine


def compare(
    engine: Engine, exact: Engine, batches: Iterable[ClipBatch], *, calibrated_on: int
) -> Report:
    """What an engine makes of clips, beside one that is exact."""
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
    if report.top1_int8 is not None and report.top1_fp32 is not None:
        lost = report.top1_fp32 - report.top1_int8
        is_bad = lost > _MOST_LOST
        is_notable = lost > _WARNED_LOST
    else:
        is_bad = is_notable = report.agreeing < _LEAST_AGREEING
    if is_bad or not report.largest_difference <= 1:  # nor NaN
        raise InputError(
            f"int8: true costs this network too much: {report}; accepted: int8: false, which "
            "computes in fp32 or bf16"
        )
    _log.log(logging.WARNING if is_notable else logging.INFO, "int8: %s", report)


def _entry(digest: str, n_frames: int, clips: str) -> Path:
    return on_openvino.entry_of(digest, n_frames, "int8", clips)


def _latest(digest: str, n_frames: int) -> Path | None:
    pattern = _entry(digest, n_frames, "*").name
    times = {}
    for path in stored.folder().glob(pattern):
        try:
            times[path] = path.stat().st_mtime_ns
        except OSError:
            continue
    return max(times, key=lambda path: times[path], default=None)


def _open(path: Path, dtype: torch.dtype) -> OnOpenVino | None:
    """What was calibrated before, and said again what it costs."""
    engine = on_openvino.open_stored(path, dtype, int8=True)
    if engine is None:
        return None
    try:
        report = Report(**json.loads((path / _REPORT).read_bytes()))
    except (OSError, ValueError, TypeError):
        stored.remove_entry(path)
        return None
    need_accuracy(report)
    return engine
