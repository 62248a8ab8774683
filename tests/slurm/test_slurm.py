"""The workflow on a real SLURM of two nodes: arrays, several nodes, failures of every kind."""

import json
import re
import subprocess

import pandas as pd
import pytest
import torch
from cluster import Cluster

from r3d.models.checkpoint import read_checkpoint
from workflow import FEWER_JOBS, QUICK, SECONDS, SMALL, Workflow

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def output(workflow: Workflow) -> str:
    """What snakemake said while it went from rendered videos to the accuracy table.

    Of the rest of a report, one step with a network has to do: each job takes seconds here.
    """
    gallery = "results/experiments/one/01/val.gallery"
    status, output = workflow.run("evaluate", "results/summary.tsv", gallery)
    assert status == 0, output
    return output


def test_from_lists_to_the_accuracy_table(output: str, workflow: Workflow):
    assert "Error in rule" not in output
    table = workflow.folder / "results/summary.tsv"
    summary = pd.read_csv(table, sep="\t", dtype={"split": str})
    summary = summary[~summary["split"].isin(["mean", "std"])].set_index(["experiment", "split"])
    assert list(summary["found"]) == list(summary["listed"])
    assert dict(summary["listed"]) == {
        ("frozen", "01"): 160,
        ("one", "01"): 8,
        ("scratch", "01"): 160,
        ("two", "01"): 8,
    }
    # It has learned to tell motions, which the same models cannot from a single frame.
    assert summary["top1"]["scratch", "01"] > 3 * summary["top1"]["frozen", "01"]
    for dataset, n_videos in {"motion": 640, "small": 40}.items():
        table = workflow.folder / f"results/datasets/{dataset}/ledger.tsv"
        ledger = pd.read_csv(table, sep="\t")
        assert len(ledger) == n_videos
        assert set(ledger["status"]) == {"ok"}
    # Only what is no work is done outside of the cluster.
    assert re.findall(r"^local\w* (\w+):", output, re.MULTILINE) == ["evaluate"]


def test_trainings_are_given_gpus(output: str, cluster: Cluster):
    given = cluster.run("squeue", "--states=all", "--noheader", "--Format=numnodes,tres-per-job")
    gpus = sorted(row.split() for row in given.splitlines() if "gpu" in row)
    # A training and an inference on one node, and both on two nodes.
    assert gpus == [["1", "gres:gpu:1"]] * 2 + [["2", "gres:gpu:2"]] * 2


def test_shards_are_one_array(output: str):
    # Of each data set, or of both where they are ready at the same time.
    tasks = re.findall(r"Submitted array job .* The individual task IDs are 1-(\d+)", output)
    assert len(tasks) <= 2
    assert sum(map(int, tasks)) == 7


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
    annotation = json.loads((results / "datasets/small/annotations/small_01.json").read_text())
    validation = {
        name for name, video in annotation["database"].items() if video["subset"] == "validation"
    }
    text = (results / "experiments/two/01/val.json").read_text()
    assert json.loads(text)["results"].keys() == validation
    assert all(text.count(json.dumps(name)) == 1 for name in validation)


def test_a_drained_node_and_failing_shards(output: str, workflow: Workflow, cluster: Cluster):
    # Of two shards the first video fails: a file lies where the folder of its frames belongs.
    shards = sorted((workflow.folder / "results/datasets/small/shards").glob("*.tsv"))
    obstacles = []
    for path in shards[:2]:
        obstacle = workflow.folder / "data/other" / pd.read_csv(path, sep="\t")["key"][0]
        obstacle.parent.mkdir(parents=True, exist_ok=True)
        obstacle.touch()
        obstacles.append(obstacle)
    other = {"other": {**SMALL, "frames": "data/other"}}
    ledger = "results/datasets/other/ledger.tsv"
    before = cluster.jobs("%N")
    cluster.run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    try:
        status, report = workflow.run(ledger, "--retries=1", *FEWER_JOBS, datasets=other)
    finally:
        cluster.run("scontrol", "update", "nodename=n2", "state=resume")
    nodes, memory = (
        [value for job, value in cluster.jobs(column).items() if job not in before]
        for column in ("%N", "%m")
    )
    assert nodes == ["n1"] * 5  # three shards, and two of them again with twice the memory
    assert [int(size[:-1]) // 1000 for size in sorted(memory)] == [4, 4, 4, 8, 8]

    assert status == 1
    # The third shard has nothing to do with what befalls the others of its array.
    assert len(re.findall(r"SLURM-job '\S+' failed", report)) == 4, report
    assert report.count("Trying to restart job") == 2
    for obstacle in obstacles:
        assert f"error: {obstacle.relative_to(workflow.folder)}: " in report
    manifests = workflow.folder / "results/datasets/other/manifests"
    assert [path.name for path in manifests.glob("*.tsv")] == [shards[2].name]

    for obstacle in obstacles:
        obstacle.unlink()
    status, report = workflow.run(ledger, "--slurm-array-jobs=", *FEWER_JOBS, datasets=other)
    assert status == 0, report
    assert "Submitted array job" not in report
    assert report.count("rule extract_shard:") == 2
    assert set(pd.read_csv(workflow.folder / ledger, sep="\t")["status"]) == {"ok"}


def test_stopped_trainings_go_on(
    output: str, workflow: Workflow, cluster: Cluster, interrupt: list[subprocess.Popen[bytes]]
):
    # The memory tells whose job a job is.
    long = {
        "cancelled": {"resources": {"nodes": 2, "mem_mb": 1000}},
        "overtime": {"resources": {"mem_mb": 1001}},
        "preempt_requeue": {"resources": {"mem_mb": 1002}},
        "preempt_cancel": {"resources": {"nodes": 2, "mem_mb": 1003}},
    }
    partition = "wildcards.experiment if 'preempt' in wildcards.experiment else 'test'"
    models = [f"results/experiments/{name}/01/model.pth" for name in long]
    experiments = {
        name: {**QUICK, **options, "n_epochs": 100_000} for name, options in long.items()
    }
    given = (*FEWER_JOBS, "--set-resources", f"train_model:slurm_partition={partition}")
    interrupt.append(workflow.start(*models, *given, experiments=experiments))
    jobs = {}
    for name, options in long.items():
        cluster.wait_until(lambda: rows(workflow, name) > 20, SECONDS)  # noqa: B023
        running = cluster.run("squeue", "--noheader", "--states=running", "--format=%i %m")
        memory = f"{options['resources']['mem_mb']}M"
        (jobs[name],) = (row.split()[0] for row in running.splitlines() if row.endswith(memory))

    # No job starts again, and its log anew, before all have been looked at.
    partitions = ("test", "preempt_requeue", "preempt_cancel")
    for name in partitions:
        cluster.run("scontrol", "update", f"partition={name}", "state=down")
    cluster.run("scancel", jobs["cancelled"])
    # As if it had been asked for: SLURM warns the job, or ends it if more time has passed.
    cluster.run("scontrol", "update", f"jobid={jobs['overtime']}", "timelimit=3")
    # As soon as these two have ended, this job preempts the others.
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null")
    cluster.run("sbatch", *urgent, "--wrap=true")
    stopped = r"stopped in epoch (\d+) after step (\d+); the state is saved"
    done = {name: wait_for_numbers(workflow, name, stopped) for name in long}
    for name in partitions:
        cluster.run("scontrol", "update", f"partition={name}", "state=up")
    # Without this SLURM waits for two minutes before it starts a job again.
    for name in ("preempt_requeue", "preempt_cancel"):
        state = ["squeue", "--noheader", "--states=all", f"--jobs={jobs[name]}", "--format=%T"]
        cluster.wait_until(lambda: cluster.run(*state).strip() == "PENDING", SECONDS)  # noqa: B023
        cluster.run("scontrol", "update", f"jobid={jobs[name]}", "starttime=now")
    resumed = r"resumed from \S+: (\d+) epochs and (\d+) steps are done"
    for name, (epoch, step) in done.items():
        assert wait_for_numbers(workflow, name, resumed) == [epoch - 1, step]


def wait_for_numbers(workflow: Workflow, experiment: str, pattern: str) -> list[int]:
    """The numbers in a message of a training, as soon as there is one."""

    def found() -> re.Match[str] | None:
        return re.search(pattern, workflow.log(f"train_model/{experiment}_01"))

    workflow.cluster.wait_until(found, SECONDS)
    match = found()
    assert match is not None
    return [int(number) for number in match.groups()]


def rows(workflow: Workflow, experiment: str) -> int:
    """Steps that a training has logged."""
    logs = (workflow.folder / f"results/checkpoints/{experiment}").glob("01/*/train_batch.log")
    return sum(len(log.read_text().splitlines()) for log in logs)


def logged(workflow: Workflow, experiment: str) -> list[float]:
    """The training loss of each epoch."""
    path = workflow.folder / f"results/experiments/{experiment}/01/train.log"
    return [round(loss, 4) for loss in pd.read_csv(path, sep="\t")["loss"]]
