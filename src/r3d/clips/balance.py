"""How often the videos of each class come in an epoch."""

import numpy as np


def balanced_numbers(classes: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
    """The clips of an epoch, as many as there are videos, in random order.

    A class of m videos has a share of all clips in proportion to m ** (1 - balance): at 0 each
    video comes once, at 1 each class equally often. The videos of a class come equally often, but
    for some that are drawn to come once more.

    >>> classes = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> numbers = balanced_numbers(classes, 1, np.random.default_rng(1))
    >>> np.sort(numbers)  # four of the first six videos, and each of the others twice: 6 + 8 = 14
    array([ 0,  1,  4,  5,  6,  7, 14, 15])

    Args:
        classes: (videos,), the class of each.

    Returns:
        (videos,), numbers of clips: number % videos is the video, and number // videos tells its
        clips apart.
    """
    n_videos = len(classes)
    sizes = np.unique(classes, return_counts=True)[1]
    shares = sizes ** (1.0 - balance)
    # Of a share between two whole numbers, one of them at random, and all together the sum.
    edges = np.floor(np.cumsum(shares / shares.sum() * n_videos) + rng.random()).astype(np.int64)
    edges[-1] = n_videos
    by_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = []
    for videos, n_clips in zip(by_class, np.diff(edges, prepend=0), strict=True):
        rounds, rest = divmod(int(n_clips), len(videos))
        drawn += [videos + n_videos * number for number in range(rounds)]
        drawn.append(rng.permutation(videos)[:rest] + n_videos * rounds)
    return rng.permutation(np.concatenate(drawn))
