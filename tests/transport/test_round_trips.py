"""What the kernel knows of a connection, beside what a peer's answer takes."""

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest

from kvraft.metrics import Metrics
from kvraft.transport import round_trips
from kvraft.transport.round_trips import RoundTrips, round_trip_us
from tests.transport import support


def test_kernel_has_measured_a_connection_that_stands() -> None:
    """Well below a second on this host; the handshake is the first round trip."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        assert 0 < round_trip_us(client) < 1_000_000


def test_each_peer_has_its_buckets_and_they_go_with_it() -> None:
    """Up to the end of a bucket belongs to it; those of a peer that left are not there when it comes back."""
    seen, metrics = RoundTrips(), Metrics()
    for us in (100, 101, 5_000_000):
        seen.saw(0xB, us)
    seen.saw(2, 7)
    seen.show(metrics, (2, 0xB))
    page = metrics.render().decode()
    name = "etcd_network_peer_round_trip_time_seconds"
    for line in ('bucket{To="b",le="0.0001"} 1.0', 'bucket{To="b",le="0.0002"} 2.0', 'bucket{To="b",le="+Inf"} 3.0'):
        assert f"{name}_{line}\n" in page
    assert f'{name}_sum{{To="b"}} 5.000201\n' in page
    seen.show(metrics, (2,))
    seen.show(metrics, (2, 0xB))
    assert 'To="b"' not in metrics.render().decode()


async def test_peers_with_a_session_are_looked_at_and_a_stop_ends_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has none is passed over."""
    monkeypatch.setattr(round_trips, "EVERY_S", 0.01)
    looked_at, ended = asyncio.Event(), socket.socket()
    ended.close()
    async with support.cluster(2) as (first, _):
        [(peer, connected)] = first.transport._urgent_sockets()

        def seen() -> Iterator[tuple[int, socket.socket]]:
            yield 3, ended
            yield peer, connected
            looked_at.set()

        looks = RoundTrips()
        looks.start(seen)
        looked_at.clear()
        async with asyncio.timeout(support.WAIT_S):
            await looked_at.wait()
        looks.stop()
        metrics = Metrics()
        looks.show(metrics, (2, 3))
        page = metrics.render().decode()
        count = re.search(r'etcd_network_peer_round_trip_time_seconds_count{To="2"} (\d+)', page)
        assert count is not None
        assert int(count[1]) >= 2
        assert 'To="3"' not in page
