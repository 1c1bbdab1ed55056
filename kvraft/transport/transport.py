"""The facade: `GrpcTransport`, which a member sees as its `Transport`."""

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import final

import grpc
import grpc.aio

from kvraft import clock, logs
from kvraft.metrics import Metrics
from kvraft.peer_frames import Frame, Refusal, RefusalKind
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import SnapshotFile
from kvraft.transport.channels import channel_opener, new_server, target_of
from kvraft.transport.codec import WireError
from kvraft.transport.envelope import SnapshotHeader
from kvraft.transport.handshake import INSTANCE_BYTES, Gate
from kvraft.transport.interfaces import LocalMember, SnapshotSink, TransportEvents
from kvraft.transport.links import Links
from kvraft.transport.peer_stream import PeerStream
from kvraft.transport.repeats import Repeats
from kvraft.transport.servicer import Servicer
from kvraft.transport.settings import TransportSettings
from kvraft.transport.snapshot_stream import SnapshotReceiver, SnapshotSender
from kvraft.transport.traffic import Traffic

_log = logs.get(__name__)

_FATAL = frozenset({RefusalKind.WIPED, RefusalKind.SHORTER_LOG, RefusalKind.REMOVED})
"""Refusals that one peer's durable memory is enough for. WRONG_CLUSTER needs more, see `_is_fatal`."""


@final
class ListenError(Exception):
    """A peer address cannot be listened on. The text names it."""


@final
class GrpcTransport:
    """gRPC to the peers. Made on any thread, used on the event loop that `start` runs on."""

    def __init__(
        self,
        member_id: int,
        listen_addresses: Sequence[str],
        peers: Mapping[int, Sequence[str]],
        local: LocalMember,
        snapshot_sink: SnapshotSink,
        settings: TransportSettings | None = None,
        *,
        server_credentials: grpc.ServerCredentials | None = None,
        channel_credentials: grpc.ChannelCredentials | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """A transport that has not started.

        Args:
            member_id: This member.
            listen_addresses: `host:port` each; port 0 takes a free one.
            peers: The other members and their peer URLs, tried in turn. This member may be among them.
            local: Greets and judges for this member.
            snapshot_sink: Where snapshots from peers go.
            settings: Limits and times.
            server_credentials: TLS of the listener; None for plain text.
            channel_credentials: TLS of the connections to peers; None for plain text.
            rng: For the jitter of reconnects.
        """
        self.member_id = member_id
        self.ports: tuple[int, ...] = ()
        """Where it listens, once started, in the order of `listen_addresses`."""
        self._listen_addresses = tuple(listen_addresses)
        self._settings = settings or TransportSettings()
        self._server_credentials = server_credentials
        self._open_channel = channel_opener(self._settings, channel_credentials)
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, no secret
        self._sink = snapshot_sink
        self._instance = secrets.token_bytes(INSTANCE_BYTES)
        self._gate = Gate(local, self._instance)
        self._links = Links(self._report_connected, self._report_disconnected)
        self._peers: dict[int, PeerStream] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._dropped: dict[int, list[Frame]] = {}
        """By peer, what never left; reported once for all of this turn of the loop."""
        self._foreign: set[int] = set()
        """Peers that say this member belongs to another cluster."""
        self._events: TransportEvents | None = None
        self._server: grpc.aio.Server | None = None
        self._repeats = Repeats(clock.monotonic_ms)
        self._traffic = Traffic()
        self.set_peers(peers)

    async def start(self, events: TransportEvents) -> None:
        """Listen and begin to connect.

        Raises:
            ListenError: an address is taken or not ours.
        """
        self._events = events
        server = new_server(self._settings)
        servicer = Servicer(self._gate, self._links, self, self._settings)
        receiver = SnapshotReceiver(self._gate, self._sink, self, self._settings)
        server.add_generic_rpc_handlers((servicer.handler(receiver.serve),))
        self.ports = tuple(self._listen(server, address) for address in self._listen_addresses)
        await server.start()
        self._server = server
        for stream in self._peers.values():
            self._dial(stream)

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        try:
            if self._server_credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._server_credentials)
        except RuntimeError as error:
            raise ListenError(f"cannot listen for peers on {address}: {error}") from None

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Replace the set of peers: those that left are disconnected, those that came or moved are dialled.

        Raises:
            ValueError: an URL is not of the form http://host:port, or a peer has none.
        """
        wanted = {member_id: tuple(urls) for member_id, urls in peers.items() if member_id != self.member_id}
        for member_id, urls in wanted.items():
            if not urls:
                raise ValueError(f"peer {member_id:x} has no URL")
            for url in urls:
                target_of(url)
        for member_id, stream in list(self._peers.items()):
            if wanted.get(member_id) == stream.urls:
                continue
            del self._peers[member_id]
            dialling = self._dialling.pop(member_id, None)
            if dialling is not None:
                dialling.cancel()
            if member_id not in wanted:
                self._links.forget(member_id)
        self._gate.members = frozenset(wanted)
        for member_id, urls in wanted.items():
            if member_id not in self._peers:
                stream = PeerStream(member_id, urls, self._gate, self._open_channel, self, self._settings, self._rng)
                self._peers[member_id] = stream
                if self._server is not None:
                    self._dial(stream)

    def _dial(self, stream: PeerStream) -> None:
        task = asyncio.create_task(stream.run(), name=f"peer {stream.member_id:x}")
        task.add_done_callback(self._on_task_done)
        self._dialling[stream.member_id] = task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.on_bug(error)

    def send(self, to_member: int, frames: Sequence[Frame]) -> None:
        """Queue frames; what does not fit the bounded queue is dropped, and `on_dropped` says so a moment later."""
        stream = self._peers.get(to_member)
        dropped = frames if stream is None else stream.send(frames)
        if dropped:
            self.on_unsent(to_member, dropped)

    def measure(self, metrics: Metrics) -> None:
        """Copy what was counted to the page that is being made."""
        traffic, local = self._traffic, f"{self.member_id:x}"
        for member_id in self._peers:
            label = f"{member_id:x}"
            metrics.peer_sent_bytes.set(traffic.sent_bytes[member_id], label)
            metrics.peer_received_bytes.set(traffic.received_bytes[member_id], label)
            metrics.peer_sent_failures.set(traffic.dropped[member_id], label)
            metrics.active_peers.labels(local, label).set(int(self.is_connected(member_id)))

    def is_connected(self, member_id: int) -> bool:
        """Whether frames sent now have a stream to leave on, and their answers one to come back on."""
        return self._links.is_connected(member_id)

    def send_snapshot(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        """Stream a spool file to a peer, resuming what it already has; `done(False)` if it failed.

        One transfer a peer: another one while it lasts fails at once (`done` is never called from here).
        """
        loop = asyncio.get_running_loop()
        stream = self._peers.get(to_member)
        if stream is None or to_member in self._sending:
            loop.call_soon(done, False)
            return
        header = SnapshotHeader(snapshot.snapshot_id, snapshot.size_bytes, snapshot.position.index, term)
        sender = SnapshotSender(to_member, stream.urls, self._gate, self._open_channel, self._settings)
        task = loop.create_task(self._send_snapshot(to_member, sender, header, snapshot.path, done))
        task.add_done_callback(self._on_task_done)
        self._sending[to_member] = task

    async def _send_snapshot(
        self, to_member: int, sender: SnapshotSender, header: SnapshotHeader, path: str, done: Callable[[bool], None]
    ) -> None:
        sent = False
        try:
            sent = await sender.send(header, path)
        finally:
            del self._sending[to_member]
            _log.info("snapshot sent" if sent else "snapshot failed", peer=f"{to_member:x}", index=header.index)
            done(sent)

    async def stop(self) -> None:
        """Close streams and the listener. No event is reported any more."""
        self._events = None
        tasks = [*self._dialling.values(), *self._sending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(None)

    # What the streams tell.

    def on_frames(self, member_id: int, frames: Iterable[Frame]) -> None:
        """A message of frames has arrived."""
        if self._events is not None:
            self._events.on_frames(member_id, frames)

    def on_snapshot(self, member_id: int, snapshot: InstallSnapshot) -> None:
        """A snapshot has arrived whole."""
        if self._events is not None:
            self._events.on_snapshot(member_id, snapshot)

    def on_outbound_up(self, member_id: int, instance: bytes) -> None:
        """The peer accepts us."""
        self._foreign.discard(member_id)
        self._repeats.settle(f"refused by {member_id:x}")
        self._links.outbound_up(member_id, instance)

    def on_outbound_down(self, member_id: int) -> None:
        """A stream to the peer broke."""
        self._links.outbound_down(member_id)

    def on_greeted(self, member_id: int, instance: bytes) -> None:
        """The peer has dialled us and was accepted."""
        self._repeats.settle(f"refusing {member_id:x}")
        stream = self._peers.get(member_id)
        if stream is not None:
            stream.knock(instance)

    def on_sent(self, member_id: int, size: int) -> None:
        """A message was given to a stream."""
        self._traffic.sent_bytes[member_id] += size

    def on_received(self, member_id: int, size: int) -> None:
        """A message has arrived."""
        self._traffic.received_bytes[member_id] += size

    def on_unsent(self, member_id: int, frames: Sequence[Frame]) -> None:
        """Report dropped frames in the next turn of the loop, once for all of this turn."""
        self._traffic.dropped[member_id] += len(frames)
        if not self._dropped:
            asyncio.get_running_loop().call_soon(self._report_dropped)
        self._dropped.setdefault(member_id, []).extend(frames)

    def _report_dropped(self) -> None:
        dropped, self._dropped = self._dropped, {}
        for member_id, frames in sorted(dropped.items()):
            if self._events is not None:
                self._events.on_dropped(member_id, frames)

    def on_refused_by(self, member_id: int, refusal: Refusal) -> None:
        """A peer does not accept this member: say so once, and report it every time."""
        if refusal.is_overtaken(self._gate.local_hello().last_log_index):
            _log.info("greeted too late", peer=f"{member_id:x}", remembered=refusal.remembered_index)
            return  # What comes next greets anew.
        fatal = self._is_fatal(member_id, refusal)
        if self._repeats.is_news(f"refused by {member_id:x}", f"{fatal} {refusal.detail}"):
            write = _log.error if fatal else _log.warning
            write("refused by peer", peer=f"{member_id:x}", kind=refusal.kind.name, reason=refusal.detail)
        if self._events is not None:
            self._events.on_refused(member_id, refusal, fatal=fatal)

    def _is_fatal(self, member_id: int, refusal: Refusal) -> bool:
        """Whether this member must not go on.

        Two members of different clusters refuse each other, and neither can know which of them is astray. So a wrong
        cluster is fatal only if so many peers say it that no quorum is left for this member's own cluster; otherwise
        one misconfigured member would stop healthy ones.
        """
        if refusal.kind is not RefusalKind.WRONG_CLUSTER:
            return refusal.kind in _FATAL
        self._foreign.add(member_id)
        members = len(self._peers) + 1
        return len(self._foreign & self._peers.keys()) >= members // 2 + 1

    def on_refusing(self, member_id: int, address: str, refusal: Refusal) -> None:
        """This member does not accept a peer: say so once."""
        if self._repeats.is_news(f"refusing {member_id:x}", refusal.detail):
            peer = f"{member_id:x}"
            _log.warning("refused a peer", peer=peer, address=address, kind=refusal.kind.name, reason=refusal.detail)

    def on_garbage(self, address: str, error: WireError) -> None:
        """Somebody sent what no member sends. Strangers' ports vary, so the address without it is the key."""
        if self._repeats.is_news(f"garbage from {address.rpartition(':')[0]}", str(error)):
            _log.warning("closed a stream that carried what no member sends", address=address, error=error)

    def on_bug(self, error: Exception) -> None:
        """Hand our own exception to the loop's exception handler; the composition root makes that stop the member."""
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "internal error in the peer transport", "exception": error})

    def _report_connected(self, member_id: int) -> None:
        if self._events is not None:
            _log.info("connected to peer", peer=f"{member_id:x}")
            self._events.on_connected(member_id)

    def _report_disconnected(self, member_id: int) -> None:
        if self._events is not None:
            _log.warning("lost peer", peer=f"{member_id:x}")
            self._events.on_disconnected(member_id)
