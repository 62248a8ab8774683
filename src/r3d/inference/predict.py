"""From videos to answers: a trained network applied to video files as they are decoded."""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from r3d.clips.datasets import InferenceClipOptions
from r3d.compute.device import enough_memory, use_cores
from r3d.config.options import RunOptions
from r3d.engines.opening import device_for
from r3d.files import AnyPath
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.selection import Selection
from r3d.inference.applied import ViewScore, apply_model
from r3d.inference.infer import best_classes, need_finite
from r3d.inference.streaming import Begun, Ended, VideoClips
from r3d.inference.timeline import Timeline
from r3d.inference.trained import TrainedModel

_BATCH_SIZE = 8
"""Beyond it CPUs gain nothing (docs/predict.md), and the first answer waits for the batch."""
_CUDA_BATCH_SIZE = 64

_DEFAULT_RUN = RunOptions()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a model says of a video, or why it cannot say anything.

    Attributes:
        video: its file.
        result: the most likely classes, `{"label": ..., "score": ...}` each, the first the best.
        clips: how many clips the scores are averaged over.
        seconds: how much of the video the model was asked about.
        timeline: the scores over time, where they were asked for.
        computed: by which engine, and in which precision.
        note: what is odd about the video; "" if nothing is.
        error: why there is no result; "" if there is one.
    """

    video: Path
    result: list[dict[str, Any]] = field(default_factory=list)
    clips: int = 0
    seconds: float = 0.0
    timeline: Timeline | None = None
    computed: str = ""
    note: str = ""
    error: str = ""


def predict(
    model: TrainedModel,
    videos: Sequence[AnyPath],
    *,
    selection: Selection | None = None,
    timeline: bool = False,
    run: RunOptions = _DEFAULT_RUN,
    progress: bool = False,
) -> Generator[Prediction, None, None]:
    """What a model says of videos, in their order, each as soon as it is known.

    Frames are decoded, scaled and sampled as extraction and inference do. Memory stays flat however
    long a video is. A video that cannot be used has its reason in the answer.

    >>> import r3d
    >>> from r3d.inference.predict import predict
    >>> model = r3d.load_model("model.pth")
    >>> for prediction in predict(model, ["video.avi", "nothing.avi"]):
    ...     print(prediction.video, prediction.result[:1] or prediction.error)

    Args:
        model: which is put into its fastest form, and onto the GPU if there is one.
        selection: which frames of each video (`TrainedModel.selection`); by default as in its
            training.
        timeline: whether to give the scores over time, too.
        run: how to run, which changes no result beyond rounding: `n_threads` videos are decoded at
            a time.
        progress: whether to show a bar on standard error.

    Raises:
        InputError: if the model takes no videos, or its scores are no finite numbers.
    """
    options = model.options
    say_if_unnamed(model)
    ffmpeg_binary()
    if selection is None:
        selection = model.selection()
    device = device_for(options, run)
    use_cores()
    batch_size = batch_rows(run, device)
    files = [Path(video) for video in videos]
    answers = _Answers(files, model, selection, timeline=timeline)
    clips = VideoClips(
        files,
        selection,
        InferenceClipOptions.of(options),
        batch_size=batch_size,
        n_threads=max(1, run.n_threads),
        begun=answers.begin,
        ended=answers.end,
    )
    remedy = f"lower inference_batch_size (it is {batch_size}) or sample_size"
    bar = tqdm(unit=" clips", disable=not progress)
    with enough_memory(remedy), bar, clips as batches:
        applied = apply_model(model.network, options, run, device)
        for row in applied.scores(batches, clips.n_rows):
            answers.add(row)
            for answer in answers.complete():
                bar.set_description_str(
                    f"{answers.n_complete} of {len(files)} videos", refresh=False
                )
                yield replace(answer, computed=applied.engine.name)
            bar.update()
        for answer in answers.complete():
            yield replace(answer, computed=applied.engine.name)


def batch_rows(run: RunOptions, device: torch.device) -> int:
    """Rows of the batches that the clips of videos are computed in."""
    default_size = _CUDA_BATCH_SIZE if device.type == "cuda" else _BATCH_SIZE
    return run.inference_batch_size or default_size


@dataclass
class _Tally:
    """The scores of a video so far, of the try that counts."""

    total: np.ndarray
    timeline: Timeline | None
    rows: int = 0


@dataclass
class _Pending:
    """A video that is under way."""

    file: Path
    tally: _Tally | None = None
    ended: Ended | None = None


class _Answers:
    """Puts together what becomes of videos: their clips come in order, a few videos at a time."""

    def __init__(
        self, files: list[Path], model: TrainedModel, selection: Selection, *, timeline: bool
    ) -> None:
        self._files, self._options, self._selection = files, model.options, selection
        self._labels = labels_of(model)
        self._wants_timeline = timeline
        self._pending: deque[_Pending] = deque()
        self.n_complete = 0  # which is also the number of the first pending video
        self._tallies: dict[int, tuple[_Pending, _Tally]] = {}

    def begin(self, begun: Begun) -> None:
        pending = self._of(begun.video)
        timeline = None
        if self._wants_timeline:
            start = self._selection.start or 0.0
            timeline = Timeline(self._labels, rate=begun.rate, start=start)
        pending.tally = _Tally(np.zeros(len(self._labels)), timeline)
        self._tallies[begun.number] = pending, pending.tally

    def end(self, ended: Ended) -> None:
        self._of(ended.video).ended = ended

    def add(self, row: ViewScore) -> None:
        pending, tally = self._tallies.get(row.video, (None, None))
        if pending is None or tally is None or pending.tally is not tally:
            return  # of a try that was given up
        need_finite(row, "model", str(pending.file))
        tally.total += row.score.numpy()
        tally.rows += 1
        if tally.timeline is not None:
            tally.timeline.add(row.segment, row.score)

    def complete(self) -> Iterator[Prediction]:
        """The answers about the next videos whose clips have all been added."""
        while self._pending and (ended := self._pending[0].ended):
            tally = self._pending[0].tally
            if not ended.error and (tally is None or tally.rows < ended.rows):
                return
            pending = self._pending.popleft()
            self.n_complete += 1
            self._tallies = {n: item for n, item in self._tallies.items() if item[0] is not pending}
            yield self._answer(pending.file, ended, tally)

    def _of(self, video: int) -> _Pending:
        while self.n_complete + len(self._pending) <= video:
            self._pending.append(_Pending(self._files[self.n_complete + len(self._pending)]))
        return self._pending[video - self.n_complete]

    def _answer(self, file: Path, ended: Ended, tally: _Tally | None) -> Prediction:
        decoded = ended.decoded
        if decoded is None or tally is None:
            return Prediction(file, error=ended.error)
        k = self._options.output_topk if self._options.output_topk > 0 else len(self._labels)
        return Prediction(
            file,
            result=best_classes(torch.from_numpy(tally.total / tally.rows), self._labels, k),
            clips=tally.rows // (3 if self._options.inference_crop == "three" else 1),
            seconds=decoded.frames / float(decoded.plan.fps),
            timeline=tally.timeline,
            note=decoded.note,
        )


def say_if_unnamed(model: TrainedModel) -> None:
    """Log that numbers stand for the classes of a model, where they do."""
    if model.labels is None:
        _log.warning(
            "model: does not name its %d classes: numbers stand for them; class_order: a file that "
            "lists them, one a line, gives their names",
            model.network.architecture.n_classes,
        )


def labels_of(model: TrainedModel) -> list[str]:
    """The classes of a model; their numbers where the file does not name them."""
    if model.labels is not None:
        return model.labels
    return [str(number) for number in range(model.network.architecture.n_classes)]
