"""A SLURM of two nodes on this machine, beside any that is installed, for the time of the tests."""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

COMMANDS = (
    *("slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol"),
    *("squeue", "sinfo", "sacct"),
)
_SEARCH_PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"

# Everything is in one folder and on the loopback interface; a limit on memory is not enforced.
_SETTINGS = """\
ClusterName=r3d
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PlugStackConfig=/dev/null
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=64000 Gres=gpu:a100:4
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running SLURM: its commands work in `environment`."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """The output of a SLURM command."""
        return subprocess.run(
            list(command), env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def jobs(self, column: str) -> dict[str, str]:
        """A column of squeue for each job and array task of the last minutes, by its number."""
        rows = self.run("squeue", "--noheader", "--states=all", f"--format=%i {column}")
        return dict(row.split() for row in rows.splitlines())

    def wait_until(self, condition: Callable[[], object], seconds: float = 300) -> None:
        """Wait for something to become true.

        Raises:
            TimeoutError: with the ends of all logs.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tails = [
                    f"{path}:\n{path.read_text()[-2000:]}" for path in self.folder.glob("*.log")
                ]
                raise TimeoutError("\n".join(tails))
            time.sleep(0.3)


def missing_programs() -> list[str]:
    """The programs that are not installed."""
    programs = ("munged", "setpriv", *COMMANDS)
    return [name for name in programs if not shutil.which(name, path=_SEARCH_PATH)]


@contextmanager
def start_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a SLURM whose files are all in `folder`, and end it with everything it started."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    settings = folder / "slurm.conf"
    settings.write_text(
        _SETTINGS.format(
            host=socket.gethostname(), user=getpass.getuser(), folder=folder, ports=_free_ports(3)
        )
    )
    # GPUs in name only: jobs can ask for them, but there is no device.
    for number in range(4):
        (folder / f"gpu{number}").symlink_to("/dev/null")
    (folder / "gres.conf").write_text(f"Name=gpu Type=a100 File={folder}/gpu[0-3]\n")
    environment = {
        **os.environ,
        "PATH": f"{_bind_commands(folder / 'bin', settings)}:{_SEARCH_PATH}",
    }
    cluster = Cluster(folder, environment)
    with ExitStack() as daemons:
        daemons.callback(_end_lost_processes, folder)

        def start(*command: str) -> None:
            log = (folder / f"{Path(command[0]).name}.out.log").open("ab")
            daemon = subprocess.Popen(
                # They end with the tests, however these end.
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=environment,
                stdout=log,
                stderr=log,
            )
            daemons.callback(_end, daemon)

        start(
            *("munged", "--foreground", "--force", f"--key-file={key}"),
            *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
            *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"),
        )
        cluster.wait_until((folder / "munge.socket").exists)
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", "n1")
        start("slurmd", "-D", "-N", "n2")
        cluster.wait_until(lambda: _count_idle(cluster) == 2)
        try:
            yield cluster
        finally:
            subprocess.run(["scancel", "--user", getpass.getuser()], env=environment, check=False)
            cluster.wait_until(lambda: not cluster.run("squeue", "--noheader"))


def _bind_commands(folder: Path, settings: Path) -> Path:
    """Make SLURM's commands with these settings; a variable would be lost inside of jobs."""
    folder.mkdir()
    for name in COMMANDS:
        program = shutil.which(name, path=_SEARCH_PATH)
        (folder / name).write_text(f'#!/bin/sh\nSLURM_CONF={settings} exec {program} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def _count_idle(cluster: Cluster) -> int:
    found = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(found.stdout.splitlines())


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _end_lost_processes(folder: Path) -> None:
    """End the jobs' processes that SLURM has lost: it knows a process by its parent, if alive."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended meanwhile
            if f"{folder}/bin:".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as open_sockets:
        listeners = [open_sockets.enter_context(socket.socket()) for _ in range(n)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
