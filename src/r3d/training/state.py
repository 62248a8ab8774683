"""All that changes while a network is trained, and its way into and out of a checkpoint."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from r3d.clips.modelinput import input_normalisation
from r3d.compute.device import Layout, choose_dtype, memory_format
from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.models.base import VideoModel, freeze_before, replace_head
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, load_weights, read_checkpoint
from r3d.models.describing import describe
from r3d.training.optim import (
    build_optimizer,
    build_scheduler,
    load_optimizer,
    load_scheduler,
    overwrite_milestones,
)


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        epoch: epochs finished.
        step: steps done in the epoch under way.
        loss: sum of the losses of the clips seen in these steps.
        correct: clips among them whose highest score was their label's.
        seen: how many clips that were.
        best_accuracy: highest validation accuracy of a finished epoch.
        best_loss: validation loss of that epoch, which decides between equal accuracies.
        best_epoch: the number of that epoch from 1; 0 if none was validated.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seen: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    best_epoch: int = 0

    def add(self, loss: float, correct: float, seen: int) -> None:
        """Count one more step."""
        self.step += 1
        self.loss += loss
        self.correct += correct
        self.seen += seen

    def finish_epoch(self, accuracy: float, loss: float) -> bool:
        """Go on to the next epoch; tell whether the validation of this one was the best so far."""
        self.epoch += 1
        is_best = (accuracy, -loss) > (self.best_accuracy, -self.best_loss)
        if is_best:
            self.best_accuracy, self.best_loss, self.best_epoch = accuracy, loss, self.epoch
        self.step, self.loss, self.correct, self.seen = 0, 0.0, 0.0, 0
        return is_best

    def forget_best(self) -> None:
        """Let the next validated epoch be the best: of earlier ones the weights are not here."""
        self.best_accuracy, self.best_loss, self.best_epoch = -1.0, float("inf"), 0


class TrainState:
    """A network with its optimiser, schedule, averaged weights and progress."""

    def __init__(
        self,
        options: TrainingOptions,
        labels: list[str],
        pretrained: Path | None,
        device: torch.device,
        layout: Layout = "auto",
    ) -> None:
        """Begin a training: draw the weights or load them.

        Args:
            labels: the classes in the order of the outputs.
            pretrained: checkpoint to start from; its head is replaced by a fresh one.
            layout: of the weights in memory.

        Raises:
            InputError: if the checkpoint does not fit the options.
        """
        self.options, self.labels = options, labels
        torch.manual_seed(options.manual_seed)
        self.network = _build_network(options, len(labels), pretrained)
        self.dtype = choose_dtype(options.precision, device)
        self.memory_format = memory_format(device, self.dtype, layout)
        self.network.to(device).to(memory_format=self.memory_format)
        self.optimizer = build_optimizer(self.network.parameters(), options, device)
        self.scheduler = build_scheduler(self.optimizer, options)
        self.average: AveragedModel | None = None
        if options.ema_decay:
            averaging = get_ema_multi_avg_fn(options.ema_decay)
            self.average = AveragedModel(self.network, multi_avg_fn=averaging, use_buffers=True)
        self.progress = Progress()

    @property
    def learning_rate(self) -> float:
        """The rate of the epoch under way."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def final_network(self) -> torch.nn.Module:
        """The network that is validated and handed on: the averaged one if there is one."""
        return self.network if self.average is None else self.average.module

    def checkpoint(self, code: str) -> Checkpoint:
        """The whole state; `code` is the version of the code that trained it."""
        training: dict[str, Any] = {"code": code, **asdict(self.progress)}
        if self.average is not None:
            training["average"] = self.average.state_dict()
        return replace(
            self._model(self.network.state_dict()),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.scheduler.state_dict(),
            training=training,
        )

    def final_model(self) -> Checkpoint:
        """The trained network, without what only a training needs."""
        return self._model(self.final_network.state_dict())

    def load(self, state: Checkpoint, path: Path) -> None:
        """Go on from a checkpoint of ours or of the reference.

        Raises:
            InputError: if it is of another network, optimiser or schedule.
        """
        options = self.options
        load_weights(self.network, state.state_dict, path, architecture=state.architecture)
        try:
            groups = None
            if state.optimizer is not None:
                groups = load_optimizer(self.optimizer, state.optimizer, self.network.parameters())
            if state.scheduler is not None:
                load_scheduler(self.scheduler, state.scheduler, groups)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"checkpoint {path}: its optimizer or scheduler state does not fit optimizer: "
                f"{options.optimizer}, lr_scheduler: {options.lr_scheduler} ({error})"
            ) from None
        if options.overwrite_milestones:
            overwrite_milestones(self.scheduler, options)
        if state.scheduler is not None:
            self._catch_up(state.epoch)
        training = dict(state.training or {"epoch": state.epoch})
        training.pop("code", None)
        average = training.pop("average", None)
        if self.average is not None:
            if average is not None:
                self.average.load_state_dict(average)
            else:
                self.average.module.load_state_dict(self.network.state_dict())
        self.progress = Progress(**training)

    def _catch_up(self, epoch: int) -> None:
        """Bring the schedule to an epoch: the reference saves before its last step."""
        if not isinstance(self.scheduler, ReduceLROnPlateau):  # which would need the loss
            while self.scheduler.last_epoch < epoch:
                self.scheduler.step()

    def _model(self, state_dict: dict[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            state_dict=state_dict,
            epoch=self.progress.epoch,
            architecture=self.network.architecture,
            config=self.options.model_dump(),
            labels=list(self.labels),
            normalisation=input_normalisation(self.options),
        )


def _build_network(options: TrainingOptions, n_classes: int, pretrained: Path | None) -> VideoModel:
    """A new network, or one with pretrained weights, a fresh head and frozen early layers."""
    if pretrained is None:
        return build_model(n_classes=n_classes, **options.network())
    checkpoint = read_checkpoint(pretrained)
    try:
        architecture = checkpoint.architecture or describe(checkpoint.state_dict)
    except InputError as error:
        raise InputError(f"checkpoint {pretrained}: {error}") from None
    network = build_model(
        n_classes=options.n_pretrain_classes or architecture.n_classes, **options.network()
    )
    load_weights(network, checkpoint.state_dict, pretrained, architecture=checkpoint.architecture)
    replace_head(network, n_classes)
    freeze_before(network, options.ft_begin_module)
    return network
