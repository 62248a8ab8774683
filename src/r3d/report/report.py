"""The report of all runs: a folder with a page, which says what came out and how, and pictures."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from r3d.files import read_json
from r3d.obstacles import need_writable, writing
from r3d.report.accounts import (
    dataset_account,
    flow,
    provenance,
    steps_account,
    training_versions,
    trainings_account,
)
from r3d.report.contents import contents_of
from r3d.report.pages import write_page
from r3d.report.runs import Run, RunFiles, read_run

PAGE = "index.html"


def write_report(
    runs: Sequence[RunFiles],
    output: Path,
    *,
    ledgers: Mapping[str, Path],
    benchmarks: Path | None = None,
    logs: Path | None = None,
    files: Mapping[str, Sequence[Path]] | None = None,
    code: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    title: str = "Report",
) -> None:
    """Write the report into a folder: `index.html` and the pictures that it shows.

    Args:
        runs: the runs whose videos have labels.
        ledgers: the ledger of each data set, by its name.
        benchmarks: folder of Snakemake's benchmark files.
        logs: folder of the logs, beside which steps note where they ran.
        files: what the numbers rest on, by what it is: its digests are shown.
        code: the version of the code of each step.
        config: what is set, without what is at its default.
    """
    need_writable(output, folder=True)
    found = [run for run in map(read_run, runs) if run is not None]
    contents = contents_of(found)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        for number, (run, shown) in enumerate(zip(found, contents["runs"], strict=True)):
            shown["flow"] = flow(run.files.videos)
            if run.files.gallery is not None:
                shown["gallery"] = _gallery(run, run.files.gallery, output, f"pictures/{number}")
    contents["datasets"] = [dataset_account(name, ledger) for name, ledger in ledgers.items()]
    contents["steps"] = steps_account(benchmarks) if benchmarks else []
    contents["provenance"] = provenance(files or {}, code or {})
    if logs is not None:
        trainings = trainings_account(runs, logs, benchmarks)
        contents["provenance"] |= {
            "trainings": trainings,
            "training_versions": training_versions(trainings),
        }
    if config:
        contents["config"] = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    made = f"made {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"
    write_page(contents, output / PAGE, title=title, made=made)


def _gallery(run: Run, gallery: Path, output: Path, pictures: str) -> list[dict[str, Any]]:
    """The videos of a gallery, with their pictures in the folder of the report."""
    places = {video: number for number, video in enumerate(run.videos["id"])}
    (output / pictures).mkdir(parents=True, exist_ok=True)
    items = []
    for item in read_json(gallery / "gallery.json"):
        for name in ("strip", "cam"):
            shutil.copyfile(gallery / Path(item[name]).name, output / pictures / item[name])
            item[name] = f"{pictures}/{item[name]}"
        items.append({"video": places[item.pop("id")], **item})
    return items
