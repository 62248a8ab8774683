"""The profile where a job needs an account and a partition, and sacct knows of all that has run."""

import pandas as pd
import pytest
from cluster import Cluster

from workflow import FEWER_JOBS, SMALL, Workflow

pytestmark = pytest.mark.slurm
LEDGER = "results/datasets/small/ledger.tsv"


@pytest.fixture(scope="module")
def workflow(accounted_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return Workflow(tmp_path_factory.mktemp("accounted"), accounted_cluster)


@pytest.fixture(scope="module")
def refusals(workflow: Workflow) -> list[str]:
    """What snakemake says while the profile is filled in step by step."""

    def run() -> tuple[int, str]:
        return workflow.run(LEDGER, "--retries=0", *FEWER_JOBS, all_of_snakemake=False)

    said = [run()]
    workflow.edit_profile("# slurm_partition: cpu", "slurm_partition: cpu")
    said.append(run())
    workflow.edit_profile("# slurm_account: my_project", "slurm_account: my_project")
    said.append(run())
    workflow.edit_profile("slurm_account: my_project", "slurm_account: lab")
    assert all(status == 1 for status, _ in said)
    return [output for _, output in said]


def test_what_is_missing_is_named(refusals: list[str]):
    no_partition, no_account, wrong_account = refusals
    assert "No partition specified or system default partition" in no_partition
    assert "Invalid account or account/partition combination specified" in no_account
    assert "The given account my_project appears to be invalid" in wrong_account
    for said in refusals:
        assert "FAILED render_motion data/lists" in said
        assert "1 job failed" in said
        assert "\nrule render_motion:" not in said
        assert "Traceback" not in said


def test_partition_account_and_type_of_gpu(
    refusals: list[str], workflow: Workflow, accounted_cluster: Cluster
):
    for line in (
        "set-resources:",
        "  train_model: &gpu",
        "    slurm_partition: gpu",
        "    gpu_model: a100",
        "  infer_subset: *gpu",
    ):
        workflow.edit_profile(f"# {line}", line)
    status, output = workflow.run("results/experiments/one/01/val.json", *FEWER_JOBS)
    assert status == 0, output
    ran = accounted_cluster.run("sacct", "-X", "--noheader", "--format=account,partition,state")
    assert [row.split() for row in ran.splitlines()] == [
        *[["lab", "cpu", "COMPLETED"]] * 4,  # the rendering and three shards
        *[["lab", "gpu", "COMPLETED"]] * 2,
    ]
    given = accounted_cluster.run("squeue", "--states=all", "--noheader", "--Format=tres-per-job")
    assert sorted(given.split()) == [*["N/A"] * 4, *["gres:gpu:a100:1"] * 2]


def test_sacct_as_the_status_command(refusals: list[str], workflow: Workflow):
    workflow.edit_profile("slurm-status-command: squeue", "slurm-status-command: sacct")
    workflow.edit_profile("slurm-array-jobs: extract_shard", 'slurm-array-jobs: ""')
    obstacle = workflow.folder / "data/other/.partial"
    other = {"other": {**SMALL, "frames": "data/other"}}
    ledger = "results/datasets/other/ledger.tsv"
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.touch()
    status, report = workflow.run(ledger, "--retries=0", *FEWER_JOBS, datasets=other)
    assert status == 1
    # The plugin asks for a reason with sacct only.
    assert report.count("failed, SLURM status is: 'FAILED'. Reason: ") == 3, report
    obstacle.unlink()
    status, report = workflow.run(ledger, *FEWER_JOBS, datasets=other)
    assert status == 0, report
    assert set(pd.read_csv(workflow.folder / ledger, sep="\t")["status"]) == {"ok"}
