"""Which class each output of a network stands for."""

import logging
import os
from pathlib import Path

from r3d.errors import InputError
from r3d.files import read_json, read_text
from r3d.models.checkpoint import Checkpoint
from r3d.models.describing import describe
from r3d.models.released import released_weights

_log = logging.getLogger(__name__)

OF_ANNOTATION = "annotation"
"""What `class_order` says where the order is that of the annotation."""


def output_classes(
    checkpoint: Checkpoint, annotated: list[str], class_order: str | None, model: Path
) -> list[str]:
    """The class of each output, in the file's own order.

    They need not be those of the annotation: a model gives its own classes to any videos.

    Args:
        annotated: the classes in the order of the annotation.
        class_order: a file that lists the classes, `annotation`, or None if the checkpoint says it.

    Raises:
        InputError: if nothing says the order, or what says it does not fit the checkpoint.
    """
    labels = checkpoint.labels
    if class_order is not None:
        given = annotated if class_order == OF_ANNOTATION else read_classes(class_order)
        if labels is not None and labels != given:
            raise InputError(
                f"class_order: {class_order}: {_difference(given, labels)} of checkpoint {model}, "
                "which states its classes; leave class_order out"
            )
        labels = given
    n_outputs = _n_outputs(checkpoint, model)
    if labels is None:
        if len(annotated) == n_outputs == 1:
            return annotated
        raise InputError(
            f"checkpoint {model}: does not say the order of its {n_outputs} classes"
            f"{_remedy(model, fits=len(annotated) == n_outputs)}"
        )
    if len(labels) != n_outputs:
        raise InputError(
            f"class_order: {class_order}: {len(labels)} classes, and checkpoint {model} has "
            f"{n_outputs} outputs; give a file that lists those of its training"
        )
    n_shared = len(set(labels).intersection(annotated))
    if n_shared < len(annotated):
        _log.info(
            "the %d classes of %s are its own: %d of the %d that the annotation has are among them",
            *(n_outputs, model, n_shared, len(annotated)),
        )
    return labels


def _n_outputs(checkpoint: Checkpoint, model: Path) -> int:
    try:
        return (checkpoint.architecture or describe(checkpoint.state_dict)).n_classes
    except InputError as error:
        raise InputError(f"checkpoint {model}: {error}") from None


def read_classes(path: str | os.PathLike[str]) -> list[str]:
    """The classes in a text file, one a line, or under `labels` in an annotation JSON.

    Raises:
        InputError: if the file cannot be read, or is no such list.
    """
    file = Path(path)
    text = read_text(file)
    if text.lstrip().startswith("{"):
        content = read_json(file)
        labels = content.get("labels")
    else:
        labels = [line.rstrip("\r") for line in text.rstrip().split("\n")]
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(label, str) and label.strip() for label in labels)
    ):
        raise InputError(
            f"class_order {path}: accepted: a text file with one class a line, or an annotation "
            "JSON with its labels"
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"class_order {path}: {twice!r} is listed twice; list each class once")
    return labels


def _remedy(model: Path, *, fits: bool) -> str:
    released = released_weights(model)
    known = ""
    if released is not None:
        orders = ", then ".join(part.order for part in released.class_lists)
        known = f"; by its name it is {released}: {orders}"
    same = (
        f", or class_order: {OF_ANNOTATION} if it was trained on classes in the order of this "
        "annotation"
    )
    return f"{known}; set class_order: to a file that lists them, one a line{same if fits else ''}"


def _difference(one: list[str], other: list[str]) -> str:
    """The first class that two lists differ in, and how many they have."""
    length = min(len(one), len(other))
    index = next((i for i in range(length) if one[i] != other[i]), length)
    names = [repr(labels[index]) if index < len(labels) else "None" for labels in (one, other)]
    return (
        f"class {index} is {names[0]} here and {names[1]} there "
        f"({len(one)} and {len(other)} classes)"
    )
