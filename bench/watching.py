"""Many who wait: events to 500 streams, and 5,000 long polls that hear nothing and then all the same.

The clients are one thread on epoll that does no more with an event than to count it; what CPU it takes itself is
shown, so that whoever reads a figure sees whether it was the limit.
"""

import contextlib
import os
import select
import socket
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Final, final

from bench.fill import is_whole
from bench.load import anonymous_mb, cpu_us, settle
from bench.measured import Measured
from bench.scale import SCALE
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

STREAMS: Final = 500
POLLS: Final = 5_000
WRITERS: Final = 8
WINDOW: Final = 32
"""Events that are written and not yet delivered to all; etcd drops a watcher that 100 wait for."""
EVENT: Final = b'"action"'
"""Once in each."""
WITHIN_S: Final = 30
HEAD_BYTES_MAX: Final = 65_536


def fan_out(cluster: Cluster, seconds: int) -> list[Measured]:
    """Events delivered a second to 500 stream watchers at the leader, all of them to every one."""
    return [deliveries(cluster, SCALE.count(STREAMS), seconds)]


def long_polls(cluster: Cluster, _seconds: int) -> list[Measured]:
    """Memory in MB that 5,000 idle long polls add to the leader, and the time in ms until all of them have an event."""
    leader = cluster.leader()
    members = [leader, *cluster.followers()]
    count = SCALE.count(POLLS)
    target = "/v2/keys/polled?wait=true"
    leader.http("PUT", "/v2/keys/polled", form={"value": "0"})
    settle(members)
    before_mb = anonymous_mb(leader)
    with waiting(leader, target, count) as polls:
        settle(members)
        added_mb = anonymous_mb(leader) - before_mb
        used_us = sum(map(cpu_us, members))
        begun_ns = clock.monotonic_ns()
        with _Writer(leader) as writer:
            writer.write("/v2/keys/polled")
            heard = _Heard(polls)
            while heard.count < count:
                heard.wait()
            took_ms = (clock.monotonic_ns() - begun_ns) / 1e6
            each_us = (sum(map(cpu_us, members)) - used_us) / count
    shown = f"{1024 * added_mb / count:.1f} KiB each"
    return [Measured(max(added_mb, 0.01), shown), Measured(took_ms, f"{count} of them", each_us)]


def deliveries(cluster: Cluster, watchers: int, seconds: int) -> Measured:
    """Events a second to so many streams; the CPU is that of a delivery, the writes in it."""
    leader = cluster.leader()
    members = [leader, *cluster.followers()]
    with (
        contextlib.ExitStack() as stack,
        waiting(leader, "/v2/keys/watched?wait=true&recursive=true&stream=true", watchers) as streams,
    ):
        writers = [stack.enter_context(_Writer(leader)) for _ in range(WRITERS)]
        settle(members)
        heard = _Heard(streams, writers)
        used_us = sum(map(cpu_us, members))
        own_s = sum(os.times()[:2])
        begun_ns = clock.monotonic_ns()
        until_ns, written = begun_ns + seconds * 10**9, 0
        while True:
            going_on = clock.monotonic_ns() < until_ns
            if not going_on and heard.count == written * watchers:
                break
            for writer in writers:
                if going_on and not writer.is_busy and written * watchers - heard.count < WINDOW * watchers:
                    writer.write("/v2/keys/watched/key")
                    written += 1
            heard.wait()
        took_s = (clock.monotonic_ns() - begun_ns) / 1e9
        each_us = (sum(map(cpu_us, members)) - used_us) / heard.count
        own_share = (sum(os.times()[:2]) - own_s) / took_s
    detail = f"{written} events to {watchers}; the clients took {100 * own_share:.0f} % of a core"
    return Measured(heard.count / took_s, detail, each_us)


@contextlib.contextmanager
def waiting(member: Member, target: str, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that wait for a change; all are registered, as their heads have come.

    Raises:
        SystemExit: one was refused.
    """
    with contextlib.ExitStack() as stack:
        request = f"GET {target} HTTP/1.1\r\nHost: {member.client_url[7:]}\r\n\r\n".encode()
        sockets = []
        for _ in range(count):
            connection = stack.enter_context(_connected(member))
            connection.sendall(request)
            sockets.append(connection)
        for connection in sockets:
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(HEAD_BYTES_MAX)
                head += received
                if not received or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
                    sys.exit(f"bench: {member} refuses to wait: {head!r}")
            connection.setblocking(False)
        yield sockets


def _connected(member: Member) -> socket.socket:
    parts = urllib.parse.urlsplit(member.client_url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 0), timeout=WITHIN_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@final
class _Writer:
    """A connection that writes, one request at a time."""

    def __init__(self, member: Member) -> None:
        self.member: Final = member
        self.socket: Final = _connected(member)
        self.is_busy = False
        self._received = b""

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def write(self, target: str) -> None:
        """Send one; small enough to find room."""
        head = f"PUT {target} HTTP/1.1\r\nHost: {self.member.client_url[7:]}\r\n"
        head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1"
        self.socket.sendall(head.encode())
        self.is_busy = True

    def receive(self) -> None:
        """What there is of the answer.

        Raises:
            SystemExit: it is no success.
        """
        received = self.socket.recv(HEAD_BYTES_MAX)
        self._received += received
        if not received or (is_whole(self._received) and self._received[9:12] not in {b"200", b"201"}):
            sys.exit(f"bench: {self.member}: {self._received!r}")
        if is_whole(self._received):
            self._received, self.is_busy = b"", False


@final
class _Heard:
    """Counts events as they come."""

    def __init__(self, watchers: list[socket.socket], writers: "list[_Writer] | None" = None) -> None:
        self.count = 0
        self._watchers: Final = {watcher.fileno(): watcher for watcher in watchers}
        self._writers: Final = {writer.socket.fileno(): writer for writer in writers or []}
        self._ends = dict.fromkeys(self._watchers, b"")
        self._poll: Final = select.epoll()
        for descriptor in (*self._watchers, *self._writers):
            self._poll.register(descriptor, select.EPOLLIN)

    def wait(self) -> None:
        """Take what comes next.

        Raises:
            SystemExit: nothing does, or a watcher is left.
        """
        ready = self._poll.poll(WITHIN_S)
        if not ready:
            sys.exit(f"bench: no event for {WITHIN_S} s; {self.count} came")
        for descriptor, _what in ready:
            writer = self._writers.get(descriptor)
            if writer is not None:
                writer.receive()
                continue
            received = self._watchers[descriptor].recv(HEAD_BYTES_MAX)
            if not received:
                self._poll.unregister(descriptor)
                if not self._ends[descriptor].endswith(b"0\r\n\r\n"):
                    sys.exit(f"bench: a watcher was left; {self.count} events came")
                continue
            # The word may come in two pieces.
            both = self._ends[descriptor] + received
            self.count += both.count(EVENT)
            self._ends[descriptor] = both[-(len(EVENT) - 1) :]
