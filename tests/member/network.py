"""The transport of members in one process: links with delay, loss, cuts and reordering, and what the real one reports.

A link is up between two running members once one has found the other where its peers say, and each has accepted the
other's greeting, by the rules of `transport/handshake.py`.
Frames of one `send` arrive together or not at all. Nothing arrives twice, as no stream delivers twice.
"""

import asyncio
import itertools
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

from kvraft.member.interfaces import Frame, SnapshotFile, TransportEvents
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.raft.messages import InstallSnapshot
from kvraft.storage.spool import Spool
from kvraft.transport.handshake import PROTOCOL_VERSION_MAX, Greeting, Lane, judge_greeting

_INSTANCES: Final = itertools.count()
"""Each start of a member has a transport of its own."""
_REDIAL_S: Final = 0.1
_REFUSED_S: Final = 3.0
"""Who was refused is not dialled again for so long."""
_FATAL: Final = frozenset(
    {GreetingRefusalReason.WIPED, GreetingRefusalReason.SHORTER_LOG, GreetingRefusalReason.REMOVED}
)
_ENDED_S: Final = 0.05
"""Within this both ends of a connection that broke know it."""
_SILENCE_S: Final = 1.0
"""A cut is noticed after this long: the transport's keepalive."""


class Local(Protocol):
    """A member's memory of its peers, as the transport sees it."""

    def local_hello(self) -> PeerHello: ...
    def judge(self, hello: PeerHello, instance: bytes) -> GreetingRefused | None: ...
    def removal(self, member_id: int) -> GreetingRefused | None: ...


@final
@dataclass(slots=True)
class Weather:
    """How frames fare. Times are seconds; probabilities are for one `send`."""

    delay_s: tuple[float, float] = (0.0005, 0.002)
    loss: float = 0.0
    reorder: bool = False
    """Each `send` has its own delay; otherwise none overtakes another on its link."""


@final
class Network:
    """All links between the members of one cluster."""

    def __init__(self, rng: random.Random) -> None:
        self.weather = Weather()
        self.has_late_frames = False
        """Of what is on its way when a connection breaks, half arrives nevertheless, also behind what the next one
        brings: its receiver had yet to notice, or both sides had dialled and two of them stood."""
        self.delivered = 0
        self.lost = 0
        self._rng = rng
        self._transports: dict[int, LinkTransport] = {}
        self._cut: set[tuple[int, int]] = set()
        self._up: set[frozenset[int]] = set()
        self._epochs: dict[frozenset[int], int] = {}
        self._clear_at: dict[tuple[int, int], float] = {}
        self._slowness_s: dict[tuple[int, int], float] = {}

    def cut(self, one: int, other: int) -> None:
        """Nothing passes from one to the other. Both notice when the silence has lasted."""
        self._cut.add((one, other))
        pair = frozenset((one, other))
        asyncio.get_running_loop().call_later(_SILENCE_S, self._silent, pair, self._epochs.get(pair, 0))

    def slow_down(self, one: int, other: int, seconds: float) -> None:
        """What one sends to the other takes so much longer."""
        self._slowness_s[one, other] = seconds

    def heal(self) -> None:
        """Every cut and slowness ends; streams that were given up are dialled again."""
        self._cut.clear()
        self._slowness_s.clear()
        for one in sorted(self._transports):
            for other in sorted(self._transports):
                if one < other:
                    self._dial_soon(one, other)

    def is_up(self, one: int, other: int) -> bool:
        """Whether frames have a stream."""
        return frozenset((one, other)) in self._up

    def appear(self, transport: "LinkTransport") -> None:
        """A member listens."""
        self._transports[transport.member_id] = transport
        for other in sorted(self._transports):
            if other != transport.member_id:
                self._dial_soon(transport.member_id, other)

    def peers_changed(self, transport: "LinkTransport", left: Sequence[int], moved: Sequence[int]) -> None:
        """It dials those that are new; who left is told if it was removed, and cut off; of who moved it lets go."""
        me = transport.member_id
        known = {other for pair in self._up if me in pair for other in pair if other != me}
        for other in sorted({*left, *known}.difference(transport.peers)):
            refusal = transport.local.removal(other)
            if refusal is not None and self.is_up(me, other):
                asyncio.get_running_loop().call_later(
                    self._rng.uniform(*self.weather.delay_s), self._part, me, other, refusal
                )
            if refusal is not None or other in left:
                self.reset(frozenset((me, other)))
        for other in moved:
            self.reset(frozenset((me, other)))
        for other in sorted(transport.peers):
            if not self.is_up(me, other):
                self._dial_soon(me, other)

    def _part(self, from_member: int, to_member: int, refusal: GreetingRefused) -> None:
        receiver = self._transports.get(to_member)
        if receiver is not None and not receiver.stopped and (from_member, to_member) not in self._cut:
            receiver.events.on_refused(from_member, refusal, fatal=True)

    def vanish(self, transport: "LinkTransport") -> None:
        """Its process is gone: the kernel closes its connections, what was on its way is lost."""
        if self._transports.get(transport.member_id) is transport:
            del self._transports[transport.member_id]
            for pair in [pair for pair in self._up if transport.member_id in pair]:
                self.reset(pair)

    def reset(self, pair: frozenset[int]) -> None:
        """A connection breaks: both are told, the frames between them are lost, and they dial again."""
        if pair not in self._up:
            return
        self._up.discard(pair)
        self._begin_epoch(pair)
        one, other = sorted(pair)
        for member_id, peer in ((one, other), (other, one)):
            transport = self._transports.get(member_id)
            if transport is not None:
                asyncio.get_running_loop().call_soon(transport.told_disconnected, peer)
        self._dial_soon(one, other)

    def end_one_of_two(self, pair: frozenset[int]) -> None:
        """Two sessions stood, and one breaks: frames are lost, and each end hears of it in its own time."""
        if pair not in self._up:
            return
        self._begin_epoch(pair)
        one, other = sorted(pair)
        for member_id, peer in ((one, other), (other, one)):
            delay_s = self._rng.uniform(0.0, _ENDED_S)
            asyncio.get_running_loop().call_later(delay_s, self._transports[member_id].told_session_ended, peer)

    def _begin_epoch(self, pair: frozenset[int]) -> None:
        """What is on its way arrives late or never."""
        self._epochs[pair] = self._epochs.get(pair, 0) + 1
        if self.has_late_frames:
            for link in itertools.permutations(pair):
                self._clear_at.pop((link[0], link[1]), None)  # the next connection has an order of its own

    def transport_to(self, from_member: int, to_member: int) -> "LinkTransport | None":
        """The receiver, if nothing stands between."""
        if (from_member, to_member) in self._cut or not self.is_up(from_member, to_member):
            return None
        return self._transports.get(to_member)

    def send(self, from_member: int, to_member: int, frames: Sequence[Frame]) -> None:
        """Put frames on a link that is up."""
        pair = frozenset((from_member, to_member))
        loop, weather = asyncio.get_running_loop(), self.weather
        if self._rng.random() < weather.loss:
            self.lost += 1
            return
        slowness_s = self._slowness_s.get((from_member, to_member), 0.0)
        at = loop.time() + self._rng.uniform(*weather.delay_s) + self._rng.uniform(0.0, slowness_s)
        if not weather.reorder:
            at = max(at, self._clear_at.get((from_member, to_member), 0.0))
            self._clear_at[from_member, to_member] = at
        if self.has_late_frames and self._rng.random() < 0.5:
            ends = self._transports.get(from_member), self._transports.get(to_member)
            loop.call_at(at, self._arrive_late, ends, tuple(frames))
        else:
            loop.call_at(at, self._arrive, from_member, to_member, tuple(frames), self._epochs.get(pair, 0))

    def _arrive(self, from_member: int, to_member: int, frames: tuple[Frame, ...], epoch: int) -> None:
        transport = self.transport_to(from_member, to_member)
        if transport is None or epoch != self._epochs.get(frozenset((from_member, to_member)), 0):
            self.lost += 1
            return
        self.delivered += 1
        transport.events.on_frames(from_member, frames)

    def _arrive_late(
        self, ends: "tuple[LinkTransport | None, LinkTransport | None]", frames: tuple[Frame, ...]
    ) -> None:
        """Whatever has become of the connection, as long as both processes live."""
        sender, receiver = ends
        live = sender is not None and receiver is not None and not (sender.stopped or receiver.stopped)
        if sender is None or receiver is None or not live or (sender.member_id, receiver.member_id) in self._cut:
            self.lost += 1
        else:
            self.delivered += 1
            receiver.events.on_frames(sender.member_id, frames)

    def _silent(self, pair: frozenset[int], epoch: int) -> None:
        one, other = sorted(pair)
        if self._epochs.get(pair, 0) == epoch and ((one, other) in self._cut or (other, one) in self._cut):
            self.reset(pair)

    def _dial_soon(self, one: int, other: int, after_s: float = 0.0) -> None:
        delay_s = after_s + self._rng.uniform(0.001, _REDIAL_S)
        asyncio.get_running_loop().call_later(delay_s, self._greet, one, other)

    def _greet(self, one: int, other: int) -> None:
        """Both sides say who they are; the answers arrive a little later."""
        first, second = self._transports.get(one), self._transports.get(other)
        pair = frozenset((one, other))
        if first is None or second is None or pair in self._up:
            return  # whoever comes back dials
        if not (first.finds(second) or second.finds(first)):
            return  # whoever hears of the other dials
        if (one, other) in self._cut or (other, one) in self._cut:
            self._dial_soon(one, other)
            return
        hellos = first.local.local_hello(), second.local.local_hello()
        delay_s = self._rng.uniform(*self.weather.delay_s)
        asyncio.get_running_loop().call_later(delay_s, self._judge, first, second, hellos)

    def _judge(self, first: "LinkTransport", second: "LinkTransport", hellos: tuple[PeerHello, PeerHello]) -> None:
        pair = frozenset((first.member_id, second.member_id))
        gone = first.stopped or second.stopped
        if gone or pair in self._up:
            return
        refusals = first.judges(second, hellos[1]), second.judges(first, hellos[0])
        for judge, judged, refusal in ((first, second, refusals[0]), (second, first, refusals[1])):
            if refusal is None:
                continue
            if refusal.is_overtaken(judged.local.local_hello().last_log_index):
                self._dial_soon(judge.member_id, judged.member_id)
                continue
            judged.events.on_refused(judge.member_id, refusal, fatal=refusal.reason in _FATAL)
            self._dial_soon(judge.member_id, judged.member_id, _REFUSED_S)
        if refusals == (None, None):
            self._up.add(pair)
            first.heard.add(second.member_id)
            second.heard.add(first.member_id)
            first.events.on_connected(second.member_id)
            second.events.on_connected(first.member_id)


@final
class LinkTransport:
    """One member's end; satisfies `member.interfaces.Transport`."""

    def __init__(self, network: Network, local: Local, member_id: int, spool: Spool, url: str) -> None:
        self.local = local
        self.url = url
        """Where it listens."""
        self.peers: dict[int, tuple[str, ...]] = {}
        self.heard: set[int] = set()
        """Whose greeting was accepted."""
        self._runs = False
        self.events: TransportEvents
        self.member_id = member_id
        self.stopped = False
        self.instance = next(_INSTANCES).to_bytes(8)
        self.spool = spool
        self._network = network

    async def start(self, events: TransportEvents) -> None:
        self.events = events
        self._runs = True
        self._network.appear(self)

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        before, self.peers = self.peers, {member_id: tuple(urls) for member_id, urls in peers.items()}
        moved = [peer for peer in before if peer in self.peers and set(before[peer]) != set(self.peers[peer])]
        if self._runs and not self.stopped:
            self._network.peers_changed(self, sorted(before.keys() - self.peers.keys()), moved)

    def finds(self, other: "LinkTransport") -> bool:
        """Whether it dials the other where that one listens."""
        return other.url in self.peers.get(other.member_id, ())

    def judges(self, other: "LinkTransport", hello: PeerHello) -> GreetingRefused | None:
        """What it thinks of the other's greeting."""
        greeting = Greeting(hello, self.member_id, Lane.CONTROL, other.instance, 1)
        return judge_greeting(greeting, self.local.local_hello(), self.peers, self.local.judge)

    def send(self, to_member: int, frames: Sequence[Frame]) -> None:
        if self.stopped:
            return
        if self._network.is_up(self.member_id, to_member):
            self._network.send(self.member_id, to_member, frames)
        else:
            asyncio.get_running_loop().call_soon(self._told_dropped, to_member, frames)

    def newest_protocol(self, member_id: int) -> int:
        return PROTOCOL_VERSION_MAX if member_id in self.heard else 0

    def is_connected(self, member_id: int) -> bool:
        return not self.stopped and self._network.is_up(self.member_id, member_id)

    def send_snapshot(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, self._snapshot_arrives, to_member, snapshot.installation(term), snapshot.path, done)

    def _snapshot_arrives(
        self, to_member: int, snapshot: InstallSnapshot, path: str, done: Callable[[bool], None]
    ) -> None:
        if self.stopped:
            return
        receiver = self._network.transport_to(self.member_id, to_member)
        if receiver is None:
            done(False)
            return
        shutil.copyfile(path, receiver.spool.path_of(snapshot.snapshot_id))
        receiver.events.on_snapshot(self.member_id, snapshot)
        done(True)

    async def stop(self) -> None:
        self.vanish()

    def vanish(self) -> None:
        """No event and no frame after this."""
        self.stopped = True
        self._network.vanish(self)

    def told_session_ended(self, peer: int) -> None:
        """One connection broke, another stands or has taken its place."""
        if not self.stopped:
            self.events.on_session_ended(peer)

    def told_disconnected(self, peer: int) -> None:
        """The connection broke."""
        if not self.stopped:
            self.events.on_session_ended(peer)
            self.events.on_disconnected(peer)

    def _told_dropped(self, peer: int, frames: Sequence[Frame]) -> None:
        if not self.stopped:
            self.events.on_dropped(peer, frames)
