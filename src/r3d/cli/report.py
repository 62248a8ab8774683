"""Logs and accuracies -> pictures and the table."""

from pathlib import Path

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FOUND, NEW_FILE, Found


@command("curves", example="r3d curves run/train.log run/val.log curves.svg")
@click.argument("train_log", type=Found("train"))
@click.argument("val_log", type=Found("train"))
@click.argument("output", type=NEW_FILE)
def curves_command(train_log: Path, val_log: Path, output: Path) -> None:
    """Draw the training curves of TRAIN_LOG and VAL_LOG."""
    from r3d.report.plots import plot_curves

    plot_curves(train_log, val_log, output)


@command("confusion", example="r3d confusion run/val.accuracy.confusion.tsv confusion.svg")
@click.argument("table", type=Found("evaluate --save"))
@click.argument("output", type=NEW_FILE)
def confusion_command(table: Path, output: Path) -> None:
    """Draw the confusion TABLE of an evaluation."""
    from r3d.report.plots import plot_confusion

    plot_confusion(table, output)


@command("summary", example="r3d summary results/summary.tsv")
@click.argument("table", type=Found())
def summary_command(table: Path) -> None:
    """Print the accuracy TABLE of a workflow for reading."""
    from r3d.report.summary import format_table

    click.echo(format_table(table))


@command("status", example="r3d status --configfile config/config.yaml")
@click.option(
    "--configfile",
    type=FOUND,
    default="config/config.yaml",
    show_default=True,
    help="Config of the workflow.",
)
@click.option("--curves", is_flag=True, help="Draw the curves of the trainings so far, too.")
def status_command(configfile: Path, curves: bool) -> None:
    """Say where the workflow of a config stands: stages, epochs, time left, what failed."""
    from r3d.config.loading import read_config
    from r3d.report.status import draw_curves, status_text

    config = read_config(configfile)
    click.echo(status_text(config))
    if curves:
        draw_curves(config, Path(config.results, "status"))  # which says what it draws
