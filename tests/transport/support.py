"""Members that consist of a transport alone."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kvraft.peer_frames import Frame, GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.messages import AppendEntries, InstallSnapshot
from kvraft.raft.restored import SnapshotFile
from kvraft.records import MemberRecord
from kvraft.testing import ports
from kvraft.transport.settings import TransportSettings
from kvraft.transport.transport import PeerTransport

CLUSTER: Final = 0x1234
WAIT_S: Final = 10.0
"""Bound on every wait: far beyond what should happen, so that only a defect reaches it."""
QUICK: Final = TransportSettings(refused_backoff_ms=50, greeting_timeout_ms=500)
"""Short where a test would otherwise wait for a pause."""


@dataclass
class Local:
    """What a member says about itself, and what it thinks of others."""

    hello: PeerHello
    verdict: Callable[[PeerHello], GreetingRefused | None] = field(default=lambda _hello: None)

    def local_hello(self) -> PeerHello:
        return self.hello

    removed: set[int] = field(default_factory=set)

    def judge(self, hello: PeerHello, _instance: bytes) -> GreetingRefused | None:
        return self.removal(hello.member_id) or self.verdict(hello)

    def removal(self, member_id: int) -> GreetingRefused | None:
        return GreetingRefused(GreetingRefusalReason.REMOVED, "you were removed") if member_id in self.removed else None

    def voters(self) -> tuple[int, ...]:
        return ()


class Pages:
    """What HTTP shows of a member that is none."""

    cluster_id = CLUSTER

    def members(self) -> list[MemberRecord]:
        return [MemberRecord(1, "a", ("http://127.0.0.1:1",), ("http://127.0.0.1:2",))]

    def cluster_version(self) -> str:
        return "3.4.0"


class Events:
    """Records what the transport tells, and lets a test wait for a condition on it."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.messages: list[list[Frame]] = []
        """The same, by wake-up."""
        self.connected: set[int] = set()
        self.disconnects = 0
        self.sessions_ended = 0
        self.dropped: list[int] = []
        self.dropped_frames: list[Frame] = []
        self.refused: list[tuple[int, str, bool]] = []
        self.snapshots: list[tuple[int, InstallSnapshot]] = []
        self.react: Callable[[int, list[Frame]], None] | None = None
        self._changed = asyncio.Event()

    def on_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        batch = list(frames)
        self.frames.extend(batch)
        self.messages.append(batch)
        if self.react is not None:
            self.react(from_member, batch)
        self._changed.set()

    def on_connected(self, member_id: int) -> None:
        self.connected.add(member_id)
        self._changed.set()

    def on_session_ended(self, member_id: int) -> None:
        self.sessions_ended += 1

    def on_disconnected(self, member_id: int) -> None:
        self.connected.discard(member_id)
        self.disconnects += 1
        self._changed.set()

    def on_dropped(self, member_id: int, frames: Sequence[Frame]) -> None:
        self.dropped.append(member_id)
        self.dropped_frames += frames
        self._changed.set()

    def on_refused(self, member_id: int, refusal: GreetingRefused, *, fatal: bool) -> None:
        self.refused.append((member_id, refusal.detail, fatal))
        self._changed.set()

    def on_snapshot(self, from_member: int, snapshot: InstallSnapshot) -> None:
        self.snapshots.append((from_member, snapshot))
        self._changed.set()

    async def until(self, condition: Callable[["Events"], object]) -> None:
        """Return once the condition holds; it is looked at after every event."""
        async with asyncio.timeout(WAIT_S):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()


class NoSnapshots:
    """A sink for members that get none."""

    def receive(self, snapshot_id: str, size_bytes: int, /) -> "NoSpool":
        raise OSError("no room for snapshots here")


class NoSpool:
    """Never made; completes the interface."""

    offset = 0

    def write(self, offset: int, chunk: bytes, /) -> None:
        raise NotImplementedError

    def finish(self) -> SnapshotFile:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@dataclass
class Peer:
    """One member."""

    transport: PeerTransport
    events: Events
    local: Local


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def hello(member_id: int, cluster_id: int = CLUSTER) -> PeerHello:
    return PeerHello(cluster_id, member_id, current_term=3)


@asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[Peer]:
    """Start and stop one member."""
    await peer.transport.start(peer.events)
    try:
        yield peer
    finally:
        await peer.transport.stop()


def make_peer(
    member_id: int,
    port_of: dict[int, int],
    settings: TransportSettings = QUICK,
    local: Local | None = None,
    sink: object = None,
    **options: Any,
) -> Peer:
    """A member among those of `port_of`, not started."""
    local = local or Local(hello(member_id))
    peers = {other: (url(port),) for other, port in port_of.items()}
    transport = PeerTransport(
        member_id,
        (address(port_of[member_id]),),
        peers,
        local,
        Pages(),
        NoSnapshots() if sink is None else sink,  # type: ignore[arg-type]  # tests pass their own
        settings,
        rng=random.Random(member_id),
        **options,
    )
    return Peer(transport, Events(), local)


@asynccontextmanager
async def cluster(count: int, settings: TransportSettings = QUICK) -> AsyncIterator[list[Peer]]:
    """Members 1 to `count`, all connected to each other."""
    reservation = ports.reserve(count)
    port_of = dict(enumerate(reservation.ports, start=1))
    peers = [make_peer(member_id, port_of, settings) for member_id in port_of]
    if count == 1:  # A member that knows another, which a test plays by hand.
        peers[0].transport._gate.members = frozenset({2})
    try:
        for peer in peers:
            await peer.transport.start(peer.events)
        for peer in peers:
            await peer.events.until(lambda events: len(events.connected) == count - 1)
        yield peers
    finally:
        for peer in peers:
            await peer.transport.stop()
        reservation.release()


def entries(count: int, payload_bytes: int, first: int = 1, term: int = 3) -> list[Entry]:
    """Consecutive entries behind an empty log (or behind a zero hash at `first - 1`)."""
    made = []
    chain_hash = ZERO_HASH
    for index in range(first, first + count):
        entry = make_entry(chain_hash, index, term, EntryKind.COMMAND, 1000 + index, b"p" * payload_bytes)
        made.append(entry)
        chain_hash = entry.chain_hash
    return made


def append(batch: list[Entry], leader_commit: int = 0) -> AppendEntries:
    """An AppendEntries that carries a batch."""
    first = batch[0].index
    prev_term = 0 if first == 1 else batch[0].term
    return AppendEntries(batch[0].term, first - 1, prev_term, ZERO_HASH, batch, leader_commit, batch[-1].clock_ms)
