"""Writing list files, what is read of good ones and said of bad ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r3d.errors import InputError
from r3d.lists import VideoList


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message


def counts(video_list: VideoList) -> dict[str, int]:
    return video_list.videos["subset"].value_counts().to_dict()


def row(video_list: VideoList, name: str) -> dict[str, str]:
    videos = video_list.videos
    return videos[videos["id"] == name].iloc[0].to_dict()
