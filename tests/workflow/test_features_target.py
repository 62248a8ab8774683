"""The target `features`: a file for each experiment and split, made again when it has to be."""

from pathlib import Path

import numpy as np
import pytest
from smallrun import SmallRun

pytestmark = pytest.mark.workflow


def test_features_of_each_experiment_and_split(tmp_path: Path):
    run = SmallRun(tmp_path)
    run.config["experiments"] = {
        "base": {},
        "clips": {"inference_no_average": True, "pretrain": "base"},
    }
    run.config["defaults"]["inference_stride"] = 4
    run.fill(tmp_path / "encoded")
    jobs = run.jobs("features")
    assert jobs["features_subset"] == 2
    assert jobs["train_model"] == 2
    assert not jobs["infer_subset"]
    files = sorted((tmp_path / "results/experiments").glob("*/*/*.features.*"))
    assert [file.parts[-3] for file in files] == ["base", "clips"]
    with np.load(files[0]) as one, np.load(files[1]) as other:
        assert sorted(one["ids"].tolist()) == ["run4", "walk4"]
        assert sorted(one["labels"].tolist()) == ["run", "walk"]
        assert one["features"].shape == (2, 32)
        assert len(other["ids"]) == 6  # ten frames are three clips
        assert other["seconds"][0].tolist() == [0, 0.4]  # four frames of ten a second
    assert not run.jobs("features")

    # Options of a training that is done change nothing; other clips make the features again.
    run.config["defaults"]["inference_stride"] = 2
    assert run.jobs("features") == {"features_subset": 2, "features": 1}
