"""The command line: every step of the workflow by hand.

Torch is imported by the commands that need it, so that the others start at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from r3d.annotations import merge_annotations, write_activitynet, write_annotation
from r3d.config import Config, Experiment, one_line, read_config
from r3d.errors import InputError
from r3d.evaluate import evaluate
from r3d.frames import FrameOptions, extract_shard
from r3d.jobs import one_line_errors, show_messages
from r3d.ledger import write_ledger
from r3d.lists import FORMATS, SplitOptions, read_list, save_list
from r3d.machine import n_cores
from r3d.motion import render_motion
from r3d.options import (
    FileType,
    InferenceOptions,
    InferOptions,
    RunOptions,
    Section,
    TrainingOptions,
)
from r3d.plots import plot_confusion, plot_curves
from r3d.released import released_table
from r3d.shards import write_shards
from r3d.summary import format_table

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FOUND = click.Path(exists=True, path_type=Path)
_NEW = click.Path(path_type=Path)
_FILE_TYPE = click.Choice(get_args(FileType))
_SUBSET = click.Choice(["train", "val", "test", "training", "validation", "testing"])


def main() -> None:
    """Run the command line; bad input ends it with one line."""
    show_messages()
    with one_line_errors():
        cli()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="r3d")
def cli() -> None:
    """Train 3D convolutional networks to recognise human actions in video.

    Each command is one step of the workflow, which `snakemake --cores N` runs as a whole.
    """


@cli.command("motion")
@click.argument("videos", type=_NEW)
@click.argument("lists", type=_NEW)
@click.option("--videos-per-class", default=80, show_default=True, help="Videos of each class.")
@click.option("--n-frames", default=32, show_default=True, help="Frames of each video.")
@click.option("--seed", default=1, show_default=True, help="Seed of everything random.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Videos rendered at a time.",
)
def motion_command(videos: Path, lists: Path, **options: Any) -> None:
    """Render the embedded motion data set into the folders VIDEOS and LISTS."""
    render_motion(videos, lists, **options)


@cli.command("lists")
@click.argument("format", type=click.Choice(list(FORMATS)))
@click.argument("folder", type=_FOUND)
@click.argument("table", type=_NEW)
@click.argument("labels", type=_NEW)
@click.option("--split", default="all", show_default=True, help="Official split to read.")
@click.option("--n-classes", type=int, help="Number of classes that the lists must have.")
@click.option("--validation-fraction", default=0.2, show_default=True)
@click.option("--split-seed", default=1, show_default=True)
@click.option("--group-pattern", help="Finds in a path what must not be split.")
def lists_command(
    format: str,
    folder: Path,
    table: Path,
    labels: Path,
    split: str,
    n_classes: int | None,
    **options: Any,
) -> None:
    """Read the official lists in FOLDER and write the TABLE of videos and the LABELS in order."""
    videos = read_list(format, folder, split, SplitOptions(**options), n_classes=n_classes)
    save_list(videos, table, labels)


@cli.command("shards")
@click.argument("tables", type=_FOUND, nargs=-1, required=True)
@click.argument("folder", type=_NEW)
@click.option("--n-shards", default=16, show_default=True)
def shards_command(tables: tuple[Path, ...], folder: Path, n_shards: int) -> None:
    """Divide the videos of the TABLES of all splits over the shards in FOLDER."""
    write_shards(tables, folder, n_shards)


@cli.command("frames")
@click.argument("shard", type=_FOUND)
@click.argument("videos", type=_FOUND)
@click.argument("frames", type=_NEW)
@click.argument("manifest", type=_NEW)
@click.option("--file-type", type=_FILE_TYPE, default="jpg", show_default=True)
@click.option("--short-side", default=240, show_default=True, help="In pixels; 0 keeps the size.")
@click.option("--quality", type=click.IntRange(2, 31), help="JPEG quantiser; 2 is best.")
@click.option("--fps", type=float, help="Frames a second to select.")
@click.option("--timeout-seconds", default=600.0, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Videos extracted at a time.",
)
def frames_command(
    shard: Path, videos: Path, frames: Path, manifest: Path, threads: int, **options: Any
) -> None:
    """Extract the videos of a SHARD from the folder VIDEOS into FRAMES, and write the MANIFEST."""
    extract_shard(shard, videos, frames, manifest, FrameOptions(**options), threads=threads)


@cli.command("ledger")
@click.argument("manifests", type=_FOUND, nargs=-1, required=True)
@click.argument("output", type=_NEW)
@click.option(
    "--list", "lists", type=(str, _FOUND), multiple=True, required=True, help="Split and its table."
)
@click.option("--max-failure-rate", default=0.1, show_default=True)
def ledger_command(
    manifests: tuple[Path, ...],
    output: Path,
    lists: tuple[tuple[str, Path], ...],
    max_failure_rate: float,
) -> None:
    """Gather the MANIFESTS of all shards into the ledger OUTPUT."""
    write_ledger(
        list(manifests),
        dict(lists),
        output,
        max_failure_rate=max_failure_rate,
        refused=output.with_suffix(".refused.tsv"),
    )


@cli.command("annotations")
@click.argument("table", type=_FOUND)
@click.argument("labels", type=_FOUND)
@click.argument("ledger", type=_FOUND)
@click.argument("output", type=_NEW)
@click.option("--file-type", type=_FILE_TYPE, default="jpg", show_default=True)
@click.option(
    "--frames",
    type=_FOUND,
    help="Folder of the frames, needed where file names repeat over class folders.",
)
def annotations_command(
    table: Path, labels: Path, ledger: Path, output: Path, file_type: FileType, frames: Path | None
) -> None:
    """Write the annotation JSON of a split from its TABLE, LABELS and the data set's LEDGER."""
    write_annotation(table, labels, ledger, output, file_type=file_type, frames=frames)


@cli.command("merge")
@click.argument("output", type=_NEW)
@click.option(
    "--part",
    "parts",
    type=(str, _FOUND, _FOUND),
    multiple=True,
    required=True,
    help="Name of a data set, its annotation JSON and the folder of its frames; in order.",
)
@click.option("--file-type", type=_FILE_TYPE, default="jpg", show_default=True)
def merge_command(
    output: Path, parts: tuple[tuple[str, Path, Path], ...], file_type: FileType
) -> None:
    """Write the annotation JSONs of several data sets as one, OUTPUT, with the classes of all."""
    by_name = {name: (annotation, frames) for name, annotation, frames in parts}
    if len(by_name) < len(parts):
        raise InputError("--part: each data set needs a name of its own")
    merge_annotations(by_name, output, file_type=file_type)


@cli.command("activitynet")
@click.argument("official", type=_FOUND)
@click.argument("ledger", type=_FOUND)
@click.argument("output", type=_NEW)
@click.option("--file-type", type=_FILE_TYPE, default="jpg", show_default=True)
def activitynet_command(official: Path, ledger: Path, output: Path, file_type: FileType) -> None:
    """Add frame rates and ranges from the LEDGER to the OFFICIAL JSON of ActivityNet."""
    write_activitynet(official, ledger, output, file_type=file_type)


def _section_options(*sections: type[Section]) -> Callable[[_Command], _Command]:
    """Give a command the options of config sections, under the names of the config."""

    def decorate(command: _Command) -> _Command:
        fields = [item for section in sections for item in section.model_fields.items()]
        for name, field in reversed(fields):
            if name not in ("resources", "pretrain"):  # of the workflow only
                command = _option(name, field)(command)
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> Callable[[_Command], _Command]:
    if field.annotation is bool:
        return click.option(f"--{name}", is_flag=True, help=field.description)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    metavar = "|".join(map(str, choices)) or "VALUE"
    text = f"{field.description}  [default: {field.default!r}]"
    return click.option(f"--{name}", metavar=metavar, help=text)


def _list(text: str) -> list[str | int]:
    """A list option, as `[50, 100]`, `50,100` or `50 100`."""
    words = text.strip("[] ").replace(",", " ").split()
    return [int(word) if word.isdecimal() else word for word in words]


def _section(section: type[Section], options: dict[str, Any]) -> Any:
    """A validated config section from the options that were given."""
    given = {
        name: _list(value) if get_origin(section.model_fields[name].annotation) is list else value
        for name, value in options.items()
        if name in section.model_fields and value not in (None, False)
    }
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise InputError(one_line(error)) from None


@cli.command("train")
@click.option("--annotation_path", type=_FOUND, required=True, help="Annotation JSON.")
@click.option("--video_path", type=_FOUND, required=True, help="Folder of the frames.")
@click.option("--result_path", type=_NEW, required=True, help="Folder of the results.")
@click.option("--file_type", type=_FILE_TYPE, default="jpg", show_default=True)
@_section_options(TrainingOptions, RunOptions)
def train_command(
    annotation_path: Path, video_path: Path, result_path: Path, file_type: FileType, **options: Any
) -> None:
    """Train a network, or go on training it; the option names are those of the config."""
    from r3d.train import train

    training: TrainingOptions = _section(TrainingOptions, options)
    train(
        training,
        annotation=annotation_path,
        frames=video_path,
        file_type=file_type,
        pretrained=Path(training.pretrain_path) if training.pretrain_path else None,
        checkpoints=result_path / "checkpoints",
        model=result_path / "model.pth",
        train_log=result_path / "train.log",
        val_log=result_path / "val.log",
        run=_section(RunOptions, options),
    )


@cli.command("tune")
@click.option("--configfile", type=_FOUND, help="Config of the workflow.")
@click.option("--experiment", help="Experiment of the config to tune; needed if it has several.")
@click.option("--split", help="Split whose videos are read.  [default: the first]")
@click.option("--annotation_path", type=_FOUND, help="Without a config: annotation JSON.")
@click.option("--video_path", type=_FOUND, help="Without a config: folder of the frames.")
@click.option("--file_type", type=_FILE_TYPE, help="Without a config: kind of the frames.")
@click.option("--output", type=_NEW, default="tuned.yaml", show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="How long to measure, about.",
)
@_section_options(TrainingOptions, InferOptions, RunOptions)
def tune_command(
    configfile: Path | None,
    experiment: str | None,
    split: str | None,
    annotation_path: Path | None,
    video_path: Path | None,
    file_type: FileType | None,
    output: Path,
    seconds: float,
    **options: Any,
) -> None:
    """Measure which settings are the fastest on this machine, and write them with the figures.

    Give the config of a workflow and the name of an experiment, or the options of `r3d train`.
    Frames and annotation must be there: what is measured is loading them, training and inference.
    The output is a config file that goes after the other one: snakemake --configfile config.yaml
    tuned.yaml. It holds the settings that clearly gained over the present ones, nothing else.
    """
    by_hand = {
        "annotation_path": annotation_path,
        "video_path": video_path,
        "file_type": file_type,
        **options,
    }
    subject: dict[str, Any]
    if configfile is None:
        if annotation_path is None or video_path is None:
            raise InputError(
                "give --configfile and --experiment, or --annotation_path and --video_path"
            )
        subject = {
            "options": _section(Experiment, {"dataset": "by hand", **options}),
            "annotation": annotation_path,
            "frames": video_path,
            "file_type": file_type or "jpg",
            "in_workflow": False,
        }
        section = ["defaults"]
        title = [
            f"The fastest settings for {video_path}, as `r3d tune` measured them: for the config,",
            "or as options of r3d train and r3d infer.",
        ]
    else:
        given = [name for name, value in by_hand.items() if value not in (None, False)]
        if given:
            raise InputError(f"--{given[0]} goes without --configfile only, which says it")
        config = read_config(configfile)
        name = _experiment_to_tune(config, experiment)
        chosen = config.experiments[name]
        dataset = config.dataset(chosen.dataset)
        splits = config.experiment_splits(name)
        if split not in (None, *splits):
            raise InputError(f"--split: {split!r} is not one of {', '.join(map(repr, splits))}")
        annotation = Path(config.annotation(chosen.dataset, split or splits[0]))
        if not annotation.is_file() or not Path(dataset.frames).is_dir():
            raise InputError(
                f"{annotation}: there are no annotation and frames yet; run first: "
                f"snakemake annotations --cores {n_cores()} --configfile {configfile}"
            )
        subject = {
            "options": chosen,
            "annotation": annotation,
            "frames": Path(dataset.frames),
            "file_type": dataset.file_type,
            "in_workflow": True,
        }
        section = ["experiments", name]
        title = [
            f"The fastest settings of {name} in {configfile}, as `r3d tune` measured them. Usage:",
            f"    snakemake --cores {n_cores()} --configfile {configfile} {output}",
        ]
    from r3d.tune import tune

    tuned = tune(**subject, seconds=seconds)
    tuned.save(output, section, title)
    click.echo(output.read_text(encoding="utf-8"), nl=False)


def _experiment_to_tune(config: Config, name: str | None) -> str:
    trained = [key for key, experiment in config.experiments.items() if not experiment.no_train]
    if name in trained:
        return name
    if name is None and len(trained) == 1:
        return trained[0]
    raise InputError(
        f"--experiment: {name!r} is not one of the experiments that train: {', '.join(trained)}"
    )


@cli.command("infer")
@click.option("--annotation_path", type=_FOUND, required=True, help="Annotation JSON.")
@click.option("--video_path", type=_FOUND, required=True, help="Folder of the frames.")
@click.option("--model_path", type=_FOUND, required=True, help="Checkpoint of the trained model.")
@click.option("--result_path", type=_NEW, required=True, help="Result JSON to write.")
@click.option("--file_type", type=_FILE_TYPE, default="jpg", show_default=True)
@click.option("--inference_subset", type=_SUBSET, default="val", show_default=True)
@_section_options(InferenceOptions, RunOptions)
def infer_command(
    annotation_path: Path,
    video_path: Path,
    model_path: Path,
    result_path: Path,
    file_type: FileType,
    inference_subset: str,
    **options: Any,
) -> None:
    """Apply a trained network to the videos of a subset: the top-k classes of each."""
    from r3d.infer import infer

    run: RunOptions = _section(RunOptions, options)
    infer(
        _section(InferenceOptions, options),
        annotation=annotation_path,
        subset=inference_subset,
        frames=video_path,
        file_type=file_type,
        model=model_path,
        output=result_path,
        run=run,
        batch_size=run.inference_batch_size or TrainingOptions().batch_size,
    )


@cli.command("evaluate")
@click.argument("annotation", type=_FOUND)
@click.argument("result", type=_FOUND)
@click.option("--subset", type=_SUBSET, default="val", show_default=True)
@click.option("-k", "ks", type=click.IntRange(min=1), multiple=True, default=(1,), help="Top k.")
@click.option("--ignore", is_flag=True, help="Leave out listed videos without a result.")
@click.option("--save", type=_NEW, help="Write the accuracies to this JSON file, too.")
def evaluate_command(
    annotation: Path,
    result: Path,
    subset: str,
    ks: tuple[int, ...],
    ignore: bool,
    save: Path | None,
) -> None:
    """Print the top-k accuracies of a RESULT JSON against an ANNOTATION JSON."""
    evaluation = evaluate(annotation, result, subset=subset, ks=ks)
    for k in ks:
        accuracy = evaluation.accuracy_found(k) if ignore else evaluation.accuracy(k)
        if accuracy is None:
            raise InputError(
                f"{result}: has no result for any video of {subset}, and --ignore leaves those "
                f"out; accepted: results of videos that {annotation} lists"
            )
        click.echo(f"top-{k} accuracy: {accuracy}")
    if save:
        evaluation.save(
            save,
            classes=save.with_suffix(".classes.tsv"),
            confusion=save.with_suffix(".confusion.tsv"),
            experiment=save.parent.name,
            split="",
        )


@cli.command("released")
def released_command() -> None:
    """List the weight files that the authors of the reference released, with what fits them."""
    click.echo(released_table())


@cli.command("curves")
@click.argument("train_log", type=_FOUND)
@click.argument("val_log", type=_FOUND)
@click.argument("output", type=_NEW)
def curves_command(train_log: Path, val_log: Path, output: Path) -> None:
    """Draw the training curves of TRAIN_LOG and VAL_LOG."""
    plot_curves(train_log, val_log, output)


@cli.command("confusion")
@click.argument("table", type=_FOUND)
@click.argument("output", type=_NEW)
def confusion_command(table: Path, output: Path) -> None:
    """Draw the confusion TABLE of an evaluation."""
    plot_confusion(table, output)


@cli.command("summary")
@click.argument("table", type=_FOUND)
def summary_command(table: Path) -> None:
    """Print the accuracy TABLE of a workflow for reading."""
    click.echo(format_table(table))
