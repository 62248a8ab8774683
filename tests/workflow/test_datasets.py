"""Every shipped config on a miniature of its data set, from lists and videos to the summary."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from miniatures import HMDB51_NAMES, MINIATURES, RATE, Videos, flow
from running import ROOT, snakemake

from r3d.annotations.reading import read_annotation
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

# What makes a run small enough for a test, and nothing else.
TINY_DATASET = {"short_side": 36, "shards": 1}
TINY = {
    "model": "resnet",
    "model_depth": 10,
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "n_epochs": 1,
    "warmup_epochs": 0,
    "batch_size": 4,
    "multistep_milestones": [],
    "n_val_samples": 1,
    "n_threads": 0,
    "resources": {"gpus": 0, "mem_mb": 2000},
}

pytestmark = pytest.mark.workflow


def shipped(name: str, places: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A config of the repository with other places, class counts and tiny networks."""
    raw = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))
    assert set(places) == set(raw["datasets"])
    for dataset, options in raw["datasets"].items():
        options |= {**places[dataset], **TINY_DATASET}
    for experiment, options in raw["experiments"].items():
        raw["experiments"][experiment] = {**raw["defaults"], **(options or {}), **TINY}
    return raw


def write_start(path: Path) -> None:
    """What config/own.yaml starts from, as if it had been downloaded, of a network as tiny."""
    names = ("model", "model_depth", "resnet_widen_factor")
    network = build_model(n_classes=5, **{name: TINY[name] for name in names})
    path.parent.mkdir()
    content = {"state_dict": network.state_dict(), "architecture": network.architecture}
    write_checkpoint(path, Checkpoint(**content))


@dataclass(frozen=True)
class Run:
    """What the workflow made of all data sets."""

    folder: Path
    config: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def annotation(self, dataset: str, split: str = "all") -> Path:
        return self.results / f"datasets/{dataset}/annotations/{dataset}_{split}.json"

    def ledger(self, dataset: str) -> pd.DataFrame:
        return read_table(self.results / f"datasets/{dataset}/ledger.tsv").set_index("id")

    def result(self, experiment: str, subset: str = "val", split: str = "all") -> dict[str, Any]:
        path = self.results / f"experiments/{experiment}/{split}/{subset}.json"
        return json.loads(path.read_text(encoding="utf-8"))["results"]

    def rows(self, experiment: str) -> pd.DataFrame:
        summary = read_table(self.results / "summary.tsv")
        return summary[summary["experiment"] == experiment].set_index("split")


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All shipped configs in one run of the workflow: its start is what takes time."""
    folder = tmp_path_factory.mktemp("datasets")
    videos = Videos(folder / "encoded")
    datasets: dict[str, Any] = {}
    experiments: dict[str, Any] = {}
    for name, makers in MINIATURES.items():
        places = {dataset: make(folder / dataset, videos) for dataset, make in makers.items()}
        raw = shipped(name, places)
        datasets |= raw["datasets"]
        for experiment, options in raw["experiments"].items():
            experiments[f"{name}-{experiment}"] = options
    for experiment in ("kinetics700-r3d50", "own-csv", "own-folders"):
        experiments[f"{experiment}-test"] = {
            **experiments[experiment],
            **{"pretrain": experiment, "no_train": True, "inference_subset": "test"},
            "pretrain_path": None,
        }
    write_start(folder / "models/torchvision_r3d_18.pth")
    datasets["flow"] = {**flow(folder / "flow"), **TINY_DATASET}
    experiments["flow"] = {"dataset": "flow", "input_type": "flow", **TINY}
    merged = {"KM": ["kinetics700", "mit"]}
    experiments["merged"] = {"dataset": "KM", **TINY}
    experiments["merged-tuned"] = {"dataset": "stair", "pretrain": "merged", **TINY}
    config = folder / "config.yaml"
    raw = {"results": "results", "datasets": datasets, "merged": merged, "experiments": experiments}
    config.write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = snakemake(folder, config, "results/summary.tsv", "infer", options=["--quiet", "rules"])
    assert done.returncode == 0, done.stderr[-5000:]
    return Run(folder, config)


@pytest.mark.parametrize("dataset", [name for makers in MINIATURES.values() for name in makers])
def test_every_video_has_its_frames(run: Run, dataset: str) -> None:
    ledger = run.ledger(dataset)
    assert set(ledger["status"]) == {"ok"}
    for key, frames in zip(ledger["key"], ledger["frames"], strict=True):
        files = list((run.folder / dataset / "frames" / key).glob("image_*.jpg"))
        assert len(files) == int(frames) > 0


@pytest.mark.parametrize(
    ("experiment", "splits", "listed"),
    [
        ("ucf101-r3d18_scratch", ["01", "02", "mean", "std"], 2),
        ("hmdb51-r3d18_scratch", ["1"], 2),
        ("kinetics400-r3d50", ["all"], 2),
        ("kinetics600-r3d50", ["all"], 2),
        ("kinetics700-r3d50", ["all"], 2),
        ("mit-r3d50", ["all"], 2),
        ("activitynet-r3d18", ["all"], 2),
        ("stair-r3d50", ["all"], 2),
        ("own-folders", ["all"], 2),
        ("own-folders-test", ["all"], 2),
        ("own-csv", ["all"], 2),
        ("flow", ["all"], 2),
        ("merged", ["all"], 4),
        ("merged-tuned", ["all"], 2),
    ],
)
def test_every_experiment_has_its_accuracy(
    run: Run, experiment: str, splits: list[str], listed: int
) -> None:
    rows = run.rows(experiment)
    assert list(rows.index) == splits
    for split, row in rows.iterrows():
        if split == "std":
            assert 0 <= float(row["top1"]) <= 1
            continue
        if split != "mean":
            assert (row["listed"], row["found"]) == (str(listed), str(listed))
        assert 0 <= float(row["top1"]) <= float(row["top5"]) == 1


def test_merged_classes_come_one_list_after_the_other(run: Run) -> None:
    content = json.loads(run.annotation("KM").read_text(encoding="utf-8"))
    names = ("kinetics700", "mit")
    parts = [json.loads(run.annotation(name).read_text(encoding="utf-8")) for name in names]
    assert content["labels"] == [
        f"{name}/{label}"
        for name, part in zip(names, parts, strict=True)
        for label in part["labels"]
    ]
    assert len(content["database"]) == sum(len(part["database"]) for part in parts)
    assert len(run.result("merged")) == 4


def test_ucf101_splits_share_their_frames(run: Run) -> None:
    ledger = run.ledger("ucf101")
    assert len(ledger) == 6
    assert set(ledger["subset_01"]) == set(ledger["subset_02"]) == {"training", "validation"}
    assert (ledger["subset_01"] != ledger["subset_02"]).any()


def test_hmdb51_names_are_kept(run: Run) -> None:
    names = {name.removesuffix(".avi") for name in HMDB51_NAMES}
    assert names < set(run.ledger("hmdb51").index)
    assert run.result("hmdb51-r3d18_scratch", split="1").keys() <= set(run.ledger("hmdb51").index)


def test_kinetics_classes_are_in_order_of_appearance(run: Run) -> None:
    for release in (400, 600, 700):
        content = json.loads(run.annotation(f"kinetics{release}").read_text(encoding="utf-8"))
        assert content["labels"] == ["zumba", "abseiling"]
        assert "label" not in content["database"]["test0000000_000005_000015"]["annotations"]


@pytest.mark.parametrize(
    ("experiment", "videos"),
    [
        ("kinetics700-r3d50-test", {"test0000000_000005_000015", "test0000001_000005_000015"}),
        ("own-csv-test", {"long 0_0002400_0003400", "long 1_0002400_0003400"}),
    ],
)
def test_videos_without_labels_have_results_but_no_accuracy(
    run: Run, experiment: str, videos: set[str]
) -> None:
    assert run.result(experiment, "test").keys() == videos
    assert run.rows(experiment).empty


def test_activitynet_is_trained_on_segments_and_applied_to_whole_videos(run: Run) -> None:
    annotation = run.annotation("activitynet")
    trimmed = read_annotation(annotation, subset="training")
    assert len(trimmed) == 2 * (2 + 1)
    assert (trimmed.begins[0], trimmed.ends[0]) == (1 + 0.4 * RATE, 1 + 1.6 * RATE)
    untrimmed = read_annotation(annotation, subset="validation", untrimmed=True)
    assert (untrimmed.ends - untrimmed.begins).tolist() == [4 * RATE] * 2
    assert run.result("activitynet-r3d18").keys() == set(untrimmed.ids)
    (row,) = run.rows("activitynet-r3d18").to_dict("records")
    assert 0 < float(row["map"]) <= 1
    assert row["hit1"] == row["top1"]


def test_own_segments_are_cut_out(run: Run) -> None:
    ledger = run.ledger("from_csv")
    assert list(ledger["frames"]) == [str(RATE)] * 8
    assert ledger.loc["long 0_0000800_0001800", "label"] == "null"


def test_a_new_video_in_a_folder_is_listed_at_once(tmp_path: Path) -> None:
    datasets = {}
    for name, above in (("plain", ""), ("divided", "train/")):
        for label in ("run", "walk"):
            for number in range(2):
                video = tmp_path / name / above / label / f"{label}_{number}.mp4"
                video.parent.mkdir(parents=True, exist_ok=True)
                video.touch()
        place = str(tmp_path / name)
        datasets[name] = {"format": "folders", "lists": place, "videos": place, "frames": "none"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"datasets": datasets}), encoding="utf-8")

    def listed() -> dict[str, tuple[int, int]]:
        """The number of videos of each data set, and when they were listed."""
        done = snakemake(tmp_path, config, "lists")
        assert done.returncode == 0, done.stderr
        tables = {name: tmp_path / f"results/datasets/{name}/lists/all.tsv" for name in datasets}
        return {
            name: (len(read_table(path)), path.stat().st_mtime_ns) for name, path in tables.items()
        }

    before = listed()
    assert listed() == before
    (tmp_path / "plain/run/new.mp4").touch()
    (tmp_path / "divided/train/jump").mkdir()
    (tmp_path / "divided/train/jump/new.mp4").touch()
    after = listed()
    assert [after[name][0] for name in datasets] == [5, 5]
