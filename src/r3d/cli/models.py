"""What is known of networks and weight files."""

import json
from pathlib import Path

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FOUND
from r3d.paths import expanded


@command("released", example="r3d released")
def released_command() -> None:
    """List the weight files that the authors of the reference released, with what fits them."""
    from r3d.models.released import released_table

    click.echo(released_table())


@command("info", example="r3d info run/model.pth")
@click.argument("model", type=expanded, metavar="MODEL")
@click.option("--configfile", type=FOUND, help="Config whose experiment MODEL may name.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known, as JSON.")
def info_command(model: str, configfile: Path | None, as_json: bool) -> None:
    """Tell what a MODEL is: a file, a folder of model.safetensors, or a name."""
    from r3d.config.modelnames import model_file
    from r3d.errors import InputError
    from r3d.inference.info import describe_file, lines

    file = model_file(model, configfile=configfile)
    if not file.is_file():  # of torchvision's
        raise InputError(
            f"model {model}: {file} is not there yet; `r3d predict {model} VIDEO` downloads it"
        )
    description = describe_file(file)
    if as_json:
        click.echo(json.dumps(description, indent=1, default=str))
    else:
        click.echo("\n".join(lines(description)))
