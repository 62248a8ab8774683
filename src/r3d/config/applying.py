"""With which options a trained model is applied: its own, and on top of them what is given.

The one place that decides it, for the commands, the workflow and `r3d.load_model`.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from pydantic import ValidationError

from r3d.config.networks import misfit, misfit_of, network_of, refusal, settings, visible_options
from r3d.config.normalisation import NORMALISATION, input_normalisation
from r3d.config.options import ClipOptions, InferenceOptions
from r3d.errors import InputError
from r3d.models.contents import NORMALISATION_2018
from r3d.models.known import OPTIONS_2018, Known

NORMALISING = ("mean_dataset", "no_mean_norm", "no_std_norm", "value_scale")
"""The options of the normalisation."""

_VIEWED = ("sample_size", "sample_duration", "sample_t_stride", "frozen")
"""The options of a clip that another value may be given for, which is said."""


def applied_options(known: Known, given: Mapping[str, Any]) -> tuple[InferenceOptions, list[str]]:
    """The options to apply a model with, and a line for each thing that is to be said of them.

    Network, size, length and stride of the clips and normalisation are those of its training. A
    size, length or stride that is given is used, and said; another network or normalisation cannot
    be. How clips are taken from a video, what to compute in and what to write is as given.

    Args:
        given: options of `InferenceOptions`, those only that were given.

    Raises:
        InputError: if what is given does not fit the model, or is no option of one.
    """
    accepted = InferenceOptions.model_fields
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise InputError(f"{unknown[0]}: no option of a model; accepted: {', '.join(accepted)}")
    trained = _trained_options(known)
    try:
        own = InferenceOptions.model_validate(trained)
    except ValidationError as error:
        reason = refusal(error)
        raise InputError(
            f"checkpoint {known.file}: what it says of itself is broken ({reason})"
        ) from None
    try:
        options = InferenceOptions.model_validate({**trained, **given})
    except ValidationError as error:
        wrong = [n for n in visible_options(known) if n in given and given[n] != getattr(own, n)]
        if wrong:
            raise InputError(misfit_of(known, given, own, wrong)) from None
        reason = refusal(error)
        raise InputError(f"checkpoint {known.file}: {reason}") from None
    if different := misfit(known, options):
        raise InputError(different)
    options = _normalised(known, own, options, given)
    return options, list(_differences(known, own, options))


def _trained_options(known: Known) -> dict[str, Any]:
    """The options of its training that its file states, or that are known otherwise."""
    stated = {**known.assumed, **known.config}
    names = [name for name in ClipOptions.model_fields if name != "precision"]
    options = {name: stated[name] for name in names if name in stated}
    options |= network_of(known)
    if known.normalisation is not None and not options.keys() & {*NORMALISING}:
        options |= _normalising_options(known)
    return options


def _normalising_options(known: Known) -> dict[str, Any]:
    """The options that give the normalisation which a file states without its options."""
    if known.normalisation == NORMALISATION_2018:
        return OPTIONS_2018
    channels = {"input_type": "flow" if known.architecture.n_input_channels == 2 else "rgb"}
    flags = (False, True)
    for values in product(NORMALISATION, flags, flags, (1, 255)):
        options = dict(zip(NORMALISING, values, strict=True))
        found = input_normalisation(InferenceOptions.model_validate({**channels, **options}))
        if _same_normalisation(found, known.normalisation):
            return options
    return {}


def _same_normalisation(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether two normalisations are equal but for rounding."""
    if other is None:
        return False
    try:
        return one["value_scale"] == other["value_scale"] and all(
            abs(a - b) <= 1e-6 * one["value_scale"]
            for name in ("mean", "std")
            for a, b in zip(one[name], other[name], strict=True)
        )
    except (LookupError, TypeError, ValueError):  # a file may state anything
        return False


def _normalised(
    known: Known, own: InferenceOptions, options: InferenceOptions, given: Mapping[str, Any]
) -> InferenceOptions:
    """The options, if they give the normalisation of the training, as far as that is known."""
    there = known.normalisation
    if there is None and {*NORMALISING} & known.config.keys():
        there = input_normalisation(own)
    if there is None or _same_normalisation(input_normalisation(options), there):
        return options
    different = [name for name in NORMALISING if name in given]
    if not different:
        raise InputError(
            f"checkpoint {known.file}: was trained with the normalisation {there}, which no "
            f"options give; accepted for mean_dataset: {', '.join(NORMALISATION)}"
        )
    raise InputError(
        f"checkpoint {known.file}: {settings(dict(options), different)} gives another "
        f"normalisation than that of its training, {settings(dict(own), NORMALISING)}; set that, "
        f"or leave {', '.join(different)} out"
    )


def _differences(known: Known, own: InferenceOptions, options: InferenceOptions) -> Iterator[str]:
    """What is used otherwise than in the training, in one line."""
    trained = {*known.assumed, *known.config}
    different = [
        name for name in _VIEWED if name in trained and getattr(options, name) != getattr(own, name)
    ]
    if different:
        yield (
            f"checkpoint {known.file}: {settings(dict(options), different)} is used as given; it "
            f"was trained with {settings(dict(own), different)}"
        )
