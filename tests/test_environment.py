"""environment.yml gives conda users what pyproject.toml gives pip users."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "playwright": "playwright-python",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
    "types-PyYAML": "types-pyyaml",
}


def project_requirements() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = {f"r3d[{name}]" for name in extras}
    return {*project["dependencies"], *(part for extra in extras.values() for part in extra)} - own


def test_the_tests_have_all_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {f"r3d[{name}]" for name in extras} - {"r3d[dev]"} <= set(extras["dev"])


def to_conda(requirement: str) -> str:
    name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name) + bound


def test_environment_has_the_project_requirements_and_no_others():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    extra = {"python>=3.11", "pip", "ffmpeg"}
    assert {*map(to_conda, project_requirements()), *extra} == set(conda)


def test_the_required_packages_are_there():
    names = {re.match(r"[\w-]+", requirement).group() for requirement in project_requirements()}
    required = {"torch", "torchvision", "snakemake", "pandas", "ffmpeg-python", "pillow", "pytest"}
    assert required <= names


def test_python_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"python{project['requires-python']}" in (ROOT / "environment.yml").read_text()


@pytest.mark.parametrize("name", ["constraints.txt", "environment.yml"])
def test_no_registry_address(name: str):
    assert "://" not in (ROOT / name).read_text()


def test_constraints_pin_every_requirement():
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for requirement in project_requirements():
        assert re.match(r"[\w-]+", requirement).group().lower() in pins


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_before_a_commit_run_the_tools_of_make_check():
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    steps = {line.split()[0] for line in recipe.splitlines()[1:]}
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert steps <= {hook["entry"].split()[0] for hook in local["hooks"]}
