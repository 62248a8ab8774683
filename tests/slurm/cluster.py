"""A SLURM of two nodes on this machine, beside any that is installed, for the time of the tests.

Without accounting every user may do everything. With it, as on most clusters, a job needs an
account and a partition: a database of its own keeps who may use what, and what has run.
"""

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
from typing import Any

COMMANDS = (
    *("slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol"),
    *("squeue", "sinfo", "sacct", "sacctmgr", "sshare"),
)
_ACCOUNTING_COMMANDS = ("slurmdbd", "mariadbd", "mariadb-install-db")
_SEARCH_PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"

# Everything is in one folder and on the loopback interface; a limit on memory is not enforced.
# Jobs are remembered for longer than is usual, for tests to look at them.
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
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=3600
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=64000 Gres=gpu:a100:4
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=DEFAULT Nodes=n1,n2 MaxTime=INFINITE State=UP
"""
_WITHOUT_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Default=YES PreemptMode=OFF
PartitionName=preempt_requeue
PartitionName=preempt_cancel PreemptMode=CANCEL
PartitionName=urgent PriorityTier=2
"""
_WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[3]}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
EnforcePartLimits=ALL
PartitionName=cpu AllowAccounts=lab
PartitionName=gpu AllowAccounts=lab
"""
_DATABASE_SETTINGS = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[3]}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
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


def missing_programs(*, accounting: bool = False) -> list[str]:
    """The programs that are not installed."""
    programs = ("munged", "setpriv", *COMMANDS, *(_ACCOUNTING_COMMANDS if accounting else ()))
    return [name for name in programs if not shutil.which(name, path=_SEARCH_PATH)]


@contextmanager
def start_cluster(folder: Path, *, accounting: bool = False) -> Iterator[Cluster]:
    """Run a SLURM whose files are all in `folder`, and end it with everything it started.

    Args:
        accounting: whether it has accounts: this user's own is of no use, that named lab is.
    """
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    settings = folder / "slurm.conf"
    values: dict[str, Any] = {
        "host": socket.gethostname(),
        "user": getpass.getuser(),
        "folder": folder,
        "ports": _free_ports(4),
    }
    partitions = _WITH_ACCOUNTING if accounting else _WITHOUT_ACCOUNTING
    settings.write_text((_SETTINGS + partitions).format(**values))
    # GPUs in name only: jobs can ask for them, but there is no device.
    for number in range(4):
        (folder / f"gpu{number}").symlink_to("/dev/null")
    (folder / "gres.conf").write_text(f"Name=gpu Type=a100 File={folder}/gpu[0-3]\n")
    environment = {
        **os.environ,
        "PATH": f"{_bind_commands(folder / 'bin', settings)}:{_SEARCH_PATH}",
        "MYSQL_UNIX_PORT": f"{folder}/database.socket",
        # Nodes have more CPUs than the machine: threads that wait must not keep others from one.
        "OMP_WAIT_POLICY": "PASSIVE",
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
        if accounting:
            database_settings = folder / "slurmdbd.conf"
            database_settings.touch(0o600)
            database_settings.write_text(_DATABASE_SETTINGS.format(**values))
            _make_database(folder, environment)
            start(
                *("mariadbd", "--no-defaults", f"--datadir={folder}/database", "--skip-networking"),
                *(f"--socket={folder}/database.socket", f"--user={getpass.getuser()}"),
                *("--innodb-buffer-pool-size=64M", f"--pid-file={folder}/mariadbd.pid"),
            )
            cluster.wait_until((folder / "database.socket").exists)
            start("slurmdbd", "-D")
            cluster.wait_until(lambda: _make_account(cluster))
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
    for name in (*COMMANDS, "slurmdbd"):
        program = shutil.which(name, path=_SEARCH_PATH)
        (folder / name).write_text(f'#!/bin/sh\nSLURM_CONF={settings} exec {program} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def _make_database(folder: Path, environment: dict[str, str]) -> None:
    """Make an empty database, which this user alone may use, and nobody over the network."""
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", f"--datadir={folder}/database"),
            *(f"--user={getpass.getuser()}", "--skip-test-db"),
        ],
        env=environment,
        check=True,
        capture_output=True,
    )


def _make_account(cluster: Cluster) -> bool:
    """Whether the accounting answers already; if so, give this user an account named lab."""
    user = getpass.getuser()
    answer = subprocess.run(
        ["sacctmgr", "--immediate", "add", "cluster", "r3d"],
        env=cluster.environment,
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        return False
    cluster.run("sacctmgr", "--immediate", "add", "account", "other,lab")
    cluster.run("sacctmgr", "--immediate", "add", "user", user, "account=other,lab")
    return True


def _count_idle(cluster: Cluster) -> int:
    found = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(set(found.stdout.splitlines()))  # a node has a line for each of its partitions


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
