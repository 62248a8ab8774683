"""docs/architecture.md shows the house as it is."""

import re
import tomllib
from pathlib import Path

import pytest
from running import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
SOURCES = ROOT / "src/r3d"


def first_column(heading: str) -> list[str]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def test_every_stage_has_its_name_at_every_level():
    stages = first_column("What flows between the stages")
    assert sorted(stages) == sorted(
        path.stem
        for path in (ROOT / "rules").glob("*.smk")
        if path.stem not in ("common", "targets")
    )
    assert " -> ".join(stages) in PAGE
    for stage in stages:
        assert (SOURCES / stage / "__init__.py").is_file()
        assert (SOURCES / f"cli/{stage}.py").is_file()
        assert list((ROOT / f"tests/{stage}").glob("test_*.py"))


def test_the_wings_are_those_of_the_library_and_of_the_contract():
    wings = first_column("The wings of the library")
    there = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(wings) == {name for name in there if not name.startswith("__")}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    assert wings == [wing for layer in layers for wing in layer.split(" | ")]


def test_only_the_wings_that_are_said_to_use_torch_may():
    section = PAGE.partition("## The wings of the library\n")[2].partition("\n## ")[0]
    users = set(re.findall(r"^\| `(\w+)` \|.*\| yes \|$", section, re.M))
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    without = {name.removeprefix("r3d.") for name in contracts["contracts"][1]["source_modules"]}
    assert not users & without
    # What lies below all of them is covered by them; commands import the library when they run.
    assert users | without | {"cli", "tables", "files", "obstacles", "paths", "errors"} == {
        *first_column("The wings of the library")
    }


PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")]


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / "docs").glob("*.md")], ids=lambda p: p.stem)
def test_every_place_that_a_page_names_exists(page: Path):
    text = page.read_text()
    places = re.findall(
        r"(?<![\w/.-])(?:src|rules|workflow|tests|benchmarks|profiles)/[\w./]*\w", text
    )
    for place in places:
        assert (ROOT / place).exists(), place
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
