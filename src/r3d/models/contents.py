"""What a checkpoint file holds, and that what it says of itself is right.

Of a file that is not loaded (`r3d.models.header`) a shape stands for each tensor; nothing here
needs torch.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from r3d.errors import InputError
from r3d.files import AnyPath
from r3d.models.architectures import Architecture
from r3d.models.describing import describe, present_form, same_widths
from r3d.models.torchvision_names import NORMALISATION, are_torchvisions, renamed

if TYPE_CHECKING:
    from torch import Tensor

NORMALISATION_2018: dict[str, Any] = {
    "mean": [114.7748, 107.7354, 99.475],
    "std": [1.0, 1.0, 1.0],
    "value_scale": 255,
}
"""What the inputs of the networks that were published in 2018 are normalised with."""

# Data parallelism and torch.compile put these before every name.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
# What is read of a file beside its weights.
_READ = (
    *("epoch", "optimizer", "scheduler", "architecture", "config", "labels", "normalisation"),
    *("frames", "training", "version"),
)
# How much that may be: a group of the optimiser for each parameter is far less.
_MOST_VALUES = 1_000_000
_DEEPEST = 20


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
        frames: what the frames that it was trained on were like (`r3d.frames.form`).
        training: whatever else it takes to go on as if never stopped.
        version: the version of this package that wrote the file, `None` if another program did.
    """

    state_dict: "dict[str, Tensor]"
    epoch: int = 0
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None
    architecture: Architecture | None = None
    config: dict[str, Any] | None = None
    labels: list[str] | None = None
    normalisation: dict[str, Any] | None = None
    frames: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    version: str | None = None


def checkpoint_of(
    content: Mapping[str, Any], state_dict: "dict[str, Tensor]", path: AnyPath
) -> Checkpoint:
    """The checkpoint of what a file holds, with weights in their present form.

    Weights under torchvision's names are of a network that those tell, with its normalisation.

    Args:
        content: beside the weights; empty in a bare state dict.
        state_dict: the weights under plain names.

    Raises:
        InputError: if what the file says of itself has wrong types, or does not fit its weights.
    """
    try:
        of_torchvision = are_torchvisions(state_dict)
    except InputError as error:
        raise InputError(f"checkpoint {path}: {error}") from None
    if of_torchvision:
        state_dict = renamed(state_dict)
    state_dict, of_2018 = present_form(state_dict)
    try:
        _check_plain(content)
        architecture = _architecture(_dictionary(content, "architecture"), state_dict)
        normalisation = _dictionary(content, "normalisation")
        if of_torchvision:
            architecture = architecture or replace(describe(state_dict), no_max_pool=True)
            normalisation = normalisation or NORMALISATION
        return Checkpoint(
            state_dict=state_dict,
            epoch=_epoch(content.get("epoch", 0)),
            optimizer=_optimizer(content.get("optimizer")),
            scheduler=_dictionary(content, "scheduler"),
            architecture=architecture,
            config=_dictionary(content, "config"),
            labels=_labels(content.get("labels")),
            normalisation=NORMALISATION_2018 if of_2018 else normalisation,
            frames=_dictionary(content, "frames"),
            training=_dictionary(content, "training"),
            version=str(content["version"]) if "version" in content else None,
        )
    except (TypeError, ValueError, InputError) as error:
        reason = " ".join(str(error).split())[:200]  # it may tell of any value
        raise InputError(
            f"checkpoint {path}: what it says of itself is broken ({reason})"
        ) from None


def parts_of(content: Any, path: AnyPath) -> tuple[Mapping[str, Any], Mapping[Any, Any]]:
    """What a file holds beside its weights, and the weights, under whatever names.

    Raises:
        InputError: if it holds no state dict.
    """
    if not isinstance(content, dict):
        raise InputError(
            f"checkpoint {path}: holds a {type(content).__name__}; accepted: a dictionary with "
            "the key state_dict, or a state dict"
        )
    bare = "state_dict" not in content
    state_dict = content if bare else content["state_dict"]
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise InputError(f"checkpoint {path}: its state dict is empty or no dictionary")
    return ({} if bare else content), state_dict


def no_weights(path: AnyPath, name: Any, value: Any) -> InputError:
    """That something in a state dict is no tensor under a name."""
    return InputError(
        f"checkpoint {path}: has neither a key state_dict nor tensors only "
        f"({name!r} is a {type(value).__name__})"
    )


def plain_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without what data parallelism and torch.compile put before its names."""
    return {_WRAPPERS.sub("", name): value for name, value in state_dict.items()}


def _check_plain(content: Mapping[Any, Any]) -> None:
    """Refuse tensors where plain values belong, and more or deeper values than a training notes.

    Of what other programs add nothing is read, so it may be anything. A few bytes may stand for
    lists of lists without end, which no message could spell out.

    Raises:
        ValueError: saying where.
    """
    waiting = [(key, content[key], 1) for key in _READ if key in content]
    n_seen = 0
    while waiting:
        where, value, depth = waiting.pop()
        n_seen += 1
        if n_seen > _MOST_VALUES or depth > _DEEPEST:
            raise ValueError(f"{where}: holds too many values, or too deep")
        if hasattr(value, "shape") and where not in ("optimizer.state", "training"):
            raise ValueError(f"{where}: holds a tensor; accepted: plain values")
        if isinstance(value, dict):
            for key, item in value.items():
                inner = f"{where}.{key}" if (where, key) == ("optimizer", "state") else where
                waiting.append((inner, item, depth + 1))
        elif isinstance(value, list | tuple | set):
            waiting.extend((where, item, depth + 1) for item in value)


def _epoch(value: Any) -> int:
    if not isinstance(value, int | float) or not 0 <= value < 2**31 or value != int(value):
        raise ValueError(f"epoch: {value!r}; accepted: whole numbers from 0")
    return int(value)


def _dictionary(content: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{key}: a {type(value).__name__}; accepted: a dictionary of names")
    return value


def _optimizer(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    match value:
        case {"state": dict(state), "param_groups": [dict(), *_] as groups} if (
            all(isinstance(group, dict) for group in groups)
            and all(isinstance(group.get("params"), list) for group in groups)
            and all(isinstance(values, dict) for values in state.values())
        ):
            return dict(value)
    raise ValueError("optimizer: no state of an optimizer of torch")


def _architecture(
    stated: dict[str, Any] | None, state_dict: Mapping[str, Any]
) -> Architecture | None:
    """The network as the file states it, which must be that of its weights."""
    if stated is None:
        return None
    architecture, found = Architecture(**stated), describe(state_dict)
    if same_widths(architecture, found):
        found = dataclasses.replace(found, resnet_widen_factor=architecture.resnet_widen_factor)
    for field in dataclasses.fields(Architecture):
        there, here = getattr(architecture, field.name), getattr(found, field.name)
        # Of the others nothing is to be seen in the weights.
        if field.name not in ("conv1_t_stride", "no_max_pool") and there != here:
            raise ValueError(f"{field.name}: {there!r}, and its weights are of {here!r}")
    return architecture


def _labels(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError("labels: no list of class names")
    return value
