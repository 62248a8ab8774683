"""One step of the optimiser."""

from contextlib import AbstractContextManager, nullcontext

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
from r3d.training.guard import GradientGuard
from r3d.training.mixing import class_probabilities, mix_clips
from r3d.training.state import TrainState


class TrainStep:
    """Steps of a training, in one of `world.size` processes that share each batch."""

    def __init__(
        self, state: TrainState, *, run: RunOptions, device: torch.device, world: World
    ) -> None:
        self.state, self.options = state, state.options
        self.device, self.world = device, world
        # All clips have one size, so it pays to try out cuDNN's algorithms for it; but which is the
        # fastest differs from run to run, and each sums in an order of its own.
        torch.backends.cudnn.benchmark = not run.deterministic
        self.parallel = world.wrap(
            state.network, device, batchnorm_sync=self.options.batchnorm_sync
        )
        self.forward = compiled(self.parallel, device) if run.compile else self.parallel
        self.guard: GradientGuard | None = None
        if may_spoil_gradients(device, state.dtype, state.memory_format):
            self.guard = GradientGuard(state.network, says=world.is_main)

    def __call__(self, batch: ClipBatch, *, number: int, n_clips: int) -> Tensor:
        """Change the weights once; the sum of the losses, the correct clips and their number.

        Args:
            batch: this process's share of the batch.
            number: of the step in its epoch, from 1.
            n_clips: clips of the whole batch, over all processes.
        """
        options, state = self.options, self.state
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
                clips.contiguous(memory_format=layout), targets, labels, n_clips=n_clips
            )

        if self.guard is None:
            sums = gradients(state.memory_format)
        else:
            sums = self.guard(gradients, f"epoch {state.progress.epoch + 1}, step {number}")
        if options.clip_grad_norm:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip_grad_norm)
        state.optimizer.step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        return sums

    def _gradients(self, clips: Tensor, targets: Tensor, labels: Tensor, *, n_clips: int) -> Tensor:
        """Add up the gradients of a batch, computed in parts; the sums of `batch_sums`."""
        options, state = self.options, self.state
        # Batch norm has no statistics of a single clip.
        n_parts = min(options.accumulate_steps, max(1, len(clips) // 2))
        # Dealt out like a batch to processes: so many parts give the same batch-norm statistics,
        # and the same weights, as so many processes.
        parts = [
            [tensor[first::n_parts] for first in range(n_parts)]
            for tensor in (clips, targets, labels)
        ]
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for index, (part, target, label) in enumerate(zip(*parts, strict=True), start=1):
            with self._synchronised(last=index == n_parts):
                with autocast(self.device, state.dtype):
                    scores = self.forward(part).float()
                loss = functional.cross_entropy(
                    scores, target, label_smoothing=options.label_smoothing, reduction="sum"
                )
                # Processes average their gradients; the loss is the mean over the whole batch.
                (loss * (self.world.size / n_clips)).backward()
            sums += batch_sums(loss.detach(), scores.detach(), label)
        return sums

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Exchange gradients with the other processes only after the last part of a batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()


def batch_sums(loss: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """The summed loss of a batch, its correct clips and its size, in one tensor on the device."""
    correct = (scores.argmax(1) == labels).sum()
    return torch.stack([loss.double(), correct.double(), correct.new_tensor(len(labels)).double()])
