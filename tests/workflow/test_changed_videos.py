"""Videos that come, are mended, replaced or removed after their frames were made."""

import os
import shutil
from pathlib import Path

import pytest
from smallrun import NAMES, SmallRun

pytestmark = pytest.mark.workflow

AFTER_FRAMES = {"annotate_split", "train_model", "infer_subset"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """All results are made of eight videos, one of them missing and one cut short."""
    folder = tmp_path_factory.mktemp("changed")
    run = SmallRun(folder / "done", targets=["infer"])
    run.fill(folder / "encoded")
    mended = folder / "done/mended"
    mended.mkdir()
    for name in ("run1", "walk1"):
        shutil.copy(run.video(name), mended / f"{name}.mp4")
    run.video("run1").unlink()
    run.video("walk1").write_bytes(run.video("walk1").read_bytes()[:100])
    run.run()
    return run


@pytest.fixture
def run(done: SmallRun, tmp_path: Path) -> SmallRun:
    return done.copy(tmp_path / "copy")


def mend(run: SmallRun) -> None:
    for name in ("run1", "walk1"):
        shutil.copyfile(run.folder / f"mended/{name}.mp4", run.video(name))


def test_nothing_runs_again_when_nothing_has_changed(run: SmallRun):
    assert run.statuses() == {**dict.fromkeys(NAMES, "ok"), "run1": "missing", "walk1": "corrupt"}
    assert "Nothing to be done" in run.run()


def test_mended_videos_are_extracted(run: SmallRun):
    mend(run)
    jobs = run.jobs()
    assert jobs["extract_shard"] >= 1
    assert jobs.keys() >= AFTER_FRAMES
    assert run.statuses() == dict.fromkeys(NAMES, "ok")
    assert "Nothing to be done" in run.run()


def test_the_advice_of_the_failure_limit_works(run: SmallRun):
    run.own["max_failure_rate"] = 0
    assert "mend the videos" in run.fail("frames")
    mend(run)
    run.run("frames")
    assert run.statuses() == dict.fromkeys(NAMES, "ok")


def test_videos_that_are_gone_or_copied_leave_everything_as_it_is(run: SmallRun):
    def files() -> dict[Path, int]:
        made = ["jpg/*/*/*.jpg", "results/experiments/base/all/model.pth"]
        found = [path for pattern in made for path in run.folder.glob(pattern)]
        return {path: path.stat().st_mtime_ns for path in found if "walk2" not in path.parts}

    before = files()
    run.video("run2").unlink()
    os.utime(run.video("walk2"), (1, 1))  # as a copy without its times: the same frames again
    jobs = run.jobs()
    assert jobs["extract_shard"] >= 1
    assert not jobs.keys() & AFTER_FRAMES
    assert files() == before
    assert run.statuses()["run2"] == "ok"
    assert "Nothing to be done" in run.run()


def test_a_video_of_the_same_length_is_another_one(run: SmallRun):
    """Its row in the manifest is the same, its frames and so the model are not."""
    model = run.folder / "results/experiments/base/all/model.pth"
    ledger = run.table("datasets/own/ledger.tsv")
    weights = model.read_bytes()
    checkpoints = run.folder / "results/checkpoints/base/all"
    (first,) = checkpoints.rglob("latest.pth")
    trained = first.stat().st_mtime_ns
    original = run.folder / "original.mp4"
    run.video("run2").rename(original)
    shutil.copyfile(run.video("walk2"), run.video("run2"))
    # Step by step, so that each has to see by itself that its frames are others.
    assert run.jobs("annotations")["extract_shard"] == 1
    assert run.table("datasets/own/ledger.tsv").equals(ledger)
    assert run.jobs()["train_model"] == 1
    assert model.read_bytes() != weights
    original.rename(run.video("run2"))
    run.run()
    states = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("latest.pth")}
    assert len(states) == 2, "frames that come back find their states again"
    assert states[first] == trained
