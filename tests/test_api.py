"""The public names: light to import, each with a docstring that runs, and docs/library.md."""

import ast
import dataclasses
import doctest
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import example
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from running import ROOT
from torch.utils.data import DataLoader

import r3d
from r3d.clips.loader import make_loader
from r3d.clips.modelinput import model_input
from r3d.errors import InputError
from r3d.frames.form import FrameForm

NAMES = sorted({*r3d.__all__} - {"__version__"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docstrings")
    example.docstring_folder(path)
    return path


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_import_loads_nothing_heavy():
    heavy = "torch", "pandas", "numpy", "click", "pydantic", "av", "h5py"
    program = f"import sys, r3d; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "[]"


def test_the_names_are_those_that_type_checkers_see():
    tree = ast.parse(inspect.getsource(r3d))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in typed.body for alias in node.names]
    assert sorted([*names, "__version__"]) == sorted(r3d.__all__)
    assert sorted(r3d._MODULES) == sorted(names)
    for name in names:
        assert getattr(r3d, name).__module__ == f"r3d.{r3d._MODULES[name]}"
    assert set(r3d.__all__) <= set(dir(r3d))
    with pytest.raises(AttributeError, match="nonsense"):
        r3d.nonsense  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_docstring_runs(name: str, inside: Path):
    document = inspect.getdoc(getattr(r3d, name))
    examples = doctest.DocTestParser().get_doctest(document, {}, name, None, None)
    assert examples.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(examples).failed == 0


def test_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    example.demo_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/library.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 5
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), names)
    assert names["inputs"].shape[1:] == (3, 16, 64, 64)
    assert float(names["scores"].sum()) == pytest.approx(1)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert 0 <= float(printed[-1]) <= 1


def test_a_plain_loader_gives_the_batches_of_ours(inside: Path):
    samples = r3d.read_annotation("annotation.json", subset="training")
    options = r3d.TrainingOptions(sample_size=32)
    clips = r3d.TrainingClips(samples, r3d.open_store("frames"), options)
    sampler = r3d.EpochSampler(len(clips), seed=1, epoch=3)
    plain = DataLoader(
        clips, batch_size=3, sampler=sampler, collate_fn=r3d.collate_clips, num_workers=1
    )
    ours = make_loader(clips, sampler, batch_size=3)
    for one, other in zip(plain, ours, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_clips_by_number_vary_by_the_random_state(inside: Path):
    samples = r3d.read_annotation("annotation.json", subset="training")
    options = r3d.TrainingOptions(sample_size=32)
    clips = r3d.TrainingClips(samples, r3d.open_store("frames"), options)
    torch.manual_seed(5)
    views = [clips[0].views[0] for _ in range(3)]
    assert not torch.equal(views[0], views[1])
    torch.manual_seed(5)
    assert torch.equal(clips[0].views[0], views[0])
    assert clips[-1].video == len(clips) - 1
    assert len(list(clips)) == len(clips)
    loader = DataLoader(clips, batch_size=2)  # torch's own way to make batches does, too
    batch = next(iter(loader))
    assert batch.views[0].shape == (2, 16, 32, 32, 3)
    assert batch.label.tolist() == [0, 0]


def test_a_bad_frame_is_an_error_in_a_plain_loader(tmp_path: Path, inside: Path):
    shutil.copytree("frames", tmp_path / "frames")
    for frame in (tmp_path / "frames/left").rglob("*.jpg"):
        frame.write_bytes(b"")
    samples = r3d.read_annotation("annotation.json", subset="validation")
    clips = r3d.ValidationClips(
        samples, r3d.open_store(tmp_path / "frames"), r3d.TrainingOptions(sample_size=32)
    )
    with pytest.raises(InputError, match="is empty"):
        next(iter(DataLoader(clips, batch_size=2, collate_fn=r3d.collate_clips)))


def test_a_video_gives_the_input_that_its_frames_give(inside: Path):
    """`video_input` is extraction and inference in one."""
    model = r3d.load_model("model.pth", inference_stride=8)
    samples = r3d.read_annotation("annotation.json", subset="validation")
    clips = r3d.InferenceClips(samples, r3d.open_store("frames"), model.options)
    own = [clip for clip in clips if clip.video == 0]
    expected = model_input(r3d.collate_clips(own), model.options)
    found = model.video_input("video.avi", short_side=36)
    assert torch.equal(found, expected)


def test_other_frames_than_those_of_the_training_are_said(inside: Path, caplog):
    model = r3d.load_model("model.pth")
    trained = FrameForm(short_side=72, fps=25, rates=(25.0, 25.0))
    model = dataclasses.replace(model, frames=trained)
    for given in ({}, {"short_side": 72}, {"fps": 25}):
        model.selection(**given)
    assert not caplog.messages
    model.selection(short_side=36, fps=5)
    (line,) = caplog.messages
    for part in ("short side 36", "5 frames a second", "short side 72 and 25 frames a second"):
        assert part in line


def test_frames_give_the_input_that_their_jpegs_give(inside: Path):
    model = r3d.load_model("model.pth")
    jpegs = [p.read_bytes() for p in sorted(Path("frames/left/v_left_g01_c01").glob("*.jpg"))]
    frames = np.stack([simplejpeg.decode_jpeg(jpeg, fastupsample=True) for jpeg in jpegs])
    expected = model.video_input("video.avi", short_side=36)
    pictures = [Image.fromarray(frame) for frame in frames]
    for given in (frames, torch.from_numpy(frames), pictures, frames[:, ::-1][:, ::-1]):
        assert torch.equal(model.frames_input(given), expected)


def test_scores_are_those_of_inference(inside: Path, tmp_path: Path):
    model = r3d.load_model("model.pth")
    r3d.infer(
        model.options,
        annotation="annotation.json",
        frames="frames",
        model="model.pth",
        output=tmp_path / "result.json",
        run=r3d.RunOptions(n_threads=0),
    )
    result = json.loads((tmp_path / "result.json").read_text())["results"]["v_left_g01_c01"]
    best = model.best(model.video_input("video.avi", short_side=36))
    assert [label for label, _ in best] == [entry["label"] for entry in result]
    for (_, score), entry in zip(best, result, strict=True):
        assert score == pytest.approx(entry["score"], abs=1e-3)


def video_input(**options: float) -> torch.Tensor:
    return r3d.load_model("model.pth").video_input("video.avi", **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: r3d.load_model("nothing.pth"), "nothing.pth: no such file"),
        (lambda: r3d.load_model("annotation.json"), "no checkpoint"),
        (lambda: r3d.load_model("model.pth", stride=2), "stride: no option of a model; accepted: "),
        (lambda: r3d.load_model("model.pth", sample_size="x"), "sample_size"),
        (
            lambda: r3d.load_model("model.pth", model_depth=18),
            "has model_depth: 10; set that, or leave",
        ),
        (lambda: r3d.load_model("model.pth", no_mean_norm=True), "normalisation"),
        (lambda: r3d.load_model("model.pth").video_input("none.mp4"), "none.mp4: missing: no such"),
        (lambda: r3d.load_model("model.pth").video_input("annotation.json"), "annotation.json: "),
        *(
            (lambda n=name, v=value: video_input(**{n: v}), f"{name}: {value} is refused; accepted")
            for name, value in (("fps", 0), ("short_side", -5), ("start", -1), ("end", 0))
        ),
        (lambda: video_input(start=200, end=201), "video.avi: empty: no frame from 200 s to 201 s"),
        (
            lambda: r3d.load_model("model.pth").frames_input(np.zeros((4, 8, 8), np.uint8)),
            r"\(4, 8, 8\) of uint8; accepted: \(t, h, w, 3\)",
        ),
        (
            lambda: r3d.load_model("model.pth").frames_input(np.zeros((0, 8, 8, 3), np.uint8)),
            r"\(0, 8, 8, 3\) of uint8; accepted: .* one frame or more",
        ),
    ],
)
def test_what_is_refused(make, message: str, inside: Path):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_model_by_its_name(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "models").mkdir()
    os.link("model.pth", tmp_path / "models/mine.pth")
    monkeypatch.chdir(tmp_path)
    assert r3d.load_model("mine").labels == ["left", "right"]


def test_a_file_of_the_reference(inside: Path, tmp_path: Path):
    """It says neither classes nor clips: they are given, or the reference's defaults."""
    network = r3d.create_model("resnet", depth=18, n_classes=3)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 1, "arch": "resnet-18", "state_dict": state}, tmp_path / "save_1.pth")
    model = r3d.load_model(tmp_path / "save_1.pth", sample_size=40)
    assert model.labels is None
    assert model.options.model_depth == 18
    inputs = model.video_input("video.avi")
    assert inputs.shape == (2, 3, 16, 40, 40)
    assert sorted(label for label, _ in model.best(inputs)) == ["0", "1", "2"]


def test_type_checkers_know_the_names(tmp_path: Path):
    (tmp_path / "user.py").write_text("import r3d\n\nr3d.load_model('x').network\nr3d.load_modle\n")
    files = ["user.py", str(ROOT / "src/r3d/__init__.py")]
    command = [sys.executable, "-m", "mypy", "--follow-imports=skip", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1
    assert errors[0].startswith('user.py:4: error: Module has no attribute "load_modle"')
