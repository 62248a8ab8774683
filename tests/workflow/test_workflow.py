"""The workflow, run for real: what it makes, runs again, survives and refuses."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from running import ALL_OF_SNAKEMAKE, ROOT, count_jobs, r3d
from tensorboard.program import TensorBoard

from r3d.frames.ffmpeg import ffmpeg_binary

pytestmark = pytest.mark.workflow

TINY: dict[str, Any] = {
    "datasets": {
        "motion": {
            "format": "ucf101",
            "render": {"videos_per_class": 4, "n_frames": 12},
            "lists": "data/lists",
            "videos": "data/videos",
            "frames": "data/jpg",
            "splits": ["01"],
            "n_classes": 8,
            "short_side": 36,
            "shards": 3,
        }
    },
    "defaults": {
        "dataset": "motion",
        "model_depth": 10,
        "resnet_widen_factor": 0.0625,
        "sample_size": 32,
        "sample_duration": 8,
        "batch_size": 8,
        "n_epochs": 2,
        "multistep_milestones": [],
        "learning_rate": 0.01,
        "no_hflip": True,
        "n_threads": 0,
        "precision": "fp32",
        "no_cuda": True,
    },
    "experiments": {
        "base": {},
        "tuned": {"pretrain": "base", "ft_begin_module": "fc", "n_epochs": 1},
        "frozen": {"pretrain": "base", "no_train": True, "frozen": True},
    },
}


class Workspace:
    """A folder with a config, in which the repository's workflow runs."""

    def __init__(self, folder: Path, config: dict[str, Any], root: Path = ROOT) -> None:
        self.folder, self.root = folder, root
        folder.mkdir(parents=True, exist_ok=True)
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2"]
        places = ["--snakefile", self.root / "Snakefile", "--directory", self.folder]
        return subprocess.Popen(
            [*command, *places, "--configfile", self.folder / "config.yaml"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.root / "src")},
        )

    def run(self, *arguments: str, fails: bool = False) -> str:
        process = self.start(*arguments)
        output = process.communicate(timeout=300)[0]
        assert (process.returncode != 0) == fails, output
        return output

    def jobs(self, *arguments: str) -> Counter[str]:
        """Run, and count the jobs of each rule."""
        return count_jobs(self.run(*ALL_OF_SNAKEMAKE, *arguments))

    def summary(self) -> str:
        return (self.folder / "results/summary.tsv").read_text()

    def copy(self, folder: Path, root: Path | None = None) -> "Workspace":
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = Workspace.__new__(Workspace)
        copied.folder, copied.root = folder, root or self.root
        return copied


def changed(**options: Any) -> dict[str, Any]:
    return {**TINY, "defaults": {**TINY["defaults"], **options}}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which everything is made."""
    workspace = Workspace(tmp_path_factory.mktemp("workflow") / "done", TINY)
    (workspace.folder / "said").write_text(workspace.run())
    return workspace


@pytest.fixture
def workspace(done: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it that a test may change."""
    return done.copy(tmp_path / "copy")


def test_it_makes_the_table_and_the_figures(done: Workspace):
    summary = pd.read_csv(done.folder / "results/summary.tsv", sep="\t")
    assert summary["experiment"].tolist() == ["base", "tuned", "frozen"]
    assert summary["listed"].tolist() == summary["found"].tolist() == [8, 8, 8]
    assert summary["top5"].between(0, 1).all()
    ledger = pd.read_csv(done.folder / "results/datasets/motion/ledger.tsv", sep="\t")
    assert (ledger["status"] == "ok").all()
    assert len(ledger) == 32
    run = done.folder / "results/experiments/base/01"
    for name in (
        "model.pth",
        "val.json",
        "curves.svg",
        "val.confusion.svg",
        "val.classes.tsv",
        "val.videos.tsv",
    ):
        assert (run / name).stat().st_size > 0


def test_it_says_a_line_a_job_and_ends_with_the_table(done: Workspace):
    said = (done.folder / "said").read_text()
    lines = said.splitlines()
    jobs = [line for line in lines if line.startswith("[")]
    assert len({line.partition("] ")[2] for line in jobs}) == len(jobs)
    assert re.search(r"^\[ *\d+/\d+\] train_model base/01  \d+ s$", said, re.MULTILINE)
    assert len(lines) < len(jobs) + 15
    table = (done.folder / "results/summary.tsv").read_text().splitlines()
    assert [line.split() for line in lines[-2 - len(table) : -2]] == [row.split() for row in table]
    assert lines[-1] == "report: results/report/index.html"
    assert "\x1b" not in said
    # What a job itself says is in its log.
    assert "epoch 1: " in (done.folder / "results/logs/train_model/base_01.log").read_text()


def test_a_second_run_has_nothing_to_do_and_is_quick(done: Workspace):
    started = time.monotonic()
    assert "Nothing to be done" in done.run()
    assert time.monotonic() - started < 10


def test_the_commands_of_docs_report(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (\w\S+ .*?)(?:  +#.*)?$", page, re.M)
    commands = [shlex.split(line) for line in lines]
    assert [command[0] for command in commands] == [
        *("snakemake", "xdg-open", "r3d", "r3d", "tensorboard", "snakemake")
    ]
    monkeypatch.chdir(workspace.folder)
    said = []
    for program, *arguments in commands:
        match program:
            case "snakemake":
                said.append(workspace.run(*(a for a in arguments if a not in ("--cores", "8"))))
            case "xdg-open":
                assert Path(*arguments).is_file()
            case "r3d":
                done = r3d(workspace.folder, *arguments, "--configfile", "config.yaml")
                assert done.returncode == 0, done.stderr
                said.append(done.stdout + done.stderr)
            case "tensorboard":
                server = TensorBoard()
                server.configure(argv=[program, *arguments])
                # By experiment and split, in the folders of the trainings.
                assert (Path(server.flags.logdir) / "base/01").is_dir()
    nothing, status, curves, report = said
    assert "Nothing to be done" in nothing
    assert "base/01   finished, epoch 2.0 of 2" in status
    assert "results/status" in curves
    assert Path("results/status/base_01.svg").is_file()
    assert "Report created" in report
    with zipfile.ZipFile("results/report.zip") as archive:
        assert any(name.endswith("/index.html") for name in archive.namelist())


def test_a_new_learning_rate_trains_again_and_extracts_nothing(workspace: Workspace):
    workspace.configure(changed(learning_rate=0.005))
    jobs = workspace.jobs("-n")
    assert jobs["train_model"] == 2
    assert jobs["infer_subset"] == jobs["evaluate_subset"] == 3
    assert not {"list_split", "shard_videos", "extract_shard", "annotate_split"} & set(jobs)


def test_how_it_runs_makes_nothing_run_again(workspace: Workspace):
    options = {"n_threads": 1, "checkpoint": 1, "inference_batch_size": 3, "no_cuda": False}
    workspace.configure(changed(**options))
    assert "Nothing to be done" in workspace.run("-n")


def test_another_inference_option_does_not_train_again(workspace: Workspace):
    workspace.configure(changed(output_topk=8))
    jobs = workspace.jobs("-n")
    assert jobs["infer_subset"] == 3
    assert "train_model" not in jobs


def test_more_seeds_train_only_what_is_new(workspace: Workspace):
    config = {**TINY, "experiments": {**TINY["experiments"], "base": {"seeds": [1, 2, 3]}}}
    workspace.configure(config)
    jobs = workspace.jobs("-n")
    assert jobs["train_model"] == jobs["plot_curves"] == 2
    # The control is applied to each of the models; what is tuned starts from the one it had.
    assert jobs["infer_subset"] == jobs["evaluate_subset"] == 4
    assert not {"list_split", "shard_videos", "extract_shard", "annotate_split"} & set(jobs)


def test_folds_need_lists_and_annotations_of_their_own_only(workspace: Workspace):
    config = {**TINY, "experiments": {**TINY["experiments"], "base": {"folds": 2}}}
    workspace.configure(config)
    jobs = workspace.jobs("-n")
    assert jobs["list_split"] == jobs["annotate_split"] == 2
    assert jobs["train_model"] == 4  # of base, and of what is tuned from it
    assert jobs["infer_subset"] == 6
    assert not {"shard_videos", "extract_shard", "gather_ledger"} & set(jobs)


def test_a_new_video_in_the_list_extracts_its_shard_only(workspace: Workspace):
    videos = workspace.folder / "data/videos/ZoomIn"
    shutil.copy(next(videos.glob("*.avi")), videos / "v_ZoomIn_g99_c01.avi")
    with (workspace.folder / "data/lists/trainlist01.txt").open("a") as file:
        file.write("ZoomIn/v_ZoomIn_g99_c01.avi 7\r\n")
    # The list is now the user's own: nothing renders it.
    config = yaml.safe_load(yaml.safe_dump(TINY))
    del config["datasets"]["motion"]["render"]
    workspace.configure(config)
    jobs = workspace.jobs("annotations")
    assert jobs["extract_shard"] == 1
    ledger = pd.read_csv(workspace.folder / "results/datasets/motion/ledger.tsv", sep="\t")
    assert ledger.set_index("id").loc["v_ZoomIn_g99_c01", ["status", "frames"]].tolist() == [
        "ok",
        12,
    ]


CHANGES = {
    "frames/extract": ({"extract_shard"}, {"list_split", "shard_videos"}),
    "evaluation/evaluate": (
        {"evaluate_subset"},
        {"train_model", "infer_subset", "extract_shard"},
    ),
    "models/families/resnet": (
        {"train_model", "infer_subset"},
        {"extract_shard", "annotate_split"},
    ),
}


def test_a_change_of_library_code_reruns_its_step(done: Workspace, tmp_path: Path):
    root = tmp_path / "root"
    for name in ("Snakefile", "rules", "workflow", "profiles", "src", "environment.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, root / name if root.exists() or root.mkdir() is None else root)
    workspace = done.copy(tmp_path / "copy", root=root)
    sources = {root / f"src/r3d/{module}.py": jobs for module, jobs in CHANGES.items()}
    for source in sources:
        source.write_text(source.read_text() + "\n# a remark\n")
    assert "Nothing to be done" in workspace.run("-n")
    for source, (again, not_again) in sources.items():
        before = source.read_text()
        source.write_text(before + "\n_CHANGED = 1\n")
        jobs = set(workspace.jobs("-n"))
        source.write_text(before)
        assert again <= jobs, source
        assert not not_again & jobs, source


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.01)


def kill(process: subprocess.Popen[str], number: signal.Signals, folder: Path) -> str:
    """Stop a workflow, with Ctrl-C as a terminal does, and wait until its jobs are gone.

    Returns what it said.
    """
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    deadline = time.monotonic() + 60
    while any(str(folder).encode() in line for line in command_lines()):
        assert time.monotonic() < deadline, "jobs outlive the workflow"
        time.sleep(0.05)
    return said


def command_lines() -> list[bytes]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return lines


def test_killed_during_extraction(done: Workspace, tmp_path: Path):
    workspace = Workspace(tmp_path / "killed", TINY)
    process = workspace.start("frames")
    wait_for(lambda: any((workspace.folder / "data/jpg").glob("*/*")), process)
    kill(process, signal.SIGKILL, workspace.folder)
    ledger = "results/datasets/motion/ledger.tsv"
    assert not (workspace.folder / ledger).exists()
    workspace.run("frames")
    assert (workspace.folder / ledger).read_text() == (done.folder / ledger).read_text()
    images = sorted((done.folder / "data/jpg").glob("*/*/*.jpg"))
    for image in images:
        path = workspace.folder / image.relative_to(done.folder)
        assert path.read_bytes() == image.read_bytes()
    assert len(images) == len(list((workspace.folder / "data/jpg").glob("*/*/*.jpg"))) == 32 * 12


TABLE = ("evaluate", "results/summary.tsv")
"""All that accuracies take, and no figures, galleries and report."""

RETRAINED = {**changed(learning_rate=0.005, n_epochs=10), "experiments": {"base": {}}}


@pytest.fixture(scope="module")
def retrained(done: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished workspace, trained anew with other options."""
    workspace = done.copy(tmp_path_factory.mktemp("retrained") / "copy")
    workspace.configure(RETRAINED)
    workspace.run(*TABLE)
    return workspace


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_during_training(workspace: Workspace, retrained: Workspace, number: signal.Signals):
    """Killed while it trains anew with other options: nothing old is taken for new."""
    workspace.configure(RETRAINED)
    process = workspace.start(*TABLE)
    checkpoints = workspace.folder / "results/checkpoints/base/01"
    before = len(list(checkpoints.glob("*/latest.pth")))
    wait_for(lambda: len(list(checkpoints.glob("*/latest.pth"))) > before, process)
    said = kill(process, number, workspace.folder)
    if number != signal.SIGKILL:
        saved, go_on = said.splitlines()[-2:]
        assert re.fullmatch(r"train_model base/01: stopped .*; the state is saved", saved)
        assert re.match(r"stopped; \d+ of \d+ jobs are done, ", go_on)
        assert go_on.endswith(f"--configfile {workspace.folder / 'config.yaml'}")
        assert "FAILED" not in said
        assert "Traceback" not in said
    assert not (workspace.folder / "results/experiments/base/01/model.pth").exists()
    workspace.run(*TABLE)
    assert workspace.summary() == retrained.summary()
    for name in ("train.log", "val.json"):
        run = "results/experiments/base/01"
        assert (workspace.folder / run / name).read_text() == (
            retrained.folder / run / name
        ).read_text()


def test_a_second_workflow_in_the_same_folder_is_refused(workspace: Workspace):
    workspace.configure(changed(n_epochs=400))
    process = workspace.start()
    try:
        wait_for(lambda: (workspace.folder / "results/.r3d.lock").exists(), process)
        time.sleep(1)
        assert "another snakemake is at work" in workspace.run(fails=True)
    finally:
        kill(process, signal.SIGKILL, workspace.folder)


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda c: c["defaults"].update(learnrate=1), ["defaults.learnrate", "learning_rate"]),
        (lambda c: c["defaults"].update(batch_size="x"), ["defaults.batch_size", "'x'", "integer"]),
        (lambda c: c["datasets"]["motion"].update(n_classes=9), ["n_classes", "9", "8"]),
        (
            lambda c: c["datasets"]["motion"].update(render=None, lists="nowhere"),
            ["datasets.motion.lists", "'nowhere'"],
        ),
    ],
    ids=["unknown key", "wrong type", "class count", "missing folder"],
)
def test_a_mistake_is_one_line_before_any_job(tmp_path: Path, edit, parts: list[str]):
    config = yaml.safe_load(yaml.safe_dump(TINY))
    edit(config)
    workspace = Workspace(tmp_path, config)
    lines = [line for line in workspace.run(fails=True).splitlines() if "profile" not in line]
    # What does not fit together may be said of more keys than one.
    assert all(line.startswith("error: config: ") for line in lines)
    assert any(all(part in line for part in parts) for line in lines)
    assert not (tmp_path / "results").exists()


def official_ucf101(shared: Path, folder: Path, max_failure_rate: float | None) -> Workspace:
    """Split 1 of the official UCF-101 lists, of whose videos one is there."""
    videos = folder / "videos/ApplyEyeMakeup"
    videos.mkdir(parents=True)
    shutil.copy(shared / "data/videos/ucf101_clip.avi", videos / "v_ApplyEyeMakeup_g01_c01.avi")
    dataset = {
        "format": "ucf101",
        "lists": str(shared / "data/lists/ucf101"),
        "videos": "videos",
        "frames": "jpg",
        "splits": ["01"],
        "n_classes": 101,
    }
    if max_failure_rate is not None:
        dataset["max_failure_rate"] = max_failure_rate
    return Workspace(folder, {"datasets": {"ucf101": dataset}})


def test_official_lists_with_one_video(shared: Path, tmp_path: Path):
    workspace = official_ucf101(shared, tmp_path, 1.0)
    started = time.monotonic()
    workspace.run("frames", "annotations")
    assert time.monotonic() - started < 60
    ledger = pd.read_csv(tmp_path / "results/datasets/ucf101/ledger.tsv", sep="\t")
    assert ledger["status"].value_counts().to_dict() == {"missing": 13_319, "ok": 1}
    video = ledger.set_index("status").loc["ok"]
    assert video["id"] == "v_ApplyEyeMakeup_g01_c01"
    assert video["frames"] in (164, 165)  # at constant rate ffmpeg shows the first frame twice


def test_too_many_missing_videos_stop_the_run(shared: Path, tmp_path: Path):
    output = official_ucf101(shared, tmp_path, None).run("frames", "annotations", fails=True)
    lines = {line.strip() for line in output.splitlines() if "max_failure_rate" in line}
    (message,) = {line[line.index("error:") :] for line in lines}
    for part in ("13319", "13320", "v_ApplyEyeMakeup_g01_c02", "ledger.refused.tsv"):
        assert part in message.replace(",", "")
    refused = tmp_path / "results/datasets/ucf101/ledger.refused.tsv"
    assert len(pd.read_csv(refused, sep="\t")) == 13_320
    assert "Traceback" not in output


def test_real_clips_to_an_accuracy_table(shared: Path, tmp_path: Path):
    """Each real video is a class; its segments are clips for training and, apart, for testing."""
    names = ["ucf101_clip.avi", "kinetics_clip.mp4", "kinetics_no_duration.mkv", "nasa_320x180.mp4"]
    lists = tmp_path / "lists"
    lists.mkdir()
    subsets: dict[str, list[str]] = {"train": [], "test": []}
    for name in names:
        label = name.partition(".")[0]
        (tmp_path / "videos" / label).mkdir(parents=True)
        for number in range(6):
            video = f"{label}/v_{label}_g{number:02d}_c01.avi"
            segment = ["-ss", str(number), "-t", "0.8", "-i", shared / "data/videos" / name]
            subprocess.run(
                [
                    *(ffmpeg_binary(), "-loglevel", "error", "-nostdin", *segment),
                    *("-an", "-q:v", "3", tmp_path / "videos" / video),
                ],
                check=True,
            )
            subsets["test" if number in (2, 5) else "train"].append(video)
    labels = [name.partition(".")[0] for name in names]
    classes = "".join(f"{i} {label}\r\n" for i, label in enumerate(labels, 1))
    (lists / "classInd.txt").write_text(classes, newline="")
    for subset, videos in subsets.items():
        (lists / f"{subset}list01.txt").write_text("\r\n".join(videos) + "\r\n", newline="")
    dataset = {
        "format": "ucf101",
        "lists": "lists",
        "videos": "videos",
        "frames": "jpg",
        "splits": ["01"],
        "n_classes": 4,
        "shards": 2,
    }
    # Until it has converged: 16 videos seen 8 times would leave accuracy to the luck of the seed.
    options = {**TINY["defaults"], "dataset": "real", "learning_rate": 0.02, "n_epochs": 24}
    options |= {"multistep_milestones": [16], "resnet_widen_factor": 0.125, "train_crop": "center"}
    config = {"datasets": {"real": dataset}, "experiments": {"real": options}}
    workspace = Workspace(tmp_path, config)
    workspace.run(*TABLE)
    summary = pd.read_csv(tmp_path / "results/summary.tsv", sep="\t")
    assert summary[["listed", "found"]].values.tolist() == [[8, 8]]
    assert summary["top1"].item() > 0.5  # chance is 0.25
