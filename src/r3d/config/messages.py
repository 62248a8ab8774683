"""What is said of a config that is refused: the key, its value and what is accepted."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from r3d.config.config import Config, Dataset, Experiment, Rendering
from r3d.config.options import Resources


def one_line(error: ValidationError, own: Mapping[str, Any] | None = None) -> str:
    """The first problem of a validation as `config: key: value: what is accepted`.

    Args:
        own: the experiments of a config without the defaults that were added to them.
    """
    first = error.errors()[0]
    location, value = first["loc"], first["input"]
    if first["type"] == "extra_forbidden":
        return unknown_key(location, value, _section_at(location[:-1]))
    match location:
        case ("experiments", name, key, *rest) if own and key not in (own[str(name)] or {}):
            location = ("defaults", key, *rest) if first["type"] != "missing" else location
    where = ".".join(str(part) for part in location)
    if first["type"] == "value_error":  # raised by the checks of the sections, which name the key
        return f"config: {'.'.join(filter(None, [where, str(first['ctx']['error'])]))}"
    if first["type"] == "missing":
        return f"config: {where}: this key is required"
    problem = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "string_type" and isinstance(value, int | float):
        problem += f'; put it in quotes, as "{value}"'
    return f"config: {where}: {value!r} is refused: {problem}"


def unknown_key(location: tuple[int | str, ...], value: Any, section: type[BaseModel]) -> str:
    """That a key is none of those of a section, and which one may be meant."""
    key = str(location[-1])
    accepted = list(section.model_fields)
    if section is Config:
        accepted.append("defaults")
    close = difflib.get_close_matches(key, accepted, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    where = ".".join(str(part) for part in location)
    return (
        f"config: {where}: unknown key, given {value!r}{hint}; "
        f"accepted: {', '.join(sorted(accepted))}"
    )


def _section_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    """The section class that a location inside the config points to."""
    match location:
        case ("datasets", _, "render"):
            return Rendering
        case ("datasets", *_):
            return Dataset
        case ("experiments", _, "resources"):
            return Resources
        case ("experiments", *_):
            return Experiment
    return Config
