"""What is wrong with the inputs of a config, before any work."""

import sys
from pathlib import Path

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FOUND, PARALLEL, PathType


@command("doctor", example="r3d doctor config/config.yaml")
@click.argument("config", type=FOUND)
@click.option("--all", "everything", is_flag=True, help="Look at every video, to its end.")
@click.option(
    "--json",
    "output",
    type=PathType(dir_okay=False, allow_dash=True),
    is_flag=False,
    flag_value="-",
    help="Print the findings as JSON, or write them to this file.",
)
@click.option("--threads", type=PARALLEL, help="Videos looked at at a time.  [default: all cores]")
def doctor_command(
    config: Path, everything: bool, output: Path | None, threads: int | None
) -> None:
    """Examine what a CONFIG points to: lists, folders and videos. Nothing is changed.

    The exit status is 0 if there are notes at most, 1 with warnings, 2 with errors.
    """
    from r3d.config.loading import read_config
    from r3d.doctor.examination import examine
    from r3d.doctor.findings import Report
    from r3d.errors import InputError

    try:
        report = examine(read_config(config), everything=everything, threads=threads)
    except InputError as error:
        report = Report()
        for problem in str(error).splitlines():
            report.add(
                "error",
                "config",
                str(config),
                problem.removeprefix("config: "),
                "mend the config, and ask again",
            )
    if output == Path("-"):
        click.echo(report.json(), nl=False)
    else:
        click.echo(report.text(), nl=False)
        if output is not None:
            report.save(output)
    sys.exit(report.exit_status)
