"""What the parameters of several commands have in common."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from r3d.config.options import Section
from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.obstacles import need_writable

FOUND = click.Path(exists=True, path_type=Path)
FILE_TYPE = click.Choice(get_args(FileType))
SUBSET = click.Choice(["train", "val", "test", "training", "validation", "testing"])
PARALLEL = click.IntRange(min=1)


class _Output(click.ParamType):
    """A file or folder to write, refused at once if it could not be written in the end."""

    name = "path"

    def __init__(self, *, folder: bool, may_be_complete: bool = False) -> None:
        self._folder, self._may_be_complete = folder, may_be_complete

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if not (self._may_be_complete and path.is_dir()):
            need_writable(path, folder=self._folder)
        return path


NEW_FILE = _Output(folder=False)
NEW_FOLDER = _Output(folder=True)
FRAMES_FOLDER = _Output(folder=True, may_be_complete=True)
"""Complete frames are used as they are, be the place read-only."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LateChoice(click.ParamType):
    """One of several names, which are found out only when they are needed."""

    name = "choice"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._choice.get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return self._choice.convert(value, param, ctx)

    @property
    def _choice(self) -> click.Choice[str]:
        return click.Choice(list(self._names()))


def section_options(
    *sections: type[Section], only: Collection[str] = (), has_defaults: bool = True
) -> Callable[[_Command], _Command]:
    """Give a command the options of config sections, under the names of the config.

    Args:
        only: names of options; all by default.
        has_defaults: whether the defaults are those of the config, to be told.
    """

    def decorate(command: _Command) -> _Command:
        fields = [item for section in sections for item in section.model_fields.items()]
        for name, field in reversed(fields):
            if name in only if only else name not in ("resources", "pretrain"):  # of the workflow
                command = _option(name, field, has_defaults)(command)
        return command

    return decorate


def _option(name: str, field: FieldInfo, has_defaults: bool) -> Callable[[_Command], _Command]:
    if field.annotation is bool:
        return click.option(f"--{name}", is_flag=True, help=field.description)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    metavar = "|".join(map(str, choices)) or "VALUE"
    text = (
        f"{field.description}  [default: {field.default!r}]" if has_defaults else field.description
    )
    return click.option(f"--{name}", metavar=metavar, help=text)


def _list(text: str) -> list[str | int]:
    """A list option, as `[50, 100]`, `50,100` or `50 100`."""
    words = text.strip("[] ").replace(",", " ").split()
    return [int(word) if word.isdecimal() else word for word in words]


def section_of(section: type[Section], options: dict[str, Any]) -> Any:
    """A validated config section from the options that were given."""
    from r3d.config.messages import problems

    given = {
        name: _list(value) if get_origin(section.model_fields[name].annotation) is list else value
        for name, value in options.items()
        if name in section.model_fields and value not in (None, False)
    }
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise InputError("\n".join(problems(error))) from None
