"""Fixtures for all tests: where the shared real data lies."""

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    # A shell lets its background jobs ignore Ctrl-C, and they all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and real clips beside the checkout (R3D_SHARED elsewhere)."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("R3D_SHARED", default))
    if not (folder / "golden").is_dir():
        pytest.skip("the shared real data is not on this machine (set R3D_SHARED)")
    return folder
