"""The workflow on a real SLURM of two nodes: arrays, several nodes, failures of every kind."""

import json
import re
import subprocess

import pandas as pd
import pytest
import torch
from cluster import Cluster

from r3d.checkpoint import read_checkpoint
from workflow import MOTION, Workflow

pytestmark = pytest.mark.slurm

RESULTS = [f"results/experiments/{name}/01/val.json" for name in ("one", "two")]


@pytest.fixture(scope="module")
def output(workflow: Workflow) -> str:
    """What snakemake said while it ran from rendered videos to accuracies."""
    process = workflow.start(*RESULTS)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def test_shards_are_one_array(output: str, workflow: Workflow):
    assert re.search(r"Submitted array job .* The individual task IDs are 1-3", output)
    ledger = pd.read_csv(workflow.folder / "results/datasets/motion/ledger.tsv", sep="\t")
    assert len(ledger) == 40
    assert set(ledger["status"]) == {"ok"}


def test_two_nodes_train_what_one_does(output: str, workflow: Workflow):
    one, two = (
        read_checkpoint(workflow.folder / f"results/experiments/{name}/01/model.pth").state_dict
        for name in ("one", "two")
    )
    # The statistics for inference are those of the first process, for it alone.
    trained = [name for name in one if "running" not in name and "num_batches" not in name]
    assert len(trained) > 20
    for name in trained:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    assert logged(workflow, "two") == logged(workflow, "one")


def test_two_nodes_infer_every_video_once(output: str, workflow: Workflow):
    results = workflow.folder / "results"
    annotation = json.loads((results / "datasets/motion/annotations/motion_01.json").read_text())
    validation = {
        name for name, video in annotation["database"].items() if video["subset"] == "validation"
    }
    text = (results / "experiments/two/01/val.json").read_text()
    assert json.loads(text)["results"].keys() == validation
    assert all(text.count(json.dumps(name)) == 1 for name in validation)


def test_a_drained_node_and_a_failing_shard(output: str, workflow: Workflow, cluster: Cluster):
    # A file lies where the folder of one video belongs.
    shards = sorted((workflow.folder / "results/datasets/motion/shards").iterdir())
    shard = pd.read_csv(shards[1], sep="\t")
    obstacle = workflow.folder / "data/other" / shard["key"][0]
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()
    other = {"other": {**MOTION, "frames": "data/other"}}
    cluster.run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    try:
        process = workflow.start("results/datasets/other/ledger.tsv", "--retries=1", datasets=other)
        report, _ = process.communicate(timeout=300)
        nodes = cluster.run("squeue", "--states=all", "--noheader", "--format=%i %N")
    finally:
        cluster.run("scontrol", "update", "nodename=n2", "state=resume")

    assert process.returncode != 0
    assert len(re.findall(r"SLURM-job '\S+' failed", report)) == 2  # the shard, tried twice
    assert "Trying to restart job" in report
    manifests = workflow.folder / "results/datasets/other/manifests"
    assert {path.name for path in manifests.iterdir()} == {shards[0].name, shards[2].name}
    newest = sorted(nodes.splitlines(), key=lambda row: int(re.split(r"\D", row)[0]))[-4:]
    assert all(row.endswith(" n1") for row in newest), newest

    obstacle.unlink()
    process = workflow.start("results/datasets/other/ledger.tsv", datasets=other)
    report, _ = process.communicate(timeout=300)
    assert process.returncode == 0, report
    assert report.count("rule extract_shard:") == 1


def test_stopped_trainings_go_on(
    output: str, workflow: Workflow, cluster: Cluster, interrupt: list[subprocess.Popen[str]]
):
    # One is cancelled, the other reaches its time limit, of which it is warned.
    long = {
        "cancelled": {"n_epochs": 100_000, "resources": {"nodes": 2, "mem_mb": 1000}},
        "overtime": {"n_epochs": 100_000, "resources": {"runtime": 1, "mem_mb": 1000}},
    }
    steps = {name: f"train_model/{name}_01" for name in long}
    interrupt.append(
        workflow.start(
            *(f"results/experiments/{name}/01/model.pth" for name in long),
            "--set-resources=train_model:slurm_extra=--signal=TERM@30",
            experiments=long,
        )
    )
    cluster.wait_until(lambda: rows(workflow, "cancelled") > 20)
    running = cluster.run("squeue", "--noheader", "--states=running", "--format=%i %D")
    (job,) = (row.split()[0] for row in running.splitlines() if row.endswith(" 2"))
    cluster.run("scancel", job)

    stopped, resumed = {}, {}
    for name, step in steps.items():
        pattern = r"stopped in epoch (\d+) after step (\d+); the state is saved"
        cluster.wait_until(lambda: re.search(pattern, workflow.log(step)), 120)  # noqa: B023
        stopped[name] = re.search(pattern, workflow.log(step))
    for name, step in steps.items():
        pattern = r"resumed from \S+: (\d+) epochs and (\d+) steps are done"
        cluster.wait_until(lambda: re.search(pattern, workflow.log(step)), 120)  # noqa: B023
        resumed[name] = re.search(pattern, workflow.log(step))
    for name in long:
        epoch, step = map(int, stopped[name].groups())
        assert tuple(map(int, resumed[name].groups())) == (epoch - 1, step)


def rows(workflow: Workflow, experiment: str) -> int:
    """Steps that a training has logged."""
    logs = (workflow.folder / f"results/checkpoints/{experiment}").glob("01/*/train_batch.log")
    return sum(len(log.read_text().splitlines()) for log in logs)


def logged(workflow: Workflow, experiment: str) -> list[float]:
    """The training loss of each epoch."""
    path = workflow.folder / f"results/experiments/{experiment}/01/train.log"
    return [round(loss, 4) for loss in pd.read_csv(path, sep="\t")["loss"]]
