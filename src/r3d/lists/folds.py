"""Cross-validation: the videos of a list in k folds, each of which is validated on in its turn.

A fold is a split of its own, of a name such as `fold1of5`, beside the official ones of a data set.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from r3d.errors import InputError
from r3d.lists.base import SplitOptions
from r3d.lists.sources import recordings, sources_of
from r3d.lists.splitting import group_names

FORMATS_WITH_FOLDS = ("csv", "folders", "ucf101")
"""Those in which the videos of a split are all that there are, and none is set by for good."""

_NAME = re.compile(r"fold([1-9]\d*)of([1-9]\d*)")


class Fold(NamedTuple):
    """One of several folds, counted from 1."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """The name of its split."""
        return f"fold{self.number}of{self.of}"


def all_folds(n: int) -> tuple[Fold, ...]:
    """All folds of a cross-validation.

    >>> [fold.name for fold in all_folds(2)]
    ['fold1of2', 'fold2of2']
    """
    return tuple(Fold(number, n) for number in range(1, n + 1))


def fold_of(split: str) -> Fold | None:
    """The fold that a split is; None of one that a list states."""
    match = _NAME.fullmatch(split)
    fold = Fold(int(match[1]), int(match[2])) if match else None
    return fold if fold and fold.number <= fold.of else None


def fold_subsets(videos: pd.DataFrame, fold: Fold, options: SplitOptions, where: str) -> list[str]:
    """The subset of each video: validation in the fold, training outside, testing as it was.

    Videos of one group are in one fold: of what `options.group_pattern` finds in their paths, or
    without it what their names tell of their recordings (`r3d.lists.sources`), else of one file.
    The groups are dealt out, large ones first and else in the order of a hash, each to the fold
    that leaves its classes the most evenly divided, and of equally good ones to the one that a hash
    of its name says, but to one without its class where no more groups of that are left than such
    folds. So folds depend on the videos and the seed alone, and a video that is added
    moves few others: those whose fold is full by it.

    Args:
        videos: a checked list, with unique ids.
        where: names the list in messages.

    Raises:
        InputError: if a class has videos in fewer groups than there are folds.
    """
    pool = videos[videos["subset"] != "testing"]
    groups = _groups(pool, options, where)
    dealt = _deal(groups, pool["label"].tolist(), fold.of, options.split_seed, where)
    inside = {
        video
        for video, group in zip(pool["id"], groups, strict=True)
        if dealt[group] == fold.number
    }
    return [
        subset if subset == "testing" else "validation" if video in inside else "training"
        for video, subset in zip(videos["id"], videos["subset"], strict=True)
    ]


def _groups(pool: pd.DataFrame, options: SplitOptions, where: str) -> list[str]:
    paths = pool["path"].tolist()
    if options.group_pattern is not None:
        return group_names(paths, options.group_pattern, where)
    told = recordings(sources_of(pool)).tolist()
    return [
        f"recording {group}" if group else path for group, path in zip(told, paths, strict=True)
    ]


def _deal(
    groups: Sequence[str], labels: Sequence[str], n_folds: int, seed: int, where: str
) -> dict[str, int]:
    """The fold of each group, from 1."""
    sizes: dict[str, dict[str, int]] = {}  # of each group: number of videos by class
    for (group, label), size in sorted(Counter(zip(groups, labels, strict=True)).items()):
        sizes.setdefault(group, {})[label] = size
    n_groups = Counter(label for classes in sizes.values() for label in classes)
    _check_enough(n_groups, n_folds, where)

    def position(text: str) -> bytes:
        name = f"{seed} {text}".encode(errors="surrogateescape")
        return hashlib.blake2b(name, digest_size=16).digest()

    totals = Counter(labels)
    held = {label: [0] * n_folds for label in totals}
    left = n_groups.copy()
    order = sorted(sizes, key=lambda group: (-sum(sizes[group].values()), position(group), group))
    fold_by_group: dict[str, int] = {}
    for group in order:

        def cost(fold: int, classes: dict[str, int] = sizes[group]) -> float:
            """How much its classes are further from being evenly divided, with it in a fold."""
            moves = 0.0
            for label, n in classes.items():
                missing = totals[label] - n_folds * held[label][fold]  # in k-ths: whole numbers
                moves += (abs(missing - n_folds * n) - abs(missing)) / totals[label]
            return moves

        scarce = [label for label in sizes[group] if left[label] <= held[label].count(0)]

        def preference(
            fold: int, group: str = group, scarce: Sequence[str] = scarce
        ) -> tuple[int, bytes]:
            """The lower the better, of folds of equal cost."""
            return sum(held[label][fold] > 0 for label in scarce), position(f"{fold} {group}")

        costs = [cost(fold) for fold in range(n_folds)]
        lowest = min(costs)
        least = [fold for fold in range(n_folds) if costs[fold] == lowest]
        best = min(least, key=preference) if len(least) > 1 else least[0]
        fold_by_group[group] = best + 1
        for label, n in sizes[group].items():
            held[label][best] += n
            left[label] -= 1
    _check_divided(held, n_folds, where)
    return fold_by_group


def _check_enough(n_groups: Counter[str], n_folds: int, where: str) -> None:
    if not n_groups:
        raise InputError(
            f"{where}: folds: {n_folds} need videos of the subsets training or validation, and "
            "there are none"
        )
    label, n = min(n_groups.items(), key=lambda item: (item[1], item[0]))
    if n >= n_folds:
        return
    rare = sum(number < n_folds for number in n_groups.values())
    others = f" ({rare} classes have fewer than {n_folds})" if rare > 1 else ""
    remedy = f"set folds to {n}{' or fewer' if n > 2 else ''}, or " if n > 1 else ""
    raise InputError(
        f"{where}: folds: {n_folds} need videos of each class in {n_folds} groups or more, and "
        f"class {label!r} has them in {n}{others}; {remedy}add videos of other recordings of it, "
        "or take it out of the list (a group is what group_pattern finds in a path, or else a "
        "recording or a file)"
    )


def _check_divided(held: dict[str, list[int]], n_folds: int, where: str) -> None:
    """Refuse what groups of several classes may bring about."""
    for label, counts in held.items():
        if max(counts) == sum(counts):
            raise InputError(
                f"{where}: the groups of its videos leave all of class {label!r} in one of "
                f"{n_folds} folds, which then trains without it; set folds to another number, or "
                "change group_pattern"
            )
    for fold in range(n_folds):
        if not any(counts[fold] for counts in held.values()):
            raise InputError(
                f"{where}: the groups of its videos leave fold {fold + 1} of {n_folds} empty; set "
                "folds to a lower number, or change group_pattern"
            )
