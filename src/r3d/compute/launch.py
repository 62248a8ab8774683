"""Running a function in several processes that share its work, started by torchrun.

    script of a rule -> torchrun on this node -> one process a GPU
                     -> srun -> torchrun on each node -> one process a GPU

A failure anywhere ends all of them, and only its first message is shown.
"""

import base64
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from r3d.compute.device import need_gpus, own_gpus
from r3d.compute.record import recorded
from r3d.config.options import Resources
from r3d.errors import InputError
from r3d.workflow.jobs import job

_JOIN_SECONDS = 600  # between the first node that is ready and the last

# Arguments that say how a function runs, and not what it does.
_HOW = ("run", "n_cores", "batch_size")


@dataclass(frozen=True)
class _Work:
    """What each process is to do, and how the processes find each other."""

    function: Callable[..., None]
    arguments: dict[str, Any]
    log: Path
    nodes: int
    processes_per_node: int
    address: str
    port: int


def launch(
    function: Callable[..., None],
    *,
    resources: Resources,
    log: str | Path,
    n_cores: int,
    **arguments: Any,
) -> None:
    """Call a function in this process, or in several that find each other by `join_world`.

    Where it has run is noted beside the log (`r3d.compute.record`).

    Args:
        function: a function of a module; its arguments are pickled.
        resources: how many nodes and processes.
        log: file that the processes append their messages to.
        n_cores: cores of each node; each process is given its share as `n_cores`.

    Raises:
        InputError: for more GPUs than there are; if a process is killed.
    """
    per_node = resources.processes_per_node
    if resources.nodes == 1 and _uses_gpus(arguments):
        option = f"resources.{resources.gpus_option}"
        own_gpus(max(per_node, resources.gpus_per_node), option)
        need_gpus(resources.gpus_per_node, option)
    arguments["n_cores"] = max(1, n_cores // per_node)
    work = {name: value for name, value in arguments.items() if name not in _HOW}
    asked = resources.gpus_per_node if _uses_gpus(arguments) else 0
    with recorded(log, work, cores=n_cores * resources.nodes, on_gpus=lambda: _on_gpus(asked)):
        if resources.nodes * per_node == 1:
            function(**arguments)
        else:
            _run_processes(function, arguments, resources, log, n_cores)


def _on_gpus(asked: int) -> dict[str, Any]:
    """The GPUs of this machine that were used, and the most memory of this process on its own."""
    if not torch.cuda.is_initialized() and not (asked and torch.cuda.is_available()):
        return {}
    names = [torch.cuda.get_device_name(number) for number in range(max(1, asked))]
    megabytes = round(torch.cuda.max_memory_allocated() / 2**20)
    return {"gpus": names, "gpu_memory_mb": megabytes or None}


def _run_processes(
    function: Callable[..., None],
    arguments: dict[str, Any],
    resources: Resources,
    log: str | Path,
    n_cores: int,
) -> None:
    """Run a function in processes on one node or several."""
    per_node = resources.processes_per_node
    one_node = resources.nodes == 1
    work = _Work(
        function=function,
        arguments=arguments,
        log=Path(log),
        nodes=resources.nodes,
        processes_per_node=per_node,
        address="localhost" if one_node else socket.gethostname(),
        port=_free_port(),
    )
    payload = base64.b64encode(pickle.dumps(work)).decode()
    if one_node:
        _run_node(work, payload, node=0)
    else:
        _run_nodes(work, payload, n_cores)


def _run_nodes(work: _Work, payload: str, n_cores: int) -> None:
    """Start a torchrun on each node of the SLURM job that this process is a part of."""
    if "SLURM_JOB_ID" not in os.environ:
        raise InputError(
            f"resources.nodes: {work.nodes} nodes need a SLURM job "
            "(snakemake --profile profiles/slurm); accepted elsewhere: 1"
        )
    command = [
        *("srun", f"--nodes={work.nodes}", f"--ntasks={work.nodes}", "--ntasks-per-node=1"),
        *(f"--cpus-per-task={n_cores}", "--kill-on-bad-exit=1", "--quiet"),
        *(sys.executable, "-m", "r3d.compute.launch", payload),
    ]
    with subprocess.Popen(command) as srun:
        # srun passes it on to all processes of the step, which save their state.
        signal.signal(signal.SIGTERM, lambda number, _: srun.send_signal(number))
        status = srun.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _run_node(work: _Work, payload: str, *, node: int) -> None:
    """Run the processes of one node to their end, as torchrun does."""
    if _uses_gpus(work.arguments):
        own_gpus(work.processes_per_node, "resources.gpus")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=work.nodes,
        max_nodes=work.nodes,
        nproc_per_node=work.processes_per_node,
        rdzv_backend="static",
        rdzv_endpoint=f"{work.address}:{work.port}",
        rdzv_configs={"rank": node, "timeout": _JOIN_SECONDS},
        run_id="r3d",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "r3d.compute.launch", payload)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode < 0 and -first.exitcode not in (signal.SIGTERM, signal.SIGINT):
            raise InputError(
                f"process {first.local_rank} of {work.processes_per_node} was ended by "
                f"{signal.Signals(-first.exitcode).name}, as the system does where memory runs "
                "out; lower n_threads or processes, or raise mem_mb (resources); then start again: "
                "a training goes on from its last state"
            ) from None
        sys.exit(first.exitcode if first.exitcode > 0 else 128 - first.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def _uses_gpus(arguments: dict[str, Any]) -> bool:
    run = arguments.get("run")
    return not (run and run.no_cuda)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _main() -> None:
    """Be the torchrun of a node, or one of the processes that it starts."""
    payload = sys.argv[1]
    work: _Work = pickle.loads(base64.b64decode(payload))
    with job(work.log, append=True):
        if "LOCAL_RANK" not in os.environ:
            _run_node(work, payload, node=int(os.environ["SLURM_NODEID"]))
            return
        if os.environ["RANK"] != "0":
            logging.getLogger().setLevel(logging.WARNING)
        work.function(**work.arguments)


if __name__ == "__main__":
    _main()
