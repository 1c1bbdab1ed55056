"""What grows with the state, the watchers and the members, and what stays: kvraft alone, `bench --only growth`.

A figure is flat if it is at most 1.3 times its smallest one; an operation is judged by its CPU, all members together,
as rates also tell what else shares the cores.
"""

import contextlib
import pathlib
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from bench.fill import GROUP, fill
from bench.footprint import disk_mb
from bench.load import anonymous_mb, loaded, settle
from bench.measured import Measured
from bench.puts import put
from bench.scale import SCALE
from bench.starts import restarted_ms
from bench.watching import deliveries, waiting
from kvraft.testing.cluster import Cluster, Program

KEYS: Final = (1_000, 100_000, 1_000_000)
VALUE_BYTES: Final = 256
WATCHERS: Final = (0, 1_000, 10_000)
MEMBERS: Final = (1, 3, 5)
LISTENERS: Final = 100
FLAT: Final = 1.3


class Line(NamedTuple):
    """One figure over what grows."""

    name: str
    unit: str
    over: str
    """What grows: keys, watchers, members."""
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    """One for each size."""

    @property
    def spread(self) -> float:
        """The largest value over the smallest one."""
        return max(self.values) / max(min(self.values), 1e-9)

    @property
    def is_flat(self) -> bool:
        """Whether it does not depend on what grows."""
        return self.spread <= FLAT


def cost(measured: Measured) -> float:
    """The CPU of an operation."""
    assert measured.cpu_us is not None
    return measured.cpu_us


BY_KEYS: Final = (
    ("PUT", "us of CPU"),
    ("GET", "us of CPU"),
    ("delivery to a watcher", "us of CPU"),
    ("listing, a listed key", "us of CPU"),
    ("memory of a member, a key", "bytes"),
    ("disk of a member, a key", "bytes"),
    ("restart of a follower", "s"),
)


def by_keys(directory: pathlib.Path, program: Program, count: int, seconds: int) -> list[float]:
    """The figures of `BY_KEYS` with so many keys of 256 bytes, in directories of 100,000."""
    with _cluster(directory, program, 3) as cluster:
        leader = cluster.leader()
        members = [leader, *cluster.followers()]
        settle(members)
        empty_mb = max(map(anonymous_mb, members))
        empty_disk_mb = disk_mb(members[1])
        fill(leader, count, VALUE_BYTES, grouped=True)
        settle(members)
        memory = (max(map(anonymous_mb, members)) - empty_mb) * 2**20 / count
        restart_s = restarted_ms(members[1]) / 1000
        disk = (disk_mb(members[1]) - empty_disk_mb) * 2**20 / count
        listed = min(count, GROUP)
        target = "/v2/keys/bench/0?recursive=true&sorted=true"
        assert len(leader.http("GET", target).json()["node"]["nodes"]) == listed
        (_,), listing_us = loaded(members, [(leader, 1)], "list.lua", seconds, target)
        (_,), get_us = loaded(members, [(leader, 64)], "get.lua", seconds, "", "grouped", keys=count)
        (_,), put_us = loaded(members, [(leader, 64)], "put.lua", seconds, "grouped", keys=count)
        delivery_us = cost(deliveries(cluster, SCALE.count(LISTENERS), seconds))
    return [sum(put_us), sum(get_us), delivery_us, sum(listing_us) / listed, memory, disk, restart_s]


def by_watchers(directory: pathlib.Path, program: Program, count: int, seconds: int) -> list[float]:
    """The CPU of a write while so many wait for another key."""
    with _cluster(directory, program, 3) as cluster, waiting(cluster.leader(), "/v2/keys/elsewhere?wait=true", count):
        return [cost(put(cluster, seconds, 64)[0])]


def by_members(directory: pathlib.Path, program: Program, count: int, seconds: int) -> list[float]:
    """The CPU of a write at each of so many members, the mean."""
    with _cluster(directory, program, count) as cluster:
        return [cost(put(cluster, seconds, 64)[0]) / count]


@contextlib.contextmanager
def _cluster(directory: pathlib.Path, program: Program, size: int) -> Iterator[Cluster]:
    shutil.rmtree(directory, ignore_errors=True)
    with Cluster(directory, size=size, program=program) as cluster:
        yield cluster


def growth(directory: pathlib.Path, program: Program, seconds: int, rounds: int) -> list[Line]:
    """All lines; the median of the rounds, in each of which everything is measured once."""
    tables: tuple[
        tuple[str, Sequence[int], Sequence[tuple[str, str]], Callable[[pathlib.Path, Program, int, int], list[float]]],
        ...,
    ] = (
        ("keys", [SCALE.count(keys) for keys in KEYS], BY_KEYS, by_keys),
        (
            "watchers",
            [watchers and SCALE.count(watchers) for watchers in WATCHERS],
            [("PUT", "us of CPU")],
            by_watchers,
        ),
        ("members", MEMBERS, [("PUT, a member", "us of CPU")], by_members),
    )
    lines = []
    for over, sizes, names, measure in tables:
        found = [[measure(directory, program, size, seconds) for size in sizes] for _ in range(rounds)]
        for number, (name, unit) in enumerate(names):
            values = tuple(statistics.median(one[place][number] for one in found) for place in range(len(sizes)))
            lines.append(Line(name, unit, over, tuple(sizes), values))
            show(lines[-1])
    return lines


def show(line: Line) -> None:
    """One line of the table."""
    values = " ".join(f"{value:>10.4g}" for value in line.values)
    sizes = "/".join(map(str, line.sizes))
    verdict = "flat" if line.is_flat else f"not flat: {line.spread:.2f} x"
    print(f"{line.name:<28}{values}  {line.unit}; {sizes} {line.over}; {verdict}", flush=True)
