"""The JSON schema of a config, by which editors complete keys and flag mistakes while one types.

python -m r3d.config.schema config/schema.json     bring the schema up to date

It is made from the options themselves and accepts what the loader accepts: an experiment without
options, a text in place of a number. It judges each value by itself; only the loader knows which
values go together.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r3d.config.config import NAME_PATTERN, Config, MergedDataset
from r3d.files import atomic_path
from r3d.lists import FORMATS
from r3d.models.architectures import MODEL_DEPTHS, begin_modules

Schema = dict[str, Any]

# Texts that stand for values. The loader reads YAML 1.1, in which `1e-3` is a text; editors read
# YAML 1.2, in which `yes` and `1_000` are. The range of a number in quotes is left to the loader.
_TEXTS = {
    "boolean": "[Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF",
    "integer": "[+-]?[0-9][0-9_]*",
    "number": r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][+-]?[0-9]+)?",
}


def config_schema() -> Schema:
    """The schema of a config file, in the draft 2020-12."""
    config = Config.model_json_schema()
    sections = config.pop("$defs")
    _add_checks(sections)
    _add_loading(config, sections["Experiment"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_section({**config, "title": "r3d config"}),
        "$defs": {
            **{name: _section(section) for name, section in sections.items()},
            "name": {
                "pattern": f"^{NAME_PATTERN}$",
                # Not of the draft, but shown by editors.
                "patternErrorMessage": "A name holds letters, digits, '_' and '-' only.",
            },
            **{
                f"{kind}_text": {"type": "string", "pattern": f"^({pattern})$"}
                for kind, pattern in _TEXTS.items()
            },
        },
    }


def laid_out(value: Any, margin: str = "") -> str:
    """JSON in which whatever fits into a line is on one."""
    line = json.dumps(value)
    if len(margin) + len(line) <= 100 or not isinstance(value, dict | list):
        return line
    inner = f"{margin}  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {laid_out(item, inner)}" for key, item in value.items()]
    else:
        items = [laid_out(item, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{inner}" + f",\n{inner}".join(items) + f"\n{margin}{end}"


def _add_checks(sections: Schema) -> None:
    """What sections check of single options, beyond their types."""
    dataset, experiment = (sections[name]["properties"] for name in ("Dataset", "Experiment"))
    dataset["format"]["enum"] = list(FORMATS)
    depths = {depth for depths in MODEL_DEPTHS.values() for depth in depths}
    experiment["model_depth"]["enum"] = sorted(depths)
    modules = dict.fromkeys(name for model in MODEL_DEPTHS for name in begin_modules(model))
    experiment["ft_begin_module"]["enum"] = ["", *modules]

    formats = defaultdict(list)
    for name, format in FORMATS.items():
        formats[format.splits].append(name)
    sections["Dataset"]["allOf"] = [
        {
            "if": {"properties": {"format": {"enum": names}}, "required": ["format"]},
            "then": {"properties": {"splits": {"items": _one_of(splits)}}},
        }
        for splits, names in formats.items()
    ]
    known = {*MergedDataset.all_splits}.union(*formats)
    experiment["splits"]["anyOf"][0]["items"] = _one_of(sorted(known))
    how_many, each = experiment["seeds"]["anyOf"][:2]
    how_many |= {"minimum": 1, "maximum": 100}
    each |= {"minItems": 1, "maxItems": 100, "uniqueItems": True}
    each["items"]["minimum"] = 0
    for options in (dataset, experiment):
        options["splits"]["anyOf"][0] |= {"minItems": 1, "uniqueItems": True}


def _one_of(texts: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(texts)}


def _add_loading(config: Schema, experiment: Schema) -> None:
    """What the loader does with the file before its sections are validated, and checks after."""
    keys = config["properties"]
    keys["merged"]["additionalProperties"] |= {"minItems": 2, "uniqueItems": True}
    for name in ("datasets", "merged", "experiments"):
        keys[name]["propertyNames"] = {"$ref": "#/$defs/name"}
    for name in keys.keys() - {*config["required"]}:
        keys[name]["type"] = [keys[name]["type"], "null"]  # as if the key were not there
    del experiment["required"]  # the defaults may have it
    options = {"$ref": "#/$defs/Experiment"}
    keys["experiments"]["additionalProperties"] = {"anyOf": [options, {"type": "null"}]}
    about = {"description": "Options of all experiments, where one does not say otherwise."}
    keys["defaults"] = {**about, "anyOf": [{**about, **options}, {"type": "null"}]}


def _section(section: Schema) -> Schema:
    """A section with its options as they are read; what describes it comes first."""
    options = {name: _option(option) for name, option in section.pop("properties").items()}
    return {
        "title": section.pop("title"),
        "description": _in_one_line(section.pop("description")),
        "type": section.pop("type"),
        "properties": options,
        **section,
    }


def _option(option: Schema) -> Schema:
    """An option with all that is read as a value of it: `"18"` for 18, and 0.5 for `"0.5"`.

    A default of none or of a section is left out: editors would write it out with the key.
    """
    value = {key: option[key] for key in option if key not in ("title", "description", "default")}
    first, *others = value.get("anyOf", [value])
    match first:
        case {"type": "boolean" | "integer" | "number" as kind}:
            others.insert(0, {"$ref": f"#/$defs/{kind}_text"})
        case {"type": "string", "enum": texts}:
            numbers = [text for text in texts if re.fullmatch(_TEXTS["number"], text)]
            others += [{"const": float(text)} for text in numbers]
    if others:
        value = {"anyOf": [first, *others]}
    if not isinstance(option.get("default"), dict | None):
        value["default"] = option["default"]
    return {"description": _in_one_line(option["description"]), **value}


def _in_one_line(docstring: str) -> str:
    """The first paragraph of a docstring."""
    return " ".join(docstring.split("\n\n")[0].split())


if __name__ == "__main__":
    page = Path(sys.argv[1])
    with atomic_path(page) as partial:
        partial.write_text(f"{laid_out(config_schema())}\n", encoding="utf-8")
