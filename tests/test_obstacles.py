"""A place that cannot be written is one line: what hinders, where, and what to do."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import ROOT, r3d
from synthetic import write_frames

from r3d.cli import cli
from r3d.errors import InputError, WriteError
from r3d.files import atomic_path
from r3d.obstacles import need_writable, writing

TINY = ["--model_depth=10", "--resnet_widen_factor=0.0625", "--sample_size=32", "--n_threads=0"]
TRAINING = [*TINY, "--sample_duration=4", "--n_epochs=1", "--n_val_samples=1", "--batch_size=4"]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that mounts something of that size or kind at a new folder."""
    mounted: list[Path] = []

    def do(*arguments: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        if subprocess.run(["mount", *arguments, str(folder)], capture_output=True).returncode:
            pytest.skip("only root may mount, and not in every container")
        mounted.append(folder)
        return folder

    yield do
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_there(mount: Callable[..., Path]):
    path = mount("-t", "tmpfs", "-o", "size=16k", "tmpfs") / "result.json"
    with atomic_path(path) as partial:
        partial.write_text("before")
    expected = rf"^{path}: cannot be written: No space left on device; make room there.*is kept$"
    with pytest.raises(WriteError, match=expected), atomic_path(path) as partial:
        partial.write_bytes(bytes(1 << 20))
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_a_read_only_place_is_refused_before_and_after_the_work(mount: Callable[..., Path]):
    folder = mount("-t", "tmpfs", "-o", "ro", "tmpfs")
    expected = "cannot be written: Read-only file system; give this"
    with pytest.raises(WriteError, match=expected), atomic_path(folder / "result.json"):
        pass
    for path, is_folder in ((folder / "result.json", False), (folder / "a/b", True)):
        with pytest.raises(WriteError, match=f"^{path}: .* {folder} is read-only for this user"):
            need_writable(path, folder=is_folder)


def test_outputs_that_can_be_written(tmp_path: Path):
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for name in ("there", "new", "new/below/it", "link"):
        need_writable(tmp_path / name)
    need_writable(tmp_path, folder=True)
    need_writable(tmp_path / "new/folder", folder=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


@pytest.mark.parametrize(
    ("name", "folder", "reason"),
    [
        ("folder", False, "it is a folder; give the path of a file"),
        ("fifo", False, "it is no ordinary file"),
        ("file/below", False, "file is a file"),
        ("file/below/it", True, "file is a file"),
        ("file", True, "it is a file"),
        ("n" * 300, False, "File name too long; choose a shorter name"),
        ("circle/x", False, "Too many levels of symbolic links"),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path: Path, name: str, folder: bool, reason: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(WriteError) as caught:
        need_writable(tmp_path / name, folder=folder)
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be written: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_gone_is_told_from_a_missing_file(tmp_path: Path):
    path = tmp_path / "gone/result.json"
    expected = f"the folder {path.parent} is gone"
    with pytest.raises(WriteError, match=expected), atomic_path(path):
        shutil.rmtree(path.parent)
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "other"):
        (tmp_path / "a file that the program forgot to make").read_bytes()


def test_the_cause_may_lie_below_another_exception(tmp_path: Path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match="No space left"), writing(tmp_path / "x"):
        raise RuntimeError("unexpected pos 64 vs 0") from full
    with pytest.raises(RuntimeError), writing(tmp_path / "x"):
        raise RuntimeError("a bug")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input for every command."""
    folder = tmp_path_factory.mktemp("inputs")
    write_frames(folder, n_training=2, n_validation=1)
    for label in ("down", "up"):
        (folder / "videos" / label).mkdir(parents=True)
        for number in range(3):
            (folder / "videos" / label / f"{label}{number}.mp4").touch()
    common = ["--annotation_path=annotation.json", "--video_path=jpg"]
    for command in (
        ["lists", "folders", "videos", "list.tsv", "labels.txt"],
        ["shards", "list.tsv", "shards", "--n_shards=1"],
        ["frames", "shards/000.tsv", "videos", "frames", "manifest.tsv"],
        ["ledger", "manifest.tsv", "ledger.tsv", "--list=all", "list.tsv", "--max_failure_rate=1"],
        ["train", *common, *TRAINING, "--result_path=trained"],
        [*INFER, "result.json"],
        [*EVALUATE, "--save=accuracy.json"],
    ):
        done = r3d(folder, *command)
        assert done.returncode == 0, (command, done.stderr)
    return folder


INFER = ["infer", "--annotation_path=annotation.json", "--video_path=jpg", *TINY, "--output_topk=2"]
INFER += ["--sample_duration=4", "--model_path=trained/model.pth", "--result_path"]
EVALUATE = ["evaluate", "annotation.json", "result.json"]

# The output is named {} in each.
COMMANDS = {
    "motion": ["motion", "{}", "{}/lists", "--videos_per_class=2", "--n_frames=4"],
    "lists": ["lists", "folders", "videos", "{}", "{}.txt"],
    "shards": ["shards", "list.tsv", "{}", "--n_shards=1"],
    "frames": ["frames", "shards/000.tsv", "videos", "frames", "{}"],
    "ledger": ["ledger", "manifest.tsv", "{}", "--list", "all", "list.tsv"],
    "annotations": ["annotations", "list.tsv", "labels.txt", "ledger.tsv", "{}"],
    "merge": ["merge", "{}", "--part", "a", "annotation.json", "jpg"],
    "train": [
        *("train", "--annotation_path=annotation.json", "--video_path=jpg", *TRAINING),
        *("--result_path", "{}"),
    ],
    "infer": [*INFER, "{}"],
    "evaluate": [*EVALUATE, "--save", "{}"],
    "curves": ["curves", "trained/train.log", "trained/val.log", "{}.svg"],
    "confusion": ["confusion", "accuracy.confusion.tsv", "{}.svg"],
}


def fails_in_a_line(done: subprocess.CompletedProcess[str], output: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert f"{output}" in line
    assert "; " in line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_an_output_below_a_file(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(inputs)
    command = [argument.format("labels.txt/out") for argument in COMMANDS[name]]
    with pytest.raises(WriteError, match=r"^labels\.txt/out.*: cannot be written: .* is a file; "):
        cli.main(command, standalone_mode=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_on_a_full_disk_in_a_line(inputs: Path, tmp_path: Path, name: str):
    """A limit on the size of files stands for the disk: 0 bytes, or 4 KB for the logs before."""
    command = [argument.format(tmp_path / "out") for argument in COMMANDS[name]]
    limit = 4096 if name == "train" else 0
    done = subprocess.run(
        [sys.executable, "-m", "r3d", *command],
        cwd=inputs,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    fails_in_a_line(done, str(tmp_path / "out"))
    assert not [path for path in tmp_path.rglob("out*") if path.is_file() and path.stat().st_size]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="Linux shows processes in /proc")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_a_place_that_takes_no_files(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Rights do not tell of it: the superuser has all of them."""
    monkeypatch.chdir(inputs)
    for place in ("/proc/out", "/proc/none/out"):
        command = [argument.format(place) for argument in COMMANDS[name]]
        with pytest.raises(WriteError, match=r"^/proc/.*: cannot be written: /proc .*; "):
            cli.main(command, standalone_mode=False)


def test_a_file_that_was_to_be_read_is_no_obstacle_to_writing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="none"), writing(tmp_path / "out"):
        (tmp_path / "none").read_text()
    with pytest.raises(WriteError, match="/proc takes no files"), writing("/proc/out"):
        Path("/proc/out").touch()
