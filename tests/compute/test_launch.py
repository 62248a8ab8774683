"""Several processes on this machine: they do what one does, and fail with one line."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from synthetic import assert_same_training, write_frames
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from r3d.compute import distributed
from r3d.compute import launch as launching
from r3d.config.options import InferenceOptions, Resources, RunOptions, TrainingOptions
from r3d.inference.features import features
from r3d.inference.infer import infer
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from r3d.training import train as train_module
from r3d.training.step import TrainStep
from r3d.training.train import train

NETWORK: dict[str, Any] = {
    "model_depth": 10,
    "resnet_widen_factor": 0.0625,
    "sample_size": 32,
    "sample_duration": 8,
    "precision": "fp32",
}
TRAINING = {**NETWORK, "batch_size": 6, "n_epochs": 2, "learning_rate": 0.02, "n_val_samples": 1}
ALONE = RunOptions(n_threads=0)

# What the script of a rule does, in a process of its own for its signals and exit status.
SCRIPT = """
import pickle, sys
from pathlib import Path
from r3d.workflow.jobs import job
from r3d.compute.launch import launch
from r3d.config.options import Resources
log = Path(sys.argv[2])
function, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
with job(log):
    resources = Resources(processes=int(sys.argv[3]))
    launch(function, resources=resources, log=log, n_cores=2, **arguments)
"""


def training(data: Path, output: Path, **options: Any) -> dict[str, Any]:
    return {
        "options": TrainingOptions(**{**TRAINING, **options}),
        "annotation": data / "annotation.json",
        "frames": data / "jpg",
        "file_type": "jpg",
        "pretrained": None,
        "checkpoints": output / "checkpoints",
        "model": output / "model.pth",
        "train_log": output / "train.log",
        "val_log": output / "val.log",
        "run": ALONE,
    }


def start(
    function: Any, arguments: dict[str, Any], folder: Path, processes: int = 2
) -> subprocess.Popen[bytes]:
    """Call a function in so many processes; messages go to `folder`/log."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "call").write_bytes(pickle.dumps((function, arguments)))
    command = [sys.executable, "-c", SCRIPT, str(folder / "call"), str(folder / "log")]
    return subprocess.Popen(
        [*command, str(processes)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What is trained: not the statistics for inference, which are those of the first process."""
    state = read_checkpoint(folder / "model.pth").state_dict
    return {name: value for name, value in state.items() if value.ndim and "running" not in name}


def test_two_processes_do_what_one_does(data: Path, tmp_path: Path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    # In two parts, for batch norm takes its statistics over the clips of a process.
    at_random = {"dropout": 0.2, "stochastic_depth": 0.3, "class_balance": 0.5}
    at_random["crops_per_clip"] = 2
    train(**training(data, alone, accumulate_steps=2, **at_random), n_cores=1)
    assert start(train, training(data, both, **at_random), both).wait(timeout=300) == 0
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(both)[name], value)
    assert (both / "train.log").read_text() == (alone / "train.log").read_text()

    results, clips = {}, {}
    for folder in (alone, both):
        arguments: dict[str, Any] = {
            "options": InferenceOptions(**NETWORK, inference_stride=2),
            "annotation": data / "annotation.json",
            "subset": "val",
            "frames": data / "jpg",
            "file_type": "jpg",
            "model": both / "model.pth",
            "output": folder / "val.json",
            "run": ALONE,
            "batch_size": 4,
        }
        if folder == alone:
            infer(**arguments, n_cores=1)
        else:
            assert start(infer, arguments, folder).wait(timeout=300) == 0
        content = json.loads((folder / "val.json").read_text())
        results[folder], clips[folder] = content["results"], content["clips"]
    assert clips[both] == clips[alone]
    assert clips[both]["n"] > len(results[both])
    assert list(results[both]) == list(results[alone])
    for name, classes in results[alone].items():
        assert [(c["label"], pytest.approx(c["score"], rel=1e-5)) for c in classes] == [
            (c["label"], c["score"]) for c in results[both][name]
        ]


def test_two_processes_train_multigrid_as_one_does(data: Path, tmp_path: Path):
    """Batches of other shapes are shared as all are, and so are the parts for batch norm."""
    options = {"multigrid": "both", "learning_rate": 1e-3, "mixup_alpha": 0.0, "n_epochs": 3}
    alone, both = tmp_path / "alone", tmp_path / "both"
    train(**training(data, alone, accumulate_steps=2, **options), n_cores=1)
    assert start(train, training(data, both, **options), both).wait(timeout=300) == 0
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(both)[name], value, rtol=1e-3, atol=1e-5)
    logs = [next(folder.glob("checkpoints/*/train_batch.log")) for folder in (alone, both)]
    one, other = (pd.read_csv(log, sep="\t") for log in logs)
    np.testing.assert_allclose(other, one, rtol=1e-3)


def test_two_processes_give_the_features_of_one(data: Path, tmp_path: Path):
    options = InferenceOptions(**NETWORK, inference_stride=2, inference_no_average=True)
    network = build_model(n_classes=2, **options.network())
    write_checkpoint(tmp_path / "model.pth", Checkpoint(state_dict=network.state_dict()))
    found = {}
    for name in ("alone", "both"):
        output = tmp_path / f"{name}.npz"
        arguments: dict[str, Any] = {
            "options": options,
            "annotation": data / "annotation.json",
            "subset": "val",
            "frames": data / "jpg",
            "model": tmp_path / "model.pth",
            "output": output,
            "run": ALONE,
        }
        if name == "alone":
            features(**arguments, n_cores=1)
        else:
            assert start(features, arguments, tmp_path / "log").wait(timeout=300) == 0
        with np.load(output, allow_pickle=False) as file:
            found[name] = dict(file)
    for column in ("ids", "labels", "segments"):
        assert np.array_equal(found["both"][column], found["alone"][column])
    np.testing.assert_allclose(found["both"]["features"], found["alone"]["features"], rtol=1e-4)


def unusual_lines(log: Path) -> list[str]:
    """The lines of a log that a training does not write as it goes."""
    usual = re.compile(r"training on \d+ clips|epoch \d+: training loss|model\.pth: resnet-10")
    return [line for line in log.read_text().splitlines() if not usual.search(line)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batchnorm_sync": True}, "error: batchnorm_sync: true works on GPUs only"),  # in both
        ({}, "up_3: frame"),  # in one that the other waits for
    ],
    ids=["batchnorm_sync", "broken frame"],
)
def test_an_error_is_one_line(tmp_path: Path, options: dict[str, Any], message: str):
    write_frames(tmp_path)
    if not options:
        for frame in (tmp_path / "jpg/up/up_3").iterdir():
            frame.write_bytes(b"no JPEG")
    process = start(train, training(tmp_path, tmp_path, **options), tmp_path)
    assert process.wait(timeout=300) == 1
    (line,) = unusual_lines(tmp_path / "log")
    assert message in line


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_one_line(data: Path, tmp_path: Path, rank: int):
    process = start(train, training(data, tmp_path, n_epochs=100_000), tmp_path)
    log, deadline = tmp_path / "log", time.monotonic() + 300
    while not (log.exists() and "epoch 1:" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (killed,) = [
        child
        for child in psutil.Process(process.pid).children()
        if child.environ().get("LOCAL_RANK") == str(rank)
    ]
    killed.kill()
    assert process.wait(timeout=300) == 1
    (line,) = unusual_lines(log)
    assert f"error: process {rank} of 2 was ended by SIGKILL" in line
    assert list(tmp_path.glob("checkpoints/*/latest.pth"))


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler")
def test_two_processes_compile(data: Path, tmp_path: Path):
    folders = plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    for folder in folders:
        # The first part of a batch is not exchanged with the other process.
        options = {"batch_size": 16, "accumulate_steps": 2, "learning_rate": 1e-3}
        arguments = training(data, folder, **options)
        arguments["run"] = RunOptions(n_threads=0, compile=folder == compiled)
        assert start(train, arguments, folder).wait(timeout=300) == 0
    torch.manual_seed(arguments["options"].manual_seed)
    initial = build_model(n_classes=2, **arguments["options"].network()).state_dict()
    assert_same_training(initial, weights(plain), weights(compiled))


def test_another_number_of_processes_goes_on(data: Path, tmp_path: Path):
    """Two processes are stopped, one takes over, then three: the result is that of one alone."""
    train(**training(data, tmp_path / "base", n_epochs=1), n_cores=1)

    def tuning(output: Path, n_epochs: int) -> dict[str, Any]:
        # Batch norms are frozen, so that the numbers do not depend on who sees which clips.
        pretrained = tmp_path / "base/model.pth"
        tune = {"pretrain_path": str(pretrained), "ft_begin_module": "fc"}
        return {**training(data, output, n_epochs=n_epochs, **tune), "pretrained": pretrained}

    output = tmp_path / "changing"
    process = start(train, tuning(output, 100_000), output)
    states, deadline = output / "checkpoints", time.monotonic() + 300
    while not any(
        len(path.read_text().splitlines()) > 9 for path in states.glob("*/train_batch.log")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 128 + signal.SIGTERM
    (line,) = unusual_lines(output / "log")
    assert "the state is saved" in line
    (state,) = states.glob("*/latest.pth")
    epoch = read_checkpoint(state).epoch

    train(**tuning(output, epoch + 1), n_cores=1)
    assert start(train, tuning(output, epoch + 2), output, processes=3).wait(timeout=300) == 0
    (line,) = unusual_lines(output / "log")
    assert f"latest.pth: {epoch + 1} epochs and 0 steps are done" in line

    train(**tuning(tmp_path / "alone", epoch + 2), n_cores=1)
    for name, value in weights(tmp_path / "alone").items():
        torch.testing.assert_close(weights(output)[name], value, rtol=1e-4, atol=1e-6)
    for log in ("train.log", "val.log"):
        changing, alone = (
            np.loadtxt(folder / log, skiprows=1) for folder in (output, tmp_path / "alone")
        )
        assert len(alone) == epoch + 2
        np.testing.assert_allclose(changing, alone, rtol=1e-3)


class CountingParallel(DistributedDataParallel):
    """Writes a line for each exchange of gradients."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_comm_hook(None, self.count_and_average)

    @staticmethod
    def count_and_average(_: None, bucket: GradBucket) -> Future[torch.Tensor]:
        with Path(f"{os.environ['EXCHANGES']}_{os.environ['RANK']}").open("a") as file:
            file.write("exchange\n")
        return allreduce_hook(None, bucket)


def train_counting(**arguments: Any) -> None:
    distributed.DistributedDataParallel = CountingParallel
    train(**arguments)


def test_gradients_are_exchanged_once_a_step(data: Path, tmp_path: Path, monkeypatch):
    exchanges = []
    for parts in (1, 3):
        output = tmp_path / str(parts)
        monkeypatch.setenv("EXCHANGES", str(tmp_path / f"exchanges{parts}"))
        options = {"batch_size": 12, "n_epochs": 1, "accumulate_steps": parts}
        assert start(train_counting, training(data, output, **options), output).wait(300) == 0
        exchanges.append(
            [path.read_text() for path in sorted(tmp_path.glob(f"exchanges{parts}_*"))]
        )
    assert len(exchanges[0]) == 2
    assert exchanges[1] == exchanges[0]


def train_noting_switches(**arguments: Any) -> None:
    class Step(TrainStep):
        def __call__(self, *batch: Any, **place: Any) -> torch.Tensor:
            found = (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
            )
            workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
            Path(f"{os.environ['NOTES']}_{os.environ['RANK']}").write_text(f"{found} {workspace}")
            return super().__call__(*batch, **place)

    train_module.TrainStep = Step
    train(**arguments)


def test_every_process_of_a_deterministic_training_asks_torch_for_it(
    data: Path, tmp_path: Path, monkeypatch
):
    """And two processes on a CPU give the same bytes from run to run, with and without."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)  # which stays once it was set
    models = []
    for deterministic in (True, False):
        output = tmp_path / str(deterministic)
        monkeypatch.setenv("NOTES", str(tmp_path / f"notes{deterministic}"))
        arguments = training(data, output, n_epochs=1)
        arguments["run"] = RunOptions(n_threads=0, deterministic=deterministic)
        assert start(train_noting_switches, arguments, output).wait(300) == 0
        models.append((output / "model.pth").read_bytes())
        notes = [path.read_text() for path in sorted(tmp_path.glob(f"notes{deterministic}_*"))]
        expected = "(True, True) :4096:8" if deterministic else "(False, False) None"
        assert notes == [expected] * 2
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("resources", "n", "option"),
    [
        (Resources(), 1, "processes"),
        (Resources(processes=3), 3, "processes"),
        (Resources(gpus=1, processes=4), 4, "processes"),
        (Resources(gpus=2), 2, "gpus"),
        (Resources(gpus=3, processes=2), 3, "gpus"),
    ],
)
def test_each_process_of_a_job_has_a_card(monkeypatch, tmp_path: Path, resources, n, option):
    monkeypatch.setattr(launching, "own_gpus", lambda *asked: pytest.fail(f"asked {asked}"))
    with pytest.raises(pytest.fail.Exception) as failed:
        launching.launch(print, resources=resources, log=tmp_path / "log", n_cores=1)
    assert str(failed.value) == f"asked {(n, f'resources.{option}')}"
