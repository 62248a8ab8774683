"""A config is accepted whole or refused in one line that says what to mend."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import yaml
from weights import write_hollow

from r3d.config.config import Dataset, Experiment
from r3d.config.inputs import check_inputs
from r3d.config.loading import load_config, read_config
from r3d.config.modelnames import model_file
from r3d.config.optiondocs import update_tables
from r3d.config.options import (
    ClipOptions,
    ModelOptions,
    Resources,
    RunOptions,
    Section,
    TrainingOptions,
)
from r3d.config.starts import notes_on_starts
from r3d.config.yamlfile import check_command_line, read_yaml
from r3d.errors import InputError
from r3d.models.known import OPTIONS_2018

ROOT = Path(__file__).resolve().parents[2]

MINIMAL: dict[str, Any] = {
    "datasets": {
        "ucf": {"format": "ucf101", "lists": "lists", "videos": "videos", "frames": "jpg"},
        "hmdb": {"format": "hmdb51", "lists": "lists", "videos": "videos", "frames": "jpg"},
    },
    "defaults": {"dataset": "ucf", "batch_size": 32},
    "experiments": {
        "base": {},
        "tuned": {"pretrain": "base", "splits": ["02"], "ft_begin_module": "fc"},
    },
}


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    raw = copy.deepcopy(MINIMAL)
    edit(raw)
    return raw


def set_at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(raw: dict[str, Any]) -> None:
        *sections, key = path.split(".")
        for section in sections:
            raw = raw.setdefault(section, {})
        raw[key] = value

    return edit


def flow(**options: Any) -> Callable[[dict[str, Any]], None]:
    """Optical flow, with options."""

    def edit(raw: dict[str, Any]) -> None:
        raw["datasets"]["ucf"]["file_type"] = "hdf5"
        raw["experiments"]["base"] = {"input_type": "flow", **options}

    return edit


def both(**options: Any) -> Callable[[dict[str, Any]], None]:
    """The two data sets merged, the second with options."""

    def edit(raw: dict[str, Any]) -> None:
        raw["datasets"]["ucf"] |= {"splits": ["01"], "n_classes": 101}
        raw["datasets"]["hmdb"] |= {"splits": ["1"], **options}
        raw["merged"] = {"both": ["ucf", "hmdb"]}
        raw["experiments"] = {"base": {"dataset": "both"}}

    return edit


def test_a_merged_data_set_is_one_to_an_experiment():
    raw = edited(both(n_classes=51))
    raw["experiments"]["tuned"] = {"dataset": "ucf", "pretrain": "base", "n_pretrain_classes": 152}
    config = load_config(raw)
    assert config.experiment_splits("base") == ("all",)
    assert config.pretrain_run("tuned", "01") == "all"
    assert config.dataset("both").n_classes == 152
    assert load_config(edited(both())).dataset("both").n_classes is None
    raw["experiments"]["tuned"]["n_pretrain_classes"] = 101
    with pytest.raises(InputError, match=r"n_pretrain_classes: 101 .* 152 classes"):
        load_config(raw)


def test_defaults_reach_experiments_that_do_not_say_otherwise():
    config = load_config(edited(set_at("experiments.base.batch_size", 8)))
    assert config.experiments["base"].batch_size == 8
    assert config.experiments["tuned"].batch_size == 32


def test_an_experiment_without_own_options_may_be_empty_in_yaml():
    assert (
        load_config(edited(set_at("experiments.base", None))).experiments["base"].model_depth == 18
    )


def test_reference_defaults():
    options = TrainingOptions()
    assert (options.learning_rate, options.momentum, options.weight_decay) == (0.1, 0.9, 1e-3)
    assert (options.multistep_milestones, options.n_epochs) == ([50, 100, 150], 200)
    assert (options.sample_size, options.sample_duration, options.batch_size) == (112, 16, 128)


def test_numbers_with_exponent_are_numbers():
    raw = edited(set_at("defaults", yaml.safe_load("{dataset: ucf, weight_decay: 1e-5}")))
    assert load_config(raw).experiments["base"].weight_decay == 1e-5


def test_splits_of_an_experiment():
    config = load_config(MINIMAL)
    assert config.experiment_splits("base") == ("01", "02", "03")
    assert config.experiment_splits("tuned") == ("02",)
    assert config.pretrain_run("tuned", "02") == "02"


def test_runs_are_splits_or_folds_times_seeds():
    raw = edited(set_at("experiments.base", {"folds": 3, "seeds": [1, 7]}))
    raw["experiments"] |= {
        "tuned": {"pretrain": "base", "ft_begin_module": "fc", "manual_seed": 7},
        "control": {"pretrain": "base", "no_train": True, "frozen": True},
        "counted": {"splits": ["02"], "seeds": 2, "manual_seed": 3},
        "plain": {},
    }
    applied = {"pretrain": "base", "no_train": True, "frozen": True}
    raw["experiments"] |= {"chosen": {**applied, "seeds": [7]}, "first": {**applied, "seeds": 1}}
    config = load_config(raw)
    folds = ("fold1of3", "fold2of3", "fold3of3")
    assert config.experiment_splits("tuned") == config.experiment_splits("control") == folds
    assert config.runs("base")[:3] == ("fold1of3", "fold1of3-seed7", "fold2of3")
    assert config.runs("control") == config.runs("base")  # of whose models it is
    assert config.runs("chosen") == tuple(f"{fold}-seed7" for fold in folds)
    assert config.model("chosen", "fold1of3-seed7") == config.model("base", "fold1of3-seed7")
    assert config.runs("first") == folds
    assert config.runs("counted") == ("02", "02-seed4")
    # Without these keys an experiment is what it was before there were any.
    assert config.runs("plain") == ("01", "02", "03")
    assert [config.seed("base", run) for run in config.runs("base")[:2]] == [1, 7]
    assert config.training_options("base", "fold2of3-seed7")["manual_seed"] == 7
    assert config.training_options("base", "fold2of3")["manual_seed"] == 1
    # Each starts from the same fold and seed, under whatever name the seed has there.
    assert config.pretrain_run("tuned", "fold2of3") == "fold2of3-seed7"
    assert config.model("control", "fold3of3-seed7") == config.model("base", "fold3of3-seed7")
    assert config.splits_in_use("ucf") == ("01", "02", "03", *folds)
    assert config.splits_in_use("hmdb") == ("1", "2", "3")


def test_seeds_of_the_defaults_are_taken_back_where_one_model_is_applied():
    raw = edited(set_at("defaults.seeds", [1, 2]))
    applied = {"no_train": True, "seeds": None}
    raw["experiments"] |= {
        "tuned": {},
        "file": {"pretrain_path": "m.pth", **applied},
        "control": {"pretrain": "base", "no_train": True, "frozen": True},
    }
    config = load_config(raw)
    assert config.runs("file") == ("01", "02", "03")
    assert config.runs("control") == config.runs("base")


def test_a_model_of_a_run_is_named_by_it(tmp_path: Path):
    raw = {**MINIMAL, "results": str(tmp_path), "experiments": {"cv": {"folds": 2, "seeds": 2}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    model = tmp_path / "experiments/cv/fold2of2-seed2/model.pth"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")
    configfile = tmp_path / "config.yaml"
    assert model_file("cv/fold2of2-seed2", configfile=configfile) == model
    with pytest.raises(InputError, match="cv/fold1of2, cv/fold1of2-seed2, cv/fold2of2, "):
        model_file("cv", configfile=configfile)


def test_what_starts_from_another_experiment_may_see_other_clips():
    raw = edited(set_at("experiments.tuned.sample_duration", 64))
    set_at("experiments.tuned.mean_dataset", "activitynet")(raw)
    assert load_config(raw).experiments["tuned"].sample_duration == 64


def test_pretraining_on_another_data_set_takes_its_only_split():
    raw = edited(set_at("experiments.base.splits", ["03"]))
    raw["experiments"]["tuned"] = {"dataset": "hmdb", "pretrain": "base"}
    config = load_config(raw)
    assert config.experiment_splits("tuned") == ("1", "2", "3")
    assert config.pretrain_run("tuned", "1") == "03"


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (set_at("experiments.base.folds", 1), ["base.folds: 1", "greater than or equal to 2"]),
        (set_at("experiments.tuned.folds", 5), ["tuned.folds: 5", "splits: ['02'] exclude"]),
        (lambda raw: raw["experiments"].update(base={"dataset": "hmdb", "folds": 5}, tuned={}),
         ["base.folds: 5 goes with format: csv, folders, ucf101", "hmdb51 are official"]),
        (lambda raw: (both()(raw), set_at("experiments.base.folds", 5)(raw)),
         ["base.folds: 5", "both is a merged one; leave it out"]),
        (lambda raw: raw["experiments"].update(base={"folds": 5}),
         ["tuned.pretrain", "does not train on split '02'", "'fold5of5'"]),
        (lambda raw: raw["experiments"].update(
            base={"folds": 5}, tuned={"pretrain": "base", "dataset": "hmdb"}),
         ["tuned.pretrain", "several splits", "say which, as pretrain: base/fold1of5"]),
        (lambda raw: raw["experiments"].update(
            base={"seeds": [2, 3]}, tuned={"pretrain": "base"}),
         ["tuned.pretrain: 'base' does not train with seed 1", "2, 3: give seeds"]),
        (lambda raw: raw["experiments"].update(
            base={"seeds": [2, 3]}, tuned={"pretrain": "base", "no_train": True, "seeds": [2, 4]}),
         ["tuned.pretrain: 'base' does not train with seed 4", "2, 3: give seeds among"]),
        (set_at("experiments.tuned", {"pretrain": "base", "no_train": True, "seeds": 3}),
         ["tuned.pretrain: 'base' does not train with seed 2; it trains with 1: give seeds"]),
        (set_at("experiments.tuned", {"pretrain_path": "m.pth", "no_train": True, "seeds": 3}),
         ["tuned.seeds: 3 does not go", "pretrain_path, which is one model; leave it out"]),
        (set_at("experiments.tuned", {"pretrain": "base/01", "no_train": True, "seeds": [1]}),
         ["tuned.seeds: [1] does not go with no_train and pretrain: base/01", "seeds: null"]),
        (set_at("experiments.base.seeds", 0), ["base.seeds: 0 is refused", "[1, 2, 3], or how"]),
        (set_at("experiments.base.seeds", []), ["base.seeds: [] is refused", "distinct"]),
        (set_at("experiments.base.seeds", [1, 1]), ["base.seeds: [1, 1] is refused", "distinct"]),
        (set_at("defaults.seeds", [-1, "a"]), ["defaults.seeds: [-1, 'a'] is refused"]),
        (set_at("experiments.base.learning_rat", 1), ["experiments.base.learning_rat", "1",
                                                      "did you mean learning_rate?"]),
        (set_at("defaults.sampel_size", 1), ["defaults.sampel_size", "sample_size"]),
        (set_at("defaults.batch_size", "many"), ["defaults.batch_size", "'many'", "integer"]),
        (set_at("experiments.base.batch_size", 0), ["experiments.base.batch_size", "0", "1"]),
        (set_at("datasets.ucf.shard", 3), ["datasets.ucf.shard", "shards"]),
        (set_at("datasets.ucf.format", "ucf"), ["datasets.ucf.format", "'ucf'", "hmdb51, "]),
        (set_at("datasets.ucf.splits", ["04"]), ["datasets.ucf", "'04'", "'01', '02', '03'"]),
        (set_at("datasets.ucf.splits", [1]), ["datasets.ucf.splits", 'in quotes, as "01"']),
        (set_at("datasets.hmdb.splits", [1]), ["datasets.hmdb.splits", 'in quotes, as "1"']),
        (set_at("datasets.ucf.splits", [7]), ['in quotes: "01", "02", "03"']),
        (set_at("experiments.base.splits", [2]), ["base.splits.0", 'in quotes, as "02"']),
        (set_at("datasets.ucf.videos", 7), ["datasets.ucf.videos", "put what stands there in"]),
        (set_at("datasets.ucf.group_pattern", "("), ["group_pattern", "'('"]),
        (set_at("datasets.u f", MINIMAL["datasets"]["ucf"]), ["'u f'", "letters"]),
        (set_at("experiments.base.model", "alexnet"), ["'alexnet'", "resnet2p1d"]),
        (set_at("experiments.base.model_depth", 19), ["model_depth", "19", "10, 18, 34"]),
        (set_at("experiments.base.dataset", "k"), ["experiments.base.dataset", "'k'", "ucf, hmdb"]),
        (set_at("experiments.tuned.ft_begin_module", "layer5"), ["'layer5'", "layer4"]),
        (set_at("experiments.base.ft_begin_module", "fc"), ["ft_begin_module", "pretrain_path"]),
        (set_at("experiments.tuned.pretrain", "bse"), ["experiments.tuned.pretrain", "base"]),
        (set_at("experiments.base.pretrain", "tuned"), ["pretrain"]),
        (set_at("experiments.base.splits", ["01"]), ["tuned.pretrain", "'02'", "'01'"]),
        (set_at("experiments.tuned.dataset", "hmdb"), ["tuned.splits", "'02'", "'1', '2', '3'"]),
        (set_at("experiments.base.no_train", True), ["no_train", "pretrain"]),
        (set_at("experiments.base.input_type", "flow"), ["base.input_type", "hdf5", "of ucf is",
                                                         "'jpg'"]),
        (set_at("experiments.base", {"model": "densenet", "model_depth": 121,
                                     "resnet_shortcut": "A"}), ["base.resnet_shortcut", "'A'",
                                                                "densenet", "'B' only"]),
        (set_at("defaults.wide_resnet_k", 4), ["experiments.base.wide_resnet_k", "4", "resnet,"]),
        (set_at("experiments.base.resnext_cardinality", 8), ["resnext_cardinality", "8"]),
        (set_at("experiments.base.resnet_widen_factor", 0.01), ["widen_factor", "0.01", "1/64"]),
        (flow(colorjitter=True), ["experiments.base.colorjitter", "'flow'", "'rgb'"]),
        (flow(randaugment=9), ["experiments.base.randaugment: 9", "'flow'", "'rgb'"]),
        (set_at("experiments.tuned.model_depth", 34), ["experiments.tuned.model_depth", "34",
                                                       "'base'", "18"]),
        (set_at("experiments.tuned.model", "preresnet"), ["experiments.tuned.model:", "'preresnet'",
                                                          "'resnet'"]),
        (set_at("experiments.tuned.no_max_pool", True), ["experiments.tuned.no_max_pool", "True"]),
        (set_at("experiments.tuned.conv1_t_stride", 2), ["experiments.tuned.conv1_t_stride", "2"]),
        (set_at("experiments.tuned", {"pretrain": "base", "no_train": True, "value_scale": 255}),
         ["experiments.tuned.value_scale", "255", "'base'"]),
        (lambda raw: (set_at("datasets.ucf.n_classes", 101)(raw),
                      set_at("experiments.tuned.n_pretrain_classes", 400)(raw)),
         ["experiments.tuned.n_pretrain_classes", "400", "101"]),
        (set_at("experiments.base", {"batchnorm_sync": True, "no_cuda": True,
                                     "resources": {"processes": 2}}), ["batchnorm_sync",
                                                                       "no_cuda"]),
        (set_at("experiments.base.resources", {"processes": 3}), ["base.batch_size", "32", "3"]),
        (set_at("merged.ucf", ["ucf", "hmdb"]), ["merged.ucf", "already"]),
        (set_at("merged.u f", ["ucf", "hmdb"]), ["merged", "'u f'", "letters"]),
        (set_at("merged.both", ["ucf"]), ["merged.both", "['ucf']", "two data sets"]),
        (set_at("merged.both", ["k", "ucf"]), ["merged.both", "'k'", "ucf, hmdb"]),
        (set_at("merged.both", ["ucf", "hmdb"]), ["merged.both", "'ucf'", "several splits"]),
        (set_at("merged.both", 3), ["merged.both", "3", "list"]),
        (both(file_type="hdf5"), ["merged.both", "file_type", "ucf: jpg, hmdb: hdf5"]),
        (both(format="activitynet", splits=None), ["merged.both", "'hmdb'", "activitynet"]),
        (set_at("experiments.base.resources", {"gpu": 1}), ["resources.gpu", "gpus"]),
        (set_at("experiments.base", 3), ["experiments.base", "3"]),
        (set_at("experiment", {}), ["experiment", "experiments"]),
        (set_at("defaults", []), ["defaults", "mapping"]),
        (set_at("datasets", {}), ["datasets", "{}"]),
        (lambda raw: raw.pop("datasets"), ["datasets", "required"]),
        (lambda raw: raw["datasets"]["ucf"].pop("videos"), ["datasets.ucf.videos", "required"]),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line_that_says_what_to_mend(edit, parts: list[str]):
    with pytest.raises(InputError) as caught:
        load_config(edited(edit))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("base", "tuned", "mended"),
    [
        ({"folds": 3}, {"pretrain": "base/fold1of3", "folds": 3}, {}),
        ({"folds": 3}, {"pretrain": "base/fold1of3"}, {}),
        ({"folds": 3}, {"pretrain": "base/fold2of3", "no_train": True}, {}),
        ({"folds": 3, "seeds": 2}, {"pretrain": "base/fold2of3-seed2", "splits": ["02"]}, {}),
        ({}, {"pretrain": "base/01", "folds": 3}, {"splits": ["01", "02", "03"]}),
        ({"splits": ["02"]}, {"pretrain": "base/02", "folds": 3}, {"splits": ["02"]}),
    ],
)
def test_no_fold_is_validated_on_what_its_start_is_trained_on(
    base: dict, tuned: dict, mended: dict
):
    raw = {**MINIMAL, "experiments": {"base": base, "tuned": tuned}}
    with pytest.raises(
        InputError, match=r"tuned\.pretrain: .* give pretrain: base, with"
    ) as caught:
        load_config(raw)
    told = str(caught.value)
    assert "\n" not in told
    assert all(f"{key}: {value}" in told for key, value in mended.items())
    kept = {key: value for key, value in tuned.items() if key not in ("folds", "splits")}
    raw["experiments"]["tuned"] = {**kept, "pretrain": "base", **mended}  # as it says
    config = load_config(raw)
    assert config.experiment_splits("tuned") == config.experiment_splits("base")


def test_a_fold_may_be_started_from_where_nothing_of_it_is_validated_on():
    raw = {**MINIMAL, "experiments": {
        "base": {"folds": 3},
        "other": {"dataset": "hmdb", "pretrain": "base/fold1of3"},
        "tested": {"pretrain": "base/fold1of3", "no_train": True, "inference_subset": "test"},
    }}  # fmt: skip
    assert load_config(raw).runs("tested") == ("01", "02", "03")
    raw["experiments"]["through"] = {"pretrain": "tested"}
    with pytest.raises(InputError, match=r"through\.pretrain: 'tested' .* 'fold1of3'; give pretr"):
        load_config(raw)
    raw["experiments"]["through"] = {"pretrain": "base"}
    assert load_config(raw).experiment_splits("through") == load_config(raw).experiment_splits(
        "base"
    )


def test_what_leads_into_a_circle_of_starts_is_refused_with_it() -> None:
    starts = {"a": "b", "b": "a", "c": "a", "d": "c", "e": "e"}
    experiments = {name: {"pretrain": start} for name, start in starts.items()}
    with pytest.raises(InputError) as caught:
        load_config({**MINIMAL, "experiments": experiments})
    assert str(caught.value).split("\n") == [
        "config: experiments.a.pretrain: the chain a <- b <- a never starts",
        "config: experiments.e.pretrain: the chain e <- e never starts",
    ]


def numbers(section: type[Section]) -> list[str]:
    """The options of a section that are numbers."""
    kinds = (int, float, list[int], list[float])
    return [
        name
        for name, field in section.model_fields.items()
        if {field.annotation, *get_args(field.annotation)} & set(kinds) - {bool}
        and get_origin(field.annotation) is not Literal
    ]


@pytest.mark.parametrize(
    "value", [1e45, 10**45, "1e45", 10**5000, -(10**45), 1e400], ids="{0.__class__.__name__}".format
)
@pytest.mark.parametrize(
    ("place", "section"),
    [
        ("experiments.base", Experiment),
        ("datasets.ucf", Dataset),
        ("experiments.base.resources", Resources),
    ],
)
def test_absurd_numbers_are_a_line_each(place: str, section: type[Section], value: Any):
    names = numbers(section)
    assert len(names) > 3
    for name in set(names) - {"output_topk"}:  # of which all that is not there are taken
        with pytest.raises(InputError) as caught:
            load_config(edited(set_at(f"{place}.{name}", value)))
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
        assert len(str(caught.value)) < 400


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").touch()
    raw = edited(set_at("datasets.ucf.shard", 3))
    set_at("datasets.hmdb.quality", 99)(raw)
    set_at("datasets.there", {**MINIMAL["datasets"]["ucf"], "frames": "results/jpg"})(raw)
    set_at("defaults.batch", 3)(raw)
    set_at("defaults.precision", "half")(raw)
    set_at("experiments.third", {"precision": "fp32", "nesterov": True, "momentum": 0.0,
                                 "model_depth": 19, "dataset": "nowhere"})(raw)  # fmt: skip
    set_at("experiments.fourth", {"precision": "fp32", "dataset": "nowhere"})(raw)
    with pytest.raises(InputError) as caught:
        check_inputs(raw)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("config: ") for line in lines)
    for parts in (
        ["datasets.ucf.shard", "did you mean shards?"],
        ["datasets.hmdb.quality", "99"],
        ["defaults.batch:", "batch_size"],
        ["defaults.precision", "'half'", "bf16"],
        ["experiments.third.model_depth", "19"],
        ["experiments.third.nesterov", "momentum"],
        ["experiments.fourth.dataset", "'nowhere'"],
        ["results: results", "it is a file"],
        ["datasets.there.frames: results/jpg", "results is a file"],
        ["datasets.there.videos: 'videos'", "no folder"],
        ["datasets.there.lists: 'lists'", "does not exist"],
    ):
        (line,) = [line for line in lines if all(part in line for part in parts)]
        lines.remove(line)
    assert not lines


def test_a_circle_of_pretraining_is_refused():
    raw = edited(set_at("experiments.base", {"pretrain": "tuned", "splits": ["02"]}))
    with pytest.raises(InputError, match="base <- tuned <- base"):
        load_config(raw)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "holds a list"),
        ("\xff", "line 1: byte 0xff .* not UTF-8"),
        (None, "read"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, text: str | None, part: str):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=part) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"a: 1\nb: [1,\nc: {2\n", ["line 4, column 1", "'}'", "begins in line 3"]),
        (b"a:\n\tb: 1\n", ["line 2, column 1", "spaces"]),
        ("results: Café\n".encode("latin-1"), ["line 1", "0xe9", "UTF-8"]),
        ("results: Café\n".encode("utf-16"), ["UTF-16", "UTF-8"]),
        ("results: Café\n".encode("utf-32"), ["UTF-32", "UTF-8"]),
        (b"results: 'a\x07'\n", ["line 1, column 12", "U+0007"]),
        (b"results: 2024-02-31\n", ["not valid YAML", "day"]),
        (b"[" * 100_000, ["nested too deeply"]),
        (b"a: !!python/object:os.system {}\n", ["line 1, column 4", "python"]),
        (b"a: *b\n", ["line 1, column 4", "alias"]),
        (b"# results: here\n", ["holds nothing", "experiments"]),
        (b"- results\n", ["holds a list", "experiments"]),
        (b"[]", ["holds a list", "experiments"]),
        (
            b"a0: &a0 []\n"
            + b"".join(
                b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9))
                for i in range(1, 99)
            ),
            ["aliases", "up to 1000000"],
        ),
    ],
)
def test_a_faulty_yaml_file_is_refused_with_the_place(
    tmp_path: Path, data: bytes, parts: list[str]
):
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"config {path}")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_keys_that_are_given_twice_are_named_with_both_lines(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "datasets: {}\nexperiments:\n  a: {n_epochs: 1}\n  b: {n_epochs: 1, n_epochs: 2}\n"
        "  a: {}\ndatasets: {}\nmore:\n- {x: 1, 'x': 2}\n"
    )
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert [line.partition("; ")[0] for line in str(caught.value).splitlines()] == [
        f"config {path}, line {line}: {name} is given twice, first in line {first}"
        for line, name, first in (
            (4, "experiments.b.n_epochs", 4),
            (5, "experiments.a", 3),
            (6, "datasets", 1),
            (8, "more.x", 8),
        )
    ]
    path.write_text('{"a": {"b": 1, "b": 2}}')
    with pytest.raises(InputError, match="'b' occurs twice"):
        read_yaml(path)


def test_yaml_that_is_right_is_read(tmp_path: Path):
    path = tmp_path / "config.yaml"
    text = "base: &b {x: 1}\nother: &o {y: 2}\nboth:\n  <<: *b\n  <<: *o\n  z: é\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_yaml(path)["both"] == {"x": 1, "y": 2, "z": "é"}
    path.write_text(json.dumps({"a": {"b": [1, "\t"]}}, indent="\t"))
    assert read_yaml(path) == {"a": {"b": [1, "\t"]}}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configfile", "good.yaml", "bad.yaml", "--cores", "1"],
        ["-n", "--configfiles=bad.yaml"],
        ["lists", "--configfile", "bad.yaml"],
    ],
)
def test_the_config_files_of_a_command_line_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("a: 1")
    (tmp_path / "bad.yaml").write_text("a: 1\na: 2")
    with pytest.raises(SystemExit, match=r"^error: config bad\.yaml, line 2: a is given twice"):
        check_command_line(arguments)
    check_command_line(["--configfile", "good.yaml", "--cores", "1", "bad.yaml"][:4])


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config of one data set whose files are all there."""
    monkeypatch.chdir(tmp_path)
    for folder in ("lists", "videos"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lists/classInd.txt").write_text("1 Walk\n2 Run\n")
    for name in ("trainlist01.txt", "testlist01.txt"):
        (tmp_path / "lists" / name).write_text("")
    dataset = {**MINIMAL["datasets"]["ucf"], "splits": ["01"], "n_classes": 2}
    return {"datasets": {"ucf": dataset}, "experiments": {"base": {"dataset": "ucf"}}}


def test_inputs_that_are_there(inputs):
    check_inputs(inputs)


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("datasets.ucf.lists", "nowhere", ["datasets.ucf.lists", "'nowhere'", "ucf101 lists"]),
        (
            "datasets.ucf.videos",
            "nowhere",
            ["datasets.ucf.videos", "'nowhere'", "holds the videos"],
        ),
        ("datasets.ucf.n_classes", 3, ["datasets.ucf.n_classes", "3", "2 classes"]),
        ("datasets.ucf.splits", ["02"], ["datasets.ucf.lists", "trainlist02.txt"]),
        ("experiments.base.pretrain_path", "a.pth", ["base.pretrain_path", "model a.pth: no such"]),
        ("experiments.base.resume_path", "a.pth", ["base.resume_path", "'a.pth'"]),
        ("experiments.base.inference_subset", "test", ["inference_subset", "'test'", "train, val"]),
    ],
)
def test_inputs_that_are_not_there(inputs, path: str, value: Any, parts: list[str]):
    set_at(path, value)(inputs)
    with pytest.raises(InputError) as caught:
        check_inputs(inputs)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_splits_that_are_there_are_proposed(inputs):
    """And what is proposed is accepted; none is left out in silence."""
    del inputs["datasets"]["ucf"]["splits"]
    with pytest.raises(InputError, match=r"trainlist02.txt is missing") as caught:
        check_inputs(inputs)
    proposed = yaml.safe_load(str(caught.value).rpartition("ucf.splits: ")[2])
    assert proposed == ["01"]
    inputs["datasets"]["ucf"]["splits"] = proposed
    check_inputs(inputs)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A released file, but for the values of its weights."""
    path = tmp_path_factory.mktemp("weights") / "r3d50_K_200ep.pth"
    return write_hollow(path, model_depth=50, n_classes=700)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, []),
        ({"model_depth": 50, "n_pretrain_classes": 700}, []),
        ({"no_train": True}, []),
        ({"no_train": True, "sample_size": 64, "inference_clips": 10}, []),
        ({"model_depth": 18}, ["model_depth: 18 ", "depth: 50", "released resnet-50 of Kinetics"]),
        ({"model": "resnext", "model_depth": 50}, ["model: resnext", "model: resnet"]),
        ({"n_pretrain_classes": 339}, ["n_pretrain_classes: 339", "has 700"]),
        ({"conv1_t_size": 3}, ["conv1_t_size: 3 does not fit", "conv1_t_size: 7"]),
        ({"no_train": True, "model_depth": 34}, ["model_depth: 34", "leave model_depth out"]),
        ({"ft_begin_module": "denseblock1"}, ["ft_begin_module"]),
    ],
)
def test_options_that_do_not_fit_a_released_file(
    inputs, released: Path, options: dict[str, Any], parts: list[str]
):
    base = {"dataset": "ucf", "pretrain_path": str(released), **options}
    set_at("experiments.base", base)(inputs)
    if not parts:
        check_inputs(inputs)
        return
    with pytest.raises(InputError, match=r"experiments\.base\.(pretrain_path|ft_)") as caught:
        check_inputs(inputs)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_the_network_is_that_of_the_start(inputs, released: Path):
    """What is not given is that of the model, all along a chain of experiments."""
    inputs["experiments"] = {
        "base": {"dataset": "ucf", "pretrain_path": str(released)},
        "tuned": {"dataset": "ucf", "pretrain_path": "base"},
        "tv": {"dataset": "ucf", "pretrain_path": "torchvision:r3d_18"},
        "scratch": {"dataset": "ucf"},
    }
    config = check_inputs(inputs)
    assert [config.experiments[name].model_depth for name in ("base", "tuned")] == [50, 50]
    assert config.experiments["tuned"].pretrain == "base"
    assert config.experiments["tuned"].pretrain_path is None
    there = config.experiments["tv"]
    assert (there.model_depth, there.conv1_t_size, there.no_max_pool) == (18, 3, True)
    assert config.experiments["scratch"].model_depth == 18


def test_the_normalisation_is_that_of_the_start(inputs, released: Path, tmp_path: Path):
    """As a whole: whoever gives a part of it gives all. A released file does not state any."""
    write_hollow(tmp_path / "resnext-101-kinetics.pth", model="resnext", model_depth=101)
    old = {"pretrain_path": "resnext-101-kinetics.pth"}
    starts = {
        "tv": {"pretrain_path": "torchvision:r3d_18"},
        "after": {"pretrain": "tv"},
        "own": {"pretrain": "tv", "value_scale": 255},
        "old": old,
        "base": {"pretrain_path": str(released)},
    }
    inputs["experiments"] = {name: {"dataset": "ucf", **start} for name, start in starts.items()}
    found = check_inputs(inputs).experiments
    assert found["tv"].mean_dataset == found["after"].mean_dataset == "torchvision"
    assert (found["own"].mean_dataset, found["own"].value_scale) == ("kinetics", 255)
    assert {**dict(found["old"]), **OPTIONS_2018} == dict(found["old"])
    assert found["base"].mean_dataset == "kinetics"


def test_a_start_may_be_an_experiment_with_its_split():
    """Of the same data set, or of another one that has several."""
    raw = edited(set_at("experiments.tuned", {"pretrain_path": "base/01", "splits": ["02"]}))
    raw["experiments"]["other"] = {"pretrain": "base/03", "dataset": "hmdb"}
    config = load_config(raw)
    assert config.experiments["tuned"].pretrain == "base/01"
    assert config.start("tuned", "02") == Path("results/experiments/base/01/model.pth")
    assert config.start("other", "1") == Path("results/experiments/base/03/model.pth")
    with pytest.raises(InputError, match=r"several splits .*: say which, as pretrain: base/01"):
        load_config(edited(set_at("experiments.tuned", {"pretrain": "base", "dataset": "hmdb"})))
    with pytest.raises(InputError, match=r"'base/4' names a run .*: base/01, base/02, base/03"):
        load_config(edited(set_at("experiments.tuned.pretrain", "base/4")))
    with pytest.raises(InputError, match=r"'bse/01' is not one of the experiments"):
        load_config(edited(set_at("experiments.tuned.pretrain", "bse/01")))


def test_what_differs_from_the_training_of_an_applied_model_is_noted(inputs, tmp_path: Path):
    """Before any job, a line each; a control differs on purpose."""
    stated = {
        "config": {"sample_size": 64, "sample_duration": 8, "mean_dataset": "kinetics"},
        "frames": {"short_side": 72, "rates": [25.0, 30.0]},
    }
    write_hollow(tmp_path / "own.pth", stated)
    write_hollow(tmp_path / "theirs.pth")
    inputs["datasets"]["ucf"].update(short_side=72, fps=10)
    inputs["datasets"]["large"] = {**inputs["datasets"]["ucf"], "short_side": 128}
    applied = {"dataset": "ucf", "no_train": True}
    inputs["experiments"] = {
        "base": {"dataset": "ucf", "sample_size": 32},
        "again": {**applied, "pretrain": "base", "sample_size": 32},
        "control": {**applied, "pretrain": "base", "frozen": True},
        "size": {**applied, "pretrain": "control", "sample_size": 48, "dataset": "large"},
        "file": {**applied, "pretrain_path": "own.pth", "sample_t_stride": 1, "sample_size": 32},
        "reference": {**applied, "pretrain_path": "theirs.pth", "sample_size": 32},
    }
    notes = [note.removeprefix("experiments.") for note in notes_on_starts(check_inputs(inputs))]
    assert notes[:4] == [
        "size: sample_size: 48 is used as given; its model is trained with sample_size: 32",
        "size: applied to frames of short side 128; trained on short side 72",
        "file: checkpoint own.pth: sample_size: 32 is used as given; it was trained with "
        "sample_size: 64",
        "file: checkpoint own.pth: does not say all that it was trained with; assumed: "
        "conv1_t_stride: 1, no_max_pool: false; give the option of what was otherwise",
    ]
    assert notes[4].startswith("file: applied to frames of 10 frames a second; trained on 25 to")
    assert notes[5].startswith("reference: checkpoint theirs.pth: does not say all that it was")
    assert "sample_size" not in notes[5]
    assert len(notes) == 6


def test_what_checkpoints_hold_is_said_before_any_job(inputs, tmp_path: Path):
    """All at once, a line each: no checkpoint, a foreign network, other classes, too far."""
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"module.weight": torch.zeros(2, 3)}, tmp_path / "foreign.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    write_hollow(tmp_path / "three.pth", n_classes=3)
    write_hollow(tmp_path / "turned.pth", {"labels": ["Run", "Walk"]})
    write_hollow(tmp_path / "right.pth", {"labels": ["Walk", "Run"]})
    starts = {
        "text": {"pretrain_path": "text.pth"},
        "foreign": {"pretrain_path": "foreign.pth", "no_train": True},
        "list": {"pretrain_path": "list.pth"},
        "mc3": {"pretrain_path": "torchvision:mc3_18"},
        "absent": {"pretrain_path": "r3d34_K_200ep"},
        "three": {"resume_path": "three.pth"},
        "turned": {"resume_path": "turned.pth"},
        "deeper": {"resume_path": "right.pth", "model_depth": 34},
        "far": {"resume_path": "right.pth", "n_epochs": 100},
        "right": {"resume_path": "right.pth"},
    }
    inputs["experiments"] = {name: {"dataset": "ucf", **start} for name, start in starts.items()}
    with pytest.raises(InputError) as caught:
        check_inputs(inputs)
    told = {line.split(".")[1]: line for line in str(caught.value).splitlines()}
    expected = {
        "text": "text.pth: is empty, cut short or no checkpoint",
        "foreign": "holds no network of resnet",
        "list": "holds a list",
        "mc3": "accepted: torchvision:r3d_18",
        "three": "its 3 classes are not the 2",
        "turned": "another order",
        "deeper": "model_depth: 34 does not fit, its network has model_depth: 18",
        "far": "has done 200 epochs",
    }
    assert told.keys() == {*expected, "absent"}
    for name, part in expected.items():
        assert part in told[name]
    assert "r3d released" in told["absent"]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_in_the_repository_is_valid(path: Path):
    assert read_config(path).experiments


def test_every_option_is_documented():
    page = ROOT / "config/README.md"
    text = page.read_text(encoding="utf-8")
    assert update_tables(text) == text, f"python -m r3d.config.optiondocs {page}"
    for section in (ModelOptions, ClipOptions, TrainingOptions, RunOptions):
        for name, field in section.model_fields.items():
            assert field.description, name
            assert f"`{name}`" in text
