"""Broken lists and checkpoints, 200 of each; by hand as many as there is time for (`fuzz.py`)."""

import pytest
import torch
from fuzz import TARGETS, fuzz


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_broken_files_are_read_or_refused_in_a_line(target: str):
    problems = fuzz(target, seconds=60, limit=200)
    assert not problems, "\n".join(problems)
