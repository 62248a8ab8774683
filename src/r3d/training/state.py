"""All that changes while a network is trained, and its way into and out of a checkpoint."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from r3d.compute.device import (
    Layout,
    Precision,
    choose_dtype,
    memory_format,
    multiplies_bf16,
    precision_begun_with,
)
from r3d.config.normalisation import input_normalisation
from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.frames.form import FrameForm
from r3d.models.archive import tensors_digest
from r3d.models.base import VideoModel, freeze_before, regularise, replace_head
from r3d.models.building import build_model
from r3d.models.checkpoint import Checkpoint, load_weights, not_finite, read_checkpoint
from r3d.models.describing import describe
from r3d.training.optim import (
    build_optimizer,
    build_scheduler,
    load_optimizer,
    load_scheduler,
)
from r3d.training.resuming import settle_options, settle_precision, settled_options


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
        self.frames: FrameForm | None = None  # what the frames are like that it is trained on
        self.start: bytes | None = None  # a digest of the pretrained weights
        torch.manual_seed(options.manual_seed)
        if pretrained is None:
            self.network = build_model(n_classes=len(labels), **options.network())
        else:
            checkpoint = read_checkpoint(pretrained)
            self.start = tensors_digest(checkpoint.state_dict)
            self.network = _pretrained_network(options, len(labels), checkpoint, pretrained)
        regularise(self.network, dropout=options.dropout, stochastic_depth=options.stochastic_depth)
        self.device, self.layout = device, layout
        self.dtype = choose_dtype(options.precision, device, layout, training=True)
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
    def precision(self) -> Precision:
        """What convolutions compute in."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

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

    def load(self, state: Checkpoint, path: Path, *, own: bool = False) -> None:
        """Go on from a checkpoint of ours or of the reference.

        Args:
            own: whether it is of this very training, not of one that this one begins from.

        Raises:
            InputError: if it is of another network, optimiser, schedule or class order.
        """
        options = self.options
        if state.labels not in (None, self.labels):
            raise InputError(
                f"checkpoint {path}: its classes are not those of the annotation, or have another "
                "order; to start from its weights, with a fresh last layer, set pretrain_path"
            )
        self._go_on_in(
            settle_precision(
                options.precision,
                there=precision_begun_with(state.config, self.device),
                here=self.precision,
                has_bf16=multiplies_bf16(self.device),
            )
        )
        load_weights(self.network, state.state_dict, path, architecture=state.architecture)
        try:
            groups = None
            if state.optimizer is not None:
                groups = load_optimizer(self.optimizer, state.optimizer, self.network.parameters())
            if state.scheduler is not None:
                load_scheduler(self.scheduler, state.scheduler, groups, epoch=state.epoch)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]  # it may tell of any value
            raise InputError(
                f"checkpoint {path}: its optimizer or scheduler state does not fit optimizer: "
                f"{options.optimizer}, lr_scheduler: {options.lr_scheduler}, warmup_epochs: "
                f"{options.warmup_epochs} ({reason})"
            ) from None
        if own:
            self.options = settled_options(options, self.scheduler, config=state.config)
        elif state.optimizer is not None and state.scheduler is not None:
            self.options = settle_options(
                options, self.optimizer, self.scheduler, config=state.config, epoch=state.epoch
            )
        if state.scheduler is not None:
            self._catch_up(state.epoch)
        self._load_average(state, path)
        self.progress = _progress_of(state, path)

    def _go_on_in(self, precision: Precision) -> None:
        """Compute in a precision from here on, in the layout that goes with it."""
        self.dtype = choose_dtype(precision, self.device)
        self.memory_format = memory_format(self.device, self.dtype, self.layout)
        self.network.to(memory_format=self.memory_format)
        if self.average is not None:
            self.average.module.to(memory_format=self.memory_format)

    def _load_average(self, state: Checkpoint, path: Path) -> None:
        if self.average is None:
            return
        there = (state.training or {}).get("average")
        if there is None:
            self.average.module.load_state_dict(self.network.state_dict())
            return
        here = self.average.state_dict()
        fits = isinstance(there, dict) and there.keys() == here.keys()
        if not fits or any(
            not isinstance(there[name], Tensor) or there[name].shape != here[name].shape
            for name in here
        ):
            raise InputError(f"checkpoint {path}: its averaged weights are not of this network")
        if problem := not_finite(there):
            raise InputError(f"checkpoint {path}: of its averaged weights, {problem}")
        self.average.load_state_dict(there)

    def _catch_up(self, epoch: int) -> None:
        """Bring the schedule to an epoch: the reference saves before its last step."""
        if not isinstance(self.scheduler, ReduceLROnPlateau):  # which would need the loss
            while self.scheduler.last_epoch < epoch:  # a few times; the state was checked
                self.scheduler.step()

    def _model(self, state_dict: dict[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            state_dict=state_dict,
            epoch=self.progress.epoch,
            architecture=self.network.architecture,
            config={**self.options.model_dump(), "precision": self.precision},
            labels=list(self.labels),
            normalisation=input_normalisation(self.options),
            frames=None if self.frames is None else self.frames.as_dict(),
        )


def _progress_of(state: Checkpoint, path: Path) -> Progress:
    """Where the training of a checkpoint stood; the reference says its epoch only.

    Raises:
        InputError: if that is no place in a training.
    """
    if state.training is None:
        return Progress(epoch=state.epoch)
    values = {
        name: state.training.get(name, default) for name, default in asdict(Progress()).items()
    }
    for name, value in values.items():
        whole = name in ("epoch", "step", "seen", "best_epoch")
        if not isinstance(value, int if whole else int | float) or not (
            0 <= value < 2**63 if whole else value == value
        ):
            raise InputError(
                f"checkpoint {path}: {name} of its training is {' '.join(repr(value).split())[:80]}"
            )
    if values["epoch"] != state.epoch or values["best_epoch"] > state.epoch:
        raise InputError(
            f"checkpoint {path}: its epochs contradict each other ({state.epoch}, of its training "
            f"{values['epoch']}, the best {values['best_epoch']})"
        )
    return Progress(**values)


def _pretrained_network(
    options: TrainingOptions, n_classes: int, checkpoint: Checkpoint, pretrained: Path
) -> VideoModel:
    """A network with pretrained weights, a fresh head and frozen early layers."""
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
