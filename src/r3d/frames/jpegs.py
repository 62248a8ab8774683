"""Frames as JPEGs: their size by the header, and whether they decode."""

import simplejpeg

MAX_PIXELS = 1 << 26
"""A frame of 8192 x 8192. A header may claim 65535 x 65535, for which a decoder takes 12 GB."""


def frame_size(jpeg: bytes) -> tuple[int, int]:
    """Height and width in pixels by the header.

    Raises:
        ValueError: if it is no JPEG, or claims more than `MAX_PIXELS`.
    """
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"claims {width} x {height} pixels; accepted are {MAX_PIXELS >> 20} million in all"
        )
    return height, width


def check_jpeg(jpeg: bytes) -> tuple[int, int]:
    """Height and width in pixels of a JPEG that decodes to its end.

    Raises:
        ValueError: if it does not.
    """
    size = frame_size(jpeg)
    # An eighth of the size takes a quarter of the time; all its data are gone through.
    simplejpeg.decode_jpeg(jpeg, "GRAY", fastdct=True, min_height=1, min_width=1)
    return size
