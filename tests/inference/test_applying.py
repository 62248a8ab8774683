"""A checkpoint brings its options: what is used of it, what is said, what is refused."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import simplejpeg
import torch
import yaml
from miniatures import Videos
from running import r3d as run_r3d
from synthetic import LABELS, write_frames
from weights import hollow_weights

import r3d
from r3d.config.applying import applied_options
from r3d.config.modelnames import folders_of_videos
from r3d.config.networks import given_options, with_start
from r3d.config.normalisation import input_normalisation
from r3d.config.options import InferenceOptions, TrainingOptions
from r3d.errors import InputError
from r3d.frames.form import FrameForm, form_of_frames
from r3d.frames.stores import open_store
from r3d.modelfiles import find_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from r3d.models.known import known_of, read_known

TRAINED = TrainingOptions(
    model_depth=10,
    resnet_widen_factor=0.0625,
    sample_size=24,
    sample_duration=6,
    sample_t_stride=2,
    mean_dataset="activitynet",
    no_std_norm=True,
    batch_size=2,
    n_epochs=1,
    n_val_samples=1,
)
RUN = r3d.RunOptions(n_threads=0, no_cuda=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of 48 pixels and a model that was trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    write_frames(folder, n_training=2, n_validation=1, n_frames=20)
    r3d.train(
        TRAINED,
        annotation=folder / "annotation.json",
        frames=folder / "jpg",
        checkpoints=folder / "checkpoints",
        model=folder / "model.pth",
        train_log=folder / "train.log",
        val_log=folder / "val.log",
        run=RUN,
    )
    return folder


def applied(folder: Path, output: Path, **options: Any) -> dict[str, Any]:
    file = options.pop("file", folder / "model.pth")
    r3d.infer(
        InferenceOptions(**options),
        annotation=folder / "annotation.json",
        frames=folder / "jpg",
        model=file,
        output=output,
        run=RUN,
    )
    return json.loads(output.read_text())["results"]


def test_nothing_has_to_be_given(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Forgetting the size of the clips gives what giving it gives, and nothing is said."""
    names = InferenceOptions.model_fields.keys() & TrainingOptions.model_fields.keys()
    everything = {name: getattr(TRAINED, name) for name in names}
    caplog.set_level(logging.WARNING)
    assert applied(folder, tmp_path / "a") == applied(folder, tmp_path / "b", **everything)
    assert not caplog.records
    done = run_r3d(
        folder,
        *("infer", "--annotation_path", "annotation.json", "--video_path", "jpg"),
        *("--model_path", "model.pth", "--result_path", str(tmp_path / "c"), "--no_cuda"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "c").read_text())["results"] == applied(folder, tmp_path / "a")


def test_another_size_is_used_and_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    plain = applied(folder, tmp_path / "a")
    other = applied(folder, tmp_path / "b", sample_size=112, sample_t_stride=1)
    assert other != plain
    (record,) = caplog.records
    assert record.getMessage() == (
        f"checkpoint {folder / 'model.pth'}: sample_size: 112, sample_t_stride: 1 is used as "
        "given; it was trained with sample_size: 24, sample_t_stride: 2"
    )
    caplog.clear()
    model = r3d.load_model(folder / "model.pth", sample_size=112)
    assert (model.options.sample_size, model.options.sample_duration) == (112, 6)
    assert "sample_size: 112 is used as given" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_depth": 18}, "model_depth: 18 does not fit, its network has model_depth: 10"),
        ({"model": "densenet", "model_depth": 121}, "model: densenet"),
        (
            {"model": "densenet"},
            "model: densenet does not fit, .* model: resnet; set that, or leave model out",
        ),
        ({"input_type": "flow"}, "its network has input_type: rgb; .*leave input_type out"),
        ({"mean_dataset": "kinetics"}, "training, mean_dataset: activitynet.*leave mean_dataset"),
        ({"value_scale": 255}, "leave value_scale out"),
    ],
)
def test_another_network_or_normalisation_is_refused(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message) as caught:
        r3d.load_model(folder / "model.pth", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_how_clips_are_taken_is_free(folder: Path, caplog: pytest.LogCaptureFixture):
    options = {"inference_stride": 3, "inference_crop": "three", "inference_clips": 2}
    model = r3d.load_model(folder / "model.pth", **options, mean_dataset="activitynet")
    assert {name: getattr(model.options, name) for name in options} == options
    assert not caplog.records


def test_files_that_say_less(folder: Path, caplog: pytest.LogCaptureFixture):
    """Of the reference: its network shows in the weights, anything else is as given."""
    checkpoint = read_checkpoint(folder / "model.pth")
    known = known_of(Checkpoint(state_dict=checkpoint.state_dict), "save_200.pth")
    plain, notes = applied_options(known, {})
    assert (plain.model_depth, plain.sample_size, plain.mean_dataset) == (10, 112, "kinetics")
    options, more = applied_options(known, {"sample_size": 64, "value_scale": 255})
    assert (options.sample_size, options.value_scale) == (64, 255)
    hidden, _ = applied_options(known, {"no_max_pool": True, "conv1_t_stride": 2})
    assert (hidden.no_max_pool, hidden.conv1_t_stride) == (True, 2)
    assert notes == [
        "checkpoint save_200.pth: does not say all that it was trained with; assumed: sample_size: "
        "112, sample_duration: 16, sample_t_stride: 1, mean_dataset: kinetics, no_mean_norm: "
        "false, no_std_norm: false, value_scale: 1, conv1_t_stride: 1, no_max_pool: false; give "
        "the option of what was otherwise"
    ]
    # What is given is no assumption, nor is any of a normalisation of which a part is given.
    (line,) = more
    assert "assumed: sample_duration: 16, sample_t_stride: 1, conv1_t_stride: 1, no_max" in line
    # A normalisation without the options that it came from.
    normalisation = input_normalisation(TRAINED)
    known = known_of(
        Checkpoint(state_dict=checkpoint.state_dict, normalisation=normalisation), "a.pth"
    )
    assert applied_options(known, {})[0].mean_dataset == "activitynet"
    strange = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "value_scale": 1}
    known = known_of(Checkpoint(state_dict=checkpoint.state_dict, normalisation=strange), "a.pth")
    with pytest.raises(InputError, match="which no options give"):
        applied_options(known, {})


def test_what_is_assumed_is_said_by_each_command(folder: Path, tmp_path: Path):
    """And the options that it names silence it."""
    state = read_checkpoint(folder / "model.pth").state_dict
    torch.save({"epoch": 3, "arch": "resnet-10", "state_dict": state}, tmp_path / "save_3.pth")
    Videos(tmp_path / "kinds").put(tmp_path / "a.mp4", seconds=1)
    (tmp_path / "classes.txt").write_text("down\nup\n")
    of_frames = ("--annotation_path", str(folder / "annotation.json"), "--video_path")
    common = ("--no_cuda", "--short_side=48")
    told = {
        ("predict", "save_3.pth", "a.mp4", *common): ("sample_size: 112", "all frames", "classes"),
        ("features", "save_3.pth", "a.mp4", "--output=a.npz", *common): (
            *("sample_size: 112", "no_max_pool", "all frames"),
        ),
        ("export", "save_3.pth", "--output=out"): ("sample_size: 112", "class_order"),
        (
            *("infer", *of_frames, str(folder / "jpg"), "--model_path=save_3.pth", "--no_cuda"),
            *("--result_path=a.json", "--class_order=classes.txt", "--n_threads=0"),
        ): ("sample_size: 112",),
    }
    for command, parts in told.items():
        done = run_r3d(tmp_path, *command)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith(("check", "model"))]
        assert len(lines) == len(parts) - (command[0] == "features"), done.stderr
        assert all(part in done.stderr for part in parts), done.stderr
    said = next(line for line in lines if "assumed: " in line).split("assumed: ")[1].split("; ")[0]
    values = (setting.split(": ") for setting in said.split(", "))
    given = [f"--{name}={value}" for name, value in values if value not in ("true", "false")]
    done = run_r3d(tmp_path, *command, *given, "--sample_size=32")
    assert done.returncode == 0, done.stderr
    assert "sample_size" not in done.stderr
    assert "mean_dataset" not in done.stderr


def test_what_is_known_by_a_name_only_can_be_overruled():
    weights = hollow_weights(model_depth=34, n_classes=400)
    known = known_of(Checkpoint(state_dict=weights), "resnet-34-kinetics.pth")
    options, notes = applied_options(known, {})
    assert (options.mean_dataset, options.value_scale) == ("hara2018", 255)
    assert not notes
    options, notes = applied_options(known, {"mean_dataset": "kinetics", "sample_size": 112})
    assert options.mean_dataset == "kinetics"
    assert notes == [
        "checkpoint resnet-34-kinetics.pth: mean_dataset: kinetics is used as given; it was "
        "trained with mean_dataset: hara2018"
    ]


def test_only_what_is_given_counts():
    options = InferenceOptions(sample_size=112, model_depth=18)  # the defaults
    assert given_options(options) == {"sample_size": 112, "model_depth": 18}
    assert given_options(InferenceOptions()) == {}


def test_a_training_takes_the_network_of_its_start(folder: Path, tmp_path: Path):
    r3d.train(
        TrainingOptions(batch_size=2, n_epochs=1, sample_size=16, sample_duration=4, no_val=True),
        annotation=folder / "annotation.json",
        frames=folder / "jpg",
        pretrained=folder / "model.pth",
        checkpoints=tmp_path / "checkpoints",
        model=tmp_path / "model.pth",
        train_log=tmp_path / "train.log",
        val_log=tmp_path / "val.log",
        run=RUN,
    )
    architecture = read_checkpoint(tmp_path / "model.pth").architecture
    assert architecture is not None
    assert (architecture.model_depth, architecture.resnet_widen_factor) == (10, 0.0625)
    # So is its normalisation, as a whole or not at all.
    options = with_start(TrainingOptions(n_epochs=1), read_known(folder / "model.pth"))
    assert (options.mean_dataset, options.no_std_norm) == ("activitynet", True)
    options = with_start(TrainingOptions(value_scale=255), read_known(folder / "model.pth"))
    assert (options.mean_dataset, options.no_std_norm) == ("kinetics", False)


def test_a_start_of_another_family_is_refused_alike(folder: Path, tmp_path: Path):
    """By a training, by what goes on with one, and where it is applied."""
    file = folder / "model.pth"
    paths = {name: tmp_path / name for name in ("checkpoints", "model", "train_log", "val_log")}

    def train(*, pretrained: Path | None = None, **options: Any) -> None:
        r3d.train(
            TrainingOptions(**options),
            **{"annotation": folder / "annotation.json", "frames": folder / "jpg", "run": RUN},
            pretrained=pretrained,
            **paths,
        )

    other = {"model": "densenet", "model_depth": 121}
    message = "model: densenet, model_depth: 121.* does not fit, its network has model: resnet"
    with pytest.raises(InputError, match=message):
        train(pretrained=file, **other)
    with pytest.raises(InputError, match=message):
        applied_options(read_known(file), other)
    with pytest.raises(InputError, match=message):
        train(resume_path=str(file), **other)
    # What is not given counts where a training goes on; pretrain_path could not help.
    with pytest.raises(InputError, match=r"model_depth: 18, .*has model_depth: 10, ") as caught:
        train(resume_path=str(file))
    assert "pretrain_path" not in str(caught.value)
    assert not paths["model"].exists()


def test_experiments_are_models(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By their names, those that apply another's included, with the split where there are more."""
    monkeypatch.chdir(tmp_path)
    dataset = {"format": "ucf101", "lists": "l", "videos": "v", "frames": "f"}
    experiments = {
        "one": {"splits": ["02"]},
        "two": {"splits": ["01", "02"]},
        "applied": {"splits": ["02"], "pretrain": "two", "no_train": True},
    }
    config = {"datasets": {"d": dataset}, "defaults": {"dataset": "d"}, "experiments": experiments}
    Path("config").mkdir()
    for path, results in (("config/config.yaml", "results"), ("other.yaml", "elsewhere")):
        Path(path).write_text(yaml.safe_dump({"results": results, **config}))
    for name in ("one/02", "two/02"):
        place = Path("results/experiments", name)
        place.mkdir(parents=True)
        shutil.copy(folder / "model.pth", place)
    for name in ("one", "one/02", "two/02", "applied"):
        assert r3d.load_model(name).labels == LABELS
    with pytest.raises(InputError, match="accepted: two/01, two/02"):
        r3d.load_model("two")
    with pytest.raises(
        InputError, match=r"make it: snakemake .*--configfile other\.yaml elsewhere"
    ):
        r3d.load_model("one", configfile="other.yaml")
    with pytest.raises(InputError, match=r"two/01: .*is not there yet"):
        r3d.load_model("two/01")
    with pytest.raises(InputError, match=r"of config/config\.yaml \(applied, one, two\)"):
        r3d.load_model("three")
    # Paths that are meant for it.
    assert find_model("results/experiments/one/02") == Path("results/experiments/one/02/model.pth")
    with pytest.raises(InputError, match=r"accepted: two/02$"):
        find_model("two/02/model.pth")
    with pytest.raises(InputError, match=r"two/01: .* make it: snakemake"):
        find_model("results/experiments/two/01")
    assert (
        folders_of_videos("two") == folders_of_videos("results/experiments/two/01") == [Path("v")]
    )
    assert folders_of_videos("three") == []


def scaled(folder: Path, target: Path, size: int) -> Path:
    """The same frames in another size, without any record."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".*", "checkpoints"))
    for path in (target / "jpg").rglob("*.jpg"):
        picture = torch.full((size, size, 3), 100, dtype=torch.uint8).numpy()
        path.write_bytes(simplejpeg.encode_jpeg(picture))
    return target


def record(folder: Path, **changes: Any) -> None:
    """Say of all frames what they were made from."""
    for path in (folder / "jpg").rglob(".video.json"):
        stored = json.loads(path.read_text())
        path.write_text(json.dumps({**stored, **changes}))


def test_frames_of_another_size_are_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trained = read_checkpoint(folder / "model.pth").frames
    assert trained is not None
    side = trained["short_side"]
    other = scaled(folder, tmp_path / "other", side + 16)
    applied(other, tmp_path / "out", file=folder / "model.pth")
    assert caplog.messages == [
        f"checkpoint {folder / 'model.pth'}: applied to frames of short side {side + 16}; trained "
        f"on short side {side}"
    ]
    model = r3d.load_model(folder / "model.pth")
    assert model.frames == FrameForm(short_side=side)


def test_the_form_of_frames_is_that_of_their_records(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    store = open_store(tmp_path / "copy/jpg")
    places = list((tmp_path / "copy/jpg").glob("*/*"))
    for place in places:
        store.record(f"{place.parent.name}/{place.name}")  # which counts the frames
    made_from = {"short_side": 48, "fps": 12.5, "quality": 2, "colour": "as_reference"}
    record(tmp_path / "copy", fps=12.5, made_from=made_from)
    form = form_of_frames(store, places)
    assert (form.fps, form.rates, form.quality, form.colour) == (
        *(12.5, (12.5, 12.5)),
        *(2, "as_reference"),
    )
    assert FrameForm.of_dict(form.as_dict()) == form
    assert FrameForm.of_dict({"short_side": "x"}) is None
    assert FrameForm.of_dict(None) is None


@pytest.mark.parametrize(
    ("trained", "here", "said"),
    [
        (FrameForm(240, rates=(25, 30)), FrameForm(240, rates=(29.97, 29.97)), ""),
        (FrameForm(240, rates=(29.97, 29.97)), FrameForm(240, rates=(30, 30)), ""),
        (FrameForm(240), FrameForm(), ""),
        (FrameForm(), FrameForm(112, rates=(5, 5)), ""),
        (FrameForm(0), FrameForm(112), "short side 112; trained on various sizes"),
        (
            FrameForm(240, rates=(25, 30)),
            FrameForm(112, rates=(15, 15)),
            "short side 112 and 15 frames a second; trained on short side 240 and 25 to 30 frames "
            "a second",
        ),
    ],
)
def test_frames_are_compared(trained: FrameForm, here: FrameForm, said: str):
    assert trained.difference(here) == said


def test_a_video_is_read_as_the_frames_of_the_training_were(tmp_path: Path, shared: Path):
    video = next((shared / "data/videos").rglob("*.avi"))
    torch.manual_seed(0)
    network = build_model(n_classes=2, **TRAINED.network())
    shapes = {}
    for name, frames in (
        ("as trained", {"short_side": 40, "fps": 5.0, "rates": [5.0, 5.0]}),
        ("unknown", None),
    ):
        checkpoint = Checkpoint(
            state_dict=network.state_dict(), config=TRAINED.model_dump(), frames=frames
        )
        write_checkpoint(tmp_path / "m.pth", checkpoint)
        model = r3d.load_model(tmp_path / "m.pth", inference_stride=1)
        shapes[name] = len(model.video_input(video))
        if frames:
            same = model.video_input(video, short_side=40, fps=5.0)
            torch.testing.assert_close(model.video_input(video), same)
            assert len(model.video_input(video, short_side=40, fps=1000.0)) > shapes[name]
    assert shapes["unknown"] > shapes["as trained"]
