"""The workflow on the lists of 650,000 videos: does it stay within what a login node bears?

Lists are made up, manifests too (see `largelists.py`); all else is what a user runs. A dry run
is measured where nothing is there yet, where the shards are there and all extraction is to be
planned, and where extraction is done and recorded, so that Snakemake compares every file.

    python benchmarks/workflow.py
"""

import tempfile
from pathlib import Path

from largelists import Cost, ListedData
from sidebyside import parse, publish, table


def main() -> None:
    """Measure each step once, with its goal."""
    options = parse(__doc__, videos=650_000, shards=256)
    rows: list[list[str]] = []

    def add(what: str, cost: Cost, goal: str = "", *limits: float) -> None:
        """Limits are of the seconds and, if there are two, of the megabytes."""
        within = all(a < b for a, b in zip((cost.seconds, cost.megabytes), limits, strict=False))
        rows.append([what, *cost.cells(), goal, ("yes" if within else "no") if limits else ""])

    dry = ("under 10 s and 1,000 MB", 10.0, 1000.0)
    with tempfile.TemporaryDirectory() as folder:
        data = ListedData(Path(folder), options.videos, shards=options.shards)
        add("dry run, nothing there", data.dry_run(), *dry)
        add("lists -> table", data.parse_lists(), "under 10 s", 10)
        add("table -> shards", data.divide())
        sizes = data.shard_sizes()
        add("dry run, shards there", data.dry_run(), *dry)
        data.pretend_extraction()
        add("manifests -> ledger", data.gather())
        add("ledger -> annotation JSON", data.annotate(), "under 30 s", 30)
        data.record()
        add("dry run, annotation there", data.dry_run(), *dry)

    mean = sum(sizes) / len(sizes)
    off = max(abs(size - mean) for size in sizes) / mean
    spread = f"{min(sizes):,} to {max(sizes):,} videos, {off:.1%} off the mean"
    even = ["shards", spread, "", "", "within 10%", "yes" if off < 0.1 else "no"]
    columns = ["step", "time", "computing", "memory", "goal", "met"]
    caption = f"{sum(sizes):,} videos listed, {len(sizes)} shards."
    text = f"{caption}\n\n{table(columns, [*rows, even])}"
    publish("workflow", text, packages=["snakemake", "pandas"])


if __name__ == "__main__":
    main()
