"""The workflow as the Snakemake workflow catalog deploys it: as a module of a user's own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ALL_OF_SNAKEMAKE, ROOT

pytestmark = pytest.mark.workflow

CONFIG: dict[str, Any] = {
    "datasets": {
        "own": {"format": "csv", "lists": "list.csv", "videos": "videos", "frames": "jpg"},
    },
    "experiments": {"base": {"dataset": "own", "n_threads": 0}},
}
VIDEOS = [f"{label}/{number}.mp4" for label in ("run", "walk") for number in range(5)]
LIST = Path("results/datasets/own/lists/all.tsv")

# As snakedeploy writes it.
MODULE = """
configfile: "config/config.yaml"

module r3d:
    snakefile:
        {snakefile}
    config:
        {config}

use rule * from r3d
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a user, with a list and a config."""
    rows = [f"{video},{video.partition('/')[0]}" for video in VIDEOS]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows, ""]))
    (tmp_path / "videos").mkdir()
    (tmp_path / "config").mkdir()
    configure(tmp_path, CONFIG)
    return tmp_path


def configure(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))


def deploy(folder: Path, snakefile: str, *, config: str = "config", more: str = "") -> None:
    """Write a user's workflow that consists of this one."""
    (folder / "workflow").mkdir()
    content = MODULE.format(snakefile=snakefile, config=config) + more
    (folder / "workflow/Snakefile").write_text(content)


def run(folder: Path, *arguments: str, fails: bool = False, **environment: str) -> str:
    """Run `snakemake` in a folder; what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def assert_listed(folder: Path) -> None:
    rows = (folder / LIST).read_text().splitlines()[1:]
    assert len(rows) == len(VIDEOS)


def test_the_catalog_finds_what_it_asks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    assert usage["report"] is True
    assert usage["mandatory-flags"]["desc"]
    assert (ROOT / "workflow/Snakefile").is_file()
    assert (ROOT / "config/README.md").is_file()


def test_every_step_that_computes_has_the_environment_that_the_catalog_promises():
    """Which has all that pyproject.toml asks for (tests/test_environment.py)."""
    n_steps = 0
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for step in re.split(r"\n(?=rule |checkpoint )", path.read_text())[1:]:
            if "\n    script:" not in step:
                continue
            n_steps += 1
            (environment,) = re.findall(r"\n    conda:\n        \"(.*)\"\n", step)
            assert (path.parent / environment).resolve() == ROOT / "environment.yml"
    assert n_steps == len(list((ROOT / "workflow/scripts").glob("*.py")))


# Makes "environments" whose Python has the packages of this one, but not the library itself.
CONDA = """#!/bin/sh
echo "$@" >> {notes}
case "$1 $2" in
"info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
"--version "*) echo "conda 25.1.0" ;;
"config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
"env create")
    cp "$(echo "$@" | sed 's/.*--file "*\\([^ "]*\\).*/\\1/')" {base}/environment.yml
    prefix=$(echo "$@" | sed 's/.*--prefix "*\\([^ "]*\\).*/\\1/')
    mkdir -p "$prefix/bin"
    printf '#!/bin/sh\\necho job >> {notes}\\nexec {python} "$@"\\n' > "$prefix/bin/python"
    chmod +x "$prefix/bin/python" ;;
esac
"""


def test_with_conda_jobs_run_in_the_environment_and_find_the_library(folder: Path):
    """By a stand-in for conda, which need not be here: it makes what Snakemake asks it for."""
    base = folder / "base"
    (base / "bin").mkdir(parents=True)
    notes = folder / "notes"
    conda = base / "bin/conda"
    conda.write_text(CONDA.format(notes=notes, base=base, python=sys.executable))
    conda.chmod(0o755)
    (base / "bin/activate").write_text('PATH="$1/bin:$PATH"\n')
    deploy(folder, repr(str(ROOT / "workflow/Snakefile")))
    path = f"{base / 'bin'}:{os.environ['PATH']}"
    run(folder, "--software-deployment-method", "conda", "--", "lists", PATH=path)
    assert_listed(folder)
    assert (base / "environment.yml").read_bytes() == (ROOT / "environment.yml").read_bytes()
    assert "job" in notes.read_text().splitlines()


def test_workflow_snakefile_is_the_whole_workflow(folder: Path):
    """From the root of the repository, without a target: everything, to the table."""
    here = ["--snakefile", "workflow/Snakefile", "--directory", str(folder)]
    here += ["--configfile", str(folder / "config/config.yaml")]
    plan = run(ROOT, *here, "-n", *ALL_OF_SNAKEMAKE)
    for rule in ("list_split", "train_model", "summarise", "everything"):
        assert f"\n{rule} " in plan
    run(ROOT, *here, "--", "lists")
    assert_listed(folder)


def test_as_a_module(folder: Path):
    """With the config in a section of the user's own, a changed rule, and the lock of `onstart`."""
    change = "use rule list_split from r3d with:\n    threads: 7\n"
    onstart = "onstart:\n    r3d.onstart()\n"
    path = str(ROOT / "workflow/Snakefile")
    deploy(folder, repr(path), config='config["actions"]', more=change + onstart)
    configure(folder, {"actions": CONFIG, "mine": 1})
    plan = run(folder, "-n", "--cores", "8")
    assert "threads: 7" in plan
    assert "\neverything " in plan
    run(folder, "lists")
    assert_listed(folder)
    assert (folder / "results/.r3d.lock").is_file()


def test_a_mistake_in_the_config_of_a_module_is_one_line(folder: Path):
    deploy(folder, repr(str(ROOT / "workflow/Snakefile")))
    configure(folder, {**CONFIG, "defaults": {"learnrate": 1}})
    (line,) = run(folder, "-n", fails=True).splitlines()
    assert line.startswith("error: config: defaults.learnrate: unknown key")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_as_a_module_from_a_host_of_repositories(folder: Path, tmp_path_factory):
    """As `github(...)` reads it: file by file from a clone, which is here already."""
    cache = tmp_path_factory.mktemp("cache")
    clones = cache / "snakemake/snakemake/source-cache/snakemake-git-cache"
    clone = clones / "github.com/owner/r3d"
    tree = tmp_path_factory.mktemp("tree")
    for name in ("rules", "workflow"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tree)
    author = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        [*author, "commit", "--quiet", "--message=x"],
        ["tag", "v1"],
        ["clone", "--quiet", "--bare", ".", str(clone)],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True)
    deploy(folder, 'github("owner/r3d", path="workflow/Snakefile", tag="v1")')
    offline = {"XDG_CACHE_HOME": str(cache), "GIT_ALLOW_PROTOCOL": "file"}
    assert "\neverything " in run(folder, "-n", **offline)
    run(folder, "lists", **offline)
    assert_listed(folder)
