"""Paths as a person writes them: `~` and `$NAME` stand for folders; and where a cache is kept."""

import os
import re
import tempfile
from functools import cache
from pathlib import Path

from r3d.errors import InputError

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[^{}]*)\})", re.A)


def expanded(path: str) -> str:
    """A path with what `~`, `~user`, `$NAME` and `${NAME}` stand for; `$$` is a dollar sign.

    File names may hold all of these: where nothing in a path stands for anything, it is taken as it
    is written, if there is something of that name.

    >>> os.environ["DATA"] = "/data"
    >>> expanded("${DATA}/ucf101")
    '/data/ucf101'

    Raises:
        InputError: naming the variable that is not set or empty, or the user that there is not.
    """
    if "$" not in path and not path.startswith("~"):
        return path
    unknown: list[str] = []
    known: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name = match["name"] or match["braced"] or ""
        found = os.environ.get(name, "")
        if found:
            known.append(name)
        else:
            problem = (
                f"the environment variable {name} is not set or empty; set it (export {name}=...)"
                if name.isidentifier()
                else f"{match[0]} names no environment variable; give one such as ${{HOME}}"
            )
            unknown.append(f"{problem}, or write $$ for a dollar sign")
        return found

    home, slash, rest = path.partition("/") if path.startswith("~") else ("", "", path)
    if home:
        folder = os.path.expanduser(home)  # noqa: PTH111
        if folder == home:
            user = f"user {home[1:]}" if home[1:] else "home folder of this user"
            unknown.append(f"there is no {user}; write ./{path} for a file or folder of that name")
        else:
            known.append(home)
            home = folder.rstrip("/") if slash else folder
    result = home + slash + _REFERENCE.sub(value, rest)
    if not known and os.path.lexists(path):
        return path
    if unknown:
        raise InputError(f"{path!r}: {unknown[0]}")
    return result


def cache_folder(name: str) -> Path:
    """A folder in the cache of this user, by the XDG specification; what is in it may go any time.

    >>> os.environ["XDG_CACHE_HOME"] = "/cache"
    >>> cache_folder("headers")
    PosixPath('/cache/r3d/headers')

    Without a home folder it is a temporary one of this process, which goes with it.
    """
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given, "r3d", name)
    try:
        return Path.home() / ".cache/r3d" / name
    except RuntimeError:  # neither HOME nor an entry of the user, as in some containers
        return Path(_temporary_cache().name, "r3d", name)


@cache
def _temporary_cache() -> tempfile.TemporaryDirectory[str]:
    # Its name is not to be foretold: what is in a cache is believed.
    return tempfile.TemporaryDirectory(prefix="r3d-cache-", ignore_cleanup_errors=True)
