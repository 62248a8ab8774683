"""Which class each output of a network stands for."""

import os
from pathlib import Path

from r3d.errors import InputError
from r3d.files import read_json, read_text
from r3d.models.known import Known

OF_ANNOTATION = "annotation"
"""What `class_order` says where the order is that of the annotation."""


def output_classes(
    known: Known, class_order: str | None, annotated: list[str] | None = None
) -> list[str] | None:
    """The class of each output, in the order of the model's own; None if nothing tells.

    Args:
        known: what its file says, and what is known of files of its name.
        class_order: a file that lists the classes, `annotation`, or None if none is given.
        annotated: the classes in the order of the annotation that it is applied to.

    Raises:
        InputError: if the class order cannot be read, or does not fit the model.
    """
    if class_order is None:
        return known.labels
    if class_order != OF_ANNOTATION:
        labels = read_classes(class_order)
    elif annotated is not None:
        labels = annotated
    else:
        raise InputError(
            f"class_order: {OF_ANNOTATION}: there is no annotation here; accepted: a file that "
            "lists the classes"
        )
    if known.states_labels and known.labels is not None and known.labels != labels:
        raise InputError(
            f"class_order: {class_order}: {_difference(labels, known.labels)} of checkpoint "
            f"{known.file}, which states its classes; leave class_order out"
        )
    n_outputs = known.architecture.n_classes
    if len(labels) != n_outputs:
        raise InputError(
            f"class_order: {class_order}: {len(labels)} classes, and checkpoint {known.file} has "
            f"{n_outputs} outputs; give a file that lists those of its training"
        )
    return labels


def annotated_classes(known: Known, labels: list[str] | None, annotated: list[str]) -> list[str]:
    """The classes of the outputs, which must be those of the annotation, in whatever order.

    Raises:
        InputError: if nothing says the order, or the classes are others.
    """
    if labels is None:
        if known.architecture.n_classes == len(annotated) == 1:
            return annotated
        raise InputError(
            f"checkpoint {known.file}: does not say the order of its classes{_remedy(known)}"
        )
    if sorted(labels) != sorted(annotated):
        raise InputError(
            f"checkpoint {known.file}: was trained on other classes than the annotation lists: "
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


def _remedy(known: Known) -> str:
    title = f"; by its name it is {known.title}, whose order nobody knows" if known.title else ""
    return (
        f"{title}; set class_order: to a file that lists them, one a line, or class_order: "
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
