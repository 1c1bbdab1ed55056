"""Writes to a leader while backups of it are taken one after another, and without, in turns on one cluster.

What is sent is thrown away (`curl -o /dev/null`): `kvraft backup` verifies what comes, on a machine of its own.
"""

import contextlib
import signal
import statistics
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.fill import fill
from bench.load import Load, read, wrk_command
from bench.measured import Measured
from bench.scale import SCALE
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

KEYS: Final = 100_000
VALUE_BYTES: Final = 1024
"""Writers make those of every tenth key 256 bytes long."""
CONNECTIONS: Final = 64
TURNS: Final = 4
"""Short and many: what else the machine does is then beside both kinds alike."""
UNTIL_STOPPED_S: Final = 3600
ANSWERED_WITHIN_S: Final = 60
"""The figure is for saying that an answer took long."""


class Turn(NamedTuple):
    """So many seconds of writes."""

    writes: Load
    backups_s: list[float]
    """How long each backup took meanwhile."""


def beside_backups(cluster: Cluster, seconds: int) -> list[Measured]:
    """How many times longer the p99 of writes is beside backups, and how many seconds one takes.

    A turn with backups is over when `seconds` have passed and the backup that is under way is whole; the turn without
    that follows takes as long.
    """
    leader = cluster.leader()
    fill(leader, SCALE.count(KEYS), VALUE_BYTES)
    size_bytes = _back_up(leader)
    _turn_beside(leader, 0)  # everybody warms up
    beside, usual = [], []
    turns = 2 if SCALE.is_smoke else TURNS  # fewer have no quantiles
    for _ in range(turns):
        beside.append(_turn_beside(leader, seconds))
        usual.append(_turn_without(leader, sum(beside[-1].backups_s)))
    backups_s = [took_s for turn in beside for took_s in turn.backups_s]
    pairs = [with_them.writes.p99_ms / without.writes.p99_ms for with_them, without in zip(beside, usual, strict=True)]
    usual_ms, beside_ms = (_median([turn.writes.p99_ms for turn in turns]) for turns in (usual, beside))
    usual_rate, beside_rate = (_median([turn.writes.per_s for turn in turns]) for turns in (usual, beside))
    low, _, high = statistics.quantiles(pairs)
    detail = (
        f"p99 {usual_ms:.1f} ms, beside them {beside_ms:.1f} ms; {turns} turns, the middle half of their ratios "
        f"{low:.2f} to {high:.2f}; {usual_rate:.0f} writes a second, beside them {beside_rate:.0f}"
    )
    taken = f"{size_bytes / 1e6:.0f} MB, at most {max(backups_s):.1f} s of {len(backups_s)}"
    return [Measured(beside_ms / usual_ms, detail), Measured(_median(backups_s), taken)]


def _turn_beside(leader: Member, seconds: int) -> Turn:
    took_s: list[float] = []
    with _writing(leader) as found:
        while sum(took_s) < seconds or not took_s:
            begun_ns = clock.monotonic_ns()
            _back_up(leader)
            took_s.append((clock.monotonic_ns() - begun_ns) / 1e9)
    return Turn(found[0], took_s)


def _turn_without(leader: Member, seconds: float) -> Turn:
    with _writing(leader) as found:
        subprocess.run(["sleep", str(seconds)], check=True)
    return Turn(found[0], [])


@contextlib.contextmanager
def _writing(leader: Member) -> Iterator[list[Load]]:
    """Writers for as long as the block takes; what they came to is there behind it."""
    found: list[Load] = []
    process = subprocess.Popen(
        wrk_command(leader, "put.lua", CONNECTIONS, UNTIL_STOPPED_S, within_s=ANSWERED_WITHIN_S),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield found
    finally:
        shown = _stopped(process)
    found.append(read(leader, shown, UNTIL_STOPPED_S))


def _stopped(process: subprocess.Popen[str]) -> str:
    """What wrk prints at its end: SIGINT wakes it, but not where it comes before wrk sleeps."""
    while True:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            shown, _ = process.communicate(timeout=1)
            return shown


def _back_up(leader: Member) -> int:
    """Take one; its length in bytes.

    Raises:
        CalledProcessError: it was refused, or broken off.
    """
    command = ["curl", "-sSf", "-o", "/dev/null", "-w", "%{size_download}", f"{leader.client_url}/v2/kvraft/backup"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _median(values: list[float]) -> float:
    return statistics.median(values)
