"""A trained network from its file: with its own options and classes, and what is given on top."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r3d.config.applying import applied_options
from r3d.config.options import InferenceOptions
from r3d.frames.form import FrameForm
from r3d.inference.classes import output_classes
from r3d.models.base import VideoModel
from r3d.models.building import build_model
from r3d.models.checkpoint import load_weights, read_checkpoint
from r3d.models.fetching import present_file
from r3d.models.known import Known, known_of


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained network, and what it takes to apply it.

    Attributes:
        file: its checkpoint.
        network: in evaluation mode, on the CPU.
        labels: the classes in the order of the outputs; None if nothing tells.
        options: what to apply it with.
        frames: what the frames that it was trained on were like; None if the file does not say it.
        known: all that is known of the file.
        notes: a line for each thing that is to be said of the options.
    """

    file: Path
    network: VideoModel
    labels: list[str] | None
    options: InferenceOptions
    frames: FrameForm | None
    known: Known
    notes: list[str]


def read_model(
    name: str | os.PathLike[str],
    given: Mapping[str, Any],
    *,
    annotated: list[str] | None = None,
) -> LoadedModel:
    """Read a trained network with all that is known of it.

    Args:
        name: a file, or the name of one (`r3d.models.naming.find_file`).
        given: options that were given (`r3d.config.networks.given_options`).
        annotated: the classes of the annotation that it is applied to, if there is one.

    Raises:
        InputError: if there is no such model, it is no checkpoint, or what is given does not fit.
    """
    file = present_file(name)
    checkpoint = read_checkpoint(file)
    known = known_of(checkpoint, file)
    options, notes = applied_options(known, given)
    labels = output_classes(known, options.class_order, annotated)
    network = build_model(n_classes=known.architecture.n_classes, **options.network())
    load_weights(network, checkpoint.state_dict, file, architecture=checkpoint.architecture)
    frames = FrameForm.of_dict(known.frames)
    return LoadedModel(file, network.eval(), labels, options, frames, known, notes)
