"""Which videos a gallery shows, and that its maps say what the network looked at."""

import json
from pathlib import Path

import pytest
import torch

from r3d.inference.gallery import PER_KIND, _before_average, choose_videos
from r3d.models.base import head_of
from r3d.models.building import build_model


@pytest.mark.parametrize(
    "network",
    [
        {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.25},
        {"model": "preresnet", "model_depth": 10, "resnet_widen_factor": 0.25},
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
