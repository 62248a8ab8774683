"""Clips as networks see them: the reference's data sets and transforms, and ours."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import simplejpeg
import torch
from checkout import Reference
from deviations import DEVIATIONS
from samples import FILE_TYPES, LABELS, DataSet, texture
from torch import Tensor

from r3d.annotations.reading import read_annotation
from r3d.clips.datasets import InferenceClips, TrainingClips, ValidationClips
from r3d.clips.loader import make_loader
from r3d.clips.modelinput import model_input
from r3d.clips.transforms import decode_clip, short_side_view, to_model_input
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, TrainingOptions
from r3d.frames.layouts import FileType
from r3d.frames.stores import open_store

pytestmark = [
    pytest.mark.differential,
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore:Unexpected DataLoader"),
]

CPU = torch.device("cpu")
CLIP = {"sample_size": 32, "sample_duration": 16}
NORMALISATIONS: list[dict[str, Any]] = [
    {},
    {"mean_dataset": "activitynet", "value_scale": 255},
    {"mean_dataset": "0.5", "no_mean_norm": True},
    {"no_std_norm": True},
]


def arguments(options: dict[str, Any]) -> list[object]:
    """Options as the command line of the reference takes them."""
    found: list[object] = []
    for name, value in options.items():
        found += [f"--{name}"] if value is True else [f"--{name}", value]
    return found


def grey_levels(found: Tensor, expected: Tensor, options: Any) -> Tensor:
    """How far inputs (b, c, t, h, w) are from each other, in levels of 0 to 255."""
    assert found.shape == expected.shape
    std = torch.tensor(input_normalisation(options)["std"]) * 255 / options.value_scale
    return (found - expected).abs() * std.view(-1, 1, 1, 1)


@pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=str)
@pytest.mark.parametrize("crop", ["center", "nocrop"])
@pytest.mark.parametrize(
    ("size", "chroma"),
    [
        *[(size, "444") for size in ((240, 320), (320, 241), (112, 112), (113, 150), (61, 45))],
        *[(size, "420") for size in ((240, 320), (320, 241))],
    ],
)
def test_preprocessing(
    reference: Reference,
    tmp_path: Path,
    size: tuple[int, int],
    crop: Any,
    chroma: str,
    normalisation: dict[str, Any],
) -> None:
    options = InferenceOptions(sample_size=112, **normalisation)
    jpeg = simplejpeg.encode_jpeg(texture(*size, seed=1), quality=90, colorsubsampling=chroma)
    path = tmp_path / "image_00001.jpg"
    path.write_bytes(jpeg)

    (clip,) = decode_clip([(jpeg,)], lambda h, w: short_side_view(h, w, 112, crop))
    no_flip = torch.tensor([False])
    ours = to_model_input(clip[None], no_flip, device=CPU, **input_normalisation(options))

    opt = reference.options(tmp_path, *arguments(normalisation))
    main = reference.module("main")
    steps = [main.Resize(112), *([main.CenterCrop(112)] if crop == "center" else [])]
    normalise = main.get_normalize_method(opt.mean, opt.std, opt.no_mean_norm, opt.no_std_norm)
    steps += [main.ToTensor(), main.ScaleValue(opt.value_scale), normalise]
    image = reference.module("datasets.loader").ImageLoaderPIL()(path)
    theirs = main.Compose(steps)(image)[None, :, None]

    levels = grey_levels(ours, theirs, options)
    if chroma == "444":
        assert levels.max() < 1.01
        assert levels.mean() < 0.1
    else:
        assert levels.mean() < 1, DEVIATIONS["chroma"]


def reference_options(
    reference: Reference, data: DataSet, file_type: FileType, tmp_path: Path, **options: Any
) -> Namespace:
    frames = data.flow if options.get("input_type") == "flow" else data.frames[file_type]
    common = {
        "dataset": "kinetics",
        "n_classes": len(LABELS),
        "video_path": frames,
        "annotation_path": data.annotation[file_type],
        "file_type": file_type,
    }
    return reference.options(tmp_path, *arguments({**common, **CLIP, **options}))


def our_batches(clips: Any, options: Any) -> tuple[Tensor, list[int], list[tuple[str, list[int]]]]:
    """All clips in order: inputs, labels, and of which frames of which video they are."""
    inputs, labels, segments = [], [], []
    for batch in make_loader(clips, clips.shard(0, 1), batch_size=1):
        inputs.append(model_input(batch, options, CPU))
        labels += batch.labels.tolist()
        names = [str(clips._samples.ids[video]) for video in batch.videos.tolist()]
        segments += list(zip(names, batch.segments.tolist(), strict=True))
    return inputs, labels, segments


def assert_same_clips(ours: list[Tensor], theirs: list[Tensor], options: Any) -> None:
    assert len(ours) == len(theirs)
    for found, expected in zip(ours, theirs, strict=True):
        levels = grey_levels(found, expected, options)
        assert levels.max() < 1.01
        assert levels.mean() < 0.1


@pytest.mark.parametrize("n_val_samples", [2, 3])
@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_validation_clips(
    reference: Reference,
    data_set: DataSet,
    tmp_path: Path,
    file_type: FileType,
    n_val_samples: int,
) -> None:
    opt = reference_options(
        reference, data_set, file_type, tmp_path, n_val_samples=n_val_samples, batch_size=6
    )
    loader, _ = reference.module("main").get_val_utils(opt)
    batches = list(loader)
    options = TrainingOptions(**CLIP, n_val_samples=n_val_samples)
    samples = read_annotation(data_set.annotation[file_type], subset="val")
    clips = ValidationClips(samples, open_store(data_set.frames[file_type], file_type), options)
    inputs, labels, _ = our_batches(clips, options)
    assert labels == torch.cat([labels for _, labels in batches]).tolist()
    assert set(labels) == {0, 1, 2}
    assert_same_clips(inputs, list(torch.cat([clips for clips, _ in batches]).split(1)), options)
    assert samples.labels == [loader.dataset.class_names[index] for index in range(len(LABELS))]


@pytest.mark.parametrize("options", [{}, {"inference_crop": "nocrop", "inference_stride": 5}])
@pytest.mark.parametrize("subset", ["train", "val"])
@pytest.mark.parametrize(
    ("file_type", "input_type"), [("jpg", "rgb"), ("hdf5", "rgb"), ("hdf5", "flow")]
)
def test_inference_clips(
    reference: Reference,
    data_set: DataSet,
    tmp_path: Path,
    file_type: FileType,
    input_type: Any,
    subset: str,
    options: dict[str, Any],
) -> None:
    shared = {"input_type": input_type, **options}
    opt = reference_options(
        reference,
        data_set,
        file_type,
        tmp_path,
        inference_subset=subset,
        inference_batch_size=1,
        **shared,
    )
    loader, class_names = reference.module("main").get_inference_utils(opt)
    batches = list(loader)
    chosen = InferenceOptions(**CLIP, **shared)
    samples = read_annotation(data_set.annotation[file_type], subset=subset)
    frames = data_set.flow if input_type == "flow" else data_set.frames[file_type]
    clips = InferenceClips(samples, open_store(frames, file_type), chosen)
    inputs, _, segments = our_batches(clips, chosen)
    targets = [tuple(target) for _, targets in batches for target in targets]
    assert segments == targets
    theirs = [clip for clips, _ in batches for clip in clips.split(1)]
    assert_same_clips(inputs, theirs, chosen)
    assert samples.labels == [class_names[index] for index in range(len(LABELS))] == LABELS


@pytest.mark.parametrize("t_stride", [1, 2])
@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_training_clips(
    reference: Reference, data_set: DataSet, tmp_path: Path, file_type: FileType, t_stride: int
) -> None:
    shared = {
        "train_crop": "center",
        "train_t_crop": "center",
        "no_hflip": True,
        "sample_t_stride": t_stride,
    }
    opt = reference_options(reference, data_set, file_type, tmp_path, **shared)
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = reference.module("main").get_train_utils(opt, [weight])[0].dataset
    options = TrainingOptions(**CLIP, **shared)
    samples = read_annotation(data_set.annotation[file_type], subset="train")
    ours = TrainingClips(samples, open_store(data_set.frames[file_type], file_type), options)
    assert samples.n_without_frames == 1
    assert len(ours) == len(theirs) == 6
    for number in range(len(ours)):
        clip, label = theirs[number]
        found = ours[0, number]
        no_flip = torch.tensor([found.flip])
        inputs = to_model_input(
            found.views[0][None], no_flip, device=CPU, **input_normalisation(options)
        )
        assert found.label == label
        assert_same_clips([inputs], [clip[None]], options)


def test_testing_videos(reference: Reference, data_set: DataSet, tmp_path: Path) -> None:
    """Without labels the reference needs a path in each entry, which is read here too."""
    subset = {"inference_subset": "test", "inference_batch_size": 1}
    opt = reference_options(reference, data_set, "jpg", tmp_path, **subset)
    with pytest.raises(KeyError):
        reference.module("main").get_inference_utils(opt)
    options = InferenceOptions(**CLIP)
    store = open_store(data_set.frames["jpg"], "jpg")
    samples = read_annotation(data_set.annotation["jpg"], subset="test")
    inputs, labels, segments = our_batches(InferenceClips(samples, store, options), options)
    assert set(labels) == {-1}, DEVIATIONS["no label"]

    data = json.loads(data_set.annotation["jpg"].read_text())
    for name, entry in data["database"].items():
        if entry["subset"] == "testing":
            entry["video_path"] = str(data_set.frames["jpg"] / "test" / name)
    opt.annotation_path = tmp_path / "with_paths.json"
    opt.annotation_path.write_text(json.dumps(data))
    batches = list(reference.module("main").get_inference_utils(opt)[0])
    assert segments == [tuple(target) for _, targets in batches for target in targets]
    assert_same_clips(inputs, [clip for clips, _ in batches for clip in clips.split(1)], options)

    elsewhere = open_store(tmp_path / "no frames here", "jpg")
    samples = read_annotation(opt.annotation_path, subset="test")
    again = our_batches(InferenceClips(samples, elsewhere, options), options)
    assert torch.equal(torch.cat(again[0]), torch.cat(inputs))
    assert again[1:] == (labels, segments)


def test_few_videos(reference: Reference, data_set: DataSet, tmp_path: Path) -> None:
    data = json.loads(data_set.annotation["jpg"].read_text())
    training = [n for n, entry in data["database"].items() if entry["subset"] == "training"]
    data["database"] = {name: data["database"][name] for name in training[:4]}
    path = tmp_path / "few.json"
    path.write_text(json.dumps(data))
    module = reference.module("datasets.videodataset")
    with pytest.raises(ZeroDivisionError):
        module.VideoDataset(data_set.frames["jpg"], path, "training")
    assert len(read_annotation(path, subset="training")) == 4, DEVIATIONS["few videos"]


def test_one_hdf5_frame(reference: Reference, data_set: DataSet, tmp_path: Path) -> None:
    data = json.loads(data_set.annotation["hdf5"].read_text())
    entries = [e for e in data["database"].values() if e["subset"] == "validation"]
    entries[0]["annotations"]["segment"] = [0, 1]
    path = tmp_path / "one.json"
    path.write_text(json.dumps(data))
    module = reference.module("dataset")
    theirs, _ = module.get_validation_data(data_set.frames["hdf5"], path, "kinetics", "rgb", "hdf5")
    assert len(theirs) == len(entries) - 1
    assert len(read_annotation(path, subset="val")) == len(entries), DEVIATIONS["one hdf5 frame"]
