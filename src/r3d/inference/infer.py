"""Applying a trained network to videos: the most likely classes of each.

Clips are streamed and results written as they come, so memory stays flat however long a video is
and however many there are.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.files import AnyPath, atomic_path
from r3d.frames.layouts import FileType
from r3d.inference.applied import ViewScore, open_application
from r3d.inference.clipcounts import ClipCounter
from r3d.obstacles import need_writable

_DEFAULT_RUN = RunOptions()

_log = logging.getLogger(__name__)


def infer(
    options: InferenceOptions,
    *,
    annotation: AnyPath,
    subset: str = "val",
    frames: AnyPath,
    file_type: FileType = "jpg",
    model: AnyPath,
    output: AnyPath,
    run: RunOptions = _DEFAULT_RUN,
    batch_size: int | None = None,
    n_cores: int | None = None,
) -> None:
    """Write the result JSON of a network on a subset of an annotation.

        {"labels": [...], "results": {<id>: [{"label": ..., "score": ...}, ...]},
         "clips": {"n": ..., "correct": ...}, "computed": <engine and precision>}

    with the classes of the network, be they those of the annotation or others, and the
    `output_topk` best ones of each video, scored by the softmax averaged over its clips; with
    `inference_no_average` `{<id>: [{"segment": [begin, end], "result": [...]}, ...]}`.
    Of single clips it has the number, and how many are right.

    Network, size and length of the clips and normalisation come from the checkpoint; of the options
    those count that are given, and what differs from the training is logged.

    >>> import r3d
    >>> options = r3d.InferenceOptions(inference_stride=8)
    >>> run = r3d.RunOptions(n_threads=0)
    >>> r3d.infer(
    ...     options,
    ...     annotation="annotation.json",
    ...     frames="frames",
    ...     model="model.pth",
    ...     output="result.json",
    ...     run=run,
    ... )

    Args:
        annotation: annotation JSON.
        subset: train, val or test, or their long names.
        frames: folder of the frame store.
        file_type: the kind of the frame store.
        model: checkpoint of the network, or its name in `models` or torchvision (`r3d.load_model`).
        output: file to write.
        run: how to run, which changes no result beyond rounding.
        batch_size: rows of a batch, at most, where `run.inference_batch_size` does not say; 128 by
            default.
        n_cores: cores to use; all by default.

    Raises:
        InputError: if the checkpoint does not fit the options that are given, or nothing names its
            classes.
    """
    need_writable(output)
    with open_application(
        options,
        annotation=annotation,
        subset=subset,
        frames=frames,
        file_type=file_type,
        model=model,
        run=run,
        batch_size=batch_size,
        n_cores=n_cores,
    ) as applied:
        labels, options, world = applied.labels, applied.loaded.options, applied.world
        k = options.output_topk if 0 < options.output_topk < len(labels) else len(labels)
        counter = ClipCounter(applied.samples, labels)
        rows = applied.model.scores(applied.batches(), applied.n_rows)
        results = (
            (
                name := str(applied.samples.ids[video]),
                _result(
                    counter.counted(_finite(views, applied.loaded.file, name)),
                    labels,
                    k,
                    options.inference_no_average,
                ),
            )
            for video, views in applied.by_video(rows)
        )
        lines = (f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results)
        if not world.is_main:
            world.send_lines(lines)
            counter.totals(world, applied.model.device)
            return
        n_videos = _write_results(
            output,
            labels,
            chain(lines, world.receive_lines()),
            lambda: {
                "clips": counter.totals(world, applied.model.device),
                "computed": applied.model.engine.name,
            },
        )
        _log.info(
            "%s: the %d most likely of %d classes of %d videos, computed by %s",
            *(output, k, len(labels), n_videos, applied.model.engine.name),
        )


def _finite(rows: Iterable[ViewScore], model: Path, video: str) -> Iterator[ViewScore]:
    """The rows of a video, whose scores have to be numbers.

    Raises:
        InputError: if they are not.
    """
    for row in rows:
        need_finite(row, f"checkpoint {model}", video)
        yield row


def need_finite(row: ViewScore, model: str, video: str) -> None:
    """Check that scores are numbers.

    Raises:
        InputError: if they are not.
    """
    if not row.score.isfinite().all():
        raise InputError(
            f"{model}: its scores of {video} are not finite, as of weights that are too large; "
            "take a checkpoint of a training that did not diverge, or try precision: fp32"
        )


def _result(rows: Iterable[ViewScore], labels: list[str], k: int, no_average: bool) -> list[Any]:
    """The result of a video from the rows of its clips."""
    if not no_average:
        return _best(rows, labels, k)
    return [
        {"segment": list(segment), "result": _best(views, labels, k)}
        for segment, views in groupby(rows, key=lambda row: row.segment)
    ]


def _best(rows: Iterable[ViewScore], labels: list[str], k: int) -> list[dict[str, Any]]:
    """The `k` best classes by the mean score."""
    total, n = torch.zeros(len(labels), dtype=torch.float64), 0
    for row in rows:
        total += row.score
        n += 1
    return best_classes(total / n, labels, k)


def best_classes(scores: Tensor, labels: list[str], k: int) -> list[dict[str, Any]]:
    """The `k` classes of the highest score; of equal ones the first in class order."""
    scores, classes = scores.sort(descending=True, stable=True)
    best = zip(classes[:k].tolist(), scores[:k].tolist(), strict=True)
    return [{"label": labels[index], "score": score} for index, score in best]


def _write_results(
    output: AnyPath, labels: list[str], results: Iterable[str], more: Callable[[], dict[str, Any]]
) -> int:
    """Write the results as they come, one line a video, and then more; how many there are."""
    n_results = 0
    with atomic_path(output) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f'{{"labels": {json.dumps(labels)},\n"results": {{')
        separator = "\n"
        for result in results:
            file.write(separator + result)
            separator = ",\n"
            n_results += 1
        file.write("\n}")
        for name, value in more().items():
            file.write(f",\n{json.dumps(name)}: {json.dumps(value)}")
        file.write("}\n")
    return n_results
