"""Torch's optimisers without its compiler, whose import takes as long as torch itself does.

Torch decorates the methods of its optimisers so that they can be a part of compiled code, and the
first call loads the compiler. Here only networks are compiled, and steps are taken outside of that.
"""

import inspect
from typing import Any, cast

import torch
from torch.optim import Optimizer

_DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _lean(kind: type[Optimizer]) -> type[Optimizer]:
    """The same optimiser with the methods as they are within the decorations."""
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in _DECORATED}
    step = cast(Any, inspect.unwrap(kind.step))
    methods["step"] = torch.no_grad()(step)  # which one of the decorations does
    return type(kind.__name__, (kind,), {**methods, "__module__": __name__})


SGD: Any = _lean(torch.optim.SGD)
AdamW: Any = _lean(torch.optim.AdamW)
