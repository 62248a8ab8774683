"""Running the workflow on a cluster, with a config as small as it can be."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1200  # nothing takes that long, but the machine may be a busy one
# The plugin asks only now and then whether a job is done: no cluster job for what takes a second.
FEWER_JOBS = ("--snakefile", "fewer_jobs.smk")
MOTION = {
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
_CONFIG: dict[str, dict[str, Any]] = {
    "datasets": {"motion": MOTION},
    "defaults": {
        "dataset": "motion",
        "model_depth": 10,
        "resnet_widen_factor": 0.0625,
        "sample_size": 32,
        "sample_duration": 8,
        "batch_size": 8,
        "learning_rate": 0.02,
        "n_epochs": 2,
        "n_val_samples": 1,
        "n_threads": 0,
        "precision": "fp32",
        "no_cuda": True,
    },
    "experiments": {
        # Both take batch-norm statistics over halves of a batch, and ask for GPUs that are none.
        "one": {"accumulate_steps": 2, "resources": {"gpus": 1, "mem_mb": 1000}},
        "two": {"resources": {"nodes": 2, "gpus": 1, "mem_mb": 1000}},
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
        for name in ("Snakefile", "rules", "workflow", "profiles", "environment.yml"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "config").mkdir()
        (self.folder / "fewer_jobs.smk").write_text(_FEWER_JOBS)

    def start(self, *arguments: str, **changes: Any) -> subprocess.Popen[bytes]:
        """Start what a user types, with a config with more in these sections."""
        config = {name: {**values, **changes.get(name, {})} for name, values in _CONFIG.items()}
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config))
        # Ctrl-C has to work even if these tests run in the background, where it is ignored.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "snakemake", *arguments]
        command += ["--profile", "profiles/slurm"]
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
