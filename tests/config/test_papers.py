"""The presets of published experiments, and recipes: each is one workflow, planned here only."""

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
RECIPES = sorted((ROOT / "config/recipes").glob("*.yaml"))

pytestmark = pytest.mark.workflow


def labels(dataset: Dataset) -> list[str]:
    return [f"class {number:03d}" for number in range(dataset.n_classes or 3)]


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


@pytest.mark.parametrize("preset", [*PRESETS, *RECIPES], ids=lambda path: path.stem)
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
            if not path.exists() and path.name in RELEASED:
                released = RELEASED[path.name].architecture
                write_hollow(path, **asdict(released))
    done = snakemake(tmp_path, preset, options=["--dry-run", "--quiet", "rules"])
    assert done.returncode == 0, done.stderr
    planned = {rule: n for n, rule in re.findall(r"^ +(\d+) (\w+)", done.stdout, re.M)}
    runs = {name: len(config.experiment_splits(name)) for name in config.experiments}
    trained = sum(n for name, n in runs.items() if not config.experiments[name].no_train)
    assert int(planned["train_model"]) == trained
    assert int(planned["evaluate_subset"]) == sum(runs.values())


def test_the_recipe_of_today_is_the_published_one() -> None:
    """The numbers of steps of k400_resnet3drs_50_tpu.yaml, in epochs of its 215,570 clips."""
    recipe = read_config(ROOT / "config/recipes/modern.yaml").experiments["r3drs50"]
    epochs = recipe.batch_size / 215_570
    assert recipe.n_epochs == round(73_682 * epochs)
    assert recipe.warmup_epochs == round(1050 * epochs)
    assert recipe.learning_rate_batch_size == recipe.batch_size
    assert recipe.batch_size % (recipe.resources.gpus * recipe.accumulate_steps) == 0
    at_256 = read_config(ROOT / "config/recipes/modern.yaml").experiments["r3drs50_at_256"]
    assert (at_256.sample_size, at_256.inference_clips, at_256.inference_crop) == (256, 10, "three")


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
