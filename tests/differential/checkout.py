"""A checkout of the reference, usable in this process without leaving anything behind."""

import contextlib
import importlib
import io
import runpy
import sys
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision.transforms import transforms

_MARKS = (
    "main.py",
    "model.py",
    "dataset.py",
    "temporal_transforms.py",
    "models/pre_act_resnet.py",
    "datasets/videodataset_multiclips.py",
    "util_scripts/eval_accuracy.py",
)
"""Files that tell the version of 2020, which this package follows, from others."""

# Imported at the top of the reference's modules for functions that nothing here calls.
_OPTIONAL = ("sklearn", "sklearn.metrics", "joblib")


def missing_files(root: Path) -> list[str]:
    """What a folder lacks to be a checkout."""
    return [name for name in _MARKS if not (root / name).is_file()]


class Reference:
    """The reference's modules, scripts and options.

    Its modules have names such as `utils` and `datasets`: they are in `sys.modules` only while they
    are imported or run. For that time two things are put in place without which current versions
    of its requirements fail: names that torchvision and torch no longer have, and stand-ins for
    absent packages that only other functions need.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names = {path.stem for path in root.glob("*.py")}
        self._names |= {path.parent.name for path in root.glob("*/*.py")}
        self._absent = [name for name in _OPTIONAL if find_spec(name.partition(".")[0]) is None]
        self._modules: dict[str, ModuleType] = {}

    def module(self, name: str) -> Any:
        with self._importable():
            return importlib.import_module(name)

    def run(self, module: str, *arguments: object) -> None:
        """Run a module as `python -m` does."""
        with self._importable(), _arguments(module, *arguments):
            runpy.run_module(module, run_name="__main__", alter_sys=True)

    def defaults(self) -> dict[str, Any]:
        """The options of main.py and their values where nothing is given."""
        with _arguments("main"):
            return vars(self.module("opts").parse_opts())

    def options(self, result_path: Path, *arguments: object) -> Namespace:
        """The options of a run of main.py on one CPU, with what its main function adds."""
        result_path.mkdir(exist_ok=True)
        always = ("--result_path", result_path, "--no_cuda", "--n_threads", 0)
        with _arguments("main", *always, *arguments):
            options = self.module("main").get_opt()
        options.device = torch.device("cpu")
        options.is_master_node = True
        return options

    @contextlib.contextmanager
    def _importable(self) -> Iterator[None]:
        others = self._take_modules()
        sys.modules.update(self._modules)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self._root)
            patch.setattr(sys, "dont_write_bytecode", True)
            for name in self._absent:
                patch.setitem(sys.modules, name, _StandIn(name))
            if not hasattr(transforms, "Scale"):
                patch.setattr(transforms, "Scale", transforms.Resize, raising=False)
            if not hasattr(torch.nn.init, "kaiming_normal"):
                normal = torch.nn.init.kaiming_normal_
                patch.setattr(torch.nn.init, "kaiming_normal", normal, raising=False)
            try:
                yield
            finally:
                self._modules = self._take_modules()
                sys.modules.update(others)

    def _take_modules(self) -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in names}


class _StandIn(ModuleType):
    """A module that has every name, and fails when one of them is called."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*_: Any, **__: Any) -> None:
            raise ImportError(f"{self.__name__}.{name}: the package is not installed")

        return absent


@contextlib.contextmanager
def _arguments(*arguments: object) -> Iterator[None]:
    """Set the command line, and keep the output quiet."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "argv", [str(argument) for argument in arguments])
        yield
