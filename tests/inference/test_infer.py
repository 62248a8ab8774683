"""Inference: which clips are scored, how scores become results, what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import LABELS, write_frames

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import InferenceClips
from r3d.clips.loader import make_loader
from r3d.clips.modelinput import model_input
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.frames.stores import open_store
from r3d.inference.infer import infer
from r3d.inference.trained import load_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

TINY: dict[str, Any] = {
    "model_depth": 10,
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "inference_stride": 8,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of videos of 20 frames, which is 3 windows of 8, and a model."""
    folder = tmp_path_factory.mktemp("data")
    write_frames(folder, n_training=1, n_validation=3, n_frames=20)
    write_model(folder / "model.pth", labels=LABELS)
    return folder


def write_model(path: Path, n_classes: int = 2, **states: Any) -> None:
    torch.manual_seed(0)
    network = build_model(n_classes=n_classes, **InferenceOptions(**TINY).network())
    write_checkpoint(path, Checkpoint(state_dict=network.state_dict(), **states))


def results(data: Path, output: Path, *, model: Path | None = None, **options: Any) -> Any:
    names = ("n_threads", "batch_size", "memory_format", "deterministic")
    run = {name: options.pop(name) for name in names if name in options}
    infer(
        InferenceOptions(**{**TINY, **options}),
        annotation=data / "annotation.json",
        subset="val",
        frames=data / "jpg",
        file_type="jpg",
        model=model or data / "model.pth",
        output=output,
        batch_size=run.pop("batch_size", 4),
        run=RunOptions(**{"n_threads": 0, "no_cuda": True, **run}),
        n_cores=1,
    )
    return json.loads(output.read_text())["results"]


def test_the_memory_layout_changes_rounding_only(data: Path, tmp_path: Path):
    one = results(data, tmp_path / "a.json")
    other = results(data, tmp_path / "b.json", memory_format="contiguous")
    for video in one:
        assert scores(other[video]) == pytest.approx(scores(one[video]), abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"inference_crop": "three"}, {"inference_clips": 2}])
def test_single_clips_are_counted(data: Path, tmp_path: Path, options: dict[str, Any]):
    """As they come out of the clips one by one, the views of each taken together."""
    kept = {"inference_no_average": True, "output_topk": 0, **options}
    one_by_one = results(data, tmp_path / "clips.json", **kept)
    results(data, tmp_path / "videos.json", **options)
    best = [
        (max(clip["result"], key=lambda item: item["score"])["label"], video.partition("_")[0])
        for video, clips in one_by_one.items()
        for clip in clips
    ]
    right = sum(label == own for label, own in best)
    assert 0 < right < len(best)
    for name in ("clips", "videos"):
        counts = json.loads((tmp_path / f"{name}.json").read_text())["clips"]
        assert counts == {"n": len(best), "correct": right}


def test_clips_of_classes_that_the_model_does_not_know_are_not_counted(data: Path, tmp_path: Path):
    write_model(tmp_path / "other.pth", labels=[LABELS[0], "something else"])
    results(data, tmp_path / "result.json", model=tmp_path / "other.pth")
    assert json.loads((tmp_path / "result.json").read_text())["clips"]["n"] == 9


def scores(result: list[dict[str, Any]]) -> list[float]:
    by_label = {entry["label"]: entry["score"] for entry in result}
    return [by_label[label] for label in LABELS]


def test_scores_are_the_softmax_averaged_over_the_windows(data: Path, tmp_path: Path):
    options = InferenceOptions(**TINY)
    samples = read_annotation(data / "annotation.json", subset="val")
    clips = InferenceClips(samples, open_store(data / "jpg", "jpg"), options)
    torch.manual_seed(0)
    network = build_model(n_classes=2, **options.network()).eval()
    expected: dict[str, list[torch.Tensor]] = {}
    for batch in make_loader(clips, range(len(clips)), batch_size=1):
        with torch.no_grad():
            score = network(model_input(batch, options, torch.device("cpu"))).softmax(1)[0]
        expected.setdefault(str(samples.ids[int(batch.videos)]), []).append(score)
    found = results(data, tmp_path / "val.json")
    assert found.keys() == expected.keys()
    for name, windows in expected.items():
        assert len(windows) == 3
        mean = torch.stack(windows).mean(0).tolist()
        assert scores(found[name]) == pytest.approx(mean, abs=1e-5)


def test_best_classes_come_first_and_only_k_of_them(data: Path, tmp_path: Path):
    every = results(data, tmp_path / "all.json", output_topk=0)
    for result in every.values():
        assert len(result) == 2
        assert result[0]["score"] >= result[1]["score"]
    best = results(data, tmp_path / "one.json", output_topk=1)
    assert best == {name: result[:1] for name, result in every.items()}


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64}, {"n_threads": 2}])
def test_how_it_runs_changes_nothing(data: Path, tmp_path: Path, options: dict[str, int]):
    one, other = results(data, tmp_path / "1"), results(data, tmp_path / "2", **options)
    assert one.keys() == other.keys()
    for name in one:
        assert scores(one[name]) == pytest.approx(scores(other[name]), abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"n_threads": 2}, {"deterministic": True}])
def test_the_same_inference_writes_the_same_bytes(
    data: Path, tmp_path: Path, options: dict[str, int]
):
    results(data, tmp_path / "a.json")
    results(data, tmp_path / "b.json", **options)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_without_average_each_clip_has_its_result(data: Path, tmp_path: Path):
    averaged = results(data, tmp_path / "1")
    for name, clips in results(data, tmp_path / "2", inference_no_average=True).items():
        assert [clip["segment"] for clip in clips] == [[1, 9], [9, 17], [17, 21]]
        mean = torch.tensor([scores(clip["result"]) for clip in clips]).mean(0).tolist()
        assert mean == pytest.approx(scores(averaged[name]), abs=1e-5)


def test_many_views(data: Path, tmp_path: Path):
    """Two clips with three crops each: one result a clip, averaged over its crops."""
    options = {"inference_clips": 2, "inference_crop": "three"}
    clips = results(data, tmp_path / "1", **options, inference_no_average=True)
    assert {len(clip) for clip in clips.values()} == {2}
    averaged = results(data, tmp_path / "2", **options)
    center = results(data, tmp_path / "3", inference_clips=2)
    for name in averaged:
        assert scores(averaged[name]) != pytest.approx(scores(center[name]), abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"inference_crop": "nocrop"}, {"sample_t_stride": 2}, {"frozen": True}]
)
def test_options_act(data: Path, tmp_path: Path, options: dict[str, Any]):
    plain, other = results(data, tmp_path / "1"), results(data, tmp_path / "2", **options)
    assert any(
        scores(plain[name]) != pytest.approx(scores(other[name]), abs=1e-6) for name in plain
    )


def test_a_model_of_other_classes_gives_its_own(data: Path, tmp_path: Path):
    expected = results(data, tmp_path / "expected")
    write_model(tmp_path / "model.pth", labels=["sideways", "up"])
    found = results(data, tmp_path / "out", model=tmp_path / "model.pth")
    assert json.loads((tmp_path / "out").read_text())["labels"] == ["sideways", "up"]
    for video, result in expected.items():
        assert {item["label"] for item in found[video]} == {"sideways", "up"}
        assert sorted(i["score"] for i in found[video]) == sorted(i["score"] for i in result)


def test_a_model_is_applied_where_no_class_is_known(data: Path, tmp_path: Path):
    content = json.loads((data / "annotation.json").read_text())
    for name, entry in content["database"].items():
        label = entry["annotations"].pop("label")
        entry["subset"] = "testing"
        entry["video_path"] = str(data / "jpg" / label / name)
    content["labels"] = []
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    expected = results(data, tmp_path / "expected")
    infer(
        InferenceOptions(**TINY),
        annotation=tmp_path / "annotation.json",
        subset="test",
        frames=data / "jpg",
        model=data / "model.pth",
        output=tmp_path / "out",
        run=RunOptions(n_threads=0, no_cuda=True),
        n_cores=1,
    )
    found = json.loads((tmp_path / "out").read_text())
    assert found["labels"] == LABELS
    for video, result in expected.items():
        assert scores(found["results"][video]) == pytest.approx(scores(result), abs=1e-5)


def test_a_model_with_more_outputs_than_classes_is_refused(data: Path, tmp_path: Path):
    write_model(tmp_path / "model.pth", n_classes=3)
    with pytest.raises(InputError, match=r"2 classes, and checkpoint .*model\.pth has 3 outputs"):
        results(data, tmp_path / "out", model=tmp_path / "model.pth", class_order="annotation")


def test_another_normalisation_is_refused(data: Path, tmp_path: Path):
    normalisation = input_normalisation(InferenceOptions(**TINY))
    write_model(tmp_path / "model.pth", normalisation=normalisation, labels=LABELS)
    results(data, tmp_path / "out", model=tmp_path / "model.pth")
    with pytest.raises(InputError, match="mean_dataset"):
        results(data, tmp_path / "out", model=tmp_path / "model.pth", mean_dataset="0.5")


def test_a_model_that_names_no_classes_is_asked_for_their_order(data: Path, tmp_path: Path):
    """As files of the reference and released ones are: any order would give an accuracy."""
    expected = results(data, tmp_path / "expected")
    write_model(tmp_path / "model.pth")
    with pytest.raises(InputError, match="class_order: annotation") as caught:
        results(data, tmp_path / "out", model=tmp_path / "model.pth")
    assert "\n" not in str(caught.value)
    given = {"model": tmp_path / "model.pth", "class_order": "annotation"}
    assert results(data, tmp_path / "out", **given) == expected
    for name, text in (
        ("classes.txt", "".join(f"{label}\r\n" for label in reversed(LABELS))),
        ("classes.json", json.dumps({"labels": LABELS[::-1], "database": {}})),
    ):
        (tmp_path / name).write_text(text, newline="")
        given["class_order"] = str(tmp_path / name)
        turned = results(data, tmp_path / "out", **given)
        for video, result in expected.items():
            assert scores(turned[video]) == scores(result)[::-1]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("down\nsideways\nup\n", "3 classes, and checkpoint .* has 2 outputs"),
        ("down\nup\nup\n", "'up' is listed twice"),
        ("", "one class a line"),
        ("down\n\nup\n", "one class a line"),
        ('{"labels": 5}', "one class a line"),
    ],
)
def test_a_class_order_that_does_not_fit_is_refused(
    data: Path, tmp_path: Path, text: str, part: str
):
    write_model(tmp_path / "model.pth")
    (tmp_path / "classes").write_text(text)
    given = {"model": tmp_path / "model.pth", "class_order": str(tmp_path / "classes")}
    with pytest.raises(InputError, match=part):
        results(data, tmp_path / "out", **given)


def test_a_class_order_against_that_of_the_file_is_refused(data: Path, tmp_path: Path):
    (tmp_path / "classes").write_text("up\ndown\n")
    with pytest.raises(InputError, match="leave class_order out"):
        results(data, tmp_path / "out", class_order=str(tmp_path / "classes"))


def test_classes_in_another_order_keep_their_names(data: Path, tmp_path: Path):
    expected = results(data, tmp_path / "expected")
    write_model(tmp_path / "model.pth", labels=LABELS[::-1])
    found = results(data, tmp_path / "out", model=tmp_path / "model.pth")
    for video, result in expected.items():
        assert scores(found[video]) == scores(result)[::-1]


def test_scores_that_are_no_numbers_are_refused(data: Path, tmp_path: Path):
    """Finite weights, whose products are not."""
    content = torch.load(data / "model.pth", weights_only=True)
    for name, value in content["state_dict"].items():
        if name.endswith("conv1.weight"):
            value.fill_(3e38)
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth: its scores of \w+ are not finite"):
        results(data, tmp_path / "out", model=tmp_path / "model.pth")
    assert not (tmp_path / "out").exists()


def test_weights_of_2018_want_the_normalisation_of_their_time(data: Path, tmp_path: Path):
    network = build_model(n_classes=2, model="densenet", model_depth=121)
    weights = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", name)
        .replace("features.conv1", "features.conv0")
        .replace("features.norm1", "features.norm0"): value
        for name, value in network.state_dict().items()
    }
    torch.save({"arch": "densenet-121", "state_dict": weights}, tmp_path / "old.pth")
    options = {"model": "densenet", "model_depth": 121, "class_order": "annotation"}
    options |= {"sample_size": 32, "sample_duration": 8, "precision": "fp32"}

    def apply(**more: Any) -> None:
        infer(
            InferenceOptions(**options, **more),
            annotation=data / "annotation.json",
            frames=data / "jpg",
            model=tmp_path / "old.pth",
            output=tmp_path / "out",
            run=RunOptions(n_threads=0, no_cuda=True),
        )

    with pytest.raises(InputError, match=r"mean_dataset: kinetics gives another .*leave mean_da"):
        apply(mean_dataset="kinetics")
    apply()
    one = json.loads((tmp_path / "out").read_text())
    apply(mean_dataset="hara2018", no_std_norm=True, value_scale=255)
    assert json.loads((tmp_path / "out").read_text()) == one
    assert load_model(tmp_path / "old.pth").options.mean_dataset == "hara2018"
    mean = input_normalisation(load_model(tmp_path / "old.pth").options)["mean"]
    assert mean == pytest.approx([114.7748, 107.7354, 99.475])


def test_a_failure_leaves_no_result(data: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    write_frames(broken, n_training=1, n_validation=2, n_frames=8)
    next((broken / "jpg/up/up_2").glob("*5.jpg")).write_bytes(b"no jpeg")
    with pytest.raises(InputError, match="up_2"):
        results(broken, tmp_path / "out", model=data / "model.pth")
    assert not (tmp_path / "out").exists()
