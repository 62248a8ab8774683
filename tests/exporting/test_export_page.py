"""docs/export.md: every command and every program of it runs, one after the other."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import example
import numpy as np
import pyarrow.parquet as pq
import pytest
from running import ROOT


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.S)
    commands = "".join(text for kind, text in blocks if kind == "sh")
    assert [commands.count(f"r3d {name}") for name in ("info", "features", "export")] == [1, 3, 3]
    example.demo_folder(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/r3d"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m r3d "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    printed = ""
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "docs/export.md", "exec"), {})
            continue
        command = ["bash", "-e", "-o", "pipefail", "-c", text]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    # What the page shows of a file is what is said of one, but for its numbers.
    shown = re.search(r"\n    file  .*?\n\n", page, re.S)
    assert shown is not None
    names = [line.split()[0] for line in shown[0].strip().splitlines()]
    assert [line.split()[0] for line in printed.splitlines()[:10]] == names
    assert "motion.onnx: resnet-10 of 8 classes, takes uint8 pixels (b, 16, 64, 64, 3)" in printed
    assert "(accepted: 1e-04)" in printed
    with np.load("zoom.npz") as file:
        assert file["features"].shape == (4, 128)
    assert pq.read_metadata("clips.parquet").num_rows > 8
    assert sorted(path.name for path in Path("motion-resnet").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("time, height, width, RGB")
    assert lines[-1].startswith("['RotateClockwise', 'RotateCounterclockwise', 'TranslateDown']")
