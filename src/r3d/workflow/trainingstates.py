"""Where the states of a training lie, so that none is resumed whose frames were others."""

from pathlib import Path

from r3d.files import atomic_path

_FRAMES = "frames.sha256"


def folder_of_states(checkpoints: Path, frames: str) -> Path:
    """The folder for states of trainings on these frames, in the one for all of an experiment.

    The first frames have the folder itself, as have those that trainings before this record were
    on; others get a folder in it. So frames that come back find their states again.

    Args:
        checkpoints: the folder of an experiment and split, made if absent.
        frames: what tells frames apart (`r3d.frames.identity`).
    """
    first = checkpoints / _FRAMES
    if not first.is_file():
        with atomic_path(first) as partial:
            partial.write_text(f"{frames}\n", encoding="utf-8")
    if first.read_text(encoding="utf-8").strip() == frames:
        return checkpoints
    return checkpoints / f"frames-{frames[:12]}"
