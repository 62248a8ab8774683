"""Spatial sampling: from the JPEGs of a clip to the input of a network.

One set of parameters serves all frames of a clip. In a worker (`View`, `decode_clip`,
`jitter_colors`) a clip stays uint8 and (t, h, w, c), which is how JPEGs decode, what torch resizes
fastest and a quarter of what floats would cost on the way to the device. There (`to_model_input`)
it is flipped and normalised.

Resizing agrees with Pillow's, bilinear with antialiasing, to a rounding error. Deliberate
differences are in decoding. Chroma is not interpolated: 0.15 grey levels on average after the
resize, for a quarter of the time. Training clips are decoded at a lower resolution where their view
shows so much of a frame that it has no more pixels: a twentieth less time with frames of 240
pixels, a third with 320.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.nn import functional

from r3d.frames.jpegs import frame_size

# Frames of so many bytes are resized at a time, which a core has in its cache then, but not fewer.
_CACHED_BYTES, _FEWEST_TOGETHER = 3 << 19, 4
_CORNER_SCALES = tuple(2 ** (-step / 4) for step in range(5))
_JITTER_STRENGTH = 0.4  # of brightness, contrast and saturation: factors from 0.6 to 1.4
_JITTER_HUE = 0.1  # of a full turn, either way
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Box(NamedTuple):
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int


class View(NamedTuple):
    """What a clip shows of its frames: `box` is resized to `size` (h, w), then cut to `crops`."""

    box: Box
    size: tuple[int, int]
    crops: tuple[Box, ...]


class FrameError(ValueError):
    """A frame cannot be used.

    Attributes:
        position: its place among the given frames, from 0.
        reason: what is wrong with it.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"frame {position}: {reason}")
        self.position = position
        self.reason = reason


def random_view(
    height: int,
    width: int,
    size: int,
    *,
    min_scale: float,
    min_ratio: float,
    rng: np.random.Generator,
) -> View:
    """A box of random area and shape at a random place, resized to a square (Szegedy et al., 2015).

    Args:
        min_scale: least share of the area of the frame; the greatest is 1.
        min_ratio: least ratio of width to height; the greatest is its inverse. The ratio is
            uniform in its logarithm.
    """
    log_ratio = math.log(1 / min_ratio)
    for _ in range(10):
        area = height * width * rng.uniform(min_scale, 1)
        ratio = math.exp(rng.uniform(-log_ratio, log_ratio))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return _square(Box(int(top), int(left), h, w), size)
    # No such box fits a frame of extreme shape: the largest one within the ratios, in the middle.
    h = min(height, max(1, round(width / min_ratio)))
    w = min(width, max(1, round(height / min_ratio)))
    return _square(Box((height - h) // 2, (width - w) // 2, h, w), size)


def corner_view(height: int, width: int, size: int, *, rng: np.random.Generator) -> View:
    """A square at a corner or in the middle, its side one of five shares of the short side.

    The multi-scale corner crop of Wang et al. (2015) with the scales 1, 2^-1/4, ... 2^-1.
    """
    side = int(min(height, width) * _CORNER_SCALES[rng.integers(len(_CORNER_SCALES))])
    down, right = height - side, width - side
    places = ((0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2)))
    top, left = places[rng.integers(len(places))]
    return _square(Box(top, left, side, side), size)


def short_side_view(
    height: int, width: int, size: int, crop: Literal["center", "nocrop", "three"]
) -> View:
    """The whole frame with its short side resized to `size`, and squares of it.

    Args:
        crop: the square in the middle; no crop, for a fully convolutional network; or three
            squares along the long side: its begin, middle and end.
    """
    if height <= width:
        resized = (size, int(size * width / height))
    else:
        resized = (int(size * height / width), size)
    down, right = resized[0] - size, resized[1] - size
    crops = {
        "center": (Box(round(down / 2), round(right / 2), size, size),),
        "nocrop": (Box(0, 0, *resized),),
        "three": tuple(
            Box(round(down * part), round(right * part), size, size) for part in (0, 0.5, 1)
        ),
    }[crop]
    return View(Box(0, 0, height, width), resized, crops)


def decode_clip(
    jpegs: Sequence[Sequence[bytes]],
    choose_view: Callable[[int, int], View],
    *,
    reduce: bool = False,
) -> list[Tensor]:
    """Decode the frames of a clip and render a view of them: `decode_views` of a single one.

    Args:
        choose_view: gives the view of frames of a height and width.

    Returns:
        A uint8 clip (t, h, w, c) for each crop of the view, c being 3 or, for flow, 2.
    """
    (crops,) = decode_views(jpegs, lambda h, w: [choose_view(h, w)], reduce=reduce)
    return crops


def decode_views(
    jpegs: Sequence[Sequence[bytes]],
    choose_views: Callable[[int, int], Sequence[View]],
    *,
    reduce: bool = False,
    shown: Sequence[int] | None = None,
) -> list[list[Tensor]]:
    """Decode the frames of a clip once and render several views of them.

    Args:
        jpegs: the JPEGs of each frame: one in colour (or grey, which becomes RGB), or two
            in grey, the horizontal and vertical components of optical flow.
        choose_views: gives the views of frames of a height and width.
        reduce: decode at a half, quarter or eighth of the size where that still has the pixels of
            all views, and widen their boxes to whole pixels of the smaller frame: 2 grey levels off
            on average, as frames decoded so are a little sharper than antialiasing leaves them.
        shown: places of the views to render, by default of all. The others count all the same for
            the size that is decoded at, so that a view does not depend on which others are shown.

    Returns:
        For each view that is shown a uint8 clip (t, h, w, c) for each of its crops, c being 3 or,
        for flow, 2.

    Raises:
        FrameError: if a frame is no whole JPEG, is absurdly large, or has another size than the
            first.
    """
    size = _frame_size(jpegs[0][0], 0)
    views = choose_views(*size)
    divisor = min(map(_divisor, views)) if reduce else 1
    height, width = (_ceil_div(side, divisor) for side in size)
    views = [views[place] for place in (range(len(views)) if shown is None else shown)]
    boxes = [_reduced(view.box, divisor) for view in views]
    n_planes = len(jpegs[0])
    colors, depth = ("RGB", 3) if n_planes == 1 else ("GRAY", 1)
    plane = np.empty((height, width, depth), np.uint8)
    n_bytes = 3 * sum(box.height * box.width for box in boxes)
    n_together = min(len(jpegs), max(_FEWEST_TOGETHER, _CACHED_BYTES // n_bytes))
    # Always three channels, for which torch has its fast path; flow leaves the third one unset.
    pixels = [np.empty((n_together, box.height, box.width, 3), np.uint8) for box in boxes]
    clips: list[list[list[Tensor]]] = [[] for _ in views]  # by view, in parts, of each crop
    for begin in range(0, len(jpegs), n_together):
        together = jpegs[begin : begin + n_together]
        for place, planes in enumerate(together):
            for channel, jpeg in enumerate(planes):
                _check_size(_frame_size(jpeg, begin + place), size, begin + place)
                try:
                    decoded = simplejpeg.decode_jpeg(
                        jpeg,
                        colors,
                        fastupsample=True,
                        min_height=height,
                        min_width=width,
                        buffer=plane,
                    )
                except ValueError as error:
                    raise FrameError(begin + place, str(error)) from None
                for part, (top, left, h, w) in zip(pixels, boxes, strict=True):
                    part[place, :, :, channel : channel + depth] = decoded[
                        top : top + h, left : left + w
                    ]
        for parts, part, view in zip(clips, pixels, views, strict=True):
            parts.append(_resize(torch.from_numpy(part[: len(together)]), view))
    return [
        [_joined(crop)[..., : n_planes * depth] for crop in zip(*parts, strict=True)]
        for parts in clips
    ]


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def show_view(frames: Tensor, view: View) -> list[Tensor]:
    """Render a view of frames that are decoded: as `decode_clip` does.

    Args:
        frames: (t, h, w, c), uint8.
    """
    top, left, height, width = view.box
    return _resize(frames[:, top : top + height, left : left + width], view)


def _resize(pixels: Tensor, view: View) -> list[Tensor]:
    """The crops of a view from what is in its box."""
    resized = functional.interpolate(
        pixels.permute(0, 3, 1, 2), view.size, mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    return [resized[:, top : top + h, left : left + w] for top, left, h, w in view.crops]


def _divisor(view: View) -> int:
    """The greatest of 8, 4, 2 and 1 by which sizes may be divided so that none is enlarged."""
    h, w = view.size
    return next((n for n in (8, 4, 2) if view.box.height >= n * h and view.box.width >= n * w), 1)


def _reduced(box: Box, divisor: int) -> Box:
    """The box in frames of a smaller size, widened to whole pixels of them."""
    top, left = box.top // divisor, box.left // divisor
    bottom = _ceil_div(box.top + box.height, divisor)
    right = _ceil_div(box.left + box.width, divisor)
    return Box(top, left, bottom - top, right - left)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _square(box: Box, size: int) -> View:
    return View(box, (size, size), (Box(0, 0, size, size),))


def _frame_size(jpeg: bytes, position: int) -> tuple[int, int]:
    try:
        return frame_size(jpeg)
    except ValueError as error:
        raise FrameError(position, str(error)) from None


def _check_size(found: tuple[int, ...], expected: tuple[int, int], position: int) -> None:
    if found != expected:
        raise FrameError(
            position,
            f"is {found[1]} x {found[0]} pixels where the first of the clip is "
            f"{expected[1]} x {expected[0]}",
        )


class ColorJitter(NamedTuple):
    """A change of colours, the same for all frames of a clip.

    Brightness, contrast and saturation are factors; hue is a part of a full turn.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float


def random_jitter(rng: np.random.Generator) -> ColorJitter:
    """Factors from 0.6 to 1.4 and a hue turned by up to a tenth, uniformly."""
    low, high = 1 - _JITTER_STRENGTH, 1 + _JITTER_STRENGTH
    brightness, contrast, saturation = rng.uniform(low, high, 3).tolist()
    return ColorJitter(brightness, contrast, saturation, rng.uniform(-_JITTER_HUE, _JITTER_HUE))


def jitter_colors(clip: Tensor, jitter: ColorJitter) -> Tensor:
    """Change the colours of a uint8 RGB clip (t, h, w, 3).

    All four changes are linear, so they become one matrix and an offset: a factor on all values
    (brightness), a blend with the mean luma of the clip (contrast), a blend with the luma of each
    pixel (saturation), and a rotation of the chroma plane (hue), which leaves luma and greys as
    they are.
    """
    luma = np.array(_LUMA)
    grey = np.tile(luma, (3, 1))
    saturation = jitter.saturation * np.eye(3) + (1 - jitter.saturation) * grey
    matrix = jitter.brightness * jitter.contrast * _hue_rotation(jitter.hue) @ saturation
    values = clip.float()
    mean_luma = float(values.mean((0, 1, 2)) @ torch.tensor(luma, dtype=torch.float32))
    offset = (1 - jitter.contrast) * jitter.brightness * mean_luma
    values = values @ torch.tensor(matrix.T, dtype=torch.float32)
    return values.add_(offset).round_().clamp_(0, 255).to(torch.uint8)


def _hue_rotation(turn: float) -> np.ndarray:
    """The matrix that turns (R, G, B) in the plane of the colour differences I and Q of NTSC."""
    to_yiq = np.array([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    rotation = np.array([(1, 0, 0), (0, cos, -sin), (0, sin, cos)])
    return np.linalg.inv(to_yiq) @ rotation @ to_yiq


def rand_augment(clip: Tensor, strength: int, rng: np.random.Generator) -> Tensor:
    """Two changes of form or colour, the same for all frames (Cubuk et al., RandAugment, 2020).

    Args:
        clip: (t, h, w, 3), uint8.
        strength: of the changes, from 0 to 30; about 9 is usual.
    """
    from torchvision.transforms import v2  # to import it takes as long as all of torch

    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global state
        torch.manual_seed(int(rng.integers(2**63)))
        change = v2.RandAugment(num_ops=2, magnitude=strength)
        return change(clip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def to_model_input(
    clips: Tensor,
    flips: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    value_scale: int,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Move clips to the device, flip those that are to be flipped, and normalise all.

    Optical flow has 2 channels of 8 bits, from -bound at 0 to bound at 255; flipping a clip also
    negates its horizontal component, u -> 255 - u.

    Args:
        clips: (b, t, h, w, c), uint8.
        flips: (b,), bool, on the CPU.
        mean, std: per channel, for values from 0 to `value_scale` (see `normalisation`).

    Returns:
        (b, c, t, h, w), fp32.
    """
    clips = clips.to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    factor, shift = _normalising_factors(tuple(mean), tuple(std), value_scale, device)
    inputs = torch.empty(clips.shape, device=device, memory_format=memory_format)
    # On a CPU one by one: what is done to a clip then finds it in the cache.
    n_together = 1 if device.type == "cpu" else len(clips)
    for together, flip, out in zip(
        *(tensor.split(n_together) for tensor in (clips, flips, inputs)), strict=True
    ):
        # Bytes are moved into the wanted layout, not floats.
        together = together.contiguous(memory_format=memory_format)
        if flip.any():
            flipped = together.flip(4)
            if flipped.shape[1] == 2:
                flipped[:, 0] = 255 - flipped[:, 0]
            where = flip.to(device, non_blocking=True).view(-1, 1, 1, 1, 1)
            together = torch.where(where, flipped, together)
        out.copy_(together).mul_(factor).add_(shift)
    return inputs


@functools.lru_cache(maxsize=16)
def _normalising_factors(
    mean: tuple[float, ...], std: tuple[float, ...], value_scale: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factor and shift that normalise bytes, (c, 1, 1, 1); kept, as each copy would stall a GPU."""
    factor = [value_scale / 255 / s for s in std]
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    return (
        torch.tensor(factor, device=device).view(-1, 1, 1, 1),
        torch.tensor(shift, device=device).view(-1, 1, 1, 1),
    )
