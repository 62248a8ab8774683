"""The weights of a folder in timm's convention, and the folder as a whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from r3d.errors import InputError, reason_of
from r3d.files import AnyPath
from r3d.models.archive import tensors_digest
from r3d.models.contents import Checkpoint
from r3d.models.modelfolder import CONFIG, describe_model, header_size, weights_file, with_config

_SHOWN_CHARACTERS = 100


def read_model_folder(path: AnyPath) -> dict[str, Any]:
    """What a safetensors file, and the `config.json` beside it, say: a checkpoint's dictionary.

    A file without `config.json` is a bare state dict. Types and their fit to the weights are
    checked as those of other checkpoints.

    Args:
        path: the folder, or the file in it.

    Raises:
        InputError: if a file cannot be read, is damaged, is none of its format, or contradicts
            itself or the other.
    """
    file = weights_file(path)
    return read_model_files(file, file.with_name(CONFIG))


def read_model_files(weights: Path, config: Path) -> dict[str, Any]:
    """As `read_model_folder`, of two files of whatever names; the second need not be there."""
    state_dict = _read_weights(weights)
    return with_config(state_dict, config, digest=lambda: _digest(state_dict))


def write_model_files(
    weights: Path, config: Path, checkpoint: Checkpoint, *, n_features: int
) -> None:
    """Write a model as `read_model_files` reads it.

    Args:
        weights, config: the files to write.
        checkpoint: with its architecture, normalisation, and in `config` the size of its clips.
        n_features: inputs of the last layer.

    Raises:
        InputError: if the package safetensors is not installed.
        OSError: if they cannot be written.
    """
    state_dict = {
        name: value.detach().contiguous() for name, value in checkpoint.state_dict.items()
    }
    description = describe_model(checkpoint, n_features=n_features, digest=_digest(state_dict))
    weights.write_bytes(safetensors().save(state_dict, metadata={"format": "pt"}))
    config.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def _digest(state_dict: Mapping[str, Tensor]) -> str:
    """What tells weights from any others."""
    return tensors_digest(state_dict).hex()


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        with file.open("rb") as opened:
            header_size(opened, file)
    except OSError as error:
        raise InputError(f"checkpoint {file}: cannot be read ({reason_of(error)})") from None
    try:
        # Copies, for what is mapped from a file changes and goes with it.
        return {
            name: value.clone() for name, value in safetensors().load_file(os.fspath(file)).items()
        }
    except InputError:
        raise
    except Exception as error:
        # Bytes that safetensors did not write raise its own errors, and torch's.
        raise InputError(
            f"checkpoint {file}: is damaged or no safetensors file "
            f"({reason_of(error)[:_SHOWN_CHARACTERS]})"
        ) from None


def safetensors() -> Any:
    """The module `safetensors.torch`, which need not be installed.

    Raises:
        InputError: if it is not.
    """
    try:
        from safetensors import torch
    except ModuleNotFoundError:
        raise InputError(
            "model.safetensors needs the package safetensors: pip install 'r3d[export]'"
        ) from None
    return torch
