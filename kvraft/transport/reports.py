"""What happens on the peer port, told: to the member, to the log in its operator's words, and to the metrics."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, final

from kvraft import clock, logs
from kvraft.metrics import Metrics
from kvraft.peer_frames import Frame, GreetingRefusalReason, GreetingRefused, TransportEvents
from kvraft.raft.messages import InstallSnapshot
from kvraft.repeats import Repeats
from kvraft.transport.codec import WireError
from kvraft.transport.round_trips import RoundTrips
from kvraft.transport.traffic import Traffic

_FATAL: Final = frozenset(
    {GreetingRefusalReason.WIPED, GreetingRefusalReason.SHORTER_LOG, GreetingRefusalReason.REMOVED}
)
"""Refusals that one peer's durable memory is enough for."""
_EITHER_IS_ASTRAY: Final = frozenset({GreetingRefusalReason.WRONG_CLUSTER, GreetingRefusalReason.OTHER_HISTORY})
"""Refusals that need more than one peer, see `_is_fatal`."""

_log = logs.get("kvraft.transport")


@final
class Reports:
    """Everything that the transport tells anybody goes through here."""

    def __init__(
        self, name_of: Callable[[int], str], durable_index: Callable[[], int], voters: Callable[[], Collection[int]]
    ) -> None:
        """`name_of` a peer is for the log; `durable_index` is the end of this member's durable log.

        `voters` are those of its configuration.
        """
        self.events: TransportEvents | None = None
        """None before the start and behind the stop."""
        self.peers: frozenset[int] = frozenset()
        """The other members."""
        self.name: Final = name_of
        """A peer's name for the log."""
        self._durable_index = durable_index
        self.voters = voters
        self.round_trips = RoundTrips()
        self._dropped: dict[int, list[Frame]] = {}
        """By peer, what never left; reported once for all of this turn of the loop."""
        self._foreign: set[int] = set()
        """Peers that say this member belongs to another cluster, or to another founding of it."""
        self._shown: frozenset[int] = frozenset()
        """Peers of which the metrics have figures."""
        self._repeats = Repeats(clock.monotonic_ms)
        self._traffic = Traffic()

    def measure(self, metrics: Metrics, member_id: int, is_connected: Callable[[int], bool]) -> None:
        """Copy what was counted to the page that is being made."""
        traffic, local = self._traffic, f"{member_id:x}"
        for gone in self._shown.difference(self.peers):
            metrics.forget_peer(local, f"{gone:x}")
            traffic.forget(gone)
        self._shown = self.peers
        self.round_trips.show(metrics, self.peers)
        for peer in self.peers:
            label = f"{peer:x}"
            metrics.peer_sent_bytes.set(traffic.sent_bytes[peer], label)
            metrics.peer_received_bytes.set(traffic.received_bytes[peer], label)
            metrics.peer_sent_failures.set(traffic.dropped[peer], label)
            metrics.active_peers.labels(local, label).set(int(is_connected(peer)))

    def frames(self, member_id: int, frames: list[Frame]) -> None:
        """The frames of one read have arrived."""
        if self.events is not None:
            self.events.on_frames(member_id, frames)

    def snapshot(self, member_id: int, snapshot: InstallSnapshot) -> None:
        """A snapshot has arrived, whole, verified and durable."""
        if self.events is not None:
            self.events.on_snapshot(member_id, snapshot)

    def sent(self, member_id: int, size: int) -> None:
        """A message was given to a connection."""
        self._traffic.sent_bytes[member_id] += size

    def received(self, member_id: int, size: int) -> None:
        """A message has arrived."""
        self._traffic.received_bytes[member_id] += size

    def unsent(self, member_id: int, frames: Sequence[Frame]) -> None:
        """Report dropped frames in the next turn of the loop, once for all of this turn."""
        self._traffic.dropped[member_id] += len(frames)
        if not self._dropped:
            asyncio.get_running_loop().call_soon(self._report_dropped)
        self._dropped.setdefault(member_id, []).extend(frames)

    def _report_dropped(self) -> None:
        dropped, self._dropped = self._dropped, {}
        for member_id, frames in sorted(dropped.items()):
            if self.events is not None:
                self.events.on_dropped(member_id, frames)

    def connected(self, member_id: int, address: str) -> None:
        """Frames can go both ways. One line."""
        if self.events is not None:
            _log.info("connected to peer", peer=self.name(member_id), address=address)
            self.events.on_connected(member_id)

    def disconnected(self, member_id: int, reason: str) -> None:
        """And no longer. One line."""
        if self.events is not None:
            _log.warning("lost peer", peer=self.name(member_id), reason=reason)
            self.events.on_disconnected(member_id)

    def session_ended(self, member_id: int) -> None:
        """What had not arrived on one session is lost."""
        if self.events is not None:
            self.events.on_session_ended(member_id)

    def accepts(self, member_id: int) -> None:
        """We accept the peer's greeting."""
        self._repeats.settle(f"refusing {member_id:x}")

    def accepted_by(self, member_id: int) -> None:
        """The peer accepts ours."""
        self._foreign.discard(member_id)
        self._repeats.settle(f"refused by {member_id:x}")

    def refused_by(self, member_id: int, refusal: GreetingRefused) -> None:
        """A peer does not accept this member: say so once, and report it every time."""
        if refusal.is_overtaken(self._durable_index()):
            _log.info("greeted too late", peer=self.name(member_id), remembered=refusal.remembered_index)
            return  # What comes next greets anew.
        fatal = self._is_fatal(member_id, refusal)
        is_told_elsewhere = (
            refusal.reason is GreetingRefusalReason.REMOVED
        )  # It is no fault, and the member's own last line.
        if not is_told_elsewhere and self._repeats.is_news(f"refused by {member_id:x}", f"{fatal} {refusal.detail}"):
            write = _log.error if fatal else _log.warning
            write("refused by peer", peer=self.name(member_id), kind=refusal.reason.name, reason=refusal.detail)
        if self.events is not None:
            self.events.on_refused(member_id, refusal, fatal=fatal)

    def _is_fatal(self, member_id: int, refusal: GreetingRefused) -> bool:
        """Whether this member must not go on.

        Two members of different clusters, or of two foundings of one, refuse each other, and neither can know which of
        them is astray. So that is fatal only if so many peers say it that no quorum is left for what this member
        belongs to; otherwise one misconfigured member, or one from before, would stop healthy ones.
        """
        if refusal.reason not in _EITHER_IS_ASTRAY:
            return refusal.reason in _FATAL
        self._foreign.add(member_id)
        voters = self.voters()
        count = len(voters) or len(self.peers) + 1
        return len(self._foreign.intersection(voters or self.peers)) >= count // 2 + 1

    def refusing(self, member_id: int, address: str, refusal: GreetingRefused) -> None:
        """This member does not accept a peer: say so once."""
        if self._repeats.is_news(f"refusing {member_id:x}", refusal.detail):
            peer = self.name(member_id)
            _log.warning("refused a peer", peer=peer, address=address, kind=refusal.reason.name, reason=refusal.detail)

    def garbage(self, address: str, error: WireError) -> None:
        """Somebody sent what no member sends. Strangers' ports vary, so the address without it is the key."""
        if self._repeats.is_news(f"garbage from {address.rpartition(':')[0]}", "garbage"):
            _log.warning("closed a connection that carried what no member sends", address=address, error=error)

    def crowd(self, address: str, strangers_max: int) -> None:
        """There were too many strangers at once, and this one was the first to come."""
        if self._repeats.is_news("crowd", "crowd"):
            _log.warning("too many strangers on the peer port: the oldest go", address=address, limit=strangers_max)

    def bug(self, error: Exception) -> None:
        """Hand our own exception to the loop's exception handler; the composition root makes that stop the member."""
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "internal error in the peer transport", "exception": error})
