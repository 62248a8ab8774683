"""What experiments start from and apply in the workflow: names, files, what does not fit."""

from pathlib import Path

import pytest
import torch
from smallrun import SmallRun
from torchvision.models import video
from weights import write_hollow

pytestmark = pytest.mark.workflow


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    run = SmallRun(tmp_path)
    run.list_videos()
    (tmp_path / "videos").mkdir()
    return run


def test_the_dry_run_names_what_does_not_fit(run: SmallRun):
    """A line for each, and no job."""
    (run.folder / "text.pth").write_text("no weights")
    write_hollow(run.folder / "deep.pth", model_depth=50)
    write_hollow(run.folder / "far.pth", model_depth=10, resnet_widen_factor=0.0625)
    run.config["experiments"] = {
        "text": {"pretrain_path": "text.pth"},
        "deep": {"pretrain_path": "deep.pth", "no_train": True},
        "far": {"resume_path": "far.pth"},
    }
    output = run.run("--dry-run", fails=True)
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    told = {line.split(".")[1]: line for line in lines}
    assert len(lines) == len(told) == 3
    assert "no checkpoint" in told["text"]
    assert "model_depth: 10, " in told["deep"]
    assert "has done 200 epochs" in told["far"]
    assert "Traceback" not in output
    assert not (run.folder / "results").exists()


def test_torchvisions_weights_are_fetched_by_a_job(run: SmallRun):
    """Once for all experiments, and not at all when they are there."""
    for option in ("model_depth", "resnet_widen_factor", "sample_size", "sample_duration"):
        del run.config["defaults"][option]
    start = {"pretrain_path": "torchvision:r3d_18"}
    run.config["experiments"] = {
        "tuned": start,
        "other": {**start, "learning_rate": 0.1},
        "applied": {**start, "no_train": True},
    }
    with torch.device("meta"):
        shapes = video.r3d_18(weights=None).state_dict()
    cache = run.folder / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    weights = {n: torch.zeros((), dtype=v.dtype).expand(v.shape) for n, v in shapes.items()}
    torch.save(weights, cache / video.R3D_18_Weights.KINETICS400_V1.url.rpartition("/")[2])
    planned = run.jobs("--dry-run")
    assert planned["fetch_torchvision"] == 1
    assert planned["train_model"] == 2
    file = "models/torchvision_r3d_18.pth"
    assert run.jobs(file, TORCH_HOME=str(run.folder / "torch")) == {"fetch_torchvision": 1}
    assert "fetch_torchvision" not in run.jobs("--dry-run")
