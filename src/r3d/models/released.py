"""The weight files that the reference's authors released: 17 of 2020, and those of 2018.

Every one of 2020 (Kataoka et al., arXiv:2004.04968) is a 3D ResNet trained for 200 epochs on
Kinetics-700, Moments in Time, STAIR-Actions, or on merged data sets. The outputs of a merged
network are the classes of its data sets, one list after the other. Those of 2018 (Hara et al.,
CVPR) are networks of several families, trained on Kinetics-400.

The files name no classes. The lists here (`classes/`) come from what was published about them;
`released_table` says what each rests on.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from r3d.models.architectures import MODEL_DEPTHS, Architecture

MODELS_FOLDER = Path("models")
"""Where a model that is given by its name is looked for, as `<name>.pth`."""

FRAMES_OF_RELEASED: dict[str, Any] = {"short_side": 240}
"""What the frames behind the released files were like, as the authors' scripts make them."""

_CLASSES = Path(__file__).parent / "classes"
_FILES_2020 = "https://drive.google.com/open?id=1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"
_FILES_2018 = "https://drive.google.com/drive/folders/1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M"


@dataclass(frozen=True)
class ClassList:
    """The classes of one data set, as a released network numbers them.

    Attributes:
        letter: what stands for the data set in the names of the files.
        name: the data set.
        n_classes: how many classes it has.
        file: of this package, with the classes in their order; "" if the order is unknown.
        order: which order that is, and what it rests on.
    """

    letter: str
    name: str
    n_classes: int
    file: str
    order: str

    def labels(self, *, merged: bool) -> list[str]:
        """The classes in their order, numbers where it is unknown.

        Args:
            merged: whether they are some of the classes of a network: then they begin with their
                letter, as 39 names are both of Kinetics-700 and of Moments in Time.

        >>> MOMENTS_IN_TIME.labels(merged=True)[:2]
        ['M_smiling', 'M_kissing']
        """
        names = _lines(self.file) if self.file else [str(i) for i in range(self.n_classes)]
        return [f"{self.letter}_{name}" for name in names] if merged else list(names)


KINETICS_700 = ClassList(
    "K",
    "Kinetics-700",
    700,
    "kinetics700.txt",
    "the order of the authors' annotation file, which is not that of the alphabet; "
    "332 of the 700 places are confirmed by what the authors told (numbers 0-61, 184-246, 291-362, "
    "456-520, 597-666), the other 368 rest on one list that others published for r3d18_KM",
)
MOMENTS_IN_TIME = ClassList(
    "M",
    "Moments in Time",
    339,
    "mit339.txt",
    "the order of the authors' annotation file, not that of moments_categories.txt; 90 of the 339 "
    "places are confirmed by what the authors told (numbers 48-137), the other 249 rest on one "
    "list that others published for r3d18_KM",
)
STAIR_ACTIONS = ClassList(
    "S", "STAIR-Actions", 100, "", "the order is unknown: its classes are numbers here, S_0 to S_99"
)
KINETICS_400 = ClassList(
    "",
    "Kinetics-400",
    400,
    "kinetics400.txt",
    "the order of the alphabet, as the authors' program for these files lists them",
)

_CLASS_LISTS = {part.letter: part for part in (KINETICS_700, MOMENTS_IN_TIME, STAIR_ACTIONS)}

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

    @property
    def labels(self) -> list[str] | None:
        """The classes in the order of the outputs; None if no order is known of any."""
        if not any(part.file for part in self.class_lists):
            return None
        merged = len(self.class_lists) > 1
        return [label for part in self.class_lists for label in part.labels(merged=merged)]

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


# resnet-34-kinetics.pth, resnet-18-kinetics-cpu.pth, resnext-101-64f-kinetics-hmdb51_split1.pth
_NAME_2018 = re.compile(r"([a-z]+)-(\d+)(?:-(\d+)f)?-kinetics(?:-\w+)?\.pth")


@dataclass(frozen=True)
class WeightsOf2018:
    """What the name of a file of 2018 says: family, depth and the frames of a clip."""

    model: str
    model_depth: int
    sample_duration: int


def weights_of_2018(path: str | os.PathLike[str]) -> WeightsOf2018 | None:
    """What is known of a file by its name: `None` unless it is called as one of 2018.

    >>> weights_of_2018("models/resnext-101-64f-kinetics.pth")
    WeightsOf2018(model='resnext', model_depth=101, sample_duration=64)
    """
    match = _NAME_2018.fullmatch(PurePath(path).name)
    if match is None or int(match[2]) not in MODEL_DEPTHS.get(match[1], ()):
        return None
    return WeightsOf2018(match[1], int(match[2]), int(match[3] or 16))


_ABOUT_FILES = f"""\
The authors publish them in two folders. They are downloaded by hand, as the files have no address
that stays:
  2020: {_FILES_2020}
  2018 (resnet-50-kinetics.pth, resnext-101-64f-kinetics.pth, ...): {_FILES_2018}
Put them into the folder {MODELS_FOLDER}/ under their names. Then r3d50_K_200ep names a model: for
r3d predict, features, export, info and infer, pretrain_path and r3d.load_model. Network,
normalisation and classes come with the name; no option and no class_order is needed."""
_ABOUT_CLASSES = """\
The files do not name their classes. These orders are not confirmed by an accuracy on labelled
videos; a class_order that is given counts instead."""
_ABOUT_MERGED = """\
Merged: one list after the other, as the authors told for KM; for KS, MS and KMS this follows from
their names and numbers of classes only. The names begin with the letter of their data set
(K_sewing, M_sewing), as 39 occur in both Kinetics-700 and Moments in Time.
Of 2018: a file with 400 outputs has the classes of Kinetics-400; a ResNet is known to be of then by
its name, or by the counters of batches that it lacks."""


def released_table() -> str:
    """The released files for reading: networks, class counts and lists, where to get them."""
    rows = [("file", "network", "classes", "outputs: the classes of")]
    for weights in RELEASED.values():
        network = weights.architecture
        names = ", then ".join(part.name for part in weights.class_lists)
        rows.append((weights.file, network.name, str(network.n_classes), names))
    rows.append(("<network>-kinetics.pth", "of 2018", "400", KINETICS_400.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    orders = [
        f"{part.name} ({part.n_classes}): {part.order}."
        for part in (*_CLASS_LISTS.values(), KINETICS_400)
    ]
    return "\n".join([*lines, "", _ABOUT_FILES, "", _ABOUT_CLASSES, *orders, _ABOUT_MERGED])


def released_weights(path: str | os.PathLike[str]) -> ReleasedWeights | None:
    """What is known of a file by its name: `None` unless it is called as a released one of 2020."""
    return RELEASED.get(PurePath(path).name)


@cache
def _lines(file: str) -> tuple[str, ...]:
    return tuple((_CLASSES / file).read_text(encoding="utf-8").splitlines())
