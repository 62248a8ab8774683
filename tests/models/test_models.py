"""The networks: agreement with the reference, structure, gradients, freezing, heads."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from r3d.errors import InputError
from r3d.models.architectures import FAMILIES, MODEL_DEPTHS, begin_modules
from r3d.models.base import (
    Conv3d,
    StochasticDepth,
    VideoModel,
    freeze_before,
    head_name,
    regularise,
    replace_head,
)
from r3d.models.building import build_model
from r3d.models.families.resnet import PadShortcut

# What the golden file calls options, and we.
OPTIONS = {
    "shortcut_type": "resnet_shortcut",
    "widen_factor": "resnet_widen_factor",
    "k": "wide_resnet_k",
}

EVERY_NETWORK = [(model, depth) for model, depths in MODEL_DEPTHS.items() for depth in depths]

# Small networks of every family and kind of block, with the options that only some have.
SMALL: list[dict[str, Any]] = [
    {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.125},
    {"model": "resnet", "model_depth": 50, "resnet_widen_factor": 0.125},
    {"model": "resnet2p1d", "model_depth": 10, "resnet_widen_factor": 0.125},
    {"model": "resnet2p1d", "model_depth": 50, "resnet_widen_factor": 0.125},
    {"model": "preresnet", "model_depth": 10, "resnet_widen_factor": 0.125},
    {"model": "preresnet", "model_depth": 50, "resnet_widen_factor": 0.125},
    {"model": "wideresnet", "model_depth": 50, "wide_resnet_k": 1},
    {"model": "resnext", "model_depth": 50, "resnext_cardinality": 8},
    {"model": "densenet", "model_depth": 121},
    {"model": "resnetrs", "model_depth": 50, "resnet_widen_factor": 0.125},
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These networks are too small to share; waiting threads cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_id(options: dict[str, Any]) -> str:
    return f"{options['model']}-{options['model_depth']}"


def generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def drawn(name: str, tensor: Tensor) -> Tensor:
    """The value of a weight or buffer by the recipe of the golden values."""
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    rng, shape = generator(name), tuple(tensor.shape)
    if name.endswith(".running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1 and name.endswith(".weight"):
        value = rng.uniform(0.1, 0.6, shape)
    elif name.endswith((".running_mean", ".bias")):
        value = 0.1 * rng.standard_normal(shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


def on_meta(**options: Any) -> VideoModel:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return build_model(**options)


def golden_logits(model: VideoModel, duration: int, size: int) -> Tensor:
    """Logits of the recipe's batch of two with the recipe's weights."""
    weights = {name: drawn(name, tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    shape = (2, model.architecture.n_input_channels, duration, size, size)
    clips = torch.from_numpy(generator("input").standard_normal(shape).astype(np.float32))
    with torch.inference_mode():
        return model.eval()(clips)


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("index", range(20))
def test_golden_values(shared: Path, index: int) -> None:
    golden = json.loads((shared / "golden" / "models.json").read_text())
    assert len(golden) == 20
    entry = golden[index]
    model = on_meta(
        model=entry["model"],
        model_depth=entry["model_depth"],
        n_classes=entry["n_classes"],
        n_input_channels=entry["n_input_channels"],
        **{OPTIONS.get(name, name): value for name, value in entry["options"].items()},
    )
    layers = [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()]
    assert layers == entry["state_dict"]
    assert n_parameters(model) == entry["n_parameters"]

    logits = golden_logits(model, entry["sample_duration"], entry["sample_size"])
    expected = np.array(entry["logits_first8"])
    # Relative to the size of a logit; the golden values are rounded to 6 decimals.
    np.testing.assert_allclose(
        logits[:, :8], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).mean() + 1e-6
    )
    np.testing.assert_allclose(logits.norm(dim=1), entry["logits_norm"], rtol=2e-5)
    assert logits.argmax(dim=1).tolist() == entry["argmax"]


def test_golden_values_of_a_narrow_network() -> None:
    model = on_meta(model="resnet", model_depth=18, n_classes=101, resnet_widen_factor=0.5)
    assert n_parameters(model) == 8_345_797
    logits = golden_logits(model, duration=16, size=112)
    np.testing.assert_allclose(logits.norm(dim=1), [2.27751, 2.2901], rtol=2e-5)


def inflated(weight: Tensor, shape: torch.Size) -> Tensor:
    """A weight of a network for images in the middle frame of a kernel for clips."""
    if len(shape) != 5:
        return weight
    kernel = torch.zeros(shape)
    kernel[:, :, shape[2] // 2] = weight
    return kernel


@pytest.mark.parametrize(
    ("model_name", "depth", "images"),
    [
        ("resnet", 152, torchvision.models.resnet152),
        ("densenet", 169, torchvision.models.densenet169),
    ],
    ids=["resnet-152", "densenet-169"],
)
def test_equals_the_image_network_on_a_still_clip(model_name: str, depth: int, images: Any) -> None:
    """Independent of the golden values: kernels of one frame see a still clip as an image."""
    model = on_meta(model=model_name, model_depth=depth, n_classes=7)
    with torch.device("meta"):
        network = images(weights=None, num_classes=7)
    weights = {name: drawn(name, tensor) for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    clip_weights = {}
    for name, weight in weights.items():
        name = name.replace(".conv0.", ".conv1.").replace(".norm0.", ".norm1.")
        clip_weights[name] = inflated(weight, shapes[name])
    model.load_state_dict(clip_weights, assign=True)
    image = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    clip = image[:, :, None].expand(-1, -1, 2, -1, -1)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(clip), network.eval()(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("model_name", "depth"), EVERY_NETWORK)
def test_depth_counts_the_layers(model_name: str, depth: int) -> None:
    """The depth of a published network is its convolutions on the main path, and the head."""
    model = on_meta(model=model_name, model_depth=depth, n_classes=400)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv3d)]
    main = [name for name in names if "downsample" not in name and not name.endswith("_s")]
    # DenseNet-264 has 265 layers by this count, and ResNet-RS two more in its stem; the names are
    # the papers'.
    more = 2 if model_name == "resnetrs" else depth == 264
    assert len(main) + 1 == depth + more
    assert [name for name, _ in model.named_children() if name == head_name(model)]


def expected_parameters(
    model: str,
    blocks: tuple[int, ...],
    *,
    bottleneck: bool,
    n_classes: int = 400,
    n_input_channels: int = 3,
    conv1_t_size: int = 7,
    resnet_shortcut: str = "B",
    resnet_widen_factor: float = 1.0,
    wide_resnet_k: int = 2,
    resnext_cardinality: int = 32,
) -> int:
    """The number of parameters by the papers' tables: weights of each convolution, two a norm."""
    c, t = n_input_channels, conv1_t_size
    if model == "densenet":
        total, channels = 64 * c * t * 49 + 2 * 64, 64
        for block, n_layers in enumerate(blocks):
            if block:
                total += 2 * channels + channels * channels // 2
                channels //= 2
            for _ in range(n_layers):
                total += 2 * channels + 128 * channels + 2 * 128 + 32 * 128 * 27
                channels += 32
        return total + 2 * channels + (channels + 1) * n_classes

    if model == "resnetrs":
        narrow, channels = int(32 * resnet_widen_factor), int(64 * resnet_widen_factor)
        total = narrow * (c * t + narrow + channels) * 9
        total += 2 * (narrow + narrow + channels)
        for stage, n_blocks in enumerate(blocks):
            width = int(64 * 2**stage * resnet_widen_factor)
            out, frames = 4 * width, (1, 1, 3, 3)[stage]
            total += channels * out + 2 * out  # the shortcut
            for _ in range(n_blocks):
                total += channels * width * frames + width * width * 9 + width * out
                total += 2 * (width + width + out)
                total += (out + 1) * (out // 4) + (out // 4 + 1) * out  # squeeze, excitation
                channels = out
            total += (out + 1) * out  # the gate of the last block
        return total + (channels + 1) * n_classes

    factor = {"resnext": 2, "wideresnet": wide_resnet_k}.get(model, resnet_widen_factor)
    widths = [int(64 * 2**stage * factor) for stage in range(4)]
    expansion = {"resnext": 2, "wideresnet": 2}.get(model, 4) if bottleneck else 1

    def space_and_time(inputs: int, outputs: int, time: int = 3, area: int = 9) -> int:
        if model != "resnet2p1d":
            return inputs * outputs * time * area
        stem = area == 49
        counted = 3 if stem else inputs
        middle = counted * outputs * time * area // (counted * area + time * outputs)
        return inputs * middle * area + 2 * middle + middle * outputs * time

    total, channels = space_and_time(c, widths[0], t, 49) + 2 * widths[0], widths[0]
    for stage, (width, n_blocks) in enumerate(zip(widths, blocks, strict=True)):
        out = width * expansion
        for index in range(n_blocks):
            if index == 0 and (stage > 0 or channels != out) and resnet_shortcut == "B":
                total += channels * out + 2 * out
            middle = width * resnext_cardinality // 32 if model == "resnext" else width
            if bottleneck:
                groups = resnext_cardinality if model == "resnext" else 1
                total += channels * middle + space_and_time(middle, middle) // groups + middle * out
                norms = [middle, middle, out] if model != "preresnet" else [channels, width, width]
            else:
                total += space_and_time(channels, width) + space_and_time(width, width)
                norms = [width, width] if model != "preresnet" else [channels, width]
            total += 2 * sum(norms)
            channels = out
    return total + (channels + 1) * n_classes


@pytest.mark.parametrize(("model_name", "depth"), EVERY_NETWORK)
def test_parameter_count_of_every_network(model_name: str, depth: int) -> None:
    blocks, bottleneck = FAMILIES[model_name].blocks[depth], depth >= 50
    model = on_meta(model=model_name, model_depth=depth, n_classes=400)
    assert n_parameters(model) == expected_parameters(model_name, blocks, bottleneck=bottleneck)


@pytest.mark.parametrize(
    ("model_name", "depth", "options"),
    [
        ("resnet", 10, {"resnet_shortcut": "A", "n_input_channels": 2}),
        ("resnet", 34, {"resnet_widen_factor": 0.3, "conv1_t_size": 3}),
        ("resnet", 101, {"resnet_shortcut": "A", "resnet_widen_factor": 1.7}),
        ("resnet2p1d", 34, {"resnet_widen_factor": 0.3, "n_input_channels": 2}),
        ("resnet2p1d", 101, {"resnet_shortcut": "A", "conv1_t_size": 3}),
        ("preresnet", 34, {"resnet_shortcut": "A", "conv1_t_size": 5}),
        ("preresnet", 101, {"resnet_widen_factor": 2.0, "n_input_channels": 2}),
        ("wideresnet", 50, {"wide_resnet_k": 1, "resnet_shortcut": "A"}),
        ("wideresnet", 101, {"wide_resnet_k": 3}),
        ("resnext", 50, {"resnext_cardinality": 64, "resnet_shortcut": "A"}),
        ("resnext", 101, {"resnext_cardinality": 1, "n_input_channels": 2}),
        ("densenet", 169, {"conv1_t_size": 3, "n_input_channels": 2}),
        ("resnetrs", 101, {"conv1_t_size": 5, "n_input_channels": 2}),
        ("resnetrs", 152, {"resnet_widen_factor": 0.5, "conv1_t_size": 3}),
    ],
)
def test_parameter_count_with_options(model_name: str, depth: int, options: dict[str, Any]) -> None:
    blocks, bottleneck = FAMILIES[model_name].blocks[depth], depth >= 50
    model = on_meta(model=model_name, model_depth=depth, n_classes=51, **options)
    count = expected_parameters(model_name, blocks, bottleneck=bottleneck, n_classes=51, **options)
    if options.get("resnext_cardinality") == 1:
        assert model.layer1[0].conv2.groups == 1
    assert n_parameters(model) == count


@pytest.mark.parametrize(("depth", "millions"), [(50, 35.7), (101, 63.7), (152, 86.8), (200, 93.4)])
def test_resnetrs_is_the_published_network_for_pictures_but_for_time(depth: int, millions: float):
    """The counts of TensorFlow's model garden (ResNet-RS, ImageNet), which are with statistics.

    There a convolution takes the place of the pooling, and no block has a gate.
    """
    model = on_meta(model="resnetrs", model_depth=depth, n_classes=1000, conv1_t_size=1)
    count = 64 * 64 * 9 + 4 * 64
    for name, tensor in model.state_dict().items():
        if ".gate." not in name and tensor.is_floating_point():
            count += tensor.numel() // (tensor.shape[2] if tensor.dim() == 5 else 1)
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("options", SMALL, ids=small_id)
@pytest.mark.parametrize(
    ("stem", "shape"),
    [
        ({}, (2, 3, 16, 112, 112)),
        ({"conv1_t_stride": 2, "no_max_pool": True, "conv1_t_size": 3}, (2, 3, 8, 32, 32)),
        ({"n_input_channels": 2}, (2, 2, 5, 50, 37)),
        ({}, (1, 3, 1, 17, 90)),
    ],
    ids=["standard", "stem", "flow", "one frame"],
)
def test_sizes_of_the_stages(
    options: dict[str, Any], stem: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """Strides as published, at any size of clip: the shapes come from a pass without numbers."""
    model = on_meta(**options, **stem, n_classes=5)
    sizes: dict[str, tuple[int, ...]] = {}
    dense = options["model"] == "densenet"
    stages = model.features if dense else model
    for name in begin_modules(options["model"]):
        if not name.startswith(("layer", "denseblock")):
            continue
        stages.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: sizes.update({name: tuple(out.shape[2:])})
        )
    assert model(torch.empty(shape, device="meta")).shape == (shape[0], 5)

    def after(size: tuple[int, ...], strides: tuple[int, int, int]) -> tuple[int, ...]:
        return tuple(-(-length // stride) for length, stride in zip(size, strides, strict=True))

    strides = (1, 2, 2) if options["model"] == "resnetrs" else (2, 2, 2)
    size = after(shape[2:], (stem.get("conv1_t_stride", 1), 2, 2))
    if not stem.get("no_max_pool"):
        size = after(size, strides)
    for index, found in enumerate(sizes.values()):
        if index and dense:  # the pooling of a transition drops an odd last position
            size = tuple(max(1, length // 2) for length in size)
        elif index:
            size = after(size, strides)
        assert found == size
    assert len(sizes) == 4


@pytest.mark.parametrize("options", SMALL, ids=small_id)
def test_memory_layout_does_not_change_the_scores(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    having = "resnet_shortcut" in FAMILIES[options["model"]].options
    shortcut = {"resnet_shortcut": "A"} if having else {}
    model = build_model(**options, **shortcut, n_classes=5).eval()
    clips = torch.randn(2, 3, 4, 24, 32)
    with torch.inference_mode():
        scores = model(clips)
        model.to(memory_format=torch.channels_last_3d)
        last = model(clips.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(last, scores, rtol=1e-4, atol=1e-4)


CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pad_shortcut(device: str, layout: torch.memory_format, dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 5, 6, 7, device=device, dtype=dtype).to(memory_format=layout)
    x.requires_grad_()
    out = PadShortcut(new_channels=3, stride=2)(x)

    kept = functional.avg_pool3d(x.detach().double(), kernel_size=1, stride=2)
    assert out.dtype == dtype
    assert torch.equal(out[:, :4].double(), kept)
    assert not out[:, 4:].any()
    assert out.shape == (2, 7, 3, 3, 4)

    out.sum().backward()
    reached = torch.zeros_like(x)
    reached[:, :, ::2, ::2, ::2] = 1
    assert x.grad is not None
    assert torch.equal(x.grad, reached)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [SMALL[1], SMALL[2], SMALL[4], SMALL[7]], ids=small_id)
def test_shortcut_a_passes_gradients(
    device: str, precision: str, layout: torch.memory_format, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = build_model(**options, n_classes=3, resnet_shortcut="A").to(device)
    model.to(memory_format=layout)
    # With silent residual branches, the stem learns through the shortcuts alone.
    pre_activation = options["model"] == "preresnet"
    last = {"resnet": "bn3", "resnet2p1d": "bn2_t", "preresnet": "conv2", "resnext": "bn3"}
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            nn.init.zeros_(block.get_submodule(last[options["model"]]).weight)
    clips = torch.randn(2, 3, 4, 32, 32, device=device).to(memory_format=layout)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        loss = functional.cross_entropy(model(clips).float(), torch.tensor([0, 2], device=device))
    loss.backward()

    gradient = next(model.parameters()).grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-4
    if not pre_activation:  # every position that the strides keep counts equally
        assert (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size"),
    [
        ((256, 256), (3, 3, 3), (1, 1, 1), (2, 7, 7)),
        ((16, 16), (3, 3, 3), (2, 2, 2), (2, 1, 1)),
        ((16, 16), (3, 1, 1), (1, 1, 1), (2, 5, 6)),
        ((16, 16), (1, 3, 3), (1, 1, 1), (4, 2, 2)),
        ((3, 16), (7, 7, 7), (1, 2, 2), (6, 24, 24)),
        ((3, 16), (7, 7, 7), (2, 2, 2), (7, 24, 24)),
        ((16, 16), (3, 3, 3), (1, 1, 1), (4, 5, 6)),
        ((16, 16), (7, 1, 1), (1, 1, 1), (9, 5, 6)),
        ((16, 16), (3, 1, 1), (2, 1, 1), (8, 5, 1)),
        ((16, 32), (1, 1, 1), (1, 1, 1), (4, 5, 6)),
        ((16, 32), (1, 1, 1), (2, 2, 2), (4, 5, 6)),
    ],
)
def test_gradient_of_a_convolution_of_a_small_input(
    channels: tuple[int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    size: tuple[int, int, int],
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    padding = tuple(length // 2 for length in kernel)
    conv = Conv3d(*channels, kernel, stride=stride, padding=padding, bias=False)
    conv.to(dtype=dtype, memory_format=layout)
    x = torch.randn(2, channels[0], *size).to(dtype=dtype, memory_format=layout)
    scores = conv(x)
    gradient = torch.randn_like(scores)
    scores.backward(gradient)

    # In float64 torch computes convolutions itself.
    weight = conv.weight.detach().double().contiguous().requires_grad_()
    exact = functional.conv3d(x.double().contiguous(), weight, stride=stride, padding=padding)
    exact.backward(gradient.double().contiguous())
    assert conv.weight.grad is not None
    assert weight.grad is not None
    for found, expected in ((scores, exact), (conv.weight.grad, weight.grad)):
        assert (found.double() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(
    ("kernel", "size"),
    [
        ((3, 3, 3), (4, 5, 6)),
        ((3, 1, 1), (4, 5, 6)),
        ((1, 1, 1), (4, 5, 6)),
        ((3, 3, 3), (2, 1, 1)),  # of which one column is left
    ],
)
def test_convolutions_of_one_thread_are_computed_by_onednn(
    kernel: tuple[int, int, int], size: tuple[int, int, int]
):
    conv = Conv3d(16, 16, kernel, padding=tuple(length // 2 for length in kernel))
    x = torch.randn(2, 16, *size)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            conv(x).sum().backward()
    finally:
        torch.set_num_threads(before)
    kinds = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_convolution" in kinds
    assert not {kind for kind in kinds if "slow_conv" in kind}


@pytest.mark.parametrize(("stride", "gap"), [(1, 2), (2, 1)])
def test_strided_convolutions_have_no_gap(stride: int, gap: int, monkeypatch: pytest.MonkeyPatch):
    # In bf16 it makes those ten times as slow, and oneDNN computes them anyway.
    gaps = []
    computed = functional.conv3d

    def conv3d(*arguments: Any) -> torch.Tensor:
        gaps.append(arguments[5])
        return computed(*arguments)

    monkeypatch.setattr(functional, "conv3d", conv3d)
    Conv3d(4, 4, 1, stride=stride)(torch.randn(1, 4, 2, 4, 4))
    assert gaps == [(1, 1, gap)]


@pytest.mark.parametrize("options", SMALL, ids=small_id)
def test_initial_weights(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_model(**options, n_classes=5)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 2000:
            kernel = np.prod(module.kernel_size)
            deviation = np.sqrt(2 / (module.out_channels * kernel))
            assert module.weight.std().item() == pytest.approx(deviation, rel=0.1), name
        elif isinstance(module, nn.BatchNorm3d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    head = model.get_submodule(head_name(model))
    assert (head.bias == 0).all() == (options["model"] == "densenet")


def first_trained(model: VideoModel) -> str:
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    everything = [name for name, _ in model.named_parameters()]
    assert names == everything[len(everything) - len(names) :]
    return names[0]


@pytest.mark.parametrize(
    ("model_name", "depth", "begin", "first"),
    [
        ("resnet", 18, "", "conv1.weight"),
        ("resnet", 18, "conv1", "conv1.weight"),
        ("resnet", 18, "layer1", "layer1.0.conv1.weight"),
        ("preresnet", 50, "layer2", "layer2.0.bn1.weight"),
        ("resnext", 50, "layer3", "layer3.0.conv1.weight"),
        ("wideresnet", 50, "layer4", "layer4.0.conv1.weight"),
        ("resnet", 18, "fc", "fc.weight"),
        ("resnet", 18, "bn1", "bn1.weight"),
        ("resnet2p1d", 18, "conv1", "conv1_s.weight"),
        ("resnet2p1d", 18, "conv1_t", "conv1_t.weight"),
        ("resnet2p1d", 18, "layer1", "layer1.0.conv1_s.weight"),
        ("resnetrs", 50, "conv1", "conv1.weight"),
        ("resnetrs", 50, "bn3", "bn3.weight"),
        ("resnetrs", 50, "layer4", "layer4.0.conv1.weight"),
        ("densenet", 121, "conv1", "features.conv1.weight"),
        ("densenet", 121, "denseblock1", "features.denseblock1.denselayer1.norm1.weight"),
        ("densenet", 121, "denseblock4", "features.denseblock4.denselayer1.norm1.weight"),
        ("densenet", 121, "transition2", "features.transition2.norm.weight"),
        ("densenet", 121, "norm5", "features.norm5.weight"),
        ("densenet", 121, "classifier", "classifier.weight"),
    ],
)
def test_fine_tuning_begins_at(model_name: str, depth: int, begin: str, first: str) -> None:
    model = on_meta(model=model_name, model_depth=depth, n_classes=5)
    freeze_before(model, "fc" if model_name != "densenet" else "classifier")
    freeze_before(model, begin)
    assert first_trained(model) == first


@pytest.mark.parametrize("model_name", FAMILIES)
def test_fine_tuning_may_begin_at_every_module(model_name: str) -> None:
    model = on_meta(model=model_name, model_depth=MODEL_DEPTHS[model_name][0], n_classes=5)
    names = [name.removeprefix("features.") for name, _ in model.named_parameters()]
    modules = list(dict.fromkeys(name.partition(".")[0] for name in names))
    assert [name for name in begin_modules(model_name) if name in modules] == modules
    for module in modules:
        freeze_before(model, module)
        assert first_trained(model).removeprefix("features.").startswith(f"{module}.")


@pytest.mark.parametrize("options", SMALL, ids=small_id)
def test_frozen_layers_keep_weights_and_statistics(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_model(**options, n_classes=3)
    begin = begin_modules(options["model"])[-3]
    freeze_before(model, begin)
    model.eval()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    clips = torch.randn(2, 3, 8, 32, 32) + 1
    functional.cross_entropy(model(clips), torch.tensor([0, 2])).backward()
    optimizer.step()

    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    names = list(before)
    boundary = next(index for index, name in enumerate(names) if begin in name)
    assert not moved & set(names[:boundary])
    kept = set(names[boundary:]) - moved
    # A weight may by chance stay; statistics of what trains must not.
    assert not [name for name in kept if "running" in name or "num_batches" in name]
    assert f"{head_name(model)}.weight" in moved


def test_frozen_batch_norms_survive_conversion_to_synchronised_ones() -> None:
    model = build_model(**SMALL[0], n_classes=3)
    freeze_before(model, "layer4")
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    converted.train()
    assert not converted.bn1.training
    assert not converted.layer3[0].bn2.training
    assert converted.layer4[0].bn1.training


@pytest.mark.parametrize("options", [SMALL[0], SMALL[8]], ids=small_id)
def test_replace_head(options: dict[str, Any]) -> None:
    model = build_model(**options, n_classes=4).double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    replace_head(model, 9)
    after = model.state_dict()
    head = head_name(model)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in after if head not in name)
    assert after[f"{head}.weight"].shape == (9, before[f"{head}.weight"].shape[1])
    assert model.eval()(torch.zeros(1, 3, 8, 32, 32).double()).shape == (1, 9)
    assert model.architecture.n_classes == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "vgg"}, "model: 'vgg' is not one of resnet, resnet2p1d, preresnet"),
        ({"model_depth": 20}, "model_depth: 20 is not a depth of resnet; accepted: 10, 18, 34, 50"),
        ({"model": "resnext", "model_depth": 18}, "of resnext; accepted: 50, 101, 152, 200"),
        ({"resnet_shortcut": "C"}, "resnet_shortcut: 'C' is not one of 'A', 'B'"),
        ({"wide_resnet_k": 4}, "wide_resnet_k: 4 has no meaning for resnet"),
        (
            {"model": "densenet", "model_depth": 121, "resnet_shortcut": "A"},
            "families with this option: resnet, resnet2p1d, preresnet, wideresnet, resnext",
        ),
        (
            {"model": "wideresnet", "model_depth": 50, "resnet_widen_factor": 2.0},
            "families with this option: resnet, resnet2p1d, preresnet, resnetrs",
        ),
        (
            {"model": "resnetrs", "model_depth": 50, "resnet_shortcut": "A"},
            "resnet_shortcut: 'A' has no meaning for resnetrs, which accepts 'B' only",
        ),
        ({"model": "resnetrs"}, "of resnetrs; accepted: 50, 101, 152, 200"),
        ({"resnext_cardinality": 8}, "resnext_cardinality: 8 has no meaning for resnet"),
        ({"resnet_widen_factor": 0.01}, "resnet_widen_factor: 0.01 is refused"),
        ({"resnet_widen_factor": float("nan")}, "resnet_widen_factor: nan is refused"),
        ({"n_classes": 0}, "n_classes: 0 is refused; accepted: whole numbers from 1"),
        ({"conv1_t_size": 2.5}, "conv1_t_size: 2.5 is refused"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        on_meta(**{"model": "resnet", "model_depth": 18, "n_classes": 4} | options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("model", "depth"), [("resnet", 10), ("densenet", 121)])
def test_wrong_begin_module_is_named(model: str, depth: int) -> None:
    with pytest.raises(InputError, match=r"ft_begin_module: 'layer5' is not .* accepted: conv1, "):
        freeze_before(on_meta(model=model, model_depth=depth, n_classes=2), "layer5")


def depths(model: VideoModel) -> list[StochasticDepth]:
    return [module for module in model.modules() if isinstance(module, StochasticDepth)]


@pytest.mark.parametrize("options", SMALL, ids=small_id)
def test_what_is_left_out_at_random_is_there_in_evaluation(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_model(**options, n_classes=5)
    names = list(model.state_dict())
    clips = torch.randn(4, 3, 4, 32, 32)
    with torch.no_grad():
        before, in_training = model.eval()(clips), model.train()(clips)
        state = torch.get_rng_state()
        regularise(model, dropout=0.5, stochastic_depth=0.5)
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(model.eval()(clips), model.eval()(clips))
        different, again = (seeded(model.train(), clips) for _ in range(2))
    assert list(model.state_dict()) == names
    assert torch.equal(different, again)
    assert not torch.allclose(different, in_training)
    regularise(model, dropout=0, stochastic_depth=0)
    model.load_state_dict(build_again(options).state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(clips), before, rtol=0, atol=0)


def seeded(model: VideoModel, clips: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return model(clips)


def build_again(options: dict[str, Any]) -> VideoModel:
    torch.manual_seed(0)
    return build_model(**options, n_classes=5)


def test_the_rate_grows_with_the_depth() -> None:
    model = on_meta(model="resnet", model_depth=34, n_classes=2)
    regularise(model, dropout=0.1, stochastic_depth=0.32)
    rates = [module.rate for module in depths(model)]
    assert rates == pytest.approx([0.02 * place for place in range(1, 17)])
    assert depths(model)[-1] is model.layer4[2].depth
    model = on_meta(model="resnetrs", model_depth=50, n_classes=2)
    regularise(model, dropout=0, stochastic_depth=0.1)
    rates = [module.rate for module in depths(model)]
    assert rates == pytest.approx([0.04] * 3 + [0.06] * 4 + [0.08] * 6 + [0.1] * 3)


def test_a_block_is_left_out_of_some_clips_and_counts_more_in_the_others() -> None:
    block, x = StochasticDepth(), torch.randn(4000, 2, 1, 2, 2)
    block.rate = 0.2
    torch.manual_seed(0)
    kept = (block(x) / x).mean((1, 2, 3, 4))
    torch.testing.assert_close(kept[kept > 0], torch.full_like(kept[kept > 0], 1.25))
    assert float((kept > 0).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert torch.equal(block.eval()(x), x)


def test_blocks_of_frozen_layers_are_never_left_out() -> None:
    torch.manual_seed(0)
    model = build_model(**SMALL[1], n_classes=3)
    freeze_before(model, "layer3")
    regularise(model, dropout=0, stochastic_depth=0.9)
    model.eval()
    model.train()
    clips = torch.randn(3, 3, 4, 32, 32)
    with torch.no_grad():
        first = [model.layer2(model.layer1(model.maxpool(model._stem(clips)))) for _ in range(2)]
    assert torch.equal(*first)
    assert [module.training for module in depths(model)] == [False] * 7 + [True] * 9
