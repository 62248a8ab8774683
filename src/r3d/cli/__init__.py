"""The command line: every step of the workflow by hand.

A command's module is imported when the command is asked for, and imports the library when the
command runs, so that every `--help` comes at once.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from r3d.cli.commands import Overview, with_underscores
from r3d.workflow.jobs import end_at_interrupts, one_line_errors, show_messages

# Group -> command -> its module, and what it does in a line.
_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Use a model": {
        "predict": ("predict", "Say what happens in videos"),
        "features": ("features", "Write what the last layer sees of videos"),
        "export": ("exporting", "Hand a model on: torch.export, ONNX, safetensors"),
        "info": ("models", "Say what a model file is"),
        "released": ("models", "List the released weight files, and what fits them"),
    },
    "Steps of the workflow, in their order": {
        "motion": ("lists", "Render the embedded data set of motions"),
        "lists": ("lists", "Read the lists of a data set: its videos and classes"),
        "shards": ("frames", "Divide the videos into shards, to be worked on apart"),
        "frames": ("frames", "Extract the frames of a shard"),
        "ledger": ("frames", "Gather what became of the videos of all shards"),
        "annotations": ("annotations", "Write the annotation JSON of a split"),
        "merge": ("annotations", "Make one annotation JSON of several data sets"),
        "activitynet": ("annotations", "Add frame rates to the official JSON of ActivityNet"),
        "train": ("training", "Train a network, or go on training it"),
        "infer": ("inference", "Apply a trained network to the videos of a subset"),
        "evaluate": ("evaluation", "Give the accuracy of results"),
    },
    "Look at results": {
        "status": ("report", "Say where a workflow stands: epochs, time left, what failed"),
        "videos": ("evaluation", "Follow each listed video through all steps"),
        "curves": ("report", "Draw the curves of a training"),
        "confusion": ("report", "Draw which classes are taken for which"),
        "summary": ("report", "Print the accuracy table of a workflow"),
    },
    "Examine and tune": {
        "doctor": ("doctor", "Find what is wrong with lists and videos, before any work"),
        "tune": ("tuning", "Find the fastest settings of this machine"),
    },
}

_MODULES = {name: module for group in _GROUPS.values() for name, (module, _) in group.items()}


class _Commands(Mapping[str, click.Command]):
    """The commands by name, from `r3d.cli.<module>.<name>_command`."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"r3d.cli.{_MODULES[name]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


@click.group(
    cls=Overview,
    commands=_Commands(),
    groups={
        title: {name: text for name, (_, text) in group.items()} for title, group in _GROUPS.items()
    },
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": with_underscores,
    },
    subcommand_metavar="COMMAND ...",
    options_metavar="",
    epilog="The help of each command has an example: r3d train --help",
)
@click.version_option(package_name="r3d")
def cli() -> None:
    """Recognise human actions in video with 3D convolutional networks.

    `snakemake --cores N` runs all steps of a config; each is also a command.
    """


def main() -> None:
    """Run the command line; bad input ends it with one line."""
    show_messages()
    try:
        with one_line_errors():
            cli(prog_name="r3d")
    finally:
        end_at_interrupts()  # what follows is the end of Python
