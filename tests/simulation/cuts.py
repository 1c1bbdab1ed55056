"""Every way in which links between a few servers can be cut, each direction for itself, and what must hold then.

Claim (N2, N3 of the fault matrix; Howard and Abraham 2020): if some server is connected both ways with a majority, then
within five election timeouts a leader stands that has committed a write of its term, and in the next twenty it changes
at most twice and nine writes of ten commit; after healing all follow one leader. Without such a server only safety is
asked for, which the checkers watch throughout.

It holds for every cut of a cluster at rest, whose logs are equal. If writes go on while links are cut, a leader that is
heard and does not hear may lengthen the log of a server that the connected one needs and that cannot win itself: no
Raft elects anybody then (the "constrained election" of Omni-Paxos; Ng, Haridi and Carbone 2023), until a link is
mended. So under load the claim asks for more: a connected server with a majority whose logs are no longer than its own.

A mask has one bit for each ordered pair of places; place 0 is whoever leads when the links are cut, so that all cuts
of all leaders are met whichever server is elected.
"""

import itertools
from collections.abc import Iterable
from typing import Final

from kvraft.keyspace.commands import Set
from kvraft.raft.effects import Role
from tests.simulation.checkers import Violation
from tests.simulation.member import SimulatedMember
from tests.simulation.options import Options
from tests.simulation.processes import in_processes
from tests.simulation.sessions import Link
from tests.simulation.streams import stream
from tests.simulation.world import World

ELECTION_TIMEOUT_MS: Final = 300
_SETTLE_TIMEOUTS: Final = 5
_WATCHED_TIMEOUTS: Final = 20
_CHANGES_MAX: Final = 2
_WRITES_MIN: Final = 18
"""Of those in twenty timeouts, one in each."""
_WRITES_PER_TIMEOUT: Final = 4
_QUIET_TIMEOUTS: Final = 2
"""In a cluster at rest nobody writes for so long after the cut: until CheckQuorum has ended what the cut made idle."""


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


def cut_links(servers: int, mask: int) -> list[Link]:
    """The links of a mask."""
    return [link for bit, link in enumerate(links_of(servers)) if mask >> bit & 1]


def connected_majorities(servers: int, mask: int) -> dict[int, list[int]]:
    """Places that hear and are heard by enough for a majority, each with all of those."""
    cut = set(cut_links(servers, mask))
    found = {}
    for place in range(servers):
        others = [other for other in range(servers) if other != place]
        whole = [other for other in others if (place, other) not in cut and (other, place) not in cut]
        if 2 * (len(whole) + 1) > servers:
            found[place] = whole
    return found


def has_connected_majority(servers: int, mask: int) -> bool:
    """Whether some place hears and is heard by a majority, itself included."""
    return bool(connected_majorities(servers, mask))


def play(servers: int, mask: int, *, busy: bool = False) -> str:
    """Cut the links of a mask in a running cluster, at rest or while clients write.

    Returns:
        What is wrong; empty if nothing is.
    """
    world = World(options(servers, mask), ())
    try:
        return _play(world, servers, mask, busy=busy)
    except Violation as violation:
        return str(violation)


def _play(world: World, servers: int, mask: int, *, busy: bool) -> str:
    timeout_ms = ELECTION_TIMEOUT_MS
    for member in world.members.values():
        member.start()
    world.advance(20 * timeout_ms, lambda: leading(world) is not None)
    world.advance(world.context.scheduler.now_ms + timeout_ms)
    leader = leading(world)
    if leader is None:
        return "no first leader"
    places = [leader.server_id, *(server for server in sorted(world.members) if server != leader.server_id)]
    world.context.network.cut([(places[a], places[b]) for a, b in cut_links(servers, mask)])
    stands = _settle(world, quiet_timeouts=0 if busy else _QUIET_TIMEOUTS)
    if stands:
        problem = _watch(world) if has_connected_majority(servers, mask) else ""
        if problem:
            return problem
    elif electable(world, servers, mask, places) if busy else has_connected_majority(servers, mask):
        return f"no leader that has committed a write {_SETTLE_TIMEOUTS} election timeouts after the cut"
    else:
        world.advance(world.context.scheduler.now_ms + _WATCHED_TIMEOUTS * timeout_ms // 2)
    world.context.network.heal(tuple(sorted(world.members)))
    world.converge(frozenset(world.members))
    return ""


def _settle(world: World, quiet_timeouts: int) -> bool:
    """Five timeouts with writes: whether the leader at their end has committed one of them in its term."""
    world.advance(world.context.scheduler.now_ms + quiet_timeouts * ELECTION_TIMEOUT_MS)
    committed_in: set[int] = set()
    for _ in range((_SETTLE_TIMEOUTS - quiet_timeouts) * _WRITES_PER_TIMEOUT):
        term = _write(world, ELECTION_TIMEOUT_MS // _WRITES_PER_TIMEOUT)
        if term:
            committed_in.add(term)
    leader = leading(world)
    return leader is not None and leader.core is not None and leader.core.current_term in committed_in


def _write(world: World, wait_ms: int) -> int:
    """Write through whoever leads and wait so long. The term of the leader that acknowledged it; 0 if none did."""
    scheduler, workload, history = world.context.scheduler, world.workload, world.context.history
    leader = leading(world)
    if leader is None or leader.core is None:
        world.advance(scheduler.now_ms + wait_ms)
        return 0
    term, before = leader.core.current_term, history.acknowledged
    number = workload.write(leader, Set(b"/k0", b"cut"))
    world.advance(scheduler.now_ms + wait_ms)
    return term if history.acknowledged > before and not workload.is_pending(number) else 0


def electable(world: World, servers: int, mask: int, places: list[int]) -> bool:
    """Whether a connected server has a majority that would vote for its log (section 5.4.1)."""
    last = []
    for server_id in places:
        log = world.members[server_id].log
        last.append((log.last.term, log.last_index))
    for place, whole in connected_majorities(servers, mask).items():
        voters = [other for other in whole if last[other] <= last[place]]
        if 2 * (len(voters) + 1) > servers:
            return True
    return False


def _watch(world: World) -> str:
    """Twenty timeouts with a write in each: few changes of leader, and nearly all of the writes committed."""
    terms_before = len(world.context.checkers.leaders)
    committed = sum(_write(world, ELECTION_TIMEOUT_MS) > 0 for _ in range(_WATCHED_TIMEOUTS))
    changes = len(world.context.checkers.leaders) - terms_before
    if changes > _CHANGES_MAX:
        return f"{changes} changes of leader in {_WATCHED_TIMEOUTS} election timeouts"
    if committed < _WRITES_MIN:
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


def _play_one(servers: int, mask: int) -> tuple[int, str]:
    problem = play(servers, mask)
    return mask, problem or play(servers, mask, busy=True)


def play_all(servers: int, masks: Iterable[int], processes: int | None = None) -> list[tuple[int, str]]:
    """Play masks, at rest and busy, on all cores; returns (mask, what is wrong) where something is."""
    played = in_processes(_play_one, ((servers, mask) for mask in masks), processes)
    return [(mask, problem) for mask, problem in played if problem]
