"""docs/finetune.md: its commands, one after the other, with a tiny network and tiny videos."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from miniatures import Videos
from running import ROOT

from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

pytestmark = pytest.mark.workflow

PAGE = (ROOT / "docs/finetune.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    ((?:cp|cat|snakemake|r3d) .*)$", PAGE, re.M)
TRAINED, NEW, APPLIED = (
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
)
TINY = {
    "sample_size": 32,
    "sample_duration": 4,
    "n_epochs": 1,
    "warmup_epochs": 0,
    "n_val_samples": 1,
}
RUN = {"n_threads": 0, "no_cuda": True}


def tiny(config: dict[str, Any]) -> str:
    """A config of the page, as small as a test needs it."""
    for dataset in config["datasets"].values():
        dataset.update(short_side=36, shards=1)
    config["defaults"] = {**config.get("defaults", {}), **TINY, **RUN}
    return yaml.safe_dump(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    for name in ("Snakefile", "rules", "workflow", "config", "profiles", "environment.yml", "src"):
        if name == "config":
            (folder / name).mkdir()
            (folder / "config/own.yaml").symlink_to(ROOT / "config/own.yaml")
        else:
            (folder / name).symlink_to(ROOT / name)
    videos = Videos(folder / "encoded")
    for kind, label in enumerate(("dig", "sow")):
        for number in range(4):
            name = f"data/own/videos/{label}/{label}{number}.mp4"
            videos.put(folder / name, kind=kind, seconds=1)
    for name in ("a.mp4", "b.mp4"):
        videos.put(folder / "data/own/new" / name, seconds=1)
    (listed,) = re.findall(r"```csv\n(.*?)```", PAGE, re.S)
    (folder / "data/own/new.csv").write_text(listed)
    # As if it had been downloaded.
    network = build_model(n_classes=3, model="resnet", model_depth=10, resnet_widen_factor=0.0625)
    (folder / "models").mkdir()
    write_checkpoint(
        folder / "models/torchvision_r3d_18.pth",
        Checkpoint(
            state_dict=network.state_dict(),
            architecture=network.architecture,
            labels=["walking the dog", "digging", "sowing"],
            config={"sample_size": 32, "sample_duration": 4},
        ),
    )
    return folder


def run(folder: Path, command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
    return done.stdout


def test_the_config_of_the_page_is_the_shipped_one():
    shipped = yaml.safe_load((ROOT / "config/own.yaml").read_text(encoding="utf-8"))
    assert shipped["defaults"] == TRAINED["defaults"]
    assert shipped["experiments"]["folders"] == TRAINED["experiments"]["folders"]
    own = shipped["datasets"]["from_folders"]
    assert TRAINED["datasets"]["from_folders"].items() <= own.items()


def test_its_commands_run(folder: Path):
    copy, doctor, train, summary, infer, result, apply, applied, released = COMMANDS
    run(folder, copy)
    config = folder / "config/my-own.yaml"
    assert config.is_file()
    config.write_text(tiny(TRAINED))
    run(folder, doctor)
    run(folder, train)
    shown = run(folder, summary).splitlines()
    assert shown[1].startswith("folders\tall\tvalidation\t2\t2\t")

    added = {key: {**TRAINED[key], **NEW[key]} for key in ("datasets", "experiments")}
    config.write_text(tiny({**TRAINED, **added}))
    said = run(folder, infer)
    assert "train_model" not in said
    assert sorted(json.loads(run(folder, result))["results"]) == ["a", "b"]

    (folder / "config/my-apply.yaml").write_text(tiny(APPLIED))
    run(folder, apply)
    table = pd.read_csv(folder / "results/applied/summary.tsv", sep="\t")
    assert table[["listed", "found", "left_out"]].to_numpy().tolist() == [[1, 1, 1]]
    assert run(folder, applied).splitlines()[1].startswith("kinetics\tall\ttesting\t1\t1\t1\t")
    assert "r3d50_KM_200ep.pth" in run(folder, released)
