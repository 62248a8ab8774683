"""A trained network and videos -> what they show."""

import io
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import Command, command
from r3d.cli.parameters import FOUND, NEW_FOLDER, PARALLEL, section_of, section_options
from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.obstacles import need_writable
from r3d.paths import expanded

_OF_MODEL = (
    *("conv1_t_stride", "no_max_pool"),  # which the weights do not tell
    *("sample_size", "sample_duration", "sample_t_stride"),
    *("mean_dataset", "no_mean_norm", "no_std_norm", "value_scale", "precision"),
    *("inference_stride", "inference_crop", "inference_clips", "class_order", "output_topk"),
    "int8",
)

_STDOUT = Path("-")

_log = logging.getLogger(__name__)


class _Written(click.ParamType):
    """A file of a certain ending to write, or `-` for standard output."""

    name = "file"

    def __init__(self, ending: str) -> None:
        self.ending = ending

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[FILE{self.ending}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(expanded(os.fspath(value)))
        if path == _STDOUT:
            return path
        if path.suffix != self.ending:  # a video, say, which it would take the place of
            self.fail(f"{value!r} does not end in {self.ending}", param, ctx)
        need_writable(path)
        return path


class _Finite(click.FloatRange):
    """A number in a range, which neither infinity nor what is no number is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


_WRITTEN = {"--json": _Written(".json"), "--csv": _Written(".csv")}


@contextmanager
def _said_at_the_end(lines: list[str], *, messages: bool) -> Iterator[None]:
    """Print lines on standard error when the block ends, however it ends.

    Args:
        messages: whether to hold back log messages for it, too, where they go to standard error.
    """
    kept = []
    for handler in logging.getLogger().handlers if messages else ():
        if type(handler) is logging.StreamHandler:  # not one for a file
            held = partial(_hold, handler, lines)
            handler.addFilter(held)
            kept.append((handler, held))
    try:
        yield
    finally:
        for handler, held in kept:
            handler.removeFilter(held)
        for line in lines:
            click.echo(line, err=True)


def _hold(handler: logging.Handler, lines: list[str], record: logging.LogRecord) -> bool:
    """Keep a message as a handler would print it, and have it not do so."""
    lines.append(handler.format(record))
    return False


class _PredictCommand(Command):
    """Takes what follows `--json` for its file only if it ends so, for a video otherwise."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given: list[str] = []
        options = True
        for position, argument in enumerate(args):
            options = options and argument != "--"
            given.append(argument)
            if options and argument in _WRITTEN:
                following = args[position + 1 : position + 2]
                if not (following and Path(following[0]).suffix == _WRITTEN[argument].ending):
                    given[-1] = f"{argument}=-"
        return super().parse_args(ctx, given)


@command(
    "predict",
    cls=_PredictCommand,
    example="""\
r3d predict run/model.pth motion/videos/TranslateLeft
r3d predict run/model.pth motion/videos --timeline --output answers""",
)
@click.argument("model", type=expanded, metavar="MODEL")
@click.argument("videos", type=expanded, metavar="VIDEO...", nargs=-1, required=True)
@click.option("--json", "json_file", type=_WRITTEN["--json"], help="Print JSON, or write it.")
@click.option("--csv", "csv_file", type=_WRITTEN["--csv"], help="Print CSV, or write it.")
@click.option("--timeline", is_flag=True, help="Give the scores of each second, too.")
@click.option(
    "--captions",
    is_flag=True,
    help="Write each video with its label (of each second "
    "with --timeline) burnt in, to the folder of --output.",
)
@click.option(
    "--output",
    type=NEW_FOLDER,
    metavar="FOLDER",
    help="Keep all that is asked for in a "
    "folder: predictions.json and .csv; timelines as tables and pictures; captioned videos.",
)
@click.option(
    "--short_side", type=click.IntRange(min=0), help="Of the frames, in pixels; 0 keeps the size."
)
@click.option("--fps", type=_Finite(min=0, min_open=True), help="Frames a second to select.")
@click.option(
    "--quality",
    type=click.IntRange(2, 31),
    default=2,
    show_default=True,
    help="JPEG quantiser of the frames.",
)
@click.option("--start", type=_Finite(min=0), help="Second of each video to begin at.")
@click.option("--end", type=_Finite(min=0, min_open=True), help="Second of each video to end at.")
@section_options(InferenceOptions, only=_OF_MODEL, has_defaults=False)
@click.option("--configfile", type=FOUND, help="Config whose experiment MODEL may name.")
@section_options(RunOptions, only=("engine",))
@click.option("--no_cuda", is_flag=True, help="Use the CPU even where there is a GPU.")
@click.option(
    "--n_threads",
    type=PARALLEL,
    default=4,
    show_default=True,
    help="Videos that are decoded at a time.",
)
@click.option(
    "--inference_batch_size",
    type=PARALLEL,
    help="Clips that are computed at a time.  [default: 8, on a GPU 64]",
)
def predict_command(
    model: str,
    videos: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    timeline: bool,
    captions: bool,
    output: Path | None,
    short_side: int | None,
    fps: float | None,
    quality: int,
    start: float | None,
    end: float | None,
    configfile: Path | None,
    no_cuda: bool,
    n_threads: int,
    inference_batch_size: int | None,
    **options: Any,
) -> None:
    """Tell what VIDEOs show, by a trained MODEL.

    A VIDEO is a file, a folder with videos at any depth, a pattern in quotes, or - for a list on
    standard input. Frames are decoded here, as extraction makes them; options that are not given
    are those that the model was trained with.

    A video that cannot be used is a line on standard error, and the others go on. The exit status
    is 0 if all videos have an answer, 1 if one has none.
    """
    if captions and output is None:
        raise InputError("--captions: writes videos; say where with --output FOLDER")
    if json_file == csv_file == _STDOUT:
        raise InputError("--json and --csv: both to standard output; give one of them a file")
    from tqdm import tqdm

    from r3d.inference.outputs import Outputs
    from r3d.inference.predict import predict
    from r3d.inference.records import shown, table
    from r3d.inference.sources import find_videos
    from r3d.inference.trained import load_model
    from r3d.report.plots import plot_timeline

    given = {name: options[name] for name in _OF_MODEL if options[name] not in (None, False)}
    trained = load_model(model, configfile=configfile, **given)
    selection = trained.selection(
        short_side=short_side, fps=fps, start=start, end=end, quality=quality
    )
    found, problems = find_videos(videos)
    for problem in problems:
        click.echo(shown(problem), err=True)
    failed, n_answers = len(problems), 0
    to_terminal = _STDOUT in (json_file, csv_file) and sys.stdout.isatty()
    held_back: list[str] = []  # on a terminal lines would stand within the document
    predictions = predict(
        trained,
        found,
        selection=selection,
        timeline=timeline,
        run=RunOptions(
            **section_of(RunOptions, options).model_dump(include={"engine"}),
            no_cuda=no_cuda,
            n_threads=n_threads,
            inference_batch_size=inference_batch_size or 0,
        ),
        progress=sys.stderr.isatty() and not to_terminal,
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # What decodes ends with the block, however it ends.
    with (
        _said_at_the_end(held_back, messages=to_terminal),
        closing(predictions),
        Outputs(
            selection=selection,
            json_file=sys.stdout if json_file == _STDOUT else json_file,
            csv_file=sys.stdout if csv_file == _STDOUT else csv_file,
            folder=output,
            captions=captions,
            draw=plot_timeline,
        ) as outputs,
    ):
        for prediction in predictions:
            # `tqdm.write` goes around the bar.
            if not prediction.error and _STDOUT not in (json_file, csv_file):
                tqdm.write(table(prediction), file=sys.stdout)
                sys.stdout.flush()
            problem = outputs.add(prediction)
            for line in (prediction.error, problem, prediction.note):
                if not line:
                    continue
                line = f"{shown(prediction.video)}: {shown(line)}"
                if to_terminal:
                    held_back.append(line)
                else:
                    tqdm.write(line, file=sys.stderr)
            failed += bool(prediction.error or problem)
            n_answers += not prediction.error
    if output is not None:
        _log.info("%s: the answers about %d videos", output, n_answers)
    sys.exit(1 if failed else 0)
