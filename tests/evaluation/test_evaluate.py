"""Top-k accuracy, class by class, and ActivityNet's metrics, against sums done by hand."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from oddities import accepts_or_says_why, odd_files

from r3d.errors import InputError
from r3d.evaluation.challenge import avg_hit_at_k, hit_at_k, mean_average_precision
from r3d.evaluation.evaluate import Evaluation, evaluate
from r3d.report.plots import plot_confusion
from r3d.report.summary import write_summary

LABELS = ["cut", "jump", "run"]


def scored(*labels: str) -> list[dict[str, Any]]:
    """A result that names the classes from best to worst."""
    return [{"label": label, "score": 0.5 / (1 + i)} for i, label in enumerate(labels)]


TRUTH = {"a": "cut", "b": "cut", "c": "jump", "d": "jump", "e": "run"}
RESULTS = {
    "a": scored("cut", "run", "jump"),
    "b": scored("run", "cut", "jump"),
    "c": scored("run", "cut", "jump"),
    "e": scored("run", "jump", "cut"),
}


def annotation_of(truth: dict[str, str], subset: str = "validation") -> dict[str, Any]:
    database = {
        name: {"subset": subset, "annotations": {"label": label, "segment": [1, 9]}}
        for name, label in truth.items()
    }
    return {"labels": LABELS, "database": database}


@pytest.fixture
def run(tmp_path: Path):
    """Evaluate an annotation and results that are given as Python objects."""

    def run(
        results: object = RESULTS,
        annotation: object = None,
        subset: str = "val",
        labels: object = None,
        **options: Any,
    ) -> Evaluation:
        truth_file, result_file = tmp_path / "truth.json", tmp_path / "val.json"
        annotation = annotation_of(TRUTH) if annotation is None else annotation
        truth_file.write_text(json.dumps(annotation))
        content = {"results": results} if labels is None else {"labels": labels, "results": results}
        result_file.write_text(json.dumps(content))
        return evaluate(truth_file, result_file, subset=subset, **options)

    return run


def test_a_video_is_correct_when_its_class_is_among_the_k_best(run) -> None:
    evaluation = run(ks=(1, 2, 3))
    # Correct at 1: a, e. At 2: b too. At 3: c too. d has no result.
    assert [evaluation.accuracy(k) for k in (1, 2, 3)] == [2 / 5, 3 / 5, 4 / 5]
    assert [evaluation.accuracy_found(k) for k in (1, 2, 3)] == [2 / 4, 3 / 4, 4 / 4]
    assert evaluation.mean_class_accuracy() == pytest.approx((1 / 2 + 0 / 2 + 1 / 1) / 3)
    assert evaluation.listed.tolist() == [2, 2, 1]
    assert evaluation.found.tolist() == [2, 1, 1]
    assert evaluation.confusion.tolist() == [[1, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 0]]
    assert evaluation.unlisted == 0
    assert evaluation.challenge is None


@pytest.mark.parametrize("subset", ["val", "validation"])
def test_only_the_subset_counts(run, subset: str) -> None:
    annotation = annotation_of({"a": "cut"})
    annotation["database"] |= annotation_of({"b": "run"}, "training")["database"]
    evaluation = run(annotation=annotation, subset=subset, ks=[1])
    assert evaluation.subset == "validation"
    assert evaluation.listed.sum() == 1
    assert evaluation.accuracy(1) == 1
    assert evaluation.unlisted == 3


def test_the_order_of_the_scores_counts_not_that_of_the_file(run) -> None:
    results = {"a": scored("cut", "run")[::-1], "e": scored("run", "cut")[::-1]}
    assert run(results, ks=[1]).accuracy_found(1) == 1


def test_of_equal_scores_the_first_in_the_file_ranks_first(run) -> None:
    tie = [{"label": label, "score": 0.5} for label in ("jump", "cut")]
    evaluation = run({"a": tie, "c": tie}, ks=[1])
    assert evaluation.confusion[:, 1].tolist() == [1, 1, 0]


def test_clips_one_by_one_are_averaged(run) -> None:
    def clip(cut: float, jump: float) -> dict[str, Any]:
        result = [{"label": "cut", "score": cut}, {"label": "jump", "score": jump}]
        return {"segment": [1, 17], "result": result}

    # Two clips of three say jump, but the mean of cut is higher: 1.6 / 3 against 1.4 / 3.
    evaluation = run({"c": [clip(0.8, 0.2), clip(0.4, 0.6), clip(0.4, 0.6)]}, ks=[1])
    assert evaluation.confusion[1].tolist() == [1, 0, 0, 1]


def test_a_class_that_a_clip_does_not_store_counts_nothing_there(run) -> None:
    clips = [
        {"segment": [1, 17], "result": [{"label": "cut", "score": 0.7}]},
        {"segment": [17, 33], "result": [{"label": "run", "score": 0.5}]},
        {"segment": [33, 49], "result": [{"label": "run", "score": 0.3}]},
    ]
    assert run({"e": clips}, ks=[1]).confusion[2].tolist() == [0, 0, 1, 0]


def test_a_model_of_other_classes_is_right_or_wrong_where_names_match(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of `cut` it knows nothing, and videos without a label say nothing either."""
    annotation = annotation_of(TRUTH | {"f": "run", "g": ""})
    results = {
        "a": scored("fly", "run", "jump"),
        "c": scored("jump", "fly", "run"),
        "e": scored("fly", "run", "jump"),
        "f": scored("run", "fly", "jump"),
        "g": scored("run", "fly", "jump"),
    }
    labels = ["run", "fly", "jump"]
    evaluation = run(results, annotation, labels=labels, ks=(1, 2))
    assert evaluation.labels == labels
    assert evaluation.listed.tolist() == [2, 0, 2]
    assert evaluation.left_out == 3
    # Correct at 1: c, f. At 2: e too. d has no result.
    assert [evaluation.accuracy(k) for k in (1, 2)] == [2 / 4, 3 / 4]
    assert evaluation.accuracy_found(1) == 2 / 3
    assert evaluation.confusion.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert evaluation.unlisted == 0
    assert "3 of 7 videos are left out of the accuracy, the first: a;" in caplog.text
    known = run(results, annotation, labels=labels[::-1], ks=(1, 2))
    assert known.accuracy(1) == evaluation.accuracy(1)


def test_a_model_that_knows_no_label_has_no_accuracy(run, tmp_path: Path) -> None:
    evaluation = run({"a": scored("fly")}, labels=["fly"], ks=(1,))
    assert evaluation.left_out == 5
    assert evaluation.accuracy(1) is evaluation.accuracy_found(1) is None
    names = {"classes": tmp_path / "classes.tsv", "confusion": tmp_path / "confusion.tsv"}
    evaluation.save(tmp_path / "accuracy.json", experiment="e", split="all", **names)
    plot_confusion(names["confusion"], tmp_path / "confusion.svg")
    write_summary([tmp_path / "accuracy.json"], tmp_path / "summary.tsv")
    assert (tmp_path / "summary.tsv").read_text().splitlines() == [
        "experiment\tsplit\tsubset\tlisted\tfound\tleft_out\tmean_class",
        "e\tall\tvalidation\t0\t0\t5\t",
    ]


def test_single_clips_are_as_the_inference_counted_them(tmp_path: Path) -> None:
    truth, result = tmp_path / "truth.json", tmp_path / "val.json"
    truth.write_text(json.dumps(annotation_of(TRUTH)))
    outputs = {"classes": tmp_path / "classes.tsv", "confusion": tmp_path / "confusion.tsv"}

    def saved(**content: object) -> dict[str, Any]:
        result.write_text(json.dumps({"results": RESULTS, **content}))
        accuracy = tmp_path / "accuracy.json"
        evaluate(truth, result, ks=[1]).save(accuracy, experiment="e", split="01", **outputs)
        return json.loads(accuracy.read_text())

    counted = saved(clips={"n": 12, "correct": 9})
    assert (counted["clips"], counted["clip_accuracy"]) == (12, 0.75)
    # As of an earlier version, of the reference, or of a model that knows no label.
    assert "clip_accuracy" not in saved()
    assert "clip_accuracy" not in saved(clips={"n": 0, "correct": 0})
    for wrong in ({"n": 1, "correct": 2}, {"n": 1}, [], {"n": "1", "correct": True}):
        with pytest.raises(InputError, match=r"val.json: its 'clips' are not as expected"):
            saved(clips=wrong)


def test_the_same_classes_in_another_order_are_those_of_the_annotation(run) -> None:
    evaluation = run(labels=LABELS[::-1], ks=(1, 2))
    assert evaluation.labels == LABELS
    assert evaluation.confusion.tolist() == run(ks=(1, 2)).confusion.tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cut", "jump"], "'run' is none of the 2 classes of the model"),
        ("cut", "expected 'labels', a list of texts"),
        (["cut", "cut"], "'cut' occurs twice"),
    ],
)
def test_bad_classes_of_a_result_are_named(run, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=f"val.json: .*{message}|{message}"):
        run(labels=labels, ks=(1,))


def test_listed_videos_without_frames_count_as_listed(run) -> None:
    annotation = annotation_of(TRUTH)
    for entry in annotation["database"].values():
        del entry["annotations"]["segment"]
    assert run(annotation=annotation, ks=[1]).accuracy(1) == 2 / 5


def test_without_any_result_everything_is_wrong(run) -> None:
    evaluation = run({}, ks=[1])
    assert evaluation.accuracy(1) == 0
    assert evaluation.accuracy_found(1) is None
    assert evaluation.confusion[:, 3].tolist() == [2, 2, 1]


def test_k_may_exceed_the_classes_when_all_are_stored(run) -> None:
    assert run(ks=[5]).accuracy_found(5) == 1


@pytest.mark.parametrize("as_clips", [False, True])
def test_k_above_what_is_stored_is_refused(run, as_clips: bool) -> None:
    results: dict[str, Any] = {"a": scored("cut", "run", "jump"), "b": scored("run", "cut")}
    if as_clips:
        other = {"segment": [17, 33], "result": scored("jump", "cut")}
        results["b"] = [{"segment": [1, 17], "result": results["b"]}, other]
    assert run(results, ks=[2]).accuracy_found(2) == 1
    with pytest.raises(InputError, match=r"k is 3, but the result of 'b' holds only 2 of the 3"):
        run(results, ks=[1, 3])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a": scored("cut", "swim")}, r"'a': 'swim' is none of the 3 classes"),
        ({"a": scored("cut", "cut")}, r"'a' holds a class twice"),
        ({"a": []}, r"k is 1, but the result of 'a' holds only 0 of the 3"),
        ({"a": [{"label": "cut"}]}, r"'a' is not as expected: KeyError 'score'"),
        ({"a": [{"label": "cut", "score": "1"}]}, r"score '1' is no finite number"),
        ({"a": [{"label": "cut", "score": float("nan")}]}, r"score nan is no finite number"),
        (
            {"a": [{"label": "cut", "score": float("-inf")}]},
            r"'a' .* score -inf is no finite number",
        ),
        ({"a": [{"label": "cut", "score": True}]}, r"'a' .* score True is no finite number"),
        (
            {"a": [{"segment": [1, 9], "result": [{"label": "cut", "score": float("nan")}]}]},
            r"'a' .* score nan is no finite number",
        ),
        ({"a": {"label": "cut"}}, r"'a' is not as expected: KeyError 0"),
        ({"x": scored("cut"), "y": scored("cut")}, r"none of its 2 videos \(the first: 'x'\)"),
        ([], "no result JSON; expected an object with 'results'"),
    ],
)
def test_bad_results_are_named(run, results: object, message: str) -> None:
    with pytest.raises(InputError, match=f"val.json: .*{message}") as caught:
        run(results, ks=[1])
    assert "\n" not in str(caught.value)


UNLABELLED = {"subset": "testing", "annotations": {}}
ENTRY = annotation_of({"a": "cut"})["database"]["a"]


@pytest.mark.parametrize(
    ("annotation", "subset", "message"),
    [
        ({}, "val", "no annotation JSON; expected an object with 'database'"),
        ({"database": {"a": ENTRY}}, "val", "expected 'labels', a list of texts"),
        (annotation_of({"a": "swim"}), "val", "'a': 'swim' is none of its 3 classes"),
        (annotation_of({"a": "cut"}), "test", "no videos in subset testing"),
        (
            {"labels": LABELS, "database": {"a": UNLABELLED, "b": UNLABELLED}},
            "test",
            "none of the 2 videos of subset testing has a label",
        ),
        ({"labels": LABELS, "database": {"a": {}}}, "val", "'a' is not as expected: KeyError"),
        (
            {"labels": LABELS, "database": {"a": ENTRY | {"subset": "dev"}}},
            "val",
            "'a': unknown subset 'dev'",
        ),
    ],
)
def test_bad_annotations_are_named(run, annotation: object, subset: str, message: str) -> None:
    with pytest.raises(InputError, match=f"truth.json: .*{message}"):
        run(annotation=annotation, subset=subset)


def test_bad_arguments_are_named(run) -> None:
    with pytest.raises(InputError, match="unknown subset 'dev'"):
        run(subset="dev")
    with pytest.raises(InputError, match="k is 0; accepted: 1 or more"):
        run(ks=[0, 1])
    with pytest.raises(InputError, match="k is missing"):
        run(ks=[])


def test_saved_tables(run, tmp_path: Path) -> None:
    annotation = annotation_of(TRUTH)
    annotation["labels"] = [*LABELS, "NA"]  # a class without videos, whose name looks like a gap
    names = {"classes": tmp_path / "classes.tsv", "confusion": tmp_path / "confusion.tsv"}
    run(annotation=annotation, ks=[1, 2]).save(
        tmp_path / "accuracy.json", experiment="scratch", split="01", **names
    )
    assert json.loads((tmp_path / "accuracy.json").read_text()) == {
        "experiment": "scratch",
        "split": "01",
        "subset": "validation",
        "classes": 4,
        "listed": 5,
        "found": 4,
        "left_out": 0,
        "unlisted": 0,
        "accuracy": {"1": 0.4, "2": 0.6},
        "accuracy_found": {"1": 0.5, "2": 0.75},
        "mean_class_accuracy": 0.5,
    }
    assert names["classes"].read_text() == (
        "class\tlisted\tfound\ttop1\ttop2\n"
        "cut\t2\t2\t0.5000\t1.0000\n"
        "jump\t2\t1\t0.0000\t0.0000\n"
        "run\t1\t1\t1.0000\t1.0000\n"
        "NA\t0\t0\t\t\n"
    )
    assert names["confusion"].read_text() == (
        "class\tcut\tjump\trun\tNA\t(none)\n"
        "cut\t1\t0\t1\t0\t0\n"
        "jump\t0\t0\t1\t0\t1\n"
        "run\t0\t0\t1\t0\t0\n"
        "NA\t0\t0\t0\t0\t0\n"
    )


def test_awkward_class_names_survive(run, tmp_path: Path) -> None:
    labels = ["class", 'say "hi"', "null"]
    annotation = annotation_of({"a": "class"}) | {"labels": labels}
    evaluation = run({"a": scored("class")}, annotation, ks=[1])
    files = [tmp_path / name for name in ("accuracy.json", "classes.tsv", "confusion.tsv")]
    evaluation.save(files[0], classes=files[1], confusion=files[2], experiment="x", split="01")
    for file in files[1:]:
        table = pd.read_csv(file, sep="\t", header=None, na_filter=False)
        assert table[0].tolist()[1:] == labels


# ActivityNet. Classes of the videos: a run; b run and swim; c swim. Nobody is annotated with ski.
ACTIVITYNET = {
    "taxonomy": [
        {"nodeId": 0, "nodeName": "Root", "parentId": None},
        {"nodeId": 1, "nodeName": "run", "parentId": 0},
        {"nodeId": 2, "nodeName": "swim", "parentId": 0},
        {"nodeId": 3, "nodeName": "ski", "parentId": 0},
    ],
    "database": {
        name: {
            "subset": "validation",
            "duration": 9.0,
            "annotations": [{"label": label, "segment": [0.0, 3.0]} for label in labels],
        }
        for name, labels in {"a": ["run", "run"], "b": ["run", "swim"], "c": ["swim"]}.items()
    },
}


def test_activitynet_counts_a_video_under_each_of_its_classes(run) -> None:
    results = {"a": scored("run", "ski"), "b": scored("swim", "run"), "c": scored("ski", "run")}
    evaluation = run(results, ACTIVITYNET, ks=[1, 2])
    assert evaluation.labels == ["run", "swim", "ski"]
    assert evaluation.listed.tolist() == [2, 2, 0]
    assert evaluation.accuracy(1) == 2 / 4  # a as run, b as swim
    assert evaluation.accuracy(2) == 3 / 4  # b as run too
    assert evaluation.mean_class_accuracy() == (1 / 2 + 1 / 2) / 2
    assert evaluation.challenge is not None
    assert evaluation.challenge.hit == pytest.approx({1: (1 + 1 + 0) / 3, 2: (1 + 1 + 0) / 3})
    parts = {1: (1 + 1 / 2 + 0) / 3, 2: (1 + 1 + 0) / 3}
    assert evaluation.challenge.avg_hit == pytest.approx(parts)
    # run by score: a (.5) true, then b and c (.25 each) in the order of the file, b true:
    # precision 1, 1. swim: only b has a score, and c is missed: half of the recall.
    assert evaluation.challenge.mean_average_precision == pytest.approx((1 + 1 / 2) / 2)


def test_activitynet_metrics_are_saved(run, tmp_path: Path) -> None:
    evaluation = run({"a": scored("run"), "b": scored("run")}, ACTIVITYNET, ks=[1])
    path = tmp_path / "accuracy.json"
    evaluation.save(
        path, classes=tmp_path / "c", confusion=tmp_path / "d", experiment="x", split="01"
    )
    content = json.loads(path.read_text())
    assert content["mean_average_precision"] == pytest.approx((1 + 0) / 2)
    assert content["hit"]["1"] == pytest.approx((1 + 1 + 0) / 3)
    assert content["avg_hit"]["1"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_average_precision_takes_the_best_precision_from_a_recall_on() -> None:
    truth = {name: ["run"] for name in "abc"} | {"x": ["swim"], "y": ["swim"]}
    order = {"x": 0.9, "a": 0.8, "y": 0.7, "b": 0.6, "c": 0.5}
    ranking = {name: [("run", score)] for name, score in order.items()}
    # Precision at the hits: 1/2, 2/4, 3/5; from each of them on the best is 3/5. swim: nothing.
    assert mean_average_precision(truth, ranking) == pytest.approx((3 / 5 + 0) / 2)
    order["y"] = 0.1
    ranking = {name: [("run", score)] for name, score in order.items()}
    # Precision at the hits: 1/2, 2/3, 3/4; from each of them on the best is 3/4.
    assert mean_average_precision(truth, ranking) == pytest.approx((3 / 4 + 0) / 2)


def test_average_precision_counts_results_of_other_videos_as_false() -> None:
    ranking = {"other": [("run", 0.9)], "a": [("run", 0.5)]}
    assert mean_average_precision({"a": ["run"]}, ranking) == 1 / 2


def test_avg_hit_at_k_is_the_mean_part_of_the_classes_of_a_video_and_hit_at_k_any() -> None:
    truth = {"a": ["run", "swim", "ski"], "b": ["run"]}
    ranking = {"a": [("ski", 0.9), ("run", 0.8), ("dive", 0.7), ("swim", 0.6)]}
    assert avg_hit_at_k(truth, ranking, 1) == pytest.approx((1 / 3 + 0) / 2)
    assert avg_hit_at_k(truth, ranking, 3) == pytest.approx((2 / 3 + 0) / 2)
    assert hit_at_k(truth, ranking, 1) == hit_at_k(truth, ranking, 3) == (1 + 0) / 2
    assert hit_at_k({"a": ["swim"]}, ranking, 3) == 0


ODD_RESULTS = {
    "results": {
        "a": [{"label": "run", "score": 0.75}, {"label": "swim", "score": 0.25}],
        "b": [{"segment": [1, 17], "result": [{"label": "run", "score": 0.5}]}],
    }
}


def test_a_result_with_anything_odd_in_it_is_counted_or_refused_in_a_line(tmp_path: Path) -> None:
    annotation = tmp_path / "annotation.json"
    annotation.write_text(json.dumps(ACTIVITYNET))
    for what, path in odd_files(tmp_path, ODD_RESULTS):
        accepts_or_says_why(what, evaluate, annotation, path, ks=[1])


def test_a_truth_with_anything_odd_in_it_is_used_or_refused_in_a_line(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"results": {"a": scored("run")}}))
    entry = {"subset": "validation", "annotations": {"label": "run", "segment": [1, 9]}}
    small = {**ACTIVITYNET, "database": {"a": ACTIVITYNET["database"]["a"]}}
    for data in (small, {"labels": ["run", "swim"], "database": {"a": entry}}):
        for what, path in odd_files(tmp_path, data):
            accepts_or_says_why(what, evaluate, path, result, ks=[1])


def test_millions_of_classes_are_refused_before_their_confusions_are_counted(run) -> None:
    labels = [str(i) for i in range(2_900_000)]  # the table would take 65 TB
    entry = {"subset": "validation", "annotations": {"label": "1", "segment": [1, 9]}}
    annotation = {"labels": labels, "database": {"a": entry}}
    with pytest.raises(InputError, match=r"2900000 classes in .* accepted are 10000 or fewer"):
        run({"a": scored("1")}, annotation, ks=[1])
