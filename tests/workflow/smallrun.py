"""A small data set of one's own in a folder, on which the workflow runs in seconds."""

import copy
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd
import yaml
from miniatures import Videos
from running import ALL_OF_SNAKEMAKE, ROOT, count_jobs

NAMES = {f"{label}{number}": label for label in ("run", "walk") for number in range(1, 5)}
"""Videos and their labels; the last of each label is for validation."""

CONFIG: dict[str, Any] = {
    "results": "results",
    "datasets": {
        "own": {
            **{"format": "csv", "lists": "list.csv", "videos": "videos", "frames": "jpg"},
            **{"shards": 2, "short_side": 36, "max_failure_rate": 0.5},
        }
    },
    "defaults": {
        **{"dataset": "own", "model_depth": 10, "resnet_widen_factor": 0.0625},
        **{"sample_size": 32, "sample_duration": 4, "batch_size": 6, "n_epochs": 1},
        **{"learning_rate": 0.01, "multistep_milestones": [], "n_val_samples": 1},
        **{"n_threads": 0, "no_cuda": True, "precision": "fp32"},
    },
    "experiments": {"base": {}},
}


class SmallRun:
    """The folder; `config` can be changed before each run.

    `targets` are for runs that are given none: what a test is about, as figures and galleries take
    half of the time.
    """

    def __init__(self, folder: Path, root: Path = ROOT, *, targets: Sequence[str] = ()) -> None:
        self.folder, self.root, self.targets = folder, root, targets
        self.config = copy.deepcopy(CONFIG)

    @property
    def own(self) -> dict[str, Any]:
        """The config of the data set."""
        return self.config["datasets"]["own"]

    def fill(self, encoded: Path) -> None:
        """Write the list and its videos."""
        videos = Videos(encoded)
        for number, name in enumerate(NAMES):
            videos.put(self.video(name), kind=number // 4, seconds=1)
        self.list_videos()

    def video(self, name: str) -> Path:
        return self.folder / f"videos/{NAMES[name]}/{name}.mp4"

    def list_videos(self, *more: str) -> None:
        """Write the list, with more lines at its end."""
        subsets = {name: "validation" if name.endswith("4") else "training" for name in NAMES}
        lines = [f"{label}/{name}.mp4,{label},{subsets[name]}" for name, label in NAMES.items()]
        content = "\n".join(["path,label,subset", *lines, *more, ""])
        (self.folder / "list.csv").write_text(content)

    def copy(self, folder: Path, root: Path | None = None) -> "SmallRun":
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = SmallRun(folder, root or self.root, targets=self.targets)
        copied.config = copy.deepcopy(self.config)
        return copied

    def start(
        self, *arguments: str, output: IO[str] | int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        config = self.folder / f"{Path(self.config['results']).name}.yaml"
        config.write_text(yaml.safe_dump(self.config))
        if all(argument.startswith("-") for argument in arguments):
            arguments += tuple(self.targets)
        command = [sys.executable, "-m", "snakemake", "--snakefile", self.root / "Snakefile"]
        return subprocess.Popen(
            [*command, "--cores", "2", *arguments, "--configfile", config],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.root / "src"), **environment},
        )

    def run(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run to the end; what was said."""
        process = self.start(*arguments, **environment)
        output = process.communicate(timeout=300)[0]
        assert (process.returncode != 0) == fails, output[-5000:]
        return output

    def fail(self, *arguments: str, **environment: str) -> str:
        """Run, and return the one line that says why it failed."""
        output = self.run(*arguments, fails=True, **environment)
        assert "Traceback" not in output
        lines = {line[line.index("error: ") :] for line in output.splitlines() if "error: " in line}
        assert len(lines) == 1, output[-5000:]
        return lines.pop()

    def jobs(self, *arguments: str, **environment: str) -> Counter[str]:
        """Run, and count the jobs of each rule."""
        return count_jobs(self.run(*ALL_OF_SNAKEMAKE, *arguments, **environment))

    def table(self, name: str) -> pd.DataFrame:
        path = self.folder / "results" / name
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)

    def statuses(self) -> dict[str, str]:
        """What the ledger says of each video."""
        ledger = self.table("datasets/own/ledger.tsv")
        return dict(zip(ledger["id"], ledger["status"], strict=True))
