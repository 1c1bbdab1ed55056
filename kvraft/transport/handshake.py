"""The greeting: who may talk to whom. Pure: it decides, the connections carry it out (design decision 5).

Both ends greet, and each judges the other's greeting before it reads or sends anything else. So a peer of another
cluster, of another protocol, with a wiped or an older data directory never reaches Raft.
"""

import enum
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.transport.interfaces import LocalMember

PROTOCOL_VERSION_MIN: Final = 1
"""The oldest protocol this program speaks."""
PROTOCOL_VERSION_MAX: Final = 3
"""The newest. Version 1 is all of proto/raft.proto that is not marked; who speaks version 2 knows the commands that
change members and rights, too (`kvraft/member/cluster.py`), and version 3 has fences (`kvraft/member/fencing.py`)."""
INSTANCE_BYTES: Final = 8
"""Length of the random name that a process gives itself."""


class Lane(enum.IntEnum):
    """What a connection is for. The numbers are those on the wire."""

    CONTROL = 1
    """Small and urgent."""
    ENTRIES = 2
    """AppendEntries in order, and whatever else is large."""
    SNAPSHOT = 3
    """One snapshot from the dialler,"""
    FETCH = 4
    """or to it, who was asked to dial."""


LANES: Final = (Lane.CONTROL, Lane.ENTRIES)
"""What a session consists of."""


@final
@dataclass(slots=True, frozen=True)
class Greeting:
    """The first message in each direction of each connection."""

    hello: PeerHello
    to_member_id: int
    lane: Lane
    instance: bytes
    """Chosen at random when the process started."""
    session: int
    """The dialler's number for both lanes of one session; the answer repeats it."""
    protocol_version_min: int = PROTOCOL_VERSION_MIN
    protocol_version_max: int = PROTOCOL_VERSION_MAX


@final
class Gate:
    """Greets for this member and judges what it hears."""

    def __init__(self, local: LocalMember, instance: bytes) -> None:
        assert len(instance) == INSTANCE_BYTES
        self._local = local
        self._instance = instance
        self.members: frozenset[int] = frozenset()
        """The peers that this member knows; the transport keeps it."""
        self.urls: Mapping[int, Sequence[str]] = {}
        """And where they are."""
        self.spoken: Final[dict[int, int]] = {}
        """The newest protocol version of each member, as it was last accepted."""

    def local_hello(self) -> PeerHello:
        """What is true of this member now."""
        return self._local.local_hello()

    def removal(self, member_id: int) -> GreetingRefused | None:
        """What a removed member is told; None for any other."""
        return self._local.removal(member_id)

    def greeting(self, to_member_id: int, lane: Lane, session: int) -> Greeting:
        """Our greeting, with what is true now."""
        return Greeting(self.local_hello(), to_member_id, lane, self._instance, session)

    def judge(self, theirs: Greeting) -> GreetingRefused | None:
        """Why a dialler's greeting is not accepted, or None."""
        refusal = judge_greeting(theirs, self.local_hello(), self.members, self._local.judge)
        if refusal is None:
            self.spoken[theirs.hello.member_id] = theirs.protocol_version_max
        return refusal

    def judge_answer(self, theirs: Greeting, dialled: int, lane: Lane, session: int) -> GreetingRefused | None:
        """Why an acceptor's greeting is not accepted, or None: it must also be the member dialled, on this lane."""
        refusal = _protocol(theirs)
        if refusal is None and theirs.hello.member_id != dialled:
            refusal = GreetingRefused(
                GreetingRefusalReason.WRONG_MEMBER,
                f"this member answered as {theirs.hello.member_id:x} where member {dialled:x} was dialled: "
                "check the peer URLs in --initial-cluster",
            )
        if refusal is None and (theirs.lane, theirs.session) != (lane, session):
            answered, greeted = f"lane {theirs.lane.name} of {theirs.session}", f"{lane.name} of {session}"
            refusal = GreetingRefused(GreetingRefusalReason.OTHER, f"this member answered on {answered} to {greeted}")
        return refusal or self.judge(theirs)


def judge_greeting(
    theirs: Greeting,
    ours: PeerHello,
    members: Container[int],
    judge: Callable[[PeerHello, bytes], GreetingRefused | None],
) -> GreetingRefused | None:
    """Why this greeting is not accepted, or None.

    The protocol comes first, since the rest means something only if it is known; then what needs no memory; then what
    the member remembers, which may also know that somebody was removed; then whether it is known, or must be one that
    was added and that this member, which lags behind, has not heard of.
    """
    return (
        _protocol(theirs)
        or _identity(theirs, ours)
        or judge(theirs.hello, theirs.instance)
        or (None if theirs.hello.member_id in members or _is_of_ours(theirs.hello, ours) else _unknown(theirs, ours))
    )


def _is_of_ours(hello: PeerHello, ours: PeerHello) -> bool:
    """Whether a peer that is not known here holds the history of this cluster, which only a member of it is sent.

    A vote or an entry that waited until it is known might be the one by which it becomes known: who leads may have been
    added behind the end of this member's log. A member without any history waits for somebody who has one.
    """
    return bool(hello.founding) and ours.founding in {hello.founding, b""}


def _protocol(theirs: Greeting) -> GreetingRefused | None:
    if theirs.protocol_version_min <= PROTOCOL_VERSION_MAX and theirs.protocol_version_max >= PROTOCOL_VERSION_MIN:
        return None
    newer = theirs.protocol_version_min > PROTOCOL_VERSION_MAX
    remedy = "upgrade the other members first" if newer else "upgrade that member"
    return GreetingRefused(
        GreetingRefusalReason.PROTOCOL,
        f"member {theirs.hello.member_id:x} speaks peer protocol {theirs.protocol_version_min} to "
        f"{theirs.protocol_version_max}, the cluster {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}: {remedy}",
    )


def _identity(theirs: Greeting, ours: PeerHello) -> GreetingRefused | None:
    hello = theirs.hello
    if hello.cluster_id != ours.cluster_id:
        return GreetingRefused(
            GreetingRefusalReason.WRONG_CLUSTER,
            f"member {hello.member_id:x} belongs to cluster {hello.cluster_id:x}, member {ours.member_id:x} to "
            f"{ours.cluster_id:x}: give both the same --initial-cluster and --initial-cluster-token, and each the "
            "--data-dir of that cluster; a directory that was begun with wrong ones keeps them: move it away",
        )
    if theirs.to_member_id != ours.member_id:
        return GreetingRefused(
            GreetingRefusalReason.WRONG_MEMBER,
            f"member {hello.member_id:x} looked for member {theirs.to_member_id:x} where member {ours.member_id:x} "
            "listens: check the peer URLs in --initial-cluster of both",
        )
    if hello.member_id == ours.member_id:
        return GreetingRefused(
            GreetingRefusalReason.WRONG_MEMBER,
            f"two processes are member {hello.member_id:x}: give each member its own --name and --data-dir",
        )
    if hello.founding and ours.founding and hello.founding != ours.founding:
        return GreetingRefused(
            GreetingRefusalReason.OTHER_HISTORY,
            f"this cluster was founded twice, or anew by --force-new-cluster: member {hello.member_id:x} holds "
            f"{_history(hello)}, member {ours.member_id:x} holds {_history(ours)}, and they never mix. To give up what "
            "one of them holds, move its data directory away and start it with an empty one; docs/operations.md has "
            "both choices",
        )
    return None


def _history(hello: PeerHello) -> str:
    return f"history {hello.founding[:4].hex()} up to index {hello.last_log_index} of term {hello.last_log_term}"


def _unknown(theirs: Greeting, ours: PeerHello) -> GreetingRefused:
    return GreetingRefused(
        GreetingRefusalReason.UNKNOWN_MEMBER,
        f"member {ours.member_id:x} does not know member {theirs.hello.member_id:x}: add it to the cluster first, or "
        "start every member with the same --initial-cluster",
    )
