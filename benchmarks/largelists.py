"""A data set of any size that exists in its lists only, and what the steps on lists cost.

The lists are in the form of Kinetics-700: as many classes, of different sizes, ids of YouTube,
training, validation and test videos in its proportions. Commands are run as a user runs them, each
in a process of its own, whose start-up counts.
"""

import csv
import os
import random
import resource
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil

from r3d.frames.ledger import MANIFEST_COLUMNS

ROOT = Path(__file__).parents[1]

N_CLASSES = 700
SHARES = {"train": 0.84, "val": 0.054, "test": 0.106}

_ID_CHARACTERS = string.ascii_letters + string.digits + "-_"
_VERBS = (
    *("playing", "cutting", "throwing", "washing", "painting", "carrying", "folding", "fixing"),
    *("catching", "opening", "shaking", "pushing", "pulling", "cleaning", "building", "juggling"),
    *("kicking", "peeling", "polishing", "tasting", "tying", "weaving", "flipping", "spinning"),
    *("sharpening", "unloading", "assembling", "decorating"),
)
_OBJECTS = (
    *("guitar", "apple", "ball (in game)", "dishes", "fence", "baby", "paper", "bicycle"),
    *("fish", "wine bottle", "person's hair", "cart", "rope (not on a tie)", "shoes", "card"),
    *("hula hoop", "pancake", "knife", "American football", "trampoline", "door", "basket"),
    *("sled", "dumbbell", "cake"),
)

_SAMPLE_SECONDS = 0.02
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

_CONFIG = """\
results: results
datasets:
  kinetics700:
    format: kinetics
    lists: lists
    videos: videos
    frames: frames
    n_classes: 700
    shards: {shards}
    max_failure_rate: 0.3
defaults: {{dataset: kinetics700, model_depth: 50}}
experiments: {{r3d50: {{}}}}
"""


@dataclass(frozen=True)
class Cost:
    """What a process and its children took.

    Attributes:
        seconds: by the clock.
        core_seconds: of computing, which on a machine with other work is the steadier figure.
        megabytes: the most memory at a time, in 2^20 bytes: the sum of the resident sets, looked at
            every 20 ms. Pages that processes share count for each.
    """

    seconds: float
    core_seconds: float
    megabytes: float

    def cells(self) -> list[str]:
        """As three cells of a table."""
        return [
            f"{self.seconds:.1f} s",
            f"{self.core_seconds:.1f} s of a core",
            f"{self.megabytes:.0f} MB",
        ]


class ListedData:
    """A folder with a config, lists of `n_videos` and no video, in which the workflow can run."""

    def __init__(self, folder: Path, n_videos: int, *, shards: int) -> None:
        self.folder, self.n_videos, self.shards = folder, n_videos, shards
        for name in ("videos", "lists"):
            (folder / name).mkdir()
        (folder / "config.yaml").write_text(_CONFIG.format(shards=shards), encoding="utf-8")
        _write_lists(folder / "lists", n_videos)
        self._data = Path("results/datasets/kinetics700")
        self._list, self._labels = (
            self._data / "lists" / name for name in ("all.tsv", "all.labels.txt")
        )
        self._ledger = self._data / "ledger.tsv"
        self.annotation = self._data / "annotations/kinetics700_all.json"

    def dry_run(self) -> Cost:
        """Plan the whole workflow from where it stands."""
        return measure(_snakemake("--dry-run", "--quiet"), self.folder)

    def parse_lists(self) -> Cost:
        """Official lists -> one table."""
        return self._step("lists", "kinetics", "lists", self._list, self._labels)

    def divide(self) -> Cost:
        """Table -> shards."""
        folder = self._data / "shards"
        return self._step("shards", self._list, folder, "--n_shards", self.shards)

    def shard_sizes(self) -> list[int]:
        """Videos of each shard."""
        sizes = []
        for path in self._shard_tables():
            with path.open("rb") as lines:
                sizes.append(sum(1 for _ in lines) - 1)
        return sizes

    def pretend_extraction(self) -> None:
        """Write manifests as extraction would of videos of which an eighth has vanished."""
        rng = random.Random(1)
        folder = self.folder / self._data / "manifests"
        folder.mkdir()
        for table in self._shard_tables():
            with (
                table.open(encoding="utf-8", newline="") as shard,
                (folder / table.name).open("w", encoding="utf-8", newline="") as manifest,
            ):
                rows = csv.DictReader(shard, delimiter="\t")
                writer = csv.writer(manifest, delimiter="\t", lineterminator="\n")
                writer.writerow(MANIFEST_COLUMNS)
                for row in rows:
                    found = ("ok", "", rng.randrange(240, 301), 29.97002997, 340, 256)
                    if rng.random() < 1 / 8:
                        reason = f"no file {row['path']}, nor with a usual extension"
                        found = ("missing", reason, 0, "", "", "")
                    writer.writerow([row["id"], row["label"], row["key"], *found])

    def gather(self) -> Cost:
        """Manifests -> ledger."""
        manifests = [self._data / "manifests" / path.name for path in self._shard_tables()]
        arguments = ("--list", "all", self._list, "--max_failure_rate", 0.3)
        return self._step("ledger", *manifests, self._ledger, *arguments)

    def annotate(self) -> Cost:
        """Table and ledger -> annotation JSON."""
        tables = (self._list, self._labels, self._ledger)
        return self._step("annotations", *tables, self.annotation)

    def record(self) -> Cost:
        """Have Snakemake take what is there for its own work, as if it had made each file."""
        options = ("--touch", "--forceall", "--quiet", "--", str(self.annotation))
        return measure(_snakemake(*options), self.folder)

    def _step(self, *arguments: object) -> Cost:
        return measure([sys.executable, "-m", "r3d", *map(str, arguments)], self.folder)

    def _shard_tables(self) -> list[Path]:
        return sorted((self.folder / self._data / "shards").glob("*.tsv"))


def measure(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end; if it fails, show what it said and raise."""
    begin, computing = time.perf_counter(), _core_seconds()
    peak = 0
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        process = psutil.Popen(
            command, cwd=folder, env=_ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(_SAMPLE_SECONDS)
        seconds = time.perf_counter() - begin
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)[:300]}: {output.read()[-2000:]}")
    return Cost(seconds, _core_seconds() - computing, peak / 2**20)


def _core_seconds() -> float:
    """What the children that have ended, and theirs, have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:  # it has just ended
        pass
    return total


def _snakemake(*options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
        *("--cores", "2", "--configfile", "config.yaml", *options),
    ]


def _write_lists(folder: Path, n_videos: int) -> None:
    rng = random.Random(0)
    labels = [f"{verb} {thing}" for verb, thing in product(_VERBS, _OBJECTS)][:N_CLASSES]
    weights = [rng.uniform(0.4, 1) for _ in labels]
    for subset, share in SHARES.items():
        n = round(n_videos * share)
        # each class once, so that few videos have all of them, too
        chosen = [*labels, *rng.choices(labels, weights, k=n)][:n]
        rng.shuffle(chosen)
        path = folder / f"kinetics-700_{subset}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            columns = ("youtube_id", "time_start", "time_end", "split")
            writer.writerow(columns if subset == "test" else ("label", *columns))
            for label in chosen:
                name = "".join(rng.choices(_ID_CHARACTERS, k=11))
                start = rng.randrange(300)
                row = (name, start, start + 10, subset)
                writer.writerow(row if subset == "test" else (label, *row))
