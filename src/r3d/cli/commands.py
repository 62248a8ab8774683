"""What all commands have in common: groups in the overview, an example each, options in groups.

A command is declared with an example, which a test copies and runs, and has a place in the groups
of `r3d.cli`:

    @command("shards", example="r3d shards list.tsv shards")
    @click.argument(...)
    def shards_command(...): ...
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import click

FIRST_GROUP = "Options"


class Option(click.Option):
    """An option with the title of the group under which the help shows it."""

    def __init__(self, *args: Any, group: str = FIRST_GROUP, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help has an example and shows its options in groups."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {FIRST_GROUP: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                title = getattr(parameter, "group", FIRST_GROUP)
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def command(
    name: str, *, example: str, cls: type[Command] = Command
) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command.

    Args:
        example: command lines that work when copied, as they stand in the help.
        cls: its class, for one that parses its arguments in a way of its own.
    """
    return click.command(name, cls=cls, example=example)


def with_underscores(name: str) -> str:
    """The spelling of options, which is that of the config's keys: `--n-epochs` is accepted too."""
    return name.replace("-", "_")


class Overview(click.Group):
    """The commands by what a person wants.

    Args:
        groups: of each title the commands and what each does, in a line.
    """

    def __init__(
        self, *args: Any, groups: Mapping[str, Mapping[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups or {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for commands in self.groups.values() for name in commands)
        for title, commands in self.groups.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", text) for name, text in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = with_underscores(args[0])
        if name not in self.commands and not name.startswith("_"):
            close = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"did you mean {close[0]}?" if close else "r3d --help shows them all"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)
