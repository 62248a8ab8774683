"""What the parameters of several commands have in common."""

import difflib
import os
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from r3d.cli.commands import FIRST_GROUP, Option
from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.obstacles import need_writable
from r3d.paths import expanded

if TYPE_CHECKING:  # it takes a while, and only some commands need it
    from pydantic.fields import FieldInfo

    from r3d.config.options import Section

_MOST_NAMES = 2000  # of a folder that are looked at for a near one


class PathType(click.Path):
    """A path in which `~` and `$NAME` stand for folders."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expanded(os.fspath(value)), param, ctx)


class Found(PathType):
    """A file or folder that is there.

    Args:
        made_by: the command that makes it, for the message if it is not there.
    """

    def __init__(self, made_by: str = "") -> None:
        super().__init__(exists=True)
        self._made_by = made_by

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(expanded(os.fspath(value)))
        if not os.path.lexists(path):
            self.fail(f"{path} does not exist; {self._remedy(path)}", param, ctx)
        return super().convert(value, param, ctx)

    def _remedy(self, path: Path) -> str:
        """What to do if nothing is there."""
        folder = path.parent
        if not folder.is_dir():
            absent = next((p for p in reversed(folder.parents) if not p.exists()), folder)
            return f"there is no folder {absent}"
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, _MOST_NAMES)]
        except OSError:
            names = []
        if close := difflib.get_close_matches(path.name, names, n=1):
            return f"did you mean {folder / close[0]}?"
        return (
            f"`r3d {self._made_by}` makes it"
            if self._made_by
            else f"give a path that is there, as seen from {Path.cwd()}"
        )


FOUND = Found()
FILE_TYPE = click.Choice(get_args(FileType))
SUBSET = click.Choice(["train", "val", "test", "training", "validation", "testing"])
PARALLEL = click.IntRange(min=1)


class _Output(click.ParamType):
    """A file or folder to write, refused at once if it could not be written in the end."""

    name = "path"

    def __init__(self, *, folder: bool, may_be_complete: bool = False) -> None:
        self._folder, self._may_be_complete = folder, may_be_complete

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(expanded(os.fspath(value)))
        if not (self._may_be_complete and path.is_dir()):
            need_writable(path, folder=self._folder)
        return path


NEW_FILE = _Output(folder=False)
NEW_FOLDER = _Output(folder=True)
FRAMES_FOLDER = _Output(folder=True, may_be_complete=True)
"""Complete frames are used as they are, be the place read-only."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def section_options(
    *sections: "type[Section]", only: Collection[str] | None = None, has_defaults: bool = True
) -> Callable[[_Command], _Command]:
    """Give a command the options of config sections, under the names of the config.

    In its help they stand in the groups of config/README.md.

    Args:
        only: the names of the options to give it; all by default.
        has_defaults: whether the defaults are the config's, to be told, and not a model's.
    """
    from r3d.config.options import ClipOptions, InferOptions, ModelOptions, RunOptions, TrainOptions

    titles: dict[type[Section], str] = {
        ModelOptions: "Network",
        ClipOptions: "Clips",
        TrainOptions: "Training",
        InferOptions: "Inference",
        RunOptions: "How it runs",
    }

    def decorate(command: _Command) -> _Command:
        known = {
            name: field
            for part in sections
            for name, field in part.model_fields.items()
            if only is None or name in only
        }
        for name in ("resources", "pretrain"):  # of the workflow only
            known.pop(name, None)
        groups = {name: title for part, title in titles.items() for name in part.model_fields}
        in_order = [name for name in groups if name in known]
        in_order += [name for name in known if name not in groups]
        for name in reversed(in_order):
            group = groups.get(name, FIRST_GROUP)
            command = _option(name, known[name], group, has_defaults=has_defaults)(command)
        return command

    return decorate


def _option(
    name: str, field: "FieldInfo", group: str, *, has_defaults: bool
) -> Callable[[_Command], _Command]:
    text = " ".join((field.description or "").split())
    if field.annotation is bool:
        return click.option(f"--{name}", cls=Option, group=group, is_flag=True, help=text)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    metavar = "|".join(map(str, choices)) or "VALUE"
    default = field.default
    if isinstance(default, list):
        default = ",".join(map(str, default))
    if default not in (None, "") and has_defaults:
        text += f"  [default: {default}]"
    return click.option(f"--{name}", cls=Option, group=group, metavar=metavar, help=text)


def _list(text: str) -> list[str | int]:
    """A list option, as `[50, 100]`, `50,100` or `50 100`."""
    words = text.strip("[] ").replace(",", " ").split()
    return [int(word) if word.isdecimal() else word for word in words]


def section_of(section: "type[Section]", options: dict[str, Any]) -> Any:
    """A validated config section from the options that were given."""
    from pydantic import ValidationError

    from r3d.config.messages import problems
    from r3d.config.options import AS_WRITTEN

    given = {
        name: _list(value) if get_origin(section.model_fields[name].annotation) is list else value
        for name, value in options.items()
        if name in section.model_fields and value not in (None, False)
    }
    try:
        return section.model_validate(given, context=AS_WRITTEN)
    except ValidationError as error:
        raise InputError("\n".join(problems(error))) from None
