"""Which frames of a video are extracted: what is asked for, and how a video is decoded for it."""

from dataclasses import dataclass
from fractions import Fraction

from r3d.frames.layouts import Colour
from r3d.frames.probing import FALLBACK_RATE, VideoInfo

# The constant rate that a container states is kept while it makes one copy a coded frame at most,
# and fills no longer pause.
_MOST_FRAMES = 2.0
_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Selection:
    """Which frames of a video are extracted, and how.

    short_side: of the frames in pixels, 0 to keep the size; smaller videos are enlarged.
    quality: JPEG quantiser, 2 (best) to 31; None for ffmpeg's default.
    fps: rate to thin out to by dropping frames; at or above the rate of the video all are kept.
    start, end: seconds; None for the beginning and the end of the video.
    colour: whether colours of other matrices than that of JPEG, BT.601, are converted to it.
    """

    short_side: int
    quality: int | None
    fps: float | None
    start: float | None
    end: float | None
    colour: Colour = "converted"

    @property
    def whole(self) -> bool:
        """Whether it is no segment."""
        return self.start is None and self.end is None

    def matrix(self, info: VideoInfo) -> str | None:
        """The matrix to convert colours from, as ffmpeg calls it; None if they are kept."""
        return info.foreign_matrix if self.colour == "converted" else None


@dataclass(frozen=True)
class Plan:
    """How a video is decoded for a selection.

    rate: frames per second before thinning out.
    each_once: whether each coded frame comes once; otherwise frames are repeated and dropped so
        that they come at the constant rate, as the reference's do.
    reason: why the stated rate is not followed; "" where it is.
    expected: frames that come out by the time stamps, or by what the container states if there are
        none; None if nothing tells.
    stated: frames that come out by what the container states, if it does.
    fps: frames per second that come out.
    most: frames that time stamps explain at most; None if nothing tells.
    """

    rate: Fraction
    each_once: bool
    reason: str
    expected: float | None
    stated: float | None
    fps: Fraction
    most: float | None

    @property
    def thins(self) -> bool:
        return self.fps < self.rate

    @property
    def seconds(self) -> float | None:
        """How long the selection lasts, by time stamps and container; None if neither tells."""
        known = [n for n in (self.expected, self.stated) if n is not None]
        return max(known) / float(self.fps) if known else None

    def fits(self, frames: int) -> bool:
        """Whether as many frames come out, as far as one can tell."""
        known = [n for n in (self.expected, self.stated) if n is not None]
        return not known or any(
            not (clearly_fewer(frames, n) or clearly_fewer(n, frames)) for n in known
        )

    def exceeded_by(self, frames: int) -> bool:
        """Whether there are clearly more frames than the time stamps explain."""
        return self.most is not None and clearly_fewer(self.most, frames)

    @property
    def bound(self) -> float:
        """More frames than this are copies without end."""
        return 2 * self.most + 100 if self.most is not None else float("inf")


def plan(info: VideoInfo, selection: Selection, *, each_once: str = "") -> Plan:
    """How to decode a video, by what is known of it.

    A stated rate is followed where it is true of the coded frames: their time stamps leave no room
    for more than one copy each, nor for fewer than they are. Otherwise each frame comes once.

    Args:
        each_once: a reason to take each frame once whatever the stamps.
    """
    rate = info.rate or FALLBACK_RATE
    stamped = info.coded - info.unstamped
    # Without stamps, as in a raw stream, ffmpeg goes by the stated rate, too.
    known = stamped > 0.9 * info.coded
    constant = _frames_at(rate, info) if known else None
    lead = 0.0 if info.alone or not selection.whole else max(0.0, info.first or 0.0)
    reason = each_once
    if not reason and constant is not None:
        reason = _untrue(rate, constant, info, lead)
    # By number, they are at their times without a copy.
    one_by_one = bool(reason) or info.numbers is not None
    expected: float | None = constant
    # Sound that begins earlier has copies of the first frame beside it.
    most = None if constant is None else constant + lead * float(rate)
    if one_by_one:
        rate = _found_rate(info) or rate
        most = info.coded or None
        # The fields of a frame may be coded apart: as many frames as there is room for will do.
        expected = min(info.coded, constant or info.coded) or None
    stated = _stated(rate, info, selection, each_once=one_by_one)
    fps = rate
    if selection.fps:
        fps = min(rate, Fraction(selection.fps).limit_denominator(10**6))
    share = float(fps / rate)
    return Plan(
        rate=rate,
        each_once=one_by_one,
        reason=reason,
        expected=stated and stated * share if expected is None else expected * share,
        stated=stated and stated * share,
        fps=fps,
        most=most and most * share,
    )


def _frames_at(rate: Fraction, info: VideoInfo) -> int:
    """How many frames the time stamps make at a constant rate."""
    if info.first is None or info.last is None:
        return 0
    return round((info.last - info.first) * float(rate)) + 1


def _untrue(rate: Fraction, constant: int, info: VideoInfo, lead: float) -> str:
    """What of the time stamps contradicts a stated rate; "" if nothing does."""
    longest = max(_LONGEST_PAUSE_SECONDS, 2.5 / rate)
    most = _MOST_FRAMES * info.coded + 2
    if info.pause > longest:
        return f"each frame once: its time stamps jump by {info.pause:.4g} s"
    if constant > most:
        return (
            f"each frame once: {info.coded} frames in {constant / float(rate):.4g} s, "
            f"where {float(rate):.6g} a second are stated"
        )
    if lead > longest or constant + lead * rate > most:
        return f"each frame once: the first one is {lead:.4g} s late"
    if clearly_fewer(constant, info.coded):
        return (
            f"each frame once: its time stamps leave room for {constant} of {info.coded} frames "
            f"at the stated {float(rate):.6g} a second"
        )
    return ""


def _found_rate(info: VideoInfo) -> Fraction | None:
    """Frames a second by the time stamps; a round number where it is near one."""
    if not info.interval:
        return None
    found = 1 / info.interval
    for near in (info.rate, Fraction(max(1, round(found)))):
        if near and abs(found - near) < 0.01 * near:
            return near
    return Fraction(found).limit_denominator(1000) or None


def _stated(
    rate: Fraction, info: VideoInfo, selection: Selection, *, each_once: bool
) -> float | None:
    if selection.whole and info.frames is not None and not each_once:
        return float(info.frames)
    if info.seconds is None or each_once:
        return None
    end = info.seconds if selection.end is None else min(selection.end, info.seconds)
    # A segment may begin before the video does.
    begin = info.first if info.first is not None else selection.start or 0.0
    return max(0.0, end - begin) * float(rate)


def clearly_fewer(frames: float, expected: float | None) -> bool:
    """Whether more are lacking than rounding, and what containers overstate, explains."""
    return expected is not None and frames + 2 < 0.95 * expected
