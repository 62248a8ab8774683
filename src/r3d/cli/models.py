"""What is known of networks and weight files."""

import click

from r3d.cli.commands import command


@command("released", example="r3d released")
def released_command() -> None:
    """List the weight files that the authors of the reference released, with what fits them."""
    from r3d.models.released import released_table

    click.echo(released_table())
