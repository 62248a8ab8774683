"""Predictions in writing: for people, as JSON and as CSV."""

import csv
import json
import os
from typing import Any, TextIO

from r3d.inference.predict import Prediction
from r3d.tables import without_formulas

_LABEL_CHARACTERS = 60
_SHORT_LABEL_CHARACTERS = 20
_SECONDS_BEST = 2  # classes of each second that are shown to people


def shown(text: str | os.PathLike[str]) -> str:
    r"""A name from anywhere as one line that a terminal and UTF-8 can take.

    >>> shown("a\nb")
    'a\\nb'
    """
    known = os.fspath(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in known)


def table(prediction: Prediction) -> str:
    """The result of a video in lines of up to 80 characters below its name."""
    lines = [shown(prediction.video)]
    lines += [
        f"  {entry['score']:.3f}  {_short(entry['label'], _LABEL_CHARACTERS)}"
        for entry in prediction.result
    ]
    if prediction.timeline is not None:
        lines.append("  second")
        for second in prediction.timeline.results(_SECONDS_BEST):
            best = "   ".join(
                f"{entry['score']:.3f}  {_short(entry['label'], _SHORT_LABEL_CHARACTERS):20}"
                for entry in second["result"]
            )
            lines.append(f"  {_clock(second['segment'][0]):>8}  {best}".rstrip())
    return "\n".join(lines)


def record(prediction: Prediction) -> dict[str, Any]:
    """What is known of a video, for JSON."""
    video = _written(prediction.video)
    if prediction.error:
        return {"video": video, "error": shown(prediction.error)}
    result: dict[str, Any] = {
        "video": video,
        "seconds": round(prediction.seconds, 3),
        "clips": prediction.clips,
        "result": prediction.result,
        "computed": prediction.computed,
    }
    if prediction.timeline is not None:
        result["timeline"] = prediction.timeline.results(len(prediction.result))
    if prediction.note:
        result["note"] = shown(prediction.note)
    return result


class JsonWriter:
    """`{"results": [...]}`, a line for each video, written as they come."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._separator = file, "\n"
        file.write('{"results": [')

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(self._separator + json.dumps(entry))
        self._file.flush()
        self._separator = ",\n"

    def close(self) -> None:
        self._file.write("\n]}\n")


class CsvWriter:
    """A row for each of the best classes of a video, or for the error that there is instead."""

    COLUMNS = ("video", "rank", "label", "score", "error")

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(self.COLUMNS)

    def add(self, entry: dict[str, Any]) -> None:
        video, error = without_formulas([entry["video"], entry.get("error", "")])
        rows = [
            (video, rank, *without_formulas([item["label"]]), item["score"], "")
            for rank, item in enumerate(entry.get("result", ()), 1)
        ]
        self._rows.writerows(rows or [(video, "", "", "", error)])
        self._file.flush()

    def close(self) -> None:
        """Nothing is left to write."""


def _short(text: str, most: int) -> str:
    text = shown(text)
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _written(path: os.PathLike[str]) -> str:
    """A path as it is, but for bytes that are not UTF-8."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
