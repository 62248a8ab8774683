"""Checkpoints: the reference's dictionary, and what the file says of itself.

    epoch, arch, state_dict, optimizer, scheduler       read by the reference too
    architecture, config, labels, normalisation,        read by us
    training, version

Only tensors and plain values are ever loaded from a file, never other Python objects.
"""

import dataclasses
import os
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.models.architectures import FAMILIES, Architecture
from r3d.models.base import VideoModel
from r3d.models.released import released_weights

# Data parallelism and torch.compile put these before every name.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds; all tensors lie on the CPU.

    Attributes:
        state_dict: weights and buffers by name, without the prefixes that wrappers add.
        epoch: how many epochs the weights were trained for; 0 in a bare state dict.
        optimizer, scheduler: their state dicts, `None` where nothing is to be resumed.
        architecture: the network as the file states it; `None` in files of the reference, whose
            network `describe` infers from the weights.
        config: the resolved options behind the weights.
        labels: the classes in the order of the outputs.
        normalisation: what the inputs were normalised with.
        training: whatever else it takes to go on as if never stopped.
        version: the version of this package that wrote the file, `None` if another program did.
    """

    state_dict: dict[str, Tensor]
    epoch: int = 0
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    architecture: Architecture | None = None
    config: dict[str, Any] | None = None
    labels: list[str] | None = None
    normalisation: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    version: str | None = None


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of ours or of the reference, or a bare state dict.

    Raises:
        InputError: if the file cannot be read, is no checkpoint, or holds other Python objects than
            tensors and plain values.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise InputError(
            f"checkpoint {path}: holds a {type(content).__name__}; accepted: a dictionary with "
            "the key state_dict, or a state dict"
        )
    if "state_dict" not in content:
        return Checkpoint(state_dict=_plain_names(content, path))
    state_dict = _plain_names(content["state_dict"], path)
    architecture = content.get("architecture")
    try:
        return Checkpoint(
            state_dict=state_dict,
            epoch=int(content.get("epoch", 0)),
            optimizer=content.get("optimizer"),
            scheduler=content.get("scheduler"),
            architecture=None if architecture is None else Architecture(**architecture),
            config=content.get("config"),
            labels=content.get("labels"),
            normalisation=content.get("normalisation"),
            training=content.get("training"),
            version=content.get("version"),
        )
    except (TypeError, ValueError, InputError) as error:
        raise InputError(f"checkpoint {path}: what it says of itself is broken ({error})") from None


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint that loads with `weights_only=True` on any machine, and in the reference.

    `version` is set to the running one; what is `None` is left out.

    Raises:
        TypeError: if a value is neither a tensor nor plain, so that it could not be loaded again.
    """
    state_dict = _plain_names(checkpoint.state_dict, path)
    architecture = checkpoint.architecture
    content = {
        "epoch": checkpoint.epoch,
        "arch": (architecture or describe(state_dict)).name,
        "state_dict": state_dict,
        "optimizer": checkpoint.optimizer,
        "scheduler": checkpoint.scheduler,
        "architecture": architecture and dataclasses.asdict(architecture),
        "config": checkpoint.config,
        "labels": checkpoint.labels,
        "normalisation": checkpoint.normalisation,
        "training": checkpoint.training,
        "version": version("r3d"),
    }
    content = {key: _on_cpu(value) for key, value in content.items() if value is not None}
    with atomic_path(path) as partial:
        with partial.open("wb") as file:  # given a path, torch does not say why it cannot write
            torch.save(content, file)
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(partial)
        if refused:
            raise TypeError(f"a checkpoint cannot hold {', '.join(sorted(refused))}")


def load_weights(
    model: VideoModel,
    state_dict: Mapping[str, Tensor],
    source: str | os.PathLike[str],
    *,
    architecture: Architecture | None = None,
) -> None:
    """Load weights into a network; every layer must fit.

    Args:
        source: the file that the weights come from, for the message.
        architecture: what that file says of itself, if it does; tells apart networks whose weights
            have the same shapes.

    Raises:
        InputError: naming the first layer that does not fit, both shapes, and the options that
            would make the network fit.
    """
    here = model.state_dict()
    difference = _first_difference(state_dict, here)
    if architecture is not None:
        difference = difference or _hidden_difference(architecture, model.architecture)
    if difference:
        advice = _advice(state_dict, architecture, model) + _by_its_name(source, state_dict)
        raise InputError(f"checkpoint {source}: {difference}; {advice}")
    model.load_state_dict(dict(state_dict))


def describe(state_dict: Mapping[str, Tensor]) -> Architecture:
    """Infer a network from the names and shapes of its weights.

    `conv1_t_stride` and `no_max_pool` leave no trace in them and stay at their defaults. A widen
    factor is the shortest decimal that gives these widths.

    Raises:
        InputError: if the names and shapes are not those of one of the families.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    try:
        if "features.conv1.weight" in shapes:
            return _describe_densenet(shapes)
        return _describe_resnet(shapes)
    except (LookupError, ValueError, InputError):
        raise InputError(f"the file holds no network of {', '.join(FAMILIES)}") from None


def _load(path: str | os.PathLike[str]) -> Any:
    try:
        with Path(path).open("rb") as file:
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:
                # Bytes that torch.save did not write raise anything, from KeyError to OSError.
                raise InputError(f"checkpoint {path}: {_refusal(error)}") from None
    except OSError as error:
        raise InputError(f"checkpoint {path}: cannot be read ({error.strerror})") from None


def _refusal(error: Exception) -> str:
    """Why torch did not load a file, and what is accepted."""
    found = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and found:
        return (
            f"holds a Python object ({found[1]}); accepted: tensors and plain values, "
            "such as a state dict"
        )
    return "is empty, cut short or no checkpoint; accepted: a file written by torch.save"


def _plain_names(state_dict: Any, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f"checkpoint {path}: its state dict is empty or no dictionary")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"checkpoint {path}: has neither a key state_dict nor tensors only "
                f"({name!r} is a {type(value).__name__})"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(
                f"checkpoint {path}: {name!r} is a sparse, quantised or meta tensor; "
                "accepted: dense ones"
            )
    return {_WRAPPERS.sub("", name): value for name, value in state_dict.items()}


def _on_cpu(value: Any) -> Any:
    """A copy of nested containers of the same types with all tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        copy = value.copy()
        for key in copy:
            copy[key] = _on_cpu(copy[key])
        return copy
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value


def _first_difference(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """The first layer that differs, those first that both sides have; "" if all fit."""
    for name in here:
        if name in there and there[name].shape != here[name].shape:
            return (
                f"layer {name} has the shape {tuple(there[name].shape)} in the file and "
                f"{tuple(here[name].shape)} in the network"
            )
    for name in here:
        # Files from before torch 0.4.1 lack the counters, which nothing depends on.
        if name not in there and not name.endswith(".num_batches_tracked"):
            return f"layer {name} {tuple(here[name].shape)} of the network is not in the file"
    for name in there:
        if name not in here:
            return f"layer {name} {tuple(there[name].shape)} of the file is not in the network"
    return ""


def _hidden_difference(there: Architecture, here: Architecture) -> str:
    """An option that differs though no shape depends on it; "" if none does."""
    for option in ("conv1_t_stride", "no_max_pool"):
        if getattr(there, option) != getattr(here, option):
            return (
                f"{option} is {getattr(there, option)} in the file and {getattr(here, option)} "
                "in the network"
            )
    return ""


def _advice(
    state_dict: Mapping[str, Tensor], architecture: Architecture | None, model: VideoModel
) -> str:
    """Which options would make the network fit the file."""
    here = model.architecture
    if architecture is None:
        try:
            architecture = describe(state_dict)
        except InputError as error:
            return str(error)
        # Inferred on both sides, so that a widen factor counts as the same by its widths.
        here = describe(model.state_dict())
    changes = [
        _setting(field.name, getattr(architecture, field.name))
        for field in dataclasses.fields(Architecture)
        if getattr(architecture, field.name) != getattr(here, field.name)
    ]
    if not changes:
        return f"the file holds a damaged {architecture.name}: no option makes it fit"
    return f"the file holds a {architecture.name}: set {', '.join(changes)}"


def _by_its_name(source: str | os.PathLike[str], state_dict: Mapping[str, Tensor]) -> str:
    """What to know of a file that is called as a released one."""
    released = released_weights(source)
    if released is None:
        return ""
    try:
        found = describe(state_dict)
    except InputError:
        found = None
    if found == released.architecture:
        return f"; it is {released}"
    return f"; its name is that of {released}, but its content is another"


def _setting(option: str, value: Any) -> str:
    """An option with its value as in the config file."""
    if option == "n_input_channels":
        return f"input_type: {({3: 'rgb', 2: 'flow'}).get(value, f'of {value} channels')}"
    if option == "n_classes":
        return f"n_pretrain_classes: {value} (n_classes: {value} to keep its last layer)"
    if isinstance(value, bool):
        return f"{option}: {str(value).lower()}"
    return f"{option}: {value}"


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
    if "resnet_widen_factor" in FAMILIES[model].options:
        options["resnet_widen_factor"] = _widen_factor(features // (4 if bottleneck else 1))
    return Architecture(
        model=model,
        model_depth=_depth(model, _blocks(shapes), bottleneck=bottleneck),
        n_classes=n_classes,
        n_input_channels=space_stem[1],
        conv1_t_size=time_stem[2],
        resnet_shortcut="B" if "layer2.0.downsample.0.weight" in shapes else "A",
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
