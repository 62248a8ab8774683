"""What the target of each stage asks for.

A job that fails leaves no outputs, but Snakemake notes it as done with its new params and inputs:
nothing but the lack of its outputs tells the next call to try it again. So every target asks for
all outputs of all steps on its way, and not for the last ones alone.
"""


def unique(*lists):
    return list(dict.fromkeys(file for files in lists for file in files))


def to_lists(datasets):
    """Every output of the steps to the lists of these data sets."""
    parts = []
    for name in datasets:
        dataset = CONFIG.datasets[name]
        if dataset.render:
            folder = folder_of_lists(dataset)
            parts.append(f"{folder}/{file}" for file in MOTION_LISTS)
        splits = CONFIG.splits_in_use(name)
        parts.append(expand([LISTS, LABELS], dataset=name, split=splits))
    return unique(*parts)


def to_frames(datasets):
    """Every output of the steps to the frames of these data sets."""
    parts = [to_lists(datasets)]
    for name in datasets:
        shards = shards_of(CONFIG.datasets[name])
        parts.append([SHARDS.format(dataset=name)])
        parts.append(expand([MANIFEST, MANIFEST_DIGEST], dataset=name, shard=shards))
        parts.append(expand([LEDGER, FRAMES_DIGEST], dataset=name))
    return unique(*parts)


def to_annotations(wanted):
    """Every output of the steps to the annotations of these data sets and their splits."""
    merged_from = [
        (part, CONFIG.datasets[part].all_splits[0])
        for name, _ in wanted
        for part in CONFIG.merged.get(name, ())
    ]
    wanted = unique(merged_from, wanted)
    return unique(
        to_frames(unique([name for name, _ in wanted if name in CONFIG.datasets])),
        [
            file.format(dataset=name, split=split)
            for name, split in wanted
            for file in (ANNOTATION, *PART_DIGESTS.values())
        ],
    )


def to_annotations_of(runs):
    return to_annotations(
        [(CONFIG.experiments[name].dataset, split_of(run)) for name, run in runs]
    )


def to_trainings(runs):
    """Every output of the steps to the trainings that these runs begin with."""
    return unique(
        fetched_models(runs),
        to_annotations_of(trainings(runs)),
        of_trainings(runs, "model.pth", "train.log", "val.log", "speed.log"),
    )


def to_results(runs):
    """Every output of the steps to the top-k results of these runs."""
    return unique(
        to_annotations_of(runs),
        to_trainings(runs),
        of_subsets(runs, "json"),
    )


def to_features(runs):
    """Every output of the steps to the features of these runs."""
    return unique(
        to_annotations_of(runs),
        to_trainings(runs),
        of_subsets(runs, "features.npz"),
    )


def to_evaluations():
    """Every output of the steps to what became of all videos, and with labels to accuracies."""
    evaluated = runs(evaluated=True)
    return unique(
        to_results(runs()),
        of_subsets(runs(), "videos.tsv"),
        of_subsets(evaluated, "accuracy.json", "classes.tsv", "confusion.tsv"),
    )


def to_report():
    """Every output of all steps."""
    return unique(
        [f"{RESULTS}/summary.tsv", f"{RESULTS}/report"],
        of_trainings(runs(), "curves.svg"),
        of_subsets(runs(evaluated=True), "confusion.svg", "gallery"),
        to_evaluations(),
    )


if workflow.is_main_process:
    folders = {SHARDS.format(dataset=name) for name in CONFIG.datasets}
    folders |= {f"{RESULTS}/report", *of_subsets(runs(evaluated=True), "gallery")}
    try:
        check_output_files(RESULTS, set(to_report()) - folders)
    except InputError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).split("\n")))
