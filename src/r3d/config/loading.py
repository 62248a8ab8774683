"""A parsed config or a YAML file -> a checked `Config`, or a line for each thing that is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from r3d.config.checks import misfits
from r3d.config.config import Config, Experiment
from r3d.config.messages import problems, unknown_key
from r3d.config.options import AS_WRITTEN
from r3d.config.starts import with_networks
from r3d.config.yamlfile import read_yaml
from r3d.errors import InputError


def load_config(raw: Mapping[str, Any]) -> Config:
    """Validate a parsed config as a person has written it, expand its paths and fill in defaults.

    Raises:
        InputError: with a line for each key that is wrong, its value and what is accepted.
    """
    config, found = examine(raw)
    if config is None or found:
        raise InputError("\n".join(found))
    return config


def examine(raw: Mapping[str, Any]) -> tuple[Config | None, list[str]]:
    """A parsed config without the sections that are wrong, and a line for each thing that is.

    So what is right can be checked further, and everything be said at once. None if too little is
    left to be a config.
    """
    raw = {key: value for key, value in raw.items() if value is not None}
    defaults = raw.pop("defaults", {})
    found = []
    if not isinstance(defaults, Mapping):
        found.append(f"config: defaults: {defaults!r} must be a mapping of experiment options")
        defaults, raw["experiments"] = {}, {}
    unknown = [key for key in defaults if key not in Experiment.model_fields]
    found += [unknown_key(("defaults", key), defaults[key], Experiment) for key in unknown]
    defaults = {key: value for key, value in defaults.items() if key not in unknown}
    own = raw.get("experiments", {})
    if isinstance(own, Mapping):
        raw["experiments"] = {
            name: {**defaults, **(options or {})} if isinstance(options or {}, Mapping) else options
            for name, options in own.items()
        }
    plain = _plain(raw)
    _name_starts(plain)
    try:
        config = Config.model_validate(plain, context=AS_WRITTEN)
    except ValidationError as error:
        found += problems(error, plain, _plain(own))
        try:
            config = Config.model_validate(_without_faults(plain, error), context=AS_WRITTEN)
        except ValidationError:
            return None, found
    return with_networks(config), found + [f"config: {misfit}" for misfit in misfits(config)]


def _name_starts(raw: dict[str, Any]) -> None:
    """Make a `pretrain_path` that names an experiment the `pretrain` that it stands for."""
    experiments = raw.get("experiments")
    if not isinstance(experiments, dict):
        return
    for options in experiments.values():
        start = options.get("pretrain_path") if isinstance(options, dict) else None
        # With a split after it, perhaps, as scratch/01.
        if not isinstance(start, str) or start.partition("/")[0] not in experiments:
            continue
        if not Path(start).is_file() and options.get("pretrain") is None:
            del options["pretrain_path"]
            options["pretrain"] = start


def read_config(path: str | Path) -> Config:
    """Load a config from a YAML file.

    Raises:
        InputError: if the file is absent, is not YAML, has no keys or holds wrong values.
    """
    return load_config(read_yaml(Path(path)))


def _without_faults(raw: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """A config without the sections in which a validation found faults, and what refers to them."""
    rest = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    gone: dict[Any, set[Any]] = {"datasets": set(), "experiments": set()}
    for location in (item["loc"] for item in error.errors()):
        match location:
            case (("datasets" | "merged" | "experiments") as kind, name, *_):
                gone["experiments" if kind == "experiments" else "datasets"].add(name)
                rest[kind].pop(name, None)
            case (key, *_):
                rest.pop(str(key), None)
    for name, parts in list(rest.get("merged", {}).items()):
        if gone["datasets"].intersection(parts):
            gone["datasets"].add(name)
            del rest["merged"][name]
    experiments = rest.get("experiments", {})
    while True:
        lost = {
            name
            for name, options in experiments.items()
            if options.get("dataset") in gone["datasets"]
            or str(options.get("pretrain")).partition("/")[0] in gone["experiments"]
        }
        if not lost:
            return rest
        gone["experiments"] |= lost
        for name in lost:
            del experiments[name]


def _plain(value: Any) -> Any:
    """Ordinary dicts and lists with string keys, whatever the YAML loader made."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
