"""`~` and `$NAME` in paths: of the command line, of a config, and of the workflow that reads it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from miniatures import Videos, ucf101
from running import snakemake

from r3d.cli import cli
from r3d.cli.parameters import section_of
from r3d.config.loading import load_config
from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.paths import expanded


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, the variable DATA, and another folder as the current one."""
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("DATA", str(folder / "data"))
    monkeypatch.setenv("PART", "a$DATA b")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOPE", raising=False)
    return folder


def test_what_paths_stand_for(home: Path) -> None:
    for written, meant in {
        "~": f"{home}",
        "~/x": f"{home}/x",
        "~root/x": f"{os.path.expanduser('~root')}/x",  # noqa: PTH111
        "$DATA/x": f"{home}/data/x",
        "${DATA}x": f"{home}/datax",
        "a/$DATA": f"a/{home}/data",
        "~/$PART": f"{home}/a$DATA b",  # a value is not looked into
        "a$$DATA": "a$DATA",
        "cost$": "cost$",
        "$5/x": "$5/x",
        "a~b/~c": "a~b/~c",
        "./~": "./~",
        "": "",
        "plain": "plain",
    }.items():
        assert expanded(written) == meant


def test_who_has_no_home_has_a_cache_while_the_process_lasts(home: Path) -> None:
    code = """
import os
import subprocess
import sys
from r3d.paths import cache_folder
os.getuid = lambda: 2**31 - 7  # an id of which the system knows nothing
folder = cache_folder("precision")
assert cache_folder("precision") == folder
folder.mkdir(parents=True)
print(folder)
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    folder = Path(done.stdout.decode().strip())
    assert (done.returncode, done.stderr, folder.name) == (0, b"", "precision")
    assert not folder.parents[1].exists()


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("$NOPE/x", ["'$NOPE/x'", "variable NOPE is not set", "export NOPE=", "$$"]),
        ("${NOPE}/x", ["variable NOPE is not set"]),
        ("$EMPTY/x", ["variable EMPTY is not set or empty"]),  # not /x
        ("$DATA/$NOPE", ["variable NOPE"]),
        ("${}/x", ["${} names no environment variable", "$$"]),
        ("${DATA b}/x", ["${DATA b} names no environment variable", "${HOME}", "$$"]),
        ("~nobody-of-that-name/x", ["no user nobody-of-that-name", "./~nobody-of-that-name/x"]),
    ],
)
def test_what_stands_for_nothing_is_named(home: Path, path: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        expanded(path)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_name_that_is_there_is_taken_as_it_is(home: Path) -> None:
    """As the shell hands it on; but not where a variable or home folder is meant."""
    for name in ("Ca$h.mp4", "a$$b", "~draft", "$DATA"):
        Path(name).touch()
    Path("~").mkdir()
    assert [expanded(name) for name in ("Ca$h.mp4", "a$$b", "~draft")] == [
        *("Ca$h.mp4", "a$$b", "~draft")
    ]
    assert expanded("$DATA") == f"{home}/data"
    assert expanded("~/x") == f"{home}/x"


def config(**dataset: Any) -> dict[str, Any]:
    paths = {"lists": "~/lists", "videos": "$DATA/videos", "frames": "${DATA}/jpg"}
    start = {"dataset": "own", "pretrain_path": "~/$$.pth"}
    return {
        "results": "~/results",
        "datasets": {"own": {"format": "csv", **paths, **dataset}},
        "defaults": {"class_order": "$DATA/classes.txt"},
        "experiments": {"a": start, "b": {"dataset": "own", "resume_path": "~/b.pth"}},
    }


def test_the_paths_of_a_config(home: Path) -> None:
    found = load_config(config(group_pattern="$NOPE"))
    own, data = found.datasets["own"], home / "data"
    assert (own.lists, own.videos, own.frames) == (
        f"{home}/lists",
        f"{data}/videos",
        f"{data}/jpg",
    )
    assert found.results == f"{home}/results"
    assert own.group_pattern == "$NOPE"
    a, b = found.experiments.values()
    assert (a.pretrain_path, b.resume_path) == (f"{home}/$.pth", f"{home}/b.pth")
    assert a.class_order == b.class_order == f"{data}/classes.txt"
    # What was expanded once stays as it is, as in a checkpoint or the params of a job.
    again = TrainingOptions(**a.options(TrainingOptions))
    assert again.pretrain_path == f"{home}/$.pth"


def test_a_variable_of_a_config_that_is_not_set_is_a_line_each(home: Path) -> None:
    raw = config(videos="$NOPE/videos") | {"results": "${NOPE}"}
    raw["experiments"]["a"]["pretrain_path"] = "$NOPE.pth"
    with pytest.raises(InputError) as caught:
        load_config(raw)
    lines = str(caught.value).splitlines()
    for line, key in zip(
        lines, ["results", "datasets.own.videos", "experiments.a.pretrain_path"], strict=True
    ):
        assert line.startswith(f"config: {key}: ")
        assert "variable NOPE is not set" in line


def test_the_paths_of_options(home: Path) -> None:
    given = {"pretrain_path": "~/a.pth", "resume_path": "$DATA/b.pth"}
    options = section_of(TrainingOptions, given)
    assert options.pretrain_path == f"{home}/a.pth"
    assert options.resume_path == f"{home}/data/b.pth"
    with pytest.raises(InputError, match=r"^config: pretrain_path: .*variable NOPE is not set"):
        section_of(TrainingOptions, {"pretrain_path": "$NOPE"})


def test_the_paths_of_commands(home: Path) -> None:
    (home / "list.csv").write_text("path,label\na.mp4,a\nb.mp4,a\n")
    words = ["lists", "csv", "~/list.csv", "${DATA}/list.tsv", "~/labels.txt"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["shards", "$DATA/list.tsv", "~/shards", "--n_shards=1"])
    assert done.exit_code == 0, done.output
    assert (home / "shards/000.tsv").is_file()
    assert not list(Path().iterdir())
    done = CliRunner().invoke(cli, ["doctor", "$NOPE/config.yaml"])
    assert isinstance(done.exception, InputError)


@pytest.mark.workflow
def test_the_workflow_goes_by_what_the_paths_stand_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ucf101(home / "data", Videos(home / "encoded"))
    written = {
        name: path.replace(f"{home}/data", "$DATA")
        for name, path in places.items()
        if isinstance(path, str)
    }
    own = written | {"format": "ucf101", "splits": ["01"], "short_side": 32, "shards": 1}
    videos = sorted((home / "data/videos").rglob("*.avi"))
    rows = "".join(f"{video};{video.parent.name}\n" for video in videos)
    (home / "own.csv").write_text(f"path;label\n{rows}")
    absolute = own | {"format": "csv", "lists": "~/own.csv", "frames": "$DATA/jpg"}
    absolute["splits"] = ["all"]
    raw = {"results": "$DATA/results", "datasets": {"own": own, "absolute": absolute}}
    file = Path("config.yaml")
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    here = Path.cwd()
    done = snakemake(here, file, "annotations", options=["--config", "results=~/other"])
    assert done.returncode == 0, done.stderr
    assert (home / "other/datasets/own/annotations/own_01.json").is_file()
    table = (home / "other/datasets/absolute/lists/all.tsv").read_text()
    assert f"\t{videos[0].relative_to(home / 'data/videos')}\t" in table
    assert list((home / "data").rglob("*.jpg"))
    assert not [path for path in here.iterdir() if "~" in path.name or "$" in path.name]
    again = snakemake(here, file, "annotations", options=["-n", "--config", "results=~/other"])
    assert "Nothing to be done" in again.stdout + again.stderr
    monkeypatch.delenv("DATA")
    done = snakemake(here, file, "annotations", options=["--dry-run"])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "datasets.own.videos" in text]
    assert "variable DATA is not set" in line
