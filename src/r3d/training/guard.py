"""Computing a step's gradients again where oneDNN has spoilt them.

In bf16, channels last, on several threads of a CPU, a gradient was NaN now and then (torch 2.13
and 2.15); `r3d.models.base.Conv3d` avoids the one cause that is known. There a step whose gradients
are not finite is computed again, contiguous, from the same state.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

# What torch says, once a process, of gradients that have another layout than the memory in which
# processes exchange them: they are copied into it, which costs the step a little.
_OTHER_LAYOUT = "Grad strides do not match bucket view strides"


class GradientGuard:
    """Computes gradients at most twice; counts how often."""

    def __init__(self, network: nn.Module, *, says: bool) -> None:
        """Guard the gradients of a network.

        Args:
            says: whether this process is the one that writes the log.
        """
        self.n_repeated = 0
        self._network, self._says = network, says

    def __call__(self, compute: Callable[[torch.memory_format], Tensor], what: str) -> Tensor:
        """What `compute` returns, whose gradients are finite unless they are not so contiguous.

        Processes that share a batch decide alike: their gradients are the same by then.

        Args:
            compute: clears the gradients and computes them, from clips in a layout.
            what: the step, for the log.
        """
        buffers = [buffer.clone() for buffer in self._network.buffers()]
        random = torch.get_rng_state()
        result = compute(torch.channels_last_3d)
        if self._are_finite():
            return result
        self.n_repeated += 1
        if self._says:
            _log.warning(
                "%s: gradients were not finite in bf16, channels last, and are computed again "
                "contiguous (%d so far)",
                *(what, self.n_repeated),
            )
        # What the first time left behind: statistics of batch norms and random numbers.
        with torch.no_grad():
            for buffer, before in zip(self._network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        torch.set_rng_state(random)
        warnings.filterwarnings("ignore", _OTHER_LAYOUT)
        self._lay_out(torch.contiguous_format)
        try:
            return compute(torch.contiguous_format)
        finally:
            self._lay_out(torch.channels_last_3d)

    def _lay_out(self, layout: torch.memory_format) -> None:
        """Give the weights of convolutions a layout, and their gradients.

        Not by `Module.to`, which changes the gradients in place: those of processes that share a
        batch are views of the memory that is exchanged, which would then get none of them.
        """
        for weight in self._network.parameters():
            if weight.dim() == 5:
                weight.data = weight.data.to(memory_format=layout)
                if weight.grad is not None:
                    weight.grad = weight.grad.to(memory_format=layout)

    def _are_finite(self) -> bool:
        gradients = [weight.grad for weight in self._network.parameters()]
        sums = [gradient.sum() for gradient in gradients if gradient is not None]
        return not sums or bool(torch.stack(sums).isfinite().all())
