"""The metrics of the ActivityNet challenge's untrimmed classification: mean AP, Hit@k, Avg Hit@k.

The semantics are those of the challenge's evaluation code (Caba Heilbron et al., ActivityNet, CVPR
2015): a video may have several classes, and every stored score of a class counts for its AP.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

Truth = Mapping[str, Collection[str]]
"""The classes of each listed video, at least one."""

Ranking = Mapping[str, Sequence[tuple[str, float]]]
"""The scored classes of each video with a result, best first, each class once."""


def mean_average_precision(truth: Truth, ranking: Ranking) -> float:
    """The mean over the classes that occur in `truth` of their interpolated average precision.

    The results of a class, best first (equal scores in the order of the videos), are its
    detections. Average precision is the area under the curve of the best precision at this recall
    or higher. A listed video without a result, or in whose result the class is absent, is missed; a
    result of a video that is not listed is a false detection.

    >>> truth = {"a": ["run"], "b": ["run"], "c": ["swim"]}
    >>> ranking = {"a": [("run", 0.9)], "b": [("run", 0.2)], "c": [("run", 0.5), ("swim", 0.4)]}
    >>> mean_average_precision(truth, ranking)  # run: (1/1 + 2/3) / 2, swim: 1
    0.9166666666666666
    """
    n_positives: dict[str, int] = {}
    for labels in truth.values():
        for label in set(labels):
            n_positives[label] = n_positives.get(label, 0) + 1
    scores: dict[str, list[float]] = {label: [] for label in n_positives}
    hits: dict[str, list[bool]] = {label: [] for label in n_positives}
    for video, ranked in ranking.items():
        for label, score in ranked:
            if label in n_positives:
                scores[label].append(score)
                hits[label].append(label in truth.get(video, ()))
    precisions = [
        _average_precision(np.array(scores[label]), np.array(hits[label], dtype=bool), n)
        for label, n in n_positives.items()
    ]
    return float(np.mean(precisions))


def _average_precision(scores: np.ndarray, hits: np.ndarray, n_positives: int) -> float:
    hits = hits[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by one positive at each hit and stays in between.
    return float(best_from_here[hits].sum() / n_positives)


def hit_at_k(truth: Truth, ranking: Ranking, k: int) -> float:
    """Hit@k: the share of the listed videos with any of their classes among the k best.

    A video without a result has no hit.

    >>> truth, ranking = {"a": ["run", "swim"], "b": ["run"]}, {"a": [("run", 0.9), ("fly", 0.1)]}
    >>> hit_at_k(truth, ranking, 1), avg_hit_at_k(truth, ranking, 1)
    (0.5, 0.25)
    """
    return float(np.mean([part > 0 for part in _parts_among_best(truth, ranking, k)]))


def avg_hit_at_k(truth: Truth, ranking: Ranking, k: int) -> float:
    """Avg Hit@k: the mean over the listed videos of the part of their classes among the k best."""
    return float(np.mean(_parts_among_best(truth, ranking, k)))


def _parts_among_best(truth: Truth, ranking: Ranking, k: int) -> list[float]:
    parts = []
    for video, labels in truth.items():
        best = {label for label, _ in ranking.get(video, ())[:k]}
        wanted = set(labels)
        parts.append(len(wanted & best) / len(wanted))
    return parts
