"""The annotation JSON, which is the reference's, as it stands in a file.

Most data sets:

    {"labels": [...], "database": {<id>: {"subset": ..., "annotations": {"label": ...,
    "segment": [begin, end]}}}}

with the frames begin <= i < end, numbered as the store numbers them: from 1 for jpg, from 0 for
hdf5. A video without frames has no segment, one of unknown class no label; `video_path` in an entry
says where its frames are, if not at the usual place.

ActivityNet: the official JSON, whose segments are in seconds, with `fps` for each video, and with
`frames`, the [begin, end] of the whole video, which the reference finds out by listing the folder.
"""

import math
from pathlib import Path
from typing import Any

from r3d.errors import InputError
from r3d.files import read_json
from r3d.lists.activitynet import leaf_labels
from r3d.lists.checking import check_classes


def load_annotation(path: Path) -> dict[str, Any]:
    """A JSON with labels or taxonomy and a database, of which the insides are not checked."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("database"), dict):
        raise InputError(f"{path}: no annotation JSON; expected an object with 'database'")
    return data


def classes_of(data: dict[str, Any], path: Path) -> list[str]:
    """The classes of an annotation in the order of the model's outputs.

    None at all are those of videos of unknown class, to which a model can only be applied.
    """
    if "taxonomy" in data:
        labels = leaf_labels(data, path)
    else:
        labels = data.get("labels", [None])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(
                f"{path}: expected 'labels', a list of texts (or ActivityNet's 'taxonomy')"
            )
    if labels:
        check_classes(labels, str(path))
    return labels


def label_of(annotation: Any) -> str | None:
    """The class that an annotation states, None or "" where it is unknown.

    Raises:
        TypeError: if it is no text.
    """
    label = annotation.get("label")
    if not (label is None or isinstance(label, str)):
        raise TypeError("the label is no text")
    return label


def is_rate(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf


def is_number(value: Any) -> bool:
    """Whether a value is a number: a text or list times a number would be one as long."""
    return isinstance(value, int | float) and not isinstance(value, bool)


UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What the insides of an entry raise that are not as they should be."""
