"""What experiments start from or apply: that the files hold what the experiments take them for.

Names and shapes are read, no weights, and each file once (`r3d.models.headercache`).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from r3d.config.applying import applied_options
from r3d.config.config import Config, Experiment
from r3d.config.networks import given_options, misfit, with_network, with_network_of
from r3d.config.options import InferenceOptions, ModelOptions
from r3d.errors import InputError
from r3d.models.known import Known, read_known
from r3d.models.naming import find_file, no_such_model
from r3d.models.torchvision_names import known_of_torchvision, torchvision_network


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
    """A config in which experiments have the network of what they start from.

    An option of the network that is not given, neither there nor in the defaults, is that of the
    model. What cannot be read is left to `check_starts`.
    """
    experiments: dict[str, Experiment] = {}

    def settled(name: str, before: tuple[str, ...] = ()) -> Experiment:
        if name in experiments or name in before:
            return experiments.get(name, config.experiments[name])
        experiment = config.experiments[name]
        with suppress(InputError):
            if experiment.no_train:
                pass  # its network is that of the model, whatever it is
            elif experiment.pretrain in config.experiments:
                source = settled(str(experiment.pretrain), (*before, name))
                network = {key: getattr(source, key) for key in ModelOptions.model_fields}
                experiment = with_network(experiment, network)
            elif experiment.pretrain_path is not None:
                known = known_start(experiment.pretrain_path)
                experiment = with_network_of(experiment, known)
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


def _check_pretrained(experiment: Experiment, known: Known) -> None:
    if experiment.no_train:
        given = given_options(experiment)
        applied_options(
            known, {name: given[name] for name in InferenceOptions.model_fields if name in given}
        )
        return
    if different := misfit(known, experiment):
        raise InputError(different)
    with_network_of(experiment, known)
    stated = experiment.n_pretrain_classes
    if stated and stated != known.architecture.n_classes:
        raise InputError(
            f"checkpoint {known.file}: n_pretrain_classes: {stated} does not fit, it has "
            f"{known.architecture.n_classes}; 0 takes them from the file"
        )


def _check_resumed(experiment: Experiment, known: Known, classes: list[str] | int | None) -> None:
    if different := misfit(known, experiment):
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
