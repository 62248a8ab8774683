"""What experiments start from or apply: that the files hold what the experiments take them for.

Names and shapes are read, no weights, and each file once (`r3d.models.headercache`).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from r3d.config.applying import VIEW, applied_options
from r3d.config.config import Config, Experiment
from r3d.config.networks import given_options, misfit, settings, with_start, with_these
from r3d.config.normalisation import NORMALISING
from r3d.config.options import InferenceOptions, ModelOptions
from r3d.errors import InputError
from r3d.frames.form import FrameForm
from r3d.models.known import Known, known_of_torchvision, read_known
from r3d.models.naming import find_file, no_such_model
from r3d.models.torchvision_names import torchvision_network


def known_start(name: str) -> Known:
    """What is known of the model that a name stands for, be it fetched already or not.

    Raises:
        InputError: if there is no such model, or it is no checkpoint.
    """
    file = find_file(name)
    if file is None:
        raise no_such_model(name)
    network = torchvision_network(file)
    if network is not None and not file.is_file():
        return known_of_torchvision(network)
    return read_known(file)


def with_networks(config: Config) -> Config:
    """A config in which experiments have the network and the normalisation of what they start from.

    An option of these that is not given, neither there nor in the defaults, is that of the model.
    What cannot be read, or does not fit, is left to `check_starts`.
    """
    experiments: dict[str, Experiment] = {}

    def settled(name: str, before: tuple[str, ...] = ()) -> Experiment:
        if name in experiments or name in before:
            return experiments.get(name, config.experiments[name])
        experiment = config.experiments[name]
        with suppress(InputError):
            if experiment.no_train:
                pass  # its network is that of the model, whatever it is
            elif experiment.source in config.experiments:
                source = settled(str(experiment.source), (*before, name))
                names = [*ModelOptions.model_fields, *NORMALISING]
                start = {name: getattr(source, name) for name in names}
                experiment = with_these(experiment, start)
            elif experiment.pretrain_path is not None:
                known = known_start(experiment.pretrain_path)
                experiment = with_start(experiment, known)
        experiments[name] = experiment
        return experiment

    return config.model_copy(
        update={"experiments": {name: settled(name) for name in config.experiments}}
    )


def check_starts(
    where: str, experiment: Experiment, classes: list[str] | int | None
) -> Iterator[str]:
    """What does not fit in the checkpoints that an experiment names.

    Args:
        where: the experiment in the config, for the message.
        classes: of the data set, or how many, as far as its lists tell without reading all of them.
    """
    if experiment.pretrain_path is not None:
        try:
            _check_pretrained(experiment, known_start(experiment.pretrain_path))
        except InputError as error:
            yield f"{where}.pretrain_path: {error}"
    if experiment.resume_path is not None:
        path = Path(experiment.resume_path)
        if not path.is_file():
            yield (
                f"{where}.resume_path: {experiment.resume_path!r} is no file; give the path of a "
                "checkpoint"
            )
            return
        try:
            _check_resumed(experiment, read_known(path), classes)
        except InputError as error:
            yield f"{where}.resume_path: {error}"


def notes_on_starts(config: Config) -> Iterator[str]:
    """What is to be said, before any job, of models that are applied as they are (no_train).

    In a line each: options and frames that are others than those of the training, and what is
    assumed of it. Frames that are there are looked at by the job, whose log says the rest.
    """
    for name, experiment in config.experiments.items():
        if not experiment.no_train:
            continue
        where = f"experiments.{name}"
        origin = config.origin(name)
        if not origin.no_train:
            if differences := _different_views(experiment, origin):
                yield f"{where}: {differences}"
            form = _form(config, origin.dataset)
        else:
            try:
                known = known_start(str(origin.pretrain_path))
                _, notes = applied_options(known, _given_of_inference(experiment))
            except InputError:  # which `check_starts` tells
                continue
            yield from (f"{where}: {note}" for note in notes)
            form = FrameForm.of_dict(known.frames)
        here = _form(config, experiment.dataset)
        if form and here and (difference := form.difference(here)):
            yield f"{where}: applied to frames of {difference}"


def _different_views(experiment: Experiment, trained: Experiment) -> str:
    """The options of clips that are given, and that the model is trained otherwise with.

    Not `frozen`, which is there to differ.
    """
    names = [
        name
        for name in VIEW
        if name in experiment.model_fields_set
        and getattr(experiment, name) != getattr(trained, name)
    ]
    if not names:
        return ""
    here, there = (settings(dict(one), names) for one in (experiment, trained))
    return f"{here} is used as given; its model is trained with {there}"


def _form(config: Config, name: str) -> FrameForm | None:
    """What the frames of a data set are like, as far as the config says it."""
    dataset = config.datasets.get(name)
    if dataset is None:  # of several, each its own
        return None
    rates = None if dataset.fps is None else (dataset.fps, dataset.fps)
    return FrameForm(short_side=dataset.short_side or None, fps=dataset.fps, rates=rates)


def _given_of_inference(experiment: Experiment) -> dict[str, Any]:
    given = given_options(experiment)
    return {name: given[name] for name in InferenceOptions.model_fields if name in given}


def _check_pretrained(experiment: Experiment, known: Known) -> None:
    if experiment.no_train:
        applied_options(known, _given_of_inference(experiment))
        return
    with_start(experiment, known)
    stated = experiment.n_pretrain_classes
    if stated and stated != known.architecture.n_classes:
        raise InputError(
            f"checkpoint {known.file}: n_pretrain_classes: {stated} does not fit, it has "
            f"{known.architecture.n_classes}; 0 takes them from the file"
        )


def _check_resumed(experiment: Experiment, known: Known, classes: list[str] | int | None) -> None:
    if different := misfit(known, experiment, whole=True):
        raise InputError(different)
    there = known.architecture.n_classes
    here = len(classes) if isinstance(classes, list) else classes
    other_order = isinstance(classes, list) and known.states_labels and known.labels != classes
    if (here is not None and here != there) or other_order:
        raise InputError(
            f"checkpoint {known.file}: its {there} classes are not the {here} of the data set, or "
            "have another order; to start from its weights, with a fresh last layer, set "
            "pretrain_path"
        )
    if known.epoch > experiment.n_epochs:
        raise InputError(
            f"checkpoint {known.file}: has done {known.epoch} epochs, which is more than n_epochs: "
            f"{experiment.n_epochs}; raise n_epochs, or give an earlier checkpoint"
        )
