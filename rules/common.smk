"""Validated config, path patterns and the functions that rules take their inputs from."""

import os
import re
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

from snakemake.benchmark import benchmarked
from snakemake.logging import logger
from snakemake.script import PythonScript

from r3d.annotations.parts import PARTS, TRAINING
from r3d.compute.cards import need_cards, torch_has_cuda, visible_cards
from r3d.config.config import NAME_PATTERN, split_of
from r3d.config.inputs import check_inputs, has_labels, list_files
from r3d.config.options import InferenceOptions, TrainingOptions
from r3d.config.starts import notes_on_starts
from r3d.config.yamlfile import read_yaml
from r3d.errors import InputError
from r3d.frames.shards import shard_name
from r3d.frames.videofiles import videos_state
from r3d.lists import FORMATS
from r3d.models.naming import find_file
from r3d.models.released import MODELS_FOLDER
from r3d.models.torchvision_names import NETWORKS, PREFIX
from r3d.motion import SPLITS, list_names
from r3d.workflow.arraytask import become_own_job
from r3d.workflow.codeversion import code_version
from r3d.workflow.folderlocks import hold_folders
from r3d.workflow.jobs import export_package, interrupts_held
from r3d.workflow.patterns import (
    check_input_names,
    check_output_files,
    check_output_folder,
)
from r3d.workflow.preemption import bring_back_preempted_jobs
from r3d.workflow.warmstart import WarmStart

become_own_job()
# With `--software-deployment-method conda`, environment.yml brings all but the library itself.
export_package()

run_script = script
run_file = PythonScript.execute_script
# The threads that run a script of these rules, and not one of a workflow that includes them.
ours = threading.local()
WARM_START = WarmStart()
# As in snakemake.shell.
THREAD_VARIABLES = [
    *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
]
TMPDIR_VARIABLES = ["TMPDIR", "TMP", "TEMPDIR", "TEMP"]


def script(*arguments):
    """What Snakemake calls for the `script:` of a rule, with Ctrl-C held until it is under way."""
    with interrupts_held():
        ours.running = True
        try:
            run_script(*arguments)
        finally:
            ours.running = False


def run_file_warm(job, path, edit=False):
    """What Snakemake calls to run the script of a job, which it has written to a path.

    Where the job has another Python than this process, or this process is there for one job only, as
    on a cluster, it is started as Snakemake does it.
    """
    elsewhere = job.conda_env or job.container_img or job.env_modules or job.shadow_dir
    here = getattr(ours, "running", False) and workflow.is_main_process
    if elsewhere or not here or sys.platform != "linux":
        return run_file(job, path, edit=edit)
    threads = dict.fromkeys(THREAD_VARIABLES, str(job.threads))
    folder = job.resources.get("tmpdir")
    folders = {} if folder is None else dict.fromkeys(TMPDIR_VARIABLES, str(folder))
    try:
        variables = {**os.environ, **threads, **folders}
        process = WARM_START.start(path, variables, held=True)
    except OSError:  # no more processes, or someone has killed the server
        return run_file(job, path, edit=edit)
    record = job.bench_record
    with nullcontext() if record is None else benchmarked(process.pid, record):
        process.begin()
        status = process.wait()
    if status:
        status = status if status > 0 else 128 - status
        raise subprocess.CalledProcessError(status, [sys.executable, path])


PythonScript.execute_script = run_file_warm


try:
    for file in map(Path, workflow.configfiles):
        if file.is_file():
            read_yaml(file)
    CONFIG = check_inputs(config)
    check_output_folder("config: results", CONFIG.results)
    for name, dataset in CONFIG.datasets.items():
        files = [list_files(dataset, split) for split in dataset.all_splits]
        check_input_names(f"config: datasets.{name}.lists", sum(files, []))
    for name, experiment in CONFIG.experiments.items():
        if experiment.pretrain_path:
            where = f"config: experiments.{name}.pretrain_path"
            check_input_names(where, [str(find_file(experiment.pretrain_path))])
except InputError as error:
    sys.exit("\n".join(f"error: {problem}" for problem in str(error).splitlines()))

if workflow.is_main_process:
    for note in notes_on_starts(CONFIG):
        print(f"note: config: {note}", file=sys.stderr)


# Snakemake does not find again what it made under a name with "//" in it.
CONFIG = CONFIG.model_copy(update={"results": str(Path(CONFIG.results))})
RESULTS = CONFIG.results
MOTION_LISTS = sorted({name for split in SPLITS for name in list_names(split)})
LISTS = f"{RESULTS}/datasets/{{dataset}}/lists/{{split}}.tsv"
LABELS = f"{RESULTS}/datasets/{{dataset}}/lists/{{split}}.labels.txt"
SHARDS = f"{RESULTS}/datasets/{{dataset}}/shards"
MANIFEST = f"{RESULTS}/datasets/{{dataset}}/manifests/{{shard}}.tsv"
MANIFEST_DIGEST = f"{RESULTS}/datasets/{{dataset}}/manifests/{{shard}}.sha256"
LEDGER = f"{RESULTS}/datasets/{{dataset}}/ledger.tsv"
FRAMES_DIGEST = f"{RESULTS}/datasets/{{dataset}}/frames.sha256"
ANNOTATION = CONFIG.annotation("{dataset}", "{split}")
PART_DIGEST = f"{ANNOTATION.removesuffix('.json')}.{{part}}.sha256"
PART_DIGESTS = {part: PART_DIGEST.replace("{part}", part) for part in PARTS}
# The split of a run of an experiment has its seed behind it, if there are several (`Config.runs`).
EXPERIMENT = f"{RESULTS}/experiments/{{experiment}}/{{split}}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"

# GPUs that the jobs on this machine share; on a cluster each job is given its own. With a torch for
# CPUs none is used, and no job waits for one.
N_CARDS = (
    len(visible_cards())
    if workflow.local_exec and workflow.is_main_process and torch_has_cuda()
    else 0
)
# Unless the command line or a profile says how many.
if N_CARDS and "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = N_CARDS


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
    """GPUs over all nodes, which is how SLURM and Snakemake count them.

    On a machine with GPUs, a job computes on one even where its experiment does not ask for it.
    """
    experiment = experiment_of(wildcards)
    if experiment.no_cuda and workflow.local_exec:
        return 0
    resources = experiment.resources
    return resources.nodes * resources.gpus_per_node or min(
        resources.processes_per_node, N_CARDS
    )


def own_gpu(wildcards):
    """The one that a job of a single process computes on, if it runs where there are some."""
    return 0 if experiment_of(wildcards).no_cuda else min(1, N_CARDS)


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
        options.append(f"--gpus-per-node={resources.gpus_per_node}")
    return " ".join(options)


def cores(wildcards):
    """Cores of each node, for all processes."""
    experiment = experiment_of(wildcards)
    return experiment.resources.processes_per_node * experiment.cores_per_process


def one_of(values):
    """A wildcard constraint that admits these values only; without any, nothing."""
    return "|".join(map(re.escape, values)) or "(?!)"


def folder_of_lists(dataset):
    """The folder as `list_files` writes it, whatever "./" or "//" the config has."""
    return str(Path(dataset.lists))


def rendered_dataset(lists):
    """The embedded data set whose list folder this is."""
    return next(
        d for d in CONFIG.datasets.values() if d.render and folder_of_lists(d) == lists
    )


def videos_of_paths(wildcards):
    """The folder that the absolute paths of a list may lie below, in the formats that have them."""
    dataset = dataset_of(wildcards)
    return dataset.videos if FORMATS[dataset.format].of_videos else None


def shards_of(dataset):
    """The numbers of the shards of a data set, as they stand in file names."""
    return [shard_name(i, dataset.shards) for i in range(dataset.shards)]


def list_tables(dataset):
    return [
        LISTS.format(dataset=dataset, split=split)
        for split in CONFIG.datasets[dataset].all_splits
    ]


def shard_table(wildcards):
    folder = checkpoints.shard_videos.get(dataset=wildcards.dataset).output[0]
    return f"{folder}/{wildcards.shard}.tsv"


def of_shards(pattern):
    """An input function: a file of each shard of a data set."""
    return lambda wildcards: [
        pattern.format(dataset=wildcards.dataset, shard=shard)
        for shard in shards_of(dataset_of(wildcards))
    ]


def state_of_videos(wildcards):
    """Changes with the video files of a shard, which may come, be mended or replaced at any time.

    They are not inputs: Snakemake would look at each by itself, and refuse to run without it.
    """
    table = Path(SHARDS.format(dataset=wildcards.dataset), f"{wildcards.shard}.tsv")
    # Jobs on other machines do not decide what runs. A step before makes the table, or makes it
    # anew, and then this is asked again.
    if not workflow.is_main_process or not table.is_file():
        return ""
    return videos_state(table, Path(dataset_of(wildcards).videos))


def official_json(wildcards):
    """ActivityNet's own JSON, to which its annotation only adds frames and rates."""
    dataset = dataset_of(wildcards)
    if dataset.format != "activitynet":
        return []
    (file,) = list_files(dataset, wildcards.split)
    return file


def of_merged(pattern):
    """An input function: a file of each of the data sets that a merged one consists of."""
    return lambda wildcards: [
        pattern.format(dataset=name, split=part.all_splits[0])
        for name, part in dataset_of(wildcards).parts.items()
    ]


def part_frames(wildcards):
    return {name: part.frames for name, part in dataset_of(wildcards).parts.items()}


def frames_digests(wildcards):
    """What tells whether the frames of a job's data set, or of all its parts, are others now."""
    name = getattr(wildcards, "dataset", None) or experiment_of(wildcards).dataset
    return [
        FRAMES_DIGEST.format(dataset=part) for part in CONFIG.merged.get(name, [name])
    ]


def checkpoints_behind(wildcards):
    """Results of the checkpoints behind a job's inputs, beside that of its own annotation.

    After a checkpoint, Snakemake asks only those jobs anew that depend on it themselves: others run
    because of what was expected before, though their inputs stayed as they were.
    """
    own = experiment_of(wildcards).dataset, split_of(wildcards.split)
    run = wildcards.experiment, wildcards.split
    before = [
        (CONFIG.experiments[name].dataset, split_of(before))
        for name, before in trainings([run])
    ]
    files = []
    for dataset, split in dict.fromkeys([own, *before]):
        annotations = [(dataset, split)] if (dataset, split) != own else []
        for part in CONFIG.merged.get(dataset, [dataset]):
            files.append(FRAMES_DIGEST.format(dataset=part))
            if part != dataset:
                annotations.append((part, CONFIG.datasets[part].all_splits[0]))
        for name, part_split in annotations:
            file = PART_DIGESTS[TRAINING].format(dataset=name, split=part_split)
            files.append(file)
    return files


def parts_of(wildcards):
    """The data sets that a job's experiment is about, one or those that are merged, and splits."""
    name = experiment_of(wildcards).dataset
    if name not in CONFIG.merged:
        return [(name, split_of(wildcards.split))]
    parts = CONFIG.dataset(name).parts.items()
    return [(part, dataset.all_splits[0]) for part, dataset in parts]


def group_patterns(wildcards):
    """What finds the group in a path, of those data sets of an experiment that have it."""
    experiment = experiment_of(wildcards)
    parts = CONFIG.merged.get(experiment.dataset)
    named = {part: part for part in parts} if parts else {"": experiment.dataset}
    patterns = {
        name: CONFIG.datasets[part].group_pattern for name, part in named.items()
    }
    return {name: pattern for name, pattern in patterns.items() if pattern}


def experiment_annotation(wildcards):
    dataset = experiment_of(wildcards).dataset
    return ANNOTATION.format(dataset=dataset, split=split_of(wildcards.split))


def digest_of_part(part=None):
    """An input function: what changes with a part of an annotation, by default with a subset.

    Steps that take long have the annotation itself as an ancient input: it changes with each video
    that is listed, whatever for.
    """
    return lambda wildcards: PART_DIGESTS[part or wildcards.subset].format(
        dataset=experiment_of(wildcards).dataset, split=split_of(wildcards.split)
    )


def pretrained_model(wildcards):
    """The model that an experiment starts from: another experiment's, a file, or none."""
    start = CONFIG.start(wildcards.experiment, wildcards.split)
    return [] if start is None else model_path(start)


def model_path(model):
    """A model as a path, be it that of an experiment or the name of a file."""
    return str(find_file(model) if isinstance(model, str) else model)


def fetched_models(runs):
    """The files of torchvision's that these runs begin with."""
    starts = [CONFIG.start(name, run) for name, run in runs + trainings(runs)]
    return [
        model_path(start)
        for start in starts
        if isinstance(start, str) and start.startswith(PREFIX)
    ]


def class_order_file(wildcards):
    """The file that states the classes of a model that does not, if there is one."""
    order = experiment_of(wildcards).class_order
    return [] if order in (None, "annotation") else order


def trained_model(wildcards):
    """The model that an experiment applies: its own, or with `no_train` its start."""
    return model_path(CONFIG.model(wildcards.experiment, wildcards.split))


def check_gpus():
    """Look for the GPUs that jobs on this machine ask for; those of a cluster look themselves."""
    asked = {
        name: experiment.resources
        for name, experiment in CONFIG.experiments.items()
        if experiment.resources.gpus and not experiment.no_cuda
    }
    if not asked or not workflow.local_exec:
        return
    if N_CARDS:
        need = need_cards
    else:  # perhaps torch knows others
        from r3d.compute.device import need_gpus as need  # which takes seconds

    try:
        for name, resources in asked.items():
            option = f"config: experiments.{name}.resources.{resources.gpus_option}"
            need(resources.gpus_per_node, option)
    except InputError as error:
        sys.exit(f"error: {error}")


def runs(evaluated=False):
    """Each run of each experiment; only those with labels if asked."""
    return [
        (name, run)
        for name, experiment in CONFIG.experiments.items()
        if not evaluated
        or has_labels(CONFIG.dataset(experiment.dataset), experiment.inference_subset)
        for run in CONFIG.runs(name)
    ]


def is_trained_on(wildcards):
    """Whether an experiment trains on a data set, by itself or as a part of a merged one."""
    return any(
        wildcards.dataset in CONFIG.merged.get(experiment.dataset, [experiment.dataset])
        for experiment in CONFIG.experiments.values()
        if not experiment.no_train
    )


def trainings(runs):
    """The trainings that runs begin with: their own, and those that they start from."""
    found = {}
    for name, run in runs:
        while name:
            experiment = CONFIG.experiments[name]
            if not experiment.no_train:
                found[name, run] = True
            if experiment.source:
                run = CONFIG.pretrain_run(name, run)
            name = experiment.source
    return list(found)


def of_trainings(runs, *names):
    """Files of each of these trainings."""
    return [
        f"{EXPERIMENT}/{name}".format(experiment=experiment, split=run)
        for experiment, run in trainings(runs)
        for name in names
    ]


def of_subsets(runs, *endings):
    """Files of each of these runs about the subset that its model is applied to."""
    return [
        f"{EXPERIMENT}/{{subset}}.{ending}".format(
            experiment=name,
            split=run,
            subset=CONFIG.experiments[name].inference_subset,
        )
        for name, run in runs
        for ending in endings
    ]


def files_of_run(name, run):
    """What the report reads of a run, by what it is."""
    experiment = CONFIG.experiments[name]
    of_subset = {
        "accuracy": "accuracy.json",
        "videos": "videos.tsv",
        "result": "json",
        "confusion": "confusion.tsv",
        "gallery": "gallery",
    }
    endings = {
        kind: f"{experiment.inference_subset}.{ending}"
        for kind, ending in of_subset.items()
    }
    if not experiment.no_train:
        endings |= {f"{log}_log": f"{log}.log" for log in ("train", "val", "speed")}
    folder = EXPERIMENT.format(experiment=name, split=run)
    return {kind: f"{folder}/{ending}" for kind, ending in endings.items()}


def datasets_of_runs():
    """The data sets that the runs are about, or whose parts of merged ones."""
    names = [CONFIG.experiments[name].dataset for name, _ in runs()]
    parts = [part for name in names for part in CONFIG.merged.get(name, [name])]
    return list(dict.fromkeys(parts))


def annotations_of_runs():
    """The annotation of each data set and split that a run is about."""
    pairs = [(CONFIG.experiments[name].dataset, split_of(run)) for name, run in runs()]
    return [
        ANNOTATION.format(dataset=dataset, split=split)
        for dataset, split in dict.fromkeys(pairs)
    ]


def category(name):
    """The category of a file in the report, asked for only when a report is made.

    Snakemake would put into it whatever files are there, be they of other settings.
    """

    def checked(wildcards):
        steps = {
            job.rule.name for job in workflow.dag.needrun_jobs() if not job.is_norun
        }
        if steps:
            sys.exit(
                f"error: not all results are there and those of this config (still to do: "
                f"{', '.join(sorted(steps))}); run snakemake without --report first"
            )
        return name

    return checked


def say_results():
    """End a run that made the accuracy table with it, and with where the report is."""
    if any(job.rule.name.endswith("summarise") for job in workflow.dag.jobs):
        from r3d.report.summary import (
            format_table,
        )  # with what it needs, this takes a second

        table = format_table(Path(RESULTS, "summary.tsv"))
        # By the logger, so that it comes after all that was said before.
        logger.info(f"\n{table}\n\nreport: {RESULTS}/report/index.html")


def hold_filled_folders():
    """Let no other workflow fill the folders that this one is about to fill."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_norun]
    filled = []
    for job in jobs:
        if job.rule.name.endswith("render_motion"):
            dataset = rendered_dataset(job.wildcards.folder)
            filled += [dataset.lists, dataset.videos]
        elif job.rule.name.endswith("extract_shard"):
            filled.append(dataset_of(job.wildcards).frames)
    try:
        return hold_folders(RESULTS, filled)
    except InputError as error:
        sys.exit(f"error: {error}")
