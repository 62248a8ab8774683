"""The page for users of 3D-ResNets-PyTorch: complete, true to the options, its commands run."""

import re
import shlex
from pathlib import Path

import click
import pytest
import torch
import yaml
from miniatures import Videos, ucf101
from running import ROOT, r3d

from r3d.cli import cli
from r3d.config.config import Config, Dataset, Experiment
from r3d.models.checkpoint import read_checkpoint

PAGE = (ROOT / "docs/migrating.md").read_text(encoding="utf-8")

# Every option of 3D-ResNets-PyTorch.
REFERENCE_OPTIONS = re.findall(
    r"\w+",
    """
root_path video_path annotation_path result_path dataset n_classes n_pretrain_classes pretrain_path
ft_begin_module sample_size sample_duration sample_t_stride train_crop train_crop_min_scale
train_crop_min_ratio no_hflip colorjitter train_t_crop learning_rate momentum dampening weight_decay
mean_dataset no_mean_norm no_std_norm value_scale nesterov optimizer lr_scheduler
multistep_milestones overwrite_milestones plateau_patience batch_size inference_batch_size
batchnorm_sync n_epochs n_val_samples resume_path no_train no_val inference inference_subset
inference_stride inference_crop inference_no_average no_cuda n_threads checkpoint model model_depth
conv1_t_size conv1_t_stride no_max_pool resnet_shortcut resnet_widen_factor wide_resnet_k
resnext_cardinality input_type manual_seed accimage output_topk file_type tensorboard distributed
dist_url world_size
""",
)

_KEYS = {*Config.model_fields, *Dataset.model_fields, *Experiment.model_fields}
_TINY = "--model_depth 10 --resnet_widen_factor 0.0625 --sample_size 32 --sample_duration 8"
_TINY_RUN = "--n_epochs 1 --batch_size 4 --n_threads 0 --n_val_samples 1 --checkpoint 1"


def option_rows() -> list[tuple[str, str, str]]:
    """Name there, default there and what stands for it here, of the table of options."""
    (table,) = re.findall(r"<!-- options of the reference -->(.*?)<!-- end -->", PAGE, re.S)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*) \|$", table, re.M)
    return [(name, default.strip(), here) for name, default, here in rows]


def test_every_option_is_on_the_page_once() -> None:
    assert sorted(name for name, _, _ in option_rows()) == sorted(REFERENCE_OPTIONS)


def test_options_of_the_same_name_have_the_same_default() -> None:
    for name, default, here in option_rows():
        if not here.startswith(f"`{name}`") or name not in Experiment.model_fields or not default:
            continue
        value = Experiment.model_fields[name].default
        shown = default.split() if isinstance(value, list) else default
        wanted = [str(item) for item in value] if isinstance(value, list) else value
        assert shown == wanted or yaml.safe_load(default) == wanted or (shown, wanted) == ('""', "")


def test_whatever_the_page_names_here_exists() -> None:
    flags = {
        flag
        for command in cli.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    }
    for _, _, here in option_rows():
        for code in re.findall(r"`([^`]+)`", here):
            words = shlex.split(code)
            if words[0] == "r3d":
                assert words[1] in cli.commands
            elif words[0].startswith("--"):
                assert words[0] in flags
            else:
                assert words[0] in _KEYS, code
    for command in re.findall(r"`r3d (\w+)", PAGE):
        assert command in cli.commands


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the videos and lists of which the page speaks."""
    ucf101(tmp_path, Videos(tmp_path / "encoded"))
    (tmp_path / "videos").rename(tmp_path / "avi_video_dir_path")
    (tmp_path / "lists").rename(tmp_path / "annotation_dir_path")
    return tmp_path


@pytest.mark.workflow
def test_the_commands_of_the_page_run(place: Path) -> None:
    """As they stand, but for the size of networks and the class count of pretrained weights."""
    for command in commands():
        words = shlex.split(command)
        assert words.pop(0) == "r3d"
        if words[0] in ("train", "infer"):
            words += _TINY.split()
        if words[0] == "train":
            words += _TINY_RUN.split()
        if words[0] == "infer":
            words += ["--n_threads", "0", "--output_topk", "2"]
        if "--n_pretrain_classes" in words:
            words += ["--n_pretrain_classes", "2"]
            (place / "models").mkdir()
            write_as_the_reference(place / "results/model.pth", place / "models/r3d50_K_200ep.pth")
        if "--resume_path" in words:
            (saved,) = (place / "results/checkpoints").glob("*/save_1.pth")
            write_as_the_reference(saved, place / "save_100.pth")
            words += ["--n_epochs", "2"]
        done = r3d(place, *words)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if words[0] == "evaluate":
            assert re.fullmatch(r"top-1 accuracy: [01]\.\d+\n", done.stdout)
    rows = (place / "resumed/train.log").read_text(encoding="utf-8").splitlines()
    assert [row.partition("\t")[0] for row in rows[1:]] == ["2"]


def write_as_the_reference(source: Path, target: Path) -> None:
    """A copy of a checkpoint with what the reference writes, under data parallelism."""
    found = read_checkpoint(source)
    content = {
        "epoch": found.epoch,
        "arch": "resnet-10",
        "state_dict": {f"module.{name}": value for name, value in found.state_dict.items()},
        "optimizer": found.optimizer,
        "scheduler": found.scheduler,
    }
    torch.save(content, target)
