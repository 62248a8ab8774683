"""The exceptions that are not bugs."""


class InputError(Exception):
    """Bad input: a config value, a list, a video, a checkpoint.

    The message is one line that says what is wrong, where, and which values are accepted. The
    command line and the workflow show it without a traceback; every other exception is a bug and
    keeps its traceback.

    >>> import r3d
    >>> try:
    ...     r3d.load_model("nothing.pth")
    ... except r3d.InputError as error:
    ...     print(str(error).partition(";")[0])
    model nothing.pth: no such file, nor is there models/nothing.pth
    """


class Stopped(Exception):
    """The process was told to stop and has saved its state, to go on when started again."""


def reason_of(error: Exception) -> str:
    """What an exception says, in one line: for the message of an `InputError`."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
