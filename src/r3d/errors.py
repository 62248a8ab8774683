"""The exceptions that are not bugs."""

import os


class InputError(Exception):
    """Bad input: a config value, a list, a video, a checkpoint.

    The message is one line that says what is wrong, where, and which values are accepted; where
    several things are wrong with a config, a line for each. The command line and the workflow show
    it without a traceback; every other exception is a bug and keeps its traceback.

    >>> import r3d
    >>> try:
    ...     r3d.load_model("nothing.pth")
    ... except r3d.InputError as error:
    ...     print(str(error).partition(";")[0])
    model nothing.pth: no such file, nor is there models/nothing.pth
    """


class WriteError(InputError, OSError):
    """A file or folder cannot be written: a full disk, no right, something else in the way."""


class Stopped(Exception):
    """The process was told to stop and has saved its state, to go on when started again."""


def reason_of(error: Exception) -> str:
    """What an exception says, in one line: for the message of an `InputError`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it stands in a message: what cannot be printed, such as a line break, is escaped.

    >>> shown("a\\nb/é.mp4")
    'a\\\\nb/é.mp4'
    """
    text = os.fspath(path)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
