"""Checkpoints: the reference's dictionary, and what the file says of itself.

    epoch, arch, state_dict, optimizer, scheduler       read by the reference too
    architecture, config, labels, normalisation,        read by us
    frames, training, version

Only tensors and plain values are ever loaded from a file, never other Python objects.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r3d.errors import InputError
from r3d.models.architectures import Architecture
from r3d.models.archive import load_archive, save_archive
from r3d.models.base import VideoModel
from r3d.models.contents import (
    NORMALISATION_2018,
    Checkpoint,
    checkpoint_of,
    no_weights,
    parts_of,
    plain_names,
)
from r3d.models.describing import describe
from r3d.models.released import released_weights

__all__ = [
    "NORMALISATION_2018",
    "Checkpoint",
    "load_weights",
    "not_finite",
    "read_checkpoint",
    "write_checkpoint",
]

# A file may state a number once for all of a layer. More than this must be there as it is stated.
_UNFOLDED_BYTES = 2**30


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of ours or of the reference, or a bare state dict.

    Weights of the reference's code of 2018 come in their present form. What the file says of itself
    has the right types and fits its weights; what a training makes of its state is not checked.

    Raises:
        InputError: if the file cannot be read, is damaged, is no checkpoint, holds other Python
            objects than tensors and plain values, or weights that are not finite.
    """
    content, state_dict = parts_of(load_archive(path), path)
    weights = _weights(state_dict, path)
    _check_values(weights, path)
    return checkpoint_of(content, weights, path)


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint that loads with `weights_only=True` on any machine, and in the reference.

    `version` is set to the running one; what is `None` is left out. Equal content gives equal
    bytes.

    Raises:
        OSError: if it cannot be written; a file of that name stays as it was.
        TypeError: if a value is neither a tensor nor plain, so that it could not be loaded again.
    """
    state_dict = _weights(checkpoint.state_dict, path)
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
        "frames": checkpoint.frames,
        "training": checkpoint.training,
        "version": version("r3d"),
    }
    content = {key: value for key, value in content.items() if value is not None}
    save_archive(path, content)


def not_finite(state_dict: Mapping[str, Tensor]) -> str:
    """The first of the weights and statistics that cannot be computed with; "" if all can.

    >>> not_finite({"bn1.running_var": torch.tensor([1.0, float("nan")])})
    'bn1.running_var holds NaN'
    """
    for name, value in state_dict.items():
        if not value.is_floating_point() or not value.numel():
            continue
        least, most = (float(bound) for bound in value.detach().aminmax())  # NaN if any is
        if math.isnan(least):
            return f"{name} holds NaN"
        if math.isinf(least) or math.isinf(most):
            return f"{name} holds infinite numbers"
        if name.endswith(".running_var") and least < 0:
            return f"{name} holds negative variances"
    return ""


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


def _weights(state_dict: Mapping[Any, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The dense real tensors of a state dict, under plain names."""
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise no_weights(path, name, value)
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(
                f"checkpoint {path}: {name!r} is a sparse, quantised or meta tensor; "
                "accepted: dense ones"
            )
        if value.is_complex() or (value.element_size() < 2 and value.is_floating_point()):
            raise InputError(
                f"checkpoint {path}: {name!r} is of {value.dtype}; accepted: real numbers of 16 "
                "bits or more"
            )
    return plain_names(state_dict)


def _check_values(state_dict: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    n_bytes = Path(path).stat().st_size
    stated = sum(value.numel() * value.element_size() for value in state_dict.values())
    if stated > max(n_bytes, _UNFOLDED_BYTES):
        raise InputError(
            f"checkpoint {path}: states weights of {stated} bytes and holds {n_bytes}; accepted: "
            "a file that holds all of its weights"
        )
    if problem := not_finite(state_dict):
        raise InputError(
            f"checkpoint {path}: {problem}, as of a training that diverged; take an earlier one"
        )


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
