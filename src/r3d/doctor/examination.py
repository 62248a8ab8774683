"""The examination of a config: lists, folders, a look at videos, and what they share."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from r3d.config.config import Config, Dataset, Experiment, MergedDataset, split_of
from r3d.config.starts import check_starts
from r3d.doctor.findings import Report
from r3d.doctor.folders import Present, look_for
from r3d.doctor.forecast import SAMPLED_VIDEOS, Forecast, forecast, room, shortage
from r3d.doctor.listing import HELD_OUT, Listed, read_lists
from r3d.doctor.looking import Look, Place, choose, look_at
from r3d.doctor.nearduplicates import FrameHashes, match_videos
from r3d.errors import InputError
from r3d.frames.ffmpeg import ffmpeg_binary
from r3d.frames.ledger import load_ledger
from r3d.lists import Fold, SplitOptions, subset_name
from r3d.lists.folds import fold_subsets
from r3d.lists.sources import KINDS, shared_sources, sources_of

_log = logging.getLogger(__name__)

DECODED_VIDEOS = 1000
"""So many videos of a data set are decoded unless all are."""

READ_VIDEOS = 20_000
"""So many videos of a data set are looked at where their frames are there, unless all are."""


@dataclass(frozen=True, eq=False)
class _Examined:
    """What is known of one data set.

    videos: those of all splits in use, each id once.
    sources: what each was cut from, by id.
    looks: of the videos that were looked at, by id.
    """

    dataset: Dataset
    splits: Mapping[str, Listed]
    videos: pd.DataFrame
    present: Present
    sources: pd.DataFrame
    looks: Mapping[str, Look] = field(default_factory=dict)
    forecast: Forecast | None = None


def examine(config: Config, *, everything: bool = False, threads: int | None = None) -> Report:
    """Examine what a config points to; nothing is written.

    Args:
        everything: look at every video to its end, and not at some of them.
        threads: how many videos to look at at a time; all cores by default.
    """
    report = Report()
    threads = threads or len(os.sched_getaffinity(0))
    examined = {}
    for name, dataset in config.datasets.items():
        _log.info("%s: lists and folders", name)
        flow = any(e.input_type == "flow" for e in _users(config, name))
        found = _examine_dataset(name, dataset, report, everything, threads, compare=not flow)
        if found is not None:
            examined[name] = found
            _check_lengths(config, name, found, report)
    _check_room(examined, report)
    for pair in _trained_and_tested(config):
        if pair.training[0] in examined and pair.tested[0] in examined:
            _check_leaks(pair, examined, report)
    _check_experiments(config, examined, report)
    return report


def _examine_dataset(
    name: str, dataset: Dataset, report: Report, everything: bool, threads: int, *, compare: bool
) -> _Examined | None:
    splits = read_lists(name, dataset, report)
    if not splits:
        return None
    videos = pd.concat([listed.videos for listed in splits.values()], ignore_index=True)
    videos = videos.drop_duplicates("id", ignore_index=True)
    present = look_for(name, dataset, videos, report)
    sources = sources_of(
        videos,
        folder=dataset.videos,
        group_pattern=dataset.group_pattern,
        ids_of_youtube=dataset.format == "activitynet",
    )
    examined = _Examined(dataset, splits, videos, present, sources)
    looks = _look(name, examined, report, everything, threads, compare=compare)
    expected = _forecast(examined) if looks else None
    if expected:
        report.add("note", "forecast", name, expected.text(threads))
    report.datasets[name] = {
        "listed": len(videos),
        "found": int((present.files != "").sum()),
        "with_frames": int((present.keys != "").sum()),
        "looked_at": len(looks),
        "forecast": asdict(expected) if expected else None,
    }
    return replace(examined, looks=looks, forecast=expected)


def _look(
    name: str,
    examined: _Examined,
    report: Report,
    everything: bool,
    threads: int,
    *,
    compare: bool,
) -> dict[str, Look]:
    """Look at a sample of the videos that are there, or at all, and say what is wrong with them."""
    videos, (files, keys) = examined.videos, examined.present
    (there,) = np.nonzero((files != "") | (keys != ""))
    if not len(there):
        return {}
    if (keys[there] == "").any():
        try:
            ffmpeg_binary()
        except InputError as error:
            report.add("error", "ffmpeg", name, str(error), "install ffmpeg")
            return {}
    chosen = there
    if not everything:
        with_frames, without = there[keys[there] != ""], there[keys[there] == ""]
        chosen = np.concatenate(
            [
                with_frames[choose(videos.iloc[with_frames], READ_VIDEOS)],
                without[choose(videos.iloc[without], DECODED_VIDEOS)],
            ]
        )
    places = list(_places(examined, chosen))
    _log.info("%s: looking at %d of %d videos", name, len(places), len(there))
    found = look_at(places, examined.dataset, threads=threads, whole=everything, compare=compare)
    looks = {place.id: look for place, look in zip(places, found, strict=True)}
    of = f"{len(looks)} videos looked at"
    _report_problems(name, looks, of, report)
    if len(chosen) < len(there):
        report.add(
            "note",
            "sample",
            name,
            f"{len(chosen)} of the {len(there)} videos that are there were looked at",
            "r3d doctor --all looks at every one: for unreadable videos and near-duplicates",
        )
    return looks


def _report_problems(name: str, looks: Mapping[str, Look], of: str, report: Report) -> None:
    for usable, text, remedy in (
        (False, "cannot be read", "get them again, or take them out of the list"),
        (True, "are cut short", "get them again; what there is of them is used"),
    ):
        bad = {
            video: look.problem
            for video, look in looks.items()
            if look.problem and look.usable == usable
        }
        if bad:
            report.add(
                "warning",
                "unreadable",
                name,
                f"{len(bad)} of the {of} {text}",
                remedy,
                (f"{video} ({problem})" for video, problem in bad.items()),
            )


def _places(examined: _Examined, rows: np.ndarray) -> Iterator[Place]:
    files, keys = examined.present
    table = examined.videos.iloc[rows]
    columns = (table["id"], files[rows], keys[rows], table["start"], table["end"])
    return (Place(*values) for values in zip(*columns, strict=True))


def _forecast(examined: _Examined) -> Forecast | None:
    """From a few of the videos that have no frames yet."""
    files, keys = examined.present
    (to_do,) = np.nonzero((files != "") & (keys == ""))
    if not len(to_do):
        return None
    sample = to_do[choose(examined.videos.iloc[to_do], SAMPLED_VIDEOS)]
    places = list(_places(examined, sample))
    return forecast(examined.dataset, places, n_videos=len(to_do))


def _check_room(examined: Mapping[str, _Examined], report: Report) -> None:
    """Compare what all data sets need on each file system with what is free there."""
    by_device: dict[int, list[str]] = {}
    rooms = {}
    for name, found in examined.items():
        if found.forecast:
            free = room(Path(found.dataset.frames))
            rooms[free.device] = free
            by_device.setdefault(free.device, []).append(name)
    for device, names in by_device.items():
        needed = [forecast for name in names if (forecast := examined[name].forecast)]
        for text, remedy in shortage(needed, rooms[device]):
            report.add("error", "room", ", ".join(names), text, remedy)


def _users(config: Config, name: str) -> Iterator[Experiment]:
    """The experiments that use a data set."""
    for experiment in config.experiments.values():
        if name in (experiment.dataset, *config.merged.get(experiment.dataset, ())):
            yield experiment


def _check_lengths(config: Config, name: str, found: _Examined, report: Report) -> None:
    """Compare videos with the frames that the samples of experiments span."""
    asked = {(e.sample_duration, e.sample_t_stride) for e in _users(config, name)}
    if not asked:
        return
    duration, stride = max(asked, key=lambda pair: (pair[0] - 1) * pair[1])
    needed = (duration - 1) * stride + 1
    frames = _lengths(config, name, found)
    short = frames[frames < needed]
    if len(short):
        report.add(
            "warning",
            "short",
            name,
            f"{len(short)} of {len(frames)} videos whose length is known have fewer frames than "
            f"the {needed} that a sample spans (sample_duration {duration}, sample_t_stride "
            f"{stride}): their clips begin again before they are full",
            "lower sample_duration or sample_t_stride, or take these videos out of the list",
            (f"{video} ({n:.0f} frames)" for video, n in short.items()),
        )


def _lengths(config: Config, name: str, found: _Examined) -> pd.Series:
    """The frames of the videos as far as they are known, by id: from ledger, look or list."""
    usable = {video: look for video, look in found.looks.items() if look.usable}
    rates = [look.rate for look in usable.values() if look.rate]
    known = pd.Series({video: look.frames for video, look in usable.items()}, dtype=float)
    if rates:
        start, end = (pd.to_numeric(found.videos[column]) for column in ("start", "end"))
        asked = (end - start.fillna(0)) * float(np.median(rates))
        known = known.combine_first(asked.set_axis(found.videos["id"]))
    try:
        ledger = load_ledger(Path(f"{config.results}/datasets/{name}/ledger.tsv"))
    except InputError:
        return known.dropna()
    extracted = ledger[(ledger["frames"] > 0) & ledger["id"].isin(found.videos["id"])]
    return extracted.set_index("id")["frames"].astype(float).combine_first(known).dropna()


@dataclass(frozen=True)
class _Pair:
    """Data set and split that are trained on, and those of the videos that are tested on."""

    training: tuple[str, str]
    tested: tuple[str, str]
    because: str


def _trained_and_tested(config: Config) -> list[_Pair]:
    """Each split with itself, and what experiments start from with what they are tested on."""
    pairs = {}
    for name, dataset in config.datasets.items():
        for split in dataset.all_splits:
            pairs[(name, split), (name, split)] = ""
    for name in config.experiments:
        for split in config.experiment_splits(name):
            tested = _parts(config, config.experiments[name].dataset, split)
            current, current_split = name, split
            while True:
                experiment = config.experiments[current]
                trained = _parts(config, experiment.dataset, current_split)
                if not experiment.no_train:
                    for pair in ((a, b) for a in trained for b in tested):
                        pairs.setdefault(pair, f"experiment {name} is trained on both")
                if experiment.source is None:
                    break
                current_split = split_of(config.pretrain_run(current, current_split))
                current = experiment.source
    return [_Pair(a, b, because) for (a, b), because in pairs.items()]


def _parts(config: Config, name: str, split: str) -> list[tuple[str, str]]:
    """The splits of data sets that a data set consists of."""
    dataset = config.dataset(name)
    if isinstance(dataset, MergedDataset):
        return [(part, each.all_splits[0]) for part, each in dataset.parts.items()]
    return [(name, split)]


def _check_leaks(pair: _Pair, examined: Mapping[str, _Examined], report: Report) -> None:
    """Say which tested videos are of a recording that is trained on, by name or by looks."""
    trained, tested = examined[pair.training[0]], examined[pair.tested[0]]
    if pair.training[1] not in trained.splits or pair.tested[1] not in tested.splits:
        return
    training = _ids(trained, pair.training[1], "training")
    where, of = _split_name(*pair.tested, tested), ""
    if pair.training != pair.tested:
        where = f"{_split_name(*pair.training, trained)} -> {where}"
        of = f" of {pair.training[0]}"
    for subset in HELD_OUT:
        ids = _ids(tested, pair.tested[1], subset)
        left = ids
        for kind, shared in shared_sources(trained.sources.loc[training], tested.sources.loc[ids]):
            left = left.difference(shared.index)
            report.add(
                "warning",
                "source",
                where,
                f"{len(shared)} of {len(ids)} {subset} videos are of a {KINDS[kind]} that training "
                f"videos{of} are of, too: there a model is tested on what it has seen",
                _remedy(pair, tested.dataset),
                (f"{video} ({source.rpartition('/')[2]})" for video, source in shared.items()),
            )
        alike = _near_duplicates(trained, training, tested, left)
        if alike:
            report.add(
                "warning",
                "near-duplicates",
                where,
                f"{len(alike)} {subset} videos look much like training videos{of}: the same "
                "pictures, perhaps coded, cut or marked otherwise",
                _remedy(pair, tested.dataset),
                alike.values(),
            )


def _remedy(pair: _Pair, dataset: Dataset) -> str:
    if pair.training != pair.tested:
        return (
            f"{pair.because}: take these videos out of the lists of {pair.training[0]}, or say "
            "beside the results that they were seen"
        )
    if dataset.format in ("csv", "folders"):
        return (
            "put all videos of one recording into one subset; where the list names no subsets, "
            "group_pattern does that"
        )
    return "the official lists are so: say it beside the results, or take the videos out"


def _split_name(name: str, split: str, examined: _Examined) -> str:
    return name if len(examined.dataset.all_splits) == 1 else f"{name}, split {split}"


def _ids(examined: _Examined, split: str, subset: str) -> pd.Index:
    videos = examined.splits[split].videos
    return pd.Index(videos.loc[videos["subset"] == subset, "id"])


def _near_duplicates(
    trained: _Examined, training: pd.Index, tested: _Examined, ids: pd.Index
) -> dict[str, str]:
    """Of each tested video that looks like a training video: both, and how much of them matches."""
    ours, hashes = _hashes(tested, ids)
    theirs, training_hashes = _hashes(trained, training)
    alike: dict[str, str] = {}
    best: dict[str, float] = {}
    for match in match_videos(hashes, training_hashes):
        video, other = ours[match.first], theirs[match.second]
        if match.share > best.get(video, 0):
            best[video] = match.share
            alike[video] = f"{video} and {other} ({match.share:.0%} of the frames)"
    return alike


def _hashes(examined: _Examined, ids: pd.Index) -> tuple[list[str], list[FrameHashes]]:
    """Those of the videos that were looked at and show something."""
    videos = [video for video, look in examined.looks.items() if look.hashes and video in ids]
    return videos, [hashes for video in videos if (hashes := examined.looks[video].hashes)]


def _check_experiments(config: Config, examined: Mapping[str, _Examined], report: Report) -> None:
    """What experiments start from, and what they are applied to."""
    for name, experiment in config.experiments.items():
        for problem in check_starts("", experiment, None):
            what, _, remedy = problem.removeprefix(".").rpartition("; ")
            report.add("error", "checkpoint", f"experiment {name}", what, remedy)
        if experiment.folds and experiment.dataset in examined:
            _check_folds(name, experiment.folds, examined[experiment.dataset], report)
        subset = subset_name(experiment.inference_subset)
        for split in config.experiment_splits(name):
            parts = [p for p in _parts(config, experiment.dataset, split) if p[0] in examined]
            known = [(part, own) for part, own in parts if own in examined[part].splits]
            if known and not any(len(_ids(examined[part], own, subset)) for part, own in known):
                report.add(
                    "error",
                    "subset",
                    f"experiment {name}",
                    f"inference_subset: {experiment.inference_subset}, and the lists of "
                    f"{experiment.dataset}, split {split}, have no {subset} videos",
                    "set inference_subset to train, val or test, whichever has videos",
                )


def _check_folds(name: str, n_folds: int, examined: _Examined, report: Report) -> None:
    """Whether the videos of a data set can be divided into so many folds."""
    dataset = examined.dataset
    listed = examined.splits.get(dataset.all_splits[0])
    if listed is None:
        return
    options = SplitOptions(**dataset.split_options)
    try:
        fold_subsets(listed.videos, Fold(1, n_folds), options, dataset.lists)
    except InputError as error:
        what, _, remedy = str(error).partition("; ")
        report.add("error", "folds", f"experiment {name}", what, remedy)
