"""A trained network and videos, or frames -> features."""

import sys
from pathlib import Path
from typing import Any

import click

from r3d.cli.commands import command
from r3d.cli.parameters import FILE_TYPE, FOUND, NEW_FILE, SUBSET, section_of, section_options
from r3d.config.options import InferenceOptions, RunOptions
from r3d.errors import InputError
from r3d.frames.layouts import FileType
from r3d.paths import expanded

_OF_MODEL = (
    *("conv1_t_stride", "no_max_pool"),  # which the weights do not tell
    *("sample_size", "sample_duration", "sample_t_stride"),
    *("mean_dataset", "no_mean_norm", "no_std_norm", "value_scale", "precision"),
    *("inference_stride", "inference_crop", "inference_clips", "inference_no_average"),
)
_OF_RUN = ("n_threads", "no_cuda", "inference_batch_size", "engine")


@command(
    "features",
    example="r3d features run/model.pth motion/videos/TranslateLeft --output features.npz",
)
@click.argument("model", type=expanded, metavar="MODEL")
@click.argument("videos", type=expanded, metavar="VIDEO...|ANNOTATION", nargs=-1, required=True)
@click.option(
    "--output", type=NEW_FILE, required=True, metavar="NAME.npz|NAME.parquet", help="File to write."
)
@click.option("--video_path", type=FOUND, help="Folder of the frames of an ANNOTATION.")
@click.option("--file_type", type=FILE_TYPE, help="Kind of these frames.  [default: jpg]")
@click.option("--inference_subset", type=SUBSET, help="Videos of the ANNOTATION.  [default: val]")
@click.option(
    "--short_side", type=click.IntRange(min=0), help="Of the frames, in pixels; 0 keeps the size."
)
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frames a second to select."
)
@click.option("--configfile", type=FOUND, help="Config whose experiment MODEL may name.")
@section_options(InferenceOptions, RunOptions, only=(*_OF_MODEL, *_OF_RUN), has_defaults=False)
def features_command(
    model: str,
    videos: tuple[str, ...],
    output: Path,
    video_path: Path | None,
    file_type: FileType | None,
    inference_subset: str | None,
    short_side: int | None,
    fps: float | None,
    configfile: Path | None,
    **options: Any,
) -> None:
    """Write what goes into the last layer of a MODEL: a row a video, averaged over its clips.

    A VIDEO is a file, a folder, a pattern in quotes, or - for a list on standard input, as of r3d
    predict; an ANNOTATION is a JSON whose frames are in --video_path. --inference_no_average gives
    a row a clip.

    A video that cannot be used is a line on standard error, and the others go on. The exit status
    is 0 if all videos have features, 1 if one has none.
    """
    annotations = [name for name in videos if name.endswith(".json")]
    of_annotation = {
        "--video_path": video_path,
        "--file_type": file_type,
        "--inference_subset": inference_subset,
    }
    of_videos = {"--short_side": short_side, "--fps": fps}
    if annotations and len(videos) > 1:
        raise InputError(
            f"{annotations[0]}: an annotation beside other arguments; accepted: one annotation, or "
            "videos only"
        )
    others = of_videos if annotations else of_annotation
    wrong = [name for name, value in others.items() if value is not None]
    if wrong:
        what = "videos that are decoded" if annotations else "an ANNOTATION (.json)"
        raise InputError(f"{wrong[0]}: goes with {what} only; leave it out")
    if annotations and video_path is None:
        raise InputError(
            f"{annotations[0]}: its frames are needed; say where they are with --video_path FOLDER"
        )
    from r3d.inference.featurefile import need_feature_format

    need_feature_format(output)
    run = section_of(RunOptions, options)
    if annotations:
        from r3d.inference.features import features
        from r3d.modelfiles import find_model

        features(
            section_of(InferenceOptions, options),
            annotation=annotations[0],
            subset=inference_subset or "val",
            frames=video_path or "",
            file_type=file_type or "jpg",
            model=find_model(model, configfile=configfile),
            output=output,
            run=run,
        )
        click.echo(f"{output}: features of {annotations[0]}, subset {inference_subset or 'val'}")
        return
    from tqdm import tqdm

    from r3d.inference.records import shown
    from r3d.inference.sources import find_videos
    from r3d.inference.trained import load_model
    from r3d.inference.videofeatures import video_features

    given = {name: options[name] for name in _OF_MODEL if options[name] not in (None, False)}
    trained = load_model(model, configfile=configfile, **given)
    selection = trained.selection(short_side=short_side, fps=fps)
    found, problems = find_videos(videos)
    for problem in problems:
        click.echo(shown(problem), err=True)

    def tell(video: Path, line: str) -> None:
        tqdm.write(f"{shown(video)}: {shown(line)}", file=sys.stderr)

    n_done = video_features(
        trained,
        found,
        output,
        selection=selection,
        run=run,
        progress=sys.stderr.isatty(),
        tell=tell,
    )
    click.echo(f"{output}: features of {n_done} of {len(found)} videos")
    sys.exit(0 if n_done == len(found) and not problems else 1)
