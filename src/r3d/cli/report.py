"""Logs and accuracies -> pictures and the table."""

from pathlib import Path

import click

from r3d.cli.parameters import FOUND, NEW_FILE


@click.command("curves")
@click.argument("train_log", type=FOUND)
@click.argument("val_log", type=FOUND)
@click.argument("output", type=NEW_FILE)
def curves_command(train_log: Path, val_log: Path, output: Path) -> None:
    """Draw the training curves of TRAIN_LOG and VAL_LOG."""
    from r3d.report.plots import plot_curves

    plot_curves(train_log, val_log, output)


@click.command("confusion")
@click.argument("table", type=FOUND)
@click.argument("output", type=NEW_FILE)
def confusion_command(table: Path, output: Path) -> None:
    """Draw the confusion TABLE of an evaluation."""
    from r3d.report.plots import plot_confusion

    plot_confusion(table, output)


@click.command("summary")
@click.argument("table", type=FOUND)
def summary_command(table: Path) -> None:
    """Print the accuracy TABLE of a workflow for reading."""
    from r3d.report.summary import format_table

    click.echo(format_table(table))
