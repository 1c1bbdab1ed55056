"""The leader is killed again and again: how long nobody leads, in virtual time, and what the longest waits were.

A killed process closes its connections, so that its followers hear of it within moments, each at its own: a loop that
is busy reads its sockets late, and one connection may end before the last bytes of another are read. What must not
happen is that two survivors get into each other's way and then wait for a whole election timeout.

`python -m tests.simulation kills --kills 5000 [--servers 3] [--load idle|busy]`.
"""

import dataclasses
import itertools
from random import Random
from typing import Final, final

from kvraft.keyspace.commands import Set
from kvraft.raft.inputs import PeerDisconnected
from tests.simulation import cuts
from tests.simulation.member import SimulatedMember
from tests.simulation.options import Options
from tests.simulation.processes import in_processes
from tests.simulation.sessions import Link
from tests.simulation.streams import derive, stream
from tests.simulation.world import World

ELECTION_TIMEOUT_MS: Final = 1000
HEARTBEAT_INTERVAL_MS: Final = 100
LOADS: Final = ("idle", "busy")
_KILLS_PER_WORLD: Final = 25
_QUANTILES: Final = {"median": 500, "p99": 990}
_GIVE_UP_MS: Final = 6 * ELECTION_TIMEOUT_MS
_NOTICED_WITHIN_US: Final = (1_000, 10_000, 60_000)
"""How late a survivor reads the end of its connection, at most: idle, busy, or at the end of something long."""
_LAGS: Final = 0.3
"""Of busy leaders: how often the latest entries have not reached one of the followers when it dies."""
_SYNCS_US: Final = (200, 2_000, 12_000)


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Kill:
    """One kill and what came of it."""

    world: int
    number: int
    wait_ms: int
    """From the kill until another server led and had committed an entry of its term."""
    elections: int
    """Terms that it took."""


def kill_many(servers: int, kills: int, load: str, master_seed: int) -> list[Kill]:
    """So many kills, spread over worlds, on all cores."""
    worlds = [(derive(master_seed, number, "kills"), servers, load) for number in range(-(-kills // _KILLS_PER_WORLD))]
    return list(itertools.chain.from_iterable(in_processes(kill_leaders, worlds)))


def too_late(kills: list[Kill]) -> list[Kill]:
    """Those that were felt: nobody led for more than half an election timeout."""
    return [kill for kill in kills if kill.wait_ms > ELECTION_TIMEOUT_MS // 2]


def waits(kills: list[Kill]) -> str:
    """How long nobody led, as a person reads it."""
    ordered = sorted(kill.wait_ms for kill in kills)
    parts = [f"{name} {ordered[len(ordered) * per_mille // 1000]}" for name, per_mille in _QUANTILES.items()]
    again = sum(kill.elections > 1 for kill in kills)
    return f"{', '.join(parts)}, longest {ordered[-1]} ms; {again} took a second election"


def options(seed: int, servers: int) -> Options:
    """A cluster with etcd's timing on fair links; a world's disks and loops are quick or slow."""
    random = stream(seed, servers, "kills")
    return dataclasses.replace(
        cuts.options(servers, seed),
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
        election_timeout_ms=ELECTION_TIMEOUT_MS,
        latency_us=random.choice((50, 500, 2_000)),
        jitter_us=random.choice((50, 500, 2_000)),
        sync_us=random.choice(_SYNCS_US),
        step_delay_us=random.choice((50, 500)),
    )


def kill_leaders(seed: int, servers: int, load: str) -> list[Kill]:
    """Kill the leaders of one world. One that is never replaced counts as `_GIVE_UP_MS`."""
    busy = load == "busy"
    world = World(options(seed, servers), ())
    random = stream(seed, servers, "kill times")
    for member in world.members.values():
        member.start()
    _await_leader(world)
    found = []
    for number in range(_KILLS_PER_WORLD):
        _pass(world, random, 200 + random.randrange(300), busy=False)
        _pass(world, random, 60, busy=busy)
        leader = _await_leader(world)
        found.append(_kill(world, random, leader, seed, number, busy=busy))
        leader.start()
        _pass(world, random, 100, busy=False)
    return found


def _kill(world: World, random: Random, leader: SimulatedMember, seed: int, number: int, *, busy: bool) -> Kill:
    scheduler = world.context.scheduler
    assert leader.core is not None
    term, killed_us = leader.core.current_term, scheduler.now_us
    lags: list[Link] = []
    if busy:
        if random.random() < _LAGS:
            others = [server for server in world.members if server != leader.server_id]
            lags = [(leader.server_id, random.choice(others))]
            world.context.network.cut(lags)
        _write_some(world, random)
        world.advance(scheduler.now_ms + random.randrange(3))
        killed_us = scheduler.now_us
    leader.crash("killed")
    world.context.network.mend(lags)
    late_us = random.choice(_NOTICED_WITHIN_US)
    for other in world.members.values():
        if other is not leader:
            after_us = world.options.latency_us + int(random.random() * late_us)
            scheduler.after(after_us, other.put_if_up, PeerDisconnected(leader.server_id))
    successor = _await_leader(world, leader)
    if successor.core is None or successor is leader:
        return Kill(seed, number, _GIVE_UP_MS, 0)
    return Kill(seed, number, (scheduler.now_us - killed_us) // 1000, successor.core.current_term - term)


def _write_some(world: World, random: Random) -> None:
    leader = cuts.leading(world)
    for _ in range(random.randrange(1, 6) if leader is not None else 0):
        assert leader is not None
        world.workload.write(leader, Set(b"/k0", b"v" * random.randrange(1, 200)))


def _pass(world: World, random: Random, for_ms: int, *, busy: bool) -> None:
    scheduler = world.context.scheduler
    end_ms = scheduler.now_ms + for_ms
    while busy and scheduler.now_ms < end_ms:
        _write_some(world, random)
        world.advance(scheduler.now_ms + 20)
    world.advance(end_ms)


def _await_leader(world: World, gone: SimulatedMember | None = None) -> SimulatedMember:
    """A leader, not `gone`, that has committed an entry of its term; `gone` itself if none comes."""

    def stands() -> bool:
        leader = cuts.leading(world)
        if leader is None or leader.core is None or leader is gone:
            return False
        entry = leader.log.entry_at(leader.core.commit_index)
        return entry is not None and entry.term == leader.core.current_term

    if not world.advance(world.context.scheduler.now_ms + _GIVE_UP_MS, stands):
        assert gone is not None, "no leader without any fault"
        return gone
    leader = cuts.leading(world)
    assert leader is not None
    return leader
