"""A fingerprint of the library code that a step uses.

The workflow passes it as a parameter of the step's rule, so that a change of the code reruns the
step. Which modules belong to a step is not kept by hand: it is what the step's module imports.
"""

import ast
import hashlib
import json
import sys
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from r3d.files import atomic_path

PACKAGE = Path(__file__).parents[1]


@cache
def code_version(module: str) -> str:
    """Eight hex digits that change when code of `r3d.<module>`, or of what it imports, changes.

    Of a package every module counts, and so does each that may be imported by a name put together
    at run time (`import_module(f"r3d.package.{name}")`). Comments, docstrings and layout do not.

    >>> code_version("training.train")
    'a41f09c3'
    """
    known = _known(_all_sources())
    if module not in known:
        known[module] = _version(module)
        _remember(_all_sources(), known)
    return known[module]


def _version(module: str) -> str:
    found = set(_sources(f"r3d.{module}"))
    if not found:
        raise ValueError(f"r3d.{module} is no module")
    queue = list(found)
    while queue:
        new = _code_and_imports(queue.pop())[1] - found
        found |= new
        queue.extend(new)
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(_code_and_imports(path)[0].encode())
    return digest.hexdigest()[:8]


@cache
def _all_sources() -> str:
    """What changes with any source file of the package."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _notes() -> Path:
    """Where versions are noted down, beside what Python compiles: parsing takes half a second."""
    return Path(cache_from_source(PACKAGE / "codeversion.py")).with_suffix(".json")


def _known(sources: str) -> dict[str, str]:
    """The versions that are noted of these sources."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        noted = json.loads(_notes().read_text(encoding="utf-8"))
        if noted["sources"] == sources:
            return {str(module): str(version) for module, version in noted["versions"].items()}
    return {}


def _remember(sources: str, versions: dict[str, str]) -> None:
    if sys.dont_write_bytecode:
        return
    with suppress(OSError):  # not everybody may write there
        path = _notes()
        path.parent.mkdir(exist_ok=True)
        with atomic_path(path) as partial:
            partial.write_text(json.dumps({"sources": sources, "versions": versions}))


@cache
def _code_and_imports(path: Path) -> tuple[str, frozenset[Path]]:
    """The code of a file without docstrings and comments, and the package's files it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names += [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                # `from r3d import motion` names a module, `from r3d.motion import SPLITS` does not.
                names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if text.endswith("."):
                names.append(text.removesuffix("."))
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:]
    sources = (_sources(name) for name in names if name.startswith("r3d."))
    return ast.dump(tree), frozenset(path for paths in sources for path in paths)


def _sources(name: str) -> list[Path]:
    """The source files of a dotted module or package name; none if it is neither."""
    base = PACKAGE.joinpath(*name.split(".")[1:])
    if base.with_suffix(".py").is_file():
        return [base.with_suffix(".py")]
    return sorted(base.glob("*.py"))
