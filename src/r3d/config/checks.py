"""What has to fit together in a config, beyond what each section checks of itself."""

import re
from collections.abc import Iterable, Iterator

from r3d.config.config import NAME_PATTERN, Config, Experiment, MergedDataset, split_of
from r3d.config.options import ModelOptions
from r3d.lists.folds import FORMATS_WITH_FOLDS, fold_of


def misfits(config: Config) -> Iterator[str]:
    """What is wrong with names, merged data sets, and what experiments say of data sets and others.

    Each names the key that does not fit, its value and what is accepted.
    """
    wrong: set[str] = set()  # sections of which nothing more can be said
    for kind in ("datasets", "merged", "experiments"):
        for name in getattr(config, kind):
            if not re.fullmatch(NAME_PATTERN, name):
                yield f"{kind}: the name {name!r} may hold letters, digits, '_' and '-' only"
                wrong.add(f"{kind}.{name}")

    def told(section: str, problems: Iterable[str]) -> Iterator[str]:
        for problem in problems:
            wrong.add(section)
            yield problem

    for name, parts in config.merged.items():
        if f"merged.{name}" not in wrong:
            yield from told(f"merged.{name}", _check_merged(config, name, parts))
    for name, experiment in config.experiments.items():
        section = f"experiments.{name}"
        if f"merged.{experiment.dataset}" in wrong:
            wrong.add(section)
        elif section not in wrong:
            yield from told(section, _check_experiment(config, section, experiment))
    for problem, chain in _cycles(config):
        wrong.update(f"experiments.{name}" for name in chain)
        if problem:
            yield problem
    for name, experiment in config.experiments.items():
        start = experiment.source
        if start and wrong.isdisjoint({f"experiments.{name}", f"experiments.{start}"}):
            yield from told(f"experiments.{name}", _check_start(config, name, start))
    if not wrong:
        for name in config.experiments:
            yield from _check_leaks(config, name)


def _check_merged(config: Config, name: str, parts: list[str]) -> Iterator[str]:
    where = f"merged.{name}"
    if name in config.datasets:
        yield (f"{where}: {name!r} is the name of a data set already")
        return
    if len(parts) < 2 or len(set(parts)) < len(parts):
        yield (f"{where}: {parts} must name two data sets or more, each once")
        return
    file_types, several = {}, {}
    for part in parts:
        if part not in config.datasets:
            yield (f"{where}: {part!r} is not one of the data sets: {', '.join(config.datasets)}")
            return
        dataset = config.datasets[part]
        if dataset.format == "activitynet":
            yield (
                f"{where}: {part!r} has segments in seconds (format: activitynet), which "
                "cannot be merged with whole videos"
            )
        if len(dataset.all_splits) > 1:
            several[part] = ", ".join(map(repr, dataset.all_splits))
        file_types[part] = dataset.file_type
    if several:
        found = "; ".join(f"{part!r} has several splits ({all})" for part, all in several.items())
        yield f"{where}: {found}: give it one (its splits)"
    if len(set(file_types.values())) > 1:
        yield (
            f"{where}: its data sets differ in file_type "
            f"({', '.join(f'{part}: {kind}' for part, kind in file_types.items())})"
        )


def _check_experiment(config: Config, where: str, experiment: Experiment) -> Iterator[str]:
    names = [*config.datasets, *config.merged]
    if experiment.dataset not in names:
        yield (
            f"{where}.dataset: {experiment.dataset!r} is not one of the data sets: "
            f"{', '.join(names)}"
        )
        return
    dataset = config.dataset(experiment.dataset)
    if experiment.input_type == "flow" and dataset.file_type != "hdf5":
        yield (
            f"{where}.input_type: 'flow' is read from frames of file_type: hdf5 only, and "
            f"that of {experiment.dataset} is {dataset.file_type!r}"
        )
    accepted = dataset.all_splits
    splits = experiment.splits
    yield from _check_distinct(f"{where}.splits", splits)
    for split in splits or ():
        if split not in accepted:
            yield (
                f"{where}.splits: {split!r} is not a split in use of {experiment.dataset}; "
                f"accepted: {', '.join(map(repr, accepted))}"
            )
    if experiment.folds:
        yield from _check_folds(config, where, experiment)
    if experiment.source not in (None, *config.experiments):
        yield (
            f"{where}.pretrain: {experiment.pretrain!r} is not one of the experiments: "
            f"{', '.join(config.experiments)}"
        )


def _check_folds(config: Config, where: str, experiment: Experiment) -> Iterator[str]:
    dataset = config.dataset(experiment.dataset)
    if isinstance(dataset, MergedDataset):
        yield (
            f"{where}.folds: {experiment.folds} goes with a single data set, and "
            f"{experiment.dataset} is a merged one; leave it out"
        )
    elif dataset.format not in FORMATS_WITH_FOLDS:
        yield (
            f"{where}.folds: {experiment.folds} goes with format: {', '.join(FORMATS_WITH_FOLDS)}; "
            f"the splits of {dataset.format} are official: leave it out, or choose among them by "
            "splits"
        )


def _check_start(config: Config, name: str, start: str) -> Iterator[str]:
    """Refuse what does not fit the experiment that another one starts from."""
    where, experiment = f"experiments.{name}", config.experiments[name]
    source = config.experiments[start]
    if experiment.source_run:
        runs = config.runs(start)
        if experiment.source_run not in runs:
            yield (
                f"{where}.pretrain: {experiment.pretrain!r} names a run that {start} does not "
                f"have; accepted: {', '.join(f'{start}/{run}' for run in runs)}"
            )
    else:
        yield from _check_start_of_runs(config, name, start)
    names = list(ModelOptions.model_fields)
    if experiment.no_train:  # else the inputs may be others
        names += ["no_mean_norm", "no_std_norm", "value_scale"]
        if not (experiment.no_mean_norm and experiment.no_std_norm):
            names.append("mean_dataset")
    # What is not given comes from that model.
    names = [name for name in names if name in experiment.model_fields_set]
    for name in names:
        here, there = getattr(experiment, name), getattr(source, name)
        if here != there:
            yield (
                f"{where}.{name}: {here!r} does not fit pretrain: {start!r}, "
                f"whose {name} is {there!r}"
            )
    known = config.dataset(source.dataset).n_classes
    if experiment.n_pretrain_classes and known not in (None, experiment.n_pretrain_classes):
        yield (
            f"{where}.n_pretrain_classes: {experiment.n_pretrain_classes} does not fit "
            f"pretrain: {start!r}, which has {known} classes; 0 takes them from its model"
        )


def _check_start_of_runs(config: Config, name: str, start: str) -> Iterator[str]:
    """Refuse runs for which the experiment that another one starts from has none, or several."""
    where, experiment = f"experiments.{name}", config.experiments[name]
    seeds = config.seeds(start)
    among = "seeds" if experiment.no_train else "seeds (or manual_seed)"
    missing_seeds = [seed for seed in config.seeds(name) if seed not in seeds]
    if missing_seeds and (len(seeds) > 1 or experiment.no_train):
        yield (
            f"{where}.pretrain: {start!r} does not train with seed {missing_seeds[0]}; it trains "
            f"with {', '.join(map(str, seeds))}: give {among} among them"
        )
    available = config.experiment_splits(start)
    if config.experiments[start].dataset == experiment.dataset:
        wanted = config.experiment_splits(name)
        missing = [split for split in wanted if split not in available]
        if missing:
            yield (
                f"{where}.pretrain: {start!r} does not train on split {missing[0]!r}; "
                f"it trains on {', '.join(map(repr, available))}"
            )
    elif len(available) > 1:
        yield (
            f"{where}.pretrain: {start!r} trains on another data set and on several splits "
            f"({', '.join(map(repr, available))}): say which, as pretrain: {start}/{available[0]}"
        )


def _check_leaks(config: Config, name: str) -> Iterator[str]:
    """Refuse a start from a model that is trained on what the experiment validates on.

    Of folds this is certain: each is trained on by all others, and by a split of the list. What
    official splits share, `r3d doctor` says.
    """
    experiment = config.experiments[name]
    if experiment.no_train and experiment.inference_subset != "val":
        return
    for run in config.runs(name):
        start, start_run = name, run
        while (source := config.experiments[start].source) is not None:
            start, start_run = source, config.pretrain_run(start, start_run)
            if not config.experiments[start].no_train:
                break
        split, other = split_of(run), split_of(start_run)
        same = start != name and config.experiments[start].dataset == experiment.dataset
        if not same or split == other or not (fold_of(split) or fold_of(other)):
            continue
        own = "folds and splits of its own, as pretrain then brings the folds of its runs"
        if fold_of(other) is None:
            own = f"folds, and with splits: {list(config.experiment_splits(start))}"
        yield (
            f"experiments.{name}.pretrain: {experiment.pretrain!r} is trained on videos that run "
            f"{run!r} validates on, as its split is {other!r}; give pretrain: {start}, without "
            f"{own}"
        )
        return


def _cycles(config: Config) -> Iterator[tuple[str, list[str]]]:
    """Each experiment whose start leads into a circle, and what it goes through to get there.

    With what is to be said of the circle, which is nothing where it is said before.
    """
    seen: set[str] = set()
    for name in config.experiments:
        chain = [name]
        while (before := config.experiments[chain[-1]].source) in config.experiments:
            assert before is not None
            if before in chain:
                circle = " <- ".join([*chain, before])
                text = f"experiments.{name}.pretrain: the chain {circle} never starts"
                yield text if seen.isdisjoint(chain) else "", chain
                seen.update(chain)
                break
            chain.append(before)


def _check_distinct(where: str, splits: list[str] | None) -> Iterator[str]:
    if splits is not None and (not splits or len(set(splits)) < len(splits)):
        yield (f"{where}: {splits} must name each split once, at least one")
