"""Applying a trained network to videos: the most likely classes of each.

Clips are streamed and results written as they come, so memory stays flat however long a video is
and however many there are.
"""

import json
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import InferenceClips
from r3d.clips.loader import ClipBatch, make_loader
from r3d.clips.modelinput import model_input
from r3d.compute.device import (
    Layout,
    autocast,
    choose_device,
    choose_dtype,
    enough_memory,
    memory_format,
    same_bits,
    use_cores,
)
from r3d.compute.distributed import join_world
from r3d.config.networks import given_options
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.errors import InputError
from r3d.files import AnyPath, atomic_path
from r3d.frames.form import FrameForm, form_of_frames
from r3d.frames.layouts import FileType
from r3d.frames.stores import open_store
from r3d.inference.classes import named_classes
from r3d.inference.clipcounts import ClipCounter
from r3d.inference.loading import LoadedModel, read_model
from r3d.models.base import VideoModel
from r3d.models.folding import fold_batch_norms
from r3d.obstacles import need_writable

LOOKED_AT = 16
"""Videos that tell what frames are like."""

_DEFAULT_RUN = RunOptions()
_BATCH_SIZE = TrainingOptions().batch_size

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
         "clips": {"n": ..., "correct": ...}}

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
    annotation = Path(annotation)
    need_writable(output)
    device = choose_device(no_cuda=run.no_cuda)
    dtype = choose_dtype(options.precision, device)
    use_cores(n_cores)
    with same_bits(run.deterministic), join_world(device) as world:
        device = world.own(device)
        store = open_store(frames, file_type)
        samples = read_annotation(annotation, subset=subset, untrimmed=True, store=store)
        loaded = read_model(model, given_options(options), annotated=samples.labels)
        options, network, model = loaded.options, loaded.network, loaded.file
        labels = named_classes(loaded.known, loaded.labels, samples.labels)
        if world.is_main:
            say_what_differs(loaded, form_of_frames(store, samples.places(store, LOOKED_AT)))
        layout = prepare(network, device, dtype, run.memory_format)

        clips = InferenceClips(samples, store, options)
        loader = make_loader(
            clips,
            clips.shard(world.rank, world.size),
            batch_size=run.inference_batch_size or batch_size or _BATCH_SIZE,
            n_workers=run.n_threads,
            pin_memory=device.type == "cuda",
        )
        k = options.output_topk if 0 < options.output_topk < len(labels) else len(labels)
        counter = ClipCounter(samples, labels)
        rows = clip_scores(network, loader, options, device, dtype, layout)
        videos = tqdm(
            groupby(rows, key=lambda row: row.video),
            total=len(samples) // world.size,
            unit="video",
            disable=not world.is_main,
            mininterval=1 if sys.stderr.isatty() else 30,
        )
        results = (
            (
                name := str(samples.ids[video]),
                _result(
                    counter.counted(finite(views, model, name)),
                    labels,
                    k,
                    options.inference_no_average,
                ),
            )
            for video, views in videos
        )
        lines = (f"{json.dumps(name)}: {json.dumps(result)}" for name, result in results)
        with enough_memory(f"lower inference_batch_size (it is {batch_size}) or sample_size"):
            if world.is_main:
                n_videos = _write_results(
                    output,
                    labels,
                    chain(lines, world.receive_lines()),
                    lambda: counter.totals(world, device),
                )
                _log.info(
                    "%s: the %d most likely of %d classes of %d videos",
                    *(output, k, len(labels), n_videos),
                )
            else:
                world.send_lines(lines)
                counter.totals(world, device)


def say_what_differs(loaded: LoadedModel, frames: FrameForm) -> None:
    """Log in one line each how a model is applied otherwise than it was trained."""
    for note in loaded.notes:
        _log.warning("%s", note)
    if difference := loaded.frames and loaded.frames.difference(frames):
        _log.warning("checkpoint %s: applied to frames of %s", loaded.file, difference)


def prepare(
    network: VideoModel, device: torch.device, dtype: torch.dtype, layout: Layout
) -> torch.memory_format:
    """Put a network into its fastest form for `clip_scores`; the memory format of its clips."""
    chosen = memory_format(device, dtype, layout, training=False)
    fold_batch_norms(network)
    network.to(device).to(memory_format=chosen)
    return chosen


class ViewScore(NamedTuple):
    """What the network says of one view of a clip: the softmax (classes,)."""

    video: int
    segment: tuple[int, int]
    score: Tensor


class ViewOutput(NamedTuple):
    """What a network gives for one view of a clip (n,)."""

    video: int
    segment: tuple[int, int]
    output: Tensor


def clip_scores(
    network: VideoModel,
    loader: Iterable[ClipBatch],
    options: InferenceOptions,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Iterator[ViewScore]:
    """What a network says of the views of clips, batch by batch, in their order."""

    def scores(inputs: Tensor) -> Tensor:
        return network(inputs).float().softmax(1)

    views = clip_outputs(scores, loader, options, device, dtype, layout)
    return map(ViewScore._make, views)


@torch.inference_mode()
def clip_outputs(
    network: Callable[[Tensor], Tensor],
    loader: Iterable[ClipBatch],
    options: InferenceOptions,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Generator[ViewOutput, None, None]:
    """What a network gives for the views of clips, in fp32, batch by batch, in their order."""
    for batch in loader:
        with autocast(device, dtype):
            outputs = network(model_input(batch, options, device, layout))
        for video, segment, output in zip(
            batch.videos.tolist(), batch.segments.tolist(), outputs.float().cpu(), strict=True
        ):
            yield ViewOutput(video, (segment[0], segment[1]), output)


def finite(rows: Iterable[ViewScore], model: Path, video: str) -> Iterator[ViewScore]:
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
    output: AnyPath, labels: list[str], results: Iterable[str], clips: Callable[[], dict[str, int]]
) -> int:
    """Write the results as they come, one line a video, and then `clips`; how many there are."""
    n_results = 0
    with atomic_path(output) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f'{{"labels": {json.dumps(labels)},\n"results": {{')
        separator = "\n"
        for result in results:
            file.write(separator + result)
            separator = ",\n"
            n_results += 1
        file.write(f'\n}},\n"clips": {json.dumps(clips())}}}\n')
    return n_results
