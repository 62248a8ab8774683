"""Where predictions go: standard output, files, and a folder that keeps all of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import numpy as np

from r3d.errors import InputError, WriteError
from r3d.files import atomic_path
from r3d.frames.selection import Selection
from r3d.inference.captions import caption, second_by_second, write_captioned
from r3d.inference.predict import Prediction
from r3d.inference.records import CsvWriter, JsonWriter, record
from r3d.lists.base import stem
from r3d.obstacles import need_writable

_NAME_BYTES = 200
_MOST_DRAWN = 12  # classes of a timeline

Draw = Callable[[Sequence[str], Sequence[tuple[float, float]], np.ndarray, Path], None]
"""Draws scores over time: labels, spans, scores (spans, classes), the picture to write."""


def _text(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def _opened(place: Path | TextIO) -> Iterator[TextIO]:
    """A stream as it is; a file to write that counts when the block ends."""
    if not isinstance(place, Path):
        yield place
        return
    with atomic_path(place) as partial, _text(partial) as file:
        yield file


class Outputs:
    """Writes predictions as they come; files count when the block ends, be it by an interrupt.

    >>> with Outputs(selection=selection, json_file="predictions.json") as outputs:
    ...     for prediction in predict(model, videos):
    ...         outputs.add(prediction)

    Args:
        selection: which part of the videos was predicted.
        json_file, csv_file: files, or open streams.
        folder: keeps `predictions.json` and `.csv`, timelines and captioned videos.
        captions: whether to write captioned videos into the folder.
        draw: how to draw a timeline into the folder.
    """

    def __init__(
        self,
        *,
        selection: Selection,
        json_file: Path | TextIO | None = None,
        csv_file: Path | TextIO | None = None,
        folder: Path | None = None,
        captions: bool = False,
        draw: Draw | None = None,
    ) -> None:
        self._selection, self._folder, self._captions, self._draw = (
            selection,
            folder,
            captions,
            draw,
        )
        self._json: list[Path | TextIO] = [json_file] if json_file else []
        self._csv: list[Path | TextIO] = [csv_file] if csv_file else []
        if folder:
            self._json.append(folder / "predictions.json")
            self._csv.append(folder / "predictions.csv")
        for file in (*self._json, *self._csv):
            if isinstance(file, Path):
                need_writable(file)
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._writers: list[JsonWriter | CsvWriter] = [
                *(JsonWriter(stack.enter_context(_opened(file))) for file in self._json),
                *(CsvWriter(stack.enter_context(_opened(file))) for file in self._csv),
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, InputError | KeyboardInterrupt):
            for writer in self._writers:
                writer.close()
            self._stack.close()
        else:
            self._stack.__exit__(kind, error, _)

    def add(self, prediction: Prediction) -> str:
        """Write what is known of a video; what could not be written of it, in a line, or ""."""
        files: dict[str, str] = {}
        problem = ""
        if self._folder and not prediction.error:
            name = self._name(prediction.video)
            try:
                self._keep(prediction, self._folder / name, files)
            except WriteError:
                raise
            except InputError as error:
                problem = str(error)
        entry = record(prediction)
        if files:
            entry["files"] = files
        for writer in self._writers:
            writer.add(entry)
        return problem

    def _keep(self, prediction: Prediction, start: Path, files: dict[str, str]) -> None:
        """Write the files of a video, whose names begin so, and note them."""

        def named(kind: str, ending: str) -> Path:
            path = start.with_name(start.name + ending)
            files[kind] = path.name
            return path

        timeline, k = prediction.timeline, len(prediction.result)
        if timeline is not None:
            with atomic_path(named("table", ".timeline.csv")) as partial, _text(partial) as file:
                timeline.write(file, k)
            if self._draw is not None:
                classes = timeline.classes(k)[:_MOST_DRAWN]
                labels = [timeline.labels[number] for number in classes]
                picture = named("picture", ".timeline.png")
                self._draw(labels, timeline.spans, timeline.scores[:, classes], picture)
        if self._captions:
            best = prediction.result[0]
            texts = [caption(best["label"], best["score"])]
            if timeline is not None:
                texts = second_by_second(timeline)
            part = {"start": self._selection.start, "end": self._selection.end}
            video = start.with_name(f"{start.name}.captioned.mp4")
            write_captioned(prediction.video, texts, video, **part)
            files["captioned"] = video.name

    def _name(self, video: Path) -> str:
        """How the files of a video begin: by its name, with a number where names repeat."""
        name = "".join(
            c if c.isprintable() or "\udc80" <= c <= "\udcff" else "_" for c in stem(video.name)
        )
        name = os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
        candidate, number = name, 1
        while candidate.casefold() in self._names:
            number += 1
            candidate = f"{name}-{number}"
        self._names.add(candidate.casefold())
        return candidate
