"""What is known of checkpoints by a look at their names and shapes, and where models are found."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torchvision.models import video
from weights import hollow_weights, write_hollow

import r3d.models.fetching as fetching
from r3d.config.applying import applied_options
from r3d.errors import InputError
from r3d.modelfiles import find_model
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, load_weights, read_checkpoint, write_checkpoint
from r3d.models.header import read_header
from r3d.models.known import OPTIONS_2018, known_of, read_known
from r3d.models.naming import find_file, no_such_model
from r3d.models.released import RELEASED

TINY = {"model_depth": 10, "n_classes": 3, "resnet_widen_factor": 0.0625}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a cache of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def own_checkpoint() -> Checkpoint:
    network = build_model(model="resnet", **TINY)
    return Checkpoint(
        state_dict=network.state_dict(),
        epoch=7,
        architecture=network.architecture,
        config={"sample_size": 32, "multistep_milestones": [1, 2]},
        labels=["a", "b", "c"],
        normalisation={"mean": [0.5] * 3, "std": [1.0] * 3, "value_scale": 1},
        frames={"short_side": 72, "fps": None, "rates": [25.0, 30.0]},
        optimizer={
            "state": {0: {"momentum_buffer": torch.zeros(3)}},
            "param_groups": [{"params": []}],
        },
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("kind", ["own", "reference", "bare", "parameters", "densenet of 2018"])
def test_a_look_tells_what_reading_tells(tmp_path: Path, kind: str, zipped: bool):
    write_checkpoint("own.pth", own_checkpoint())
    content = torch.load("own.pth", weights_only=True)
    weights = content["state_dict"]
    if kind == "reference":
        weights = {f"module.{name}": value for name, value in weights.items()}
        content = {"epoch": 7, "arch": "resnet-10", "state_dict": weights}
    elif kind == "bare":
        content = torch.nn.Module.state_dict(build_model(model="resnet", **TINY))
    elif kind == "parameters":
        content = {name: torch.nn.Parameter(value, False) for name, value in weights.items()}
    elif kind == "densenet of 2018":
        names = hollow_weights(model="densenet", model_depth=121, n_classes=400)
        content = {
            name.replace("features.conv1", "features.conv0"): value for name, value in names.items()
        }
    torch.save(content, "file.pth", _use_new_zipfile_serialization=zipped)
    looked = read_known("file.pth")
    assert looked == known_of(read_checkpoint("file.pth"), "file.pth")
    assert looked == read_known("file.pth")  # from the cache
    assert looked.states_architecture == (kind == "own")


def test_a_look_needs_no_torch_and_no_weights(tmp_path: Path):
    """A network of 250 MB by names and shapes; what its numbers are does not matter."""
    write_hollow(tmp_path / "r3d200_K_200ep.pth", model_depth=200, n_classes=700)
    program = (
        "import sys; from r3d.models.known import read_known; "
        "known = read_known('r3d200_K_200ep.pth'); "
        "print(known.title, known.labels[0], 'torch' in sys.modules, sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == (
        f"the released resnet-200 of Kinetics-700|{RELEASED['r3d200_K_200ep.pth'].labels[0]}|False"
    )


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_hollow(tmp_path / "a.pth", n_classes=3)
    assert read_known(path).architecture.n_classes == 3
    monkeypatch.setattr("r3d.models.headercache.read_header", lambda path: pytest.fail("read"))
    assert read_known(path).architecture.n_classes == 3
    monkeypatch.undo()
    write_hollow(path, n_classes=4)
    assert read_known(path).architecture.n_classes == 4


def test_without_a_cache_it_is_read_anyhow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read_known(write_hollow(tmp_path / "a.pth", n_classes=3)).architecture.n_classes == 3


class Trap:
    """An object that does something when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_nothing_in_a_file_is_run(tmp_path: Path):
    torch.save({"state_dict": hollow_weights(), "config": Trap()}, "trap.pth")
    content = read_header("trap.pth")
    assert content["config"].name.endswith("mkdir")
    with pytest.raises(InputError, match="config: a Foreign"):
        read_known("trap.pth")
    assert not Path("sprung").exists()


@pytest.mark.parametrize("cut", [0, 1, 100, 0.5, 0.99])
def test_a_file_that_is_cut_short(tmp_path: Path, cut: float):
    write_checkpoint("own.pth", own_checkpoint())
    whole = Path("own.pth").read_bytes()
    Path("cut.pth").write_bytes(whole[: int(cut * len(whole)) if cut < 1 else int(cut)])
    with pytest.raises(InputError, match=r"cut\.pth: is empty, cut short or no checkpoint"):
        read_known("cut.pth")


def known_as(name: str, **options: object):
    """What is known of a file of a name that holds such a network."""
    return known_of(Checkpoint(state_dict=hollow_weights(**options)), name)


def test_released_files_bring_their_classes():
    for file, weights in RELEASED.items():
        options = asdict(weights.architecture)
        if weights.architecture.model_depth == 50:
            assert known_as(file, **options).labels == weights.labels
        labels = weights.labels
        if labels is not None:
            assert len(set(labels)) == len(labels) == weights.architecture.n_classes
    merged = RELEASED["r3d50_KMS_200ep.pth"].labels
    assert merged is not None
    assert (merged[0][:2], merged[700][:2], merged[1039], merged[-1]) == ("K_", "M_", "S_0", "S_99")
    assert {"K_kissing", "M_kissing", "M_playing+music"} <= {*merged}
    assert RELEASED["r3d50_S_200ep.pth"].labels is None
    alone = RELEASED["r3d18_K_200ep.pth"].labels
    assert alone == [label.removeprefix("K_") for label in merged[:700]]


def test_another_network_under_a_released_name_is_not_called_so():
    known = known_as("r3d50_M_200ep.pth", n_classes=339, model_depth=34)
    assert (known.title, known.labels) == ("", None)


def test_files_of_2018():
    plain = known_as("models/resnet-34-kinetics.pth", model_depth=34, n_classes=400)
    clips = {"sample_size": 112, "sample_duration": 16, "sample_t_stride": 1}
    assert plain.assumed == {**OPTIONS_2018, **clips}
    assert plain.labels is not None
    assert (plain.labels[0], plain.labels[-1], len(plain.labels)) == ("abseiling", "zumba", 400)
    long = known_as("resnext-101-64f-kinetics.pth", model="resnext", model_depth=101, n_classes=400)
    assert long.assumed["sample_duration"] == 64
    tuned = known_as("resnet-50-kinetics-ucf101_split1.pth", model_depth=50, n_classes=101)
    assert tuned.assumed["value_scale"] == 255
    assert tuned.labels is None
    assert known_as("resnet-50-kinetics.pth", model_depth=34, n_classes=400).assumed == {}
    assert known_as("own.pth", model_depth=34, n_classes=400).assumed == {}
    then = {
        name: value
        for name, value in hollow_weights(model_depth=34, n_classes=400).items()
        if not name.endswith("num_batches_tracked")
    }
    assert known_of(Checkpoint(state_dict=then), "renamed.pth").assumed["value_scale"] == 255


def test_where_models_are_found(tmp_path: Path):
    write_hollow(tmp_path / "models/mine.pth")
    write_hollow(tmp_path / "there/a.pth")
    assert find_file("there/a.pth") == Path("there/a.pth")
    assert find_file("mine") == find_file("mine.pth") == Path("models/mine.pth")
    assert find_file("there/mine") is None
    assert find_file("torchvision:r3d_18") == Path("models/torchvision_r3d_18.pth")
    for name, reason in {"r2plus1d_18": "stem", "mc3_18": "time", "resnet18": "none of"}.items():
        with pytest.raises(InputError, match=rf"{reason}.*; accepted: torchvision:r3d_18"):
            find_file(f"torchvision:{name}")
    assert "r3d released says from where" in str(no_such_model("r3d50_K_200ep"))
    assert "nor is there models/x.pth" in str(no_such_model("x"))


def test_folders_and_what_stands_for_them(tmp_path: Path):
    """A folder of a training, `config.json`, and remedies for folders and names that are none."""
    write_hollow(tmp_path / "run/model.pth")
    write_hollow(tmp_path / "several/epoch_1.pth")
    write_hollow(tmp_path / "several/epoch_2.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "exported").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "exported" / name).touch()
    assert find_file("run") == find_file("run/") == Path("run/model.pth")
    weights = Path("exported/model.safetensors")
    assert find_file("exported") == find_file("exported/config.json") == weights
    assert find_file("several") is None
    proposed = str(no_such_model("several")).partition("give the file: ")[2].partition(",")[0]
    assert find_file(proposed) == Path("several/epoch_1.pth")
    assert "empty: a folder without model.pth" in str(no_such_model("empty"))
    for name in ("a.onnx", "a.pt2"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match="an export for other programs, which is not read"):
            find_file(name)
    assert "no such file; torchvision calls" in str(no_such_model("r3d_18"))
    proposed = str(no_such_model("r3d_18")).rpartition(" ")[2]
    assert find_file(proposed) == Path("models/torchvision_r3d_18.pth")
    assert "no extent in time" in str(no_such_model("mc3_18"))
    assert find_file("x" * 300) is None
    write_hollow(tmp_path / "model.pth")
    assert find_file("") is None


@pytest.mark.parametrize("kept", ["bare", "in a training's file"])
def test_torchvisions_weights_are_known_by_their_names(tmp_path: Path, kept: str):
    """A file of its own, or of a training that went on from there, and not of other networks."""

    def saved(network: torch.nn.Module) -> Path:
        state = {
            n: torch.zeros((), dtype=v.dtype).expand(v.shape)
            for n, v in network.state_dict().items()
        }
        if kept != "bare":
            state = {"epoch": 4, "state_dict": {f"module.{n}": v for n, v in state.items()}}
        torch.save(state, tmp_path / "a.pth")
        return tmp_path / "a.pth"

    with torch.device("meta"):
        networks = {name: getattr(video, name) for name in ("r3d_18", "mc3_18", "r2plus1d_18")}
        own, of_five = networks["r3d_18"](), networks["r3d_18"](num_classes=5)
        others = {name: networks[name]() for name in ("mc3_18", "r2plus1d_18")}
    known = read_known(saved(own))
    assert (known.architecture.no_max_pool, known.architecture.conv1_t_size) == (True, 3)
    assert known.labels == list(video.R3D_18_Weights.KINETICS400_V1.meta["categories"])
    options, notes = applied_options(known, {})
    assert (options.mean_dataset, options.sample_size, notes) == ("torchvision", 112, [])
    assert known.frames == {"short_side": 128, "fps": 15.0}
    assert known_of(read_checkpoint(saved(own)), "a.pth") == replace(known, file=Path("a.pth"))
    known = read_known(saved(of_five))
    assert (known.architecture.n_classes, known.labels) == (5, None)
    for name, network in others.items():
        for read in (read_known, read_checkpoint):
            with pytest.raises(InputError, match=rf"torchvision's {name}: .*; accepted: torchvi"):
                read(saved(network))


def test_torchvisions_network_has_the_same_logits():
    torch.manual_seed(0)
    theirs = video.r3d_18(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    checkpoint = fetching.converted("r3d_18", theirs.state_dict())
    assert checkpoint.architecture is not None
    ours = build_model(**asdict(checkpoint.architecture)).eval()
    load_weights(ours, checkpoint.state_dict, "r3d_18", architecture=checkpoint.architecture)
    clips = torch.randn(2, 3, 8, 48, 56)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clips), theirs(clips), rtol=1e-5, atol=1e-5)


def test_torchvisions_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no network
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot be downloaded") as caught:
        find_model("torchvision:r3d_18")
    assert "\n" not in str(caught.value)

    # As the message advises; the file is torchvision's, but for its values.
    place = Path(str(caught.value).rpartition("put it at ")[2])
    place.parent.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        shapes = video.r3d_18(weights=None).state_dict()
    weights = {n: torch.zeros((), dtype=v.dtype).expand(v.shape) for n, v in shapes.items()}
    place.write_bytes(b"cut short")
    with pytest.raises(InputError, match="cannot be downloaded or read"):
        find_model("torchvision:r3d_18")
    torch.save(weights, place)
    file = find_model("torchvision:r3d_18")
    state = file.stat()
    known = read_known(file)
    assert known.labels is not None
    assert (known.architecture.no_max_pool, known.labels[1]) == (True, "air drumming")
    assert known.config["mean_dataset"] == "torchvision"
    assert known.frames == {"short_side": 128, "fps": 15.0}
    assert find_model("torchvision:r3d_18").stat() == state
