"""How long a round trip to each peer takes, as the kernel has measured it on the session's urgent lane (TCP_INFO).

etcd asks its peers over HTTP every 4 s for this. The kernel knows it from every acknowledgement, so nothing is sent,
and no message costs anything: each session is looked at as often as etcd asks.
"""

import asyncio
import bisect
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final, final

from kvraft.metrics import ROUND_TRIP_BUCKETS, Metrics

EVERY_S: Final = 4.0
"""etcd's (v3.4.23 etcdserver/api/rafthttp/probing_status.go, `proberInterval`)."""
_RTT_US: Final = struct.Struct("=68xI")
"""Where `tcpi_rtt` stands in struct tcp_info (linux/tcp.h), in microseconds."""


def round_trip_us(connected: socket.socket) -> int:
    """What the kernel has smoothed over the last round trips of a TCP connection.

    Raises:
        OSError: it has ended.
    """
    (found,) = _RTT_US.unpack(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_US.size))
    return int(found)


@final
class RoundTrips:
    """What was seen of each peer."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}
        """By peer: how many fell into each bucket, and beyond the last."""
        self._sums_us: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, connected: Callable[[], Iterable[tuple[int, socket.socket]]]) -> None:
        """Look at these, each of a peer, now and every few seconds."""
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.start, connected)
        for peer, connection in connected():
            with contextlib.suppress(OSError):  # it has ended, and its session does not know yet
                self.saw(peer, round_trip_us(connection))

    def stop(self) -> None:
        """No look after this."""
        if self._timer is not None:
            self._timer.cancel()

    def saw(self, peer: int, us: int) -> None:
        """A round trip took so long."""
        counts = self._counts.setdefault(peer, [0] * (len(ROUND_TRIP_BUCKETS) + 1))
        counts[bisect.bisect_left(ROUND_TRIP_BUCKETS, us / 1e6)] += 1
        self._sums_us[peer] = self._sums_us.get(peer, 0) + us

    def show(self, metrics: Metrics, peers: Iterable[int]) -> None:
        """Copy what was seen of these peers, and forget the others."""
        kept = self._counts.keys() & set(peers)
        self._counts = {peer: self._counts[peer] for peer in kept}
        self._sums_us = {peer: self._sums_us[peer] for peer in kept}
        metrics.peer_round_trips.replace(
            {(f"{peer:x}",): (self._counts[peer], self._sums_us[peer] / 1e6) for peer in sorted(kept)}
        )
