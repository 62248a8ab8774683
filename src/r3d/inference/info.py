"""What a model is, in ten lines: told without loading its weights, and without torch."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from r3d.config.applying import VIEW, applied_options
from r3d.config.networks import settings
from r3d.config.normalisation import NORMALISING, input_normalisation
from r3d.config.options import InferenceOptions
from r3d.files import AnyPath
from r3d.frames.form import FrameForm
from r3d.models.architectures import FAMILIES, Architecture
from r3d.models.contents import Checkpoint
from r3d.models.known import Known, known_of, read_outline
from r3d.models.modelfolder import is_safetensors, weights_file
from r3d.models.released import released_weights

_NAMES = 6  # classes that are shown to people
_NAME_CHARACTERS = 40
_NOT_STATED = "not stated"
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
_CLIPS = ("sample_size", "sample_duration", "sample_t_stride", "frozen")
_TRAINING = ("n_epochs", "batch_size", "learning_rate", "optimizer", "ft_begin_module")


def describe_file(path: AnyPath) -> dict[str, Any]:
    """What a model file is: plain values, `None` where it does not say.

    Args:
        path: a checkpoint of ours or of the reference, a state of a training, or a folder of
            `model.safetensors`, or that file.

    Raises:
        InputError: if it is none of them.
    """
    checkpoint = read_outline(path)
    known = known_of(checkpoint, path)
    options, _ = applied_options(known, {})
    stated = {**known.assumed, **known.config}
    network = dataclasses.asdict(known.architecture)
    if not known.states_architecture:  # these leave no trace in weights
        network |= {"conv1_t_stride": None, "no_max_pool": None}
    frames = FrameForm.of_dict(known.frames)
    released = released_weights(path)
    if released is not None and released.architecture != known.architecture:
        released = None
    return {
        "file": str(path),
        "bytes": weights_file(path).stat().st_size,
        "kind": _kind(checkpoint, path),
        "version": known.version,
        "network": {"name": known.architecture.name, **network},
        "parameters": _n_parameters(checkpoint.state_dict),
        "labels": known.labels,
        "labels_from": known.labels and ("file" if known.states_labels else "name"),
        "clips": {name: getattr(options, name) for name in _CLIPS if name in stated} or None,
        "frames": frames and frames.as_dict(),
        "normalisation": _normalisation(known, options),
        "epoch": known.epoch,
        "training": {name: known.config[name] for name in _TRAINING if name in known.config},
        "started_from": known.config.get("pretrain_path") or known.config.get("pretrain"),
        "trained_on": released and [part.name for part in released.class_lists],
        "title": known.title,
    }


def lines(description: Mapping[str, Any]) -> list[str]:
    """The description of a file for people: ten lines."""
    rows = {
        "file": f"{description['file']} ({_size(description['bytes'])})",
        "kind": _kind_line(description),
        "network": _network_line(description),
        "classes": _classes_line(description),
        "clips": _clips_line(description["clips"]),
        "frames": _frames_line(description["frames"]),
        "normalised": _normalisation_line(description["normalisation"]),
        "trained": _training_line(description),
        "started from": _start_line(description),
        "known as": description["title"] or "nothing that goes by its name or shape",
    }
    width = max(map(len, rows))
    return [f"{name:{width}}  {_plain(text)}" for name, text in rows.items()]


def _normalisation(known: Known, options: InferenceOptions) -> dict[str, Any] | None:
    if known.normalisation is None and not {*NORMALISING} & {*known.config, *known.assumed}:
        return None
    return {**input_normalisation(options), "mean_dataset": options.mean_dataset}


def _kind(checkpoint: Checkpoint, path: AnyPath) -> str:
    if is_safetensors(path):
        return "safetensors" if checkpoint.version is None else "folder of r3d"
    if checkpoint.version is not None:
        return "model of r3d" if checkpoint.training is None else "training state of r3d"
    if checkpoint.optimizer is not None:
        return "training state of another program"
    return "weights of another program"


def _n_parameters(weights: Mapping[str, Any]) -> int:
    return sum(
        math.prod(value.shape) for name, value in weights.items() if not name.endswith(_STATISTICS)
    )


def _size(n_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes} bytes"


def _kind_line(description: Mapping[str, Any]) -> str:
    version = description["version"]
    return f"{description['kind']}{f' {version}' if version else ''}"


def _network_line(description: Mapping[str, Any]) -> str:
    network = description["network"]
    takes = {3: "RGB", 2: "optical flow"}.get(
        network["n_input_channels"], f"{network['n_input_channels']} channels"
    )
    parts = [
        f"{network['name']}, {description['parameters'] / 1e6:.3g} million parameters, {takes}"
    ]
    for field in dataclasses.fields(Architecture):
        value = network[field.name]
        if field.default in (dataclasses.MISSING, value) or field.name == "n_input_channels":
            continue
        options = [option for family in FAMILIES.values() for option in family.options]
        if field.name in options and field.name not in FAMILIES[network["model"]].options:
            continue
        parts.append(f"{field.name}: {_NOT_STATED if value is None else _value(value)}")
    return ", ".join(parts)


def _classes_line(description: Mapping[str, Any]) -> str:
    n, labels = description["network"]["n_classes"], description["labels"]
    if labels is None:
        return f"{n}, whose names are {_NOT_STATED}; class_order gives a file that lists them"
    names = ", ".join(_short(label) for label in labels[:_NAMES])
    source = "" if description["labels_from"] == "file" else " (by its name or shape)"
    return f"{n}: {names}{', ...' if n > _NAMES else ''}{source}"


def _clips_line(clips: Mapping[str, Any] | None) -> str:
    clips = clips or {}
    parts = [f"{clips['sample_duration']} frames"] if "sample_duration" in clips else []
    if "sample_size" in clips:
        parts.append("{0} x {0} pixels".format(clips["sample_size"]))
    if "sample_t_stride" in clips:
        stride = clips["sample_t_stride"]
        parts.append("every frame" if stride == 1 else f"one frame of {stride}")
    if clips.get("frozen"):
        parts.append("frozen: copies of the first frame")
    defaults = InferenceOptions()
    if missing := [name for name in VIEW if name not in clips]:
        parts.append(f"{_NOT_STATED}: {settings(dict(defaults), missing)} where not given")
    return ", ".join(parts)


def _frames_line(frames: Mapping[str, Any] | None) -> str:
    frames = frames or {}
    parts = []
    side, rates, fps = (frames.get(name) for name in ("short_side", "rates", "fps"))
    if side is not None:
        parts.append(f"short side {side}" if side else "various sizes")
    if fps:
        parts.append(f"thinned out to {fps:g} a second")
    elif rates:
        parts.append(f"{' to '.join(dict.fromkeys(f'{rate:.4g}' for rate in rates))} a second")
    missing = ["short_side: 240"] if side is None else []
    missing += [] if fps or rates else ["all of them (fps)"]
    if missing:
        parts.append(f"{_NOT_STATED}: {', '.join(missing)} where not given")
    return ", ".join(parts)


def _normalisation_line(stated: Mapping[str, Any] | None) -> str:
    if stated is None:
        return f"{_NOT_STATED}: {settings(dict(InferenceOptions()), NORMALISING)} where not given"
    mean, std = (" ".join(f"{value:.5g}" for value in stated[name]) for name in ("mean", "std"))
    return (
        f"mean {mean}, deviation {std}, of pixels from 0 to {stated['value_scale']} "
        f"({stated['mean_dataset']})"
    )


def _training_line(description: Mapping[str, Any]) -> str:
    options, on = description["training"], description["trained_on"]
    epochs = description["epoch"]
    of = f" of {options['n_epochs']}" if "n_epochs" in options else ""
    parts = [f"{epochs}{of} epochs" if epochs or of else f"epochs {_NOT_STATED}"]
    if on:
        parts.append(f"on {', '.join(on)}")
    parts += [
        f"{name}: {_value(options[name])}" for name in _TRAINING[1:] if options.get(name, "") != ""
    ]
    return ", ".join(parts)


def _start_line(description: Mapping[str, Any]) -> str:
    if description["started_from"]:
        return str(description["started_from"])
    return "random weights" if description["training"] else _NOT_STATED


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(label: str) -> str:
    return label if len(label) <= _NAME_CHARACTERS else f"{label[:_NAME_CHARACTERS]}..."


def _plain(text: str) -> str:
    """A text from anywhere as one line that a terminal takes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)[:1000]
