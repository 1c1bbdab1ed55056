"""What the composition root meets: addresses, settings, starting and stopping."""

import asyncio

import pytest

from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from kvraft.transport.listening import ListenError
from kvraft.transport.names import target_of
from kvraft.transport.transport import PeerTransport
from tests.transport import support


async def test_a_taken_peer_port_is_named() -> None:
    """Two processes never share a port, each with half of the streams."""
    async with support.cluster(1) as (member,):
        port = member.transport.ports[0]
        second = support.make_peer(1, {1: port})
        with pytest.raises(ListenError) as caught:
            await second.transport.start(second.events)
        assert f"127.0.0.1:{port}" in str(caught.value)


async def test_a_member_listens_on_several_addresses() -> None:
    """Bare kvraft has the peer ports 2380 and 7001; port 0 takes a free one."""
    local = support.Local(support.hello(1))
    addresses = (support.address(0), support.address(0))
    first = PeerTransport(
        1, addresses, {2: (support.url(1),)}, local, support.Pages(), support.NoSnapshots(), support.QUICK
    )
    await first.start(support.Events())
    try:
        assert len(set(first.ports)) == 2
        for port in first.ports:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
    finally:
        await first.stop()


async def test_a_peer_is_reached_under_the_second_of_its_urls() -> None:
    """URLs are tried in turn."""
    reservation = ports.reserve(3)
    port_of = {1: reservation.ports[0], 2: reservation.ports[1]}
    first, second = support.make_peer(1, port_of), support.make_peer(2, port_of)
    nobody = support.url(reservation.ports[2])
    first.transport.set_peers({2: (nobody, support.url(port_of[2]))})
    async with support.running(first), support.running(second):
        await first.events.until(lambda events: events.connected == {2})
        first.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        await second.events.until(lambda events: events.frames)
    reservation.release()


async def test_a_stopped_transport_reports_nothing_and_frees_its_port() -> None:
    """The member is gone by then, and the next process wants the port."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    first, second = support.make_peer(1, port_of), support.make_peer(2, port_of)
    async with support.running(second):
        async with support.running(first):
            for peer in (first, second):
                await peer.events.until(lambda events: events.connected)
        assert first.events.disconnects == 0
        assert ports.is_free(port_of[1])
        await second.events.until(lambda events: events.disconnects == 1)
    reservation.release()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:2380", ("127.0.0.1", 2380)),
        ("https://node-1.example:2380/", ("node-1.example", 2380)),
        ("http://[::1]:2380", ("::1", 2380)),
    ],
)
def test_peer_urls_become_targets(url: str, target: tuple[str, int]) -> None:
    """The form that etcd's flags have."""
    assert target_of(url) == target


@pytest.mark.parametrize("url", ["127.0.0.1:2380", "http://127.0.0.1", "unix:///tmp/x", "http://:2380", ""])
def test_what_is_no_peer_url_is_refused_when_peers_are_set(url: str) -> None:
    """Before anything is dialled."""
    transport = PeerTransport(1, (), {}, support.Local(support.hello(1)), support.Pages(), support.NoSnapshots())
    with pytest.raises(ValueError, match="peer URL"):
        transport.set_peers({2: (url,)})
