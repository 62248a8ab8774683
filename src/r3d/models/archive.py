"""Files of `torch.save`: their sums are checked before use, and the same content is the same bytes.

torch itself looks neither at the sums of a file nor at how large its parts say they are.
"""

import hashlib
import io
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from r3d.errors import InputError
from r3d.files import AnyPath, atomic_path

_ZIP_START = b"PK\x03\x04"
_CHUNK_BYTES = 1 << 22
_NO_CHECKPOINT = "is empty, cut short or no checkpoint; accepted: a file written by torch.save"


def load_archive(path: AnyPath) -> Any:
    """The content of a file of `torch.save`, tensors on the CPU.

    Only tensors and plain values are made of it. Memory is bounded by the size of the file.

    Raises:
        InputError: if the file cannot be read, is damaged, is none of `torch.save`, or holds other
            Python objects.
    """
    try:
        with Path(path).open("rb") as file:
            try:
                _check_sums(file)
                with warnings.catch_warnings():  # of what is refused in one line below
                    warnings.simplefilter("ignore")
                    return torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:
                # Bytes that torch.save did not write raise anything, from KeyError to OSError.
                raise InputError(f"checkpoint {path}: {_refusal(error)}") from None
    except OSError as error:
        raise InputError(f"checkpoint {path}: cannot be read ({error.strerror})") from None


def save_archive(path: AnyPath, content: dict[str, Any]) -> None:
    """Write a file that loads with `weights_only=True`; equal content gives equal bytes.

    Raises:
        OSError: if it cannot be written.
        TypeError: if a value is neither a tensor nor plain, so that it could not be loaded again.
    """
    content = _canonical(content, {})
    with atomic_path(path, durable=True) as partial:
        with partial.open("wb") as file:
            # Given a file, torch names the folder in its zip alike; by a path, after the path.
            output = _Output(file)
            try:
                torch.save(content, cast(IO[bytes], output))
            except RuntimeError:
                # After a failed write torch complains about the place that it is not at.
                raise output.error or RuntimeError(f"{path}: cannot be saved") from None
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(partial)
        if refused:
            raise TypeError(f"a checkpoint cannot hold {', '.join(sorted(refused))}")


def tensors_digest(tensors: Mapping[str, Tensor]) -> bytes:
    """A digest of names, types, shapes and values, whatever file they lay in and how."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.digest()


class _Output(io.RawIOBase):
    """A file that remembers what went wrong with it, for torch forgets that."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        if self.error is None:
            self._file.flush()


def _check_sums(file: IO[bytes]) -> None:
    """Compare the content of a zip with the sums in it; files of before torch 1.6 are no zip.

    Raises:
        InputError: saying what is wrong with it.
    """
    start = file.read(len(_ZIP_START))
    if start == _ZIP_START:
        try:
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
                n_bytes = os.fstat(file.fileno()).st_size
                stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
                if not stored or sum(part.file_size for part in parts) > n_bytes:
                    raise InputError(
                        "is compressed, or has parts larger than itself; accepted: a file as "
                        "torch.save writes it"
                    )
                if len({part.filename for part in parts}) < len(parts):
                    raise InputError("has two parts of one name; accepted: a file of torch.save")
                for part in parts:
                    with archive.open(part) as content:
                        while content.read(_CHUNK_BYTES):
                            pass
        except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
            if "CRC" in str(error):
                raise InputError(
                    "is damaged: its content does not match the sums that were written with it; "
                    "copy or download the file again, or take an earlier checkpoint"
                ) from None
            raise InputError(_NO_CHECKPOINT) from None
    file.seek(0)


def _refusal(error: Exception) -> str:
    """Why a file was not loaded, and what is accepted."""
    if isinstance(error, InputError):
        return str(error)
    found = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and found:
        return (
            f"holds a Python object ({found[1]}); accepted: tensors and plain values, "
            "such as a state dict"
        )
    return _NO_CHECKPOINT


def _canonical(value: Any, texts: dict[str, str]) -> Any:
    """A copy that is pickled alike however its parts came to be.

    Tensors lie on the CPU, each in a storage of its own and in the order of its dimensions, and
    equal texts are one object: pickle writes an object that comes again as a reference.
    """
    if isinstance(value, Tensor):
        # Flat first: a tensor with dimensions of 1 counts as contiguous whatever strides it states.
        tensor = value.detach().cpu().contiguous().flatten().view(value.shape)
        own = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if own else tensor.clone()
    if isinstance(value, str):
        return texts.setdefault(value, value)
    if isinstance(value, dict):
        copy = value.copy()
        copy.clear()
        for key, item in value.items():
            copy[_canonical(key, texts)] = _canonical(item, texts)
        return copy
    if isinstance(value, list | tuple):
        return type(value)(_canonical(item, texts) for item in value)
    return value
