"""What the report says of experiments of several runs."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from r3d.report.contents import contents_of
from r3d.report.runs import Run, RunFiles

LABELS = ["jump", "sit", "walk"]


def run_of(
    experiment: str, split: str, share: float, *, model: str | None = None, n: int = 60
) -> Run:
    """A run on the videos of a split, right in about this share of them."""
    rng = np.random.default_rng(int(1000 * share) + len(experiment))
    truth, right = np.arange(n) % 3, rng.uniform(size=n) < share
    best = [
        [(LABELS[label if yes else (label + 1) % 3], 0.8)]
        for label, yes in zip(truth, right, strict=True)
    ]
    videos = pd.DataFrame(
        {
            "id": [f"{split}_{i}" for i in range(n)],
            "label": [LABELS[label] for label in truth],
            "correct": ["yes" if yes else "no" for yes in right],
            **{"status": "ok", "reason": "", "group": ""},
        }
    )
    accuracy = float(right.mean())
    content: dict[str, Any] = {"mean_class_accuracy": accuracy}
    content |= {"accuracy": {"1": accuracy}, "accuracy_found": {"1": accuracy}}
    place = Path(experiment, split, "val.accuracy.json")
    files = RunFiles(experiment, split, "val", place, place, place, place, seed=1, model=model)
    return Run(files, content, LABELS, videos, best, n_training=4 * n)


def runs_of(experiment: str, shares: list[float], models: list[str | None]) -> list[Run]:
    pairs = enumerate(zip(shares, models, strict=True), start=1)
    return [run_of(experiment, f"0{k}", share, model=model) for k, (share, model) in pairs]


def test_one_model_on_several_splits_says_nothing_of_trainings() -> None:
    own = runs_of("own", [0.8, 0.7, 0.75], [None] * 3)
    fixed = runs_of("fixed", [0.5, 0.6, 0.55], ["released.pth"] * 3)
    other = runs_of("other", [0.4, 0.5, 0.2], ["another.pth"] * 3)
    applied = runs_of("applied", [0.6, 0.7, 0.5], [f"source/0{k}/model.pth" for k in (1, 2, 3)])
    contents = contents_of([*own, *fixed, *other, *applied])
    of_trainings = [one["top"]["1"]["trainings"] for one in contents["experiments"]]
    assert [interval is not None for interval in of_trainings] == [True, False, False, True]
    pairs = {tuple(pair["experiments"]): pair for pair in contents["pairs"]}
    assert pairs[1, 2]["p_trainings"] is None  # two that were trained on none of these splits
    assert pairs[0, 1]["p_trainings"] is not None
    assert pairs[0, 3]["p_trainings"] is not None


def test_equal_models_on_one_split_are_no_seeds() -> None:
    def seeds(name: str, models: list[str]) -> list[Run]:
        found = []
        for number, model in enumerate(models, start=1):
            run = run_of(name, "01", 0.5 + number / 10, model=model)
            found.append(replace(run, files=replace(run.files, seed=number)))
        return found

    contents = contents_of([*seeds("a", ["x", "y"]), *seeds("b", ["z", "z"])])
    of_trainings = [one["top"]["1"]["trainings"] for one in contents["experiments"]]
    assert of_trainings[0] is not None
    assert of_trainings[1] is None
    assert contents["pairs"][0]["p_trainings"] is None


def unpacked(text: str) -> list[int]:
    return np.frombuffer(base64.b64decode(text), "<i2").tolist()


def test_models_with_their_classes_in_another_order_say_the_same_names() -> None:
    one = run_of("a", "01", 0.7)
    other = replace(one, files=replace(one.files, experiment="b"), labels=["more", *LABELS[::-1]])
    contents = contents_of([one, other])
    (videos,) = contents["sets"]
    assert sorted(videos["labels"]) == sorted([*LABELS, "more"])
    assert [videos["labels"][k] for k in unpacked(videos["truth"])] == one.videos["label"].tolist()
    for shown in contents["runs"]:
        names = [videos["labels"][k] for k in unpacked(shown["predicted"])]
        assert names == [best[0][0] for best in one.best]


def test_videos_that_are_only_called_the_same_are_not_compared() -> None:
    one = run_of("a", "01", 0.7)
    labels = one.videos["label"].tolist()
    other = replace(one, videos=one.videos.assign(label=[*labels[1:], labels[0]]))
    other = replace(other, files=replace(one.files, experiment="b"))
    contents = contents_of([one, other])
    assert len(contents["sets"]) == 2
    assert contents["pairs"] == []


def test_numbers_of_videos_are_rounded() -> None:
    runs = [run_of("a", f"0{k}", 0.5, n=n) for k, n in ((1, 60), (2, 61), (3, 61))]
    (experiment,) = contents_of(runs)["experiments"]
    assert (experiment["listed"], experiment["found"]) == (61, 61)


def test_the_mean_over_classes_of_several_runs_has_an_interval() -> None:
    runs = [*runs_of("a", [0.8, 0.7, 0.75], [None] * 3), *runs_of("b", [0.5, 0.4], [None] * 2)]
    contents = contents_of([*runs, run_of("c", "01", 0.6)])
    for experiment in contents["experiments"]:
        low, high = experiment["mean_class"]["interval"]
        assert low < experiment["mean_class"]["value"] < high
        own = [contents["runs"][k]["mean_class"]["interval"] for k in experiment["runs"]]
        narrower = high - low < 0.9 * np.mean([interval.high - interval.low for interval in own])
        assert narrower == (len(own) > 1)
