"""Accuracy of the fast path: the embedded data set trained both ways, from several seeds.

The plain path is the recipe: Pillow, fp32, torch's own convolutions. The others are `r3d train` and
`r3d infer` as the demo runs them, in each precision. Same frames, same network and options.
"""

import tempfile
from pathlib import Path

import numpy as np
import recipe
import torch
from embedded import embedded
from sidebyside import n_cores, parse, publish, table

from r3d.config.loading import read_config
from r3d.config.options import InferenceOptions, RunOptions, TrainingOptions
from r3d.evaluation.evaluate import evaluate
from r3d.frames.extract import FrameOptions
from r3d.inference.infer import infer
from r3d.training.train import train

DEMO = Path(__file__).parents[1] / "config/config.yaml"
PRECISIONS = ("fp32", "bf16")
RUN = RunOptions(n_threads=1, no_cuda=True)


def main() -> None:
    """Train and test with each path from each seed."""
    # The demo's 5 epochs leave no mistakes to compare.
    options = parse(__doc__, seeds=3, epochs=2)
    demo = read_config(DEMO)
    experiment, dataset = demo.experiments["scratch"], demo.datasets["motion"]
    assert dataset.render is not None
    chosen = experiment.options(TrainingOptions) | {"n_epochs": options.epochs}
    found: dict[str, list[float]] = {recipe.NAME: []}
    found |= {f"r3d, {precision}": [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = FrameOptions(**dataset.frame_options)
        annotation = embedded(folder, frames, **dataset.render.model_dump())
        for seed in range(1, options.seeds + 1):
            training = TrainingOptions(**{**chosen, "manual_seed": seed})
            found[recipe.NAME].append(_plain(folder, annotation, training))
            for precision in PRECISIONS:
                how = {"precision": precision}
                applied = InferenceOptions(**experiment.options(InferenceOptions) | how)
                given = TrainingOptions(**training.model_dump() | how)
                found[f"r3d, {precision}"].append(_ours(folder, annotation, given, applied))
    rows = [
        [name, *(f"{value:.3f}" for value in values), f"{np.mean(values):.3f}"]
        for name, values in found.items()
    ]
    seeds = [f"seed {seed}" for seed in range(1, options.seeds + 1)]
    text = f"{options.epochs} epochs\n\n{table(['top-1 accuracy', *seeds, 'mean'], rows)}"
    publish("accuracy", text, packages=("torch",))


def _ours(
    folder: Path, annotation: Path, training: TrainingOptions, applied: InferenceOptions
) -> float:
    work = folder / f"seed{training.manual_seed}_{training.precision}"
    train(
        training,
        annotation=annotation,
        frames=folder / "frames",
        file_type="jpg",
        pretrained=None,
        checkpoints=work / "checkpoints",
        model=work / "model.pth",
        train_log=work / "train.log",
        val_log=work / "val.log",
        run=RUN,
    )
    infer(
        applied,
        annotation=annotation,
        subset="val",
        frames=folder / "frames",
        file_type="jpg",
        model=work / "model.pth",
        output=work / "val.json",
        run=RUN,
        batch_size=training.batch_size,
    )
    return evaluate(annotation, work / "val.json", subset="val", ks=[1]).accuracy(1)


def _plain(folder: Path, annotation: Path, training: TrainingOptions) -> float:
    torch.set_num_threads(n_cores())
    torch.manual_seed(training.manual_seed)
    shape = {"duration": training.sample_duration, "size": training.sample_size}
    folders = recipe.frame_folders(annotation, folder / "frames", "training")
    clips = recipe.Clips(folders, augment=False, **shape)
    batches = recipe.make_loader(clips, batch_size=training.batch_size, n_workers=1)
    n_classes = len({label for _, label in folders})
    network = recipe.network(n_classes=n_classes, **training.network())
    sgd = recipe.optimizer(network, training.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(sgd, training.multistep_milestones)
    for _ in range(training.n_epochs):
        for inputs, targets in batches:
            recipe.train_step(network, sgd, inputs, targets)
        schedule.step()
    tested = recipe.frame_folders(annotation, folder / "frames", "validation")
    windows = recipe.Windows([path for path, _ in tested], **shape)
    scores = recipe.infer(network.eval(), (windows[i] for i in range(len(windows))))
    return recipe.accuracy(scores, [label for _, label in tested])


if __name__ == "__main__":
    main()
