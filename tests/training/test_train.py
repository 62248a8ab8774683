"""Training: it learns, it resumes exactly, its options do what they say."""

import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from oddities import accepts_or_says_why
from synthetic import LABELS, TINY, assert_same_training, write_frames
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from r3d.compute import device
from r3d.config.options import RunOptions, TrainingOptions
from r3d.errors import InputError
from r3d.models.building import build_model
from r3d.models.checkpoint import read_checkpoint
from r3d.training.runfolder import fingerprint
from r3d.training.schedule import make_schedule
from r3d.training.step import TrainStep
from r3d.training.train import Training, train


def fit(
    data: Path,
    output: Path,
    n_threads: int = 0,
    tensorboard: bool = False,
    checkpoint: int = 1,
    compile: bool = False,
    memory_format: Any = "auto",
    deterministic: bool = False,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """Train and return the weights of the final model."""
    run = RunOptions(
        n_threads=n_threads,
        checkpoint=checkpoint,
        no_cuda=True,
        tensorboard=tensorboard,
        memory_format=memory_format,
        compile=compile,
        deterministic=deterministic,
    )
    chosen = TrainingOptions(**{**TINY, **options})
    train(
        chosen,
        annotation=data / "annotation.json",
        frames=data / "jpg",
        file_type="jpg",
        pretrained=Path(chosen.pretrain_path) if chosen.pretrain_path else None,
        checkpoints=output / "checkpoints",
        model=output / "model.pth",
        train_log=output / "train.log",
        val_log=output / "val.log",
        run=run,
        n_cores=1,
    )
    return read_checkpoint(output / "model.pth").state_dict


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def initial_weights() -> dict[str, torch.Tensor]:
    """What a training of `TINY` begins with."""
    torch.manual_seed(TrainingOptions().manual_seed)
    options = {"model": "resnet", "model_depth": 10, "resnet_widen_factor": 0.0625}
    return build_model(**options, n_classes=2).state_dict()


def run_folder(output: Path) -> Path:
    (folder,) = [path for path in (output / "checkpoints").iterdir() if path.is_dir()]
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    fit(data, output)
    return output


def test_it_learns(tmp_path: Path):
    write_frames(tmp_path, n_training=32, n_validation=8)
    options = {"resnet_widen_factor": 0.125, "batch_size": 8, "train_crop": "center"}
    fit(tmp_path, tmp_path / "out", n_epochs=10, multistep_milestones=[7], **options)
    log = pd.read_csv(tmp_path / "out/val.log", sep="\t")
    assert log["acc"].iloc[-1] >= 0.9


def test_logs_have_the_columns_of_the_reference(undisturbed: Path):
    read = {name: pd.read_csv(undisturbed / name, sep="\t") for name in ("train.log", "val.log")}
    assert list(read["train.log"].columns) == ["epoch", "loss", "acc", "lr"]
    assert list(read["val.log"].columns) == ["epoch", "loss", "acc"]
    batches = pd.read_csv(run_folder(undisturbed) / "train_batch.log", sep="\t")
    assert list(batches.columns) == ["epoch", "batch", "iter", "loss", "acc", "lr"]
    assert batches["iter"].tolist() == list(range(1, 16))
    assert read["train.log"]["epoch"].tolist() == read["val.log"]["epoch"].tolist() == [1, 2, 3]


def test_checkpoint_describes_itself(undisturbed: Path):
    content = torch.load(undisturbed / "model.pth", weights_only=True)
    assert content["arch"] == "resnet-10"
    assert content["epoch"] == 3
    assert content["labels"] == LABELS
    assert content["config"]["sample_duration"] == 8
    assert content["normalisation"]["mean"] == [0.4345, 0.4051, 0.3775]


def test_workers_do_not_change_the_result(data: Path, undisturbed: Path, tmp_path: Path):
    weights = fit(data, tmp_path, n_threads=2)
    assert_equal(weights, read_checkpoint(undisturbed / "model.pth").state_dict)


@pytest.mark.parametrize("n_threads", [0, 2])
def test_the_same_options_and_seed_give_the_same_bytes(
    data: Path, undisturbed: Path, tmp_path: Path, n_threads: int
):
    torch.rand(7)  # the random state of the caller counts for nothing
    fit(data, tmp_path, n_threads=n_threads)
    for name in ("model.pth", "train.log", "val.log"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name
    for path in run_folder(undisturbed).glob("*.pth"):
        assert (run_folder(tmp_path) / path.name).read_bytes() == path.read_bytes(), path.name
    fit(data, tmp_path / "other", manual_seed=2)
    assert (tmp_path / "other/model.pth").read_bytes() != (tmp_path / "model.pth").read_bytes()


def test_deterministic_is_asked_of_torch_and_changes_no_bit_on_a_cpu(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch
):
    found = []

    class Step(TrainStep):
        def __call__(self, *arguments: Any, **options: Any) -> torch.Tensor:
            algorithms = torch.are_deterministic_algorithms_enabled()
            cudnn = torch.backends.cudnn
            found.append((algorithms, cudnn.deterministic, not cudnn.benchmark))
            return super().__call__(*arguments, **options)

    monkeypatch.setattr("r3d.training.train.TrainStep", Step)
    fit(data, tmp_path, deterministic=True)
    assert set(found) == {(True, True, True)}
    found.clear()
    for name in ("model.pth", "train.log", "val.log"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name
    fit(data, tmp_path / "without", n_epochs=1)
    assert set(found) == {(False, False, False)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", ["resnet", "resnet2p1d", "densenet"])
def test_deterministic_gives_the_same_bits_on_a_gpu(data: Path, tmp_path: Path, model: str):
    """In processes of their own, as CUDA must not be in use before."""
    options: dict[str, Any] = {"model": model, "sample_size": 64, "mixup_alpha": 0.2}
    if model == "densenet":
        options |= {"model_depth": 121, "resnet_widen_factor": 1.0}
    for name in ("one", "other"):
        words = command(data, tmp_path / name, **options)
        words.remove("--no_cuda")
        subprocess.run([*words, "--deterministic"], check=True)
    one, other = (run_folder(tmp_path / name) / "latest.pth" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_the_memory_layout_changes_rounding_only(data: Path, tmp_path: Path):
    # A single step: over several ones rounding grows, with as few clips as here.
    one = fit(data, tmp_path / "a", n_epochs=1, batch_size=18)
    other = fit(data, tmp_path / "b", n_epochs=1, batch_size=18, memory_format="contiguous")
    assert any(not torch.equal(one[name], other[name]) for name in one)  # it was another one
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)


def test_finished_training_only_writes_its_results(data: Path, undisturbed: Path, tmp_path: Path):
    before = read_checkpoint(undisturbed / "model.pth").state_dict
    (undisturbed / "model.pth").rename(tmp_path / "model.pth")
    started = time.monotonic()
    latest = (run_folder(undisturbed) / "latest.pth").stat().st_mtime_ns
    assert_equal(fit(data, undisturbed), before)
    assert (run_folder(undisturbed) / "latest.pth").stat().st_mtime_ns == latest
    assert time.monotonic() - started < 60


def test_more_epochs_go_on_from_the_state(data: Path, tmp_path: Path):
    fit(data, tmp_path / "a", n_epochs=1)
    prolonged = fit(data, tmp_path / "a", n_epochs=2)
    assert_equal(prolonged, fit(data, tmp_path / "b", n_epochs=2))


def test_fewer_epochs_take_the_kept_checkpoint(data: Path, undisturbed: Path, tmp_path: Path):
    two = fit(data, tmp_path, n_epochs=2)
    fit(data, tmp_path, n_epochs=3)
    assert_equal(fit(data, tmp_path, n_epochs=2), two)


def command(data: Path, output: Path, **options: Any) -> list[str]:
    values = {**TINY, **options}
    flags = [f"--{name}" for name, value in values.items() if value is True]
    pairs = [f"--{name}={value}" for name, value in values.items() if value is not True]
    paths = [
        f"--annotation_path={data / 'annotation.json'}",
        f"--video_path={data / 'jpg'}",
        f"--result_path={output}",
    ]
    run = ["--n_threads=1", "--no_cuda", "--checkpoint=100"]
    # On one core, as `fit` computes: how many there are changes the rounding.
    one_core = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    return [*one_core, sys.executable, "-m", "r3d", "train", *paths, *run, *flags, *pairs]


def wait_for_steps(output: Path, n: int) -> None:
    """Wait until the training has logged `n` steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in output.glob("checkpoints/*/train_batch.log"):
            if len(log.read_text().splitlines()) > n:
                return
        time.sleep(0.02)
    pytest.fail("the training does not get on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_training_goes_on_as_if_never_stopped(
    data: Path, tmp_path: Path, number: signal.Signals
):
    options = {
        **{"n_epochs": 16, "ema_decay": 0.9, "lr_scheduler": "cosine", "warmup_epochs": 2},
        **{"dropout": 0.2, "stochastic_depth": 0.3, "class_balance": 0.5},
    }
    process = subprocess.Popen(command(data, tmp_path / "a", **options), stderr=subprocess.PIPE)
    wait_for_steps(tmp_path / "a", 20)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode != 0
    assert not (tmp_path / "a/model.pth").exists(), "the training was over before the signal came"
    assert "Traceback" not in errors
    resumed = fit(data, tmp_path / "a", **options)
    assert_equal(resumed, fit(data, tmp_path / "b", **options))
    for name in ("train.log", "val.log"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    for name in ("a", "b"):
        batches = pd.read_csv(run_folder(tmp_path / name) / "train_batch.log", sep="\t")
        assert batches["iter"].tolist() == list(range(1, 16 * 5 + 1))


def test_a_killed_worker_loses_no_step(data: Path, tmp_path: Path):
    options = {"n_epochs": 40}
    process = subprocess.Popen(command(data, tmp_path / "a", **options), stderr=subprocess.PIPE)
    wait_for_steps(tmp_path / "a", 12)
    for worker in psutil.Process(process.pid).children()[:1]:
        worker.kill()
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "a worker was killed" in line
    assert line.endswith("the state is saved")
    log = (run_folder(tmp_path / "a") / "train_batch.log").read_text().splitlines()
    state = read_checkpoint(run_folder(tmp_path / "a") / "latest.pth").training
    assert int(log[-1].split("\t")[2]) == 5 * state["epoch"] + state["step"]
    assert_equal(fit(data, tmp_path / "a", **options), fit(data, tmp_path / "b", **options))


def test_sigterm_loses_no_step(data: Path, tmp_path: Path):
    process = subprocess.Popen(command(data, tmp_path, n_epochs=50), stderr=subprocess.PIPE)
    wait_for_steps(tmp_path, 12)
    process.terminate()
    process.communicate(timeout=60)
    state = read_checkpoint(run_folder(tmp_path) / "latest.pth").training
    log = (run_folder(tmp_path) / "train_batch.log").read_text().splitlines()
    assert [str(state["epoch"] + 1), str(state["step"])] == log[-1].split("\t")[:2] or (
        state["step"] == 0 and log[-1].split("\t")[:2] == [str(state["epoch"]), "5"]
    )


def test_a_second_process_is_kept_out(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("r3d.training.runfolder._LOCK_SECONDS", 0.1)
    process = subprocess.Popen(command(data, tmp_path, n_epochs=1000), stderr=subprocess.PIPE)
    try:
        wait_for_steps(tmp_path, 1)
        with pytest.raises(InputError, match="another process trains here"):
            fit(data, tmp_path, n_epochs=1000)
    finally:
        process.kill()
        process.communicate()


def test_finished_training_of_other_code_is_kept_and_done_again(
    data: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("r3d.training.train.code_version", lambda _: "old")
    fit(data, tmp_path, n_epochs=1)
    monkeypatch.setattr("r3d.training.train.code_version", lambda _: "new")
    fit(data, tmp_path, n_epochs=1)
    names = {path.name.partition(".")[2] for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"", "lock", "old"}


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(data: Path, tmp_path: Path):
    """Frozen batch norms make the parts independent: only then are both the same."""
    fit(data, tmp_path / "base", n_epochs=1)
    tune = {"pretrain_path": str(tmp_path / "base/model.pth"), "ft_begin_module": "fc"}
    whole = fit(data, tmp_path / "whole", **tune)
    parts = fit(data, tmp_path / "parts", **tune, accumulate_steps=3)
    torch.testing.assert_close(parts["fc.weight"], whole["fc.weight"], rtol=1e-4, atol=1e-6)


# One step without momentum and decay: what the weights move by is the gradient times the rate.
ONE_STEP = {"n_epochs": 1, "batch_size": 32, "momentum": 0.0, "weight_decay": 0.0, "no_val": True}


def one_step(data: Path, output: Path, **options: Any) -> dict[str, torch.Tensor]:
    """The gradient of each parameter."""
    after = fit(data, output, **ONE_STEP, **options)
    before = initial_weights()
    return {
        name: (before[name] - after[name]) / TINY["learning_rate"]
        for name in after
        if name.endswith((".weight", ".bias"))
    }


def test_gradients_above_a_norm_are_scaled_down_to_it(data: Path, tmp_path: Path):
    plain = one_step(data, tmp_path / "plain")
    norm = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
    clipped = one_step(data, tmp_path / "clipped", clip_grad_norm=0.1 * float(norm))
    for name, gradient in plain.items():
        torch.testing.assert_close(clipped[name], 0.1 * gradient, rtol=0.01, atol=1e-5)
    untouched = one_step(data, tmp_path / "untouched", clip_grad_norm=10 * float(norm))
    assert_equal(untouched, plain)


def test_label_smoothing_spreads_a_share_of_the_target(tmp_path: Path):
    """The gradient of the last bias is the mean of softmax minus target."""
    write_frames(tmp_path, n_training=4, n_validation=1)
    path = tmp_path / "annotation.json"
    annotation = json.loads(path.read_text())
    for number in (1, 2, 3):  # 4 videos of the first class and 1 of the second
        annotation["database"][f"{LABELS[1]}_{number}"]["subset"] = "testing"
    path.write_text(json.dumps(annotation))
    plain = one_step(tmp_path, tmp_path / "plain")["fc.bias"]
    smooth = one_step(tmp_path, tmp_path / "smooth", label_smoothing=0.5)["fc.bias"]
    # Targets of 4/5 and 1/5 on average become 1/2 * 4/5 + 1/2 * 1/2 and so on.
    expected = torch.tensor([0.8 - 0.65, 0.2 - 0.35])
    torch.testing.assert_close(smooth - plain, expected, rtol=1e-3, atol=1e-3)


def test_fine_tuning_moves_nothing_before_its_module(data: Path, tmp_path: Path):
    before = fit(data, tmp_path / "base", n_epochs=1)
    tune = {"pretrain_path": str(tmp_path / "base/model.pth"), "ft_begin_module": "layer4"}
    after = fit(data, tmp_path / "tuned", **tune, n_epochs=1)
    for name in before:
        moved = not torch.equal(before[name], after[name])
        assert moved == name.startswith(("layer4", "fc")), name


def test_weight_averages_follow_the_weights_slowly(data: Path, tmp_path: Path):
    plain = fit(data, tmp_path / "plain", n_epochs=1)
    average = fit(data, tmp_path / "average", n_epochs=1, ema_decay=0.99)
    first = initial_weights()["fc.weight"]
    assert 0 < (average["fc.weight"] - first).norm() < 0.5 * (plain["fc.weight"] - first).norm()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "learning_rate": 1e-3},
        {"lr_scheduler": "plateau", "plateau_patience": 0},
        {"nesterov": True},
        {"label_smoothing": 0.1},
        {"dropout": 0.5},
        {"stochastic_depth": 0.5, "accumulate_steps": 2},
        {"mixup_alpha": 0.4},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "accumulate_steps": 2},
        {"clip_grad_norm": 0.1},
        {"precision": "bf16"},
        {"train_crop": "corner", "train_t_crop": "center"},
        {"colorjitter": True},
        {"no_hflip": False},
        {"randaugment": 9},
        {"sample_t_stride": 2, "value_scale": 255, "no_std_norm": True, "mean_dataset": "0.5"},
        {"frozen": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_option_changes_the_training(data: Path, undisturbed: Path, tmp_path: Path, options):
    weights = fit(data, tmp_path, **options)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    plain = read_checkpoint(undisturbed / "model.pth").state_dict
    assert not torch.equal(weights["conv1.weight"], plain["conv1.weight"])


def test_best_model_is_that_of_the_best_epoch(data: Path, tmp_path: Path):
    fit(data, tmp_path, n_epochs=6, final_model="best", learning_rate=0.3)
    log = pd.read_csv(tmp_path / "val.log", sep="\t")
    best = log.sort_values(["acc", "loss"], ascending=[False, True])["epoch"].iloc[0]
    model = read_checkpoint(tmp_path / "model.pth")
    assert model.epoch == best
    kept = read_checkpoint(run_folder(tmp_path) / f"save_{best}.pth")
    assert_equal(model.state_dict, kept.state_dict)


@pytest.mark.parametrize("checkpoint", [1, 3, 100])
def test_best_of_fewer_epochs_is_none_of_later_ones(
    data: Path, tmp_path: Path, checkpoint: int, monkeypatch
):
    """Whether the weights of that epoch are kept, those of one before it, or none."""
    accuracies = [0.2, 0.3, 0.2, 0.5, 0.4, 0.3, 0.9, 0.1]

    def validate(training: Training, batches: object) -> tuple[float, float]:
        return 1.0, accuracies[training.state.progress.epoch]

    monkeypatch.setattr(Training, "_validate", validate)

    def best(output: Path, n_epochs: int) -> dict[str, torch.Tensor]:
        return fit(data, output, n_epochs=n_epochs, checkpoint=checkpoint, final_model="best")

    whole = best(tmp_path / "a", 8)
    log = (tmp_path / "a/val.log").read_text()
    assert read_checkpoint(tmp_path / "a/model.pth").epoch == 7
    fewer = best(tmp_path / "a", 6)
    assert read_checkpoint(tmp_path / "a/model.pth").epoch == 4
    assert_equal(fewer, best(tmp_path / "b", 6))
    for name in ("train.log", "val.log"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    assert_equal(best(tmp_path / "a", 8), whole)
    assert (tmp_path / "a/val.log").read_text() == log


def test_best_after_resume_path_is_one_trained_here(data: Path, tmp_path: Path):
    """The best epoch of the file, say its first, has left its weights elsewhere."""
    fit(data, tmp_path / "a", n_epochs=1)
    path = run_folder(tmp_path / "a") / "latest.pth"
    content = torch.load(path, weights_only=True)
    content["training"] |= {"best_accuracy": 2.0, "best_epoch": 1}
    torch.save(content, tmp_path / "save_1.pth")
    options = {"final_model": "best", "resume_path": str(tmp_path / "save_1.pth")}
    fit(data, tmp_path / "b", n_epochs=3, **options)
    assert read_checkpoint(tmp_path / "b/model.pth").epoch in (2, 3)
    fit(data, tmp_path / "c", n_epochs=1, **options)
    assert read_checkpoint(tmp_path / "c/model.pth").epoch == 1


def test_resume_path_takes_weights_optimizer_and_epoch(data: Path, tmp_path: Path):
    fit(data, tmp_path / "a", n_epochs=2)
    kept = run_folder(tmp_path / "a") / "save_1.pth"
    resumed = fit(data, tmp_path / "b", n_epochs=2, resume_path=str(kept))
    assert_equal(resumed, read_checkpoint(tmp_path / "a/model.pth").state_dict)


def test_a_fine_tuning_goes_on_in_the_reference(data: Path, tmp_path: Path):
    """Its optimiser has a group for each parameter from the module on, and so has the file."""
    fit(data, tmp_path / "base", n_epochs=1)
    tune = {"pretrain_path": str(tmp_path / "base/model.pth"), "ft_begin_module": "layer4"}
    fit(data, tmp_path / "tuned", **tune, n_epochs=2)
    content = torch.load(run_folder(tmp_path / "tuned") / "save_2.pth", weights_only=True)
    options = TrainingOptions(**{**TINY, **tune})
    network = build_model(n_classes=2, **options.network())
    network.load_state_dict(content["state_dict"])
    names = [name for name, _ in network.named_parameters() if name.startswith(("layer4", "fc"))]
    parameters = dict(network.named_parameters())
    groups = [{"params": parameters[name]} for name in names]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    optimizer.load_state_dict(content["optimizer"])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50])
    scheduler.load_state_dict(content["scheduler"])
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    for name in names:
        buffer = optimizer.state[parameters[name]]["momentum_buffer"]
        assert buffer.shape == parameters[name].shape
        assert buffer.any()
    scheduler.step()


@pytest.fixture
def bf16_is(monkeypatch):
    """Let a measurement of this machine find bf16 so many times as fast as fp32 from now on."""

    def now(speedup: float) -> None:
        monkeypatch.setattr(device, "bf16_speedup", lambda *_, **__: speedup)

    return now


def test_a_training_goes_on_in_the_precision_that_it_began_with(
    data: Path, tmp_path: Path, bf16_is, caplog
):
    caplog.set_level(logging.INFO)
    bf16_is(2.0)
    whole = fit(data, tmp_path / "whole", n_epochs=2, precision="auto")
    fit(data, tmp_path / "moved", n_epochs=1, precision="auto")
    bf16_is(0.7)  # another machine, or another version of torch
    caplog.clear()
    moved = fit(data, tmp_path / "moved", n_epochs=2, precision="auto")
    assert_equal(moved, whole)
    assert "precision: bf16, in which the training began; a new one would compute in fp32" in (
        caplog.text
    )
    for path in (tmp_path / "moved/model.pth", run_folder(tmp_path / "moved") / "latest.pth"):
        assert read_checkpoint(path).config["precision"] == "bf16"
    # As it is where nothing changes: the layout goes with the precision, and the bits with both.
    assert_equal(fit(data, tmp_path / "asked", n_epochs=2, precision="bf16"), whole)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("auto", "precision: bf16, in which the training began; a new one would compute in fp32"),
        ("fp32", "precision: fp32 from here on; it was bf16"),
        ("bf16", ""),
    ],
)
def test_resume_path_says_where_the_precision_changes(
    data: Path, tmp_path: Path, bf16_is, caplog, asked: str, said: str
):
    caplog.set_level(logging.INFO)
    fit(data, tmp_path / "first", n_epochs=1, precision="bf16")
    bf16_is(0.7)
    caplog.clear()
    fit(
        data,
        tmp_path / "second",
        **{"n_epochs": 2, "precision": asked, "learning_rate": 0.01},
        resume_path=str(run_folder(tmp_path / "first") / "latest.pth"),
    )
    lines = [line for line in caplog.messages if re.match("precision: (bf16|fp32)", line)]
    assert [line.startswith(said) for line in lines] == ([True] if said else [])
    used = "fp32" if asked == "fp32" else "bf16"
    assert read_checkpoint(tmp_path / "second/model.pth").config["precision"] == used


def test_resume_path_is_followed_where_there_is_a_state_too(data: Path, tmp_path: Path):
    """Of no resume_path, or of another one; and the same again goes on with its own."""
    fit(data, tmp_path / "a", n_epochs=1)
    fit(data, tmp_path / "b", n_epochs=1, learning_rate=0.04)
    kept = {name: str(run_folder(tmp_path / name) / "save_1.pth") for name in ("a", "b")}
    plain = fit(data, tmp_path / "out", n_epochs=2)
    options = {"n_epochs": 2, "multistep_milestones": [50, 100, 150]}
    from_a = fit(data, tmp_path / "out", resume_path=kept["a"], **options)
    from_b = fit(data, tmp_path / "out", resume_path=kept["b"], **options)
    assert_equal(from_a, plain)
    assert not torch.equal(from_b["fc.weight"], from_a["fc.weight"])
    assert_equal(from_b, fit(data, tmp_path / "fresh", resume_path=kept["b"], **options))
    assert_equal(fit(data, tmp_path / "out", resume_path=kept["a"], **options), from_a)
    log = pd.read_csv(tmp_path / "out/train.log", sep="\t")
    assert log["epoch"].tolist() == [2]


def test_resume_path_of_more_epochs_is_refused(data: Path, undisturbed: Path, tmp_path: Path):
    kept = str(run_folder(undisturbed) / "save_3.pth")
    with pytest.raises(InputError, match="has done 3 epochs, which is more than n_epochs: 2"):
        fit(data, tmp_path, n_epochs=2, resume_path=kept)
    assert not (tmp_path / "model.pth").exists()
    with pytest.raises(InputError, match=r"resume_path: 'no\.pth' is no file"):
        fit(data, tmp_path, resume_path="no.pth")


def test_resume_path_within_an_epoch_of_other_batches_is_refused(data: Path, tmp_path: Path):
    process = subprocess.Popen(command(data, tmp_path / "a", n_epochs=99), stderr=subprocess.PIPE)
    wait_for_steps(tmp_path / "a", 7)
    process.terminate()
    process.communicate(timeout=60)
    path = run_folder(tmp_path / "a") / "latest.pth"
    content = torch.load(path, weights_only=True)
    content["training"] |= {"step": 3, "seen": 12}
    torch.save(content, path)
    with pytest.raises(InputError, match="does not fit batches of 6 of 18 clips"):
        fit(data, tmp_path / "b", n_epochs=99, batch_size=6, resume_path=str(path))


def test_a_state_of_an_earlier_version_that_followed_a_file_is_asked_about(
    data: Path, undisturbed: Path, tmp_path: Path
):
    """It did not note which; without resume_path the training goes on."""
    kept = str(run_folder(undisturbed) / "save_1.pth")
    result = fit(data, tmp_path, resume_path=kept)
    options = TrainingOptions(**TINY)
    earlier = tmp_path / "checkpoints" / fingerprint(options, [data / "annotation.json"])
    run_folder(tmp_path).rename(earlier)
    with pytest.raises(InputError, match="leave resume_path out"):
        fit(data, tmp_path, resume_path=kept)
    assert_equal(fit(data, tmp_path), result)
    assert not earlier.exists()  # its state was gone on from, under its present name
    run_folder(tmp_path)


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["cut", "empty", "flipped"])
@pytest.mark.parametrize("damaged", [["latest"], ["latest", "previous", "best"]], ids=len)
def test_a_damaged_state_is_passed_over(
    data: Path, undisturbed: Path, tmp_path: Path, kind: str, damaged: list[str], caplog
):
    fit(data, tmp_path, n_epochs=2)
    for name in damaged:
        damage(run_folder(tmp_path) / f"{name}.pth", kind)
    assert_equal(fit(data, tmp_path), read_checkpoint(undisturbed / "model.pth").state_dict)
    assert "latest.pth is passed over, and the state before it used: is" in caplog.text
    assert (tmp_path / "val.log").read_text() == (undisturbed / "val.log").read_text()
    # Whether latest.pth is lost again, and whether all is lost.
    damage(run_folder(tmp_path) / "latest.pth", kind)
    fit(data, tmp_path)
    for path in run_folder(tmp_path).glob("*.pth"):
        damage(path, "cut")
    caplog.clear()
    assert_equal(fit(data, tmp_path), read_checkpoint(undisturbed / "model.pth").state_dict)
    assert "the training begins anew" in caplog.text


def test_the_best_state_damaged_is_trained_again(data: Path, tmp_path: Path):
    options = {"n_epochs": 4, "final_model": "best", "learning_rate": 0.3}
    whole = fit(data, tmp_path, checkpoint=100, **options)
    damage(run_folder(tmp_path) / "best.pth", "flipped")
    (tmp_path / "model.pth").unlink()
    assert_equal(fit(data, tmp_path, checkpoint=100, **options), whole)


def test_a_resumed_training_writes_the_same_bytes(data: Path, undisturbed: Path, tmp_path: Path):
    fit(data, tmp_path, n_epochs=1)
    fit(data, tmp_path, n_epochs=3)
    here, there = run_folder(tmp_path), run_folder(undisturbed)
    for name in ("latest.pth", "save_2.pth"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert (tmp_path / "model.pth").read_bytes() == (undisturbed / "model.pth").read_bytes()


def test_a_fine_tuning_goes_on_from_the_same_base_in_another_file(data: Path, tmp_path: Path):
    base = read_checkpoint(fit_base(data, tmp_path)).state_dict
    tune = {"pretrain_path": str(tmp_path / "base/model.pth"), "ft_begin_module": "layer4"}
    fit(data, tmp_path / "tuned", **tune, n_epochs=1)
    torch.save({"state_dict": base}, tmp_path / "base/model.pth")
    fit(data, tmp_path / "tuned", **tune, n_epochs=2)
    run_folder(tmp_path / "tuned")  # the only one
    base["fc.bias"][0] += 1
    torch.save({"state_dict": base}, tmp_path / "base/model.pth")
    fit(data, tmp_path / "tuned", **tune, n_epochs=1)
    assert len([p for p in (tmp_path / "tuned/checkpoints").iterdir() if p.is_dir()]) == 2


def test_a_fine_tuning_of_an_earlier_version_goes_on(data: Path, tmp_path: Path):
    """Its folder is named after the bytes of the pretrained file."""
    path = fit_base(data, tmp_path)
    tune = {"pretrain_path": str(path), "ft_begin_module": "layer4"}
    fit(data, tmp_path / "tuned", **tune, n_epochs=1)
    options = TrainingOptions(**{**TINY, **tune})
    name = fingerprint(options, [data / "annotation.json", path])
    run_folder(tmp_path / "tuned").rename(tmp_path / "tuned/checkpoints" / name)
    fit(data, tmp_path / "tuned", **tune, n_epochs=2)
    assert run_folder(tmp_path / "tuned").name != name
    batches = pd.read_csv(run_folder(tmp_path / "tuned") / "train_batch.log", sep="\t")
    assert batches["epoch"].unique().tolist() == [1, 2]


def test_a_training_that_is_named_after_its_annotation_goes_on(data: Path, tmp_path: Path):
    fit(data, tmp_path, n_epochs=1)
    name = fingerprint(TrainingOptions(**TINY), [data / "annotation.json"])
    run_folder(tmp_path).rename(tmp_path / "checkpoints" / name)
    fit(data, tmp_path, n_epochs=2)
    assert run_folder(tmp_path).name != name
    batches = pd.read_csv(run_folder(tmp_path) / "train_batch.log", sep="\t")
    assert batches["epoch"].unique().tolist() == [1, 2]


@pytest.mark.parametrize("change", ["testing", "renamed", "label", "fewer", "validation"])
def test_a_training_depends_on_its_own_videos_only(data: Path, tmp_path: Path, change: str):
    content = json.loads((data / "annotation.json").read_text())
    database = content["database"]
    first = next(iter(database))
    match change:
        case "testing":
            place = str(data / "anywhere")
            database["new"] = {"subset": "testing", "annotations": {}, "video_path": place}
            database["new"]["annotations"]["segment"] = [1, 5]
        case "renamed":  # as a video is that another of its name has come to
            place = str(data / "jpg" / database[first]["annotations"]["label"] / first)
            entry = {**database[first], "video_path": place}
            renamed = {f"whole_{first}": entry, **database}
            del renamed[first]
            content["database"] = renamed
        case "label":
            other = next(name for name in LABELS if name != database[first]["annotations"]["label"])
            place = str(data / "jpg" / database[first]["annotations"]["label"] / first)
            database[first] |= {"video_path": place}
            database[first]["annotations"]["label"] = other
        case "fewer":
            del database[first]
        case "validation":
            last = next(name for name in database if database[name]["subset"] == "validation")
            database[last]["annotations"]["segment"][1] -= 1
    other_data = tmp_path / "data"
    other_data.mkdir()
    (other_data / "annotation.json").write_text(json.dumps(content))
    fit(data, tmp_path, n_epochs=1)
    (other_data / "jpg").symlink_to(data / "jpg")
    if change == "renamed":
        place = str(other_data / "jpg" / Path(place).parent.name / first)
        content["database"][f"whole_{first}"]["video_path"] = place
        (other_data / "annotation.json").write_text(json.dumps(content))
    fit(other_data, tmp_path, n_epochs=2)
    folders = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    assert len(folders) == (1 if change in ("testing", "renamed") else 2)


def fit_base(data: Path, folder: Path) -> Path:
    fit(data, folder / "base", n_epochs=1)
    return folder / "base/model.pth"


def test_a_divergence_in_the_last_step_leaves_no_model(data: Path, tmp_path: Path):
    """Its own loss is still finite; what comes after it is not."""
    # Without validation it shows in the weights only.
    for options in (
        {"learning_rate": 1e20},
        {"learning_rate": 1e20, "weight_decay": 1e20, "no_val": True},
    ):
        output = tmp_path / str(len(options))
        for _ in range(2):  # the same again says the same
            with pytest.raises(InputError, match=r"diverged: .*lower learning_rate \(1e"):
                fit(data, output, n_epochs=1, batch_size=18, **options)
            assert not (output / "model.pth").exists()


def test_a_validation_loss_that_is_no_number_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(Training, "_validate", lambda *_: (math.nan, 0.5))
    with pytest.raises(InputError, match="the validation loss is nan in epoch 1; lower"):
        fit(data, tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_no_room_for_a_checkpoint_is_one_line(data: Path, tmp_path: Path):
    """And the state before stays; a limit on the size of files stands in for a full disk."""
    fit(data, tmp_path, n_epochs=1)
    before = (run_folder(tmp_path) / "latest.pth").read_bytes()
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash"]
    done = subprocess.run(
        [*limited, *command(data, tmp_path, n_epochs=2), "--n_threads=0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "latest.pth: cannot be written: File too large; " in line
    assert "what was there before is kept; the training goes on from the state before it" in line
    assert (run_folder(tmp_path) / "latest.pth").read_bytes() == before
    assert not list(run_folder(tmp_path).glob(".*"))
    fit(data, tmp_path, n_epochs=2)


def test_ctrl_c_while_torch_is_imported_ends_quietly(data: Path, tmp_path: Path):
    slow = tmp_path / "slow/torch"
    slow.mkdir(parents=True)
    (slow / "__init__.py").write_text(
        "import sys, time\nprint('importing', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise ImportError('broken off')\n"
    )
    path = os.pathsep.join([str(slow.parent), os.environ.get("PYTHONPATH", "src")])
    process = subprocess.Popen(
        command(data, tmp_path / "out"),
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in errors


@pytest.mark.parametrize("seed", range(3))
def test_sigterm_to_all_processes_while_workers_start_saves_the_state(
    data: Path, tmp_path: Path, seed: int
):
    """As SLURM's warning and scancel send it."""
    process = subprocess.Popen(
        command(data, tmp_path, n_epochs=500, manual_seed=seed),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if seed == 2:
        wait_for_steps(tmp_path, 3)
    else:  # the logs are opened right before the workers start
        while not list(tmp_path.glob("checkpoints/*/train_batch.log")):
            time.sleep(0.005)
        time.sleep(0.01 * seed)
    os.killpg(process.pid, signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert "Traceback" not in errors
    assert process.returncode == 128 + signal.SIGTERM
    assert "the state is saved" in errors
    assert read_checkpoint(run_folder(tmp_path) / "latest.pth").training is not None


def test_a_diverging_training_says_so(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"diverged.*learning_rate \(1e\+20\)"):
        fit(data, tmp_path, learning_rate=1e20)


@pytest.mark.parametrize("value", [1e20, 5e-324])
@pytest.mark.parametrize(
    "name", ["learning_rate", "weight_decay", "clip_grad_norm", "mixup_alpha", "cutmix_alpha"]
)
def test_the_largest_and_smallest_numbers_train_or_are_one_line(
    data: Path, tmp_path: Path, name: str, value: float
):
    options = {"learning_rate_batch_size": 1, name: value}
    accepts_or_says_why(name, fit, data, tmp_path, n_epochs=1, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"resnet_widen_factor": 1e6},
        {"resnet_widen_factor": 3e3},
        {"conv1_t_size": 1_000_000, "resnet_widen_factor": 200.0},
        {"model_depth": 50, "model": "wideresnet", "wide_resnet_k": 1_000_000},
    ],
    ids=str,
)
def test_networks_that_no_memory_holds_are_one_line(
    data: Path, tmp_path: Path, options: dict[str, Any]
):
    if "wide_resnet_k" in options:
        options = {**options, "resnet_widen_factor": 1.0}
    with pytest.raises(
        InputError, match=r"^the memory of cpu does not suffice .*a smaller network"
    ):
        fit(data, tmp_path, **options)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_seed_trains(data: Path, tmp_path: Path, seed: int):
    fit(data, tmp_path, n_epochs=1, manual_seed=seed, mixup_alpha=0.2)


def test_without_validation(data: Path, tmp_path: Path):
    fit(data, tmp_path, no_val=True, n_epochs=1)
    assert (tmp_path / "val.log").read_text() == "epoch\tloss\tacc\n"


@pytest.mark.parametrize("n_training", [1, 2, 3])
def test_very_few_videos(tmp_path: Path, n_training: int):
    write_frames(tmp_path, n_training=n_training, n_validation=1)
    fit(tmp_path, tmp_path / "out", n_epochs=1, batch_size=5)


@pytest.mark.parametrize("model", ["resnet", "resnet2p1d", "preresnet"])
@pytest.mark.parametrize("sample_size", [8, 32])
def test_a_single_small_clip_trains(tmp_path: Path, model: str, sample_size: int):
    """Deep layers see one value a channel, of which batch norm can make no statistics."""
    annotation = write_frames(tmp_path, n_training=1, n_validation=1)
    content = json.loads(annotation.read_text())
    content["labels"] = ["up"]
    content["database"] = {
        name: entry
        for name, entry in content["database"].items()
        if entry["annotations"]["label"] == "up"
    }
    annotation.write_text(json.dumps(content))
    weights = fit(tmp_path, tmp_path / "out", model=model, sample_size=sample_size, n_epochs=2)
    assert all(value.isfinite().all() for value in weights.values())


def test_batches_of_one_clip_train(data: Path, tmp_path: Path):
    weights = fit(data, tmp_path, batch_size=1, n_epochs=1)
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize(
    ("n_clips", "batch_size", "world_size", "steps"),
    [(10, 4, 1, 3), (9, 4, 1, 2), (8, 4, 1, 2), (1, 4, 1, 1), (3, 4, 1, 1), (11, 4, 2, 2)],
)
def test_steps_of_an_epoch(n_clips: int, batch_size: int, world_size: int, steps: int):
    schedule = make_schedule(TrainingOptions(batch_size=batch_size), n_clips, world_size)
    assert schedule.n_steps(0) == schedule.n_steps(7) == steps
    assert schedule.seen(0, steps) == min(n_clips, steps * batch_size)


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler")
def test_compiling_changes_nothing_but_rounding(data: Path, tmp_path: Path):
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    # Few steps of whole batches: rounding grows fast where batch norm sees two clips.
    options = {"n_epochs": 1, "batch_size": 6, "learning_rate": 1e-3, "ema_decay": 0.5}
    expected = fit(data, plain, **options)
    given = fit(data, compiled, compile=True, **options)
    assert list(given) == list(expected)
    assert_same_training(initial_weights(), expected, given)
    states = [read_checkpoint(run_folder(output) / "latest.pth") for output in (plain, compiled)]
    assert list(states[0].state_dict) == list(states[1].state_dict)
    assert states[0].training["average"].keys() == states[1].training["average"].keys()
    losses = [pd.read_csv(output / "val.log", sep="\t")["loss"][0] for output in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    # Without compiling, too, it goes on from there.
    fit(data, compiled, **{**options, "n_epochs": 2})
    assert len(pd.read_csv(compiled / "train.log", sep="\t")) == 2


def test_compiling_needs_a_compiler(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"compile: true needs a compiler \(no-such-compiler\)"):
        fit(data, tmp_path, compile=True)


def test_tensorboard_has_the_curves(data: Path, tmp_path: Path):
    fit(data, tmp_path, n_epochs=2, tensorboard=True)
    events = EventAccumulator(str(run_folder(tmp_path) / "tensorboard")).Reload()
    log = pd.read_csv(tmp_path / "val.log", sep="\t")
    assert [event.step for event in events.Scalars("train/lr")] == [1, 2]
    losses = [event.value for event in events.Scalars("val/loss")]
    assert losses == pytest.approx(log["loss"].tolist(), rel=1e-5)


def test_tensorboard_is_asked_for_before_anything_else(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(InputError) as error:
        fit(data, tmp_path, tensorboard=True)
    assert str(error.value) == (
        "tensorboard: true needs the package tensorboard: "
        "pip install 'r3d[tensorboard]', or set tensorboard: false"
    )
    assert not list(tmp_path.iterdir())


def test_nothing_else_needs_tensorboard():
    code = "import sys, r3d.training.train; sys.exit('tensorboard' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprint(tmp_path: Path):
    path = tmp_path / "annotation.json"
    path.write_text("{}")
    base = fingerprint(TrainingOptions(), [path])
    same = [{"n_epochs": 300}, {"final_model": "best"}, {"resume_path": "x"}]
    assert {fingerprint(TrainingOptions(**options), [path]) for options in same} == {base}
    other = [{"learning_rate": 0.2}, {"lr_scheduler": "cosine"}, {"manual_seed": 2}]
    assert base not in {fingerprint(TrainingOptions(**options), [path]) for options in other}
    path.write_text('{"labels": []}')
    assert fingerprint(TrainingOptions(), [path]) != base
