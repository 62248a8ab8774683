"""Validated config, path patterns and the functions that rules take their inputs from."""

import re
import sys
from pathlib import Path

from r3d.config.config import NAME_PATTERN
from r3d.config.inputs import check_inputs, has_labels, list_files
from r3d.config.options import InferenceOptions, TrainingOptions
from r3d.config.yamlfile import read_yaml
from r3d.errors import InputError
from r3d.files import hold_lock
from r3d.frames.shards import shard_name
from r3d.motion import SPLITS, list_names
from r3d.workflow.arraytask import become_own_job
from r3d.workflow.codeversion import code_version
from r3d.workflow.jobs import export_package
from r3d.workflow.preemption import bring_back_preempted_jobs

become_own_job()
# With `--software-deployment-method conda`, environment.yml brings all but the library itself.
export_package()

try:
    for file in map(Path, workflow.configfiles):
        if file.is_file():
            read_yaml(file)
    CONFIG = check_inputs(config)
except InputError as error:
    sys.exit("\n".join(f"error: {problem}" for problem in str(error).splitlines()))


RESULTS = CONFIG.results
MOTION_LISTS = sorted({name for split in SPLITS for name in list_names(split)})
LISTS = f"{RESULTS}/datasets/{{dataset}}/lists/{{split}}.tsv"
LABELS = f"{RESULTS}/datasets/{{dataset}}/lists/{{split}}.labels.txt"
SHARDS = f"{RESULTS}/datasets/{{dataset}}/shards"
MANIFEST = f"{RESULTS}/datasets/{{dataset}}/manifests/{{shard}}.tsv"
LEDGER = f"{RESULTS}/datasets/{{dataset}}/ledger.tsv"
ANNOTATION = CONFIG.annotation("{dataset}", "{split}")
EXPERIMENT = f"{RESULTS}/experiments/{{experiment}}/{{split}}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"


wildcard_constraints:
    dataset=NAME_PATTERN,
    experiment=NAME_PATTERN,
    split=NAME_PATTERN,
    shard=r"\d+",
    subset="train|val|test",


def dataset_of(wildcards):
    """The config of the data set that a job works on, by its own name or its experiment's."""
    if hasattr(wildcards, "dataset"):
        return CONFIG.dataset(wildcards.dataset)
    return CONFIG.dataset(experiment_of(wildcards).dataset)


def experiment_of(wildcards):
    return CONFIG.experiments[wildcards.experiment]


def option(section, name):
    """A params function that picks one option of a job's data set or experiment."""
    return lambda wildcards: getattr(section(wildcards), name)


def asked(name):
    """A resource function: what an experiment asks the cluster for."""
    return lambda wildcards: getattr(experiment_of(wildcards).resources, name)


def asked_memory(wildcards, attempt):
    return experiment_of(wildcards).resources.mem_mb * attempt


def asked_gpus(wildcards):
    """GPUs over all nodes, which is how SLURM and Snakemake count them."""
    resources = experiment_of(wildcards).resources
    return resources.nodes * resources.gpus


def slurm_mpi(wildcards):
    """With several nodes, that the job itself starts a process on each by srun."""
    return "srun" if experiment_of(wildcards).resources.nodes > 1 else None


def slurm_tasks(wildcards):
    nodes = experiment_of(wildcards).resources.nodes
    return nodes if nodes > 1 else None


def slurm_extra(wildcards):
    """A warning two minutes before the time limit, and as many GPUs on each of several nodes."""
    resources = experiment_of(wildcards).resources
    options = ["--signal=TERM@120"]
    if resources.nodes > 1 and resources.gpus:
        options.append(f"--gpus-per-node={resources.gpus}")
    return " ".join(options)


def cores(wildcards):
    """Cores of each node, for all processes."""
    experiment = experiment_of(wildcards)
    return experiment.resources.processes_per_node * experiment.cores_per_process


def one_of(values):
    """A wildcard constraint that admits these values only; without any, nothing."""
    return "|".join(map(re.escape, values)) or "(?!)"


def rendered_dataset(lists):
    """The embedded data set whose list folder this is."""
    return next(d for d in CONFIG.datasets.values() if d.render and d.lists == lists)


def list_tables(dataset):
    return [
        LISTS.format(dataset=dataset, split=split)
        for split in CONFIG.datasets[dataset].all_splits
    ]


def shard_table(wildcards):
    folder = checkpoints.shard_videos.get(dataset=wildcards.dataset).output[0]
    return f"{folder}/{wildcards.shard}.tsv"


def manifests(wildcards):
    n_shards = dataset_of(wildcards).shards
    return [
        MANIFEST.format(
            dataset=wildcards.dataset, shard=Path(shard_name(i, n_shards)).stem
        )
        for i in range(n_shards)
    ]


def official_json(wildcards):
    """ActivityNet's own JSON, to which its annotation only adds frames and rates."""
    dataset = dataset_of(wildcards)
    if dataset.format != "activitynet":
        return []
    (file,) = list_files(dataset, wildcards.split)
    return file


def part_annotations(wildcards):
    """The annotations of the data sets that a merged one consists of."""
    parts = dataset_of(wildcards).parts.items()
    return [
        ANNOTATION.format(dataset=name, split=part.all_splits[0])
        for name, part in parts
    ]


def part_frames(wildcards):
    return {name: part.frames for name, part in dataset_of(wildcards).parts.items()}


def experiment_annotation(wildcards):
    dataset = experiment_of(wildcards).dataset
    return ANNOTATION.format(dataset=dataset, split=wildcards.split)


def start_of(name, split):
    """The model that an experiment starts from: another experiment's, a file, or none."""
    experiment = CONFIG.experiments[name]
    if experiment.pretrain:
        return model_of(experiment.pretrain, CONFIG.pretrain_split(name, split))
    return experiment.pretrain_path or []


def model_of(name, split):
    """The model that an experiment applies: its own, or with `no_train` its start."""
    if CONFIG.experiments[name].no_train:
        return start_of(name, split)
    return f"{EXPERIMENT}/model.pth".format(experiment=name, split=split)


def pretrained_model(wildcards):
    return start_of(wildcards.experiment, wildcards.split)


def trained_model(wildcards):
    return model_of(wildcards.experiment, wildcards.split)


def check_gpus():
    """Look for the GPUs that jobs on this machine ask for; those of a cluster look themselves."""
    asked = {
        name: experiment.resources.gpus
        for name, experiment in CONFIG.experiments.items()
        if experiment.resources.gpus and not experiment.no_cuda
    }
    if not asked or not workflow.local_exec:
        return
    from r3d.compute.device import need_gpus  # torch takes seconds

    try:
        for name, gpus in asked.items():
            need_gpus(gpus, f"config: experiments.{name}.resources.gpus")
    except InputError as error:
        sys.exit(f"error: {error}")


def runs(trained=False):
    """The result folder of each experiment and split; only those that train if asked."""
    return [
        EXPERIMENT.format(experiment=name, split=split)
        for name, experiment in CONFIG.experiments.items()
        if not (trained and experiment.no_train)
        for split in CONFIG.experiment_splits(name)
    ]


def runs_and_subsets(evaluated=False):
    """The result folder and the subset of each inference; only those with labels if asked."""
    return [
        (
            EXPERIMENT.format(experiment=name, split=split),
            experiment.inference_subset,
        )
        for name, experiment in CONFIG.experiments.items()
        if not evaluated
        or has_labels(CONFIG.dataset(experiment.dataset), experiment.inference_subset)
        for split in CONFIG.experiment_splits(name)
    ]


def hold_folder():
    """Let only one workflow run here at a time.

    Unlike the lock of Snakemake, this one ends with the process, even if it is killed.
    """
    try:
        return hold_lock(Path(workflow.persistence.path) / "r3d.lock")
    except TimeoutError:
        sys.exit(
            f"error: another snakemake is at work in {Path.cwd()}; wait for it or stop it"
        )
