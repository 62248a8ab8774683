"""The command line as a whole: groups, examples that run, one spelling of options, what is said."""

import inspect
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from running import ROOT

from r3d.cli import cli
from r3d.cli.commands import Command
from r3d.cli.parameters import Found
from r3d.config.options import ClipOptions
from r3d.frames.ledger import MANIFEST_COLUMNS
from r3d.lists import FORMATS

NAMES = list(cli.commands)

# Their examples take minutes, or read what a person has to bring.
NOT_RUN = {"tune"}


def examples(name: str) -> list[list[str]]:
    """The command lines of the example in a command's help, as words."""
    text = cli.commands[name].example.replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines()]


def test_every_command_of_the_modules_has_a_group_and_a_line() -> None:
    declared = {
        command.name
        for file in (ROOT / "src/r3d/cli").glob("[a-z]*.py")
        for _, command in inspect.getmembers(import_module(f"r3d.cli.{file.stem}"))
        if isinstance(command, click.Command)
    }
    assert declared == {*NAMES}
    assert [name for group in cli.groups.values() for name in group] == NAMES
    overview = CliRunner().invoke(cli, ["--help"]).output
    for title, group in cli.groups.items():
        part = overview.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        lines = [re.split(r"\s{2,}", line.strip()) for line in part.splitlines()]
        assert lines == [[name, text] for name, text in group.items()]  # none is cut or broken


@pytest.mark.parametrize("name", NAMES)
def test_the_help_shows_an_example_and_what_each_option_means(name: str) -> None:
    command = cli.commands[name]
    assert isinstance(command, Command)
    shown = CliRunner().invoke(cli, [name, "--help"]).output
    assert f"Example:\n  {command.example.splitlines()[0]}\n" in shown
    assert max(map(len, shown.splitlines())) <= 100
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts
            assert not [flag for flag in parameter.opts if "-" in flag.lstrip("-")]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_has_options_that_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Found, "convert", lambda self, value, param, ctx: Path(value))
    for words in examples(name):
        assert words[:2] == ["r3d", name]
        with cli.make_context("r3d", words[1:2]) as context:
            cli.commands[name].make_context(name, words[2:], parent=context)


def test_long_helps_have_their_options_in_the_groups_of_the_config() -> None:
    for name, titles in {
        "train": ["Options", "Network", "Clips", "Training", "How it runs"],
        "infer": ["Options", "Network", "Clips", "Inference", "How it runs"],
    }.items():
        shown = CliRunner().invoke(cli, [name, "--help"]).output
        assert re.findall(r"^(\w.*):$", shown, re.M) == ["Example", *titles]
        clips = shown.partition("\nClips:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  --(\w+)", clips, re.M) == list(ClipOptions.model_fields)


def test_the_formats_of_lists_are_all_there() -> None:
    (choice,) = [p.type for p in cli.commands["lists"].params if p.name == "format"]
    assert list(choice.choices) == list(FORMATS)
    assert ", ".join(list(FORMATS)[:-1]) in " ".join((cli.commands["lists"].help or "").split())


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each command says when the examples of all are run in one folder.

    They are run in their order, those that need a model after the steps that make one.
    """
    folder = tmp_path_factory.mktemp("walk")
    shutil.copytree(ROOT / "config", folder / "config")
    titles = sorted(cli.groups, key=lambda title: title == "Use a model")
    said: dict[str, list[str]] = {name: [] for title in titles for name in cli.groups[title]}
    handler = logging.Handler(logging.INFO)
    logger = logging.getLogger("r3d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "handlers", [*logger.handlers, handler])
        patch.chdir(folder)
        level = logger.level
        logger.setLevel(logging.INFO)
        for name, lines in said.items():
            prepare(name, folder)
            patch.setattr(handler, "emit", lambda record, to=lines: to.append(record.getMessage()))
            for words in examples(name) if name not in NOT_RUN else []:
                done = CliRunner().invoke(cli, words[1:])
                assert done.exit_code == 0, (words, done.output, done.exception)
        logger.setLevel(level)
    return said


def prepare(name: str, folder: Path) -> None:
    """Put what an example reads that no other one makes."""
    if name == "merge":
        for part in ("kinetics", "mit"):
            shutil.copy(folder / "motion_01.json", folder / f"{part}.json")
            (folder / f"{part}_jpg").mkdir()
    elif name == "activitynet":
        nodes = [{"nodeId": 1, "nodeName": "run", "parentId": None}]
        entry = {"subset": "training", "duration": 4.0, "annotations": []}
        content = {"taxonomy": nodes, "database": {"abc": entry}}
        (folder / "activity_net.v1-3.min.json").write_text(json.dumps(content))
        lines = ["\t".join(MANIFEST_COLUMNS), "abc\t\tv_abc\tok\t\t100\t25\t32\t32"]
        (folder / "activitynet.tsv").write_text("".join(f"{line}\n" for line in lines))
    elif name == "summary":
        (folder / "results").mkdir()
        (folder / "results/summary.tsv").write_text("experiment\tsplit\tsubset\na\t01\tval\n")


# What stands in the last line that a command writes: what it made, and how much.
MADE = {
    "motion": "motion/videos: 32 videos of 8 classes; their lists: motion/lists",
    "lists": r"list.tsv: 32 videos \(24 training, 8 validation\) of 8 classes \(labels.txt\)",
    "shards": "shards: 32 videos in 000.tsv",
    "frames": r"manifest.tsv: 32 videos: 32 ok",
    "ledger": "ledger.tsv: 32 videos, all used",
    "annotations": r"motion_01.json: 32 videos \(24 training, 8 validation\) of 8 classes, 0 .*",
    "merge": "km.json: 64 videos of 16 classes, of kinetics and mit",
    "activitynet": "activitynet.json: 1 videos, 0 without frames",
    "train": "run/model.pth: resnet-10 of 8 classes, after epoch 2",
    "infer": r"run/val\.json: the 5 most likely of 8 classes of 8 videos, computed by torch \S+ in "
    r"(fp32|bf16)",
    "evaluate": r"run/val.accuracy.json: top-1 \d\.\d+, top-5 \d\.\d+ over 8 videos; by class .*",
    "videos": "run/val.videos.tsv: 32 listed, .*",
    "predict": "answers: the answers about 32 videos",
    "curves": "curves.svg: the curves of 2 epochs",
    "confusion": "confusion.svg: the confusions of 8 classes",
}


def test_the_examples_run_and_say_what_they_made(walked: dict[str, list[str]]) -> None:
    for name, expected in MADE.items():
        last = walked[name][-1]
        assert re.fullmatch(expected, last), (name, last)


@pytest.mark.parametrize(
    "options", [["--n_shards", "2"], ["--n-shards=2"], ["--n_shards=2"], ["--n-shards", "2"]]
)
def test_dashes_and_underscores_are_alike(tmp_path: Path, options: list[str]) -> None:
    table = tmp_path / "a-b_c.tsv"
    table.write_text("id\tlabel\tsubset\tkey\tpath\tstart\tend\nx-y\ta-b\ttraining\tk\tp\t\t\n")
    done = CliRunner().invoke(cli, ["shards", str(table), str(tmp_path / "s-h"), *options])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "s-h").iterdir()) == ["000.tsv", "001.tsv"]


def test_values_keep_their_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-b.csv").write_text("path,label\nx-1_g01.mp4,a-b\ny-2_g02.mp4,a-b\n")
    options = ["--group-pattern=-(\\d)_", "--split-seed", "3", "--validation-fraction=0"]
    done = CliRunner().invoke(cli, ["lists", "csv", "a-b.csv", "t-1.tsv", "l-1.txt", *options])
    assert done.exit_code == 0, done.output
    assert Path("l-1.txt").read_text() == "a-b\n"
    assert Path("t-1.tsv").is_file()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["no command 'trian'", "did you mean train?"]),
        (["zzz"], ["no command 'zzz'", "r3d --help"]),
        (["shards", "t.tsv", "s", "--n-shard", "2"], ["--n_shard", "mean '--n_shards'?"]),
        (["shards", "none.tsv", "s"], ["none.tsv does not exist", "`r3d lists` makes it"]),
        (["shards", "lits.tsv", "s"], ["lits.tsv does not exist", "did you mean list.tsv?"]),
        (["shards", "x/y/t.tsv", "s"], ["x/y/t.tsv does not exist", "there is no folder x"]),
        (["doctor", "none"], ["none does not exist", "as seen from /"]),
        (["lists", "ucf10", ".", "t", "l"], ["'ucf10' is not one of", "'ucf101'"]),
        (["train"], ["Missing option '--annotation_path'"]),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.tsv").touch()
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    for part in parts:
        assert part in done.output


@pytest.mark.parametrize("name", ["", *NAMES])
def test_a_help_waits_for_no_library(name: str) -> None:
    heavy = "torch", "pandas", "numpy", "av", "h5py", "matplotlib"
    program = (
        "import sys; from r3d.cli import cli\n"
        "try: cli(sys.argv[1:], prog_name='r3d')\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])"
    )
    arguments = [*filter(None, [name]), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
