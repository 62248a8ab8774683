"""A YAML file as a person writes it: read, or refused with line and column of what is wrong.

Snakemake reads a config file before the Snakefile, says of a faulty one only that it is, and of two
keys of one name takes the last. So `profiles/default` has the file checked here before that.
"""

import codecs
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from yaml.error import MarkedYAMLError
from yaml.reader import ReaderError

from r3d.errors import InputError
from r3d.files import read_json, read_text

_DEFAULT = Path("config/config.yaml")
_MOST_VALUES = 1_000_000
_MERGE = "tag:yaml.org,2002:merge"  # << may come several times
_WIDE = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def read_yaml(path: Path) -> dict[Any, Any]:
    """The keys and values of a YAML or JSON file.

    Raises:
        InputError: if it cannot be read or is no UTF-8; with the line and column of a syntax fault;
            with both lines of each key that is given twice; or if it holds no keys.
    """
    text = _read(path)
    try:
        if _is_json(text):  # which may be indented by tabs
            return _mapping(read_json(path, unique_keys=True), path)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if (n_values := _count(root, {})) > _MOST_VALUES:
            raise InputError(
                f"config {path}: its aliases (*name) stand for {n_values} values; accepted: up to "
                f"{_MOST_VALUES}; write out what is meant"
            )
        problems = list(_repeated_keys(path, root, ""))
        if problems:
            raise InputError("\n".join(problems))
        return _mapping(loader.construct_document(root) if root else None, path)
    except MarkedYAMLError as error:
        raise InputError(
            f"config {_place(path, error)}: not valid YAML: {_reason(error)}"
        ) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise InputError(
            f"config {path}, line {line}, column {column}: not valid YAML: the control character "
            f"{_character(error)}; remove it"
        ) from None
    except RecursionError:
        raise InputError(f"config {path}: is nested too deeply; expected a few levels") from None
    except ValueError as error:  # a date or number that cannot be
        reason = " ".join(str(error).split())
        raise InputError(f"config {path}: not valid YAML: {reason}") from None


def check_command_line(arguments: Sequence[str] | None = None) -> None:
    """End the process with a line for each fault of the config files that Snakemake is to read.

    Args:
        arguments: those of Snakemake; by default this process's own.
    """
    paths = list(_config_files(sys.argv[1:] if arguments is None else arguments))
    if not paths and _DEFAULT.is_file():  # what the Snakefile reads else
        paths = [_DEFAULT]
    problems = []
    for path in paths:
        try:
            read_yaml(path)
        except InputError as error:
            problems += str(error).splitlines()
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))


def _config_files(arguments: Sequence[str]) -> Iterator[Path]:
    follows = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            follows = name in ("--configfile", "--configfiles") and not equals
            if name in ("--configfile", "--configfiles") and equals:
                yield Path(value)
        elif follows:
            yield Path(argument)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise InputError(f"config {path}: cannot be read: there is no such file") from None
    except OSError as error:
        raise InputError(f"config {path}: cannot be read: {error.strerror}") from None
    for encoding, marks in _WIDE.items():
        if start.startswith(marks):
            raise InputError(f"config {path}: is in {encoding}; save the file as UTF-8 text")
    try:
        return read_text(path)
    except InputError as error:
        raise InputError(f"config {error}") from None


def _character(error: ReaderError) -> str:
    return f"U+{error.character:04X}" if isinstance(error.character, int) else error.character


def _is_json(text: str) -> bool:
    with suppress(json.JSONDecodeError):
        json.loads(text)
        return True
    return False


def _place(path: Path, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)


def _reason(error: MarkedYAMLError) -> str:
    reason = error.problem or error.context or "not to be understood"
    if "'\\t'" in reason:
        reason += "; indent by spaces, not by tabs"
    if error.context and error.context_mark:
        reason += f" ({error.context} that begins in line {error.context_mark.line + 1})"
    return " ".join(reason.split())


def _mapping(content: Any, path: Path) -> dict[Any, Any]:
    if isinstance(content, dict):
        return content
    found = "nothing" if content is None else f"a {type(content).__name__}"
    raise InputError(
        f"config {path}: holds {found}; accepted: keys with values, such as results, datasets and "
        "experiments (see config/README.md)"
    )


def _count(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node stands for where each alias is what it points to."""
    if not isinstance(node, yaml.SequenceNode | yaml.MappingNode):
        return 1
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.SequenceNode) else chain(*node.value)
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _repeated_keys(path: Path, node: yaml.Node | None, where: str) -> Iterator[str]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(path, item, where)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        line, name = key.start_mark.line + 1, f"{where}{key.value}"
        if key.value in lines:
            yield (
                f"config {path}, line {line}: {name} is given twice, first in line "
                f"{lines[key.value]}; remove one of them or give it another name"
            )
        lines.setdefault(key.value, line)
        yield from _repeated_keys(path, value, f"{name}.")
