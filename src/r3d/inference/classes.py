"""Which class each output of a network stands for."""

import os
from pathlib import Path

from r3d.errors import InputError
from r3d.files import read_json, read_text
from r3d.models.checkpoint import Checkpoint
from r3d.models.released import released_weights

OF_ANNOTATION = "annotation"
"""What `class_order` says where the order is that of the annotation."""


def output_classes(
    checkpoint: Checkpoint, annotated: list[str], class_order: str | None, model: Path
) -> list[str]:
    """The class of each output, in the file's own order, which may differ from the annotation's.

    Args:
        annotated: the classes in the order of the annotation.
        class_order: a file that lists the classes, `annotation`, or None if the checkpoint says it.

    Raises:
        InputError: if nothing says the order, or the classes are not those of the annotation.
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
    if labels is None:
        if len(annotated) == 1:
            return annotated
        raise InputError(
            f"checkpoint {model}: does not say the order of its classes{_remedy(model)}"
        )
    if sorted(labels) != sorted(annotated):
        source = f"checkpoint {model}" if checkpoint.labels else f"class_order {class_order}"
        raise InputError(
            f"{source}: was trained on other classes than the annotation lists: "
            f"{_difference(labels, annotated, 'there', 'here')}"
        )
    return labels


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


def _remedy(model: Path) -> str:
    released = released_weights(model)
    known = ""
    if released is not None:
        orders = ", then ".join(part.order for part in released.class_lists)
        known = f"; by its name it is {released}: {orders}"
    return (
        f"{known}; set class_order: to a file that lists them, one a line, or class_order: "
        f"{OF_ANNOTATION} if it was trained on classes in the order of this annotation"
    )


def _difference(one: list[str], other: list[str], there: str = "here", here: str = "there") -> str:
    """The first class that two lists differ in, and how many they have."""
    length = min(len(one), len(other))
    index = next((i for i in range(length) if one[i] != other[i]), length)
    names = [repr(labels[index]) if index < len(labels) else "None" for labels in (one, other)]
    return (
        f"class {index} is {names[0]} {there} and {names[1]} {here} "
        f"({len(one)} and {len(other)} classes)"
    )
