"""Tuning: what is measured, what is taken, and the config file that comes of it."""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
import yaml
from running import ALL_OF_SNAKEMAKE, r3d, snakemake
from synthetic import write_frames

from r3d.annotations.reading import read_annotation
from r3d.config.config import Experiment
from r3d.config.loading import load_config
from r3d.errors import InputError
from r3d.frames.jpegs import frame_size
from r3d.frames.stores import open_store
from r3d.tuning.comparison import Comparison, compare
from r3d.tuning.fitting import MemoryModel, fewest_parts
from r3d.tuning.trials import (
    Inference,
    Loading,
    Steps,
    Subject,
    TrainingRun,
    Trial,
    bytes_of,
    copied_samples,
    inference_batch,
    scaled_down,
    smaller_side,
    training_batch,
)
from r3d.tuning.tune import tune
from r3d.tuning.tuned import Tuned

TINY: dict[str, Any] = {
    "model_depth": 10,
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "batch_size": 16,
    "n_threads": 1,
    "precision": "bf16",
    "no_cuda": True,
}


def experiment(**options: Any) -> Experiment:
    return Experiment(**{"dataset": "synthetic", **TINY, **options})


def subject_of(data: Path, **options: Any) -> Subject:
    samples = read_annotation(data / "annotation.json", subset="training")
    return Subject(
        experiment(**options),
        samples,
        samples,
        open_store(data / "jpg", "jpg"),
        torch.device("cpu"),
        n_cores=2,
        in_workflow=False,
    )


# What fits into memory


@pytest.mark.parametrize(("most_clips", "parts"), [(128, 1), (64, 2), (63, 4), (5, 32), (2, 64)])
def test_parts_double_until_they_fit(most_clips: int, parts: int):
    tried = []

    def run(n_parts: int) -> None:
        tried.append(n_parts)
        if -(-128 // n_parts) > most_clips:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert fewest_parts(run, first=1, batch_size=128) == parts
    assert tried == [2**i for i in range(len(tried))]


def test_parts_begin_with_those_asked_for():
    assert fewest_parts(lambda _: None, first=4, batch_size=128) == 4


def test_a_network_too_large_for_two_clips_is_refused():
    def run(_: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(InputError, match=r"batch_size: a batch of 10 clips .* 5 parts"):
        fewest_parts(run, first=1, batch_size=10)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def run(_: int) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fewest_parts(run, first=1, batch_size=8)


def test_memory_of_larger_batches_is_foretold():
    model = MemoryModel(limit=1000)
    for n_clips, peak in [(2, 300), (4, 320), (8, 360)]:
        model.add(n_clips, peak)
    assert model.predict(64) == 360 + 10 * 56
    model.require(72)
    with pytest.raises(torch.OutOfMemoryError):
        model.require(73)
    with pytest.raises(torch.OutOfMemoryError):
        model.require(72, extra=1)


# Trials


@pytest.mark.parametrize("n_threads", [0, 2])
@pytest.mark.parametrize("trial", [Loading, TrainingRun])
def test_trials_load_as_many_clips_as_they_say(
    data: Path, trial: type[Loading], n_threads: int, monkeypatch: pytest.MonkeyPatch
):
    subject = subject_of(data)
    run = trial(subject, experiment(n_threads=n_threads), 4)
    read: list[int] = []
    batches = Loading._batches

    def counted(self: Loading, n: int) -> Any:
        for batch in batches(self, n):
            read.append(len(batch.clips))
            yield batch

    monkeypatch.setattr(Loading, "_batches", counted)
    run.n_batches = 3
    assert run.turn() > 0
    unmeasured = 1 if trial is TrainingRun else max(1, n_threads)
    assert read == [4] * (3 + unmeasured)


def test_steps_and_inference_have_a_rate(data: Path):
    subject = subject_of(data)
    assert Steps(subject, subject.options, training_batch(subject, 30)).prepare(0.1) > 0
    batch = inference_batch(subject, 30)  # more than there are
    assert len(batch.clips) == 30
    assert Inference(subject, subject.options, batch).prepare(0.1) > 0


def test_clips_are_loaded_as_often_as_the_training_decodes_them(data: Path):
    subject = subject_of(data, crops_per_clip=2, n_threads=0)
    for batch in Loading(subject, subject.options, 4)._batches(3):
        assert sorted(Counter(batch.videos.tolist()).values()) == [2, 2]


def test_a_loss_that_is_not_finite_has_no_rate(data: Path):
    subject = subject_of(data)
    steps = Steps(subject, subject.options, training_batch(subject, 4))
    torch.nn.init.constant_(steps._step.state.network.fc.weight, float("nan"))
    assert steps.turn() == 0


def test_a_smaller_batch_is_computed_in_parts_of_the_same_size(data: Path):
    subject = subject_of(data, accumulate_steps=4)
    for size, parts in [(16, 4), (8, 2), (4, 1), (2, 1)]:
        steps = Steps(subject, subject.options, training_batch(subject, size))
        assert steps._step.options.accumulate_steps == parts


def test_frozen_layers_stay_frozen(data: Path):
    subject = subject_of(data, ft_begin_module="fc", pretrain_path="model.pth")
    network = Steps(subject, subject.options, training_batch(subject, 2))._step.state.network
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"fc.weight", "fc.bias"}


def test_copies_have_the_same_frames(data: Path):
    subject = subject_of(data)
    with copied_samples(subject) as subjects:
        read = [
            [subject.store.read(key, range(begin, end)) for key, begin, end in segments]
            for subject in (subject, subjects["jpg"], subjects["hdf5"])
            for segments in [
                zip(subject.samples.keys, subject.samples.begins, subject.samples.ends, strict=True)
            ]
        ]
        folder = subjects["jpg"].store.folder
        assert folder.is_relative_to(data / "jpg")
    assert read[0] == read[1] == read[2]
    assert not folder.exists()


def test_smaller_copies_are_scaled_and_the_frames_are_left_alone(data: Path):
    subject = subject_of(data)
    before = {path: path.read_bytes() for path in (data / "jpg").rglob("*.jpg")}
    assert smaller_side(subject) == 36  # of 48, for clips of 32
    with copied_samples(subject, 36) as subjects:
        smaller = subjects["jpg, short_side 36"]
        for key, begin, end in zip(
            smaller.samples.keys, smaller.samples.begins, smaller.samples.ends, strict=True
        ):
            jpegs = smaller.store.read(str(key), range(begin, end))
            assert {frame_size(jpeg) for jpeg in jpegs} == {(36, 48)}
            assert len(jpegs) == 12
        assert bytes_of(smaller) < 0.8 * bytes_of(subjects["jpg"])
    assert {path: path.read_bytes() for path in (data / "jpg").rglob("*.jpg")} == before


def test_frames_that_are_small_already_are_not_scaled(data: Path):
    assert smaller_side(subject_of(data, sample_size=36)) is None


def test_scaling_keeps_what_is_shown(data: Path):
    jpeg = next((data / "jpg").rglob("*.jpg")).read_bytes()
    larger = simplejpeg.decode_jpeg(jpeg, "RGB").mean((0, 1))
    smaller = simplejpeg.decode_jpeg(scaled_down(jpeg, 36), "RGB").mean((0, 1))
    assert np.abs(larger - smaller).max() < 1


# What is taken


Rate = Callable[[str, Experiment, int], float]


class FakeTrial(Trial):
    """A trial whose rate a function of the options and the kind of work tells."""

    def __init__(self, rate: Rate, kind: str, options: Experiment, size: int) -> None:
        self._rate, self.batch_size = partial(rate, kind, options, size), size

    def _work(self, n_batches: int) -> float:
        return self._rate()


@pytest.fixture
def tuned(data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuned]:
    """Tune with rates that a function tells, instead of real work."""

    def tune_with(rate: Rate, **options: Any) -> Tuned:
        for kind in ("Loading", "Steps", "TrainingRun", "Inference"):

            def make(_: Subject, options: Experiment, work: Any, kind: str = kind) -> FakeTrial:
                size = work if isinstance(work, int) else len(work.clips)
                return FakeTrial(rate, kind, options, size)

            monkeypatch.setattr(f"r3d.tuning.tune.{kind}", make)
        return tune(
            experiment(**options),
            annotation=data / "annotation.json",
            frames=data / "jpg",
            file_type="jpg",
            seconds=10,
            in_workflow=True,
        )

    return tune_with


def test_nothing_is_taken_where_nothing_gains(tuned: Callable[..., Tuned]):
    assert tuned(lambda *_: 1000.0).changes == {}


def test_gains_below_three_percent_are_not_taken(tuned: Callable[..., Tuned]):
    result = tuned(lambda _, options, size: 1000.0 + 20 * (options.precision == "fp32") - size)
    assert result.changes == {}


def test_a_setting_that_gains_is_taken(tuned: Callable[..., Tuned]):
    result = tuned(lambda kind, options, _: 2000.0 if options.precision == "fp32" else 1000.0)
    assert result.changes == {"precision": "fp32"}
    assert "  fp32: 2000, x 2.00 (2.00 to 2.00)" in result.reasons["precision"]


def test_smaller_frames_are_told_of_and_not_taken(
    data: Path, tuned: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
):
    def of_size(subject: Subject, options: Experiment, size: int) -> FakeTrial:
        key, begin = subject.samples.keys[0], int(subject.samples.begins[0])
        (jpeg,) = subject.store.read(str(key), [begin])
        rate = 1000 * 48 / min(frame_size(jpeg))
        return FakeTrial(lambda *_: rate, "Loading", options, size)

    tuned(lambda *_: 1000.0)  # puts the other trials in place
    monkeypatch.setattr("r3d.tuning.tune.Loading", of_size)
    result = tune(
        experiment(),
        annotation=data / "annotation.json",
        frames=data / "jpg",
        file_type="jpg",
        seconds=10,
        in_workflow=True,
    )
    assert result.changes == {}
    (note,) = [note for note in result.notes if "short_side" in note]
    assert note.startswith("frames extracted with short_side: 36 would be made into clips 1.3 ")
    assert any("jpg, short_side 36: 1333, x 1.33" in line for line in result.kept)


def test_settings_add_up(tuned: Callable[..., Tuned]):
    def rate(kind: str, options: Experiment, size: int) -> float:
        factor = {"fp32": 1.5}.get(options.precision, 1) * (1 + 0.5 * (options.n_threads == 0))
        return 1000 * factor * {"contiguous": 2.0}.get(options.memory_format, 1)

    wanted = {"precision": "fp32", "memory_format": "contiguous", "n_threads": 0}
    assert tuned(rate).changes == wanted


def test_a_step_that_gains_is_not_taken_if_the_training_does_not(tuned: Callable[..., Tuned]):
    def rate(kind: str, options: Experiment, size: int) -> float:
        return 2000.0 if kind == "Steps" and options.precision == "fp32" else 1000.0

    result = tuned(rate)
    assert result.changes == {}
    assert "training step by precision" in "\n".join(result.kept)


def test_what_gains_clearly_only_with_other_processes_is_taken(tuned: Callable[..., Tuned]):
    turns = itertools.count()

    def rate(kind: str, options: Experiment, size: int) -> float:
        if kind == "Steps":
            return 2000.0 if options.precision == "fp32" else 1000.0
        if kind == "Loading":
            return 2000.0 if options.n_threads == 0 else 1000.0
        if options.precision != "fp32":
            return 1000.0
        return 1200.0 if options.n_threads == 0 else 1000.0 + 300 * (next(turns) % 3)

    assert tuned(rate).changes == {"precision": "fp32", "n_threads": 0}


def test_noise_is_not_a_gain(tuned: Callable[..., Tuned]):
    rng = np.random.default_rng(0)

    def rate(kind: str, options: Experiment, size: int) -> float:
        return 1000.0 * (1.1 if options.precision == "fp32" else 1) * rng.uniform(0.5, 1.5)

    assert "precision" not in tuned(rate).changes


def test_a_setting_whose_loss_is_not_finite_is_not_taken(tuned: Callable[..., Tuned]):
    result = tuned(lambda _, options, __: 0.0 if options.precision == "fp32" else 1000.0)
    assert result.changes == {}
    assert "  fp32: the loss is not finite" in result.kept


def test_present_settings_whose_loss_is_not_finite_are_refused(tuned: Callable[..., Tuned]):
    with pytest.raises(InputError, match="not finite"):
        tuned(lambda kind, *_: 1000.0 if kind == "Loading" else 0.0)


def test_channels_last_in_bf16_is_tried_on_a_cpu_for_a_nan_there_is_mended(
    tuned: Callable[..., Tuned],
):
    def rate(kind: str, options: Experiment, size: int) -> float:
        both = (options.memory_format, options.precision) == ("channels_last", "bf16")
        return 2000.0 if kind in ("Steps", "TrainingRun") and both else 1000.0

    result = tuned(rate, precision="bf16")
    assert result.changes == {"memory_format": "channels_last"}


def test_inference_takes_the_fastest_batch(tuned: Callable[..., Tuned]):
    result = tuned(lambda kind, _, size: 1000.0 * (1 + (kind == "Inference" and size == 4)))
    assert result.changes == {"inference_batch_size": 4}


def test_more_parts_are_taken_where_they_gain(tuned: Callable[..., Tuned]):
    def rate(kind: str, options: Experiment, size: int) -> float:
        return 1000.0 * options.accumulate_steps

    # Four would be parts of four clips only, too few for batch norm.
    assert tuned(rate).changes == {"accumulate_steps": 2}


def test_a_batch_that_does_not_fit_is_computed_in_parts(
    tuned: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
):
    class Small(MemoryModel):
        def require(self, n_clips: int, *, extra: int = 0) -> None:
            if n_clips > 4:
                raise torch.OutOfMemoryError

    monkeypatch.setattr("r3d.tuning.tune.MemoryModel", Small)
    result = tuned(lambda *_: 1000.0)
    # Both changes are needed, not gains.
    assert result.changes == {"accumulate_steps": 4, "inference_batch_size": 4}
    assert "does not fit into memory" in result.reasons["accumulate_steps"][0]
    monkeypatch.setattr(Small, "require", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tuned(lambda *_: 1000.0)


def test_a_variant_that_does_not_work_is_refused():
    def fails() -> Trial:
        raise RuntimeError("no compiler\nand many more lines")

    def is_refused() -> Trial:
        raise InputError("compile: true needs a compiler")

    def is_too_large() -> Trial:
        raise torch.OutOfMemoryError

    def works() -> Trial:
        return FakeTrial(lambda *_: 1.0, "", experiment(), 1)

    variants = {"a": works, "b": fails, "c": is_too_large, "d": is_refused}
    comparison = compare("work", variants, baseline="a", seconds=0)
    assert comparison.refused == {
        "b": "does not work here (no compiler)",
        "c": "does not work here (not enough memory)",
        "d": "does not work here (compile: true needs a compiler)",
    }
    with pytest.raises(RuntimeError, match="no compiler"):
        compare("work", variants, baseline="b", seconds=0)


# The file


def save(path: Path, section: list[str], **changes: Any) -> None:
    rates = {"fp32": np.array([2.0, 2, 2]), "bf16": np.array([1.0, 1, 1])}
    result = Tuned("on the CPU", notes=["a note"])
    for option, value in changes.items():
        result.take(option, value, Comparison("steps", "bf16", rates).lines())
    result.keep(["work, clips/s:"])
    result.save(path, section, ["A title."])


def test_the_file_has_settings_and_figures(tmp_path: Path):
    path = tmp_path / "tuned.yaml"
    save(path, ["experiments", "base"], precision="fp32", n_threads=2)
    text = path.read_text()
    wanted = {"experiments": {"base": {"precision": "fp32", "n_threads": 2}}}
    assert yaml.safe_load(text) == wanted
    for part in (
        "# A title.",
        "torch 2.",
        "cores",
        "fp32: 2, x 2.00 (2.00 to 2.00)",
        "# Note: a note",
    ):
        assert part in text
    assert "changes the rounding of training" in text


def test_the_file_is_valid_without_changes(tmp_path: Path):
    path = tmp_path / "tuned.yaml"
    save(path, ["defaults"])
    assert yaml.safe_load(path.read_text()) == {"defaults": {}}


CONFIG: dict[str, Any] = {
    "datasets": {
        "motion": {
            "format": "ucf101",
            "render": {"videos_per_class": 4, "n_frames": 12},
            "lists": "data/lists",
            "videos": "data/videos",
            "frames": "data/jpg",
            "splits": ["01"],
            "short_side": 36,
            "shards": 2,
        }
    },
    "defaults": {"dataset": "motion", **TINY},
    "experiments": {
        "base": {"n_threads": 0},
        "other": None,
        "applied": {"pretrain": "base", "no_train": True},
    },
}


def write_config(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def threads_by_experiment(output: str) -> dict[str, int]:
    """The cores of each training in a dry run, which names those of more than one."""
    jobs = [job for job in re.split(r"\n\[", output) if "rule train_model:" in job]
    threads = {}
    for job in jobs:
        experiment = re.search(r"experiment=(\w+)", job)[1]
        found = re.search(r"threads: (\d+)", job)
        threads[experiment] = int(found[1]) if found else 1
    return threads


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("section", "threads"),
    [
        (["experiments", "base"], {"base": 4, "other": 2}),
        (["experiments", "other"], {"base": 1, "other": 4}),
        (["defaults"], {"base": 1, "other": 4}),  # what an experiment says itself stays
    ],
)
def test_the_workflow_takes_the_file(tmp_path: Path, section: list[str], threads: dict[str, int]):
    write_config(tmp_path)
    save(
        tmp_path / "tuned.yaml", section, n_threads=3, precision="fp32", memory_format="contiguous"
    )
    options = [str(tmp_path / "tuned.yaml"), "--dry-run", "--cores", "8", *ALL_OF_SNAKEMAKE]
    process = snakemake(tmp_path, tmp_path / "config.yaml", options=options)
    assert process.returncode == 0, process.stdout + process.stderr
    assert threads_by_experiment(process.stdout) == threads


@pytest.mark.workflow
def test_a_config_is_tuned_with_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # To compile takes most of the time; it is done where options are tuned by hand.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    write_config(tmp_path)
    arguments = ["tune", "--configfile", "config.yaml", "--seconds", "3"]
    refused = r3d(tmp_path, *arguments, "--experiment", "base")
    assert refused.returncode == 1
    assert "run first: snakemake annotations --cores" in refused.stderr
    assert "Traceback" not in refused.stderr

    made = snakemake(tmp_path, tmp_path / "config.yaml", "annotations")
    assert made.returncode == 0, made.stderr
    process = r3d(tmp_path, *arguments, "--experiment", "base")
    assert process.returncode == 0, process.stderr
    text = (tmp_path / "tuned.yaml").read_text()
    assert process.stdout == text
    changes = yaml.safe_load(text)["experiments"]["base"]
    load_config({**CONFIG, "experiments": {"base": changes}})
    for what in ("n_threads", "precision", "inference_batch_size", "file_type", "together"):
        assert what in text
    assert not (tmp_path / "data/jpg/.partial").exists() or not any(
        (tmp_path / "data/jpg/.partial").iterdir()
    )
    options = [str(tmp_path / "tuned.yaml"), "--dry-run"]
    dry = snakemake(tmp_path, tmp_path / "config.yaml", options=options)
    assert dry.returncode == 0, dry.stdout + dry.stderr


def test_options_are_tuned_by_hand(data: Path, tmp_path: Path):
    flags = [f"--{name}={value}" for name, value in TINY.items() if value is not True]
    paths = ["--annotation_path", str(data / "annotation.json"), "--video_path", str(data / "jpg")]
    process = r3d(tmp_path, "tune", *paths, *flags, "--no_cuda", "--seconds", "3")
    assert process.returncode == 0, process.stderr
    changes = yaml.safe_load((tmp_path / "tuned.yaml").read_text())["defaults"]
    experiment(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --configfile and --experiment"),
        (["--configfile", "config.yaml"], "--experiment: None is not one of .* base, other"),
        (["--configfile", "config.yaml", "--experiment", "x"], "'x' is not one of .* base, other"),
        (["--configfile", "config.yaml", "--experiment", "applied"], "experiments that train"),
        (
            ["--configfile", "config.yaml", "--experiment", "base", "--split", "02"],
            "--split: '02' is not one of '01'",
        ),
        (
            ["--configfile", "config.yaml", "--experiment", "base", "--batch_size", "4"],
            "--batch_size goes without --configfile only",
        ),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, arguments: list[str], message: str):
    write_config(tmp_path)
    process = r3d(tmp_path, "tune", *arguments)
    assert process.returncode == 1
    assert re.search(message, process.stderr), process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_merged_data_is_tuned_once_it_is_there(tmp_path: Path):
    (motion,) = CONFIG["datasets"].values()
    config = {
        "datasets": {"motion": motion, "more": {**motion, "frames": "data/more"}},
        "merged": {"both": ["motion", "more"]},
        "experiments": {"base": {"dataset": "both"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    process = r3d(tmp_path, "tune", "--configfile", "config.yaml", "--experiment", "base")
    assert process.returncode == 1
    assert "run first: snakemake annotations" in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_missing_frames_are_named(tmp_path: Path):
    write_frames(tmp_path)
    for path in (tmp_path / "jpg/up/up_0").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"up_0.*extract the video again"):
        tune(
            experiment(n_threads=0),
            annotation=tmp_path / "annotation.json",
            frames=tmp_path / "jpg",
            file_type="jpg",
            seconds=2,
            in_workflow=False,
        )
