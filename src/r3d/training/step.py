"""One step of the optimiser."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from r3d.clips.loader import ClipBatch
from r3d.clips.modelinput import model_input
from r3d.compute.device import autocast, compiled, may_spoil_gradients
from r3d.compute.distributed import World
from r3d.config.options import RunOptions
from r3d.models.base import BatchNorm3d
from r3d.training.guard import GradientGuard
from r3d.training.mixing import class_probabilities, mix_clips
from r3d.training.schedule import Grid
from r3d.training.state import TrainState

_MOST_SHAPES = 32


class TrainStep:
    """Steps of a training, in one of `world.size` processes that share each batch."""

    def __init__(
        self, state: TrainState, *, run: RunOptions, device: torch.device, world: World
    ) -> None:
        self.state, self.options = state, state.options
        self.device, self.world = device, world
        # Clips have few sizes, so it pays to try out cuDNN's algorithms for each; but which is the
        # fastest differs from run to run, and each sums in an order of its own.
        torch.backends.cudnn.benchmark = not run.deterministic
        self.parallel = world.wrap(
            state.network, device, batchnorm_sync=self.options.batchnorm_sync
        )
        self.forward = compiled(self.parallel, device) if run.compile else self.parallel
        if run.compile and self.options.multigrid != "none":
            # By default torch compiles for eight shapes, and for others not at all.
            torch._dynamo.config.recompile_limit = _MOST_SHAPES
        norms = [module for module in state.network.modules() if isinstance(module, BatchNorm3d)]
        self.norms = [(norm, norm.momentum) for norm in norms]
        self.grid: Grid | None = None  # that of the last step, if the schedule has several
        self.guard: GradientGuard | None = None
        if may_spoil_gradients(device, state.dtype, state.memory_format):
            self.guard = GradientGuard(state.network, says=world.is_main)

    def __call__(
        self, batch: ClipBatch, *, number: int, n_clips: int, grid: Grid | None = None
    ) -> Tensor:
        """Change the weights once; the sum of the losses, the correct clips and their number.

        Args:
            batch: this process's share of the batch.
            number: of the step in its epoch, from 1.
            n_clips: clips of the whole batch, over all processes.
            grid: what the batch is, where it is not the plain one of the options.
        """
        options, state = self.options, self.state
        self._fit_norms(grid)
        clips = model_input(batch, options, self.device, state.memory_format)
        labels = batch.labels.to(self.device, non_blocking=True)
        targets = labels
        if options.mixup_alpha or options.cutmix_alpha:
            seed = [options.manual_seed, state.progress.epoch, number, self.world.rank]
            clips, targets = mix_clips(
                clips,
                class_probabilities(labels, len(state.labels)),
                mixup_alpha=options.mixup_alpha,
                cutmix_alpha=options.cutmix_alpha,
                rng=np.random.default_rng(seed),
            )

        def gradients(layout: torch.memory_format) -> Tensor:
            state.optimizer.zero_grad(set_to_none=True)
            return self._gradients(
                clips.contiguous(memory_format=layout),
                targets,
                labels,
                number=number,
                n_clips=n_clips,
            )

        if self.guard is None:
            sums = gradients(state.memory_format)
        else:
            sums = self.guard(gradients, f"epoch {state.progress.epoch + 1}, step {number}")
        if options.clip_grad_norm:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip_grad_norm)
        with self._rate_times(1 if grid is None else grid.rate):
            state.optimizer.step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        return sums

    def _gradients(
        self, clips: Tensor, targets: Tensor, labels: Tensor, *, number: int, n_clips: int
    ) -> Tensor:
        """Add up the gradients of a batch, computed in parts; the sums of `batch_sums`."""
        options, state = self.options, self.state
        n_parts = self._n_parts(len(clips))
        # Dealt out like a batch to processes: so many parts give the same batch-norm statistics,
        # and the same weights, as so many processes.
        parts = [
            [tensor[first::n_parts] for first in range(n_parts)]
            for tensor in (clips, targets, labels)
        ]
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for index, (part, target, label) in enumerate(zip(*parts, strict=True), start=1):
            with self._synchronised(last=index == n_parts):
                with self._drawn(number, index - 1), autocast(self.device, state.dtype):
                    scores = self.forward(part).float()
                loss = functional.cross_entropy(
                    scores, target, label_smoothing=options.label_smoothing, reduction="sum"
                )
                # Processes average their gradients; the loss is the mean over the whole batch.
                (loss * (self.world.size / n_clips)).backward()
            sums += batch_sums(loss.detach(), scores.detach(), label)
        return sums

    def _n_parts(self, n_clips: int) -> int:
        """In how many parts the clips of a step are computed.

        Batch norm has no statistics of a single clip: it gets two at least, also where it takes
        those of each of the plain batches that are in a step.
        """
        n_batches = 1 if self.grid is None else self.grid.n_batches
        return min(self.options.accumulate_steps, max(1, n_clips // (2 * n_batches)))

    def _drawn(self, number: int, part: int) -> AbstractContextManager[None]:
        """Have what is left out of the network depend on seed, epoch, step and clips only.

        The clips of a part are those that one of so many processes would have.
        """
        options, world = self.options, self.world
        if not (options.dropout or options.stochastic_depth):
            return nullcontext()
        place = (self.state.progress.epoch, number, world.rank + world.size * part)
        return drawn_from((options.manual_seed, *place), self.device)

    def _fit_norms(self, grid: Grid | None) -> None:
        """Have batch norms take statistics of as many clips as in the plain schedule.

        Those for evaluation are not to be of the smaller clips of a short cycle.
        """
        if grid == self.grid:
            return
        for norm, momentum in self.norms:
            norm.n_parts = 1 if grid is None else grid.n_batches
            norm.momentum = momentum if grid is None or grid.is_base else 0.0
        self.grid = grid

    @contextmanager
    def _rate_times(self, factor: float) -> Iterator[None]:
        """Another learning rate for one step, of which no schedule and no checkpoint knows."""
        groups = self.state.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        yield
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients with the other processes only after the last part of a batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()


@contextmanager
def drawn_from(seed: Sequence[int], device: torch.device) -> Iterator[None]:
    """Let torch draw from a seed of its own, and go on as if it had not."""
    # The spawn key keeps the stream apart from that of `mix_clips`.
    state = np.random.SeedSequence(seed, spawn_key=(0,)).generate_state(1, np.uint64)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(state[0]))
        yield


def batch_sums(loss: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """The summed loss of a batch, its correct clips and its size, in one tensor on the device."""
    correct = (scores.argmax(1) == labels).sum()
    return torch.stack([loss.double(), correct.double(), correct.new_tensor(len(labels)).double()])
