"""With which options a trained model is applied: its own, and on top of them what is given.

The one place that decides it, for the commands, the workflow and `r3d.load_model`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from r3d.config.networks import misfit, misfit_of, network_of, refusal, settings, visible_options
from r3d.config.normalisation import (
    NORMALISATION,
    NORMALISING,
    input_normalisation,
    normalising_options,
    same_normalisation,
)
from r3d.config.options import ClipOptions, InferenceOptions, ModelOptions
from r3d.errors import InputError
from r3d.models.known import Known

VIEW = ("sample_size", "sample_duration", "sample_t_stride")
"""The options of a clip that every training has, be it of another program."""

_VIEWED = (*VIEW, "frozen")
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
            raise InputError(misfit_of(known, given, own, wrong, given=given)) from None
        reason = refusal(error)
        raise InputError(f"checkpoint {known.file}: {reason}") from None
    if different := misfit(known, options):
        raise InputError(different)
    options = _normalised(known, own, options, given)
    return options, [*_differences(known, own, options), *_assumptions(known, options, given)]


def _trained_options(known: Known) -> dict[str, Any]:
    """The options of its training that its file states, or that are known otherwise."""
    stated = {**known.assumed, **known.config}
    names = [name for name in ClipOptions.model_fields if name != "precision"]
    options = {name: stated[name] for name in names if name in stated}
    return {**options, **network_of(known), **normalising_options(known)}


def _normalised(
    known: Known, own: InferenceOptions, options: InferenceOptions, given: Mapping[str, Any]
) -> InferenceOptions:
    """The options, if they give the normalisation of the training, as far as that is known."""
    there = known.normalisation
    if there is None and {*NORMALISING} & known.config.keys():
        there = input_normalisation(own)
    if there is None or same_normalisation(input_normalisation(options), there):
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


def assumed_options(known: Known) -> list[str]:
    """The options that a model was trained with and that neither its file nor its name tells."""
    told = {*known.assumed, *known.config}
    names = [name for name in VIEW if name not in told]
    if known.normalisation is None and told.isdisjoint(NORMALISING):
        names += NORMALISING
    if not known.title:  # the networks of files that are known by it are known, too
        visible = visible_options(known)
        names += [name for name in ModelOptions.model_fields if name not in visible]
    return names


def _assumptions(
    known: Known, options: InferenceOptions, given: Mapping[str, Any]
) -> Iterator[str]:
    """What is used because nothing says what the training had, in one line."""
    names = assumed_options(known)
    if given.keys() & {*NORMALISING}:  # whoever gives one knows of the others
        names = [name for name in names if name not in NORMALISING]
    names = [name for name in names if name not in given]
    if names:
        yield (
            f"checkpoint {known.file}: does not say all that it was trained with; assumed: "
            f"{settings(dict(options), names)}; give the option of what was otherwise"
        )


def _differences(known: Known, own: InferenceOptions, options: InferenceOptions) -> Iterator[str]:
    """What is used otherwise than in the training, in one line."""
    trained = {*known.assumed, *known.config}
    # Where the file itself tells the normalisation, another is refused.
    normalising = [] if known.normalisation else [n for n in NORMALISING if n in known.assumed]
    different = [
        name
        for name in (*_VIEWED, *normalising)
        if name in trained and getattr(options, name) != getattr(own, name)
    ]
    if different:
        yield (
            f"checkpoint {known.file}: {settings(dict(options), different)} is used as given; it "
            f"was trained with {settings(dict(own), different)}"
        )
