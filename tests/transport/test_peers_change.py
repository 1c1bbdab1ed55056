"""Peers come, move and are removed while sessions stand."""

import dataclasses
from typing import Final

from kvraft.metrics import Metrics
from kvraft.peer_frames import PeerHello
from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from tests.transport import support

FOUNDING: Final = b"of this history."


def _of_history(member_id: int) -> PeerHello:
    return dataclasses.replace(support.hello(member_id), founding=FOUNDING)


async def test_a_removed_peer_is_told_on_its_session_and_at_every_later_greeting() -> None:
    """It need not dial to hear of it, and hears it again from whomever it asks."""
    async with support.cluster(3) as (first, second, third):
        first.local.removed = {3}
        first.transport.set_peers({2: (support.url(second.transport.ports[0]),)})
        await third.events.until(lambda events: events.refused)
        assert third.events.refused[0] == (1, "you were removed", True)
        assert third.events.connected == {2}
        assert first.events.connected == {2}
        await third.events.until(lambda events: len(events.refused) > 1)
        assert set(third.events.refused) == {(1, "you were removed", True)}
        assert first.events.refused == []


async def test_a_removed_peer_that_no_list_had_is_told_as_well() -> None:
    """It was accepted as one of this history that was not known yet, and is known now: as one that was removed."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    first = support.make_peer(1, {1: port_of[1]}, local=support.Local(_of_history(1)))
    second = support.make_peer(2, port_of, local=support.Local(_of_history(2)))
    async with support.running(first), support.running(second):
        await first.events.until(lambda events: events.connected == {2})
        first.transport.set_peers({})
        assert first.transport.is_connected(2), "still not known"
        first.local.removed = {2}
        first.transport.set_peers({})
        await second.events.until(lambda events: events.refused)
        assert second.events.refused[0] == (1, "you were removed", True)
    reservation.release()


async def test_a_peer_of_this_history_is_accepted_before_it_is_known() -> None:
    """A member that lags behind, or has no state at all yet, hears a leader that was added since."""
    for own_founding in (FOUNDING, b""):
        reservation = ports.reserve(2)
        port_of = dict(enumerate(reservation.ports, start=1))
        own = dataclasses.replace(support.hello(1), founding=own_founding)
        behind = support.make_peer(1, {1: port_of[1]}, local=support.Local(own))
        leader = support.make_peer(2, port_of, local=support.Local(_of_history(2)))
        async with support.running(behind), support.running(leader):
            await leader.events.until(lambda events: events.connected == {1})
            leader.transport.send(1, (Heartbeat(3, 0, 5, 1),))
            await behind.events.until(lambda events: events.frames)
            behind.transport.send(2, (Heartbeat(3, 0, 5, 2),))
            await leader.events.until(lambda events: events.frames)
            # Once it is known it is dialled like any other, and the session stands.
            behind.transport.set_peers({2: (support.url(port_of[2]),)})
            assert behind.transport.is_connected(2)
        reservation.release()


async def test_a_stranger_without_a_history_is_refused_until_it_is_known() -> None:
    """It may be anybody with the same settings."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    member = support.make_peer(1, {1: port_of[1]}, local=support.Local(_of_history(1)))
    joiner = support.make_peer(2, port_of)
    async with support.running(member), support.running(joiner):
        await joiner.events.until(lambda events: events.refused)
        member_id, detail, fatal = joiner.events.refused[0]
        assert (member_id, fatal) == (1, False)
        assert "does not know member 2" in detail
        member.transport.set_peers({2: (support.url(port_of[2]),)})
        await joiner.events.until(lambda events: events.connected == {1})
    reservation.release()


async def test_a_peer_without_urls_is_welcome_and_not_dialled() -> None:
    """Where it is to be found is not known, or no longer."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    first, second = support.make_peer(1, {1: port_of[1]}), support.make_peer(2, port_of)
    first.transport.set_peers({2: ()})
    async with support.running(first), support.running(second):
        await first.events.until(lambda events: events.connected == {2})
        assert first.transport._diallers == {}
    reservation.release()


async def test_a_peer_that_moves_is_dialled_at_its_new_address() -> None:
    """The session that was dialled to the old one ends, and the process there can come to us as long as it runs."""
    reservation = ports.reserve(3)
    port_of = {1: reservation.ports[0], 2: reservation.ports[1]}
    first = support.make_peer(1, port_of)
    old, new = (support.make_peer(2, {2: port}) for port in reservation.ports[1:])
    for peer in (old, new):
        peer.transport.set_peers({1: ()})
    async with support.running(first), support.running(old):
        await first.events.until(lambda events: events.connected == {2})
        first.transport.set_peers({2: (support.url(reservation.ports[2]),)})
        await old.events.until(lambda events: events.disconnects == 1)
        assert first.events.connected == set()
        async with support.running(new):
            await first.events.until(lambda events: events.connected == {2})
            await new.events.until(lambda events: events.connected == {1})
            assert old.events.connected == set()
    reservation.release()


async def test_a_removal_is_told_behind_what_is_on_its_way() -> None:
    """The connections are closed and not cut: what stood in their buffers arrives, and then the last word."""
    async with support.cluster(2) as (first, second):
        first.transport.send(2, [support.append(support.entries(1, 100_000))])
        first.local.removed = {2}
        first.transport.set_peers({})
        await second.events.until(lambda events: events.refused)
        assert len(second.events.frames) <= 1
        assert second.events.disconnects == 1


async def test_figures_of_a_peer_go_with_it() -> None:
    """/metrics has the peers of the day."""
    async with support.cluster(3) as (first, second, _third):
        metrics = Metrics()
        metrics.before_scrape.append(lambda: first.transport.measure(metrics))
        first.transport._reports.round_trips.saw(3, 1)
        assert b'etcd_network_peer_round_trip_time_seconds_count{To="3"} 1.0' in metrics.render()
        first.transport.set_peers({2: (support.url(second.transport.ports[0]),)})
        for _ in range(2):
            page = metrics.render()
            assert b'To="2"' in page
            for gone in (b'To="3"', b'From="3"', b'Remote="3"'):
                assert gone not in page
