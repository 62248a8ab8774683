"""A parsed config or a YAML file -> a checked `Config`, or one line that says what is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from r3d.config.checks import check_config
from r3d.config.config import Config, Experiment
from r3d.config.messages import one_line, unknown_key
from r3d.errors import InputError


def load_config(raw: Mapping[str, Any]) -> Config:
    """Validate a parsed config and fill in defaults.

    Raises:
        InputError: naming the first key that is wrong, its value and what is accepted.
    """
    raw = {key: value for key, value in raw.items() if value is not None}
    defaults = raw.pop("defaults", {})
    if not isinstance(defaults, Mapping):
        raise InputError(f"config: defaults: {defaults!r} must be a mapping of experiment options")
    for key in defaults:
        if key not in Experiment.model_fields:
            raise InputError(unknown_key(("defaults", key), defaults[key], Experiment))
    own = raw.get("experiments", {})
    if isinstance(own, Mapping):
        raw["experiments"] = {
            name: {**defaults, **(options or {})} if isinstance(options or {}, Mapping) else options
            for name, options in own.items()
        }
    try:
        config = Config.model_validate(_plain(raw))
        check_config(config)
    except ValidationError as error:
        raise InputError(one_line(error, _plain(own))) from None
    except ValueError as error:
        raise InputError(f"config: {error}") from None
    return config


def read_config(path: str | Path) -> Config:
    """Load a config from a YAML file.

    Raises:
        InputError: if the file is absent, is not YAML or holds a wrong value.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"config {path}: is not valid YAML ({reason})") from None
    if not isinstance(raw, Mapping):
        raise InputError(f"config {path}: must be a mapping with the keys datasets, experiments")
    return load_config(raw)


def _plain(value: Any) -> Any:
    """Ordinary dicts and lists with string keys, whatever the YAML loader made."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
