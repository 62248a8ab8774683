"""Pictures: training curves and confusion matrices for the report, and timelines of videos.

Only here is matplotlib imported, and only when something is drawn, so that nothing else waits for
it. The extension of the file chooses the format: .svg, .png, .pdf.
"""

import logging
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from r3d.errors import InputError
from r3d.files import atomic_path
from r3d.tables import as_meant, read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

# Two of Okabe and Ito's colours, which people of any colour vision can tell apart.
_TRAINING, _VALIDATION = "#0072B2", "#D55E00"

# Up to so many classes each cell of a confusion matrix shows its number, each axis the names.
_MAX_NUMBERED, _MAX_NAMED = 25, 60
_MAX_NAME = 32
_N_CONFUSIONS = 25


def plot_curves(train_log: Path, val_log: Path, output: Path) -> None:
    """Draw loss, accuracy and learning rate over the epochs.

    Args:
        train_log: tab separated, with columns epoch, loss, acc, lr.
        val_log: tab separated, with columns epoch, loss, acc; no rows if nothing was validated.
        output: the picture.
    """
    train = _read_log(train_log, ("epoch", "loss", "acc", "lr"))
    val = _read_log(val_log, ("epoch", "loss", "acc"))
    if train.empty:
        raise InputError(f"{train_log}: no epoch to draw; expected at least one row")

    figure = _new_figure(10, 3.2)
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, name, title in ((loss, "loss", "Loss"), (accuracy, "acc", "Top-1 accuracy")):
        _curve(axes, train["epoch"], train[name], _TRAINING, "training")
        if len(val):
            _curve(axes, val["epoch"], val[name], _VALIDATION, "validation")
        axes.set_title(title)
    loss.set_ylim(bottom=0)
    loss.legend(frameon=False)
    accuracy.set_ylim(0, 1.02)
    _curve(rate, train["epoch"], train["lr"], "0.3")
    rate.set_title("Learning rate")
    if 0 < 10 * train["lr"].min() <= train["lr"].max():
        rate.set_yscale("log")
    else:
        rate.set_ylim(bottom=0)
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("Epoch")
        axes.set_xlim(left=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    _save(figure, output, f"the curves of {len(train)} epochs")


def plot_confusion(confusion: Path, output: Path) -> None:
    """Draw a confusion matrix, each row as shares of the videos of its class.

    With few classes every cell carries its number in percent; with many there are no names at the
    axes, and beside the matrix stand the most frequent confusions.

    Args:
        confusion: the confusion table of `r3d.evaluation.evaluate.Evaluation.save`.
        output: the picture.
    """
    labels, columns, counts = _read_confusion(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(labels) <= _MAX_NAMED:
        inches = 0.42 if len(labels) <= _MAX_NUMBERED else 0.19
        figure = _new_figure(3.4 + inches * len(columns), 2.6 + inches * len(labels))
        axes = figure.subplots()
        _name_ticks(axes, labels, columns)
    else:
        figure = _new_figure(14, 8.5)
        axes, beside = figure.subplots(1, 2, width_ratios=(9, 5))
        _list_confusions(beside, labels, columns, counts)
    if len(labels) <= _MAX_NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                colour = "white" if share > 0.35 else "black"
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    # The square root lifts rare confusions out of the white of the empty cells.
    image = axes.imshow(shares, cmap="Blues", norm=_square_root(), interpolation="nearest")
    ticks = (0, 0.05, 0.25, 0.5, 1)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=ticks, label="Share of the class")
    bar.ax.set_yticklabels([f"{100 * tick:.0f} %" for tick in ticks])
    unit = "" if len(labels) <= _MAX_NAMED else " (place in the class list, from 0)"
    axes.set_xlabel(f"Predicted class{unit}")
    axes.set_ylabel(f"True class{unit}")
    correct = counts.diagonal().sum()
    share = f" ({correct / counts.sum():.1%})" if counts.any() else ""
    axes.set_title(f"{correct} of {counts.sum()} videos correct{share}")
    _save(figure, output, f"the confusions of {len(labels)} classes")


def plot_timeline(
    labels: Sequence[str],
    spans: Sequence[tuple[float, float]],
    scores: np.ndarray,
    output: Path,
) -> None:
    """Draw how likely classes are over the time of a video: a row a class, the likely ones dark.

    Args:
        labels: of the classes, the uppermost first.
        spans: of time in seconds, in order.
        scores: (spans, classes).
        output: the picture.
    """
    figure = _new_figure(10, 1.6 + 0.3 * len(labels))
    axes = figure.subplots()
    norm = _square_root()
    # Spans that no clip shows stay white: an image would stretch over them.
    edges = sorted({time for span in spans for time in span})
    shades = np.full((len(labels), len(edges) - 1), np.nan)
    for (begin, _), column in zip(spans, scores, strict=True):
        shades[:, bisect_left(edges, begin)] = column
    rows = np.arange(len(labels) + 1) - 0.5
    image = axes.pcolormesh(edges, rows, shades, cmap="Blues", norm=norm, rasterized=True)
    axes.set_yticks(range(len(labels)))
    names = [_shorten(name) for name in labels]
    axes.set_yticklabels(names, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("Seconds")
    ticks = (0, 0.05, 0.25, 0.5, 1)
    bar = figure.colorbar(image, ax=axes, ticks=ticks, label="Score")
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    _save(figure, output)  # one of many, whose folder is named at the end


def _read_log(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The numbers of a log, which may be being written."""
    try:
        return read_columns(path, columns, growing=True).astype(float)
    except ValueError as error:
        raise InputError(f"{path}: expected numbers in {', '.join(columns)}: {error}") from None


def _read_confusion(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Names of the rows and columns, and the counts; the last column only if it counts any."""
    try:
        table = pd.read_csv(path, sep="\t", header=None, dtype=str, na_filter=False)
        labels, columns = as_meant(table.iloc[1:, 0]), as_meant(table.iloc[0, 1:])
        counts = table.iloc[1:, 1:].to_numpy().astype(np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: cannot be read as a confusion table: {error}") from None
    if columns[:-1] != labels or not labels:
        raise InputError(
            f"{path}: no confusion table; expected a row for each class, a column for each class "
            "in the same order and one for videos without a result"
        )
    if not counts[:, -1].any():
        columns, counts = columns[:-1], counts[:, :-1]
    return labels, columns, counts


def _curve(
    axes: "Axes", epochs: pd.Series, values: pd.Series, colour: str, label: str | None = None
) -> None:
    # A line through few epochs hides where they are, and one epoch draws no line at all.
    marker = "o" if len(epochs) <= 25 else None
    axes.plot(epochs, values, color=colour, label=label, marker=marker, markersize=3.5)


def _name_ticks(axes: "Axes", labels: list[str], columns: list[str]) -> None:
    size = 9 if len(labels) <= _MAX_NUMBERED else 7
    axes.set_yticks(range(len(labels)))
    axes.set_xticks(range(len(columns)))
    names = [_shorten(name) for name in labels]
    axes.set_yticklabels(names, fontsize=size, parse_math=False)
    names = [_shorten(name) for name in columns]
    axes.set_xticklabels(names, fontsize=size, parse_math=False, rotation=90)


def _list_confusions(
    axes: "Axes", labels: list[str], columns: list[str], counts: np.ndarray
) -> None:
    """Write the most frequent confusions as text."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_N_CONFUSIONS]
    lines = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[row, column]:
            true, predicted = _shorten(labels[row]), _shorten(columns[column])
            lines.append(f"{wrong[row, column]:4d}  {true} \N{RIGHTWARDS ARROW} {predicted}")
    axes.set_axis_off()
    axes.set_title("Most frequent confusions", loc="left")
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.6, parse_math=False)


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _square_root() -> "Normalize":
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=1)


def _new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that is not registered anywhere and so needs no closing."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="compressed")


def _save(figure: "Figure", output: Path, what: str = "") -> None:
    """Write the figure so that equal figures give equal bytes, and say `what` it is."""
    from matplotlib import rc_context

    supported = figure.canvas.get_supported_filetypes()
    if output.suffix.removeprefix(".") not in supported:
        raise InputError(
            f"{output}: no picture format {output.suffix!r}; accepted: .svg, .png, .pdf"
        )
    metadata = {"Date": None} if output.suffix == ".svg" else None
    with rc_context({"svg.hashsalt": "r3d"}), atomic_path(output) as partial:
        figure.savefig(partial, dpi=150, metadata=metadata)
    if what:
        _log.info("%s: %s", output, what)
