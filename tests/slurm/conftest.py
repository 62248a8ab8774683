"""A SLURM for all tests of this folder, and workflows on it."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from cluster import Cluster, missing_programs, start_cluster

from workflow import Workflow


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _start_cluster(tmp_path_factory, accounting=False)


@pytest.fixture(scope="module")
def accounted_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _start_cluster(tmp_path_factory, accounting=True)


def _start_cluster(folders: pytest.TempPathFactory, *, accounting: bool) -> Iterator[Cluster]:
    missing = missing_programs(accounting=accounting)
    if missing:
        pytest.skip(
            f"no SLURM to test with ({', '.join(missing)} not found; "
            "`make test-slurm` installs it on Debian when run by root)"
        )
    # Whoever ends the tests ends the jobs with them.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with start_cluster(folders.mktemp("slurm"), accounting=accounting) as running:
        yield running
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def workflow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return Workflow(tmp_path_factory.mktemp("workflow"), cluster)


@pytest.fixture
def interrupt() -> Iterator[list[subprocess.Popen[bytes]]]:
    """End what a test has put in here, as Ctrl-C does."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=300)


def pytest_configure() -> None:
    os.environ.pop("SLURM_CONF", None)  # never that of a cluster this machine belongs to
