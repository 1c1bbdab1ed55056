"""What members tell each other beside Raft's messages, as values: the member fills them in, the transport carries them.

They stand here because member and transport do not import one another, and both need them.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from kvraft.raft.entries import ZERO_HASH
from kvraft.raft.messages import InstallSnapshot, Message


@final
@dataclass(slots=True, frozen=True)
class ForwardedCommand:
    """A write that arrived at another member, on its way to the leader of `term`.

    The receiver proposes it only while it leads exactly that term. So once an entry of a later term is applied and
    the command has not been, it never will be, and its member may propose it anew.
    """

    term: int
    payload: bytes
    """Request id and command, as they will stand in the entry."""
    epoch: int = 0
    """How many sessions with this leader its sender has lost in this term, see `ForwardFence`."""


@final
@dataclass(slots=True, frozen=True)
class ForwardRefused:
    """The command of that request certainly did not enter the log in `term`; its member may try again.

    Term and epoch are those of the refused attempt: by the time a deposed leader's refusal arrives, the request may be
    with the next leader already, and must not be sent a third time.
    """

    request_id: bytes
    reason: str
    term: int
    epoch: int = 0


@final
@dataclass(slots=True, frozen=True)
class ForwardFence:
    """To the leader of `term`: take none of the sender's commands of an earlier epoch from now on.

    A session was lost, and with it commands may be, or not: no later term will tell. Behind the fence, what the leader
    has not taken it never will, whatever still arrives.
    """

    term: int
    boot_nonce: int
    """The sender's run, as in its request ids."""
    epoch: int


@final
@dataclass(slots=True, frozen=True)
class ForwardFenced:
    """The leader's answer: what it has taken of earlier epochs stands at or before this index of its log."""

    term: int
    boot_nonce: int
    """As in the question: a member that was started anew has not asked."""
    epoch: int
    last_log_index: int


@final
@dataclass(slots=True, frozen=True)
class StateHash:
    """The sender's keyspace hash after applying `index`; members compare what they have at the same index."""

    index: int
    state_hash: bytes


@final
@dataclass(slots=True, frozen=True)
class MatchIndices:
    """What the leader knows each member to hold on its disk, itself included: committed entries only, which stay.

    Everybody remembers it of everybody, so that a member that got an old copy of its disk back is found out also by one
    that never led.
    """

    indices: tuple[tuple[int, int], ...]
    """Pairs of member id and index, as `matchIndex` in the paper's figure 2."""


Frame = Message | ForwardedCommand | ForwardRefused | ForwardFence | ForwardFenced | StateHash | MatchIndices
"""Whatever members send each other on the control and entry streams."""


@final
@dataclass(slots=True, frozen=True)
class PeerHello:
    """What a member says about itself before anything else (design decision 5)."""

    cluster_id: int
    member_id: int
    current_term: int
    last_log_index: int = 0
    """The last durable entry, with its term and chain hash."""
    last_log_term: int = 0
    last_log_hash: bytes = ZERO_HASH
    fresh: bool = False
    """The data directory was empty at the start, and nothing has come since."""
    rebuilding: bool = False
    """It lost its disk, knows that, and promises nothing that it does not hold (`kvraft/raft/rebuild.py`)."""
    founding: bytes = b""
    """Which history its log is of (`Configuration.founding`); empty while it knows of none that is committed."""


class GreetingRefusalReason(enum.IntEnum):
    """Why a member's greeting is not accepted. The numbers are those on the wire."""

    OTHER = 0
    WRONG_CLUSTER = 1
    WRONG_MEMBER = 2
    """One side is not the member that the other takes it for."""
    PROTOCOL = 3
    """No protocol version is spoken by both."""
    UNKNOWN_MEMBER = 4
    """The refusing side's configuration does not (yet) have the other."""
    WIPED = 5
    """It is fresh, yet the refusing side remembers it."""
    SHORTER_LOG = 6
    """Its log lacks entries that it acknowledged."""
    REMOVED = 7
    OTHER_HISTORY = 8
    """The cluster was founded twice with the same settings, and the two logs are not of the same one."""


@final
@dataclass(slots=True, frozen=True)
class GreetingRefused:
    """A greeting is not accepted; nothing behind it is read."""

    reason: GreetingRefusalReason
    detail: str
    """One sentence for the operator of the refused member: what is wrong and what to do."""
    remembered_index: int = 0
    """What a member that seems to have forgotten is remembered to hold on its disk; 0 if no index is."""

    def is_overtaken(self, durable_index: int) -> bool:
        """Whether the refused member, whose log reaches to `durable_index`, holds all that it is said to lack.

        A greeting may be under way for long, and the leader tells meanwhile what its sender has acknowledged since.
        """
        return 0 < self.remembered_index <= durable_index


class TransportEvents(Protocol):
    """What the transport tells its member, on the event loop."""

    def on_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        """Frames that arrived together, in order, from a peer whose identity was checked."""
        ...

    def on_connected(self, member_id: int) -> None:
        """Frames can go to the peer and come from it."""
        ...

    def on_disconnected(self, member_id: int) -> None:
        """And no longer: the peer's process ended, fell silent, or is another one now."""
        ...

    def on_session_ended(self, member_id: int) -> None:
        """What was sent on a session and has not arrived is lost; told at once, for each that has carried frames.

        Another session with the peer may stand, and then nothing else tells of it.
        """
        ...

    def on_dropped(self, member_id: int, frames: Sequence[Frame]) -> None:
        """These frames for a peer were dropped, and nothing of them has left. Never called from inside `send`."""
        ...

    def on_refused(self, member_id: int, refusal: GreetingRefused, *, fatal: bool) -> None:
        """A peer refused this member. Fatal: wiped, shorter than remembered, removed, or of another cluster."""
        ...

    def on_snapshot(self, from_member: int, snapshot: InstallSnapshot) -> None:
        """A snapshot has arrived whole in the spool."""
        ...
