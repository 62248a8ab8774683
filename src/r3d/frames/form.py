"""What the frames of a training were like, as a model is best applied to frames of that kind."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from r3d.frames.stores import FrameStore, VideoRecord, open_store

# Containers state rates that differ by a thousandth (29.97), and their time stamps more.
_SAME_RATE = 1.05


@dataclass(frozen=True)
class FrameForm:
    """Size and rate of frames, as far as they are known.

    Attributes:
        short_side: in pixels; 0 if videos differ in it, None if it is unknown.
        fps: the rate that frames were thinned out to; None if all were kept, or it is unknown.
        rates: the least and the greatest rate, in frames a second; None if unknown.
        colour: what became of the colours (`r3d.frames.selection`), None if unknown.
        quality: JPEG quantiser; None for ffmpeg's default, or if it is unknown.
    """

    short_side: int | None = None
    fps: float | None = None
    rates: tuple[float, float] | None = None
    colour: str | None = None
    quality: int | None = None

    @classmethod
    def of_records(cls, records: Iterable[VideoRecord]) -> Self:
        """The form of frames by what is noted of them."""
        records = list(records)
        made = [record.made_from or {} for record in records]
        sides = {min(record.width, record.height) for record in records}
        rates = [record.fps for record in records if record.fps]
        return cls(
            short_side=None if not sides else sides.pop() if len(sides) == 1 else 0,
            fps=_common(made, "fps"),
            rates=(min(rates), max(rates)) if rates else None,
            colour=_common(made, "colour"),
            quality=_common(made, "quality"),
        )

    @classmethod
    def of_dict(cls, stated: Mapping[str, Any] | None) -> Self | None:
        """What a checkpoint states; None if that is nothing, or nothing that can be."""
        if stated is None:
            return None
        values: dict[str, Any] = {name: stated.get(name) for name in cls.__dataclass_fields__}
        rates = values["rates"] or (values["fps"] and [values["fps"]] * 2)
        values["rates"] = tuple(rates) if isinstance(rates, list) else None
        form = cls(**values)
        return form if form._is_possible() else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        values = asdict(self)
        return {**values, "rates": list(self.rates) if self.rates else None}

    def difference(self, here: "FrameForm") -> str:
        """What is other about frames here than about these of the training; "" if nothing is.

        >>> trained = FrameForm(short_side=240, rates=(25.0, 30.0))
        >>> trained.difference(FrameForm(short_side=240, rates=(15.0, 15.0)))
        '15 frames a second; trained on 25 to 30 frames a second'
        """
        names = []
        if None not in (self.short_side, here.short_side) and self.short_side != here.short_side:
            names.append("size")
        if self.rates and here.rates:
            (least, most), (low, high) = self.rates, here.rates
            if low > most * _SAME_RATE or high * _SAME_RATE < least:
                names.append("rate")
        if not names:
            return ""
        return f"{here._told(names)}; trained on {self._told(names)}"

    def _told(self, names: list[str]) -> str:
        parts = []
        if "size" in names:
            parts.append(f"short side {self.short_side}" if self.short_side else "various sizes")
        if "rate" in names and self.rates:
            rates = dict.fromkeys(f"{rate:.4g}" for rate in self.rates)
            parts.append(f"{' to '.join(rates)} frames a second")
        return " and ".join(parts)

    def _is_possible(self) -> bool:
        numbers = (self.short_side, self.fps, self.quality, *(self.rates or ()))
        return (
            all(type(number) in (int, float, type(None)) for number in numbers)
            and all(number is None or 0 <= number < 2**31 for number in numbers)
            and isinstance(self.colour, str | None)
            and len(self.rates or (0, 0)) == 2
        )


def form_of_frames(store: FrameStore, places: Iterable[str | Path]) -> FrameForm:
    """The form of the frames in a store, by the records of some of its videos.

    Args:
        places: where the frames of these videos are.
    """
    lent = open_store(store.folder, store.file_type, lent=True)
    records = [lent.record_at(place) for place in places]
    return FrameForm.of_records([record for record in records if record is not None])


def _common(options: list[dict[str, Any]], name: str) -> Any:
    """The value that all have of an option; None if they differ or one does not say it."""
    values = {part.get(name) for part in options}
    return values.pop() if len(values) == 1 else None
