"""Links that are slow or lose a part, for a while or for good: what is asked of the cluster then."""

import dataclasses

import pytest

from kvraft.keyspace.commands import Set
from tests.simulation import cuts
from tests.simulation.world import World

TIMEOUTS = 60
"""Election timeouts that are watched; in each of them one write is asked for."""


def _watch(*, latency_us: int = 500, jitter_us: int = 0, loss_per_mille: int = 0, seed: int = 1) -> tuple[int, int]:
    """Spoil every link of a settled cluster; (writes committed meanwhile, changes of leader). Ends healed and whole."""
    world = World(dataclasses.replace(cuts.options(3, seed), in_order=False), ())
    for member in world.members.values():
        member.start()
    timeout_ms = cuts.ELECTION_TIMEOUT_MS
    assert world.advance(20 * timeout_ms, lambda: cuts.leading(world) is not None)
    world.advance(world.context.scheduler.now_ms + 2 * timeout_ms)
    terms = len(world.context.checkers.leaders)
    network = world.context.network
    network.loss_per_mille = loss_per_mille
    network.latency_us, network.jitter_us = latency_us, jitter_us
    before = world.context.history.acknowledged
    for _ in range(TIMEOUTS):
        leader = cuts.leading(world)
        if leader is not None:
            world.workload.write(leader, Set(b"/k0", b"v"))
        world.advance(world.context.scheduler.now_ms + timeout_ms)
    committed = world.context.history.acknowledged - before
    changes = len(world.context.checkers.leaders) - terms
    network.latency_us, network.jitter_us = 500, 0
    network.heal(tuple(sorted(world.members)))
    world.converge(frozenset(world.members))
    return committed, changes


@pytest.mark.parametrize("seed", range(2))
def test_leader_stays_while_round_trips_are_below_a_tenth_of_the_election_timeout(seed: int) -> None:
    """10 to 14 ms each way, with 300 ms: every write is committed, and nobody wants an election."""
    assert _watch(latency_us=10_000, jitter_us=4_000, seed=seed) == (TIMEOUTS, 0)


@pytest.mark.parametrize("seed", range(2))
def test_links_ten_times_slower_than_heartbeats_break_nothing(seed: int) -> None:
    """0.5 to 1.5 s each way: elections come to nothing, the checkers see one leader a term, and healing ends it."""
    _watch(latency_us=500_000, jitter_us=1_000_000, seed=seed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("loss_per_mille", "share"), [(10, 0.95), (200, 0.5), (500, 0.0)])
def test_writes_go_on_while_messages_are_lost(loss_per_mille: int, share: float, seed: int) -> None:
    """Up to a fifth of all messages; at a half only safety is asked for."""
    committed, _ = _watch(loss_per_mille=loss_per_mille, seed=seed)
    assert committed >= share * TIMEOUTS
