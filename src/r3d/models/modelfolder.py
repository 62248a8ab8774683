"""Models as a folder of `model.safetensors` and `config.json`, in timm's convention.

    architecture, num_classes, num_features     what the network is, in short
    model_args                                  the options that decide its layers
    label_names                                 the classes in the order of the outputs
    pretrained_cfg                              input_size (c, t, h, w), mean, std (of pixels from
                                                0 to 1), interpolation, crop, names of layers
    r3d                                         the rest of what a checkpoint says of itself

`r3d` holds a digest of the weights as well, as safetensors has no sums: neither a flipped bit nor
the weights of another model beside this `config.json` pass. Nothing here imports torch: the weights
themselves are a matter of `r3d.models.safetensorfiles`.
"""

import dataclasses
import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from r3d.errors import InputError, reason_of
from r3d.files import AnyPath, read_json
from r3d.models.architectures import FAMILIES, Architecture
from r3d.models.contents import Checkpoint
from r3d.models.header import Shape

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_NO_WEIGHTS = (
    "is cut short or no safetensors file; accepted: weights as safetensors or `r3d export` writes "
    "them"
)
_HEADER_BYTES = 16 << 20  # the names and shapes of a network take some 100 KB
_CONFIG_BYTES = 16 << 20
_SHOWN_CHARACTERS, _REASON_CHARACTERS = 100, 300


def weights_file(path: AnyPath) -> Path:
    """The file that holds the weights of a model: of a folder with `model.safetensors` that one.

    The `config.json` beside it stands for the folder, too.
    """
    path = Path(path)
    inner = path.with_name(WEIGHTS) if path.name == CONFIG else path / WEIGHTS
    return inner if os.path.lexists(inner) else path


def is_safetensors(path: AnyPath) -> bool:
    """Whether a path is that of a model as this module reads it."""
    return weights_file(path).suffix == ".safetensors"


def read_model_header(path: AnyPath) -> dict[str, Any]:
    """What a safetensors file, and the `config.json` beside it, say, with shapes for weights.

    Args:
        path: the folder, or the file in it.

    Raises:
        InputError: if a file cannot be read, is none of its format, or contradicts itself.
    """
    file = weights_file(path)
    try:
        with file.open("rb") as opened:
            text = opened.read(header_size(opened, file))
    except OSError as error:
        raise InputError(f"checkpoint {file}: cannot be read ({reason_of(error)})") from None
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        shapes = {name: Shape(tuple(map(int, entry["shape"]))) for name, entry in entries.items()}
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise InputError(f"checkpoint {file}: {_NO_WEIGHTS}") from None
    return with_config(shapes, file.with_name(CONFIG), digest=None)


def header_size(opened: BinaryIO, file: Path) -> int:
    """The bytes of the header of a safetensors file, which stands behind its beginning then.

    Raises:
        InputError: if there is none.
    """
    n_bytes = os.fstat(opened.fileno()).st_size
    start = opened.read(8)
    (size,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
    if not 2 <= size <= min(_HEADER_BYTES, n_bytes - 8):
        raise InputError(f"checkpoint {file}: {_NO_WEIGHTS}")
    return int(size)


def with_config(
    state_dict: Mapping[str, Any], config: Path, *, digest: Callable[[], str] | None
) -> dict[str, Any]:
    """A checkpoint's dictionary of weights and the `config.json` beside them, if there is one.

    Args:
        digest: gives that of the weights; None does not compare it with the one that is stated.

    Raises:
        InputError: if the config cannot be read, contradicts itself, or is of other weights.
    """
    content: dict[str, Any] = {"state_dict": state_dict}
    description = _read_config(config)
    if description is None:
        return content
    try:
        return content | _stated(description, digest)
    except (InputError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS]
        raise InputError(f"checkpoint {config}: {reason}") from None


def describe_model(checkpoint: Checkpoint, *, n_features: int, digest: str) -> dict[str, Any]:
    """The content of a `config.json`.

    Args:
        checkpoint: with its architecture, normalisation, and in `config` the size of its clips.
        n_features: inputs of the last layer.
        digest: of the weights.
    """
    architecture = checkpoint.architecture
    assert architecture is not None
    options, normalisation = checkpoint.config or {}, checkpoint.normalisation or {}
    size, scale = options["sample_size"], normalisation["value_scale"]
    layers = FAMILIES[architecture.model]
    layers_of_stem = {"densenet": "features.conv1", "resnet2p1d": "conv1_s"}
    arguments = dataclasses.asdict(architecture)
    del arguments["n_classes"]
    description = {
        "architecture": architecture.name,
        "num_classes": architecture.n_classes,
        "num_features": n_features,
        "global_pool": "avg",
        "model_args": arguments,
        "label_names": checkpoint.labels,
        "pretrained_cfg": {
            "input_size": [
                *(architecture.n_input_channels, options["sample_duration"]),
                *(size, size),
            ],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [value / scale for value in normalisation["mean"]],
            "std": [value / scale for value in normalisation["std"]],
            "num_classes": architecture.n_classes,
            "first_conv": layers_of_stem.get(architecture.model, "conv1"),
            "classifier": layers.head,
        },
        "r3d": {
            "config": checkpoint.config,
            "normalisation": normalisation,
            "frames": checkpoint.frames,
            "epoch": checkpoint.epoch,
            "digest": digest,
            "version": version("r3d"),
        },
    }
    if checkpoint.labels is None:
        del description["label_names"]
    return description


def _read_config(path: Path) -> dict[str, Any] | None:
    """The object in a `config.json`; None if there is no such file.

    Raises:
        InputError: if it cannot be read, or is no JSON object.
    """
    try:
        n_bytes = path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason_of(error)}") from None
    if not path.is_file() or n_bytes > _CONFIG_BYTES:
        raise InputError(
            f"{path}: is no file, or larger than {_CONFIG_BYTES >> 20} MB; accepted: a JSON that "
            "describes the model"
        )
    config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds a {type(config).__name__}; accepted: an object")
    return config


def _stated(config: Mapping[str, Any], digest: Callable[[], str] | None) -> dict[str, Any]:
    """What a `config.json` states, under the names of a checkpoint.

    Raises:
        ValueError: naming the key that is broken.
    """
    ours = _section(config, "r3d")
    cfg = _section(config, "pretrained_cfg")
    labels = config.get("label_names", cfg.get("label_names"))
    if labels is not None and config.get("num_classes", len(labels)) != len(labels):
        raise ValueError(
            f"num_classes: {_shown(config['num_classes'])}, and label_names are {len(labels)}; "
            "accepted: as many"
        )
    if digest is not None and ours.get("digest") is not None and ours["digest"] != digest():
        raise ValueError(
            f"{WEIGHTS} beside it is damaged or of another model: its digest is not r3d.digest; "
            "copy or export both files again, or remove r3d.digest if the weights are as you want "
            "them"
        )
    known = {
        "epoch": ours.get("epoch"),
        "architecture": _architecture(config),
        "config": _options(ours, cfg),
        "labels": labels,
        "normalisation": _normalisation(ours, cfg),
        "frames": ours.get("frames"),
        "version": ours.get("version"),
    }
    return {name: value for name, value in known.items() if value is not None}


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key}: a {type(value).__name__}; accepted: an object")
    return value


def _architecture(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of the network; None where the file leaves them to the weights."""
    arguments = _section(config, "model_args")
    if "model" not in arguments or "num_classes" not in config:
        return None
    known = {field.name for field in dataclasses.fields(Architecture)} - {"n_classes"}
    for name in arguments:
        if name not in known:
            raise ValueError(f"model_args: {_shown(name)} is none of {', '.join(sorted(known))}")
    return {**arguments, "n_classes": config["num_classes"]}


def _options(ours: Mapping[str, Any], cfg: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options behind the weights, which have the size of clips that is stated."""
    options, size = ours.get("config"), cfg.get("input_size")
    if size is not None and not (isinstance(size, list) and len(size) == 4 and size[2] == size[3]):
        raise ValueError(f"pretrained_cfg.input_size: {_shown(size)}; accepted: [c, t, s, s]")
    clip = {} if size is None else {"sample_duration": size[1], "sample_size": size[2]}
    if options is None:
        return clip or None
    if not isinstance(options, dict):
        raise ValueError(f"r3d.config: a {type(options).__name__}; accepted: an object")
    for name, value in clip.items():
        if options.get(name) != value:
            raise ValueError(
                f"pretrained_cfg.input_size: {_shown(size)} contradicts r3d.config, whose {name} "
                f"is {_shown(options.get(name))}; change both alike"
            )
    return options


def _normalisation(ours: Mapping[str, Any], cfg: Mapping[str, Any]) -> dict[str, Any] | None:
    """Mean, standard deviation and scale as checkpoints state them."""
    if cfg.get("mean") is None and cfg.get("std") is None:
        return None
    given = {name: _numbers(f"pretrained_cfg.{name}", cfg.get(name)) for name in ("mean", "std")}
    own = _section(ours, "normalisation")
    if not own:
        return {**given, "value_scale": 1}
    scale = own.get("value_scale")
    if scale not in (1, 255):
        raise ValueError(f"r3d.normalisation.value_scale: {_shown(scale)}; accepted: 1, 255")
    for name, values in given.items():
        expected = _numbers(f"r3d.normalisation.{name}", own.get(name))
        pairs = zip(expected, values, strict=False)
        if len(expected) != len(values) or not all(
            math.isclose(one, other * scale, rel_tol=1e-9, abs_tol=1e-12) for one, other in pairs
        ):
            raise ValueError(
                f"pretrained_cfg.{name}: {_shown(values)} contradicts r3d.normalisation; change "
                "both alike"
            )
    return dict(own)


def _numbers(name: str, values: Any) -> list[float]:
    if (
        not isinstance(values, list)
        or not 1 <= len(values) <= 3
        or not all(type(value) in (int, float) and math.isfinite(value) for value in values)
    ):
        raise ValueError(f"{name}: {_shown(values)}; accepted: a list of up to three numbers")
    return values


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
