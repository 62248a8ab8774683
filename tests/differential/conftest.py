"""Comparisons with a checkout of the reference, to which R3D_REFERENCE points."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from checkout import Reference, missing_files
from samples import DataSet, make_data_set
from scripts import Scripts

VARIABLE = "R3D_REFERENCE"


class _Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"{VARIABLE} does not point to a checkout of 3D-ResNets-PyTorch")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> _Skipped | None:
    """Skip all modules here with one reason, without importing them."""
    if os.environ.get(VARIABLE):
        return None
    return _Skipped.from_parent(parent, path=module_path)


def pytest_collection_modifyitems() -> None:
    """Refuse a variable that points elsewhere: once, not in every test."""
    if not os.environ.get(VARIABLE):
        return
    missing = missing_files(Path(os.environ[VARIABLE]))
    if missing:
        raise pytest.UsageError(
            f"{VARIABLE}: {os.environ[VARIABLE]!r} is no checkout of 3D-ResNets-PyTorch, it lacks "
            f"{', '.join(missing)}; give its folder, or unset the variable to skip the comparisons"
        )


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference(Path(os.environ[VARIABLE]).resolve())


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    root = Path(os.environ[VARIABLE]).resolve()
    return Scripts(root, tmp_path_factory.mktemp("scripts") / "bin")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_set(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Lists in the format of Kinetics, frames in both layouts, and our annotations of them."""
    return make_data_set(tmp_path_factory.mktemp("kinetics"))
