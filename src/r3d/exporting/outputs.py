"""What an export is written to: a file of a certain ending, or a folder of its own."""

from pathlib import Path
from typing import Literal

from r3d.errors import InputError, shown
from r3d.files import AnyPath, read_json
from r3d.models.modelfolder import CONFIG, WEIGHTS
from r3d.obstacles import need_writable

Format = Literal["pt2", "onnx", "folder"]


def output_format(path: AnyPath) -> Format:
    """The format that a path stands for: `.pt2`, `.onnx`, else a folder.

    Raises:
        InputError: if it has the extension of anything else.
    """
    text, path = str(path), Path(path)
    if path.is_dir() or text.endswith("/") or not path.suffix:
        return "folder"
    if path.suffix == ".pt2":
        return "pt2"
    if path.suffix == ".onnx":
        return "onnx"
    raise InputError(
        f"output {text}: {path.suffix} is no format to export to; accepted: NAME.pt2, NAME.onnx, "
        f"or a folder for {WEIGHTS} and {CONFIG} (without an extension, or with / at its end)"
    )


def need_output(path: AnyPath) -> Format:
    """The format that a path stands for, if a model can be exported to it: checked before any work.

    Raises:
        InputError: if it cannot be written, or is a folder of other things.
    """
    kind = output_format(path)
    need_writable(path, folder=kind == "folder")
    if kind == "folder" and Path(path).is_dir():
        names = {file.name for file in Path(path).iterdir() if not file.name.startswith(".")}
        if names and not _is_export(Path(path)):
            raise InputError(
                f"output {path}: a folder that holds other things, such as {shown(min(names))}; "
                f"give a model a folder of its own, such as {Path(path) / 'NAME'}"
            )
        for name in (WEIGHTS, CONFIG):
            need_writable(Path(path, name))
    return kind


def _is_export(folder: Path) -> bool:
    """Whether a folder is one that was written here before, and may be written again."""
    try:
        return "r3d" in read_json(folder / CONFIG)
    except (InputError, TypeError):
        return False
