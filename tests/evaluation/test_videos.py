"""What became of each listed video, on a real run in which videos fail in every way."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from example import write_model
from miniatures import Videos

from r3d.annotations.merging import merge_annotations
from r3d.annotations.reading import read_annotation
from r3d.annotations.writing import write_activitynet, write_annotation
from r3d.config.options import RunOptions
from r3d.errors import InputError
from r3d.evaluation.evaluate import evaluate
from r3d.evaluation.videos import STAGES, write_videos
from r3d.frames.extract import FrameOptions, extract_shard
from r3d.frames.ledger import load_ledger, write_ledger
from r3d.frames.shards import write_shards
from r3d.inference.infer import infer
from r3d.inference.trained import load_model
from r3d.lists import read_list, save_list

SUBSETS = {"training": 4, "validation": 3, "testing": 2}
FAULTS = ("missing", "empty", "corrupt", "truncated", "outside", "brief")


class Run:
    """A folder in which a list has been taken as far as its annotation."""

    def __init__(self, folder: Path, name: str, table: list[str]) -> None:
        self.folder, self.name = folder / name, name
        self.folder.mkdir(exist_ok=True)
        (self.folder / "list.csv").write_text("\n".join([*table, ""]))
        self.list, self.labels = self.folder / "list.tsv", self.folder / "labels.txt"
        video_list = read_list("csv", self.folder / "list.csv", "all")
        save_list(video_list, self.list, self.labels)
        (shard,) = write_shards([self.list], self.folder / "shards", 1)
        manifest, self.ledger = self.folder / "manifest.tsv", self.folder / "ledger.tsv"
        self.frames = self.folder / "jpg"
        options = FrameOptions(short_side=36)
        extract_shard(
            shard, folder / "videos", self.frames, manifest, options, threads=2, progress=False
        )
        refused = self.folder / "refused.tsv"
        lists = {"all": self.list}
        write_ledger([manifest], lists, self.ledger, max_failure_rate=1, refused=refused)
        self.annotation = self.folder / "annotation.json"
        places = (self.list, self.labels, self.ledger, self.annotation)
        write_annotation(*places, file_type="jpg", frames=self.frames)
        self.classes = video_list.labels

    def apply(self, subset: str) -> Path:
        """Apply a network to a subset; its result without that of one video."""
        model, result = self.folder / "model.pth", self.folder / f"{subset}.json"
        write_model(model, self.classes, sample_size=32)
        options = load_model(model).options
        places: dict[str, Any] = {"annotation": self.annotation, "frames": self.frames}
        infer(
            options,
            **places,
            model=model,
            output=result,
            subset=subset,
            run=RunOptions(n_threads=0),
        )
        content = json.loads(result.read_text())
        del content["results"][min(content["results"])]
        content["results"]["unlisted"] = next(iter(content["results"].values()))
        result.write_text(json.dumps(content))
        return result

    def follow(self, result: Path, subset: str, **options: Any) -> pd.DataFrame:
        output = result.with_suffix(".videos.tsv")
        sources = {"": (self.list, self.ledger)}
        write_videos(sources, self.annotation, result, output, subset=subset, **options)
        return pd.read_csv(output, sep="\t", keep_default_na=False, dtype=str)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each subset has good videos and one of each fault; testing videos have no label."""
    folder = tmp_path_factory.mktemp("followed")
    videos = Videos(folder / "kinds")
    rows = ["path,label,subset,start,end"]
    for kind, label in enumerate(("jump", "sit")):
        for subset, n_good in SUBSETS.items():
            shown = "" if subset == "testing" else label
            for number in range(n_good):
                path = f"{label}/{subset}_{number}.mkv"
                videos.put(folder / "videos" / path, kind=kind)
                rows.append(f"{path},{shown},{subset},,")
            for fault in FAULTS:
                path = f"{label}/{subset}_{fault}.mkv"
                rows.append(f"{path},{shown},{subset},{'50,51' if fault == 'outside' else ','}")
                spoil(folder / "videos" / path, fault, videos, kind)
    return Run(folder, "own", rows)


def spoil(path: Path, fault: str, videos: Videos, kind: int) -> None:
    videos.put(path, kind=kind, seconds=0.1 if fault == "brief" else 2)
    content = path.read_bytes()
    match fault:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "corrupt":
            path.write_bytes(b"no video" * 100)
        case "truncated":
            path.write_bytes(content[: len(content) * 2 // 3])


@pytest.mark.parametrize("subset", ["val", "train"])
def test_the_counts_add_up(run: Run, subset: str) -> None:
    result = run.apply(subset)
    table = run.follow(result, subset).set_index("id")
    ledger = load_ledger(run.ledger).set_index("id")
    assert sorted(table.index) == list(table.index) == sorted(ledger.index)
    assert set(ledger["status"]) == {"ok", "missing", "empty", "corrupt", "truncated"}
    for stage in STAGES:
        assert set(table[stage]) <= {"yes", "no", ""}
    assert (table["listed"] == "yes").all()
    assert set(table[["found", "extracted", "annotated"]].stack()) == {"yes", "no"}

    counts = {stage: (table[stage] == "yes").sum() for stage in STAGES}
    assert counts["found"] == (ledger["status"] != "missing").sum()
    assert counts["extracted"] == counts["annotated"] == (ledger["frames"] > 0).sum()
    assert table["status"].equals(ledger["status"])
    assert (table["reason"] == ledger["reason"].reindex(table.index)).all()
    training = read_annotation(run.annotation, subset="training")
    assert set(table.index[table["trained_on"] == "yes"]) == set(training.ids.tolist())
    lost = (table["subset"] == "training") & (table["trained_on"] == "no")
    assert lost.sum() == training.n_without_frames

    evaluation = evaluate(run.annotation, result, subset=subset, ks=[1])
    applied = table["subset"] == evaluation.subset
    assert (table.loc[~applied, ["predicted", "correct"]] == "").all(axis=None)
    assert set(table.loc[applied, "predicted"]) == {"yes", "no"}
    assert applied.sum() == evaluation.listed.sum()
    assert counts["predicted"] == evaluation.found.sum()
    assert counts["correct"] == evaluation.correct[1].sum()
    assert set(table.loc[applied, "correct"]) == {"yes", "no"}
    # A stage that a video did not come to has nothing after it.
    for before, after in (
        ("found", "extracted"),
        ("extracted", "annotated"),
        ("annotated", "trained_on"),
        ("annotated", "predicted"),
        ("predicted", "correct"),
    ):
        assert not ((table[before] == "no") & (table[after] == "yes")).any()
    (without_result,) = table.index[
        applied & (table["annotated"] == "yes") & (table["predicted"] == "no")
    ]
    assert table.loc[without_result, "correct"] == "no"


def test_videos_without_labels_are_neither_correct_nor_wrong(run: Run) -> None:
    table = run.follow(run.apply("test"), "test")
    applied = table["subset"] == "testing"
    assert set(table.loc[applied, "predicted"]) == {"yes", "no"}
    assert (table["correct"] == "").all()


def test_a_model_of_another_experiment_is_trained_on_nothing_here(run: Run) -> None:
    result = run.apply("val")
    table = run.follow(result, "val", trained=False)
    assert (table["trained_on"] == "").all()
    assert (table["predicted"] == "yes").any()


def test_equal_inputs_give_equal_bytes(run: Run) -> None:
    result = run.apply("val")
    run.follow(result, "val")
    output = result.with_suffix(".videos.tsv")
    first = output.read_bytes()
    content = json.loads(result.read_text())
    content["results"] = dict(reversed(content["results"].items()))
    result.write_text(json.dumps(content))
    run.follow(result, "val")
    assert output.read_bytes() == first


def test_the_parts_of_a_merged_data_set(run: Run, tmp_path: Path) -> None:
    parts = dict.fromkeys(("A", "B"), (run.annotation, run.frames))
    annotation, result = tmp_path / "merged.json", tmp_path / "val.json"
    merge_annotations(parts, annotation, file_type="jpg")
    own = json.loads(run.apply("val").read_text())["results"]
    results = {
        f"A/{video}": [{**item, "label": f"A/{item['label']}"} for item in ranked]
        for video, ranked in own.items()
    }
    result.write_text(json.dumps({"results": results}))
    sources = dict.fromkeys(parts, (run.list, run.ledger))
    write_videos(sources, annotation, result, tmp_path / "videos.tsv", subset="val")
    table = pd.read_csv(tmp_path / "videos.tsv", sep="\t", keep_default_na=False)
    evaluation = evaluate(annotation, result, subset="val", ks=[1])
    assert len(table) == 2 * len(load_ledger(run.ledger))
    assert set(table["label"]) == {"", *evaluation.labels}
    assert (table["predicted"] == "yes").sum() == evaluation.found.sum()
    assert (table["correct"] == "yes").sum() == evaluation.correct[1].sum()


def test_a_video_of_several_classes_is_correct_with_any(tmp_path: Path) -> None:
    """ActivityNet: frames of the whole video, segments in seconds."""
    nodes = [{"nodeId": 0, "nodeName": "Root", "parentId": None}]
    nodes += [{"nodeId": i, "nodeName": name, "parentId": 0} for i, name in ((1, "a"), (2, "b"))]
    segments = [{"label": label, "segment": [0, 1]} for label in ("a", "b")]
    database = {
        name: {"subset": subset, "duration": 2.0, "annotations": segments}
        for name, subset in (("t", "training"), ("v", "validation"), ("gone", "validation"))
    }
    official, annotation = tmp_path / "official.json", tmp_path / "annotation.json"
    official.write_text(json.dumps({"taxonomy": nodes, "database": database}))
    save_list(read_list("activitynet", official, "all"), tmp_path / "list.tsv", tmp_path / "labels")
    rows = [f"{v}\ta\tv_{v}\tok\t\t20\t10\t4\t4" for v in ("t", "v")]
    rows.append("gone\ta\tv_gone\tmissing\tno file\t0\t\t\t")
    header = "id\tlabel\tkey\tstatus\treason\tframes\tfps\twidth\theight"
    ledger = tmp_path / "ledger.tsv"
    ledger.write_text("\n".join([header, *rows, ""]))
    write_activitynet(official, ledger, annotation, file_type="jpg")
    result, output = tmp_path / "val.json", tmp_path / "videos.tsv"
    result.write_text(json.dumps({"results": {"v": [{"label": "b", "score": 1.0}]}}))
    sources = {"": (tmp_path / "list.tsv", ledger)}
    write_videos(sources, annotation, result, output, subset="val")
    table = pd.read_csv(output, sep="\t", keep_default_na=False).set_index("id")[list(STAGES)]
    assert table.loc["t"].tolist() == ["yes", "yes", "yes", "yes", "yes", "", ""]
    assert table.loc["v"].tolist() == ["yes", "yes", "yes", "yes", "", "yes", "yes"]
    assert table.loc["gone"].tolist() == ["yes", "no", "no", "no", "", "no", "no"]


def test_segments_of_one_file_are_one_group(tmp_path: Path) -> None:
    videos = Videos(tmp_path / "kinds")
    rows = ["path,label,subset,start,end"]
    for subset in ("training", "validation"):
        for kind, label in enumerate(("jump", "sit")):
            videos.put(tmp_path / f"videos/{label}/{subset}.mkv", kind=kind)
            videos.put(tmp_path / f"videos/{label}/{subset}_whole.mkv", kind=kind)
            path = f"{label}/{subset}"
            rows += [f"{path}.mkv,{label},{subset},{start},{start + 1}" for start in (0, 1)]
            rows.append(f"{path}_whole.mkv,{label},{subset},,")
    own = Run(tmp_path, "own", rows)
    table = own.follow(own.apply("val"), "val")
    assert sorted(table["group"]) == sorted(
        2
        * [
            f"{label}/{subset}.mkv"
            for label in ("jump", "sit")
            for subset in SUBSETS
            if subset != "testing"
        ]
        + 4 * [""]
    )
    sources, output = {"part": (own.list, own.ledger)}, tmp_path / "merged.tsv"
    write_videos(sources, own.annotation, own.folder / "val.json", output, subset="val")
    groups = pd.read_csv(output, sep="\t", keep_default_na=False)["group"]
    assert set(groups) == {"", *(f"part/{group}" for group in table["group"] if group)}


def test_a_listed_video_that_is_in_no_ledger_is_named(run: Run, tmp_path: Path) -> None:
    result = run.apply("val")
    lines = run.ledger.read_text().splitlines()
    ledger = tmp_path / "ledger.tsv"
    ledger.write_text("\n".join([*lines[:1], *lines[2:], ""]))
    with pytest.raises(
        InputError, match=f"1 videos of .* absent, the first: '{lines[1].split()[0]}'"
    ):
        write_videos(
            {"": (run.list, ledger)}, run.annotation, result, tmp_path / "videos.tsv", subset="val"
        )
