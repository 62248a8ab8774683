"""Features of video files as they are decoded."""

import copy
import os
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from r3d.clips.datasets import InferenceClipOptions
from r3d.compute.device import enough_memory, use_cores
from r3d.config.options import RunOptions
from r3d.engines.opening import device_for
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.selection import Selection
from r3d.inference.applied import apply_model, without_int8
from r3d.inference.featurefile import FeatureFile
from r3d.inference.features import Source, feature_rows
from r3d.inference.predict import batch_rows
from r3d.inference.streaming import Begun, Ended, VideoClips
from r3d.inference.trained import TrainedModel
from r3d.models.base import remove_head
from r3d.obstacles import need_writable

_DEFAULT_RUN = RunOptions()


def video_features(
    model: TrainedModel,
    videos: Sequence[AnyPath],
    output: AnyPath,
    *,
    selection: Selection | None = None,
    run: RunOptions = _DEFAULT_RUN,
    progress: bool = False,
    tell: Callable[[Path, str], object] = lambda video, line: None,
) -> int:
    """Write the features of videos, as `r3d.features` does those of an annotation.

    >>> import r3d
    >>> r3d.video_features(r3d.load_model("model.pth"), ["video.avi"], "features.npz")
    1

    Args:
        model: as `r3d.load_model` gives it.
        output: file to write, `.npz` or `.parquet`; the ids are the names of the files as given.
        selection: which frames of each video; those that the model was trained on by default.
        run: how to run; `n_threads` videos are decoded at a time.
        progress: whether to show a bar on standard error.
        tell: is called with what is wrong with a video, or odd about it.

    Returns:
        How many of the videos have features; the others are left out.

    Raises:
        InputError: if no video has, the output cannot be written, or the model takes no videos.
    """
    need_writable(output)
    options, files = without_int8(model.options), [Path(video) for video in videos]
    ffmpeg_binary()
    selection = selection or model.selection()
    network = copy.deepcopy(model.network)
    remove_head(network)
    device = device_for(options, run)
    use_cores()
    batch_size = batch_rows(run, device)
    tries: dict[int, Begun] = {}
    latest: dict[int, int] = {}
    failed: set[int] = set()

    def begin(begun: Begun) -> None:
        tries[begun.number] = begun
        latest[begun.video] = begun.number

    def end(ended: Ended) -> None:
        decoded = ended.decoded
        if decoded is None:
            failed.add(ended.video)
            tell(files[ended.video], ended.error)
        elif decoded.note:
            tell(files[ended.video], decoded.note)

    clips = VideoClips(
        files,
        selection,
        InferenceClipOptions.of(options),
        batch_size=batch_size,
        n_threads=max(1, run.n_threads),
        begun=begin,
        ended=end,
    )
    n_done = 0
    bar = tqdm(total=len(files), unit="video", disable=not progress)
    remedy = f"lower inference_batch_size (it is {batch_size}) or sample_size"
    with enough_memory(remedy), bar, FeatureFile(output) as out, clips as batches:
        views = apply_model(network, options, run, device).outputs(batches, clips.n_rows)
        for number, of_try in groupby(views, key=lambda view: view.video):
            begun = tries.pop(number)
            source = Source(
                _name(files[begun.video]), "", 0, begun.rate, start=selection.start or 0.0
            )
            place = out.tell()
            for row in feature_rows(
                of_try, source, no_average=options.inference_no_average, model="model"
            ):
                out.add(row)
            # Rows of a later try have been asked for by now, or the video has come to its end.
            if latest[begun.video] != number or begun.video in failed:
                out.go_back(place)
            else:
                n_done += 1
            bar.update(begun.video + 1 - bar.n)
        if not n_done:
            raise InputError(f"output {output}: no video has features, and nothing was written")
    return n_done


def _name(file: Path) -> str:
    """The name of a file as a text that every format holds, whatever bytes are in it."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
