"""Names of files that Snakemake would not take as they are, and files that it could not write."""

import re
from collections.abc import Iterable
from pathlib import Path

from r3d.errors import InputError
from r3d.files import AnyPath

_WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,[^{}]*(\{[^{}]*\}[^{}]*)*)?\}")


def check_input_names(where: str, files: Iterable[AnyPath]) -> None:
    """Refuse files that cannot be inputs of a rule, as Snakemake takes braces for wildcards.

    Args:
        where: what names them, such as "config: datasets.own.lists".

    Raises:
        InputError: naming the first of them.
    """
    for file in files:
        if found := _WILDCARD.search(str(file)):
            raise InputError(
                f"{where}: {str(file)!r}: Snakemake takes {found[0]} in a name for a pattern; "
                "rename the file or folder to a name without braces"
            )


def check_output_folder(where: str, folder: AnyPath) -> None:
    """Refuse a folder that outputs of rules cannot lie in.

    Raises:
        InputError: if its name has braces.
    """
    if found := re.search("[{}]", str(folder)):
        raise InputError(
            f"{where}: {str(folder)!r}: Snakemake takes {found[0]} in a name for part of a "
            "pattern; give a folder without braces in its name"
        )


def check_output_files(results: AnyPath, files: Iterable[AnyPath]) -> None:
    """Refuse folders that are in the place of files to be written.

    Snakemake takes them for the files: as results that are there, or it finds out at the end.

    Raises:
        InputError: with a line for each.
    """
    problems = [
        f"config: results: {str(results)!r}: {file} is a folder, and a file is to be written "
        "there; move or rename it, or give another folder"
        for file in sorted(map(str, files))
        if Path(file).is_dir()
    ]
    if problems:
        raise InputError("\n".join(problems))
