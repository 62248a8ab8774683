"""Videos worth a look: the frames that a network saw, what it said over time, where it looked.

A gallery is a folder of small pictures and a `gallery.json` about them, bounded however many videos
there are. The pictures of a clip lie side by side in one file.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from r3d.annotations.results import read_result
from r3d.config.options import InferenceOptions, RunOptions
from r3d.files import AnyPath, atomic_path
from r3d.frames.layouts import FileType
from r3d.inference.applied import Application, open_application, without_int8
from r3d.models.base import VideoModel, head_of
from r3d.obstacles import need_writable, writing
from r3d.tables import read_columns

Kind = Literal["confident", "uncertain", "random"]
"""Most confidently wrong, least certain, or drawn at random."""

PER_KIND = 12
_MOST_CLIPS, _MOST_FRAMES, _SIDE, _QUALITY = 60, 12, 112, 75
_BATCH_SIZE = 8

Best = list[tuple[str, float]]
"""Classes and scores of a video, the best first."""


class Chosen(NamedTuple):
    """A video of a gallery: why it is there, its class, and the best ones of its result."""

    video: str
    kind: Kind
    label: str
    best: Best


class _Look(NamedTuple):
    """What a network made of a video.

    clip: (t, h, w, c) the clip in which the best class has its highest score.
    map: (t, h, w) what the places of that clip add to the score of this class, coarsely.
    times: of each clip its first frame, and the scores of the best class and of the true one.
    """

    clip: Tensor
    map: Tensor
    times: list[tuple[int, float, float]]


class _View(NamedTuple):
    """One view of a clip (t, h, w, c), its scores, and what went into the average (c, t, h, w)."""

    video: int
    begin: int
    clip: Tensor
    scores: Tensor
    features: Tensor


def make_gallery(
    options: InferenceOptions,
    *,
    annotation: AnyPath,
    subset: str = "val",
    frames: AnyPath,
    file_type: FileType = "jpg",
    model: AnyPath,
    result: AnyPath,
    videos: AnyPath,
    output: AnyPath,
    run: RunOptions,
    n_cores: int | None = None,
) -> None:
    """Choose videos by what a network said of them, and make their pictures.

    Args:
        annotation, subset, frames, file_type, model, run, n_cores: as of the inference
            (`r3d.inference.infer.infer`).
        result: the result JSON of this inference.
        videos: the table of `r3d.evaluation.videos.write_videos` about it.
        output: folder to write to.
    """
    need_writable(output, folder=True)
    chosen = choose_videos(Path(result), Path(videos))
    by_video = {item.video: item for item in chosen}
    folder = Path(output)
    with open_application(
        without_int8(options),
        annotation=annotation,
        subset=subset,
        frames=frames,
        file_type=file_type,
        model=model,
        # Maps are made of what only torch shows: what goes into the last average.
        run=run.model_copy(update={"engine": "torch"}),
        batch_size=_BATCH_SIZE,
        n_cores=n_cores,
        only=list(by_video),
    ) as applied:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        items = [
            _write_item(folder, place, by_video[str(applied.samples.ids[place])], look, applied)
            for place, look in _looks(applied, by_video)
        ]
    order: list[Kind] = ["confident", "uncertain", "random"]
    items.sort(key=lambda item: order.index(item["kind"]))
    with atomic_path(folder / "gallery.json") as partial:
        partial.write_text(json.dumps(items, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_item(
    folder: Path, place: int, item: Chosen, look: _Look, applied: Application
) -> dict[str, Any]:
    """Write the pictures of a video; what `gallery.json` says of it."""
    key = str(applied.samples.keys[place])
    record = applied.store.record(key) if key else None
    rate = (record and record.fps) or 1.0
    pictures = _thumbnails(look.clip)
    heat = _heat(look.map, len(pictures), (pictures[0].height, pictures[0].width))
    _save_strip(pictures, folder / f"{place:02d}.jpg")
    _save_strip(heat, folder / f"{place:02d}.cam.jpg")
    return {
        "id": item.video,
        "kind": item.kind,
        "best": [[label, round(score, 4)] for label, score in item.best],
        "strip": f"{place:02d}.jpg",
        "cam": f"{place:02d}.cam.jpg",
        "frames": len(pictures),
        "width": pictures[0].width,
        "height": pictures[0].height,
        "times": [
            [round(begin / rate, 2), round(best, 4), round(own, 4)]
            for begin, best, own in look.times
        ],
    }


def choose_videos(result: Path, videos: Path) -> list[Chosen]:
    """The videos of a gallery, `PER_KIND` of each kind at most, each once.

    Args:
        result: a result JSON.
        videos: the table of what became of the videos.
    """
    results = read_result(result, None, largest_k=1).ranking
    table = read_columns(videos, ("id", "label", "correct"))
    rows = []
    for name, label, correct in table.itertuples(index=False, name=None):
        if correct and (best := results.get(name, [])):
            rows.append((name, label, correct == "yes", best))
    rng = np.random.default_rng(1)
    by_score = sorted(rows, key=lambda row: -row[3][0][1])
    orders: dict[Kind, Sequence[tuple[str, str, bool, Best]]] = {
        "confident": [row for row in by_score if not row[2]],
        "uncertain": by_score[::-1],
        "random": [rows[place] for place in rng.permutation(len(rows))],
    }
    chosen: dict[str, Chosen] = {}
    for kind, order in orders.items():
        new = [row for row in order if row[0] not in chosen][:PER_KIND]
        chosen |= {name: Chosen(name, kind, label, best[:5]) for name, label, _, best in new}
    return list(chosen.values())


def _looks(applied: Application, chosen: dict[str, Chosen]) -> Iterator[tuple[int, _Look]]:
    """What the network makes of each video, and the place of the video among the samples.

    Of at most `_MOST_CLIPS` clips of each, evenly spaced, in batches that videos share.
    """
    clips, network = applied.clips, applied.loaded.network
    weights = head_of(network).weight.detach().float().cpu()
    numbers = {label: number for number, label in enumerate(applied.labels)}
    keys: list[int] = []
    for video in range(clips.n_videos):
        own = clips.keys_of(video)
        keys += own[:: -(-len(own) // _MOST_CLIPS)]

    def views() -> Iterator[_View]:
        with _before_average(network) as features:
            for batch in applied.batches(keys):
                scores = applied.model.engine(batch).softmax(1)
                for row, video in enumerate(batch.videos.tolist()):
                    place = features[0][row].float().cpu()
                    yield _View(
                        video, int(batch.segments[row, 0]), batch.clips[row], scores[row], place
                    )

    for video, of_video in groupby(views(), key=lambda view: view.video):
        item = chosen[str(applied.samples.ids[video])]
        yield video, _look(of_video, weights, numbers[item.best[0][0]], numbers.get(item.label))


def _look(views: Iterable[_View], weights: Tensor, best: int, own: int | None) -> _Look:
    """What the views of a video show of the best class of its result, and of its own if known."""
    times: list[tuple[int, float, float]] = []
    found: tuple[Tensor, Tensor] | None = None
    highest = -1.0
    for begin, of_clip in groupby(views, key=lambda view: view.begin):
        scores = []
        for view in of_clip:
            scores.append(view.scores)
            if float(view.scores[best]) > highest:
                highest = float(view.scores[best])
                # A copy, as the clip is a part of a batch, which it would keep.
                found = view.clip.clone(), torch.einsum("c,cthw->thw", weights[best], view.features)
        mean = torch.stack(scores).mean(0)
        times.append((begin, float(mean[best]), 0.0 if own is None else float(mean[own])))
    assert found is not None
    return _Look(*found, times)


@contextmanager
def _before_average(network: VideoModel) -> Iterator[list[Tensor]]:
    """A list whose one item is what last went into the global mean: (b, c, t, h, w)."""
    features: list[Tensor] = []

    def keep(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features[:] = inputs[:1]

    handle = network.get_submodule("average").register_forward_pre_hook(keep)
    try:
        yield features
    finally:
        handle.remove()


def _thumbnails(clip: Tensor) -> list[Image.Image]:
    """Some frames of a clip (t, h, w, c), small."""
    if clip.shape[3] == 2:  # optical flow is shown as its size
        clip = ((clip.float() - 128).norm(dim=3, keepdim=True)).clamp(0, 255).byte()
    if clip.shape[3] == 1:
        clip = clip.expand(-1, -1, -1, 3)
    height, width = clip.shape[1:3]
    factor = min(1.0, _SIDE / min(height, width), 2 * _SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    step = -(-len(clip) // _MOST_FRAMES)
    return [Image.fromarray(frame.numpy()).resize(size) for frame in clip[::step].contiguous()]


def _heat(places: Tensor, n_frames: int, size: tuple[int, int]) -> list[Image.Image]:
    """What speaks for a class, as pictures from black over red to yellow, one a frame."""
    for_it = functional.interpolate(
        places.float().clamp(min=0)[None, None],
        (n_frames, *size),
        mode="trilinear",
        align_corners=False,
    )[0, 0]
    share = for_it / for_it.max().clamp(min=1e-12)
    colours = torch.stack([2 * share, 2 * share - 1, torch.zeros_like(share)], dim=3)
    return [
        Image.fromarray(frame.numpy()) for frame in (255 * colours.clamp(0, 1)).byte().contiguous()
    ]


def _save_strip(pictures: Sequence[Image.Image], path: Path) -> None:
    """Save pictures of one size side by side."""
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(pictures), height))
    for place, picture in enumerate(pictures):
        strip.paste(picture, (place * width, 0))
    with atomic_path(path) as partial:
        strip.save(partial, quality=_QUALITY)
