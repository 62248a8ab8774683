"""What of a recipe of today helps: small networks on the embedded data, made harder, by seeds.

Sixteen classes of motion with noise and clutter, few videos to train on. Each row is a training
with one thing changed, from each of some seeds; what differs from the first row has an interval
over seeds and videos. A second table has classes of unequal size, sampled more and less evenly from
the beginning or for the classifier alone, and a third one several samples of each clip.

What is trained is kept in a folder, if one is given: then a run that was stopped goes on.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embedded import embedded
from sidebyside import parse, publish, table

from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.frames.extract import FrameOptions
from r3d.inference.infer import infer
from r3d.training.train import train

DATA = {"videos_per_class": 40, "n_frames": 20, "n_classes": 16, "noise": 0.1, "clutter": 2}
# Of the 30 of each class that the split has to train on.
N_VIDEOS = 15
MOST, LEAST = 30, 3

# As the defaults of the package, but for the size of all, and the schedule.
BASE: dict[str, Any] = {
    **{"model_depth": 10, "resnet_widen_factor": 0.25},
    **{"sample_size": 32, "sample_duration": 8, "sample_t_stride": 2},
    **{"batch_size": 16, "learning_rate": 0.05, "no_hflip": True, "no_val": True},
    **{"n_epochs": 24, "lr_scheduler": "cosine", "warmup_epochs": 2},
    "precision": "fp32",  # not what is measured to be faster, which may be another later
}
MULTISTEP = {
    **{"lr_scheduler": "multistep", "warmup_epochs": 0, "multistep_milestones": [12, 18, 22]}
}
HALF = {"n_epochs": 12, "warmup_epochs": 1}
WIDE = {"train_crop_min_scale": 0.08, "train_crop_min_ratio": 0.5}
MODERN = {
    **{"stochastic_depth": 0.1, "label_smoothing": 0.1, "ema_decay": 0.98},
    **{"nesterov": True, "weight_decay": 4e-5},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "cosine and warm-up": {},
    "milestones, as the defaults": MULTISTEP,
    "crops from 8 % of the area, ratios 1/2 to 2": WIDE,
    "no crops: the centre": {"train_crop": "center"},
    "dropout 0.1": {"dropout": 0.1},
    "dropout 0.5": {"dropout": 0.5},
    "stochastic depth 0.1": {"stochastic_depth": 0.1},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "averaged weights, 0.98": {"ema_decay": 0.98},
    "mixup 0.2": {"mixup_alpha": 0.2},
    "modern.yaml without its crops and dropout": MODERN,
    "modern.yaml": {**MODERN, **WIDE, "dropout": 0.5},
    "bf16": {"precision": "bf16"},
}
# Half-way through learning, as after 24 epochs, seeds differ by more than balances do.
LONG = {"n_epochs": 48, "warmup_epochs": 4}
# 37 epochs are as long to load as the row before it, 48 as much to compute.
CROPS: dict[str, dict[str, Any]] = {
    "24 epochs": {},
    "12 epochs": HALF,
    "12 epochs, crops_per_clip 2": {**HALF, "crops_per_clip": 2},
    "24 epochs, crops_per_clip 2, batches of 32": {"crops_per_clip": 2, "batch_size": 32},
    "37 epochs": {"n_epochs": 37, "warmup_epochs": 3},
    "48 epochs": LONG,
}
BALANCES: dict[str, dict[str, Any]] = {
    "class_balance 0": LONG,
    "class_balance 0.5": {**LONG, "class_balance": 0.5},
    "class_balance 1": {**LONG, "class_balance": 1},
}
# As published (Kang et al., 2020): the features from all videos alike, then the classifier anew.
CLASSIFIER = {"n_epochs": 12, "warmup_epochs": 0, "ft_begin_module": "fc"}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "class_balance 0, then the classifier again": CLASSIFIER,
    "class_balance 0, then the classifier with 1": {**CLASSIFIER, "class_balance": 1},
}

Correct = npt.NDArray[np.bool_]


def main() -> None:
    """Train all variants from all seeds, and write three tables."""
    options = parse(__doc__, seeds=3, folder="")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(options.folder or name)
        annotation = folder / "annotation.json"
        if not annotation.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            embedded(folder, FrameOptions(short_side=0), **DATA)
        seeds = range(1, options.seeds + 1)
        few = [N_VIDEOS] * DATA["n_classes"]
        found, repeated = (
            {
                name: [_correct(folder, few, {**BASE, **changes}, seed) for seed in seeds]
                for name, changes in variants.items()
            }
            for variants in (VARIANTS, CROPS)
        )
        skewed = np.geomspace(MOST, LEAST, DATA["n_classes"]).round().astype(int).tolist()
        balanced = {
            name: [_correct(folder, skewed, {**BASE, **changes}, seed) for seed in seeds]
            for name, changes in BALANCES.items()
        }
        plain = {**BASE, **LONG}
        for name, changes in CLASSIFIERS.items():
            balanced[name] = [_correct(folder, skewed, plain, seed, changes) for seed in seeds]
    text = (
        f"{N_VIDEOS} videos a class to train on, top-1 in percent on 10 others of each.\n\n"
        f"{_differences(found)}\n\n"
        f"From {MOST} to {LEAST} videos a class ({sum(skewed)} in all), {LONG['n_epochs']} epochs, "
        f"mean accuracy of the classes in percent.\n\n{_differences(balanced)}\n\n"
        f"Several samples of each clip, {N_VIDEOS} videos a class.\n\n{_differences(repeated)}"
    )
    publish("recipes", text, packages=("torch",))


def _correct(
    folder: Path,
    sizes: list[int],
    options: Mapping[str, Any],
    seed: int,
    then: Mapping[str, Any] | None = None,
) -> Correct:
    """Train on so many videos of each class; which of the validation videos are right.

    Args:
        then: options of a second training, from the model of the first.
    """
    trainings = [TrainingOptions(**{**options, "manual_seed": seed})]
    if then is not None:
        given = {"pretrain_path": "model.pth", "n_pretrain_classes": DATA["n_classes"]}
        trainings.append(TrainingOptions(**{**options, **then, **given, "manual_seed": seed}))
    stated = [training.model_dump(exclude_defaults=True) for training in trainings]
    key = json.dumps([sizes, *stated], sort_keys=True)
    store = folder / "results" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not store.is_file():
        store.parent.mkdir(exist_ok=True)
        store.write_text(json.dumps(_trained(folder, sizes, trainings)))
    return np.array(json.loads(store.read_text()), bool)


def _trained(folder: Path, sizes: list[int], trainings: list[TrainingOptions]) -> list[bool]:
    whole = json.loads((folder / "annotation.json").read_text())
    left = dict(zip(whole["labels"], sizes, strict=True))
    database = {}
    for name, video in whole["database"].items():
        label = video["annotations"]["label"]
        if video["subset"] == "training":
            left[label] -= 1
        if video["subset"] == "validation" or left[label] >= 0:
            database[name] = video
    run = RunOptions(n_threads=0, no_cuda=True, checkpoint=10**6)
    with tempfile.TemporaryDirectory() as name:
        work, model = Path(name), None
        annotation = work / "annotation.json"
        annotation.write_text(json.dumps({**whole, "database": database}))
        for number, training in enumerate(trainings):
            made = work / str(number)
            made.mkdir()
            train(
                training,
                annotation=annotation,
                frames=folder / "frames",
                pretrained=model,
                checkpoints=made / "checkpoints",
                model=made / "model.pth",
                train_log=made / "train.log",
                val_log=made / "val.log",
                run=run,
                n_cores=1,
            )
            model = made / "model.pth"
        shared = trainings[-1].model_dump(include=set(InferenceOptions.model_fields))
        infer(
            InferenceOptions(**shared, inference_clips=2, output_topk=1),
            annotation=annotation,
            subset="val",
            frames=folder / "frames",
            model=model,
            output=work / "val.json",
            run=run,
            n_cores=1,
        )
        results = json.loads((work / "val.json").read_text())["results"]
    tested = {n: v for n, v in database.items() if v["subset"] == "validation"}
    return [
        results[name][0]["label"] == video["annotations"]["label"]
        for name, video in sorted(tested.items())
    ]


def _differences(found: Mapping[str, list[Correct]]) -> str:
    """A row a variant: each seed's accuracy, the mean, and how far it is from the first row's."""
    first = np.array(next(iter(found.values())), float)
    rows = []
    for name, correct in found.items():
        values = np.array(correct, float)
        row: list[object] = [name, *(f"{100 * value:.1f}" for value in values.mean(1))]
        row.append(f"{100 * values.mean():.1f}")
        difference = values - first
        row.append(_interval(difference) if difference.any() else "")
        rows.append(row)
    seeds = [f"seed {seed}" for seed in range(1, len(first) + 1)]
    return table(["", *seeds, "mean", "difference (95 % interval)"], rows)


def _interval(differences: npt.NDArray[np.float64], draws: int = 2000) -> str:
    """The mean of (seeds, videos), and its interval by drawing seeds and videos anew."""
    rng = np.random.default_rng(0)
    n_seeds, n_videos = differences.shape
    means = [
        differences[rng.integers(n_seeds, size=n_seeds)][:, rng.integers(n_videos, size=n_videos)]
        for _ in range(draws)
    ]
    low, high = np.percentile([100 * drawn.mean() for drawn in means], [2.5, 97.5])
    return f"{100 * differences.mean():+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
