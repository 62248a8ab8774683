"""The one exception for input that a person has to mend."""


class InputError(Exception):
    """Bad input: a config value, a list, a video, a checkpoint.

    The message is one line that says what is wrong, where, and which values are accepted. The
    command line and the workflow show it without a traceback; every other exception is a bug and
    keeps its traceback.
    """
