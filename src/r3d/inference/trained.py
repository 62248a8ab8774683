"""A trained network with what it takes to use it: classes, and how its clips are made."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r3d.clips.datasets import InferenceClipOptions, inference_starts
from r3d.clips.sampling import frame_indices, freeze
from r3d.clips.transforms import (
    FrameError,
    View,
    decode_clip,
    short_side_view,
    show_view,
    to_model_input,
)
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions
from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.frames.decoding import read_jpegs
from r3d.frames.form import FrameForm
from r3d.frames.probing import VideoError
from r3d.frames.selection import Selection
from r3d.inference.loading import read_model
from r3d.modelfiles import find_model
from r3d.models.base import VideoModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network, its classes, and the settings of the clips that it was trained on.

    Attributes:
        network: takes clips (b, c, t, h, w) to scores before the softmax (b, classes); in
            evaluation mode.
        labels: the classes in the order of the scores; None where the file does not name them.
        options: network, clips (`sample_size`, `sample_duration`, ...) and how clips are taken from
            a video (`inference_stride`, `inference_clips`, `inference_crop`).
        frames: what the frames that it was trained on were like; None where the file does not say.

    >>> import r3d
    >>> model = r3d.load_model("model.pth")
    >>> inputs = model.video_input("video.avi")
    >>> inputs.shape  # two clips of 16 frames
    torch.Size([2, 3, 16, 32, 32])
    >>> [label for label, score in model.best(inputs, k=1) if score > 0.5]
    ['right']
    """

    network: VideoModel
    labels: list[str] | None
    options: InferenceOptions
    frames: FrameForm | None = None
    _said: set[str] = field(default_factory=set, init=False, repr=False)

    def selection(
        self,
        *,
        short_side: int | None = None,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        quality: int = 2,
    ) -> Selection:
        """Which frames of a video to ask about: arguments as for `video_input`.

        Args:
            quality: JPEG quantiser of the frames on their way, 2 (best) to 31.

        Raises:
            InputError: if an argument is out of its range, or the network takes optical flow.
        """
        if self.options.input_type != "rgb":
            raise InputError(
                "model: takes optical flow, which a video does not hold; accepted: networks of "
                "input_type: rgb"
            )
        frames = self.frames or FrameForm()
        asked = FrameForm(short_side=short_side, fps=fps, rates=None if fps is None else (fps, fps))
        if short_side is None:
            short_side = 240 if frames.short_side is None else int(frames.short_side)
        if fps is None:
            fps = frames.fps
        for name, value, fits, accepted in (
            ("short_side", short_side, short_side >= 0, "pixels, or 0 to keep the size"),
            ("fps", fps, fps is None or fps > 0, "above 0, or None for all frames"),
            ("start", start, start is None or start >= 0, "seconds from 0 on"),
            ("end", end, end is None or end > (start or 0), "seconds after the start"),
            ("quality", quality, 2 <= quality <= 31, "2 (best) to 31"),
        ):
            if not fits:
                raise InputError(f"{name}: {value!r} is refused; accepted: {accepted}")
        if other := frames.difference(asked):
            self._say(f"model: is asked about frames of {other}")
        assumed = []
        if frames.short_side is None and asked.short_side is None:
            assumed.append(f"short_side: {short_side}")
        if frames.rates is None and asked.fps is None:
            assumed.append("all frames (fps)")
        if assumed:
            self._say(
                "model: does not say all about the frames that it was trained on; assumed: "
                f"{', '.join(assumed)}; give the option of what was otherwise"
            )
        return Selection(
            short_side=short_side,
            quality=quality,
            fps=fps,
            start=start,
            end=end,
            colour="as_reference" if frames.colour == "as_reference" else "converted",
        )

    def video_input(
        self,
        video: str | os.PathLike[str],
        *,
        short_side: int | None = None,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Tensor:
        """The clips of a video, ready for the network: (clips, c, t, h, w), fp32.

        Frames are decoded and scaled as in extraction with the best quality.

        Args:
            short_side: of the frames, in pixels; 0 keeps the size. By default that of the training,
                or 240 where the file does not say it.
            fps: frames a second to select; by default as in the training, or all.
            start, end: seconds of the video; all of it by default.

        Raises:
            InputError: if no frame can be decoded, an argument is out of its range, or the network
                takes optical flow.
        """
        selection = self.selection(short_side=short_side, fps=fps, start=start, end=end)
        try:
            jpegs = read_jpegs(video, selection)
        except VideoError as error:
            raise InputError(f"{video}: {error.status}: {error.reason}") from None
        try:
            return self._input(
                len(jpegs),
                lambda indices, choose_view: decode_clip(
                    [(jpegs[i],) for i in indices], choose_view
                ),
            )
        except FrameError as error:
            raise InputError(f"{video}: {error}") from None

    def frames_input(self, frames: np.ndarray | Tensor | Sequence[Any]) -> Tensor:
        """The clips of frames, ready for the network: (clips, c, t, h, w), fp32.

        Args:
            frames: bytes (t, h, w, c) from 0 to 255, RGB or flow; or as many pictures of one size,
                such as Pillow's.

        Raises:
            InputError: if they have another form.
        """
        if not isinstance(frames, Tensor):
            if not isinstance(frames, np.ndarray):
                pictures = [np.asarray(frame) for frame in frames]
                sizes = sorted({picture.shape for picture in pictures})
                if len(sizes) != 1:
                    raise InputError(
                        f"frames: {len(pictures)} pictures of {len(sizes)} sizes; accepted: one or "
                        "more of one size"
                    )
                frames = np.stack(pictures)
            frames = torch.from_numpy(np.ascontiguousarray(frames))
        channels = self.options.n_input_channels
        form = (frames.ndim, frames.dtype, *frames.shape[3:])
        if form != (4, torch.uint8, channels) or not frames.numel():
            raise InputError(
                f"frames: {tuple(frames.shape)} of {str(frames.dtype).removeprefix('torch.')}; "
                f"accepted: (t, h, w, {channels}) of uint8, one frame or more"
            )
        pixels = frames
        return self._input(
            len(pixels),
            lambda indices, choose_view: show_view(
                pixels[indices], choose_view(*pixels.shape[1:3])
            ),
        )

    @torch.inference_mode()
    def scores(self, inputs: Tensor, *, batch_size: int = 16) -> Tensor:
        """The probability of each class, averaged over clips: (classes,).

        Args:
            inputs: clips of one video, from `video_input` or `frames_input`.
            batch_size: clips that the network sees at a time.

        Raises:
            InputError: if the scores are no finite numbers.
        """
        device = next(self.network.parameters()).device
        parts = [
            self.network(part.to(device)).float().softmax(1) for part in inputs.split(batch_size)
        ]
        scores = torch.cat(parts).mean(0).cpu()
        if not scores.isfinite().all():
            raise InputError(
                "model: its scores of these clips are not finite; accepted: clips of "
                "finite numbers, and weights of a training that did not diverge"
            )
        return scores

    def best(self, inputs: Tensor, *, k: int = 5) -> list[tuple[str, float]]:
        """The k most likely classes of a video and their probabilities, the first the best.

        A class is called by its number where the file does not name it.
        """
        scores, classes = self.scores(inputs).sort(descending=True, stable=True)
        names = self.labels or [str(number) for number in range(len(scores))]
        best = zip(classes[:k].tolist(), scores[:k].tolist(), strict=True)
        return [(names[number], score) for number, score in best]

    def _say(self, line: str) -> None:
        """Log a line, once for all videos."""
        if line not in self._said:
            self._said.add(line)
            _log.warning("%s", line)

    def _input(
        self,
        n_frames: int,
        read: Callable[[list[int], Callable[[int, int], View]], list[Tensor]],
    ) -> Tensor:
        """The input of all clips of a video, of whose frames `read` gives the views."""
        options = self.options
        size, t_stride = options.sample_duration, options.sample_t_stride
        choose_starts = inference_starts(InferenceClipOptions.of(options))
        views: list[Tensor] = []
        for start in choose_starts(0, n_frames, size=size, t_stride=t_stride):
            indices = frame_indices(start, n_frames, size=size, t_stride=t_stride)
            if options.frozen:
                indices = freeze(indices)
            views += read(
                indices,
                lambda h, w: short_side_view(h, w, options.sample_size, options.inference_crop),
            )
        return to_model_input(
            torch.stack(views),
            torch.zeros(len(views), dtype=torch.bool),
            device=torch.device("cpu"),
            **input_normalisation(options),
        )


def load_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    configfile: AnyPath | None = None,
    **options: Any,
) -> TrainedModel:
    """Load a trained network with its classes and settings.

    >>> import r3d
    >>> model = r3d.load_model("model.pth", inference_stride=8)
    >>> model.labels
    ['left', 'right']
    >>> model.options.sample_size
    32

    Args:
        path: a checkpoint of ours or of the reference; a folder of `model.safetensors` and
            `config.json` as `r3d export` writes it; the name of a checkpoint in the folder
            `models`, such as the released `r3d50_K_200ep`; `torchvision:r3d_18`, which is
            downloaded; or an experiment of a config, with the split where it has several, as
            `scratch/01`.
        device: where the network is to compute, in fp32.
        configfile: the config whose experiment is meant; `config/config.yaml` by default.
        options: options of the config, under their names: how clips are taken from a video, and
            what a file of the reference does not say of itself, such as `sample_size`. What differs
            from the training is said in one line; its network and normalisation cannot be changed.

    Raises:
        InputError: if there is no such file, it is no checkpoint, or options do not fit it.
    """
    loaded = read_model(find_model(path, configfile=configfile), options)
    for note in loaded.notes:
        _log.warning("%s", note)
    return TrainedModel(loaded.network.to(device), loaded.labels, loaded.options, loaded.frames)
