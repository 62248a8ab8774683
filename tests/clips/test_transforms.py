"""From JPEGs to the input of a network."""

import io
import itertools
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as pillow_transforms

from r3d.clips.transforms import (
    Box,
    ColorJitter,
    FrameError,
    View,
    corner_view,
    decode_clip,
    decode_views,
    jitter_colors,
    rand_augment,
    random_jitter,
    random_view,
    short_side_view,
    to_model_input,
)
from r3d.config.normalisation import NORMALISATION, normalisation


def encode(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0, mode: str = "RGB") -> bytes:
    """A frame of soft random blobs."""
    shape = (height // 8 + 2, width // 8 + 2, 3) if mode == "RGB" else (height // 8, width // 8)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return encode(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def claiming(jpeg: bytes, height: int, width: int) -> bytes:
    """A frame whose header states another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


@pytest.fixture(scope="module")
def real_frames(shared: Path) -> dict[str, list[bytes]]:
    """A few frames of real videos at a short side of 240, as JPEGs of ordinary quality."""
    frames: dict[str, list[bytes]] = {}
    for name in ("ucf101_clip.avi", "kinetics_clip.mp4", "nasa_320x180.mp4"):
        with av.open(str(shared / "data" / "videos" / name)) as container:
            decoded = itertools.islice(container.decode(video=0), 0, 96, 32)
            images = [frame.to_image() for frame in decoded]
        frames[name] = [
            encode(pillow_transforms.resize(image, 240), quality=80) for image in images
        ]
    return frames


def pillow_clip(jpegs: list[bytes], transform: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    images = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in jpegs]
    return np.stack([np.asarray(transform(image)) for image in images]).astype(int)


@pytest.mark.parametrize("crop", ["center", "nocrop"])
def test_evaluation_agrees_with_pillow(real_frames: dict[str, list[bytes]], crop: str) -> None:
    def plain(image: Image.Image) -> Image.Image:
        resized = pillow_transforms.resize(image, 112)
        return pillow_transforms.center_crop(resized, 112) if crop == "center" else resized

    for name, jpegs in real_frames.items():
        (clip,) = decode_clip(
            [[jpeg] for jpeg in jpegs], lambda h, w: short_side_view(h, w, 112, crop)
        )
        expected = pillow_clip(jpegs, plain)
        assert clip.shape == expected.shape
        assert np.abs(clip.numpy() - expected).mean() < 0.5, name


def test_training_agrees_with_pillow(real_frames: dict[str, list[bytes]]) -> None:
    for name, jpegs in real_frames.items():
        rng = np.random.default_rng(3)
        view = random_view(240, 318, 112, min_scale=0.25, min_ratio=0.75, rng=rng)

        def plain(image: Image.Image, box: Box = view.box) -> Image.Image:
            return pillow_transforms.resized_crop(image, *box, [112, 112])

        (clip,) = decode_clip([[jpeg] for jpeg in jpegs], lambda h, w, view=view: view)
        assert np.abs(clip.numpy() - pillow_clip(jpegs, plain)).mean() < 0.6, name


@pytest.mark.parametrize("box", [Box(4, 2, 232, 302), Box(0, 0, 240, 318)])
def test_reduced_frames_agree_with_pillow(real_frames: dict[str, list[bytes]], box: Box) -> None:
    """Boxes of even edges, which need not be widened."""

    def plain(image: Image.Image) -> Image.Image:
        return pillow_transforms.resized_crop(image, *box, [112, 112])

    view = View(box, (112, 112), (Box(0, 0, 112, 112),))
    for name, jpegs in real_frames.items():
        (clip,) = decode_clip([[jpeg] for jpeg in jpegs], lambda h, w: view, reduce=True)
        assert np.abs(clip.numpy() - pillow_clip(jpegs, plain)).mean() < 1.8, name


@pytest.mark.parametrize(
    ("box", "size", "divisor", "widened"),
    [
        (Box(3, 5, 112, 300), (112, 112), 1, (3, 5, 112, 300)),
        (Box(0, 0, 223, 319), (112, 112), 1, (0, 0, 223, 319)),
        (Box(8, 17, 224, 224), (112, 112), 2, (8, 16, 224, 226)),
        (Box(7, 8, 225, 311), (112, 112), 2, (6, 8, 226, 312)),
        (Box(1, 1, 239, 317), (56, 56), 4, (0, 0, 240, 320)),
        (Box(0, 0, 240, 319), (30, 30), 8, (0, 0, 240, 320)),
        (Box(0, 0, 240, 319), (2, 2), 8, (0, 0, 240, 320)),
        (Box(0, 0, 240, 319), (112, 148), 2, (0, 0, 240, 320)),
    ],
)
def test_reduced_frames_have_the_pixels_that_the_view_needs(
    monkeypatch: pytest.MonkeyPatch,
    box: Box,
    size: tuple[int, int],
    divisor: int,
    widened: tuple[int, int, int, int],
) -> None:
    decoded_sizes = []
    decode = simplejpeg.decode_jpeg

    def spy(*args: object, **kwargs: object) -> np.ndarray:
        image = decode(*args, **kwargs)
        decoded_sizes.append(image.shape[:2])
        return image

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    # The colour of a pixel is its place: a grey level is as far as a pixel, or a little less.
    ramps = np.zeros((240, 319, 3))
    ramps[..., 0], ramps[..., 1] = np.arange(240)[:, None], np.arange(319) * 0.75
    jpegs = [encode(Image.fromarray(ramps.round().astype(np.uint8)), quality=98)] * 2
    view = View(box, size, (Box(0, 0, *size),))
    (clip,) = decode_clip([[jpeg] for jpeg in jpegs], lambda h, w: view, reduce=True)
    assert decoded_sizes == [(-(-240 // divisor), -(-319 // divisor))] * 2
    assert clip.shape == (2, *size, 3)
    top, left, height, width = widened
    middles = [
        begin + (np.arange(n) + 0.5) * side / n - 0.5
        for begin, side, n in ((top, height, size[0]), (left, width, size[1]))
    ]
    rows, columns = clip.float().mean(0).mean(1)[:, 0], clip.float().mean(0).mean(0)[:, 1]
    inside = slice(1, -1)  # at the edges of the frame a filter has pixels on one side only
    np.testing.assert_allclose(rows[inside], middles[0][inside], atol=0.7)
    np.testing.assert_allclose(columns[inside] / 0.75, middles[1][inside], atol=1.1)


def test_three_crops_lie_at_both_ends_and_in_the_middle() -> None:
    wide = short_side_view(240, 320, 112, "three")
    assert wide == View(
        Box(0, 0, 240, 320),
        (112, 149),
        (Box(0, 0, 112, 112), Box(0, 18, 112, 112), Box(0, 37, 112, 112)),
    )
    tall = short_side_view(320, 240, 112, "three")
    assert [crop[:2] for crop in tall.crops] == [(0, 0), (18, 0), (37, 0)]
    assert short_side_view(240, 320, 112, "center").crops == wide.crops[1:2]
    jpeg = noise(240, 320)
    whole = decode_clip([[jpeg]], lambda h, w: short_side_view(h, w, 112, "nocrop"))[0]
    crops = decode_clip([[jpeg]], lambda h, w: short_side_view(h, w, 112, "three"))
    for clip, left in zip(crops, (0, 18, 37), strict=True):
        assert torch.equal(clip, whole[:, :, left : left + 112])


@pytest.mark.parametrize(("height", "width"), [(112, 112), (240, 320), (60, 90), (1, 1)])
@pytest.mark.parametrize("crop", ["center", "nocrop", "three"])
def test_views_of_frames_of_any_size(height: int, width: int, crop: str) -> None:
    clips = decode_clip([[noise(height, width)]] * 2, lambda h, w: short_side_view(h, w, 112, crop))
    assert len(clips) == (3 if crop == "three" else 1)
    for clip in clips:
        assert clip.shape[:2] == (2, 112)
        assert clip.dtype == torch.uint8


def test_random_boxes_are_drawn_as_torchvision_draws_them() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    n = 3000
    image = torch.empty(3, 240, 320)
    ours, theirs = [], []
    for _ in range(n):
        view = random_view(240, 320, 112, min_scale=0.25, min_ratio=0.75, rng=rng)
        assert view.size == (112, 112)
        ours.append(view.box)
        theirs.append(RandomResizedCrop.get_params(image, [0.25, 1.0], [0.75, 4 / 3]))
    boxes, expected = np.array(ours), np.array(theirs)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 240).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 320).all()
    for quantile in (0.1, 0.5, 0.9):
        difference = np.quantile(boxes, quantile, axis=0) - np.quantile(expected, quantile, axis=0)
        assert np.abs(difference).max() <= 6
    areas, ratios = boxes[:, 2] * boxes[:, 3] / (240 * 320), boxes[:, 3] / boxes[:, 2]
    assert 0.24 < areas.min() < 0.27
    assert 0.95 < areas.max() <= 1
    assert 0.74 < ratios.min() < 0.77
    assert 1.29 < ratios.max() < 1.35


def test_a_box_need_not_vary() -> None:
    rng = np.random.default_rng(0)
    view = random_view(240, 240, 112, min_scale=1, min_ratio=1, rng=rng)
    assert view.box == Box(0, 0, 240, 240)


@pytest.mark.parametrize(
    ("height", "width", "box"), [(20, 400, (0, 187, 20, 27)), (400, 20, (187, 0, 27, 20))]
)
def test_a_frame_of_extreme_shape_is_cut_in_the_middle(
    height: int, width: int, box: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    view = random_view(height, width, 112, min_scale=0.9, min_ratio=0.75, rng=rng)
    assert tuple(view.box)[2:] == box[2:]
    assert np.abs(np.subtract(view.box, box)).max() <= 1


def test_corner_crops_take_five_places_and_five_scales_alike() -> None:
    rng = np.random.default_rng(0)
    boxes = [corner_view(240, 320, 112, rng=rng).box for _ in range(5000)]
    assert all(box.height == box.width for box in boxes)
    sides, counts = np.unique([box.height for box in boxes], return_counts=True)
    assert sides.tolist() == [120, 142, 169, 201, 240]
    assert counts.min() > 850
    small = [(box.top, box.left) for box in boxes if box.height == 120]
    places, counts = np.unique(small, axis=0, return_counts=True)
    assert places.tolist() == [[0, 0], [0, 200], [60, 100], [120, 0], [120, 200]]
    assert counts.min() > 0.15 * len(small)


def test_the_middle_corner_crop_rounds_half_to_even_as_the_reference_does() -> None:
    rng = np.random.default_rng(0)
    boxes = {corner_view(243, 326, 112, rng=rng).box for _ in range(500)}
    middle = {(box.top, box.left) for box in boxes if box.top and box.left} - {
        (243 - side, 326 - side) for side in {box.height for box in boxes}
    }
    # Sides 243, 204, 171, 144, 121; (243 - 204) / 2 = 19.5 and (326 - 171) / 2 = 77.5.
    assert middle == {(20, 61), (36, 78), (50, 91), (61, 102)}


def test_a_grey_jpeg_becomes_rgb() -> None:
    (clip,) = decode_clip(
        [[noise(120, 160, mode="L")]], lambda h, w: short_side_view(h, w, 112, "center")
    )
    assert clip.shape == (1, 112, 112, 3)
    assert torch.equal(clip[..., 0], clip[..., 1])
    assert clip.float().std() > 20


def test_flow_has_two_channels() -> None:
    u, v = noise(120, 160, 1, mode="L"), noise(120, 160, 2, mode="L")

    def view(height: int, width: int) -> View:
        return short_side_view(height, width, 112, "center")

    (flow,) = decode_clip([[u, v], [v, u]], view)
    assert flow.shape == (2, 112, 112, 2)
    (grey_u,), (grey_v,) = decode_clip([[u]], view), decode_clip([[v]], view)
    assert torch.equal(flow[0], torch.stack([grey_u[0, ..., 0], grey_v[0, ..., 0]], -1))
    assert torch.equal(flow[1], flow[0].flip(-1))


@pytest.mark.parametrize("n_frames", [3, 7, 12])
def test_frames_are_rendered_alike_however_many_are_resized_together(n_frames: int) -> None:
    """Of this size some go together, of a smaller one all."""
    jpegs = [noise(300, 400, seed) for seed in range(n_frames)]
    views = [short_side_view(300, 400, size, "three") for size in (112, 300)]  # and as they are
    together = decode_views([[jpeg] for jpeg in jpegs], lambda h, w: views)
    for crops, view in zip(together, views, strict=True):
        alone = [decode_clip([[jpeg]], lambda h, w, view=view: view) for jpeg in jpegs]
        for crop, frames in zip(crops, zip(*alone, strict=True), strict=True):
            assert torch.equal(crop, torch.cat(frames))
    with pytest.raises(FrameError) as caught:
        decode_views([[jpeg] for jpeg in [*jpegs, b""]], lambda h, w: views)
    assert caught.value.position == n_frames


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "."),
        (b"not a picture", "."),
        (noise(120, 160)[:-400], "."),
        (noise(240, 320), "320 x 240 pixels .* 160 x 120"),
        (noise(119, 160), "160 x 119 pixels .* 160 x 120"),
        (claiming(noise(120, 160), 60000, 60000), "claims 60000 x 60000 pixels"),
    ],
)
@pytest.mark.parametrize("reduce", [False, True])
def test_a_bad_frame_is_named(bad: bytes, reason: str, *, reduce: bool) -> None:
    good = noise(120, 160)

    def view(height: int, width: int) -> View:
        return short_side_view(height, width, 50, "center")

    with pytest.raises(FrameError, match=reason) as caught:
        decode_clip([[good], [good], [bad]], view, reduce=reduce)
    assert caught.value.position == 2


def test_jitter_changes_what_it_says() -> None:
    clip = torch.from_numpy(
        np.random.default_rng(0).integers(80, 120, (2, 8, 8, 3), dtype=np.uint8)
    )
    same = ColorJitter(brightness=1, contrast=1, saturation=1, hue=0)
    assert torch.equal(jitter_colors(clip, same), clip)
    values = clip.float()

    brighter = jitter_colors(clip, same._replace(brightness=1.3))
    assert (brighter.float() - 1.3 * values).abs().max() <= 0.5 + 1e-3
    flatter = jitter_colors(clip, same._replace(contrast=0.5)).float()
    assert flatter.std().item() == pytest.approx(0.5 * values.std().item(), rel=0.05)
    assert flatter.mean().item() == pytest.approx(values.mean().item(), abs=1)
    grey = jitter_colors(clip, same._replace(saturation=0))
    assert torch.equal(grey[..., 0], grey[..., 1])
    assert torch.equal(grey[..., 0], grey[..., 2])

    turned = jitter_colors(clip, same._replace(hue=1 / 3))
    back = jitter_colors(turned, same._replace(hue=-1 / 3))
    assert (turned.float() - values).abs().mean() > 3
    assert (back.float() - values).abs().max() <= 2
    assert torch.equal(jitter_colors(grey, same._replace(hue=0.1)), grey)


def test_jitter_treats_all_frames_alike_and_draws_its_whole_range() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([random_jitter(rng) for _ in range(500)])
    np.testing.assert_allclose(draws.min(0), [0.6, 0.6, 0.6, -0.1], atol=0.02)
    np.testing.assert_allclose(draws.max(0), [1.4, 1.4, 1.4, 0.1], atol=0.02)
    frame = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    clip = jitter_colors(frame.repeat(4, 1, 1, 1), random_jitter(rng))
    assert not torch.equal(clip[:1], frame)
    assert torch.equal(clip, clip[:1].repeat(4, 1, 1, 1))


@pytest.mark.parametrize("mean_dataset", sorted(NORMALISATION))
@pytest.mark.parametrize("value_scale", [1, 255])
@pytest.mark.parametrize("no_mean_norm", [False, True])
@pytest.mark.parametrize("no_std_norm", [False, True])
def test_normalisation_is_that_of_the_recipe(
    mean_dataset: str, value_scale: int, no_mean_norm: bool, no_std_norm: bool
) -> None:
    clips = torch.randint(0, 256, (2, 3, 4, 5, 3), dtype=torch.uint8)
    mean, std = normalisation(
        mean_dataset,
        value_scale=value_scale,
        no_mean_norm=no_mean_norm,
        no_std_norm=no_std_norm,
    )
    given = to_model_input(
        clips,
        torch.zeros(2, dtype=torch.bool),
        mean=mean,
        std=std,
        value_scale=value_scale,
        device=torch.device("cpu"),
    )
    table_mean, table_std = NORMALISATION[mean_dataset]
    scaled = clips.permute(0, 4, 1, 2, 3).double() / 255 * value_scale
    for channel in range(3):
        shift = 0 if no_mean_norm else table_mean[channel] * value_scale
        scale = 1 if no_std_norm else table_std[channel] * value_scale
        expected = (scaled[:, channel] - shift) / scale
        torch.testing.assert_close(given[:, channel].double(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_input_has_the_layout_asked_for(memory_format: torch.memory_format) -> None:
    clips = torch.randint(0, 256, (3, 4, 6, 8, 3), dtype=torch.uint8)
    flips = torch.tensor([True, False, True])
    mean, std = normalisation("kinetics")
    options = {"mean": mean, "std": std, "value_scale": 1, "device": torch.device("cpu")}
    plain = to_model_input(clips, torch.zeros(3, dtype=torch.bool), **options)
    given = to_model_input(clips, flips, memory_format=memory_format, **options)
    assert given.is_contiguous(memory_format=memory_format)
    expected = torch.stack([plain[0].flip(-1), plain[1], plain[2].flip(-1)])
    assert torch.equal(given, expected)


def test_flipped_flow_changes_the_sign_of_u_only() -> None:
    flow = torch.tensor([0, 100, 128, 255], dtype=torch.uint8).view(1, 1, 1, 4, 1)
    flow = flow.repeat(2, 1, 1, 1, 2)  # (b, t, h, w, c)
    given = to_model_input(
        flow,
        torch.tensor([True, False]),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        value_scale=255,
        device=torch.device("cpu"),
    )
    assert given.shape == (2, 2, 1, 1, 4)
    assert given[0, 0, 0, 0].tolist() == [0, 127, 155, 255]
    assert given[0, 1, 0, 0].tolist() == [255, 128, 100, 0]
    assert given[1, 0, 0, 0].tolist() == [0, 100, 128, 255]
    assert flow[0, 0, 0, :, 0].tolist() == [0, 100, 128, 255]  # the batch itself stays as it was


def test_rand_augment_is_one_change_for_all_frames() -> None:
    frame = torch.arange(32 * 32 * 3, dtype=torch.uint8).view(1, 32, 32, 3)
    clip = frame.expand(5, -1, -1, -1)
    changed = [rand_augment(clip, 20, np.random.default_rng(seed)) for seed in range(12)]
    for one in changed:
        assert one.shape == clip.shape
        assert one.dtype == torch.uint8
        assert (one == one[:1]).all()
    assert sum(not torch.equal(one, clip) for one in changed) > 6
    assert torch.equal(changed[0], rand_augment(clip, 20, np.random.default_rng(0)))


def test_rand_augment_leaves_the_global_random_state() -> None:
    before = torch.random.get_rng_state()
    rand_augment(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), 9, np.random.default_rng(0))
    assert torch.equal(torch.random.get_rng_state(), before)
