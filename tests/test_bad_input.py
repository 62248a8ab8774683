"""Bad input through the real workflow and the command line: one clear line, no traceback."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from miniatures import Videos, ucf101
from running import r3d, snakemake
from synthetic import write_frames

from r3d.models.architectures import Architecture
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

CSV = "path,label,subset\na/1.mp4,a,training\nb/2.mp4,b,training\na/3.mp4,a,validation\n"

# name: (format, file or UCF-101 list, its text, what the line has to say)
BAD_LISTS: dict[str, tuple[str, str, bytes, list[str]]] = {
    "unknown_class": (
        "ucf101",
        "testlist01.txt",
        b"YoYoo/v_YoYoo_g01_c01.avi\r\n",
        ["testlist01.txt, line 1", "unknown class 'YoYoo'", "classInd.txt", "'YoYo'"],
    ),
    "empty_split": ("ucf101", "trainlist01.txt", b"\r\n", ["no video of subset training"]),
    "two_subsets": (
        "csv",
        "list.csv",
        f"{CSV}a/1.mp4,a,validation\n".encode(),
        ["list.csv, line 5", "'1'", "already in", "line 2"],
    ),
    "slash": ("csv", "list.csv", f"{CSV}a/4.mp4,a/b,training\n".encode(), ["line 5", "'a/b'"]),
    "dots": ("csv", "list.csv", f"{CSV}a/4.mp4,..,training\n".encode(), ["line 5", "label '..'"]),
    "encoding": (
        "csv",
        "list.csv",
        f"{CSV}a/4.mp4,Café,training\n".encode("latin-1"),
        ["line 5", "0xe9", "not UTF-8"],
    ),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The data set of each bad list, as in a config."""
    folder = tmp_path_factory.mktemp("bad")
    made = {}
    for name, (list_format, file, text, _) in BAD_LISTS.items():
        place = folder / name
        if list_format == "ucf101":
            made[name] = ucf101(place, Videos(place / "encoded")) | {"splits": ["01"]}
            (place / "lists" / file).write_bytes(text)
        else:
            (place / "videos").mkdir(parents=True)
            (place / file).write_bytes(text)
            made[name] = {
                "lists": str(place / file),
                "videos": str(place / "videos"),
                "frames": str(place / "frames"),
            }
        made[name]["format"] = list_format
    return made


@pytest.mark.workflow
def test_bad_lists_end_the_workflow_with_a_line_each(
    datasets: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"datasets": datasets}), encoding="utf-8")
    done = snakemake(tmp_path, config, "lists", options=["--keep-going"])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    for name, (list_format, _, _, parts) in BAD_LISTS.items():
        split = "01" if list_format == "ucf101" else "all"
        log = tmp_path / f"results/logs/list_split/{name}_{split}.log"
        (line,) = log.read_text(encoding="utf-8").splitlines()
        assert "error: " in line
        for part in parts:
            assert part in line
        message = line.partition("error: ")[2]
        assert message in done.stderr


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"datasets:\n  a: {\n", ["config.yaml, line 3, column 1: not valid YAML"]),
        ("results: Café\n".encode("latin-1"), ["config.yaml, line 1: byte 0xe9"]),
        (b"results: a\nresults: b\n", ["line 2: results is given twice, first in line 1"]),
        (
            b"results: config.yaml\ndatasets: {u: {format: ucf101, lists: l, videos: v, frames: f, "
            b"splits: [01]}, w: {format: csv, lists: l, videos: v, frames: config.yaml/f}}\n",
            [
                "datasets.u.splits.0: 1 is refused: input should be a valid string; put it in quot",
                "results: config.yaml: cannot be written: it is a file",
                "datasets.w.frames: config.yaml/f: cannot be written: ",
                "datasets.w.videos: 'v' is no folder",
                "datasets.w.lists: 'l' does not exist",
            ],
        ),
    ],
    ids=["syntax", "encoding", "twice", "several"],
)
def test_a_bad_config_ends_the_workflow_with_a_line_for_each_fault(
    tmp_path: Path, text: bytes, lines: list[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    done = snakemake(tmp_path, Path("config.yaml"), options=["--dry-run"])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("error: config")]
    assert len(said) == len(lines)
    for line, part in zip(said, lines, strict=True):
        assert part in line


@pytest.mark.workflow
def test_gpus_that_are_not_there_are_said_before_the_first_job(tmp_path: Path) -> None:
    dataset = ucf101(tmp_path, Videos(tmp_path / "encoded")) | {"format": "ucf101"}
    experiment = {"dataset": "own", "resources": {"gpus": 1000}, "batch_size": 1000}
    config = tmp_path / "config.yaml"
    content = {"datasets": {"own": dataset}, "experiments": {"a": experiment}}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = snakemake(tmp_path, config, "lists")
    said = [line for line in done.stderr.splitlines() if "experiments.a.resources.gpus" in line]
    assert len(said) == 1
    assert "1000, but t" in said[0]  # torch finds none, or this machine has fewer
    there = torch.cuda.device_count() > 0
    assert (done.returncode, said[0].startswith("error: ")) == (there, there)


@pytest.mark.workflow
@pytest.mark.skipif(not torch.version.cuda, reason="this torch computes on no GPU")
def test_the_workflow_counts_the_gpus_of_this_machine(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    listed = [f"echo 'GPU {i}: Made-Up (UUID: GPU-{i}d0d0)'" for i in range(3)]
    program.write_text("\n".join(["#!/bin/sh", *listed]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    dataset = ucf101(tmp_path, Videos(tmp_path / "encoded")) | {"format": "ucf101"}
    experiment = {"dataset": "own", "resources": {"gpus": 4}, "batch_size": 4}
    config = tmp_path / "config.yaml"
    content = {"datasets": {"own": dataset}, "experiments": {"a": experiment}}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = snakemake(tmp_path, config, "lists", options=["-p"])
    assert done.returncode == 1
    assert re.search(r"Provided resources: gpu=.*\b3\b", done.stderr)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "experiments.a.resources.gpus: 4, but this machine has 3" in said

    # A job computes on one unasked, unless it is to use the CPU.
    several = {"resources": {"gpus": 1, "processes": 2}, "batch_size": 4}  # a card each
    experiments = {"a": {}, "b": {"no_cuda": True}, "c": several}
    experiments = {name: {"dataset": "own"} | more for name, more in experiments.items()}
    config.write_text(yaml.safe_dump(content | {"experiments": experiments}), encoding="utf-8")
    options = ["-p", "--dry-run", "--resources", "gpu=2"]
    done = snakemake(tmp_path, config, "train", options=options)
    asked = re.findall(
        r"experiment=(\w), split=01\n +threads: .*\n +resources: .* gpu=(\d)",
        done.stdout + done.stderr,
    )
    assert dict(asked) == {"a": "1", "b": "0", "c": "2"}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_bad_lists_end_a_command_with_a_line(
    datasets: dict[str, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    list_format, _, _, parts = BAD_LISTS[name]
    split = "01" if list_format == "ucf101" else "all"
    table, labels = str(tmp_path / "all.tsv"), str(tmp_path / "labels.txt")
    done = r3d(
        tmp_path, "lists", list_format, datasets[name]["lists"], table, labels, "--split", split
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert not Path(table).exists()


@pytest.fixture
def other_family(tmp_path: Path) -> Path:
    """A checkpoint of a small network that is no resnet."""
    architecture = Architecture(model="densenet", model_depth=121, n_classes=2)
    network = build_model(model="densenet", model_depth=121, n_classes=2)
    path = tmp_path / "densenet.pth"
    write_checkpoint(path, Checkpoint(state_dict=network.state_dict(), architecture=architecture))
    return path


def test_a_checkpoint_of_another_family_ends_a_command_with_a_line(
    other_family: Path, tmp_path: Path
) -> None:
    annotation = write_frames(tmp_path, n_training=2, n_validation=1)
    common = [f"--annotation_path={annotation}", f"--video_path={tmp_path / 'jpg'}"]
    common += ["--model_depth=10", "--n_threads=0", "--sample_size=32"]
    start = [f"--pretrain_path={other_family}", f"--result_path={tmp_path / 'run'}"]
    apply = [f"--model_path={other_family}", f"--result_path={tmp_path / 'val.json'}"]
    for command in (["train", *start, *common], ["infer", *apply, *common]):
        done = r3d(tmp_path, *command)
        assert done.returncode == 1
        (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
        assert "Traceback" not in done.stderr
        for part in ("densenet.pth", "model_depth: 121"):
            assert part in line


def test_no_accuracy_of_no_results_is_printed(tmp_path: Path) -> None:
    annotation, result = tmp_path / "annotation.json", tmp_path / "val.json"
    video = {"subset": "validation", "annotations": {"label": "a", "segment": [1, 9]}}
    annotation.write_text(json.dumps({"labels": ["a", "b"], "database": {"v": video}}))
    result.write_text(json.dumps({"results": {}}))
    done = r3d(tmp_path, "evaluate", str(annotation), str(result), "--ignore")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {result}: has no result for any video of val")
    done = r3d(tmp_path, "evaluate", str(annotation), str(result))
    assert (done.returncode, done.stdout) == (0, "top-1 accuracy: 0.0\n")
