"""A training and validation set for data that comes without one."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from r3d.errors import InputError
from r3d.lists.base import SplitOptions


def split_subsets(
    labels: Sequence[str], paths: Sequence[str], options: SplitOptions, where: str
) -> list[str]:
    """Assign each video to "training" or "validation".

    Whole groups are assigned, in the order of a hash of seed and group name, such that every class
    comes near to `options.validation_fraction`: a group stays in training where holding it out
    would lead away from that. A class of two or more groups has videos in both subsets as far as
    groups that span several classes allow; none is left without training videos. The result depends
    on the videos and the seed alone, neither on their order nor on the machine. `where` names the
    list in messages.
    """
    if options.validation_fraction == 0 or not paths:
        return ["training"] * len(paths)
    groups = group_names(paths, options.group_pattern, where)
    held_out = _hold_out(groups, labels, options)
    if not held_out:
        raise InputError(
            f"{where}: no class has two groups of videos, so none can be set apart for validation; "
            "name the subsets in the list, change group_pattern or set validation_fraction 0"
        )
    return ["validation" if group in held_out else "training" for group in groups]


def group_names(paths: Sequence[str], pattern: str | None, where: str) -> list[str]:
    """The group of each path; without a pattern the path itself."""
    if pattern is None:
        return list(paths)
    regex = re.compile(pattern)
    names = []
    for path in paths:
        match = regex.search(path)
        if match is None:
            raise InputError(
                f"{where}: group_pattern {pattern!r} is not found in {path!r}; "
                "expected a pattern that every path holds"
            )
        names.append((match[1] if regex.groups else match[0]) or "")
    return names


def _hold_out(groups: Sequence[str], labels: Sequence[str], options: SplitOptions) -> set[str]:
    """The groups for validation."""
    sizes: dict[str, dict[str, int]] = {}  # of each group: number of videos by class
    for (group, label), size in sorted(Counter(zip(groups, labels, strict=True)).items()):
        sizes.setdefault(group, {})[label] = size

    def position(group: str) -> bytes:
        name = f"{options.split_seed} {group}".encode(errors="surrogateescape")
        return hashlib.blake2b(name, digest_size=16).digest()

    order = sorted(sizes, key=lambda group: (position(group), group))
    groups_of: dict[str, list[str]] = {label: [] for label in sorted(set(labels))}
    for group in order:
        for label in sizes[group]:
            groups_of[label].append(group)

    totals = Counter(labels)
    wanted = {label: max(options.validation_fraction * n, 1) for label, n in totals.items()}
    held = dict.fromkeys(totals, 0)
    n_training_groups = {label: len(names) for label, names in groups_of.items()}
    held_out: set[str] = set()

    def can_go(group: str) -> bool:
        return group not in held_out and all(n_training_groups[label] > 1 for label in sizes[group])

    def cost(group: str) -> float:
        """How much holding out a group moves its classes away from the wanted fraction."""
        moves = 0.0
        for label, n in sizes[group].items():
            missing = wanted[label] - held[label]
            moves += (abs(missing - n) - abs(missing)) / totals[label]
        return moves

    def hold(group: str) -> None:
        held_out.add(group)
        for label, n in sizes[group].items():
            held[label] += n
            n_training_groups[label] -= 1

    for group in order:
        if can_go(group) and cost(group) < 0:
            hold(group)
    # Large groups may have left a class without validation videos.
    for label, names in groups_of.items():
        if held[label] == 0 and (candidates := [group for group in names if can_go(group)]):
            hold(min(candidates, key=cost))
    return held_out
