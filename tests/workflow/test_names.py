"""Names of folders, files and labels that mean something to Snakemake."""

import unicodedata
from pathlib import Path

import pytest
from smallrun import SmallRun
from weights import write_hollow

pytestmark = pytest.mark.workflow

# One letter in its two forms, which are two names.
ODD = " [a]*?%s&'" + unicodedata.normalize("NFC", "é") + unicodedata.normalize("NFD", "é")


def test_odd_names_are_used(tmp_path: Path):
    """Braces too, where Snakemake is not told of the name: videos, frames, labels."""
    run = SmallRun(tmp_path / "work")
    run.fill(tmp_path / "encoded")
    braces = f"{{name}} {{}}{ODD}"
    (run.folder / "list.csv").rename(run.folder / f"list{ODD}.csv")
    (run.folder / "videos").rename(run.folder / f"videos{braces}")
    (run.folder / f"videos{braces}/walk").rename(run.folder / f"videos{braces}/walk {{fast}}")
    table = run.folder / f"list{ODD}.csv"
    lines = table.read_text()
    table.write_text(lines.replace("walk/", "walk {fast}/").replace(",walk,", ",walk {fast},"))
    run.own.update(lists=f".//list{ODD}.csv", videos=f"videos{braces}", frames=f"jpg{braces}")
    run.config["results"] = f"results{ODD}//x/"
    run.run("annotations")
    assert "Nothing to be done" in run.run("annotations")
    assert "{fast}" in (run.folder / f"results{ODD}/x/datasets/own/ledger.tsv").read_text()
    assert len(list((run.folder / f"jpg{braces}/walk {{fast}}").iterdir())) == 4


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("lists", "a {dataset} b"),
        ("class folder", "{fast}"),
        ("pretrain_path", "{x,[0-9]{2}}"),
        ("results", "{ n }"),
    ],
)
def test_a_name_with_a_pattern_is_one_line(tmp_path: Path, place: str, name: str):
    run = SmallRun(tmp_path)
    run.list_videos()
    (tmp_path / "videos/run").mkdir(parents=True)
    if place == "lists":
        (tmp_path / "list.csv").rename(tmp_path / f"{name}.csv")
        run.own["lists"] = f"{name}.csv"
    elif place == "class folder":
        (tmp_path / "videos" / name).mkdir()
        run.own.update(format="folders", lists="videos")
    elif place == "pretrain_path":
        options = {"model_depth": 10, "resnet_widen_factor": 0.0625}
        write_hollow(tmp_path / f"{name}.pth", **options)
        run.config["experiments"]["base"]["pretrain_path"] = f"{name}.pth"
    else:
        run.config["results"] = f"results {name}"
    message = run.fail("-n")
    assert message.startswith("error: config: ")
    assert name in message
    assert "without braces" in message


def test_braces_that_are_no_pattern_are_used(tmp_path: Path):
    run = SmallRun(tmp_path)
    for label in ("{}", "a {b c}", "{-}"):
        (tmp_path / "videos" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "videos" / label / f"{label}{number}.mp4").touch()
    run.own.update(format="folders", lists="videos")
    run.run("lists")
    assert "a {b c}" in (tmp_path / "results/datasets/own/lists/all.labels.txt").read_text()
