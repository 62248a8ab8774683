"""The tables of config/README.md, made from the options themselves.

python -m r3d.config.optiondocs config/README.md     bring the tables up to date
"""

import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from r3d.config.config import Dataset, Experiment, Rendering
from r3d.config.options import (
    ClipOptions,
    InferOptions,
    ModelOptions,
    Resources,
    RunOptions,
    Section,
    TrainOptions,
)
from r3d.files import atomic_path

_SECTIONS: dict[str, type[Section]] = {
    "dataset": Dataset,
    "render": Rendering,
    "model": ModelOptions,
    "clip": ClipOptions,
    "train": TrainOptions,
    "infer": InferOptions,
    "run": RunOptions,
    "resources": Resources,
}


def update_tables(text: str) -> str:
    """Replace the tables between `<!-- options: <name> -->` and `<!-- end -->` in a page."""

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- options: {name} -->\n\n{_table(_fields(name))}\n\n<!-- end -->"

    return re.sub(r"<!-- options: (?P<name>\w+) -->.*?<!-- end -->", table, text, flags=re.S)


def _fields(name: str) -> dict[str, FieldInfo]:
    if name == "experiment":  # what an experiment has beside the groups of options
        groups = (ModelOptions, ClipOptions, TrainOptions, InferOptions, RunOptions)
        known = {field for group in groups for field in group.model_fields}
        return {key: field for key, field in Experiment.model_fields.items() if key not in known}
    return _SECTIONS[name].model_fields


def _table(fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        meaning = " ".join((field.description or "").split())
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if choices:
            meaning += f" ({', '.join(f'`{choice}`' for choice in choices)})"
        rows.append(f"| `{name}` | {_default(field)} | {meaning} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if isinstance(value, Section):
        return "see below"
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'`"{value}"`' if value == "" else f"`{value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value!r}`"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    updated = update_tables(page.read_text(encoding="utf-8"))
    with atomic_path(page) as partial:
        partial.write_text(updated, encoding="utf-8")
