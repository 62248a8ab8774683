"""The network of a model as options: what is not given of it, and what does not fit it."""

import reprlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from r3d.config.normalisation import NORMALISING, normalising_options
from r3d.config.options import ModelOptions, Section
from r3d.errors import InputError
from r3d.models.describing import same_widths
from r3d.models.known import Known

_Options = TypeVar("_Options", bound=ModelOptions)


def given_options(options: Section) -> dict[str, Any]:
    """The options that were given, be it at their defaults: those of a config or a command."""
    return {name: getattr(options, name) for name in options.model_fields_set}


def misfit(known: Known, options: ModelOptions, *, whole: bool = False) -> str:
    """Which of the options of a network that were given differ from those of a model; "" if none.

    >>> misfit(read_known("model.pth"), TrainingOptions(model_depth=50))
    'checkpoint model.pth: model_depth: 50 does not fit, its network has model_depth: 18; set ...'

    Args:
        whole: whether those that were not given count, too: they are at their defaults.
    """
    own = ModelOptions(**network_of(known))
    different = [
        name
        for name in visible_options(known)
        if (whole or name in options.model_fields_set)
        and getattr(options, name) != getattr(own, name)
    ]
    if different == ["resnet_widen_factor"]:
        wanted = replace(known.architecture, resnet_widen_factor=options.resnet_widen_factor)
        if same_widths(wanted, known.architecture):
            return ""
    if not different:
        return ""
    return misfit_of(known, dict(options), own, different, given=options.model_fields_set)


def misfit_of(
    known: Known,
    options: Mapping[str, Any],
    own: ModelOptions,
    different: list[str],
    *,
    given: Collection[str],
) -> str:
    """That options which are `different` do not fit the model, whose own are given, too."""
    also = f"; it is {known.title}" if known.title else ""
    leave = f", or leave {', '.join(different)} out" if {*different} <= {*given} else ""
    return (
        f"checkpoint {known.file}: {settings(options, different)} does not fit, its network "
        f"has {settings(dict(own), different)}; set that{leave}{also}"
    )


def with_start(options: _Options, known: Known) -> _Options:
    """Options of which those of network and normalisation are those of a model to start from.

    Those that are given stay; of the normalisation all, if one of them is.

    Raises:
        InputError: if its network is not the one that is given, or does not go with the options.
    """
    if different := misfit(known, options):
        raise InputError(different)
    return with_these(options, {**network_of(known), **normalising_options(known)})


def with_these(options: _Options, start: Mapping[str, Any]) -> _Options:
    """Options of which those of `start` that were not given are as it has them.

    Raises:
        InputError: if what is given does not go with them.
    """
    settled = set(options.model_fields_set)
    if not settled.isdisjoint(NORMALISING):  # whoever gives one knows of the others
        settled |= {*NORMALISING}
    missing = {name: start[name] for name in start.keys() - settled}
    try:
        return type(options).model_validate({**missing, **given_options(options)})
    except ValidationError as error:
        raise InputError(refusal(error)) from None


def network_of(known: Known) -> dict[str, Any]:
    """The network of a model as options of `ModelOptions`."""
    network = asdict(known.architecture)
    options = {name: network[name] for name in ModelOptions.model_fields if name in network}
    return {**options, "input_type": "flow" if network["n_input_channels"] == 2 else "rgb"}


def visible_options(known: Known) -> list[str]:
    """The options that decide its network and of which its file, or its weights, tell."""
    silent = () if known.states_architecture else ("conv1_t_stride", "no_max_pool")
    return [name for name in ModelOptions.model_fields if name not in silent]


def settings(options: Mapping[str, Any], names: Iterable[str]) -> str:
    """Options with their values as in the config file."""
    values = {name: options[name] for name in names}
    return ", ".join(
        f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
        for name, value in values.items()
    )


def refusal(error: ValidationError) -> str:
    """The first thing that a validation of options found wrong, in one line."""
    item = error.errors()[0]
    if item["type"] == "value_error":  # raised by the checks of the sections, which name the option
        return str(item["ctx"]["error"]).split("\n")[0]
    name = ".".join(map(str, item["loc"]))
    return f"{name}: {reprlib.repr(item['input'])} is refused: {item['msg']}"
