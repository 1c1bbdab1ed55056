"""Every way in which links between a few servers can be cut, each direction for itself, and what must hold then.

Claim (N2, N3 of the fault matrix; Howard and Abraham 2020): if some server is connected both ways with a majority, a
leader stands within five election timeouts, commits, and changes at most twice in the next twenty; after healing all
follow one leader. Without such a server only safety is asked for, which the checkers watch throughout.

A mask has one bit for each ordered pair of places; place 0 is whoever leads when the links are cut, so that all cuts
of all leaders are met whichever server is elected.
"""

import itertools
import multiprocessing
import os
from collections.abc import Iterable
from typing import Final

from kvraft.keyspace.commands import Set
from kvraft.raft.effects import Role
from tests.simulation.campaign import collect_seldom
from tests.simulation.checkers import Violation
from tests.simulation.member import SimulatedMember
from tests.simulation.network import Link
from tests.simulation.options import Options
from tests.simulation.streams import stream
from tests.simulation.world import World

ELECTION_TIMEOUT_MS: Final = 300
_SETTLE_TIMEOUTS: Final = 5
_WATCHED_TIMEOUTS: Final = 20
_CHANGES_MAX: Final = 2


def links_of(servers: int) -> list[Link]:
    """The ordered pairs of places, one for each bit of a mask."""
    return list(itertools.permutations(range(servers), 2))


def mask_count(servers: int) -> int:
    """How many ways there are: 64 for three servers, 4,096 for four, 1,048,576 for five."""
    return 1 << len(links_of(servers))


def sampled_masks(servers: int, count: int, seed: int) -> list[int]:
    """Some masks, for more servers than can be enumerated."""
    random = stream(seed, servers, "cuts")
    return [random.randrange(mask_count(servers)) for _ in range(count)]


def has_connected_majority(servers: int, mask: int) -> bool:
    """Whether some place hears and is heard by a majority, itself included."""
    cut = {link for bit, link in enumerate(links_of(servers)) if mask >> bit & 1}
    for place in range(servers):
        others = [other for other in range(servers) if other != place]
        whole = [other for other in others if (place, other) not in cut and (other, place) not in cut]
        if 2 * (len(whole) + 1) > servers:
            return True
    return False


def play(servers: int, mask: int) -> str:
    """Cut the links of a mask in a running cluster. Returns what is wrong; empty if nothing is."""
    world = World(options(servers, mask), ())
    try:
        return _play(world, servers, mask)
    except Violation as violation:
        return str(violation)


def _play(world: World, servers: int, mask: int) -> str:
    timeout_ms = ELECTION_TIMEOUT_MS
    for member in world.members.values():
        member.start()
    world.advance(20 * timeout_ms, lambda: leading(world) is not None)
    world.advance(world.context.scheduler.now_ms + timeout_ms)
    leader = leading(world)
    if leader is None:
        return "no first leader"
    places = [leader.server_id, *(server for server in sorted(world.members) if server != leader.server_id)]
    cut = [(places[a], places[b]) for bit, (a, b) in enumerate(links_of(servers)) if mask >> bit & 1]
    world.context.network.cut(cut)
    world.advance(world.context.scheduler.now_ms + _SETTLE_TIMEOUTS * timeout_ms)
    if has_connected_majority(servers, mask):
        problem = _watch(world)
        if problem:
            return problem
    else:
        world.advance(world.context.scheduler.now_ms + _WATCHED_TIMEOUTS * timeout_ms // 2)
    world.context.network.heal(tuple(sorted(world.members)))
    world.converge(frozenset(world.members))
    return ""


def _watch(world: World) -> str:
    """Twenty timeouts with a write in each: few changes of leader, and most of the writes committed."""
    terms_before = len(world.context.checkers.leaders)
    committed = 0
    for _ in range(_WATCHED_TIMEOUTS):
        leader = leading(world)
        before = world.context.history.acknowledged
        if leader is not None:
            world.workload.write(leader, Set(b"/k0", b"cut"))
        world.advance(world.context.scheduler.now_ms + ELECTION_TIMEOUT_MS)
        committed += world.context.history.acknowledged > before
    changes = len(world.context.checkers.leaders) - terms_before
    if changes > _CHANGES_MAX:
        return f"{changes} changes of leader in {_WATCHED_TIMEOUTS} election timeouts"
    if committed < _WATCHED_TIMEOUTS // 2:
        return f"only {committed} of {_WATCHED_TIMEOUTS} writes committed"
    return ""


def leading(world: World) -> SimulatedMember | None:
    """Who leads the newest term."""
    leaders = [member for member in world.members.values() if member.core and member.core.role is Role.LEADER]
    return max(leaders, key=lambda member: member.core.current_term if member.core else 0, default=None)


def options(servers: int, mask: int) -> Options:
    return Options(
        seed=mask,
        servers=servers,
        spares=0,
        safety_ms=0,
        heartbeat_interval_ms=ELECTION_TIMEOUT_MS // 3,
        election_timeout_ms=ELECTION_TIMEOUT_MS,
        message_bytes_max=65536,
        inflight_messages_max=64,
        log_tail_bytes_max=1 << 20,
        latency_us=500,
        jitter_us=500,
        in_order=True,
        loss_per_mille=0,
        duplicate_per_mille=0,
        late_per_mille=0,
        sync_us=500,
        apply_delay_us=0,
        step_delay_us=50,
        snapshot_entries=1000,
        flush_ms=5000,
        reports_drops=mask % 2 == 0,
        drift_per_mille=0,
        operations_per_second=1,
        keys=1,
        value_bytes_max=10,
        history_events_max=100,
        fault_interval_ms=1000,
        fault_kinds=(),
        quorum_core_only=False,
    )


def _play_pair(pair: tuple[int, int]) -> tuple[int, str]:
    return pair[1], play(*pair)


def play_all(servers: int, masks: Iterable[int], processes: int | None = None) -> list[tuple[int, str]]:
    """Play masks in a pool of processes; returns (mask, what is wrong) of those with something wrong."""
    pairs = [(servers, mask) for mask in masks]
    with multiprocessing.get_context("fork").Pool(processes or os.cpu_count() or 1, collect_seldom) as pool:
        return [(mask, problem) for mask, problem in pool.imap_unordered(_play_pair, pairs, chunksize=8) if problem]
