"""Running the workflow on a cluster, with the default config and more, as small as it can be."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster import Cluster
from running import ALL_OF_SNAKEMAKE, ROOT

SECONDS = 1800  # nothing takes that long, but the machine may be a busy one
# The plugin asks only now and then whether a job is done: no cluster job for what takes a second.
FEWER_JOBS = ("--snakefile", "fewer_jobs.smk")
SMALL = {
    "format": "ucf101",
    "render": {"videos_per_class": 5, "n_frames": 16},
    "lists": "data/lists",
    "videos": "data/videos",
    "frames": "data/jpg",
    "splits": ["01"],
    "n_classes": 8,
    "short_side": 48,
    "shards": 3,
}
QUICK = {
    "dataset": "small",
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "batch_size": 8,
    "n_epochs": 2,
    "n_threads": 0,
    "precision": "fp32",
    "no_cuda": True,
}
# What the tests add to the config that is the default.
_ADDED: dict[str, dict[str, Any]] = {
    "datasets": {"small": SMALL},
    "experiments": {
        # Both take batch-norm statistics over halves of a batch, and ask for GPUs that are none.
        "one": {**QUICK, "accumulate_steps": 2, "resources": {"gpus": 1, "mem_mb": 1000}},
        "two": {**QUICK, "resources": {"nodes": 2, "gpus": 1, "mem_mb": 1000}},
    },
}
_FEWER_JOBS = """\
include: "Snakefile"
localrules: list_split, shard_videos, gather_ledger, annotate_split
"""


@dataclass(frozen=True)
class Workflow:
    """A folder laid out as the repository, in which snakemake runs on the cluster."""

    folder: Path
    cluster: Cluster

    def __post_init__(self) -> None:
        for name in ("Snakefile", "rules", "workflow", "environment.yml"):
            (self.folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "profiles", self.folder / "profiles")
        (self.folder / "config").mkdir()
        (self.folder / "fewer_jobs.smk").write_text(_FEWER_JOBS)

    def edit_profile(self, old: str, new: str) -> None:
        """Replace a text of the profile, which is there once."""
        path = self.folder / "profiles/slurm/config.yaml"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def start(
        self, *arguments: str, all_of_snakemake: bool = True, **changes: Any
    ) -> subprocess.Popen[bytes]:
        """Start what a user types, with a config with more in these sections.

        Args:
            all_of_snakemake: whether it prints what Snakemake does, and not a line a job.
        """
        config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        # One split and no fine-tuning: what more there is of them is not about clusters.
        config["datasets"]["motion"]["splits"] = ["01"]
        del config["experiments"]["finetune"]
        for name, values in _ADDED.items():
            config[name] |= values | changes.get(name, {})
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", *arguments, "--profile", "profiles/slurm"]
        command += ALL_OF_SNAKEMAKE if all_of_snakemake else ()
        with self._output.open("wb") as output:
            return subprocess.Popen(
                [*command, "--slurm-init-seconds-before-status-checks", "8"],
                cwd=self.folder,
                env=self.cluster.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def run(self, *arguments: str, **changes: Any) -> tuple[int, str]:
        """Do the same to the end: the exit status, and what snakemake said."""
        status = self.start(*arguments, **changes).wait(timeout=SECONDS)
        return status, self._output.read_text()

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    def log(self, step: str) -> str:
        """The messages of a step so far."""
        path = self.folder / "results/logs" / f"{step}.log"
        return path.read_text() if path.is_file() else ""
