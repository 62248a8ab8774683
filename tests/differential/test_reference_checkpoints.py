"""Checkpoints of one side in the other, and inference from the same weights on both."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import Reference
from deviations import DEVIATIONS
from samples import FILE_TYPES, LABELS, DataSet
from torch import nn

from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.frames.layouts import FileType
from r3d.inference.infer import infer
from r3d.models.checkpoint import read_checkpoint, write_checkpoint
from r3d.models.describing import describe
from r3d.training.optim import step_scheduler
from r3d.training.state import TrainState

pytestmark = [
    pytest.mark.differential,
    pytest.mark.filterwarnings("ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore:Unexpected DataLoader"),
]

CPU = torch.device("cpu")
NETWORK: dict[str, Any] = {"model_depth": 10, "resnet_widen_factor": 0.125}
CLIP: dict[str, Any] = {"sample_size": 32, "sample_duration": 16}
SCHEDULES: dict[str, dict[str, Any]] = {
    "multistep": {"lr_scheduler": "multistep", "multistep_milestones": [2, 4, 5]},
    "plateau": {"lr_scheduler": "plateau", "plateau_patience": 1},
}


def train_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """A step with drawn gradients: torch's own are wrong on the CPU for small inputs, ours not."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) / 10
    optimizer.step()


def our_state(schedule: dict[str, Any]) -> TrainState:
    return TrainState(TrainingOptions(**NETWORK, **schedule), LABELS, None, CPU)


def their_state(
    reference: Reference, tmp_path: Path, data: DataSet, schedule: dict[str, Any]
) -> tuple[Any, nn.Module, torch.optim.Optimizer, Any]:
    """Options, network, optimiser and schedule as the reference's main function makes them."""
    options: list[object] = ["--n_classes", len(LABELS), "--video_path", data.frames["jpg"]]
    options += ["--annotation_path", data.annotation["jpg"]]
    for name, value in {**NETWORK, **schedule}.items():
        options += [f"--{name}", *(value if isinstance(value, list) else [value])]
    opt = reference.options(tmp_path / "theirs", *options)
    network = reference.module("model").generate_model(opt)
    utils = reference.module("main").get_train_utils(opt, network.parameters())
    return opt, network, *utils[-2:]


def assert_same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    torch.testing.assert_close(
        dict(ours.state_dict()), dict(theirs.state_dict()), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ours_goes_on_in_the_reference(
    reference: Reference, data_set: DataSet, tmp_path: Path, schedule: str
) -> None:
    ours = our_state(SCHEDULES[schedule])
    losses = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    for epoch in range(3):
        train_epoch(ours.network, ours.optimizer, epoch)
        step_scheduler(ours.scheduler, losses[epoch])
        ours.progress.finish_epoch(0, losses[epoch])
    path = tmp_path / "save_3.pth"
    write_checkpoint(path, ours.checkpoint("some version"))

    opt, network, optimizer, scheduler = their_state(
        reference, tmp_path, data_set, SCHEDULES[schedule]
    )
    main = reference.module("main")
    network = main.resume_model(path, opt.arch, network)
    begin, optimizer, scheduler = main.resume_train_utils(path, 1, optimizer, scheduler)
    assert begin == 4
    for epoch in range(3, 6):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(ours.learning_rate)
        train_epoch(ours.network, ours.optimizer, epoch)
        train_epoch(network, optimizer, epoch)
        step_scheduler(ours.scheduler, losses[epoch])
        step_scheduler(scheduler, losses[epoch])
        assert_same_weights(ours.network, network)
    assert ours.learning_rate < 0.1


@pytest.mark.parametrize("stopped_after", [2, 3, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_reference_goes_on_here(
    reference: Reference, data_set: DataSet, tmp_path: Path, schedule: str, stopped_after: int
) -> None:
    """As if the reference had not been stopped, whose own resume is an epoch late."""
    opt, network, optimizer, scheduler = their_state(
        reference, tmp_path, data_set, SCHEDULES[schedule]
    )
    main = reference.module("main")
    path = tmp_path / f"save_{stopped_after}.pth"
    for epoch in range(stopped_after):
        train_epoch(network, optimizer, epoch)
        if epoch == stopped_after - 1:
            main.save_checkpoint(path, epoch + 1, opt.arch, network, optimizer, scheduler)
        step_scheduler(scheduler, 1.0 / (epoch + 1))

    checkpoint = read_checkpoint(path)
    assert describe(checkpoint.state_dict).name == opt.arch
    ours = our_state(SCHEDULES[schedule])
    ours.load(checkpoint, path)
    assert ours.progress.epoch == stopped_after
    for epoch in range(stopped_after, 6):
        rate = optimizer.param_groups[0]["lr"]
        assert ours.learning_rate == pytest.approx(rate), DEVIATIONS["late schedule"]
        train_epoch(ours.network, ours.optimizer, epoch)
        train_epoch(network, optimizer, epoch)
        if schedule == "plateau":  # the loss that was not yet known is lost with the process
            assert_same_weights(ours.network, network)
            break
        step_scheduler(ours.scheduler, 1.0)
        step_scheduler(scheduler, 1.0)
        assert_same_weights(ours.network, network)


@pytest.mark.parametrize("no_average", [False, True])
@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_inference(
    reference: Reference,
    data_set: DataSet,
    tmp_path: Path,
    file_type: FileType,
    no_average: bool,
) -> None:
    """The whole of main.py on our checkpoint, frames and annotation, and ours on its checkpoint."""
    state = our_state({})
    for epoch in range(3):
        train_epoch(state.network, state.optimizer, epoch)
    path = tmp_path / "ours.pth"
    write_checkpoint(path, state.checkpoint("some version"))

    options: dict[str, Any] = {**NETWORK, **CLIP, "inference_stride": 8, "output_topk": 3}
    arguments: list[object] = [item for name in options for item in (f"--{name}", options[name])]
    arguments += ["--n_classes", len(LABELS), "--resume_path", path, "--file_type", file_type]
    arguments += ["--video_path", data_set.frames[file_type]]
    arguments += ["--annotation_path", data_set.annotation[file_type]]
    arguments += ["--no_cuda", "--n_threads", 0, "--inference_batch_size", 2, "--result_path"]
    arguments += [tmp_path, "--no_train", "--no_val", "--inference"]
    arguments += ["--inference_no_average"] if no_average else []
    reference.run("main", *arguments)
    expected = json.loads((tmp_path / "val.json").read_text())["results"]

    opt, network, optimizer, scheduler = their_state(reference, tmp_path, data_set, {})
    main = reference.module("main")
    main.resume_model(path, opt.arch, network)
    theirs = tmp_path / "theirs.pth"
    main.save_checkpoint(theirs, 3, opt.arch, network, optimizer, scheduler)
    output = tmp_path / "ours.json"
    infer(
        InferenceOptions(
            **options,
            inference_no_average=no_average,
            precision="fp32",
            class_order="annotation",
        ),
        annotation=data_set.annotation[file_type],
        subset="val",
        frames=data_set.frames[file_type],
        file_type=file_type,
        model=theirs,
        output=output,
        run=RunOptions(n_threads=0, no_cuda=True),
        batch_size=4,
        n_cores=1,
    )
    found = json.loads(output.read_text())["results"]
    assert list(found) == list(expected)
    assert len(found) == 6
    for name in expected:
        assert_same_results(found[name], expected[name])


def assert_same_results(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    if "segment" in expected[0]:
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["segment"] == theirs["segment"]
            assert_same_results(ours["result"], theirs["result"])
        return
    scores = {item["label"]: item["score"] for item in expected}
    assert {item["label"]: item["score"] for item in found} == pytest.approx(scores, abs=2e-3)
    ranking = [item["score"] for item in found]
    assert ranking == sorted(ranking, reverse=True)
