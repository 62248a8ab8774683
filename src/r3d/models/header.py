"""What a checkpoint file says of itself and its weights, without loading them and without torch.

A file of `torch.save` is a pickle beside the numbers of its tensors. The pickle is gone through
operation by operation (`pickletools.genops`) and nothing of it is ever called: plain values become
plain values, a tensor its shape, any other object a stand-in.
"""

import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from r3d.errors import InputError
from r3d.files import AnyPath

_ZIP_START = b"PK\x03\x04"
_MAGIC_BEFORE_ZIP = 0x1950A86A20F9469CFC6C
# Names and shapes of the largest network with its optimiser's state are a hundredth of this.
_MOST_BYTES = 1 << 26

_NO_CHECKPOINT = "is empty, cut short or no checkpoint; accepted: a file written by torch.save"


@dataclass(frozen=True)
class Shape:
    """A tensor that is not loaded: it has the methods that `describing.present_form` needs."""

    shape: tuple[int, ...]

    def new_full(self, size: tuple[int, ...], fill_value: float) -> Self:
        return type(self)(size)

    def narrow(self, dim: int, start: int, length: int) -> Self:
        return self

    def copy_(self, src: Any) -> Self:
        return self


@dataclass(frozen=True)
class Foreign:
    """An object that is neither a tensor nor plain, by the name of what made it."""

    name: str


def read_header(path: AnyPath) -> Any:
    """The content of a file of `torch.save`, with a `Shape` in place of each tensor.

    Raises:
        InputError: if the file cannot be read, or is none of `torch.save`.
    """
    try:
        with Path(path).open("rb") as file:
            try:
                return _content(file)
            except InputError as error:
                raise InputError(f"checkpoint {path}: {error}") from None
            except Exception:
                # Bytes that torch.save did not write raise anything, from KeyError to OSError.
                raise InputError(f"checkpoint {path}: {_NO_CHECKPOINT}") from None
    except OSError as error:
        raise InputError(f"checkpoint {path}: cannot be read ({error.strerror})") from None


def _content(file: IO[bytes]) -> Any:
    start = file.read(len(_ZIP_START))
    file.seek(0)
    if start != _ZIP_START:
        if start[:1] != b"\x80" or _values(file) != _MAGIC_BEFORE_ZIP:
            raise InputError(_NO_CHECKPOINT)
        _values(file)  # the protocol
        _values(file)  # the machine
        return _values(file)
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (part for part in archive.infolist() if part.filename.endswith("/data.pkl"))
        if pickled.file_size > _MOST_BYTES or pickled.compress_type != zipfile.ZIP_STORED:
            raise InputError(_NO_CHECKPOINT)
        with archive.open(pickled) as content:
            return _values(content)


class _Global(str):
    """The name of something that a pickle would import."""


_MARK = object()


def _values(file: IO[bytes]) -> Any:
    """The value of the pickle that begins here; the file stands behind it then."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        items = []
        while (item := stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    for name, value in _operations(file):
        match name:
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(_MARK)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_SET":
                stack.append(Foreign("builtins.set"))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "LIST":
                stack.append(since_mark())
            case "DICT":
                items = since_mark()
                stack.append(dict(zip(items[::2], items[1::2], strict=True)))
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS":
                items = since_mark()
                _extend(stack[-1], items)
            case "SETITEM":
                items = [stack.pop(-2), stack.pop()]
                _update(stack[-1], items)
            case "SETITEMS":
                items = since_mark()
                _update(stack[-1], items)
            case "ADDITEMS":
                since_mark()
            case "POP":
                stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GLOBAL":
                stack.append(_Global(value.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack[-2:] = [_Global(".".join(map(str, stack[-2:])))]
            case "BINPERSID":
                stack[-1] = Foreign("torch.storage")
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack[-1] = _called(stack[-1], arguments)
            case "BUILD":  # attributes, such as the `_metadata` of a state dict
                stack.pop()
            case "PROTO" | "FRAME":
                pass
            case _ if isinstance(value, str | int | float | bytes):
                stack.append(value)
            case _:
                raise InputError(_NO_CHECKPOINT)
    raise InputError(_NO_CHECKPOINT)


def _operations(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    for operation, value, _ in pickletools.genops(file):
        yield operation.name, value


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)


def _update(target: Any, items: list[Any]) -> None:
    if isinstance(target, dict):
        target.update(zip(items[::2], items[1::2], strict=True))


def _called(made_by: Any, arguments: Any) -> Any:
    """What a call makes, which is not done: the tensors and dictionaries of `torch.save`."""
    make = _MADE.get(made_by) if isinstance(made_by, _Global) else None
    return make(arguments) if make else Foreign(str(made_by))


def _rebuilt(arguments: Any) -> Any:
    """A tensor of (storage, offset, shape, ...)."""
    shape = arguments[2]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise InputError(_NO_CHECKPOINT)
    return Shape(shape)


_MADE: dict[str, Callable[[Any], Any]] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": lambda arguments: arguments[0],
    "torch._utils._rebuild_parameter_with_state": lambda arguments: arguments[0],
    "collections.OrderedDict": lambda arguments: dict(arguments[0]) if arguments else {},
    "collections.defaultdict": lambda arguments: {},
    "torch.Size": lambda arguments: tuple(arguments[0]),
}
