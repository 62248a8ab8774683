"""Killed anywhere and started again, the workflow makes the same bytes as undisturbed.

The few kills of every run of the tests are of rare moments. `R3D_KILLS=60` draws so many more,
spread over all moments of `kills.MOMENTS`, signals and targets; `-s` shows each.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from kills import (
    Kill,
    Outcome,
    disturb,
    draw_kills,
    made,
    wait_for_end,
)
from smallrun import SmallRun

pytestmark = pytest.mark.workflow

CONFIG: dict[str, Any] = {
    "results": "results",
    "datasets": {
        "motion": {
            **{"format": "ucf101", "render": {"videos_per_class": 3, "n_frames": 10}},
            **{"lists": "data/lists", "videos": "data/videos", "frames": "data/frames"},
            **{"splits": ["01"], "short_side": 36, "shards": 2},
        }
    },
    "defaults": {
        **{"dataset": "motion", "model_depth": 10, "resnet_widen_factor": 0.0625},
        **{"sample_size": 32, "sample_duration": 4, "batch_size": 4, "n_epochs": 4},
        **{"lr_scheduler": "cosine", "ema_decay": 0.9, "final_model": "best", "checkpoint": 2},
        **{"learning_rate": 0.01, "n_threads": 1, "no_cuda": True, "precision": "fp32"},
    },
    "experiments": {"base": {}},
}

FEW = [
    Kill("extract_shard", "frames written", signal.SIGKILL, "group"),
    Kill("train_model", "workers start", signal.SIGTERM, "group"),
    Kill("train_model", "a state written", signal.SIGKILL, "job"),
    Kill("train_model", "validation", signal.SIGKILL, "snakemake"),
    Kill("infer_subset", "any", signal.SIGTERM, "snakemake"),
    Kill("evaluate_subset", "begins", signal.SIGINT, "group"),
]
"""Kills of every run of the tests."""

VARIANTS: dict[str, dict[str, Any]] = {
    "jpg": {},
    "hdf5": {"file_type": "hdf5"},
    "two processes": {"resources": {"processes": 2}},
}
CHAIN = 10
"""Kills of one run, at most."""

KILLS = int(os.environ.get("R3D_KILLS", 0))


def workflow(folder: Path, variant: str) -> SmallRun:
    folder.mkdir()
    # Of the few kills, none is later than an evaluation.
    run = SmallRun(folder, targets=() if KILLS else ["evaluate"])
    run.config = {**CONFIG, "defaults": {**CONFIG["defaults"]}}
    changes = dict(VARIANTS[variant])
    if "file_type" in changes:
        motion = {**CONFIG["datasets"]["motion"], **changes}
        run.config["datasets"] = {"motion": motion}
    else:
        run.config["defaults"].update(changes)
    return run


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A finished run that nothing has disturbed."""
    run = workflow(tmp_path_factory.mktemp("whole") / "whole", request.param)
    run.run()
    return run


def problems(outcome: Outcome) -> list[str]:
    """What is wrong with how a kill ended."""
    kill, status = outcome.kill, outcome.status
    expected = {0, 1, 128 + kill.number, -kill.number}
    if kill.number == signal.SIGKILL and kill.target != "job":
        expected = {-signal.SIGKILL}
    found = [] if status in expected else [f"{kill}: status {status}"]
    if "Traceback" in outcome.output:
        found.append(f"{kill}: {outcome.output}")
    return found


def check_kills(whole: SmallRun, run: SmallRun, kills: list[Kill], seed: int) -> int:
    """Disturb a run and finish it; how many kills were in time."""
    found: list[str] = []
    n_kills = 0
    for outcome in disturb(whole, run, kills, seed):
        n_kills += 1
        print(f"{seed}.{n_kills}: {outcome.kill}: status {outcome.status}", flush=True)
        found += problems(outcome)
    run.run()
    wait_for_end(run.folder)
    expected, made_here = made(whole.folder), made(run.folder)
    found += [f"{name}: is left" for name in made_here.keys() - expected.keys()]
    found += [f"{name}: is other" for name in expected if made_here.get(name) != expected[name]]
    logs = run.folder.glob("results/logs/**/*.log")
    found += [f"{log}: {text}" for log in logs if "Traceback" in (text := log.read_text())]
    assert not found, "\n\n".join(found)
    return n_kills


@pytest.mark.parametrize("whole", ["jpg"], indirect=True)
def test_a_few_kills(whole: SmallRun, tmp_path: Path):
    run = workflow(tmp_path / "killed", "jpg")
    assert check_kills(whole, run, FEW, seed=0) >= len(FEW) - 2  # a busy machine misses moments


@pytest.mark.skipif(not KILLS, reason="R3D_KILLS is not set")
@pytest.mark.parametrize(("whole", "variant"), [(v, v) for v in VARIANTS], indirect=["whole"])
def test_many_kills(whole: SmallRun, variant: str, tmp_path: Path):
    number = list(VARIANTS).index(variant)
    kills = draw_kills(KILLS, seed=0)[number :: len(VARIANTS)]
    chains = -(-len(kills) // CHAIN)
    for i in range(chains):
        run = workflow(tmp_path / f"killed{i}", variant)
        check_kills(whole, run, kills[i::chains], seed=100 * number + i)
