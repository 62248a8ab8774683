"""The GPUs of this machine, and which of them are this process's own.

Each process that computes takes a free one, so that several beside each other do not share the
first. What says that one is taken is a socket of its name in Linux' abstract namespace: all users
see it, no folder has to be shared or can be cleaned up, and the kernel lets go when the process
ends, however it ends. Nothing here imports torch, which reads `CUDA_VISIBLE_DEVICES` only once.
"""

import errno
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from r3d.errors import InputError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# What this process, or one that started it, has taken, as it then stands in `_VISIBLE`.
_TAKEN = "R3D_TAKEN_DEVICES"
# What SLURM notes in a job, or a step of one, that it has given cards.
_GIVEN_BY_SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
_DRIVER = Path("/proc/driver/nvidia/gpus")
_LISTING_SECONDS = 60
_AGAIN_SECONDS = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """A GPU, or an instance that one is divided into (MIG).

    Attributes:
        name: what `CUDA_VISIBLE_DEVICES` calls it.
        lock: the same for all who compute on it.
    """

    name: str
    lock: str


_held: list[socket.socket] = []
_turns: list[socket.socket] = []  # while this process waits for several cards
_before: dict[str, str] = {}  # what was visible when cards were taken
_choosing = threading.Lock()  # one thread at a time takes or gives back


def _after_fork() -> None:
    global _choosing
    # A child that is forked, such as a process that loads clips, may outlive this one for a moment.
    _close(_held)
    _close(_turns)
    _choosing = threading.Lock()  # the thread that may have held it is not in the child


os.register_at_fork(after_in_child=_after_fork)


def visible_cards() -> list[Card]:
    """The cards that this process may use: those of the machine, or those that it was given.

    A user or SLURM gives some by `CUDA_VISIBLE_DEVICES`, by number or name. As for CUDA, what comes
    after one that there is not does not count. Numbers are taken in the order of the driver, which
    is CUDA's own where all cards are alike. A job of SLURM that was given none has none: those that
    it sees are for jobs that ask for them.
    """
    given = os.environ.get(_VISIBLE)
    if given is None:
        if "SLURM_JOB_ID" in os.environ and not any(map(os.environ.get, _GIVEN_BY_SLURM)):
            return []
        parts = [part for card, instances in _listed() for part in instances or [card]]
        return [Card(part, part) for part in parts]
    found: dict[str, Card] = {}
    if given.strip():
        listed = _listed()
        # Numbers of SLURM may be those of the cards of its job only, and no other job has these.
        job = os.environ.get("SLURM_JOB_ID")
        for name in map(str.strip, given.split(",")):
            lock = _lock_of(name, listed)
            if lock is None:
                break
            found.setdefault(lock, Card(name, f"slurm-{job}-{lock}" if job else lock))
    return list(found.values())


def torch_has_cuda() -> bool:
    """Whether the torch that is installed computes on such cards, read without loading it.

    A torch that does not say so is taken to.
    """
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return True
    said = re.search(r"^cuda\b[^=\n]*= *(.*)$", text, re.M)
    return said is None or said[1].strip() != "None"


def n_taken() -> int:
    """How many cards this process has, taken by itself or by one that started it."""
    taken = os.environ.get(_TAKEN, "")
    return len(taken.split(",")) if taken and taken == os.environ.get(_VISIBLE) else 0


def need_cards(wanted: int, what: str) -> None:
    """Check that there are so many, if there are any: without one the CPU computes.

    Args:
        what: who asks for them, for the message.

    Raises:
        InputError: if there are some, but fewer.
    """
    cards = visible_cards()
    found = len(cards)
    fit = len(_for_one_job(cards, wanted))
    if not found or wanted <= fit:
        return
    if wanted <= found:
        raise InputError(
            f"{what}: {wanted}, but cards of this machine are divided (MIG), and of all instances "
            f"a process can use one only; accepted: up to {max(1, fit)}, or 0"
        )
    raise InputError(
        f"{what}: {wanted}, but this machine has {found} for this process ({_VISIBLE} may hide "
        f"some); accepted: up to {found}, or 0"
    )


def _for_one_job(cards: list[Card], n: int) -> list[Card]:
    """Those of which a job may have so many: CUDA shows one instance at most, and then no card."""
    return cards if n <= 1 else [card for card in cards if not card.name.startswith("MIG-")]


def take_cards(n: int = 1, what: str = "GPUs of a job") -> None:
    """Take free cards for this process and those that it starts, and let CUDA see no others.

    Waits until there are as many; they are held until this process ends. Does nothing without any
    card, where this process or one that started it has taken some before, and in a process of a
    torchrun by hand: each takes the card of its number (`World.own`), so it has to see all.

    Args:
        what: who asks for them, for the message.

    Raises:
        InputError: if there are some, but fewer.
    """
    with _choosing:
        try:
            _take(n, what)
        except BaseException:  # interrupted while some were there already, too
            _close(_held)
            _close(_turns)
            raise


def _take(n: int, what: str) -> None:
    if _held or n_taken() or "LOCAL_RANK" in os.environ:
        return
    need_cards(n, what)
    cards = visible_cards()
    if not cards:
        if _VISIBLE not in os.environ and _listed():
            os.environ[_VISIBLE] = ""  # CUDA would see them all
            _log.warning(
                "SLURM gave this job none of the %d GPUs of its node, so the CPU computes; ask for "
                "them by resources: {gpus: N}, or in %s name those that are this job's; no_cuda: "
                "true means the CPU",
                *(len(_listed()), _VISIBLE),
            )
        return
    try:
        taken = _wait_for(_for_one_job(cards, n), n)
    except OSError as error:
        _log.warning("GPUs cannot be shared out on this system: %s", error)
        _close(_held)
        _close(_turns)
        return
    if _VISIBLE in os.environ:
        _before[_VISIBLE] = os.environ[_VISIBLE]
    os.environ[_VISIBLE] = os.environ[_TAKEN] = ",".join(card.name for card in taken)
    _log.info("computing on GPU %s, of the %d that are here", os.environ[_VISIBLE], len(cards))


def give_back_cards() -> None:
    """Let go of the cards of this process, which computes on the CPU after all."""
    with _choosing:
        _close(_held)
        if os.environ.pop(_TAKEN, None) is not None:
            del os.environ[_VISIBLE]
            os.environ.update(_before)
            _before.clear()


def _close(sockets: list[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()


def _wait_for(cards: list[Card], n: int) -> list[Card]:
    """Lock `n` of the cards, as they become free."""
    if n == 1:
        return _free_ones(cards, n)
    # Jobs that want several of the same cards take them one job after the other: else each of two
    # may wait for what the other has. Whose turn it is, is said for each card; a job that has not
    # all of its turns keeps none, so nobody waits for it. In one order, so that of several jobs
    # that begin at the same time one gets through.
    turns = sorted(f"several-{card.lock}" for card in cards)
    said = False
    while not _lock_all(turns):
        said = said or _say_waiting(n, cards)
        time.sleep(_AGAIN_SECONDS)
    try:
        return _free_ones(cards, n, said=said)
    finally:
        _close(_turns)


def _lock_all(turns: list[str]) -> bool:
    """Hold all of these names or none; whether they are held."""
    for turn in turns:
        held = _lock(turn)
        if held is None:
            _close(_turns)
            return False
        _turns.append(held)
    return True


def _free_ones(cards: list[Card], n: int, *, said: bool = False) -> list[Card]:
    taken: list[Card] = []
    while True:
        for card in cards:
            if len(taken) < n and card not in taken and (held := _lock(card.lock)) is not None:
                _held.append(held)
                taken.append(card)
        if len(taken) == n:
            return [card for card in cards if card in taken]
        said = said or _say_waiting(n - len(taken), cards)
        time.sleep(_AGAIN_SECONDS)


def _say_waiting(n: int, cards: list[Card]) -> bool:
    _log.info(
        "waiting for %d of the %d GPUs that are here: other jobs have them; no_cuda takes the CPU",
        *(n, len(cards)),
    )
    return True


def _lock(name: str) -> socket.socket | None:
    """Hold the name on this machine; None if another process does."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0r3d-gpu-{name}"[:100])
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return held


def _lock_of(name: str, listed: list[tuple[str, list[str]]]) -> str | None:
    """What a card is locked as that the user calls so; None if there is none."""
    if name.isdecimal():
        if not listed:  # the driver does not say; torch will
            return name
        return listed[int(name)][0] if int(name) < len(listed) else None
    if not name.startswith(("GPU-", "MIG-")):
        return None
    parts = [part for card, instances in listed for part in (card, *instances)]
    meant = [part for part in parts if part.startswith(name)]
    if not listed or (not meant and name.startswith("MIG-GPU-")):  # as older drivers call them
        return name
    return meant[0] if len(meant) == 1 else None


def _listed() -> list[tuple[str, list[str]]]:
    """Each GPU of this machine that this process can reach, with its instances, by their UUIDs."""
    if program := shutil.which("nvidia-smi"):
        listed: list[tuple[str, list[str]]] = []
        for line in _listing(program).splitlines():
            found = re.match(r"(GPU|\s+MIG) .*\(UUID: ([^\s)]+)\)", line)
            if found and found[1] == "GPU":
                listed.append((found[2], []))
            elif found and listed:
                listed[-1][1].append(found[2])
        return listed
    texts = [path.read_text() for path in sorted(_DRIVER.glob("*/information"))]
    uuids = [re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)$", text, re.M) for text in texts]
    return [(uuid[1], []) for uuid in uuids if uuid]


@cache
def _listing(program: str) -> str:
    try:
        return subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=_LISTING_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("%s does not answer, so no GPU is looked for: %s", program, error)
        return ""
