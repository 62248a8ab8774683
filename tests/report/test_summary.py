"""The accuracy table and the pictures of the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oddities import accepts_or_says_why, odd_files
from PIL import Image

from r3d.errors import InputError
from r3d.evaluation.statistics import Part, mean_accuracy_interval, wilson_interval
from r3d.report.plots import plot_confusion, plot_curves
from r3d.report.summary import format_table, write_summary


@pytest.fixture
def accuracy_file(tmp_path: Path):
    """Writes an accuracy file and gives its path."""

    def write(experiment: str, split: str, top1: float, **changes: Any) -> Path:
        content = {
            "experiment": experiment,
            "split": split,
            "subset": "validation",
            "classes": 8,
            "listed": 40,
            "found": 20,
            "unlisted": 0,
            "accuracy": {"1": top1, "5": 1.0},
            "accuracy_found": {"1": 2 * top1, "5": 1.0},
            "mean_class_accuracy": top1 / 2,
        }
        path = tmp_path / f"{experiment}_{split}.json"
        path.write_text(json.dumps(content | changes))
        return path

    return write


def test_a_row_for_each_evaluation_and_mean_and_spread_of_runs(
    accuracy_file, tmp_path: Path
) -> None:
    files = [
        accuracy_file("scratch", "01", 0.25),
        accuracy_file("tuned", "01", 0.12345),
        accuracy_file("scratch", "02", 0.5),
    ]
    write_summary(files, tmp_path / "results/summary.tsv")
    assert (tmp_path / "results/summary.tsv").read_text() == (
        "experiment\tsplit\tsubset\truns\tlisted\tfound\ttop1\ttop5\tmean_class\ttop1_found\ttop5_found\n"
        "scratch\t01\tvalidation\t\t40\t20\t0.2500\t1.0000\t0.1250\t0.5000\t1.0000\n"
        "scratch\t02\tvalidation\t\t40\t20\t0.5000\t1.0000\t0.2500\t1.0000\t1.0000\n"
        "scratch\tmean\tvalidation\t2\t\t\t0.3750\t1.0000\t0.1875\t0.7500\t1.0000\n"
        "scratch\tstd\tvalidation\t2\t\t\t0.1768\t0.0000\t0.0884\t0.3536\t0.0000\n"
        "tuned\t01\tvalidation\t\t40\t20\t0.1235\t1.0000\t0.0617\t0.2469\t1.0000\n"
    )


def test_a_long_table_has_of_several_runs_mean_and_spread_only(
    accuracy_file, tmp_path: Path
) -> None:
    runs = [f"fold{fold}of5{seed}" for fold in range(1, 6) for seed in ("", "-seed2")]
    files = [accuracy_file(name, run, 0.5) for name in ("a", "b", "c") for run in runs]
    write_summary([*files, accuracy_file("alone", "01", 0.5)], tmp_path / "summary.tsv")
    assert len((tmp_path / "summary.tsv").read_text().splitlines()) == 1 + 3 * 12 + 1
    rows = [line.split()[:2] for line in format_table(tmp_path / "summary.tsv").splitlines()[1:]]
    spread = [[name, row] for name in "abc" for row in ("mean", "std")]
    assert rows == [*spread, ["alone", "01"]]


def test_single_clips_have_a_column_where_they_were_counted(accuracy_file, tmp_path: Path) -> None:
    files = [accuracy_file("a", "01", 0.5, clip_accuracy=0.375, clips=80)]
    write_summary([*files, accuracy_file("b", "01", 0.5)], tmp_path / "summary.tsv")
    header, *rows = (tmp_path / "summary.tsv").read_text().splitlines()
    assert header.endswith("\ttop5_found\tclip_top1")
    assert [row.split("\t")[-1] for row in rows] == ["0.3750", ""]


def test_intervals_come_from_the_videos_and_their_groups(accuracy_file, tmp_path: Path) -> None:
    files = [accuracy_file(name, "01", 0.25) for name in ("alone", "grouped", "other")]
    tables = []
    for name, n_correct in (("alone", 10), ("grouped", 10), ("other", 11)):
        rows = [
            f"v{i}\t{'yes' if i < n_correct else 'no'}\t{f'g{i // 5}' if name == 'grouped' else ''}"
            for i in range(40)
        ]
        tables.append(tmp_path / f"{name}.tsv")
        unlabelled = "u\t\t"
        tables[-1].write_text("\n".join(["id\tcorrect\tgroup", *rows, unlabelled, ""]))
    write_summary(files, tmp_path / "summary.tsv", videos=tables)
    rows = [line.split("\t") for line in (tmp_path / "summary.tsv").read_text().splitlines()]
    assert rows[0][5:8] == ["top1", "top1_low", "top1_high"]
    low, high = wilson_interval(10, 40)
    assert rows[1][5:8] == ["0.2500", f"{low:.4f}", f"{high:.4f}"]
    assert float(rows[2][7]) - float(rows[2][6]) > 2 * (high - low)
    assert rows[3][5:8] == ["0.2500", "", ""]  # the table counts otherwise than the accuracy


def test_the_mean_of_runs_has_bounds_too(accuracy_file, tmp_path: Path) -> None:
    """Of two splits, the first with two seeds that are right in other videos."""
    right = {"01": range(10), "01-seed2": range(10, 20), "02": range(8)}
    tables = []
    for run, own in right.items():
        split = run.partition("-")[0]
        rows = [f"{split}_{i}\t{'yes' if i in own else 'no'}\t" for i in range(20)]
        tables.append(tmp_path / f"{run}.tsv")
        tables[-1].write_text("\n".join(["id\tcorrect\tgroup", *rows, ""]))
    files = [accuracy_file("a", run, len(own) / 20) for run, own in right.items()]
    write_summary(files, tmp_path / "summary.tsv", videos=tables)
    rows = [line.split("\t") for line in (tmp_path / "summary.tsv").read_text().splitlines()]
    ids = np.array([f"{split}_{i}" for split in ("01", "02") for i in range(20)], object)
    first, second = np.full(20, 0.5), np.arange(20) < 8
    low, high = mean_accuracy_interval([Part(first, ids[:20]), Part(second, ids[20:])])
    assert rows[4][1] == "mean"
    assert rows[4][7:9] == [f"{low:.4f}", f"{high:.4f}"]
    assert rows[5][7:9] == ["", ""]
    # Where one run has none, neither has the mean.
    files[2] = accuracy_file("a", "02", 0.5)
    write_summary(files, tmp_path / "summary.tsv", videos=tables)
    rows = [line.split("\t") for line in (tmp_path / "summary.tsv").read_text().splitlines()]
    assert rows[4][7:9] == ["", ""]


def test_what_an_evaluation_lacks_stays_empty(accuracy_file, tmp_path: Path) -> None:
    nothing_found = {"accuracy_found": {"1": None, "5": None}, "found": 0}
    files = [
        accuracy_file("a", "01", 0.5),
        accuracy_file("a", "02", 0.0, **nothing_found),
        accuracy_file("b", "01", 0.5, accuracy={"1": 0.5}, accuracy_found={"1": 0.5}),
    ]
    write_summary(files, tmp_path / "summary.tsv")
    rows = [line.split("\t") for line in (tmp_path / "summary.tsv").read_text().splitlines()]
    column = {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}
    assert column["split"] == ["01", "02", "mean", "std", "01"]
    assert column["top1_found"] == ["1.0000", "", "", "", "0.5000"]
    assert column["top5"] == ["1.0000", "1.0000", "1.0000", "0.0000", ""]


def test_subsets_of_one_experiment_are_kept_apart(accuracy_file, tmp_path: Path) -> None:
    first = accuracy_file("a", "01", 0.5)
    second = accuracy_file("a", "02", 0.5, subset="training")
    write_summary([first, second], tmp_path / "summary.tsv")
    assert "mean\t" not in (tmp_path / "summary.tsv").read_text()


def test_activitynet_adds_its_columns(accuracy_file, tmp_path: Path) -> None:
    hits = {"hit": {"1": 0.5, "5": 0.625}, "avg_hit": {"1": 0.25, "5": 0.375}}
    files = [
        accuracy_file("a", "01", 0.5, mean_average_precision=0.75, **hits),
        accuracy_file("b", "01", 0.5),
    ]
    write_summary(files, tmp_path / "summary.tsv")
    header, first, second = (tmp_path / "summary.tsv").read_text().splitlines()
    assert header.endswith("\ttop5_found\tmap\thit1\thit5\tavg_hit1\tavg_hit5")
    assert first.endswith("\t0.7500\t0.5000\t0.6250\t0.2500\t0.3750")
    assert second.endswith("\t\t\t")


def test_bad_evaluations_are_named(accuracy_file, tmp_path: Path) -> None:
    file, output = accuracy_file("a", "01", 0.5), tmp_path / "summary.tsv"
    with pytest.raises(InputError, match=r"a_01.json: .*'a', split '01', .* twice; expected once"):
        write_summary([file, file], output)
    (tmp_path / "other.json").write_text('{"results": {}}')
    with pytest.raises(InputError, match=r"other.json: no accuracy file; .*KeyError 'experiment'"):
        write_summary([tmp_path / "other.json"], output)
    assert not output.exists()


def test_the_table_for_the_terminal_is_aligned(tmp_path: Path) -> None:
    path = tmp_path / "summary.tsv"
    path.write_text(
        "experiment\tsplit\tsubset\tlisted\ttop1\nNA\t01\tvalidation\t9\t0.5000\n"
        "scratch\tmean\tvalidation\t\t0.7500\n"
    )
    assert format_table(path).splitlines() == [
        "experiment  split  subset      listed    top1",
        "NA          01     validation       9  0.5000",
        "scratch     mean   validation          0.7500",
    ]
    with pytest.raises(InputError, match=r"absent.tsv: cannot be read"):
        format_table(tmp_path / "absent.tsv")


TRAIN_LOG = "epoch\tloss\tacc\tlr\n1\t2.0\t0.1\t0.1\n2\tnan\t0.5\t0.1\n3\t0.5\t0.9\t0.001\n"
VAL_LOG = "epoch\tloss\tacc\n1\t2.1\t0.1\n2\t1.5\t0.4\n3\t0.7\t0.8\n"


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "train.log").write_text(TRAIN_LOG)
    (tmp_path / "val.log").write_text(VAL_LOG)
    return tmp_path / "train.log", tmp_path / "val.log"


def has_colour(path: Path, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=2).any())


def test_curves_show_training_and_where_there_is_one_validation(
    logs: tuple[Path, Path], tmp_path: Path
) -> None:
    blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    plot_curves(*logs, tmp_path / "both.png")
    assert has_colour(tmp_path / "both.png", blue)
    assert has_colour(tmp_path / "both.png", orange)
    logs[1].write_text("epoch\tloss\tacc\n")
    plot_curves(*logs, tmp_path / "train.png")
    assert has_colour(tmp_path / "train.png", blue)
    assert not has_colour(tmp_path / "train.png", orange)


def test_equal_pictures_are_equal_files(logs: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot_curves(*logs, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch\tloss\tacc\n", "no column 'lr' among epoch, loss, acc"),
        ("epoch\tloss\tacc\tlr\n1\tx\t1\t1\n", "expected numbers in epoch, loss, acc, lr"),
        ("epoch\tloss\tacc\tlr\n", "no epoch to draw"),
    ],
)
def test_bad_logs_are_named(
    logs: tuple[Path, Path], tmp_path: Path, text: str, message: str
) -> None:
    logs[0].write_text(text)
    with pytest.raises(InputError, match=f"train.log: {message}"):
        plot_curves(*logs, tmp_path / "curves.png")


def write_confusion(path: Path, labels: list[str], counts: np.ndarray) -> None:
    rows = [["class", *labels, "(none)"]]
    rows += [[label, *map(str, row)] for label, row in zip(labels, counts, strict=True)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


@pytest.mark.parametrize("n_classes", [1, 8, 51, 101])
def test_correct_predictions_are_the_dark_diagonal(n_classes: int, tmp_path: Path) -> None:
    labels = [f"a$ {i} $b" if i else "NA" for i in range(n_classes)]
    write_confusion(tmp_path / "confusion.tsv", labels, np.eye(n_classes, n_classes + 1, dtype=int))
    plot_confusion(tmp_path / "confusion.tsv", tmp_path / "confusion.png")
    picture = np.asarray(Image.open(tmp_path / "confusion.png").convert("RGB"))
    assert all(300 < side < 2500 for side in picture.shape[:2])
    y, x = (picture == (0x08, 0x30, 0x6B)).all(axis=2).nonzero()
    if n_classes > 1:
        assert np.corrcoef(x, y)[0, 1] > 0.9
    assert np.ptp(x) > 100 / n_classes
    assert np.ptp(y) > 100 / n_classes


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("class\ta\tb\t(none)\na\t1\t0\t0\n", "no confusion table"),
        ("class\ta\t(none)\na\tx\t0\n", "cannot be read as a confusion table"),
        ("class\t(none)\n", "no confusion table"),
    ],
)
def test_bad_confusion_tables_are_named(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "confusion.tsv").write_text(table)
    with pytest.raises(InputError, match=f"confusion.tsv: .*{message}"):
        plot_confusion(tmp_path / "confusion.tsv", tmp_path / "confusion.png")


def test_unknown_picture_formats_are_named(logs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no picture format '.bmpx'; accepted: .svg, .png, .pdf"):
        plot_curves(*logs, tmp_path / "curves.bmpx")


def test_an_accuracy_file_with_anything_odd_in_it_is_used_or_refused_in_a_line(
    accuracy_file, tmp_path: Path
) -> None:
    hits = {"hit": {"1": 0.5}, "avg_hit": {"1": 0.5}, "mean_average_precision": 0.5}
    good = accuracy_file("a", "02", 0.5)
    for what, path in odd_files(
        tmp_path, json.loads(accuracy_file("a", "01", 0.5, **hits).read_text())
    ):
        accepts_or_says_why(what, write_summary, [path, good], tmp_path / "summary.tsv")
