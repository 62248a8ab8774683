"""Every option of the reference's command lines has its place here, with the same default."""

import re
from typing import Any

import click
import pytest
from checkout import Reference
from scripts import Scripts
from test_migrating import PAGE, REFERENCE_OPTIONS, option_rows

from r3d.cli import cli
from r3d.config.config import Experiment
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions

pytestmark = pytest.mark.differential

_SCRIPTS = (
    *("generate_video_jpgs", "generate_video_hdf5", "eval_accuracy"),
    *("kinetics_json", "ucf101_json", "hmdb51_json", "mit_json"),
)


@pytest.fixture
def defaults(reference: Reference) -> dict[str, Any]:
    """What the reference's own parser says, without anything on the command line."""
    return reference.defaults()


def test_the_list_of_options_is_the_references(defaults: dict[str, Any]) -> None:
    assert sorted(defaults) == sorted(REFERENCE_OPTIONS)


def test_defaults(defaults: dict[str, Any]) -> None:
    """Those on the page are the reference's, and those of the same name here, too."""
    compared = 0
    for name, shown, here in option_rows():
        value = defaults[name]
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        if shown:
            number = re.fullmatch(r"-?\d+(\.\d+)?", shown)
            same = float(shown) == value if number else shown.strip('"') == text.lower()
            assert same or shown == text, f"{name}: {value!r} there, {shown} on the page"
        field = Experiment.model_fields.get(name)
        if field is None or field.is_required() or not here.startswith(f"`{name}`"):
            continue
        if value is None:  # a path that is not given
            assert field.default in (None, ""), name
        else:
            assert field.default == value, name
            compared += 1
    assert compared > 40


def test_command_lines(defaults: dict[str, Any]) -> None:
    """What goes by the same name here is an option of `r3d train` or `r3d infer`."""
    flags = {
        command: {
            flag.removeprefix("--")
            for parameter in cli.commands[command].params
            if isinstance(parameter, click.Option)
            for flag in parameter.opts
        }
        for command in ("train", "infer")
    }
    own = {"dataset", "no_train", "inference_subset"}  # of the config: a command is one step
    for section, command in ((TrainingOptions, "train"), (InferenceOptions, "infer")):
        for name in {*section.model_fields, *RunOptions.model_fields} & {*defaults} - own:
            assert name in flags[command] or (command, name) == ("infer", "checkpoint"), name
    rows = {name: here for name, _, here in option_rows()}
    for name in defaults.keys() - flags["train"] - flags["infer"]:
        assert not rows[name].startswith(f"`{name}`,") or name in own, name


@pytest.mark.parametrize("script", _SCRIPTS)
def test_scripts(scripts: Scripts, script: str) -> None:
    assert script in PAGE or script.partition("_")[0] in PAGE
    told = scripts.run(script, "--help").stdout
    flags = set(re.findall(r"--\w+", told)) - {"--help"}
    assert [flag for flag in sorted(flags) if f"{flag}" not in PAGE] == []
