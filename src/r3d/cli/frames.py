"""Videos -> frames, in shards, with a ledger."""

from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FILE_TYPE, FOUND, FRAMES_FOLDER, NEW_FILE, NEW_FOLDER, Found


@command("shards", example="r3d shards list.tsv shards --n_shards 1")
@click.argument("tables", type=Found("lists"), nargs=-1, required=True)
@click.argument("folder", type=NEW_FOLDER)
@click.option("--n_shards", default=16, show_default=True, help="How many.")
def shards_command(tables: tuple[Path, ...], folder: Path, n_shards: int) -> None:
    """Divide the videos of the TABLES of all splits over the shards in FOLDER."""
    from r3d.frames.shards import write_shards

    write_shards(tables, folder, n_shards)


@command(
    "frames",
    example="r3d frames shards/000.tsv motion/videos frames manifest.tsv --short_side 72",
)
@click.argument("shard", type=Found("shards"))
@click.argument("videos", type=FOUND)
@click.argument("frames", type=FRAMES_FOLDER)
@click.argument("manifest", type=NEW_FILE)
@click.option(
    "--file_type", type=FILE_TYPE, default="jpg", show_default=True, help="Kind of the frames."
)
@click.option("--short_side", default=240, show_default=True, help="In pixels; 0 keeps the size.")
@click.option("--quality", type=click.IntRange(2, 31), help="JPEG quantiser; 2 is best.")
@click.option("--fps", type=float, help="Frames a second to select.")
@click.option(
    "--colour",
    type=click.Choice(["converted", "as_reference"]),
    default="converted",
    show_default=True,
    help="Of BT.709 and BT.2020 sources: as JPEG means them, or as the reference leaves them.",
)
@click.option(
    "--timeout_seconds",
    default=600.0,
    show_default=True,
    help="Give up a video that takes longer.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Videos extracted at a time.",
)
@click.option("--verify", is_flag=True, help="Read all frames, and make the damaged ones anew.")
def frames_command(
    shard: Path,
    videos: Path,
    frames: Path,
    manifest: Path,
    threads: int,
    verify: bool,
    **options: Any,
) -> None:
    """Extract the videos of a SHARD from the folder VIDEOS into FRAMES, and write the MANIFEST."""
    from r3d.frames.extract import FrameOptions, extract_shard

    extract_shard(
        shard, videos, frames, manifest, FrameOptions(**options), threads=threads, verify=verify
    )


@command("ledger", example="r3d ledger manifest.tsv ledger.tsv --list 01 list.tsv")
@click.argument("manifests", type=Found("frames"), nargs=-1, required=True)
@click.argument("output", type=NEW_FILE)
@click.option(
    "--list",
    "lists",
    type=(str, Found("lists")),
    metavar="SPLIT TABLE",
    multiple=True,
    required=True,
    help="A split and its table; once for each.",
)
@click.option(
    "--max_failure_rate",
    default=0.1,
    show_default=True,
    help="Largest share of listed videos without frames.",
)
def ledger_command(
    manifests: tuple[Path, ...],
    output: Path,
    lists: tuple[tuple[str, Path], ...],
    max_failure_rate: float,
) -> None:
    """Gather the MANIFESTS of all shards into the ledger OUTPUT."""
    from r3d.frames.ledger import write_ledger

    write_ledger(
        list(manifests),
        dict(lists),
        output,
        max_failure_rate=max_failure_rate,
        refused=output.with_suffix(".refused.tsv"),
    )
