"""Sessions between servers: who can dial whom, thin links with two lanes, loops that wait for a disk."""

import dataclasses
from typing import Any

import pytest

from kvraft.keyspace.commands import Set
from tests.simulation import cuts
from tests.simulation.campaign import seeds_of
from tests.simulation.member import SimulatedMember
from tests.simulation.options import draw_options
from tests.simulation.sessions import THIN_BYTES_PER_S, Sessions
from tests.simulation.world import World, run_seed

TIMEOUT_MS = cuts.ELECTION_TIMEOUT_MS


def _world(servers: int = 3, seed: int = 1, **changes: Any) -> World:
    """A settled cluster on sessions."""
    options = dataclasses.replace(cuts.options(servers, seed), sessions=True, dial_retry_ms=20, **changes)
    world = World(options, ())
    for member in world.members.values():
        member.start()
    assert world.advance(20 * TIMEOUT_MS, lambda: cuts.leading(world) is not None)
    _pass(world, TIMEOUT_MS)
    return world


def _pass(world: World, for_ms: int) -> None:
    world.advance(world.context.scheduler.now_ms + for_ms)


def _sessions(world: World) -> Sessions:
    sessions = world.context.network.sessions
    assert sessions is not None
    return sessions


def _leader(world: World) -> SimulatedMember:
    leader = cuts.leading(world)
    assert leader is not None
    return leader


def _followers(world: World) -> list[SimulatedMember]:
    return [member for member in world.members.values() if member is not _leader(world)]


def _write(world: World, value: bytes = b"v") -> bool:
    """Whether a write through the leader is acknowledged within an election timeout."""
    before = world.context.history.acknowledged
    number = world.workload.write(_leader(world), Set(b"/k0", value))
    world.advance(world.context.scheduler.now_ms + TIMEOUT_MS, lambda: not world.workload.is_pending(number))
    return world.context.history.acknowledged > before


def _terms(world: World) -> int:
    return len(world.context.checkers.leaders)


def test_session_carries_both_directions_whoever_dialled() -> None:
    """One follower has a dead address for the leader, which can dial it; the third server is dead."""
    world = _world()
    leader, (follower, third) = _leader(world), _followers(world)
    terms = _terms(world)
    _sessions(world).cut_dials([(follower.server_id, leader.server_id)])
    third.crash("killed")
    _pass(world, TIMEOUT_MS)
    assert _sessions(world).stands(leader.server_id, follower.server_id)
    assert _write(world)
    assert _terms(world) <= terms + 1, "the reset may cost the leader its followers, once"
    _sessions(world).cut_dials([(leader.server_id, follower.server_id)])
    _pass(world, TIMEOUT_MS)
    assert not _sessions(world).stands(leader.server_id, follower.server_id)


def test_paused_server_goes_on_dialling_when_it_is_resumed() -> None:
    """It was paused while it tried, and nobody else can dial."""
    world = _world(2)
    one, other = world.members.values()
    one.pause()
    _sessions(world).cut_dials([(other.server_id, one.server_id), (one.server_id, other.server_id)])
    _pass(world, TIMEOUT_MS)
    _sessions(world).mend_dials([(one.server_id, other.server_id)])
    one.resume()
    _pass(world, TIMEOUT_MS)
    assert _sessions(world).stands(one.server_id, other.server_id)


@pytest.mark.slow
def test_every_way_in_which_three_servers_cannot_dial() -> None:
    """Of all 64, those leave a leader that commits in which some server has a session with another."""
    for mask in range(cuts.mask_count(3)):
        world = _world(seed=mask)
        places = sorted(world.members)
        links = [(places[a], places[b]) for a, b in cuts.cut_links(3, mask)]
        _sessions(world).cut_dials(links)
        _pass(world, 5 * TIMEOUT_MS)
        apart = {frozenset(link) for link in links if (link[1], link[0]) in links}
        if len(apart) < 3:
            assert _write(world), f"mask {mask:#x}"
        world.context.network.heal(tuple(places))
        world.converge(frozenset(places))


def test_half_open_session_is_noticed_and_dialled_anew() -> None:
    """A process that dies behind a cut says nothing; silence, or its next process, does."""
    world = _world()
    follower = _followers(world)[0]
    others = [member.server_id for member in world.members.values() if member is not follower]
    links = [(follower.server_id, other) for other in others]
    world.context.network.cut(links)
    follower.crash("killed")
    _pass(world, 2 * TIMEOUT_MS)
    assert world.context.reached["session: half-open until somebody noticed"] == 2
    world.context.network.mend(links)
    follower.start()
    _pass(world, TIMEOUT_MS)
    assert all(_sessions(world).stands(follower.server_id, other) for other in others)
    world.converge(frozenset(world.members))


def test_what_a_short_cut_held_comes_in_order_after_it() -> None:
    """Nothing is lost on a session that stands: a stream sends again what was not acknowledged."""
    world = _world()
    leader, (follower, other) = _leader(world), _followers(world)
    link = (leader.server_id, follower.server_id)
    assert _write(world)
    world.context.network.cut([link])
    assert _write(world)
    assert follower.log.last_index < other.log.last_index
    world.context.network.mend([link])
    _pass(world, 20)
    assert follower.log.last_index == other.log.last_index
    assert world.context.reached["session: what a cut held came after all"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_follower_behind_64_kbit_costs_no_election_and_catches_up(seed: int) -> None:
    """Control overtakes entries, and what was sent once is not sent again: the link has room for nothing twice."""
    world = _world(seed=seed, queue_bytes_max=1 << 20)
    leader, (thin, _) = _leader(world), _followers(world)
    terms, asked = _terms(world), world.context.reached["became pre-candidate"]
    _sessions(world).bandwidth[leader.server_id, thin.server_id] = THIN_BYTES_PER_S
    for _ in range(8):
        assert _write(world, b"x" * 4_000)
        _pass(world, TIMEOUT_MS // 4)
    assert world.context.reached["link: control overtook entries"]
    assert world.context.reached["link: entries waited for an election timeout"]
    # 32 kB take 4 s, and as much again is for what the link carries beside them.
    world.advance(
        world.context.scheduler.now_ms + 8_000, lambda: thin.position.index == world.context.checkers.committed_index
    )
    assert thin.position.index == world.context.checkers.committed_index
    assert _terms(world) == terms
    assert world.context.reached["became pre-candidate"] == asked


@pytest.mark.parametrize("seed", range(4))
def test_follower_that_comes_back_behind_64_kbit_is_sent_nothing_twice(seed: int) -> None:
    """It is probed while a large message to it is under way: the question is repeated, not the entries."""
    world = _world(seed=seed, queue_bytes_max=1 << 20)
    leader, (thin, _) = _leader(world), _followers(world)
    terms = _terms(world)
    thin.crash("killed")
    for _ in range(6):
        assert _write(world, b"x" * 4_000)
    _sessions(world).bandwidth[leader.server_id, thin.server_id] = THIN_BYTES_PER_S
    thin.start()
    world.advance(
        world.context.scheduler.now_ms + 8_000, lambda: thin.position.index == world.context.checkers.committed_index
    )
    assert thin.position.index == world.context.checkers.committed_index
    assert _write(world)
    _pass(world, 1_000)
    assert thin.position.index == world.context.checkers.committed_index, "nothing is left in the queue before it"
    assert _terms(world) == terms


@pytest.mark.parametrize("seed", range(4))
def test_followers_apply_a_write_right_behind_the_leader(seed: int) -> None:
    """Of a cluster at rest: no heartbeat is waited for, with which an idle leader would tell the commit anyway."""
    world = _world(seed=seed)
    for _ in range(5):
        assert _write(world)
        index = world.context.checkers.committed_index
        _pass(world, cuts.options(3, seed).heartbeat_interval_ms // 4)
        assert {member.position.index for member in world.members.values()} == {index}
        _pass(world, TIMEOUT_MS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_laggards_are_fed_without_a_pause_of_heartbeats(seed: int) -> None:
    """A leader that reads the log from disk for two of five at once, a millisecond for each KiB, beats in between."""
    world = _world(5, seed, read_us_per_kib=1000, log_tail_bytes_max=4096)
    laggards = _followers(world)[:2]
    for laggard in laggards:
        laggard.crash("killed")
    for _ in range(40):
        assert _write(world, b"x" * 20_000)
    terms, asked = _terms(world), world.context.reached["became pre-candidate"]
    for laggard in laggards:
        laggard.start()
    _pass(world, 20 * TIMEOUT_MS)
    assert {member.position.index for member in laggards} == {world.context.checkers.committed_index}
    assert _terms(world) == terms
    # A laggard may ask once, as it comes back: it reaches a majority before it hears the leader.
    assert world.context.reached["became pre-candidate"] <= asked + len(laggards)


@pytest.mark.slow
@pytest.mark.parametrize(("holds", "elections"), [(False, 0), (True, 1)])
def test_stalled_sync_on_the_loop_delays_heartbeats(*, holds: bool, elections: int) -> None:
    """A loop that waits for its disk does not beat: the cluster elects another, and no write is lost."""
    world = _world(sync_holds_loop=holds)
    terms = _terms(world)
    leader = _leader(world)
    leader.disk.extra_sync_us = 20_000_000
    _write(world)
    _pass(world, 3 * TIMEOUT_MS)
    assert bool(_terms(world) - terms) == bool(elections)
    leader.disk.extra_sync_us = 0
    _pass(world, 20_000)
    world.converge(frozenset(world.members))


@pytest.mark.slow
def test_a_seed_on_sessions_plays_the_same_run_twice() -> None:
    """Dials, queues and held frames are of the seed, too."""
    seed = next(seed for seed in seeds_of(1, 20) if draw_options(seed).sessions and draw_options(seed).servers == 3)
    options = dataclasses.replace(draw_options(seed), safety_ms=20_000)
    first, second = (run_seed(seed, options=options) for _ in range(2))
    assert first.trace_hash == second.trace_hash
    assert first.messages == second.messages
    assert first.messages["sessions"] > 3
