"""The facade: `PeerTransport`, which a member sees as its `Transport`."""

import asyncio
import itertools
import random
import secrets
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import final

from kvraft import clock, logs
from kvraft.metrics import Metrics
from kvraft.peer_frames import Frame, TransportEvents
from kvraft.raft.restored import SnapshotFile
from kvraft.transport.arrivals import Arrivals
from kvraft.transport.calls import Calls
from kvraft.transport.connection import Connection, Pulse
from kvraft.transport.dialler import Dialler
from kvraft.transport.doorway import Doorway
from kvraft.transport.handshake import INSTANCE_BYTES, Gate
from kvraft.transport.interfaces import LocalMember, PeerPages, PeerTls, SnapshotSink
from kvraft.transport.links import Links
from kvraft.transport.names import Names, target_of
from kvraft.transport.reports import Reports
from kvraft.transport.session import Session, Wiring
from kvraft.transport.settings import TransportSettings
from kvraft.transport.snapshots import Snapshots

_log = logs.get(__name__)


@final
class PeerTransport:
    """Sessions with the peers. Made on any thread, used on the event loop that `start` runs on."""

    def __init__(
        self,
        member_id: int,
        listen_addresses: Sequence[str],
        peers: Mapping[int, Sequence[str]],
        local: LocalMember,
        pages: PeerPages,
        snapshot_sink: SnapshotSink,
        settings: TransportSettings | None = None,
        *,
        name_of: Callable[[int], str] | None = None,
        names: Names | None = None,
        rng: random.Random | None = None,
        tls: PeerTls | None = None,
        tls_addresses: Collection[str] = (),
    ) -> None:
        """A transport that has not started.

        Args:
            member_id: This member.
            listen_addresses: `host:port` each; port 0 takes a free one.
            peers: The other members and their peer URLs, as in `set_peers`. This member may be among them.
            local: Greets and judges for this member.
            pages: What HTTP on the peer port shows.
            snapshot_sink: Where snapshots from peers go.
            settings: Limits and times.
            name_of: A peer's name for the log.
            names: Looks hosts up.
            rng: For the jitter of reconnects.
            tls: For https URLs of peers, and for `tls_addresses`.
            tls_addresses: Those of `listen_addresses` where TLS is spoken, and nothing else.
        """
        self.member_id = member_id
        self.ports: tuple[int, ...] = ()
        """Where it listens, once started, in the order of `listen_addresses`."""
        self._addresses = tuple(listen_addresses), frozenset(tls_addresses)
        self._settings = settings or TransportSettings()
        self._names = names or Names()
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, no secret
        self._next_session = partial(next, itertools.count(1))
        self._diallers: dict[int, Dialler] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._is_running = False
        self._retiring: asyncio.TimerHandle | None = None
        self._gate = Gate(local, secrets.token_bytes(INSTANCE_BYTES))
        self._reports = Reports(name_of or "{:x}".format, lambda: local.local_hello().last_log_index, local.voters)
        self._pulse = Pulse(self._settings.silence_ms)
        self._links: Links[Session] = Links(
            member_id, clock.monotonic_ms, self._on_connected, self._on_disconnected, self._reports.session_ended
        )
        self._wiring = Wiring(
            self._settings,
            self._gate,
            self._reports,
            self._pulse,
            self._links,
            lambda peer, word: self._snapshots.hear(peer, word),  # noqa: PLW0108 -- it is made below
            tls,
        )
        self._snapshots = Snapshots(self._wiring, snapshot_sink, self._diallers)
        self._calls = Calls(local, self._settings.idle_call_ms)
        self._doorway = Doorway(
            Arrivals(self._wiring, self._snapshots.take),
            pages,
            self._calls,
            self._reports,
            lambda: Connection(self._reports, self._settings, self._pulse),
            self._settings,
        )
        self.set_peers(peers)

    async def start(self, events: TransportEvents) -> None:
        """Listen and begin to connect.

        Raises:
            ListenError: an address is taken or not ours.
        """
        self.ports = await self._doorway.open(*self._addresses)
        self._reports.events = events
        self._is_running = True
        self._pulse.start()
        self._retire_redundant()
        self._reports.round_trips.start(self._urgent_sockets)
        for dialler in self._diallers.values():
            self._dial(dialler)

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Replace the set of peers: those that left are told so and disconnected, those that came or moved are dialled.

        A peer without URLs is not dialled, and welcome when it comes.

        Raises:
            ValueError: an URL is not of the form http://host:port.
        """
        wanted = {member_id: tuple(urls) for member_id, urls in peers.items() if member_id != self.member_id}
        for urls in wanted.values():
            for url in urls:
                target_of(url)
        left = self._gate.members.difference(wanted)
        self._gate.members = self._reports.peers = frozenset(wanted)
        self._gate.urls = wanted
        for member_id, dialler in list(self._diallers.items()):
            if wanted.get(member_id) != dialler.urls:
                self._give_up(dialler, moved=member_id in wanted)
        for member_id in {*left, *self._links.peers()}.difference(wanted):
            refusal = self._gate.removal(member_id)
            if refusal is not None or member_id in left:
                self._links.forget(member_id, refusal)
        for member_id, urls in wanted.items():
            if urls and member_id not in self._diallers:
                self._take_up(member_id, urls)

    def _give_up(self, dialler: Dialler, *, moved: bool) -> None:
        """Dial no more at these addresses, where nobody is to be any more."""
        member_id = dialler.member_id
        del self._diallers[member_id]
        dialler.give_up()
        dialling = self._dialling.pop(member_id, None)
        if dialling is not None:
            dialling.cancel()
        if moved:
            for session in self._links.sessions(member_id):
                if session.dialled_here:
                    session.end("it has moved to another address")

    def _take_up(self, member_id: int, urls: Sequence[str]) -> None:
        """Dial at these addresses from now on; a session that there is goes on for as long as it lives."""
        is_second = member_id < self.member_id
        dialler = Dialler(
            member_id, urls, self._wiring, self._names, self._next_session, self._rng, is_second=is_second
        )
        self._diallers[member_id] = dialler
        session = self._links.current(member_id)
        if session is not None:
            dialler.connected(dialled_here=session.dialled_here)
        if self._is_running:
            self._dial(dialler)

    def _dial(self, dialler: Dialler) -> None:
        task = asyncio.create_task(dialler.run(), name=f"peer {dialler.member_id:x}")
        self._dialling[dialler.member_id] = task
        task.add_done_callback(lambda task: self._on_dialling_ended(dialler, task))

    def _on_dialling_ended(self, dialler: Dialler, task: asyncio.Task[None]) -> None:
        """It must live as long as the peer is one: whatever ended it, it begins anew."""
        error = None if task.cancelled() else task.exception()
        if self._dialling.get(dialler.member_id) is task and self._is_running:
            peer = self._reports.name(dialler.member_id)
            _log.error("dialling a peer ended by itself and begins anew", peer=peer, error=repr(error))
            self._dial(dialler)
        if isinstance(error, Exception):
            self._reports.bug(error)

    def _urgent_sockets(self) -> Iterator[tuple[int, socket.socket]]:
        for member_id in self._reports.peers:
            session = self._links.current(member_id)
            if session is not None and session.urgent.is_open:
                yield member_id, session.urgent.transport.get_extra_info("socket")

    def _retire_redundant(self) -> None:
        """Of two sessions with a peer, one goes once both have stood for long enough to be whole."""
        self._retiring = asyncio.get_running_loop().call_later(self._settings.silence_ms / 1000, self._retire_redundant)
        for session in self._links.redundant(2 * self._settings.silence_ms):
            session.retire()

    def send(self, to_member: int, frames: Sequence[Frame]) -> None:
        """Send frames; what does not fit the bounded queue is dropped, and `on_dropped` says so a moment later."""
        session = self._links.current(to_member)
        dropped = frames if session is None else session.send(frames)
        if dropped:
            self._reports.unsent(to_member, dropped)

    def measure(self, metrics: Metrics) -> None:
        """Copy what was counted to the page that is being made."""
        self._reports.measure(metrics, self.member_id, self.is_connected)

    def is_connected(self, member_id: int) -> bool:
        """Whether frames sent now have a session to leave on, and their answers to come back on."""
        return self._links.current(member_id) is not None

    def newest_protocol(self, member_id: int) -> int:
        """What a peer has said that it speaks; 0 if it has not been heard yet."""
        return self._gate.spoken.get(member_id, 0)

    def send_snapshot(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        """Stream a spool file to a peer, resuming what it already has; `done(False)` if it failed.

        One transfer a peer: another one while it lasts fails at once (`done` is never called from here).
        """
        self._snapshots.send(to_member, term, snapshot, done)

    async def stop(self) -> None:
        """End sessions and the listener. No event is reported any more."""
        self._reports.events = None
        self._is_running = False
        self._pulse.stop()
        self._reports.round_trips.stop()
        if self._retiring is not None:
            self._retiring.cancel()
        self._doorway.close()
        tasks = list(self._dialling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._snapshots.stop()
        self._links.end_all("this member stops")
        await self._calls.stop()

    def _on_connected(self, member_id: int, address: str) -> None:
        dialler, session = self._diallers.get(member_id), self._links.current(member_id)
        if dialler is not None and session is not None:
            dialler.connected(dialled_here=session.dialled_here)
        self._reports.connected(member_id, address)

    def _on_disconnected(self, member_id: int, reason: str) -> None:
        dialler = self._diallers.get(member_id)
        if dialler is not None:
            dialler.disconnected()
        self._reports.disconnected(member_id, reason)
