"""One process a device, started by torchrun: who this process is and sums over all of them."""

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from r3d.compute.device import need_gpus
from r3d.errors import InputError, Stopped

_LINES_SENT = 1000  # lines that travel to the main process at a time
_END_SECONDS = 60
_PEER_SECONDS = 20
_LOST_PEER = re.compile(
    r"connection (?:was )?(?:closed|reset)|broken pipe|remote process exited|"
    r"NCCL communicator was aborted|socket (?:timeout|closed)",
    re.IGNORECASE,
)
# What torch says of memory that a CPU has not, or no machine has.
_NO_MEMORY = re.compile("can't allocate memory|calculation overflowed|multiplication overflow")


@dataclass(frozen=True)
class World:
    """The processes that work together; a single one unless torchrun started more.

    Attributes:
        rank: number of this process among all, from 0.
        size: how many processes there are, over all nodes.
        local_rank: number of this process on its node: the device it takes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def own(self, device: torch.device) -> torch.device:
        """The device that is this process's own.

        Raises:
            InputError: if this machine has not as many.
        """
        if device.type != "cuda":
            return device
        need_gpus(self.local_rank + 1, "processes of this node")
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def wrap(
        self, network: nn.Module, device: torch.device, *, batchnorm_sync: bool = False
    ) -> nn.Module:
        """The network with gradients averaged over all processes.

        Args:
            batchnorm_sync: whether batch norm, too, takes its statistics over all processes.

        Raises:
            InputError: for `batchnorm_sync` on a CPU, which torch has not.
        """
        if self.size == 1:
            return network
        if batchnorm_sync and device.type != "cuda":
            raise InputError(
                f"batchnorm_sync: true works on GPUs only, this is {self.size} processes on the "
                "CPU; accepted there: false, or a single process"
            )
        ids = [self.local_rank] if device.type == "cuda" else None
        if batchnorm_sync:
            # In place, and with the same parameters, but for a network that is a norm itself.
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        # Frozen layers take no part in the exchange; no layer is skipped in a forward pass.
        return DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the batch-norm statistics of the main one.

        They are of its own clips only, and what is saved.
        """
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def send_lines(self, lines: Iterable[str]) -> None:
        """Give lines to the main process when it asks for them.

        Until then they are kept on disk: it first goes through its own.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
            kept.writelines(f"{line}\n" for line in lines)
            kept.seek(0)
            while part := [line.removesuffix("\n") for line in islice(kept, _LINES_SENT)]:
                dist.send_object_list([part], 0)
            dist.send_object_list([None], 0)

    def receive_lines(self) -> Iterator[str]:
        """In the main process: the lines that the others send, by rank."""
        for rank in range(1, self.size):
            received: list[Any] = [None]
            while dist.recv_object_list(received, rank) == rank and received[0] is not None:
                yield from received[0]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Join the other processes that torchrun started, if it did: NCCL on CUDA, gloo on the CPU.

    Raises:
        InputError: if the memory of the device does not suffice, or another process is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        with _memory_suffices(device):
            yield World()
        return
    store, rank, size = next(dist.rendezvous("env://"))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        with _memory_suffices(device):
            yield World(rank, size, int(os.environ["LOCAL_RANK"]))
    except Exception as error:
        if _LOST_PEER.search(str(error)) and not isinstance(error, InputError):
            time.sleep(_PEER_SECONDS)  # torchrun sees why, says it and ends this process, too
            raise InputError(
                f"another of the {size} processes has ended, or cannot be reached any more; see "
                "its own messages, then start again: a training goes on from its last state"
            ) from error
        if not _is_first_to_fail(store):
            _end_silently(error)
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def _memory_suffices(device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's own for GPUs is a RuntimeError
        reason = str(error).partition("\n")[0].partition(". GPU")[0]
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(reason)
        ):
            raise
        raise InputError(
            f"the memory of {device} does not suffice ({reason}); in training set "
            "accumulate_steps: 2 or more, or lower batch_size; in inference lower "
            "inference_batch_size; or take smaller clips or a smaller network; then start again: "
            "a training goes on from its last state"
        ) from None


def _is_first_to_fail(store: dist.Store) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # its keeper has ended already, so another process failed before
        return False


def _end_silently(error: Exception) -> NoReturn:
    """End a process that fails as another one does, or because another one did."""
    if isinstance(error, Stopped):
        sys.exit(128 + signal.SIGTERM)
    # torchrun ends all processes when one has ended: let it be the one that says why.
    time.sleep(_END_SECONDS)
    sys.exit(1)
