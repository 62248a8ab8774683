"""The state of a training: it goes on from checkpoints of ours and of the reference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import LABELS, TINY

from r3d.config.options import TrainingOptions, TrainOptions
from r3d.errors import InputError
from r3d.models.building import build_model
from r3d.models.checkpoint import read_checkpoint, write_checkpoint
from r3d.training.optim import step_scheduler
from r3d.training.state import TrainState


def save_as_the_reference(
    path: Path,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """A state of epoch 2, in the reference's format."""
    content = {
        "epoch": 2,
        "arch": "resnet-10",
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(content, path)


def save_before_the_schedule(path: Path) -> None:
    """A state that is saved before the schedule has gone on to its epoch."""
    network = build_model(n_classes=2, **TrainingOptions(**TINY).network())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2])
    optimizer.step()
    scheduler.step()
    save_as_the_reference(path, network, optimizer, scheduler)


def test_resume_from_a_state_saved_before_the_schedule_went_on(tmp_path: Path):
    """As the reference saves: the second epoch is trained, its milestone not yet reached."""
    path = tmp_path / "save_2.pth"
    save_before_the_schedule(path)
    options = TrainingOptions(**{**TINY, "multistep_milestones": [2]})
    state = TrainState(options, LABELS, None, torch.device("cpu"))
    state.load(read_checkpoint(path), path)
    assert state.progress.epoch == 2
    assert state.learning_rate == pytest.approx(0.002)


def saved_by_the_reference(
    path: Path, options: TrainingOptions, begin_module: str, *, frozen_groups: bool
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Two steps of a fine-tuning, in which each parameter is a group of the optimiser.

    Parameters before the module are in no group, or in groups with rate 0, as in older versions.
    """
    torch.manual_seed(3)
    network = build_model(n_classes=2, **options.network())
    groups, begun = [], False
    for name, parameter in network.named_parameters():
        begun = begun or name.startswith(begin_module)
        if begun:
            groups.append({"params": parameter})
        elif frozen_groups:
            groups.append({"params": parameter, "lr": 0.0})
    optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 9])
    for epoch in range(2):
        draw_gradients(network, epoch)
        optimizer.step()
        if epoch == 1:
            save_as_the_reference(path, network, optimizer, scheduler)
        scheduler.step()
    return network, optimizer


def draw_gradients(network: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) / 10


@pytest.mark.parametrize("frozen_groups", [False, True])
def test_a_fine_tuning_of_the_reference_goes_on(tmp_path: Path, frozen_groups: bool):
    path = tmp_path / "save_2.pth"
    pretrained = tmp_path / "pretrained.pth"
    options = TrainingOptions(
        **{**TINY, "multistep_milestones": [1, 9], "ft_begin_module": "layer4"},
        pretrain_path=str(pretrained),
    )
    network, optimizer = saved_by_the_reference(
        path, options, "layer4", frozen_groups=frozen_groups
    )
    torch.save(network.state_dict(), pretrained)
    state = TrainState(options, LABELS, pretrained, torch.device("cpu"))
    state.load(read_checkpoint(path), path)
    assert state.learning_rate == pytest.approx(0.002)
    # The next step shows that each momentum buffer has found its parameter.
    for trained, method in ((network, optimizer), (state.network, state.optimizer)):
        draw_gradients(trained, 7)
        method.step()
    head = "fc.weight"
    assert not torch.equal(state.network.state_dict()[head], read_checkpoint(path).state_dict[head])
    there = {
        name: value
        for name, value in network.state_dict().items()
        if name.startswith(("layer4", "fc"))
    }
    here = {name: state.network.state_dict()[name] for name in there}
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize(
    ("begin_module", "changes", "part"),
    [
        ("layer4", {}, "38 of 38 train here"),
        ("fc", {"optimizer": "adamw", "ft_begin_module": "fc"}, "betas"),
    ],
)
def test_an_optimizer_state_of_other_parameters_is_refused(
    tmp_path: Path, begin_module: str, changes: dict[str, Any], part: str
):
    path = tmp_path / "save_2.pth"
    options = TrainingOptions(**TINY)
    network, _ = saved_by_the_reference(path, options, begin_module, frozen_groups=False)
    pretrained = tmp_path / "pretrained.pth"
    torch.save(network.state_dict(), pretrained)
    options = TrainingOptions(**{**TINY, **changes}, pretrain_path=str(pretrained))
    state = TrainState(options, LABELS, pretrained, torch.device("cpu"))
    with pytest.raises(InputError, match=part) as caught:
        state.load(read_checkpoint(path), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_milestones_can_be_overwritten_when_resuming(tmp_path: Path, warmup_epochs: int):
    def begin(milestones: list[int], **more: Any) -> TrainState:
        options = {**TINY, "n_epochs": 9, "warmup_epochs": warmup_epochs, **more}
        chosen = TrainingOptions(**{**options, "multistep_milestones": milestones})
        return TrainState(chosen, LABELS, None, torch.device("cpu"))

    def go_on(state: TrainState, n_epochs: int) -> list[float]:
        rates = []
        for _ in range(n_epochs):
            state.optimizer.step()
            state.scheduler.step()
            rates.append(state.learning_rate)
            state.progress.finish_epoch(0, 0)
        return rates

    before = begin([4, 6])
    go_on(before, 3)
    path = tmp_path / "save_3.pth"
    write_checkpoint(path, before.checkpoint("code"))
    kept, overwritten = begin([5, 7]), begin([5, 7], overwrite_milestones=True)
    for state in (kept, overwritten):
        state.load(read_checkpoint(path), path)
    assert go_on(kept, 4) == pytest.approx([0.002, 0.002, 0.0002, 0.0002])
    assert go_on(overwritten, 4) == pytest.approx([0.02, 0.002, 0.002, 0.0002])


def test_overwritten_milestones_hold_for_the_step_that_the_reference_owes(tmp_path: Path):
    """It saves before its schedule reaches the epoch, so the old milestone is not passed yet."""
    path = tmp_path / "save_2.pth"
    save_before_the_schedule(path)
    changed = {**TINY, "multistep_milestones": [3], "overwrite_milestones": True}
    state = TrainState(TrainingOptions(**changed), LABELS, None, torch.device("cpu"))
    state.load(read_checkpoint(path), path)
    assert state.learning_rate == pytest.approx(0.02)


def begin(**changes: Any) -> TrainState:
    return TrainState(
        TrainingOptions(**{**TINY, "n_epochs": 8, **changes}), LABELS, None, torch.device("cpu")
    )


def after_epochs(n: int, path: Path, **options: Any) -> Path:
    """The file of a training of so many epochs of a step each."""
    state = begin(**options)
    for _ in range(n):
        draw_gradients(state.network, state.progress.epoch)
        state.optimizer.step()
        step_scheduler(state.scheduler, 1.0)
        state.progress.finish_epoch(0.5, 1.0)
    write_checkpoint(path, state.checkpoint("code"))
    return path


def resumed(path: Path, *, own: bool = False, **options: Any) -> TrainState:
    state = begin(**options)
    state.load(read_checkpoint(path), path, own=own)
    return state


def test_options_given_with_a_file_hold_from_there_on(tmp_path: Path):
    given = {"learning_rate": 0.3, "momentum": 0.5, "weight_decay": 0.25, "dampening": 0.125}
    path = after_epochs(2, tmp_path / "save_2.pth", multistep_milestones=[1, 5])
    state = resumed(path, multistep_milestones=[1, 5], **given)
    (group,) = state.optimizer.param_groups
    assert group["lr"] == pytest.approx(0.03)  # a milestone is passed
    for name in ("momentum", "weight_decay", "dampening"):
        assert group[name] == given[name]
    config = state.checkpoint("code").config
    assert {name: config[name] for name in given} == given
    rates = []
    for _ in range(4):
        state.optimizer.step()
        step_scheduler(state.scheduler, 1.0)
        rates.append(state.learning_rate)
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003])


def test_options_left_at_their_defaults_are_as_in_the_file(tmp_path: Path, caplog):
    """As in the reference; it is said, and noted in the checkpoints to come."""
    there = {"learning_rate": 0.05, "momentum": 0.75, "weight_decay": 0.5, "nesterov": True}
    path = after_epochs(2, tmp_path / "save_2.pth", multistep_milestones=[6], **there)
    defaults = TrainOptions()
    here = {name: getattr(defaults, name) for name in there}
    with caplog.at_level("WARNING"):
        state = resumed(path, **here)
    assert state.learning_rate == pytest.approx(0.05)
    config = state.checkpoint("code").config
    assert {name: config[name] for name in there} == pytest.approx(there)
    assert config["multistep_milestones"] == [6]
    for name in (*there, "multistep_milestones"):
        assert f"resume_path: {name}: " in caplog.text
    # Of its own state it goes on alike, whatever the options say again.
    write_checkpoint(tmp_path / "latest.pth", state.checkpoint("code"))
    caplog.clear()
    again = resumed(tmp_path / "latest.pth", own=True, **here)
    assert again.checkpoint("code").config == config
    assert not caplog.text


def test_nothing_is_said_where_file_and_options_agree(tmp_path: Path, caplog):
    with caplog.at_level("INFO"):
        resumed(after_epochs(2, tmp_path / "save_2.pth"))
    assert not caplog.text


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_a_longer_cosine_goes_on_as_that_one_would_have(tmp_path: Path, warmup_epochs: int):
    options = {"lr_scheduler": "cosine", "warmup_epochs": warmup_epochs}
    path = after_epochs(3, tmp_path / "save_3.pth", n_epochs=4, **options)
    state, undisturbed = resumed(path, n_epochs=9, **options), begin(n_epochs=9, **options)
    for _ in range(3):
        undisturbed.optimizer.step()
        undisturbed.scheduler.step()
    for _ in range(6):
        assert state.learning_rate == pytest.approx(undisturbed.learning_rate)
        for trained in (state, undisturbed):
            trained.optimizer.step()
            trained.scheduler.step()
    assert state.learning_rate == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("patience", "used"), [(3, 3), (10, 5)])
def test_patience_is_used_where_it_is_given(tmp_path: Path, patience: int, used: int):
    path = after_epochs(
        2, tmp_path / "save_2.pth", lr_scheduler="plateau", plateau_patience=5, learning_rate=0.5
    )
    state = resumed(path, lr_scheduler="plateau", plateau_patience=patience, learning_rate=0.25)
    assert state.scheduler.patience == used
    config = state.checkpoint("code").config
    assert (config["plateau_patience"], config["learning_rate"]) == (used, 0.25)
    assert state.learning_rate == pytest.approx(0.25)


def test_another_schedule_or_class_order_is_refused(tmp_path: Path):
    path = after_epochs(2, tmp_path / "save_2.pth")
    for change in ({"lr_scheduler": "cosine"}, {"warmup_epochs": 1}, {"lr_scheduler": "plateau"}):
        with pytest.raises(InputError, match="does not fit optimizer: sgd, lr_scheduler: "):
            resumed(path, **change)
    state = TrainState(TrainingOptions(**TINY), LABELS[::-1], None, torch.device("cpu"))
    with pytest.raises(InputError, match="its classes are not those of the annotation"):
        state.load(read_checkpoint(path), path)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("scheduler", "last_epoch", 10**12),
        ("scheduler", "last_epoch", -(10**12)),
        ("scheduler", "gamma", "x"),
        ("scheduler", "milestones", {"a": 1}),
        ("scheduler", "base_lrs", None),
        ("group", "lr", float("nan")),
        ("group", "momentum", None),
        ("group", "params", [[1]] * 38),
        ("values", "momentum_buffer", torch.ones(1).expand(10**10)),
        ("values", "momentum_buffer", torch.full((4, 3, 7, 7, 7), float("nan"))),
        ("values", "momentum_buffer", "x"),
        ("training", "step", -1),
        ("training", "seen", torch.ones(2)),
        ("training", "best_epoch", 9),
        ("training", "epoch", 1),
        ("training", "average", {"x": torch.ones(1)}),
    ],
)
def test_a_state_of_other_types_or_places_is_refused(
    tmp_path: Path, part: str, key: str, value: Any
):
    path = after_epochs(2, tmp_path / "save_2.pth")
    content = torch.load(path, weights_only=True)
    optimizer = content["optimizer"]
    parts = {
        "scheduler": content["scheduler"],
        "group": optimizer["param_groups"][0],
        "values": optimizer["state"][0],
        "training": content["training"],
    }
    parts[part][key] = value
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        resumed(path, ema_decay=0.5)
    assert "\n" not in str(caught.value)


def test_what_no_state_has_of_itself_is_not_taken_from_a_file(tmp_path: Path):
    path = after_epochs(2, tmp_path / "save_2.pth")
    content = torch.load(path, weights_only=True)
    content["scheduler"] |= {"step": 5, "optimizer": 3}
    content["optimizer"]["param_groups"][0] |= {"maximize": True, "differentiable": True}
    torch.save(content, path)
    state = resumed(path)
    draw_gradients(state.network, 1)
    before = state.network.fc.bias.detach().clone()
    state.optimizer.state[state.network.fc.bias]["momentum_buffer"].zero_()
    state.optimizer.step()
    state.scheduler.step()
    moved = state.network.fc.bias.detach() - before
    gradient = state.network.fc.bias.grad + 1e-3 * before
    torch.testing.assert_close(moved, -0.02 * gradient)
