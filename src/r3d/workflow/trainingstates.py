"""Where the states of a training lie, so that none is resumed whose videos were others."""

from pathlib import Path

from r3d.files import atomic_path

_RECORD = "frames.sha256"


def folder_of_states(checkpoints: Path, digest: str, *, earlier: str) -> Path:
    """The folder for states of trainings on these videos, in the one for all of an experiment.

    The first videos have the folder itself; others get a folder in it. So videos that come back
    find their states again.

    Args:
        checkpoints: the folder of an experiment and split, made if absent.
        digest: what tells the videos of a training apart (`r3d.annotations.parts`).
        earlier: what an earlier version told them apart by, a digest of all frames: the states of
            these are taken over.
    """
    record = checkpoints / _RECORD
    known = record.read_text(encoding="utf-8").strip() if record.is_file() else None
    if known == digest:
        return checkpoints
    if known in (None, earlier):
        with atomic_path(record) as partial:
            partial.write_text(f"{digest}\n", encoding="utf-8")
        return checkpoints
    folder, before = (checkpoints / f"frames-{name[:12]}" for name in (digest, earlier))
    if before.is_dir() and not folder.exists():
        before.rename(folder)
    return folder
