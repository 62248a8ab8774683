"""Broken files for the readers of lists and checkpoints, as many as there is time for.

    python tests/fuzz/fuzz.py lists --seconds 300
    python tests/fuzz/fuzz.py checkpoints --seconds 300 --seed 7
    python tests/fuzz/fuzz.py checkpoints --seed 7 --only 1234     # that file again

A file is a right one that is changed at random: its bytes, or in a checkpoint also the program in
it that makes objects, and the objects themselves, each with the right sums around them, for else no
change would come further than the sums. Every file has to be read or refused by an `InputError` of
one line, in seconds and in memory that its size explains. The number and the seed of a file give
the same file again.
"""

import argparse
import copy
import faulthandler
import io
import logging
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from listmodels import LABELS, SPLITS, VIDEOS, WRITERS, Files, assert_inside

from r3d.config.options import TrainingOptions
from r3d.errors import InputError
from r3d.lists import load_labels, load_list, read_list, save_list
from r3d.models.building import build_model
from r3d.models.checkpoint import read_checkpoint, write_checkpoint
from r3d.training.runfolder import RunFolder
from r3d.training.state import TrainState

SECONDS = 10.0
"""Of one core that a file may take."""
GROWTH = 3 << 30
"""Bytes of address space that a file may ask for: what a state dict may unfold to, and more."""

# Of zips with two parts of one name, which are made on purpose.
warnings.filterwarnings("ignore", "Duplicate name")

ODD_BYTES = (
    b"\0",
    b"\n",
    b"\r",
    b'"',
    b",",
    b"/",
    b"../",
    b"\\",
    b"\xff",
    b"9" * 5000,
    b"\xef\xbb\xbf",
)
NETWORK = {"model_depth": 10, "resnet_widen_factor": 1 / 64, "sample_size": 8, "sample_duration": 1}


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some of them changed, gone, doubled, or others in between."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(changed) + 1)
        end = min(len(changed), place + rng.choice((1, 1, 2, 4, 8, 64)))
        match rng.randrange(6):
            case 0 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 1:
                changed[place:end] = rng.randbytes(end - place)
            case 2:
                del changed[place:end]
            case 3:
                changed[place:place] = changed[place:end]
            case 4:
                changed[place:place] = rng.choice(ODD_BYTES)
            case 5 if rng.random() < 0.2:
                del changed[place:]
    return bytes(changed)


# --- lists


def try_list(rng: random.Random, folder: Path) -> None:
    """Read a list of some format, one of whose files is spoilt."""
    format = rng.choice([name for name in WRITERS if name != "folders"])
    files: Files = WRITERS[format](LABELS, VIDEOS)
    name = rng.choice(sorted(files))
    for other, text in files.items():
        assert isinstance(text, str)
        content = text.encode()
        (folder / other).write_bytes(spoilt(content, rng) if other == name else content)
    found = read_list(format, folder, SPLITS.get(format, "all"))
    assert_inside(found)
    table, labels = folder.with_suffix(".tsv"), folder.with_suffix(".txt")
    save_list(found, table, labels)
    assert load_labels(labels) == found.labels
    assert load_list(table).to_numpy().tolist() == found.videos.to_numpy().tolist()


# --- checkpoints


@cache
def options(scheduler: str) -> TrainingOptions:
    averaged = {"multistep": 0.0, "plateau": 0.5, "cosine": 0.0}[scheduler]
    return TrainingOptions(
        **NETWORK,
        lr_scheduler=scheduler,
        ema_decay=averaged,
        precision="fp32",
        optimizer="adamw" if scheduler == "cosine" else "sgd",
        warmup_epochs=2 if scheduler == "cosine" else 0,
    )


@cache
def checkpoint(scheduler: str) -> bytes:
    """The state of a training after a step."""
    state = TrainState(options(scheduler), ["a", "b"], None, torch.device("cpu"))
    state.network(torch.randn(2, 3, 1, 8, 8)).sum().backward()
    state.optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.pth")
        write_checkpoint(path, state.checkpoint("0123abcd"))
        return path.read_bytes()


@cache
def bare(*, zipped: bool) -> bytes:
    """Weights by themselves, as of torch today or of before 1.6."""
    names = ("model_depth", "resnet_widen_factor")
    network = build_model(model="resnet", n_classes=2, **{name: NETWORK[name] for name in names})
    file = io.BytesIO()
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def try_checkpoint(rng: random.Random, folder: Path) -> None:
    """Read a spoilt checkpoint, and go on from it as a training would."""
    run_folder = RunFolder(folder / "run")
    run_folder.path.mkdir()
    path = run_folder.latest
    scheduler = rng.choice(("multistep", "plateau", "cosine"))
    whole = rng.choice((checkpoint(scheduler), bare(zipped=True), bare(zipped=False)))
    change = rng.choice((spoilt, _other_program, _other_program, _other_zip, _other_objects))
    content = change(whole, rng)
    path.write_bytes(content)
    run_folder.state_before(3, with_best=True)
    run_folder.set_aside_finished(1, "4567cdef")
    path.write_bytes(content)
    found = read_checkpoint(path)
    state = TrainState(options(scheduler), ["a", "b"], None, torch.device("cpu"))
    state.load(found, path, own=rng.random() < 0.5)
    write_checkpoint(folder / "again.pth", state.checkpoint("0123abcd"))


def _parts(whole: bytes) -> dict[str, bytes] | None:
    if not zipfile.is_zipfile(io.BytesIO(whole)):
        return None
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(parts: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return file.getvalue()


# Operations of pickle with an argument of fixed size, and the ones that make and call.
_SIZED = re.compile(rb"(?s)(J.{4}|M.{2}|K.|G.{8}|\x8a\x01.|[\x85\x86\x87Rbtsuh}()\]ae0Q])")


def _other_program(whole: bytes, rng: random.Random) -> bytes:
    """Other operations in the program that makes the objects; in an old file, anywhere."""
    parts = _parts(whole)
    if parts is None:
        return spoilt(whole, rng)
    name = next(name for name in parts if name.endswith("data.pkl"))
    program = parts[name]
    if rng.random() < 0.5:
        program = spoilt(program, rng)
    else:
        operations = list(_SIZED.finditer(program))
        for _ in range(rng.choice((1, 1, 2, 5))):
            one, other = rng.choice(operations), rng.choice(operations)
            new = rng.choice(
                (
                    other[0],
                    b"",
                    one[0] * 2,
                    b"J" + rng.randbytes(4),
                    b"\x8a\x08" + rng.randbytes(8),
                    b"G" + rng.randbytes(8),
                    b"N",
                    b"\x88",
                )
            )
            program = program[: one.start()] + new + program[one.end() :]
    return _zip([*{**parts, name: program}.items()])


def _other_zip(whole: bytes, rng: random.Random) -> bytes:
    """Another zip around the parts: some gone, doubled, of other names, sizes or contents."""
    parts = _parts(whole)
    if parts is None:
        return spoilt(whole, rng)
    found = list(parts.items())
    index = rng.randrange(len(found))
    name, content = found[index]
    match rng.randrange(6):
        case 0:
            del found[index]
        case 1:
            found.append((name, content))
        case 2:
            found[index] = (rng.choice(("x", "../x", "a" * 300, "archive/data.pkl")), content)
        case 3:
            found[index] = (name, content[: rng.randrange(len(content) + 1)])
        case 4:
            return _zip(found, zipfile.ZIP_DEFLATED)
        case 5:
            found[index] = (name, bytes(rng.choice((1 << 10, 1 << 24))))
    return _zip(found)


def _odd_object(rng: random.Random) -> Any:
    def nested() -> Any:
        value: Any = []
        for _ in range(rng.choice((3, 200))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value

    return rng.choice(
        (
            lambda: None,
            lambda: rng.choice((True, False)),
            lambda: rng.choice((0, -1, 1, 2**31, 2**63, 10**400, rng.getrandbits(64))),
            lambda: rng.choice((0.5, -1.0, 1e300, float("inf"), float("-inf"), float("nan"))),
            lambda: rng.choice(("", "a\nb", "resnet", "../x", "9" * 5000, "\0")),
            lambda: rng.choice(([], {}, (), [1, 2], {"a": 1}, {1: 2}, [None])),
            nested,
            lambda: torch.zeros(()),
            lambda: torch.zeros(rng.choice((0, 1, 3, 1000))),
            lambda: torch.zeros(1).expand(2 ** rng.choice((10, 31, 40, 60))),
            lambda: torch.full((4, 3, 7, 7, 7), rng.choice((1e38, float("nan"), float("inf")))),
            lambda: torch.zeros(3, dtype=rng.choice((torch.int64, torch.complex64, torch.bool))),
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.zeros(2, device="meta"),
        )
    )()


def _other_objects(whole: bytes, rng: random.Random) -> bytes:
    """Odd values in the place of some, at any depth."""
    content = copy.deepcopy(torch.load(io.BytesIO(whole), weights_only=True))
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, key = content, rng.choice(list(content))
        while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.85:
            place = place[key]
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        match rng.randrange(8):
            case 0 if isinstance(place, dict) and len(content) > 1:
                del place[key]
            case 1 if isinstance(place, dict):
                place[_hashable(rng)] = place.pop(key)
            case 2 if isinstance(place[key], torch.Tensor):
                place[key] = _other_tensor(place[key], rng)
            case _:
                place[key] = _odd_object(rng)
        if not content:
            break
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    return file.getvalue()


def _hashable(rng: random.Random) -> Any:
    return rng.choice(("x", "", 0, -1, 2.5, None, (1, 2), "module.fc.weight", 10**30))


def _other_tensor(tensor: torch.Tensor, rng: random.Random) -> torch.Tensor:
    return rng.choice(
        (
            lambda: tensor.flatten(),
            lambda: tensor[None],
            lambda: tensor.to(torch.float16) if tensor.is_floating_point() else tensor.float(),
            lambda: tensor * float("nan"),
            lambda: torch.cat([tensor.flatten(), tensor.flatten()]),
            lambda: tensor.flatten()[:0],
        )
    )()


# --- the loop

TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    "lists": try_list,
    "checkpoints": try_checkpoint,
}


def problem(target: str, seed: int, number: int, folder: Path) -> str:
    """What is wrong with how a file is taken; "" if nothing is."""
    here = folder / "files"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    begin, before = time.process_time(), _address_space()
    logging.disable(logging.WARNING)
    try:
        TARGETS[target](random.Random(f"{target} {seed} {number}"), here)
    except InputError as error:
        if "\n" in str(error) or "\r" in str(error):
            return f"more than one line: {str(error)[:500]!r}"
    except Exception:
        return traceback.format_exc()
    finally:
        logging.disable(logging.NOTSET)
    if time.process_time() - begin > SECONDS:
        return f"{time.process_time() - begin:.1f} s of a core"
    if _address_space() - before > GROWTH:
        return f"{(_address_space() - before) >> 20} MB asked for"
    return ""


def _address_space() -> int:
    """The most bytes of address space that this process has had."""
    found = re.search(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def fuzz(target: str, *, seed: int = 1, seconds: float = 60, limit: int = sys.maxsize) -> list[str]:
    """The problems that are met in that time, or with so many files, ten at most."""
    problems: list[str] = []
    end, number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and number < limit and len(problems) < 10:
            faulthandler.dump_traceback_later(20 * SECONDS, exit=True)  # of what never ends
            found = problem(target, seed, number, Path(folder))
            if found:
                problems.append(f"{target}, seed {seed}, file {number}: {found}")
            number += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{target}, seed {seed}: {number} files, {len(problems)} problems")
    return problems


def main() -> None:
    """Try files until the time is over; status 1 if one was not taken well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of a single file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            problems = list(
                filter(None, [problem(chosen.target, chosen.seed, chosen.only, Path(folder))])
            )
    else:
        problems = fuzz(chosen.target, seed=chosen.seed, seconds=chosen.seconds)
    print("\n".join(problems))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
