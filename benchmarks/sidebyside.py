"""Measuring variants side by side in one run, and the page that keeps the figures.

Machines are noisy and differ: an absolute time says little. So the variants take turns, a round is
one turn of each, and what is reported is the median over rounds of a variant's rate by that of the
baseline in the same round.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from r3d.compute.machine import machine, n_cores
from r3d.tuning import turns
from r3d.tuning.turns import Rates, take_turns

__all__ = [
    "Rates",
    "compare",
    "compare_apart",
    "machine",
    "n_cores",
    "parse",
    "publish",
    "rates_table",
    "ratio",
    "table",
]

PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"


def compare(
    variants: Mapping[str, Callable[[], float]],
    *,
    rounds: int = 7,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """Run each variant in turn, `rounds` times.

    Args:
        variants: each does some work and returns how many units that was (clips, videos).
        warm_up: whether to run each once before, unmeasured.
        clock: `time.thread_time` for work of one thread, which other work on the machine then
            disturbs less.

    Returns:
        Units per second of each variant in each round, (rounds,).
    """
    if warm_up:
        for run in variants.values():
            run()
    turns_of = {name: partial(_rate, run, clock) for name, run in variants.items()}
    return take_turns(turns_of, rounds=rounds)


def compare_apart(
    variants: Mapping[str, Callable[[], Callable[[], float]]],
    *,
    rounds: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """As `compare`, each variant in a process of its own, which the others cannot change.

    How memory is kept, for one, is a matter of a whole process.

    Args:
        variants: module-level functions, or a `partial` of one, that return what `compare` takes.
    """
    spawn = multiprocessing.get_context("spawn")
    turns_of, processes = {}, []
    for name, make in variants.items():
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve_turns, args=(theirs, make, clock))
        process.start()
        processes.append(process)
        theirs.close()
        turns_of[name] = partial(_ask_for_turn, ours)
    try:
        for warm_up in turns_of.values():
            warm_up()
        return take_turns(turns_of, rounds=rounds)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve_turns(
    asked: Connection, make: Callable[[], Callable[[], float]], clock: Callable[[], float]
) -> None:
    run = make()
    while asked.recv():
        asked.send(_rate(run, clock))


def _ask_for_turn(asked: Connection) -> float:
    asked.send(True)
    rate: float = asked.recv()
    return rate


def ratio(rates: Rates, name: str, baseline: str) -> str:
    """How many times the rate of the baseline: the median, and the quartiles over the rounds."""
    return str(turns.ratio(rates, name, baseline))


def rates_table(rates: Rates, unit: str, *, baselines: Sequence[str]) -> str:
    """A row a variant: its median rate, and its ratio to each of the baselines."""
    columns = ["", f"{unit}/s", *(f"x {baseline}" for baseline in baselines)]
    rows = [
        [
            name,
            f"{np.median(values):.4g}",
            *("1" if name == baseline else ratio(rates, name, baseline) for baseline in baselines),
        ]
        for name, values in rates.items()
    ]
    return table(columns, rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def publish(section: str, text: str, *, packages: Sequence[str] = ()) -> None:
    """Print a result and put it into its section of docs/benchmarks.md, with machine and versions.

    Args:
        section: the name in the markers `<!-- begin section -->` and `<!-- end section -->`.
        packages: those whose versions matter here.
    """
    measured = f"{text}\n\n*{machine()}; {', '.join(map(_version, packages))}; {date.today()}*"
    print(measured)
    page = PAGE.read_text(encoding="utf-8")
    pattern = rf"(<!-- begin {section} -->\n).*?(<!-- end {section} -->)"
    if not re.search(pattern, page, re.DOTALL):
        raise ValueError(f"{PAGE} has no section {section}")
    page = re.sub(pattern, lambda m: f"{m[1]}{measured}\n{m[2]}", page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


def parse(description: str | None, **defaults: int | str) -> argparse.Namespace:
    """Read options `--name` of the types of their defaults."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{default}"
        )
    return parser.parse_args()


def _rate(run: Callable[[], float], clock: Callable[[], float]) -> float:
    """Units a second."""
    begin = clock()
    units = run()
    return units / (clock() - begin)


def _version(package: str) -> str:
    return f"{package} {version(package)}"
