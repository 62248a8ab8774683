"""Features: what goes into the last layer, of annotations and of videos, in files of any length."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from miniatures import Videos
from running import ROOT
from running import r3d as run_r3d
from synthetic import LABELS, write_frames

from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.inference.featurefile import FeatureFile, FeatureRow
from r3d.inference.features import features
from r3d.inference.trained import TrainedModel, load_model
from r3d.inference.videofeatures import video_features
from r3d.models.base import head_name
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, write_checkpoint

TINY: dict[str, Any] = {"model_depth": 10, "resnet_widen_factor": 0.0625}
CLIP: dict[str, Any] = {"sample_size": 32, "sample_duration": 8}
HERE = RunOptions(n_threads=0, no_cuda=True)


def write_model(path: Path, **given: Any) -> TrainedModel:
    torch.manual_seed(0)
    options = InferenceOptions(**CLIP, **{**TINY, **given})
    network = build_model(n_classes=2, **options.network())
    checkpoint = Checkpoint(
        state_dict=network.state_dict(),
        architecture=network.architecture,
        config=options.model_dump(),
        labels=LABELS,
        normalisation=input_normalisation(options),
    )
    write_checkpoint(path, checkpoint)
    return load_model(path, precision="fp32", inference_stride=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of four validation videos of 20 frames, which is 3 windows of 8, a model, a video."""
    folder = tmp_path_factory.mktemp("data")
    write_frames(folder, n_training=1, n_validation=2, n_frames=20)
    write_model(folder / "model.pth")
    Videos(folder / "kinds").put(folder / "a.mp4", seconds=2)
    Videos(folder / "kinds2").put(folder / "b.avi", kind=1, seconds=3)
    return folder


def of_annotation(data: Path, output: Path, **given: Any) -> dict[str, np.ndarray]:
    features(
        InferenceOptions(inference_stride=8, precision="fp32", **given),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        model=data / "model.pth",
        output=output,
        run=HERE,
        batch_size=4,
        n_cores=1,
    )
    with np.load(output, allow_pickle=False) as file:
        return dict(file)


def seen_by_the_head(model: TrainedModel, inputs: torch.Tensor) -> torch.Tensor:
    """What goes into the last layer, caught there."""
    caught: list[torch.Tensor] = []
    head = model.network.get_submodule(head_name(model.network))
    hook = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.no_grad():
        model.network(inputs)
    hook.remove()
    return caught[0]


NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {},
    "resnet2p1d": {"model": "resnet2p1d"},
    "preresnet": {"model": "preresnet"},
    "resnetrs": {"model": "resnetrs", "model_depth": 50, "resnet_widen_factor": 0.0625},
    "densenet": {"model": "densenet", "model_depth": 121, "resnet_widen_factor": 1.0},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_what_the_last_layer_gets(data: Path, tmp_path: Path, name: str):
    model = write_model(tmp_path / "model.pth", **NETWORKS[name])
    video = data / "a.mp4"
    expected = seen_by_the_head(model, model.video_input(video, short_side=36))
    selection = model.selection(short_side=36)
    for no_average in (False, True):
        options = model.options.model_copy(update={"inference_no_average": no_average})
        chosen = TrainedModel(model.network, model.labels, options)
        video_features(chosen, [video], tmp_path / "a.npz", selection=selection, run=HERE)
        with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
            found = file["features"]
        right = expected.numpy() if no_average else expected.mean(0, keepdim=True).numpy()
        np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)


def test_a_row_a_video_or_a_clip(data: Path, tmp_path: Path):
    averaged = of_annotation(data, tmp_path / "a.npz")
    by_clip = of_annotation(data, tmp_path / "b.npz", inference_no_average=True)
    assert averaged["features"].shape == (4, 32)
    assert averaged["features"].dtype == np.float32
    assert by_clip["features"].shape == (12, 32)
    names = averaged["ids"].tolist()
    assert by_clip["ids"].tolist() == [name for name in names for _ in range(3)]
    for column in ("ids", "labels", "features", "segments", "seconds"):
        assert len(by_clip[column]) == 12
    np.testing.assert_allclose(
        by_clip["features"].reshape(4, 3, 32).mean(1), averaged["features"], rtol=1e-4, atol=1e-5
    )
    assert by_clip["segments"][:3].tolist() == [[1, 9], [9, 17], [17, 21]]
    assert averaged["segments"][0].tolist() == [1, 21]
    database = json.loads((data / "annotation.json").read_text())["database"]
    right = [database[name]["annotations"]["label"] for name in names]
    assert averaged["labels"].tolist() == right
    assert np.isnan(averaged["seconds"]).all()  # frames that came without a record


def test_views_of_a_clip_are_averaged(data: Path, tmp_path: Path):
    one = of_annotation(data, tmp_path / "a.npz", inference_no_average=True, inference_crop="three")
    assert one["features"].shape == (12, 32)


def test_a_rate_that_the_annotation_states(data: Path, tmp_path: Path):
    content = json.loads((data / "annotation.json").read_text())
    first = next(n for n, entry in content["database"].items() if entry["subset"] == "validation")
    content["database"][first]["fps"] = 10
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    (tmp_path / "jpg").symlink_to(data / "jpg")
    (tmp_path / "model.pth").symlink_to(data / "model.pth")
    found = of_annotation(tmp_path, tmp_path / "a.npz", inference_no_average=True)
    times = found["seconds"][found["ids"] == first]
    np.testing.assert_allclose(times, [[0, 0.8], [0.8, 1.6], [1.6, 2.0]])


def test_unknown_labels_and_a_reference_model(data: Path, tmp_path: Path):
    """A file that names no classes has features all the same."""
    content = json.loads((data / "annotation.json").read_text())
    for entry in content["database"].values():
        entry["annotations"].pop("label", None)
        entry["video_path"] = str(next((data / "jpg").glob("*/*")))
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    (tmp_path / "jpg").mkdir()
    network = build_model(n_classes=2, model="resnet", **TINY)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    # Nor does it matter what they are said to be.
    found = of_annotation(tmp_path, tmp_path / "a.npz", **CLIP, class_order="annotation")
    assert found["labels"].tolist() == [""] * 4


def test_parquet_says_the_same(data: Path, tmp_path: Path):
    expected = of_annotation(data, tmp_path / "a.npz", inference_no_average=True)
    features(
        InferenceOptions(inference_stride=8, precision="fp32", inference_no_average=True),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        model=data / "model.pth",
        output=tmp_path / "a.parquet",
        run=HERE,
        batch_size=4,
        n_cores=1,
    )
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["id"].to_pylist() == expected["ids"].tolist()
    assert table["label"].to_pylist() == expected["labels"].tolist()
    assert table["begin_seconds"].null_count == 12
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), expected["features"])


def test_videos_bad_ones_among_them(data: Path, tmp_path: Path):
    model = load_model(data / "model.pth", inference_no_average=True, inference_stride=8)
    (tmp_path / "text.mp4").write_text("no video")
    told: list[tuple[str, str]] = []
    videos = [data / "a.mp4", tmp_path / "none.mp4", data / "b.avi", tmp_path / "text.mp4"]
    n = video_features(
        model,
        videos,
        tmp_path / "a.npz",
        run=RunOptions(n_threads=2, no_cuda=True),
        tell=lambda video, line: told.append((video.name, line)),
    )
    assert n == 2
    assert [name for name, _ in told] == ["none.mp4", "text.mp4"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == [str(videos[0])] * 3 + [str(videos[2])] * 4
        assert file["seconds"][:2].tolist() == [[0, 0.8], [0.8, 1.6]]
        assert file["segments"][3:].tolist() == [[0, 8], [8, 16], [16, 24], [24, 30]]
        first = file["features"]
    # The model still is one.
    assert len(model.best(model.video_input(videos[0]))) == 2
    video_features(model, videos[2:3], tmp_path / "b.npz", run=HERE)
    with np.load(tmp_path / "b.npz") as file:
        np.testing.assert_allclose(file["features"], first[3:], rtol=1e-3, atol=1e-4)


def test_no_video_at_all(data: Path, tmp_path: Path):
    model = load_model(data / "model.pth")
    (tmp_path / "a.npz").write_text("of before")
    with pytest.raises(InputError, match="no video has features, and nothing was written"):
        video_features(model, [tmp_path / "none.mp4"], tmp_path / "a.npz", run=HERE)
    assert (tmp_path / "a.npz").read_text() == "of before"
    assert len(list(tmp_path.iterdir())) == 1


def rows(n: int, width: int = 4) -> list[FeatureRow]:
    rng = np.random.default_rng(0)
    return [
        FeatureRow(f"näme {i}", "", (i, i + 1), (0.0, float("nan")), rng.random(width, np.float32))
        for i in range(n)
    ]


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_rows_that_were_given_up(tmp_path: Path, name: str):
    one, two, three = rows(3)
    with FeatureFile(tmp_path / name) as file:
        file.add(one)
        place = file.tell()
        file.add(two._replace(name="x" * 1000))
        file.go_back(place)
        file.add(three)
    if name.endswith("npz"):
        with np.load(tmp_path / name, allow_pickle=False) as found:
            ids, values = found["ids"].tolist(), found["features"]
    else:
        table = pq.read_table(tmp_path / name)
        ids, values = table["id"].to_pylist(), np.array(table["features"].to_pylist(), np.float32)
    assert ids == [one.name, three.name]
    assert np.array_equal(values, np.stack([one.features, three.features]))


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_equal_features_are_equal_bytes(tmp_path: Path, name: str):
    written = []
    for _ in range(2):
        with FeatureFile(tmp_path / name) as file:
            for row in rows(10):
                file.add(row)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    (tmp_path / "a.npz").write_text("of before")
    file = FeatureFile(tmp_path / "a.npz")
    with pytest.raises(TypeError), file:
        file.add(*rows(1), *rows(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_text() == "of before"


_MANY = """
import resource, sys
import numpy as np
import pyarrow.parquet
from r3d.inference.featurefile import FeatureFile, FeatureRow
row = np.zeros(2048, np.float32)
def write(n):
    with FeatureFile(sys.argv[1]) as file:
        for i in range(n):
            file.add(FeatureRow(f"video {i}", "label", (i, i + 16), (i / 25, i / 25), row))
write(3000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write(30000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_memory_stays_flat(tmp_path: Path, name: str):
    """Ten times the rows, 246 MB of them, take no more of it."""
    command = [sys.executable, "-c", _MANY, str(tmp_path / name)]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout) < 40_000  # kB
    if name == "a.parquet":
        assert pq.ParquetFile(tmp_path / name).num_row_groups > 10


def test_what_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for output in ("a.csv", "features"):
        with pytest.raises(InputError, match=r"is no format of features; accepted: NAME\.npz, NAM"):
            of_annotation(data, tmp_path / output)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'r3d\[parquet\]', or write \.npz"):
        of_annotation(data, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_features_that_are_no_numbers(data: Path, tmp_path: Path):
    model = load_model(data / "model.pth")
    with torch.no_grad():
        model.network.layer4[0].bn2.bias.fill_(3e38)
        model.network.layer4[0].downsample[1].bias.fill_(3e38)
    with pytest.raises(InputError, match=r"its features of .*a\.mp4 are not finite"):
        video_features(model, [data / "a.mp4"], tmp_path / "a.npz", run=HERE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["annotation.json"], "annotation.json: its frames are needed; say where they are with"),
        (["annotation.json", "a.mp4"], "an annotation beside other arguments"),
        (["a.mp4", "--inference_subset", "val"], "--inference_subset: goes with an ANNOTATION"),
        (["annotation.json", "--video_path", "jpg", "--fps", "5"], "--fps: goes with videos that"),
    ],
)
def test_arguments_that_do_not_go_together(data: Path, arguments: list[str], message: str):
    done = run_r3d(data, "features", "model.pth", *arguments, "--output", "never.npz")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (data / "never.npz").exists()
