"""Which videos a gallery shows, and that its maps say what the network looked at."""

import json
from pathlib import Path

import pytest
import torch
from synthetic import LABELS, write_frames

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import InferenceClips
from r3d.clips.loader import collate_clips
from r3d.clips.modelinput import model_input
from r3d.config.options import InferenceOptions, RunOptions
from r3d.frames.stores import open_store
from r3d.inference.gallery import PER_KIND, _before_average, choose_videos, make_gallery
from r3d.models.base import head_of
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint


@pytest.mark.parametrize(
    "network",
    [
        {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.25},
        {"model": "preresnet", "model_depth": 10, "resnet_widen_factor": 0.25},
        {"model": "resnetrs", "model_depth": 50, "resnet_widen_factor": 0.25},
        {"model": "densenet", "model_depth": 121},
    ],
    ids=lambda network: network["model"],
)
def test_the_map_of_a_class_adds_up_to_its_score(network: dict):
    """Class activation maps are exact: their mean, and the bias, is what the network says."""
    torch.manual_seed(0)
    model = build_model(n_classes=3, **network).eval()
    head = head_of(model)
    torch.nn.init.normal_(head.bias)
    with torch.inference_mode(), _before_average(model) as features:
        scores = model(torch.randn(1, 3, 16, 64, 64))
        for label in range(3):
            places = torch.einsum("c,cthw->thw", head.weight[label], features[0][0])
            assert float(places.mean() + head.bias[label]) == pytest.approx(
                float(scores[0, label]), rel=1e-4, abs=1e-4
            )
    # Once looked at, it is left as it was.
    assert not model.get_submodule("average")._forward_pre_hooks


def test_each_video_is_chosen_once_the_most_telling_first(tmp_path: Path):
    n = 5 * PER_KIND
    rows = [f"v{i}\trun\t{'no' if i % 2 else 'yes'}" for i in range(n)]
    rows += ["unlabelled\t\t", "without\trun\tno"]
    (tmp_path / "videos.tsv").write_text("\n".join(["id\tlabel\tcorrect", *rows, ""]))
    results = {
        f"v{i}": [{"label": "walk", "score": (i + 1) / n}, {"label": "run", "score": 0.0}]
        for i in range(n)
    }
    # One whose clips are kept one by one counts by their mean.
    clips = [[{"label": "walk", "score": score}] for score in (0.5, 1.0)]
    results["v1"] = [{"segment": [i, i + 1], "result": clip} for i, clip in enumerate(clips)]
    results["unlabelled"] = results["v2"]
    (tmp_path / "val.json").write_text(json.dumps({"results": results}))
    chosen = choose_videos(tmp_path / "val.json", tmp_path / "videos.tsv")
    kinds = {
        kind: [item.video for item in chosen if item.kind == kind]
        for kind in ("confident", "uncertain", "random")
    }
    assert [len(videos) for videos in kinds.values()] == [PER_KIND] * 3
    names = [video.video for video in chosen]
    assert len(set(names)) == len(names)
    assert not {"unlabelled", "without"} & set(names)
    # The mean of v1 is 0.75, between those of v45 and v43.
    wrong = (59, 57, 55, 53, 51, 49, 47, 45, 1, 43, 41, 39)
    assert kinds["confident"] == [f"v{i}" for i in wrong]
    assert kinds["uncertain"][:3] == ["v0", "v2", "v3"]


@pytest.mark.parametrize("crop", ["center", "nocrop", "three"])
def test_a_gallery_shows_what_the_network_says_of_each_clip(tmp_path: Path, crop: str):
    """Batches that videos share give each clip the scores that it has by itself."""
    write_frames(tmp_path, n_training=1, n_validation=3, n_frames=20)
    settings = {"model_depth": 10, "resnet_widen_factor": 0.0625, "sample_size": 32}
    options = InferenceOptions(
        **settings,
        sample_duration=8,
        inference_stride=8,
        inference_crop=crop,
        precision="fp32",
    )
    torch.manual_seed(0)
    network = build_model(n_classes=2, **options.network())
    path = tmp_path / "model.pth"
    write_checkpoint(path, Checkpoint(state_dict=network.state_dict(), labels=LABELS))
    samples = read_annotation(tmp_path / "annotation.json", subset="val")
    names = [str(name) for name in samples.ids]
    best = [
        {"label": label, "score": score} for label, score in zip(LABELS, (0.6, 0.4), strict=True)
    ]
    (tmp_path / "val.json").write_text(json.dumps({"results": dict.fromkeys(names, best)}))
    rows = [f"{name}\t{name.partition('_')[0]}\tyes" for name in names]
    (tmp_path / "videos.tsv").write_text("\n".join(["id\tlabel\tcorrect", *rows, ""]))
    make_gallery(
        options,
        annotation=tmp_path / "annotation.json",
        frames=tmp_path / "jpg",
        model=path,
        result=tmp_path / "val.json",
        videos=tmp_path / "videos.tsv",
        output=tmp_path / "gallery",
        run=RunOptions(n_threads=1, no_cuda=True),
        n_cores=1,
    )
    items = json.loads((tmp_path / "gallery/gallery.json").read_text())
    assert sorted(item["id"] for item in items) == sorted(names)
    clips = InferenceClips(samples, open_store(tmp_path / "jpg", "jpg"), options)
    network.eval()
    for item in items:
        video = names.index(item["id"])
        expected = []
        for key in clips.keys_of(video):
            with torch.inference_mode():
                inputs = model_input(collate_clips([clips[key]]), options)
                scores = network(inputs).softmax(1).mean(0).tolist()
            own = LABELS.index(item["id"].partition("_")[0])
            expected += [clips[key].segment[0], scores[0], scores[own]]
        found = [value for time in item["times"] for value in time]
        assert found == pytest.approx(expected, abs=1e-3)
        for name in (item["strip"], item["cam"]):
            assert (tmp_path / "gallery" / name).stat().st_size > 500
