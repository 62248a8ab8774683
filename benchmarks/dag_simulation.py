"""How many shards, how many retries? A simulation of extraction as an array of jobs on a cluster.

Every shard is a job that waits for a slot, starts up, and works through its videos. A job may be
lost (a node fails, the job is preempted): then the videos that are complete stay, and the shard is
tried again. Reports, over repeated runs, when the last shard is done, how much of the slots' time
was no work on videos, and how often a shard ran out of attempts, which stops the pipeline.

    python benchmarks/dag_simulation.py --videos 650000 --slots 64

Nothing here is measured; the assumptions are the options, and docs/scaling.md says where their
values are from.
"""

import argparse
import heapq
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Assumptions:
    """What is simulated.

    Attributes:
        videos: videos of the data set.
        shards: jobs that they are divided into.
        slots: jobs that run at the same time.
        array: tasks of an array job; arrays are handed in one after the other.
        video_seconds: mean time of a video in a job; single ones differ (log-normal, sigma 1).
        start_seconds: from getting a slot to the first video.
        submit_seconds: a request to submit an array.
        poll_seconds: until Snakemake notices the end of a lost job, and hands it in again.
        loss_rate: losses of a job per hour that it runs.
        retries: further attempts of a lost job.
    """

    videos: int = 650_000
    shards: int = 1024
    slots: int = 64
    array: int = 50
    video_seconds: float = 0.14
    start_seconds: float = 8.0
    submit_seconds: float = 1.0
    poll_seconds: float = 90.0
    loss_rate: float = 0.01
    retries: int = 3


@dataclass(frozen=True)
class Outcome:
    """One run: hours to the end, share of slot time that was no work, shards given up."""

    hours: float
    overhead: float
    given_up: int


def simulate(assumed: Assumptions, rng: np.random.Generator) -> Outcome:
    """Run the extraction once."""
    work = _shard_seconds(assumed, rng)
    arrays = np.arange(assumed.shards) // assumed.array
    # (time from which it may run, shard, attempt); a slot takes the one that has waited longest
    waiting = [
        ((arrays[shard] + 1) * assumed.submit_seconds, shard, 0) for shard in range(assumed.shards)
    ]
    heapq.heapify(waiting)
    slots = [0.0] * assumed.slots
    busy, useful, given_up, end = 0.0, 0.0, 0, 0.0
    while waiting:
        ready, shard, attempt = heapq.heappop(waiting)
        begin = max(ready, heapq.heappop(slots))
        whole = assumed.start_seconds + work[shard]
        lost_after = rng.exponential(3600 / assumed.loss_rate) if assumed.loss_rate else np.inf
        ran = min(whole, lost_after)
        heapq.heappush(slots, begin + ran)
        busy += ran
        end = max(end, begin + ran)
        if ran == whole:
            useful += work[shard]
            continue
        done = max(0.0, ran - assumed.start_seconds)
        done -= rng.uniform(0, min(done, assumed.video_seconds))  # the video it was at
        work[shard] -= done
        useful += done
        if attempt == assumed.retries:
            given_up += 1
        else:
            heapq.heappush(waiting, (begin + ran + assumed.poll_seconds, shard, attempt + 1))
    return Outcome(end / 3600, 1 - useful / busy, given_up)


def _shard_seconds(assumed: Assumptions, rng: np.random.Generator) -> np.ndarray:
    """Seconds of work in each shard: videos go to shards by a hash, so the shares differ."""
    seconds = rng.lognormal(np.log(assumed.video_seconds) - 0.5, 1.0, assumed.videos)
    shards = rng.integers(0, assumed.shards, assumed.videos)
    return np.bincount(shards, weights=seconds, minlength=assumed.shards)


def main() -> None:
    """Print a table over shard counts, loss rates and retries."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    defaults = Assumptions()
    for name in Assumptions.__annotations__:
        if name not in ("shards", "loss_rate", "retries"):
            value = getattr(defaults, name)
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--shards", type=int, nargs="+", default=[64, 256, 1024, 4096, 10_000])
    parser.add_argument("--loss-rate", type=float, nargs="+", default=[0.0, 0.01, 0.2])
    parser.add_argument("--retries", type=int, nargs="+", default=[0, 1, 3])
    parser.add_argument("--runs", type=int, default=20)
    options = vars(parser.parse_args())
    runs = options.pop("runs")
    grid = [options.pop(name) for name in ("loss_rate", "retries", "shards")]
    print("losses/h  retries  shards  hours  overhead  runs with a shard given up")
    for loss_rate in grid[0]:
        for retries in grid[1]:
            for shards in grid[2]:
                assumed = replace(
                    defaults, **options, loss_rate=loss_rate, retries=retries, shards=shards
                )
                outcomes = [simulate(assumed, np.random.default_rng(seed)) for seed in range(runs)]
                print(
                    f"{loss_rate:8g}  {retries:7}  {shards:6}"
                    f"  {np.mean([o.hours for o in outcomes]):5.3f}"
                    f"  {np.mean([o.overhead for o in outcomes]):8.1%}"
                    f"  {np.mean([o.given_up > 0 for o in outcomes]):8.0%}"
                )


if __name__ == "__main__":
    main()
