"""The presets of published experiments: each is one workflow, planned here without running it."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from running import ROOT, snakemake
from weights import write_hollow

from r3d.config.config import Dataset
from r3d.config.loading import read_config
from r3d.models.released import RELEASED

PRESETS = sorted((ROOT / "config/papers").glob("*.yaml"))

pytestmark = pytest.mark.workflow


def labels(dataset: Dataset) -> list[str]:
    assert dataset.n_classes
    return [f"class {number:03d}" for number in range(dataset.n_classes)]


def kinetics(dataset: Dataset) -> None:
    for subset in ("train", "val"):
        rows = [f"{label},{subset}{i:06d},0,10,x" for i, label in enumerate(labels(dataset))]
        header = "label,youtube_id,time_start,time_end,split"
        write(Path(dataset.lists) / f"{subset}.csv", [header, *rows])


def mit(dataset: Dataset) -> None:
    lists = Path(dataset.lists)
    write(
        lists / "moments_categories.txt", [f"{name},{i}" for i, name in enumerate(labels(dataset))]
    )
    for file in ("trainingSet.csv", "validationSet.csv"):
        write(lists / file, [f"{label}/{file}.mp4,{label},3,0" for label in labels(dataset)])


def activitynet(dataset: Dataset) -> None:
    nodes = [{"nodeId": 0, "nodeName": "Root", "parentId": None}]
    nodes += [
        {"nodeId": i, "nodeName": name, "parentId": 0} for i, name in enumerate(labels(dataset), 1)
    ]
    write(Path(dataset.lists), [json.dumps({"taxonomy": nodes, "database": {}})])


def folders(dataset: Dataset) -> None:
    for label in labels(dataset):
        write(Path(dataset.lists) / label / "a.mp4", [])


def ucf101(dataset: Dataset) -> None:
    lists = Path(dataset.lists)
    write(lists / "classInd.txt", [f"{i} {name}" for i, name in enumerate(labels(dataset), 1)])
    for split in dataset.all_splits:
        for kind in ("train", "test"):
            rows = [f"{label}/v_{kind}_{i}.avi" for i, label in enumerate(labels(dataset))]
            write(lists / f"{kind}list{split}.txt", rows)


def hmdb51(dataset: Dataset) -> None:
    for label in labels(dataset):
        for split in dataset.all_splits:
            write(Path(dataset.lists) / f"{label}_test_split{split}.txt", ["a.avi 1", "b.avi 2"])


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


LISTS: dict[str, Callable[[Dataset], None]] = {
    "kinetics": kinetics,
    "mit": mit,
    "activitynet": activitynet,
    "folders": folders,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_one_workflow(
    preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lists where it expects them, as many classes as it states, and no videos."""
    monkeypatch.chdir(tmp_path)
    config = read_config(preset)
    for dataset in config.datasets.values():
        LISTS[dataset.format](dataset)
        Path(dataset.videos).mkdir(parents=True, exist_ok=True)
    for experiment in config.experiments.values():
        if experiment.pretrain_path:
            path = Path(experiment.pretrain_path)
            if not path.exists():
                released = RELEASED[path.name].architecture
                write_hollow(path, **asdict(released))
    done = snakemake(tmp_path, preset, options=["--dry-run", "--quiet", "rules"])
    assert done.returncode == 0, done.stderr
    planned = {rule: n for n, rule in re.findall(r"^ +(\d+) (\w+)", done.stdout, re.M)}
    runs = sum(len(config.experiment_splits(name)) for name in config.experiments)
    assert int(planned["train_model"]) == int(planned["evaluate_subset"]) == runs


def test_fine_tuning_has_the_options_of_the_authors() -> None:
    tuned = [
        experiment
        for preset in PRESETS
        for experiment in read_config(preset).experiments.values()
        if experiment.pretrain or experiment.pretrain_path
    ]
    assert len(tuned) > 60
    for experiment in tuned:
        assert (experiment.learning_rate, experiment.weight_decay) == (1e-3, 1e-5)
        assert experiment.ft_begin_module in ("layer4", "denseblock4")
