"""Names with accents: some systems store them composed (NFC), some decomposed (NFD)."""

import unicodedata
from itertools import product


def spellings(name: str) -> list[str]:
    """The ways in which a disk may have a path that a list names: as it stands first.

    Folders may come from another system than the files in them.

    >>> [len(way) for way in spellings("Café")]
    [4, 5]
    """
    if name.isascii():
        return [name]
    parts = [
        dict.fromkeys((part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD"))))
        for part in name.split("/")[-2:]
    ]
    folder = name.split("/")[:-2]
    return ["/".join((*folder, *way)) for way in product(*parts)]
