"""Configs with every kind of fault, examined from the lists to the looks of the videos."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniatures import MINIATURES, RATE, Videos
from running import r3d, snakemake

from r3d.config.config import Config
from r3d.config.loading import load_config
from r3d.doctor.examination import examine
from r3d.doctor.findings import Finding, Report
from r3d.doctor.forecast import Forecast, Room, shortage
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.shards import write_shards
from r3d.lists import read_list, save_list

HEADER = "path,label,subset"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    return Videos(tmp_path_factory.mktemp("kinds") / "encoded")


def own(folder: Path, rows: list[str], *, header: str = HEADER, **options: Any) -> dict[str, Any]:
    """A data set with a list of one's own in a folder."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "list.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    places = {name: str(folder / name) for name in ("videos", "frames")}
    return {"format": "csv", "lists": str(folder / "list.csv"), **places, **options}


def config_of(experiments: dict[str, Any] | None = None, **datasets: dict[str, Any]) -> Config:
    return load_config({"datasets": datasets, "experiments": experiments or {}})


def found(report: Report, check: str, severity: str | None = None) -> list[Finding]:
    return [
        finding
        for finding in report.findings
        if finding.check == check and severity in (None, finding.severity)
    ]


def only(report: Report, check: str) -> Finding:
    (finding,) = found(report, check)
    return finding


ROWS = ["a/1.mp4,a,training", "b/2.mp4,b,training", "a/3.mp4,a,validation", "b/4.mp4,b,validation"]
FILES = [row.partition(",")[0] for row in ROWS]


def test_absolute_paths_are_those_of_the_videos_folder(tmp_path: Path) -> None:
    relative = examine(config_of(own=own(tmp_path / "a", ROWS)))
    rows = [f"{tmp_path}/b/videos/{row}" for row in ROWS]
    absolute = examine(config_of(own=own(tmp_path / "b", rows)))
    assert absolute.json().replace(f"{tmp_path}/b", f"{tmp_path}/a") == relative.json()
    outside = examine(config_of(own=own(tmp_path / "c", rows)))
    assert "no path may lead out of it" in only(outside, "lists").text


def test_before_the_videos_are_there(tmp_path: Path) -> None:
    dataset = own(tmp_path, ROWS)
    (tmp_path / "videos").rmdir()
    report = examine(config_of(own=dataset))
    missing = only(report, "missing")
    assert missing.severity == "error"
    assert "4 of 4" in missing.text
    assert "download" in missing.remedy
    assert [finding.check for finding in report.findings] == ["missing"]


def test_where_only_frames_are_there(tmp_path: Path, videos: Videos) -> None:
    dataset = own(tmp_path, ROWS)
    for kind, name in enumerate(FILES):
        (tmp_path / "frames" / name[0]).mkdir(parents=True, exist_ok=True)
        videos.put_frames(tmp_path / "frames" / name.removesuffix(".mp4"), kind=kind)
    before = sorted(tmp_path.rglob("*"))
    experiments = {"short": {"dataset": "own", "sample_t_stride": 8}}
    report = examine(config_of(experiments, own=dataset))
    assert "4 of 4 videos are gone, but their frames" in only(report, "missing").text
    assert "(20 frames)" in only(report, "short").examples[0]
    assert report.exit_status == 1
    assert found(report, "near-duplicates")
    assert not found(report, "forecast")
    assert sorted(tmp_path.rglob("*")) == before  # nothing is noted down


def test_all_miniatures_are_sound(tmp_path: Path, videos: Videos) -> None:
    """Nothing is amiss in the real list formats but that the videos look alike, as they do."""
    formats = {"kinetics": "kinetics700", "folders": "stair"}
    for list_format in ("ucf101", "hmdb51", "kinetics", "mit", "activitynet", "folders"):
        name = formats.get(list_format, list_format)
        folder = tmp_path / name
        folder.mkdir()
        places = MINIATURES[name][name](folder, videos)
        report = examine(config_of(**{name: {"format": list_format, **places}}))
        checks = {f.check for f in report.findings if f.severity != "note"}
        assert checks == {"near-duplicates"}, report.text()
        figures = report.datasets[name]
        assert figures["listed"] == figures["looked_at"] > 0


def test_what_is_wrong_with_ids_is_all_said(tmp_path: Path) -> None:
    rows = [*ROWS, "a/1.mp4,a,validation", "b/2.mp4,a,training", "a/3.mp4,a,validation"]
    report = examine(config_of(own=own(tmp_path, rows)))
    two, several = found(report, "ids", "error")
    assert two.text == "1 ids are in two subsets"
    assert two.examples == ("1 (list.csv line 2, list.csv line 6)",)
    assert several.text.startswith("1 ids stand for several videos")
    assert "1 ids occur in several rows" in only_text(found(report, "ids", "note"))
    assert found(report, "missing")  # the rest is looked at all the same


def only_text(findings: list[Finding]) -> str:
    (finding,) = findings
    return finding.text


def test_what_splits_say_of_a_video(tmp_path: Path, videos: Videos) -> None:
    places = MINIATURES["ucf101"]["ucf101"](tmp_path, videos)
    file = tmp_path / "lists/testlist02.txt"
    file.write_text(file.read_text().replace("ApplyEyeMakeup/", "YoYo/", 1))
    report = examine(config_of(ucf101={"format": "ucf101", **places}))
    assert any("in another split" in finding.text for finding in found(report, "ids", "error"))


def test_labels(tmp_path: Path) -> None:
    rows = ["1.mp4,jump high,training", "2.mp4,Jump_High,training", "3.mp4,sit,training"]
    report = examine(config_of(own=own(tmp_path, [*rows, "4.mp4,sit,validation"], n_classes=4)))
    error = only_text(found(report, "labels", "error"))
    assert error == "n_classes: 4, but the lists have 3 classes"
    warning = found(report, "labels", "warning")[0]
    assert warning.examples == ("'Jump_High' and 'jump high'",)
    assert "2 of 3 classes have no labelled video" in only_text(found(report, "labels", "note"))


@pytest.mark.parametrize(
    ("files", "remedy"),
    [
        ([f"deep/{name}" for name in FILES], "set videos to {videos}/deep, which holds 4"),
        ([name[2:] for name in FILES], "move '1.mp4' to where the list has it, 'a/1.mp4'"),
        ([name.upper() for name in FILES], "rename 'A/1.MP4' to what the list says, 'a/1.mp4'"),
        (["other.mp4"], "get the videos, or take them out of the list, or raise"),
    ],
    ids=["a level deeper", "flat", "upper case", "elsewhere"],
)
def test_where_missing_videos_are(
    tmp_path: Path, videos: Videos, files: list[str], remedy: str
) -> None:
    dataset = own(tmp_path, ROWS)
    for name in files:
        videos.put(tmp_path / "encoded.mp4")
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "encoded.mp4").rename(tmp_path / "videos" / name)
    missing = only(examine(config_of(own=dataset)), "missing")
    assert remedy.format(videos=dataset["videos"]) in missing.remedy
    assert len(found(examine(config_of(own=dataset)), "extra")) == 1


def test_a_name_in_another_unicode_form(tmp_path: Path, videos: Videos) -> None:
    dataset = own(tmp_path, [*ROWS[1:], "café/1.mp4,a,training"])
    videos.put(tmp_path / "videos" / unicodedata.normalize("NFD", "café") / "1.mp4")
    assert "differ by case, Unicode form" in only(examine(config_of(own=dataset)), "missing").remedy


def test_few_missing_videos_are_a_warning_and_links_are_followed(
    tmp_path: Path, videos: Videos
) -> None:
    dataset = own(tmp_path, ROWS, max_failure_rate=0.5)
    videos.put_all(tmp_path / "elsewhere", ["1.mp4", "3.mp4"])
    (tmp_path / "videos/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
    missing = only(examine(config_of(own=dataset)), "missing")
    assert (missing.severity, missing.examples) == ("warning", ("b/2.mp4", "b/4.mp4"))


def test_unreadable_videos(tmp_path: Path, videos: Videos) -> None:
    names = ["empty", "text", "cut", "good"]
    rows = [f"{name}.mkv,a,training" for name in names]
    dataset = own(tmp_path, rows, max_failure_rate=1)
    videos.put_all(tmp_path / "videos", [f"{name}.mkv" for name in names], seconds=6)
    (tmp_path / "videos/empty.mkv").write_bytes(b"")
    (tmp_path / "videos/text.mkv").write_text("no video " * 99)
    cut = tmp_path / "videos/cut.mkv"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    unusable, short = found(examine(config_of(own=dataset)), "unreadable", "warning")
    assert [text.split()[0] for text in unusable.examples] == ["empty", "text"]
    assert "the file has no bytes" in unusable.examples[0]
    assert short.examples[0].startswith("cut (truncated: ends after about")


def test_videos_shorter_than_a_sample(tmp_path: Path, videos: Videos) -> None:
    rows = [*ROWS, "long.mkv,a,training"]
    dataset = own(tmp_path, rows)
    videos.put_all(tmp_path / "videos", FILES[:3], seconds=1.5)
    videos.put(tmp_path / "videos" / FILES[3], seconds=1.6)
    videos.put(tmp_path / "videos/long.mkv", seconds=4)
    experiments = {"e": {"dataset": "own", "sample_duration": 16}}
    short = only(examine(config_of(experiments, own=dataset)), "short")
    assert short.text.startswith(
        "3 of 5 videos whose length is known have fewer frames than the 16"
    )
    assert short.examples[0] == f"1 ({1.5 * RATE:.0f} frames)"
    experiments["e"] |= {"sample_duration": 8, "sample_t_stride": 2}  # 15 frames do
    assert not found(examine(config_of(experiments, own=dataset)), "short")


def test_segments_of_a_file_in_two_subsets(tmp_path: Path, videos: Videos) -> None:
    header = "path,label,subset,start,end"
    rows = ["1.mkv,a,training,0,1", "1.mkv,a,validation,2,3", "2.mkv,a,testing,0,1"]
    dataset = own(tmp_path, rows, header=header)
    videos.put(tmp_path / "videos/1.mkv", seconds=4)
    source = only(examine(config_of(own=dataset)), "source")
    assert source.text.startswith("1 of 1 validation videos are of a file that training videos")
    assert "group_pattern" in source.remedy


def test_what_an_experiment_starts_from_is_compared_with_what_it_is_tested_on(
    tmp_path: Path,
) -> None:
    """Down a chain, through a merged data set, and only where there is a training on the way."""
    ids = ["AAAAAAAAAAA", "BBBBBBBBBBB", "CCCCCCCCCCC", "DDDDDDDDDDD"]
    first = own(tmp_path / "first", [f"{ids[0]}_000000_000010.mp4,x,training"])
    other = own(tmp_path / "other", [f"v_{ids[1]}.mp4,y,training"])
    last = own(
        tmp_path / "last",
        [f"{ids[3]}_000000_000010.mp4,z,training"]
        + [f"[{name}].mp4,z,validation" for name in ids[:3]],
    )
    config = load_config(
        {
            "datasets": {"first": first, "other": other, "last": last},
            "merged": {"both": ["first", "other"]},
            "experiments": {
                "base": {"dataset": "both"},
                "tuned": {"dataset": "last", "pretrain": "base"},
                "applied": {"dataset": "last", "pretrain": "tuned", "no_train": True},
            },
        }
    )
    sources = {finding.where: finding for finding in found(examine(config), "source")}
    assert set(sources) == {"first -> last", "other -> last"}
    assert sources["first -> last"].text.startswith(
        "1 of 3 validation videos are of a YouTube video"
    )
    assert sources["other -> last"].examples == (f"[{ids[1]}] ({ids[1]})",)
    assert "is trained on both" in sources["first -> last"].remedy


def test_real_near_duplicates_over_the_split(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/near_duplicates"
    names = ["pattern-sd-grey-bar", "pattern-sd-with-large-logo-bar", "doorknob-hd-no-bar"]
    if not (folder / f"{names[0]}.mp4").is_file():
        pytest.skip("the shared near-duplicates are not on this machine")
    rows = [
        f"{name}.mp4,a,{subset}"
        for name, subset in zip(names, ("training", "validation", "validation"), strict=True)
    ]
    dataset = own(tmp_path, rows) | {"videos": str(folder)}
    alike = only(examine(config_of(own=dataset)), "near-duplicates")
    assert alike.text.startswith("1 validation videos look much like training videos")
    assert alike.examples[0].startswith(f"{names[1]} and {names[0]} (")
    # By frames that were extracted, too, and without the videos.
    dataset["frames"] = str(tmp_path / "frames")
    save_list(read_list("csv", Path(dataset["lists"]), "all"), tmp_path / "t", tmp_path / "l")
    (shard,) = write_shards([tmp_path / "t"], tmp_path / "shards", 1)
    places = (folder, tmp_path / "frames", tmp_path / "manifest.tsv")
    extract_shard(shard, *places, FrameOptions(short_side=112), threads=2, progress=False)
    dataset["videos"] = str(tmp_path / "gone")
    report = examine(config_of(own=dataset))
    assert only(report, "near-duplicates").examples[0].startswith(f"{names[1]} and {names[0]} (")


def test_experiments(tmp_path: Path) -> None:
    experiments = {
        "a": {"dataset": "own", "inference_subset": "test"},
        "b": {"dataset": "own", "pretrain_path": "nowhere.pth"},
    }
    report = examine(config_of(experiments, own=own(tmp_path, ROWS)))
    assert only(report, "subset").where == "experiment a"
    assert only(report, "checkpoint").text.startswith("pretrain_path: model nowhere.pth:")


def test_the_forecast_is_what_extraction_takes(tmp_path: Path, videos: Videos) -> None:
    dataset = own(tmp_path, ROWS, short_side=36)
    for kind, name in enumerate(FILES):
        videos.put(tmp_path / "videos" / name, kind=kind)
    report = examine(config_of(own=dataset))
    told = report.datasets["own"]["forecast"]
    save_list(read_list("csv", tmp_path / "list.csv", "all"), tmp_path / "t", tmp_path / "l")
    (shard,) = write_shards([tmp_path / "t"], tmp_path / "shards", 1)
    places = (tmp_path / "videos", tmp_path / "frames", tmp_path / "manifest.tsv")
    extract_shard(shard, *places, FrameOptions(short_side=36), threads=2, progress=False)
    made = list((tmp_path / "frames").glob("*/*/*"))
    folders = list((tmp_path / "frames").glob("*/*"))
    assert told["videos"] == told["sampled"] == 4
    assert told["inodes"] == len(made) + len(folders)
    pictures = [path for path in made if path.suffix == ".jpg"]
    assert told["bytes"] == sum(-(-path.stat().st_size // 4096) * 4096 for path in pictures)
    assert told["core_hours"] > 0
    assert not found(examine(config_of(own=dataset)), "forecast")


def test_too_little_room() -> None:
    needed = Forecast(videos=10, sampled=2, bytes=600, inodes=60, core_hours=1.0)
    free = Room(device=1, folder=Path("/data"), bytes=1000, inodes=100)
    assert shortage([needed], free) == []
    (size, _), (inodes, remedy) = shortage([needed, needed], free)
    assert "1.2 kB, and 1 kB are free at /data" in size
    assert "120 files" in inodes
    assert "hdf5" in remedy
    unlimited = Room(device=1, folder=Path("/data"), bytes=10**6, inodes=None)
    assert shortage([needed, needed], unlimited) == []


def test_the_command(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"datasets": {"own": own(tmp_path, ROWS)}}))
    done = r3d(tmp_path, "doctor", "config.yaml", "--json", "report.json")
    assert done.returncode == 2
    assert done.stdout.startswith("error: own: missing: 4 of 4 videos")
    written = json.loads((tmp_path / "report.json").read_text())
    assert (written["severity"], written["exit_status"]) == ("error", 2)
    printed = r3d(tmp_path, "doctor", "config.yaml", "--json")
    assert json.loads(printed.stdout) == written
    config.write_text("datasets: {own: {format: csv}}")
    done = r3d(tmp_path, "doctor", "config.yaml")
    assert done.returncode == 2
    assert done.stdout.startswith("error: config.yaml: config: datasets.own.")
    assert "Traceback" not in done.stderr


@pytest.mark.workflow
def test_the_target_of_the_workflow(tmp_path: Path, videos: Videos) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"datasets": {"own": own(tmp_path, ROWS)}}))
    done = snakemake(tmp_path, config, "doctor")
    assert done.returncode == 1
    assert "error: own: missing: 4 of 4 videos" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "results/doctor.json").read_text())["exit_status"] == 2
    videos.put_all(tmp_path / "videos", FILES)
    done = snakemake(tmp_path, config, "doctor")
    assert done.returncode == 0, done.stderr  # that the videos look alike is a warning
    assert json.loads((tmp_path / "results/doctor.json").read_text())["exit_status"] == 1
    assert not (tmp_path / "results/datasets").exists()


def test_folds_that_cannot_be_made_are_said_with_a_remedy(tmp_path: Path) -> None:
    dataset = own(tmp_path, ROWS)
    report = examine(config_of({"cv": {"dataset": "own", "folds": 3}}, own=dataset))
    finding = only(report, "folds")
    assert finding.where == "experiment cv"
    assert "class 'a' has them in 2" in finding.text
    assert finding.remedy.startswith("set folds to 2,")
    assert not found(
        examine(config_of({"cv": {"dataset": "own", "folds": 2}}, own=dataset)), "folds"
    )
