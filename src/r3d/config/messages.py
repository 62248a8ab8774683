"""What is said of a config that is refused: the key, its value and what is accepted."""

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from r3d.config.config import Config, Dataset, Experiment, Rendering
from r3d.config.options import Resources
from r3d.lists import FORMATS

Location = tuple[int | str, ...]


def problems(
    error: ValidationError,
    raw: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> list[str]:
    """Each problem of a validation as `config: key: value: what is accepted`.

    Args:
        raw: the config that was validated.
        own: its experiments without the defaults that were added to them.
    """
    found: dict[Any, str] = {}  # what comes from the defaults once, not for each experiment
    for item in error.errors():
        for line in _lines(item, raw or {}, own):
            found.setdefault(_origin(item, line, own), line)
    return list(found.values())


def _origin(item: ErrorDetails, line: str, own: Mapping[str, Any] | None) -> str:
    """A problem without the experiment in which it shows, if it lies in options of all of them."""
    match item["loc"]:
        case ("experiments", name) if own and item["type"] == "value_error":
            at = f"config: experiments.{name}."
            key = line.removeprefix(at).partition(":")[0]
            return line if key in (own[str(name)] or {}) else line.removeprefix(at)
    return line


def one_line(error: ValidationError) -> str:
    """The first of the `problems`."""
    return problems(error)[0]


def _lines(
    item: ErrorDetails, raw: Mapping[str, Any], own: Mapping[str, Any] | None
) -> Iterator[str]:
    location, value = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        yield unknown_key(location, value, _section_at(location[:-1]))
        return
    written = location
    match location:
        case ("experiments", name, key, *rest) if own and key not in (own[str(name)] or {}):
            written = ("defaults", key, *rest) if item["type"] != "missing" else location
    where = ".".join(str(part) for part in written)
    if item["type"] == "value_error":  # raised by the checks of the sections, which name the key
        for line in str(item["ctx"]["error"]).split("\n"):
            yield f"config: {'.'.join(filter(None, [where, line]))}"
        return
    if item["type"] == "missing":
        yield f"config: {where}: this key is required"
        return
    problem = item["msg"][0].lower() + item["msg"][1:]
    if item["type"] == "string_type" and not isinstance(value, dict | list | None):
        problem += f"; {_in_quotes(location, value, raw)}"
    yield f"config: {where}: {_repr(value)} is refused: {problem}"


def _in_quotes(location: Location, value: Any, raw: Mapping[str, Any]) -> str:
    """How to write a text that YAML takes for something else."""
    if "splits" not in location[2:3] or not isinstance(value, int):
        return "put what stands there in quotes"
    accepted = _splits_at(location, raw)
    meant = [name for name in accepted if name.isdecimal() and int(name) == value]
    if not meant:
        return f"accepted, in quotes: {', '.join(map(_quoted, accepted))}"
    made = "" if meant[0] == str(value) else f" (YAML makes {value} of {meant[0]})"
    return f"put it in quotes, as {_quoted(meant[0])}{made}"


def _splits_at(location: Location, raw: Mapping[str, Any]) -> list[str]:
    """The splits that a location may name: of the format of its data set, of all if it has none."""
    section, name, *_ = location
    datasets = raw.get("datasets", {})
    try:
        if section == "experiments":
            name = raw[section][name]["dataset"]
            if name in raw.get("merged", {}):
                return ["all"]
        return list(FORMATS[datasets[name]["format"]].splits)
    except (LookupError, TypeError):
        return list(dict.fromkeys(name for known in FORMATS.values() for name in known.splits))


def _quoted(text: str) -> str:
    return f'"{text}"'


def unknown_key(location: Location, value: Any, section: type[BaseModel]) -> str:
    """That a key is none of those of a section, and which one may be meant."""
    key = str(location[-1])
    accepted = list(section.model_fields)
    if section is Config:
        accepted.append("defaults")
    close = difflib.get_close_matches(key, accepted, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    where = ".".join(str(part) for part in location)
    return (
        f"config: {where}: unknown key, given {_repr(value)}{hint}; "
        f"accepted: {', '.join(sorted(accepted))}"
    )


def _section_at(location: Location) -> type[BaseModel]:
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


def _repr(value: Any) -> str:
    """A value, shortened; Python does not spell out numbers of thousands of digits."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"
