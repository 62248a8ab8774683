"""A JSON file with something odd in one place of it after the other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r3d.errors import InputError

_MARK = "\x01odd"

# As they stand in the file.
_VALUES = {
    "null": "null",
    "true": "true",
    "number": "3",
    "negative": "-3",
    "fraction": "2.5",
    "not a number": "NaN",
    "infinite": "Infinity",
    "exponent": "1e400",
    "4,000 digits": "9" * 4000,
    "5,000 digits": "9" * 5000,
    "text": '"odd"',
    "empty": '""',
    "null byte": '"a\\u0000b"',
    "line break": '"a\\nb"',
    "half a character": '"\\ud800"',
    "list": "[]",
    "list of texts": '["a", "b"]',
    "list of numbers": "[7, 8]",
    "object": "{}",
    "nested": "[" * 900 + "]" * 900,
    "nested deeply": "[" * 200_000 + "]" * 200_000,
}


def odd_files(folder: Path, data: Any) -> Iterator[tuple[str, Path]]:
    """Files in which one value of `data`, at any depth, is an odd one; what and where it is."""
    path = folder / "odd.json"
    for place, marked in _marked(data):
        for name, value in _VALUES.items():
            path.write_text(json.dumps(marked).replace(json.dumps(_MARK), value))
            yield f"{name} at {place}", path


def accepts_or_says_why(
    what: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    """Check that a call takes what it is given, or refuses it in a line that a person can read.

    Returns:
        What it gives; None if it refuses.
    """
    try:
        return function(*arguments, **options)
    except InputError as error:
        message = str(error)
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    assert "\n" not in message, what
    assert "\r" not in message, what
    assert len(message) < 1000, what
    return None


def _marked(data: Any, place: str = "the top") -> Iterator[tuple[str, Any]]:
    yield place, _MARK
    if isinstance(data, dict):
        for key, value in data.items():
            for inner, marked in _marked(value, f"{place}, {key}"):
                yield inner, {**data, key: marked}
    elif isinstance(data, list):
        for i, value in enumerate(data):
            for inner, marked in _marked(value, f"{place}, {i}"):
                yield inner, [*data[:i], marked, *data[i + 1 :]]
