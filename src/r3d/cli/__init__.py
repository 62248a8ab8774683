"""The command line: every step of the workflow by hand.

A command's module is imported when the command is asked for, and imports the library when the
command runs, so that every `--help` comes at once.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from r3d.workflow.jobs import one_line_errors, show_messages

_COMMANDS = {
    "doctor": ("doctor",),
    "lists": ("motion", "lists"),
    "frames": ("shards", "frames", "ledger"),
    "annotations": ("annotations", "merge", "activitynet"),
    "training": ("train",),
    "inference": ("infer",),
    "evaluation": ("evaluate", "videos"),
    "report": ("status", "curves", "confusion", "summary"),
    "models": ("released",),
    "tuning": ("tune",),
}


_STAGES = {name: stage for stage, names in _COMMANDS.items() for name in names}


class _Commands(Mapping[str, click.Command]):
    """The commands by name, from `r3d.cli.<stage>.<name>_command`."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"r3d.cli.{_STAGES[name]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_STAGES)

    def __len__(self) -> int:
        return len(_STAGES)


@click.group(
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="r3d")
def cli() -> None:
    """Train 3D convolutional networks to recognise human actions in video.

    Each command is one step of the workflow, which `snakemake --cores N` runs as a whole.
    """


def main() -> None:
    """Run the command line; bad input ends it with one line."""
    show_messages()
    with one_line_errors():
        cli()
