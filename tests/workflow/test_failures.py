"""A step that failed is tried again by the same command, whatever was finished before."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ALL_OF_SNAKEMAKE, ROOT, snakemake
from smallrun import SmallRun

pytestmark = pytest.mark.workflow

TARGETS = ["lists", "frames", "annotations", "train", "infer", "evaluate", "report", "all"]

# Something of every kind that a config can have.
EVERYTHING: dict[str, Any] = {
    "datasets": {
        "motion": {
            **{"format": "ucf101", "render": {"videos_per_class": 4}, "splits": ["01", "02"]},
            **{"lists": "./data//lists/", "videos": "data/videos", "frames": "data/jpg"},
        },
        "one": {"format": "csv", "lists": "one.csv", "videos": "videos", "frames": "jpg1"},
        "two": {"format": "csv", "lists": "two.csv", "videos": "videos", "frames": "jpg2"},
    },
    "merged": {"both": ["one", "two"]},
    "experiments": {
        "scratch": {"dataset": "motion"},
        "tuned": {"dataset": "motion", "pretrain": "scratch", "splits": ["01"]},
        "applied": {"dataset": "motion", "pretrain": "tuned", "no_train": True, "splits": ["01"]},
        "merged": {"dataset": "both"},
        "from_merged": {"dataset": "one", "pretrain": "merged"},
        "unlabelled": {
            **{"dataset": "one", "pretrain": "from_merged", "no_train": True},
            "inference_subset": "test",
        },
    },
}


def planned(output: str) -> list[tuple[str, set[str], set[str]]]:
    """Rule, inputs and outputs of each job of a dry run."""
    jobs: list[tuple[str, set[str], set[str]]] = []
    for line in output.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in ("rule", "checkpoint", "localrule"):
            jobs.append((words[1].rstrip(":"), set(), set()))
        for number, kind in enumerate(("    input: ", "    output: "), 1):
            if line.startswith(kind):
                jobs[-1][number].update(line.removeprefix(kind).split(", "))
    return jobs


def test_every_target_asks_for_all_outputs_of_all_steps_on_its_way(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    for name in ("one", "two"):
        rows = [f"{name}/{i}.mp4,{name},training" for i in range(4)] + [f"{name}/5.mp4,,testing"]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,subset", *rows, ""]))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(EVERYTHING))
    # Together, as each call takes seconds; what is on the way to each is seen from its jobs.
    plan = snakemake(tmp_path, config, *TARGETS, options=["-n", *ALL_OF_SNAKEMAKE])
    assert plan.returncode == 0, plan.stderr
    jobs = planned(plan.stdout + plan.stderr)
    maker = {file: job for job in jobs for file in job[2]}
    assert {name for name, _, _ in jobs} >= {*TARGETS, "render_motion", "merge_annotations"}
    for name, asked, _ in jobs:
        if name not in TARGETS:
            continue
        queue, on_the_way = list(asked), set()
        while queue:
            job = maker.get(queue.pop())
            if job and not job[2] <= on_the_way:
                on_the_way |= job[2]
                queue += job[1]
        assert on_the_way, name
        assert not on_the_way - asked, f"{name} does not ask for {on_the_way - asked}"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Everything is made; one video is missing, which is allowed."""
    folder = tmp_path_factory.mktemp("failures")
    run = SmallRun(folder / "done")
    run.fill(folder / "encoded")
    run.video("run1").unlink()
    run.run()
    return run


@pytest.fixture
def run(done: SmallRun, tmp_path: Path) -> SmallRun:
    return done.copy(tmp_path / "copy")


def wrong_list(run: SmallRun) -> dict[str, str]:
    run.list_videos("run/run4.mp4,run,trian")
    return {}


def wrong_shards(run: SmallRun) -> dict[str, str]:
    run.list_videos("run/RUN2.mp4,run,training")
    return {}


def wrong_extraction(run: SmallRun) -> dict[str, str]:
    run.own["short_side"] = 32
    return {"R3D_FFMPEG": "/nonexistent"}


def wrong_ledger(run: SmallRun) -> dict[str, str]:
    run.own["max_failure_rate"] = 0
    return {}


def wrong_training(run: SmallRun) -> dict[str, str]:
    run.config["defaults"].update(learning_rate=1e20, n_epochs=3)
    return {}


@pytest.mark.parametrize(
    ("break_it", "target"),
    [
        (wrong_list, "lists"),
        (wrong_shards, "all"),
        (wrong_extraction, "frames"),
        (wrong_ledger, "annotations"),
        (wrong_training, "report"),
    ],
)
def test_after_a_finished_run(
    run: SmallRun, break_it: Callable[[SmallRun], dict[str, str]], target: str
):
    environment = break_it(run)
    why = run.fail(**environment)
    assert run.fail(target, **environment) == why
    assert "not all results" in run.fail("--report", "report.zip")
    assert not (run.folder / "report.zip").exists()
    run.config = SmallRun(run.folder).config
    run.list_videos()
    run.run()
    assert "Nothing to be done" in run.run()


@pytest.mark.parametrize(
    "step", ["annotate_split", "infer_subset", "evaluate_subset", "summarise", "plot_curves"]
)
def test_steps_whose_code_has_become_wrong(done: SmallRun, tmp_path: Path, step: str):
    root = tmp_path / "root"
    root.mkdir()
    for name in ("rules", "workflow", "profiles", "src"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy2(ROOT / name, root / name)
    run = done.copy(tmp_path / "copy", root)
    script = root / f"workflow/scripts/{step}.py"
    fault = "import sys\n\nsys.exit('error: a fault')\n"
    script.write_text(fault + script.read_text())
    assert run.fail() == run.fail() == "error: a fault"


def test_snakemake_killed_while_it_tries_again(run: SmallRun):
    """The inputs of the training have changed and change back: only its missing model tells."""
    run.config["defaults"].update(learning_rate=0.02, n_epochs=1)
    model = run.folder / "results/experiments/base/all/model.pth"
    process = run.start("evaluate")
    while model.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    run.config = SmallRun(run.folder).config
    assert run.jobs("-n", "evaluate")["train_model"] == 1
    run.run("train")
    assert model.is_file()
