"""Videos to apply a model to: they train nothing, and need not be of the model's classes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from example import write_model
from miniatures import Videos
from smallrun import NAMES, SmallRun

pytestmark = pytest.mark.workflow

MODEL = "results/experiments/base/all/model.pth"
APPLY = {"no_train": True, "inference_subset": "test"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A model is trained, and applied to one video without a label, and to one in a folder."""
    folder = tmp_path_factory.mktemp("unlabelled")
    run = SmallRun(folder / "done", targets=["infer"])
    run.fill(folder / "encoded")
    videos = Videos(folder / "more")
    for name in ("videos/new/a.mp4", "elsewhere/x.mp4"):
        videos.put(run.folder / name, seconds=1)
    places = {"lists": "elsewhere", "videos": "elsewhere", "frames": "jpg_elsewhere"}
    other = {**run.own, **places, "format": "folders", "shards": 1}
    run.config["datasets"]["other"] = other
    run.config["experiments"]["named"] = {"dataset": "other", "pretrain": "base", **APPLY}
    run.list_videos("new/a.mp4,,test")
    run.config["experiments"]["apply"] = {"pretrain": "base", **APPLY}
    run.run()
    return run


@pytest.fixture
def run(done: SmallRun, tmp_path: Path) -> SmallRun:
    return done.copy(tmp_path / "copy")


def results(run: SmallRun, experiment: str, subset: str = "test") -> dict[str, Any]:
    path = run.folder / f"results/experiments/{experiment}/all/{subset}.json"
    return json.loads(path.read_text())


def test_unlabelled_videos_train_nothing(run: SmallRun):
    assert list(results(run, "apply")["results"]) == ["a"]
    assert list(results(run, "named")["results"]) == ["x"]
    model = (run.folder / MODEL).stat().st_mtime_ns
    shutil.copy(run.video("walk1"), run.folder / "videos/new/b.mp4")
    # Of the name of a training video, which is called by its whole path from now on.
    shutil.copy(run.video("walk1"), run.folder / "videos/new/run1.mp4")
    run.list_videos("new/a.mp4,,test", "new/b.mp4,,test", "new/run1.mp4,,test")
    jobs = run.jobs()
    assert "train_model" not in jobs
    assert jobs["annotate_split"] == 1
    assert jobs["infer_subset"] == 1, "the trained model is not applied to the same videos again"
    assert list(results(run, "apply")["results"]) == ["a", "b", "new_run1"]
    assert "run_run1" in run.statuses()
    assert (run.folder / MODEL).stat().st_mtime_ns == model
    assert "Nothing to be done" in run.run()


@pytest.mark.parametrize(
    ("row", "trained"),
    [
        ("run/run1.mp4,run,training", True),
        ("run/run4.mp4,run,validation", True),
        ("new/a.mp4,,test", False),
    ],
)
def test_videos_of_training_and_validation_train_again(run: SmallRun, row: str, trained: bool):
    run.list_videos("new/a.mp4,,test")
    listed = (run.folder / "list.csv").read_text()
    (run.folder / "list.csv").write_text(listed.replace(f"{row}\n", ""))
    if not trained:
        del run.config["experiments"]["apply"]
    jobs = run.jobs("infer")
    assert jobs["annotate_split"] == 1
    assert ("train_model" in jobs) == ("infer_subset" in jobs) == trained
    assert "Nothing to be done" in run.run("infer")


def test_another_label_trains_again(run: SmallRun):
    listed = (run.folder / "list.csv").read_text()
    relabelled = listed.replace("run1.mp4,run,", "run1.mp4,walk,")
    (run.folder / "list.csv").write_text(relabelled)
    assert run.jobs("train")["train_model"] == 1


def test_a_training_goes_on_whatever_was_listed_since(run: SmallRun):
    """More epochs than before take those that are done from the state."""
    (state,) = (run.folder / "results/checkpoints/base").rglob("train.log")
    shutil.copy(run.video("walk1"), run.folder / "videos/new/b.mp4")
    run.list_videos("new/a.mp4,,test", "new/b.mp4,,test")
    run.config["defaults"]["n_epochs"] = 2
    assert run.jobs("train")["train_model"] == 1
    assert [line.split("\t")[0] for line in state.read_text().splitlines()] == ["epoch", "1", "2"]


@pytest.fixture
def applied(run: SmallRun) -> SmallRun:
    """The same videos, and a model from elsewhere that knows running and flying."""
    (run.folder / "models").mkdir()
    write_model(
        run.folder / "models/other.pth", ["fly", "run", "swim"], sample_size=32, sample_duration=4
    )
    shutil.rmtree(run.folder / "results")
    run.config["defaults"]["resnet_widen_factor"] = 0.25
    run.config["experiments"] = {"other": {"pretrain_path": "models/other.pth", **APPLY}}
    return run


def list_only(run: SmallRun, *rows: str) -> None:
    (run.folder / "list.csv").write_text("\n".join(["path,label,subset", *rows, ""]))


def test_a_list_of_unlabelled_videos_only(applied: SmallRun):
    list_only(applied, *(f"{label}/{name}.mp4,,test" for name, label in NAMES.items()))
    applied.run("evaluate")
    found = results(applied, "other")
    assert found["labels"] == ["fly", "run", "swim"]
    assert sorted(found["results"]) == sorted(NAMES)
    assert all(len(result) == 3 for result in found["results"].values())
    assert set(applied.table("experiments/other/all/test.videos.tsv")["correct"]) == {""}
    assert "Nothing to be done" in applied.run("evaluate")


def test_a_folder_of_videos_only(applied: SmallRun):
    applied.own.update(format="folders", lists="videos/run", videos="videos/run")
    applied.run()
    assert sorted(results(applied, "other")["results"]) == ["run1", "run2", "run3", "run4"]
    shutil.copy(applied.video("walk1"), applied.folder / "videos/run/later.mp4")
    assert applied.jobs()["infer_subset"] == 1
    assert len(results(applied, "other")["results"]) == 5


@pytest.mark.parametrize("subset", ["test", "val"])
def test_accuracy_counts_where_names_match(applied: SmallRun, subset: str):
    """Be the classes those of training videos or of none."""
    applied.config["experiments"]["other"]["inference_subset"] = subset
    if subset == "test":
        rows = [f"{label}/{name}.mp4,{label},test" for name, label in NAMES.items()]
        list_only(applied, *rows, "new/a.mp4,,test")
    applied.run("evaluate", "results/summary.tsv")
    n = {"test": 4, "val": 1}[subset]
    summary = applied.table("summary.tsv")
    counts = summary[["listed", "found", "left_out"]].astype(int).to_numpy().tolist()
    assert counts == [[n, n, {"test": 5, "val": 1}[subset]]]
    best = {
        video: ranked[0]["label"]
        for video, ranked in results(applied, "other", subset)["results"].items()
    }
    right = sum(
        best[name] == label for name, label in NAMES.items() if label == "run" and name in best
    )
    assert float(summary["top1"].iloc[0]) == pytest.approx(right / n)
    followed = applied.table(f"experiments/other/all/{subset}.videos.tsv").set_index("id")
    assert (followed.loc[["walk4"], "correct"] == "").all()
    assert followed.loc["run4", "correct"] == ("yes" if best["run4"] == "run" else "no")


def test_a_model_that_knows_none_of_the_labels_is_applied(applied: SmallRun):
    rows = [f"{label}/{name}.mp4,{label}ning,test" for name, label in NAMES.items()]
    list_only(applied, *rows)
    applied.run("infer", "results/summary.tsv")
    assert len(results(applied, "other")["results"]) == 8
    summary = applied.table("summary.tsv")
    assert summary[["listed", "left_out"]].to_numpy().tolist() == [["0", "8"]]
    assert "top1" not in summary


def test_a_training_without_training_videos_is_refused(run: SmallRun):
    list_only(run, "new/a.mp4,,test")
    message = run.fail("annotations")
    assert "list.csv: no video of subset training" in message
    assert "no_train: true" in message
