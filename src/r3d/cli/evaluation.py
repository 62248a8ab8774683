"""Top-k results -> accuracy."""

from pathlib import Path

import click

from r3d.cli.commands import command
from r3d.cli.parameters import NEW_FILE, SUBSET, Found
from r3d.errors import InputError
from r3d.obstacles import need_writable


@command(
    "evaluate",
    example="r3d evaluate motion_01.json run/val.json -k 1 -k 5 --save run/val.accuracy.json",
)
@click.argument("annotation", type=Found("annotations"))
@click.argument("result", type=Found("infer"))
@click.option(
    "--subset", type=SUBSET, default="val", show_default=True, help="The one that was predicted."
)
@click.option(
    "-k",
    "ks",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1,),
    help="Count a video whose class is among the k most likely; may be given several times.  "
    "[default: 1]",
)
@click.option("--ignore", is_flag=True, help="Leave out listed videos without a result.")
@click.option("--save", type=NEW_FILE, help="Write the accuracies to this JSON file, too.")
def evaluate_command(
    annotation: Path,
    result: Path,
    subset: str,
    ks: tuple[int, ...],
    ignore: bool,
    save: Path | None,
) -> None:
    """Print the top-k accuracies of a RESULT JSON against an ANNOTATION JSON."""
    from r3d.evaluation.evaluate import evaluate

    classes = save and save.with_suffix(".classes.tsv")
    confusion = save and save.with_suffix(".confusion.tsv")
    for output in filter(None, (classes, confusion)):
        need_writable(output)
    evaluation = evaluate(annotation, result, subset=subset, ks=ks)
    for k in ks:
        accuracy = evaluation.accuracy_found(k) if ignore else evaluation.accuracy(k)
        if not evaluation.listed.any():
            raise InputError(
                f"{result}: none of the {evaluation.left_out} videos of {subset} has a label that "
                f"is among the {len(evaluation.labels)} classes of the model; accepted: an "
                "annotation of some of its classes"
            )
        if accuracy is None:
            raise InputError(
                f"{result}: has no result for any video of {subset}, and --ignore leaves those "
                f"out; accepted: results of videos that {annotation} lists"
            )
        click.echo(f"top-{k} accuracy: {accuracy}")
    if save and classes and confusion:
        evaluation.save(
            save,
            classes=classes,
            confusion=confusion,
            experiment=save.parent.name,
            split="",
        )


@command(
    "videos",
    example="r3d videos list.tsv ledger.tsv motion_01.json run/val.json run/val.videos.tsv",
)
@click.argument("table", type=Found("lists"))
@click.argument("ledger", type=Found("ledger"))
@click.argument("annotation", type=Found("annotations"))
@click.argument("result", type=Found("infer"))
@click.argument("output", type=NEW_FILE)
@click.option(
    "--subset", type=SUBSET, default="val", show_default=True, help="The one that was predicted."
)
def videos_command(
    table: Path, ledger: Path, annotation: Path, result: Path, output: Path, subset: str
) -> None:
    """Write to OUTPUT what became of each video of a list TABLE, up to the RESULT of a subset."""
    from r3d.evaluation.videos import write_videos

    write_videos({"": (table, ledger)}, annotation, result, output, subset=subset)
