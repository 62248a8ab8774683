"""The 17 weight files that the reference's authors released (Kataoka et al., arXiv:2004.04968).

Every one is a 3D ResNet trained for 200 epochs on Kinetics-700, Moments in Time, STAIR-Actions, or
on merged data sets. The outputs of a merged network are the classes of its data sets, one list
after the other.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from r3d.models.architectures import Architecture


@dataclass(frozen=True)
class ClassList:
    """The classes of one data set, as a released network numbers them.

    Attributes:
        name: the data set.
        n_classes: how many classes it has.
        order: which file the classes come from, and in which order.
    """

    name: str
    n_classes: int
    order: str


KINETICS_700 = ClassList(
    "Kinetics-700", 700, "order of first appearance in the official training list of Kinetics-700"
)
MOMENTS_IN_TIME = ClassList("Moments in Time", 339, "order of moments_categories.txt")
STAIR_ACTIONS = ClassList(
    "STAIR-Actions", 100, "the 100 class names of STAIR-Actions; the authors state no order"
)

_CLASS_LISTS = {"K": KINETICS_700, "M": MOMENTS_IN_TIME, "S": STAIR_ACTIONS}

_TRAINED_ON = {
    18: ("K", "KM"),
    34: ("K", "KM"),
    50: ("K", "KM", "KMS", "KS", "M", "MS", "S"),
    101: ("K", "KM"),
    152: ("K", "KM"),
    200: ("K", "KM"),
}


@dataclass(frozen=True)
class ReleasedWeights:
    """A released file: its name, its network and the class lists that make up the outputs."""

    file: str
    architecture: Architecture
    class_lists: tuple[ClassList, ...]

    def __str__(self) -> str:
        names = " and ".join(class_list.name for class_list in self.class_lists)
        return f"the released {self.architecture.name} of {names}"

    def misfit(self, options: Mapping[str, Any]) -> str:
        """Which of the options of a network differs, with both values; "" if none does.

        >>> RELEASED["r3d18_K_200ep.pth"].misfit({"model": "resnet", "model_depth": 50})
        'model_depth: 50 does not fit, it has model_depth: 18'
        """
        for option, here in options.items():
            there = getattr(self.architecture, option)
            if here != there:
                return f"{option}: {here} does not fit, it has {option}: {there}"
        return ""


def _released(depth: int, datasets: str) -> ReleasedWeights:
    class_lists = tuple(_CLASS_LISTS[letter] for letter in datasets)
    n_classes = sum(class_list.n_classes for class_list in class_lists)
    return ReleasedWeights(
        file=f"r3d{depth}_{datasets}_200ep.pth",
        architecture=Architecture(model="resnet", model_depth=depth, n_classes=n_classes),
        class_lists=class_lists,
    )


RELEASED: dict[str, ReleasedWeights] = {
    weights.file: weights
    for depth, trained_on in _TRAINED_ON.items()
    for weights in (_released(depth, datasets) for datasets in trained_on)
}


def released_table() -> str:
    """The released files for reading: options of the network, class count, class lists."""
    rows = [("file", "options", "classes", "outputs: the classes of")]
    for weights in RELEASED.values():
        network = weights.architecture
        options = f"--model {network.model} --model_depth {network.model_depth}"
        names = ", then ".join(class_list.name for class_list in weights.class_lists)
        rows.append((weights.file, options, str(network.n_classes), names))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    sources = [
        f"{class_list.name} ({class_list.n_classes}): {class_list.order}"
        for class_list in _CLASS_LISTS.values()
    ]
    return "\n".join([*lines, "", *sources])


def released_weights(path: str | os.PathLike[str]) -> ReleasedWeights | None:
    """What is known of a file by its name: `None` unless it is called as a released one."""
    return RELEASED.get(PurePath(path).name)
