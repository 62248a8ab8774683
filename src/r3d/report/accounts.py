"""What became of the videos, and how the numbers came about, as plain values for the report."""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from r3d.compute.record import read_record, record_of
from r3d.errors import InputError
from r3d.evaluation.videos import STAGES
from r3d.frames.ledger import USED
from r3d.report.runs import RunFiles
from r3d.tables import read_columns

_MOST_REASONS = 40
_N_BINS = 24
_PACKAGES = (
    *("r3d", "torch", "torchvision", "numpy", "pandas", "scipy", "snakemake", "av"),
    *("simplejpeg", "pillow", "h5py", "imageio-ffmpeg"),
)


def flow(videos: Path) -> list[dict[str, Any]]:
    """How many videos of each subset came to each stage, from a table of `write_videos`."""
    table = read_columns(videos, ("subset", *STAGES))
    return [
        {
            "subset": subset,
            "stages": [
                [stage.replace("_", " "), int((part[stage] == "yes").sum())]
                for stage in STAGES
                if (part[stage] != "").any()  # the others are not for these videos
            ],
        }
        for subset, part in table.groupby("subset", sort=False)
    ]


def dataset_account(name: str, ledger: Path) -> dict[str, Any]:
    """Failures by reason, and how long, large and fast the videos of a data set are."""
    columns = ("status", "reason", "frames", "fps", "width", "height")
    table = read_columns(ledger, columns)
    failed = table[(table["status"] != "ok") | (table["reason"] != "")]
    # What differs from video to video does not part reasons: names, numbers.
    kinds = failed["reason"].str.replace(r"\d+(\.\d+)?", "N", regex=True)
    reasons = failed.groupby([failed["status"], kinds])["reason"].agg(["size", "first"])
    reasons = reasons.sort_values("size", ascending=False, kind="stable")[:_MOST_REASONS]
    used = table[table["status"].isin(USED)]
    frames, fps = (pd.to_numeric(used[column]) for column in ("frames", "fps"))
    sizes = (used["width"] + " x " + used["height"]).value_counts()[:12]
    return {
        "name": name,
        "videos": len(table),
        "status": {str(k): int(n) for k, n in table["status"].value_counts().items()},
        "reasons": [
            [status, reason, int(n)]
            for status, reason, n in zip(
                reasons.index.get_level_values(0), reasons["first"], reasons["size"], strict=True
            )
        ],
        "seconds": _histogram((frames / fps).dropna().to_numpy(float)),
        "rates": _histogram(fps.dropna().to_numpy(float)),
        "sizes": [[str(size), int(n)] for size, n in sizes.items()],
    }


def steps_account(benchmarks: Path) -> list[dict[str, Any]]:
    """Time and peak memory of each rule, from Snakemake's benchmark files."""
    rows = []
    for rule in sorted(benchmarks.iterdir() if benchmarks.is_dir() else ()):
        files = sorted(rule.rglob("*.tsv")) if rule.is_dir() else [rule]
        seconds, memory = [], []
        for file in files:
            seconds += _column(file, "s")
            memory += _column(file, "max_rss")
        if seconds:
            rows.append(
                {
                    "rule": rule.stem,
                    "jobs": len(seconds),
                    "seconds": round(sum(seconds), 1),
                    "longest": round(max(seconds), 1),
                    "memory_mb": round(max(memory), 1) if memory else None,
                }
            )
    return rows


def trainings_account(
    runs: Sequence[RunFiles], logs: Path, benchmarks: Path | None
) -> list[dict[str, Any]]:
    """Where each training ran, how long and with how much memory, as far as it was noted.

    Args:
        logs: folder of the logs, beside which steps note it (`r3d.compute.record`).
        benchmarks: folder of Snakemake's benchmark files, which count all processes of a job.
    """
    rows = []
    for run in runs:
        attempts = read_record(record_of(logs / f"train_model/{run.experiment}_{run.name}.log"))
        if run.train_log is None or not attempts:
            continue
        last = attempts[-1]
        memory = [attempt.get("memory_mb") for attempt in attempts]
        if benchmarks:
            benchmark = benchmarks / f"train_model/{run.experiment}_{run.name}.tsv"
            memory += _column(benchmark, "max_rss")
        rows.append(
            {
                "experiment": run.experiment,
                "run": run.name,
                "seed": run.seed,
                "machine": "; ".join(dict.fromkeys(str(one["machine"]) for one in attempts)),
                "gpus": ", ".join(map(str, last.get("gpus", []))),
                "cores": last.get("cores"),
                "began": str(attempts[0].get("began", ""))[:16].replace("T", " "),
                "attempts": len(attempts),
                "seconds": round(sum(one.get("seconds") or 0 for one in attempts), 1),
                # A killed one has left no time.
                "untimed": sum(one.get("seconds") is None for one in attempts),
                "memory_mb": max(map(round, filter(None, memory)), default=None),
                "gpu_memory_mb": max(
                    filter(None, (one.get("gpu_memory_mb") for one in attempts)), default=None
                ),
                "versions": dict(last.get("versions", {})),
            }
        )
    return rows


def training_versions(trainings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Each package that trainings ran with, and its version, or versions, there."""
    found: dict[str, dict[str, None]] = {}
    for training in trainings:
        for package, number in training["versions"].items():
            found.setdefault(str(package), {})[str(number)] = None
    return [[package, ", ".join(numbers)] for package, numbers in found.items()]


def _column(benchmark: Path, name: str) -> list[float]:
    """The numbers of a column; none of a file that is not there, or that a killed job left half."""
    try:
        values = pd.to_numeric(read_columns(benchmark, (name,))[name], errors="coerce")
    except InputError:
        return []
    return [float(value) for value in values.dropna()]


def provenance(files: Mapping[str, Sequence[Path]], code: Mapping[str, str]) -> dict[str, Any]:
    """Versions, machine, and digests of the files that the numbers rest on.

    Args:
        files: files by what they are (lists, annotations).
        code: the version of the code of each step.
    """
    return {
        "versions": [["python", platform.python_version()], *_versions()],
        "code": [[step, digest] for step, digest in code.items()],
        "machine": [
            ["system", platform.platform()],
            ["processor", _processor()],
        ],
        "files": [
            [kind, path.as_posix(), _digest(path)]
            for kind, paths in files.items()
            for path in paths
        ],
    }


def _versions() -> list[list[str]]:
    found = []
    for package in _PACKAGES:
        try:
            found.append([package, version(package)])
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return f"{name[1] if name else platform.machine()}, {text.count('processor')} threads"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _histogram(values: npt.NDArray[np.float64]) -> dict[str, list[float]] | None:
    """Counts in bins of equal width up to the 99th percentile; the last bin has the rest, too."""
    if not len(values):
        return None
    low, high = float(values.min()), float(np.quantile(values, 0.99))
    if low == high:
        high = low + 1
    counts, edges = np.histogram(np.minimum(values, high), _N_BINS, (low, high))
    return {"edges": [round(float(edge), 3) for edge in edges], "counts": counts.tolist()}
