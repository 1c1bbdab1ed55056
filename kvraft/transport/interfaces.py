"""What the transport needs from the member and the storage around it. They satisfy these structurally.

All but the methods of `SnapshotSpool` are called on the event loop.
"""

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from kvraft.peer_frames import GreetingRefused, PeerHello
from kvraft.raft.restored import SnapshotFile
from kvraft.records import MemberRecord


class LocalMember(Protocol):
    """The member that this transport belongs to, as far as greetings are concerned."""

    def local_hello(self) -> PeerHello:
        """What this member says about itself now. Called for every greeting."""
        ...

    def judge(self, hello: PeerHello, instance: bytes) -> GreetingRefused | None:
        """Whether a peer may take part, by what is durably remembered of it; None if it may.

        `instance` is the name that its process gave itself at its start.
        Cluster, member id and protocol version are already checked. Called before anything else of the peer is read.
        """
        ...

    def voters(self) -> Collection[int]:
        """The voting servers of this member's configuration; nobody for a member that has not joined yet."""
        ...

    def removal(self, member_id: int) -> GreetingRefused | None:
        """What a member is told that was removed, however long ago; None for any other."""
        ...


class PeerTls(Protocol):
    """What encrypts connections between members, whichever side dials."""

    def behind(self, new_protocol: Callable[[], asyncio.Protocol], /) -> Callable[[], asyncio.Protocol]:
        """A factory for a listener, whose connections get these protocols once they are encrypted."""
        ...

    async def dial(self, connected: socket.socket, host: str, protocol: asyncio.Protocol, /) -> asyncio.Transport:
        """Encrypt a connection to the host that was dialled, and give it to a protocol.

        Raises:
            OSError: the other side is not that host, does not accept this one, or the connection broke.
        """
        ...

    def why_another(self, transport: asyncio.BaseTransport, hosts: Sequence[str], /) -> str:
        """Why who has dialled this connection is not a member that is known at these hosts; empty if nothing says so.

        By the certificate that was shown. A plain connection, and one without a certificate, says nothing.
        """
        ...

    def close(self) -> None:
        """Give up handshakes that were accepted and are under way."""
        ...


class PeerPages(Protocol):
    """What the member answers over HTTP on the peer port."""

    @property
    def cluster_id(self) -> int:
        """As etcd computes it."""
        ...

    def members(self) -> Sequence[MemberRecord]:
        """Every member by ascending id."""
        ...

    def cluster_version(self) -> str:
        """Empty while not decided."""
        ...


class SnapshotSpool(Protocol):
    """One snapshot being received. Methods are called one at a time, in a worker thread.

    `write` and `finish` may raise what a full disk or a damaged snapshot gives: the transfer ends and is tried anew.
    """

    @property
    def offset(self) -> int:
        """How many bytes are here; at first those of an earlier transfer of the same snapshot."""
        ...

    def write(self, offset: int, chunk: bytes, /) -> None:
        """Append the next bytes."""
        ...

    def finish(self) -> SnapshotFile:
        """Verify the whole against its id, and make it durable. A damaged one is removed, and the next starts anew."""
        ...

    def close(self) -> None:
        """The transfer ended early. What has arrived may stay, so that a later one goes on from there."""
        ...


class SnapshotSink(Protocol):
    """Where snapshots from peers go."""

    def receive(self, snapshot_id: str, size_bytes: int, /) -> SnapshotSpool:
        """Begin or resume, in a worker thread. The transport closes one before it begins another. May raise."""
        ...
