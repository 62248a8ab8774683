"""Running the workflow and the command line as a user does, with the library that is tested."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALL_OF_SNAKEMAKE = ("--printshellcmds",)
"""Asks for what Snakemake itself prints, with all about each job, instead of a line a job."""


def count_jobs(output: str) -> Counter[str]:
    """The jobs of each rule that Snakemake says it starts, asked for all of it."""
    words = (line.split() for line in output.splitlines())
    kinds = {"rule", "localrule", "checkpoint", "localcheckpoint"}
    return Counter(w[1].rstrip(":") for w in words if len(w) == 2 and w[0] in kinds)


def snakemake(
    folder: Path, config: Path, *targets: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder of its own."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "2", "--configfile", str(config), *options, "--", *targets]
    return _run(command, folder)


def r3d(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line."""
    return _run([sys.executable, "-m", "r3d", *arguments], folder)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
