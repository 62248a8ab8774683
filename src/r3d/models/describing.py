"""What network weights are of, by their names and shapes, those of 2018 included.

Nothing here imports torch: a file can be described without loading it (`r3d.models.header`).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeVar

from r3d.errors import InputError
from r3d.models.architectures import FAMILIES, Architecture

# The stem of ResNeXts and wide ResNets had these in 2018; it got the width of the first stage.
_STEM_2018 = 64
# Names of a DenseNet's layers in 2018, and the present ones.
_NAMES_2018 = (
    (re.compile(r"^features\.(conv|norm)0\."), r"features.\g<1>1."),
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\."), r"\g<1>\g<2>."),
)

_PICTURES = "but one for pictures: its convolutions have no extent in time"


class Weights(Protocol):
    """Weights of a layer: a tensor, or what stands for one that is not loaded."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def new_full(self, size: tuple[int, ...], fill_value: float) -> Self: ...

    def narrow(self, dim: int, start: int, length: int) -> Self: ...

    def copy_(self, src: Any) -> Self: ...


_Weights = TypeVar("_Weights", bound=Weights)


def describe(state_dict: Mapping[str, Any]) -> Architecture:
    """Infer a network from the names and shapes of its weights.

    `conv1_t_stride` and `no_max_pool` leave no trace in them and stay at their defaults. A widen
    factor is the shortest decimal that gives these widths.

    Raises:
        InputError: if the names and shapes are not those of one of the families.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    try:
        if any(len(shape) == 4 for shape in shapes.values()):
            raise LookupError(_PICTURES)
        if "features.conv1.weight" in shapes:
            return _describe_densenet(shapes)
        return _describe_resnet(shapes)
    except (LookupError, ValueError, InputError) as error:
        reason = f" ({error})" if error.args == (_PICTURES,) else ""
        raise InputError(f"the file holds no network of {', '.join(FAMILIES)}{reason}") from None


def same_widths(one: Architecture, other: Architecture) -> bool:
    """Whether the widen factors of two networks give the same widths."""
    factors = (one.resnet_widen_factor, other.resnet_widen_factor)
    return len({tuple(int(width * factor) for width in (64, 512)) for factor in factors}) == 1


def present_form(state_dict: dict[str, _Weights]) -> tuple[dict[str, _Weights], bool]:
    """Weights of the reference's code of 2018 in the form of today, and whether they were such.

    DenseNets had other names. ResNeXts and wide ResNets had a stem of 64 channels: those added here
    are zero, and so are the weights that read them, which changes no output, nor does training.
    """
    if "features.conv0.weight" in state_dict:
        renamed = {}
        for name, value in state_dict.items():
            for pattern, present in _NAMES_2018:
                name = pattern.sub(present, name)
            renamed[name] = value
        return renamed, True
    width = _present_stem({name: tuple(value.shape) for name, value in state_dict.items()})
    if width is None:
        return state_dict, False
    widened = dict(state_dict)
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
        if name in widened:
            widened[name] = _padded(widened[name], width, dim=0, value=float(name[-3:] == "var"))
    for name in ("layer1.0.conv1.weight", "layer1.0.downsample.0.weight"):
        if name in widened:
            widened[name] = _padded(widened[name], width, dim=1, value=0.0)
    return widened, True


def _present_stem(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How wide the stem of a network of 2018 is today; None if it is no such network."""
    stem, middle, last = (
        shapes.get(f"{name}.weight", ()) for name in ("conv1", "layer1.0.conv2", "layer1.0.conv3")
    )
    if not (len(stem) == len(middle) == len(last) == 5) or stem[0] != _STEM_2018:
        return None
    if middle[1] == 4 and last[0] == 4 * _STEM_2018:
        return 2 * _STEM_2018  # a ResNeXt
    if middle[0] == middle[1] > _STEM_2018 and last[0] == 2 * middle[0]:
        return middle[0]  # a wide ResNet
    return None


def _padded(weights: _Weights, size: int, *, dim: int, value: float) -> _Weights:
    shape = list(weights.shape)
    if len(shape) <= dim or shape[dim] >= size:
        return weights
    length, shape[dim] = shape[dim], size
    padded = weights.new_full(tuple(shape), value)
    padded.narrow(dim, 0, length).copy_(weights)
    return padded


def _blocks(names: Mapping[str, Any]) -> tuple[int, ...]:
    """How many blocks (in a DenseNet layers) each of the stages has."""
    pattern = re.compile(r"(?:layer|features\.denseblock)(\d+)\.(?:denselayer)?(\d+)\.")
    found = {match.groups() for name in names if (match := pattern.match(name))}
    stages = Counter(int(stage) for stage, _ in found)
    return tuple(stages[stage] for stage in sorted(stages))


def _depth(model: str, blocks: tuple[int, ...], *, bottleneck: bool) -> int:
    for depth, expected in FAMILIES[model].blocks.items():
        if blocks == expected and bottleneck == (depth >= 50):
            return depth
    raise LookupError(f"no {model} has the blocks {blocks}")


def _describe_densenet(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    stem = shapes["features.conv1.weight"]
    return Architecture(
        model="densenet",
        model_depth=_depth("densenet", _blocks(shapes), bottleneck=True),
        n_classes=shapes["classifier.weight"][0],
        n_input_channels=stem[1],
        conv1_t_size=stem[2],
    )


def _describe_resnet(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    factored = "conv1_s.weight" in shapes
    bottleneck = "layer1.0.conv3.weight" in shapes
    space_stem = shapes["conv1_s.weight" if factored else "conv1.weight"]
    time_stem = shapes["conv1_t.weight" if factored else "conv1.weight"]
    n_classes, features = shapes["fc.weight"]
    options: dict[str, Any] = {}
    if factored:
        model = "resnet2p1d"
    elif "layer1.0.se.reduce.weight" in shapes:
        model = "resnetrs"
    elif bottleneck and shapes["layer1.0.conv3.weight"][0] == 2 * space_stem[0]:
        # Output twice as wide as the stem: groups of 4 channels, or one of all 64 k.
        channels, group_width = shapes["layer1.0.conv2.weight"][:2]
        if group_width == 4:
            model = "resnext"
            options["resnext_cardinality"] = channels // 4
        else:
            model = "wideresnet"
            options["wide_resnet_k"] = channels // 64
    else:
        # Before the first convolution of a stage, a norm is as wide as that one's input.
        width, in_channels = shapes["layer2.0.conv1.weight"][:2]
        before = width != in_channels and shapes["layer2.0.bn1.weight"][0] == in_channels
        model = "preresnet" if before else "resnet"
    if "resnet_shortcut" in FAMILIES[model].options:
        options["resnet_shortcut"] = "B" if "layer2.0.downsample.0.weight" in shapes else "A"
    if "resnet_widen_factor" in FAMILIES[model].options:
        options["resnet_widen_factor"] = _widen_factor(features // (4 if bottleneck else 1))
    return Architecture(
        model=model,
        model_depth=_depth(model, _blocks(shapes), bottleneck=bottleneck),
        n_classes=n_classes,
        n_input_channels=space_stem[1],
        conv1_t_size=time_stem[2],
        **options,
    )


def _widen_factor(width: int) -> float:
    """The shortest decimal f with int(512 * f) == width.

    >>> _widen_factor(153)  # 153 / 512 = 0.2988..., 154 / 512 = 0.3007...
    0.3
    """
    for digits in range(10):
        factor = -(-width * 10**digits // 512) / 10**digits
        if int(512 * factor) == width:
            return factor
    raise LookupError(f"no widen factor gives the width {width}")
