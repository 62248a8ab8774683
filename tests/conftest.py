"""Fixtures for all tests: where the shared real data lies."""

import ctypes
import gc
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, settings
from synthetic import write_frames

from r3d.compute import precision
from r3d.compute.device import Layout, choose_dtype
from r3d.engines import choosing

# The same examples in each run, and no limit of time that a busy machine could miss. To look
# further: pytest --hypothesis-profile=long (docs/testing.md).
settings.register_profile(
    "suite",
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "long", settings.get_profile("suite"), max_examples=5000, derandomize=False
)
settings.load_profile("suite")


def pytest_configure() -> None:
    # A shell lets its background jobs ignore Ctrl-C, and they all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def freed_memory() -> Iterator[None]:
    """Give back what is free: the C library would keep the gigabyte of a large network."""
    yield
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        gc.collect()
        trim(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the annotation and frames of `synthetic.write_frames`."""
    folder = tmp_path_factory.mktemp("data")
    write_frames(folder)
    return folder


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Let no test keep the number of threads that a training or inference has set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of r3d in which `precision: auto` is fp32, whatever a measurement here would say.

    Processes that tests start have it, too. What other programs cached stays. For `engine: auto` no
    work is long, however busy the machine is.
    """
    with pytest.MonkeyPatch.context() as patch:
        before = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = tmp_path_factory.mktemp("cache")
        for entry in before.iterdir() if before.is_dir() else ():
            if entry.name != "r3d":
                (cache / entry.name).symlink_to(entry)
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(precision, "_measured", lambda *_, **__: (1.0, True))
        for training in (False, True):
            for layout in get_args(Layout):
                choose_dtype("auto", torch.device("cpu"), layout, training=training)
        patch.undo()
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(choosing, "_LONG_SECONDS", math.inf)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and real clips beside the checkout (R3D_SHARED elsewhere)."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("R3D_SHARED", default))
    if not (folder / "golden").is_dir():
        pytest.skip("the shared real data is not on this machine (set R3D_SHARED)")
    return folder
