"""What an editor says of a config, by its schema, is what the loader says of it."""

import copy
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from r3d.config.config import Dataset, Experiment, Rendering
from r3d.config.loading import load_config
from r3d.config.options import Resources, Section
from r3d.config.schema import config_schema, laid_out
from r3d.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "config/schema.json"
SHIPPED = [
    path
    for path in sorted((ROOT / "config").rglob("*.yaml"))
    if not path.name.startswith("my-")  # someone's own
]
FIRST_LINE = "# yaml-language-server: $schema="

MINIMAL: dict[str, Any] = {
    "datasets": {
        "ucf": {"format": "ucf101", "lists": "lists", "videos": "videos", "frames": "jpg"},
        "hmdb": {"format": "hmdb51", "lists": "lists", "videos": "videos", "frames": "jpg"},
    },
    "defaults": {"dataset": "ucf"},
    "experiments": {"base": {}},
}

validator = Draft202012Validator(config_schema())


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The minimal config with a value at a path such as `experiments.base.model`."""
    raw = copy.deepcopy(MINIMAL)
    *sections, key = path.split(".")
    inner = raw
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[key] = value
    return raw


def loads(raw: dict[str, Any]) -> bool:
    try:
        load_config(raw)
    except InputError:
        return False
    return True


def complaints(raw: Any) -> list[str]:
    """What the schema says against a config, whose keys are texts to it as to an editor."""
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(raw)))]


def test_the_schema_is_that_of_the_options():
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(committed)
    command = f"python -m r3d.config.schema {SCHEMA.relative_to(ROOT)}"
    assert committed == json.loads(laid_out(config_schema())), f"bring it up to date: {command}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_config_of_the_repository_names_its_schema_and_fits_it(path: Path):
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    assert first.startswith(FIRST_LINE)
    assert (path.parent / first.removeprefix(FIRST_LINE)).resolve() == SCHEMA
    assert complaints(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("experiment", {}),
        ("defaults", []),
        ("defaults", 3),
        ("results", 3),
        ("datasets", {}),
        ("datasets", None),
        ("datasets.u f", MINIMAL["datasets"]["ucf"]),
        ("datasets.ucf", {"format": "ucf101", "lists": "lists", "frames": "jpg"}),
        ("datasets.ucf", None),
        ("datasets.ucf.shard", 3),
        ("datasets.ucf.shards", 0),
        ("datasets.ucf.shards", 10_001),
        ("datasets.ucf.format", "ucf"),
        ("datasets.ucf.splits", ["1"]),
        ("datasets.ucf.splits", [1]),
        ("datasets.ucf.splits", ["01", "01"]),
        ("datasets.hmdb.splits", ["01"]),
        ("datasets.ucf.splits", []),
        ("datasets.ucf.quality", 1),
        ("datasets.ucf.fps", 0),
        ("datasets.ucf.validation_fraction", 1),
        ("datasets.ucf.render", {"videos": 3}),
        ("datasets.ucf.render", {"n_frames": 1}),
        ("merged.both", ["ucf"]),
        ("merged.both", "ucf"),
        ("merged.u f", ["ucf", "hmdb"]),
        ("experiments", []),
        ("experiments.base", 3),
        ("experiments.a.b", {}),
        ("experiments.a b", {}),
        ("experiments.base.learning_rat", 1),
        ("experiments.base.learning_rate", 0),
        ("experiments.base.learning_rate", "fast"),
        ("experiments.base.dataset", 3),
        ("experiments.base.model", "alexnet"),
        ("experiments.base.model_depth", 19),
        ("experiments.base.model_depth", 18.5),
        ("experiments.base.model_depth", "deep"),
        ("experiments.base.value_scale", 2),
        ("experiments.base.mean_dataset", 0.6),
        ("experiments.base.no_val", "perhaps"),
        ("experiments.base.no_val", 1),
        ("experiments.base.momentum", 1),
        ("experiments.base.batch_size", None),
        ("experiments.base.batch_size", "1e2"),
        ("experiments.base.batch_size", True),
        ("experiments.base.multistep_milestones", [0]),
        ("experiments.base.multistep_milestones", ["10"]),
        ("experiments.base.ft_begin_module", "layer5"),
        ("experiments.base.splits", ["04"]),
        ("experiments.base.resources", {"gpu": 1}),
        ("experiments.base.resources", None),
        ("defaults.sampel_size", 64),
        ("defaults.batch_size", "many"),
        ("defaults.resources", {"nodes": 0}),
    ],
)
def test_refused_by_the_schema_and_the_loader(path: str, value: Any):
    assert not loads(with_value(path, value))
    assert complaints(with_value(path, value))


def test_data_sets_are_required():
    raw = {"experiments": {}}
    assert not loads(raw)
    assert complaints(raw)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results", None),
        ("results", "elsewhere"),
        ("merged", None),
        ("experiments", None),
        ("experiments", {}),
        ("experiments.base", None),
        ("experiments.base", {"dataset": "hmdb", "splits": ["1"]}),
        ("experiments.2024", {}),
        ("defaults", None),
        ("datasets.ucf.splits", ["02", "01"]),
        ("datasets.ucf.splits", None),
        ("datasets.ucf.n_classes", None),
        ("datasets.ucf.n_classes", "101"),
        ("datasets.ucf.fps", "25"),
        ("datasets.ucf.fps", 25),
        ("datasets.ucf.render", None),
        ("datasets.ucf.render", {}),
        ("datasets.ucf.group_pattern", "_g(\\d+)_"),
        ("experiments.base.mean_dataset", 0.5),
        ("experiments.base.mean_dataset", "0.5"),
        ("experiments.base.weight_decay", "1e-3"),
        ("experiments.base.weight_decay", "1.5E-3"),
        ("experiments.base.weight_decay", ".5"),
        ("experiments.base.weight_decay", 0),
        ("experiments.base.batch_size", "1_024"),
        ("experiments.base.model_depth", "34"),
        ("experiments.base.value_scale", "255"),
        ("experiments.base.output_topk", "-1"),
        ("experiments.base.output_topk", -1),
        ("experiments.base.no_val", "True"),
        ("experiments.base.no_val", "false"),
        ("experiments.base.multistep_milestones", []),
        ("experiments.base.ft_begin_module", ""),
        ("experiments.base.pretrain", None),
        ("experiments.base.resources", {"mem_mb": "4000"}),
    ],
)
def test_accepted_by_the_schema_and_the_loader(path: str, value: Any):
    raw = with_value(path, value)
    if path == "defaults":
        raw["experiments"] = {"base": {"dataset": "ucf"}}
    assert complaints(raw) == []
    assert loads(raw)


def test_merged_data_sets():
    raw = with_value("merged", {"both": ["ucf", "hmdb"]})
    raw["datasets"]["ucf"]["splits"] = ["01"]
    raw["datasets"]["hmdb"]["splits"] = ["1"]
    raw["experiments"]["base"] = {"dataset": "both", "splits": ["all"]}
    assert complaints(raw) == []
    assert loads(raw)


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ("datasets.ucf", Dataset),
        ("datasets.ucf.render", Rendering),
        ("experiments.base", Experiment),
        ("defaults", Experiment),
        ("experiments.base.resources", Resources),
    ],
)
def test_every_value_of_an_option_that_loads_fits_the_schema(path: str, section: type[Section]):
    values: list[Any] = [None, False, 0, 1, 2, 34, 255, 0.5, 2.5, "", "ucf", "ucf101", "fc", "0.5"]
    values += ["false", "34", "1e-3", [], [1], ["01"], ["ucf", "hmdb"], {}, {"seed": 1}]
    for name, field in section.model_fields.items():
        loaded = 0
        known = [*get_args(field.annotation), field.default]
        for value in values + [value for value in known if isinstance(value, str | int)]:
            if isinstance(value, float) and field.annotation in (str, str | None):
                continue  # a path such as 0.5: the loader makes a text of it, the schema wants one
            raw = with_value(f"{path}.{name}", value)
            if loads(raw):
                loaded += 1
                assert complaints(raw) == [], (name, value)
        assert loaded, f"none of the values is one of {name}"
        assert complaints(with_value(f"{path}.{name}", [[None]])), name


@pytest.mark.parametrize("text", ["no_val: yes", "batch_size: 1_024", "momentum: 0.9_0"])
def test_yaml_1_2_of_editors_reads_some_values_as_texts(text: str):
    option, value = text.split(": ")
    assert loads(with_value("experiments.base", yaml.safe_load(text)))
    assert complaints(with_value("experiments.base", {option: value})) == []
