"""The page of the report: one file that asks for nothing from elsewhere."""

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from r3d.files import atomic_path


def write_page(contents: dict[str, Any], output: Path, *, title: str, made: str) -> None:
    """Write the page that shows contents (`r3d.report.contents`).

    Args:
        title: heading of the page.
        made: a line under it: when, from what.
    """
    part = files("r3d.report").joinpath("page")
    text = json.dumps(contents, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Within a script element only "<" could begin anything else; in JSON it is in texts alone.
    parts = {
        "title": html.escape(title),
        "made": html.escape(made),
        "css": part.joinpath("page.css").read_text(encoding="utf-8"),
        "script": part.joinpath("page.js").read_text(encoding="utf-8"),
        "contents": text.replace("<", "\\u003c"),
    }
    page = part.joinpath("page.html").read_text(encoding="utf-8")
    pieces = page.split("{{")
    with atomic_path(output) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(pieces[0])
        for piece in pieces[1:]:
            name, _, rest = piece.partition("}}")
            file.write(parts[name] + rest)
