"""Greetings, refusals and snapshots in protobuf. As in `codec.py`, whatever is wrong raises `WireError`."""

import re
from dataclasses import dataclass
from typing import Final, final

from google.protobuf.message import DecodeError

from kvraft.peer_frames import GreetingRefused, PeerHello
from kvraft.raft.configuration import FOUNDING_BYTES
from kvraft.raft.entries import HASH_BYTES
from kvraft.transport.codec import REFUSAL_CHARACTERS_MAX, WireError, refusal_from_wire
from kvraft.transport.handshake import (
    INSTANCE_BYTES,
    PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN,
    Greeting,
    Lane,
)
from kvraft.transport.pb import raft_pb2 as pb

_SNAPSHOT_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@final
@dataclass(slots=True, frozen=True)
class SnapshotHeader:
    """A snapshot that is about to be sent."""

    snapshot_id: str
    """Equal ids mean equal bytes (`SnapshotFile.snapshot_id`). Safe as a file name."""
    size_bytes: int
    index: int
    """The last entry that it covers."""
    term: int
    """Term of the leader that sends it."""


@final
@dataclass(slots=True)
class SnapshotChunk:
    """Consecutive bytes of a snapshot, checked."""

    offset: int
    data: bytes


@final
@dataclass(slots=True, frozen=True)
class Resume:
    """The receiver of a snapshot has `offset` bytes of it already."""

    offset: int


@final
@dataclass(slots=True, frozen=True)
class Received:
    """The receiver has the whole snapshot, verified and durable."""


@final
@dataclass(slots=True, frozen=True)
class NotReceived:
    """It cannot take it."""

    reason: str


def encode_answer(answer: Greeting | GreetingRefused) -> bytes:
    """A greeting, or why one is not accepted."""
    if isinstance(answer, GreetingRefused):
        return pb.SessionMessage(refusal=_refusal_to_wire(answer)).SerializeToString()
    return pb.SessionMessage(greeting=_greeting_to_wire(answer)).SerializeToString()


def decode_greeting(data: bytes) -> Greeting:
    """The dialler's first message.

    Raises:
        WireError: it is none, or it carries more than a greeting.
    """
    answer = decode_answer(data)
    if isinstance(answer, GreetingRefused):
        raise WireError("a refusal of nothing")
    return answer


def decode_answer(data: bytes) -> Greeting | GreetingRefused:
    """The acceptor's first message.

    Raises:
        WireError: neither greeting nor refusal, or more than that.
    """
    message = pb.SessionMessage()
    _parse(message, data)
    if message.frames or message.HasField("fragment") or message.word:
        raise WireError("a first message that is no greeting")
    if message.HasField("refusal"):
        return refusal_from_wire(message.refusal)
    if not message.HasField("greeting"):
        raise WireError("a first message that is no greeting")
    return _greeting_from_wire(message.greeting)


def encode_header(header: SnapshotHeader) -> bytes:
    """The first message of a snapshot."""
    wire = pb.SnapshotHeader(
        term=header.term, index=header.index, size_bytes=header.size_bytes, snapshot_id=header.snapshot_id
    )
    return pb.SnapshotMessage(header=wire).SerializeToString()


def decode_header(data: bytes) -> SnapshotHeader:
    """The first message of a snapshot.

    Raises:
        WireError: not a header, or one that no snapshot has.
    """
    message = pb.SnapshotMessage()
    _parse(message, data)
    if not message.HasField("header") or message.HasField("chunk"):
        raise WireError("a snapshot that does not start with a header")
    return _header_from_wire(message.header)


def encode_chunk(offset: int, data: bytes) -> bytes:
    """A later message of a snapshot."""
    return pb.SnapshotMessage(chunk=pb.SnapshotChunk(offset=offset, data=data)).SerializeToString()


def decode_chunk(data: bytes) -> SnapshotChunk:
    """A later message of a snapshot.

    Raises:
        WireError: not a chunk.
    """
    message = pb.SnapshotMessage()
    _parse(message, data)
    if message.HasField("header") or not message.chunk.data:
        raise WireError("a snapshot chunk without bytes")
    return SnapshotChunk(message.chunk.offset, message.chunk.data)


def encode_snapshot_answer(answer: Resume | Received | NotReceived) -> bytes:
    """What the receiver of a snapshot says."""
    match answer:
        case Resume():
            wire = pb.SnapshotAnswer(ready=True, resume_offset=answer.offset)
        case Received():
            wire = pb.SnapshotAnswer(received=True)
        case NotReceived():
            wire = pb.SnapshotAnswer(failure=answer.reason[:REFUSAL_CHARACTERS_MAX] or "for no reason given")
    return wire.SerializeToString()


def decode_snapshot_answer(data: bytes) -> Resume | Received | NotReceived:
    """What the receiver of a snapshot says.

    Raises:
        WireError: it is no answer.
    """
    message = pb.SnapshotAnswer()
    _parse(message, data)
    if message.failure:
        return NotReceived(message.failure[:REFUSAL_CHARACTERS_MAX])
    if message.received:
        return Received()
    if not message.ready:
        raise WireError("a snapshot answer that says nothing")
    return Resume(message.resume_offset)


def encode_status(hello: PeerHello) -> bytes:
    """The answer to `Peer.Status`."""
    return pb.StatusAnswer(
        cluster_id=hello.cluster_id,
        member_id=hello.member_id,
        protocol_version_min=PROTOCOL_VERSION_MIN,
        protocol_version_max=PROTOCOL_VERSION_MAX,
        current_term=hello.current_term,
        last_log_index=hello.last_log_index,
        fresh=hello.fresh,
        rebuilding=hello.rebuilding,
    ).SerializeToString()


def _parse(message: pb.SessionMessage | pb.SnapshotMessage | pb.SnapshotAnswer, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise WireError(f"{len(data)} bytes that are no message") from None


def _greeting_to_wire(greeting: Greeting) -> pb.Greeting:
    hello = greeting.hello
    return pb.Greeting(
        cluster_id=hello.cluster_id,
        member_id=hello.member_id,
        to_member_id=greeting.to_member_id,
        protocol_version_min=greeting.protocol_version_min,
        protocol_version_max=greeting.protocol_version_max,
        last_log_index=hello.last_log_index,
        last_log_term=hello.last_log_term,
        last_log_hash=hello.last_log_hash,
        current_term=hello.current_term,
        fresh=hello.fresh,
        lane=f"LANE_{greeting.lane.name}",
        instance=greeting.instance,
        rebuilding=hello.rebuilding,
        founding=hello.founding,
        session=greeting.session,
    )


def _greeting_from_wire(wire: pb.Greeting) -> Greeting:
    if not 0 < wire.protocol_version_min <= wire.protocol_version_max:
        raise WireError(f"protocol versions {wire.protocol_version_min} to {wire.protocol_version_max}")
    if not wire.cluster_id or not wire.member_id or not wire.to_member_id:
        raise WireError("a greeting without ids")
    if len(wire.last_log_hash) != HASH_BYTES or len(wire.instance) != INSTANCE_BYTES:
        raise WireError(f"a greeting with a hash of {len(wire.last_log_hash)} bytes")
    if len(wire.founding) not in {0, FOUNDING_BYTES}:
        raise WireError(f"a greeting with a founding of {len(wire.founding)} bytes")
    if (wire.last_log_index | wire.current_term) >> 63 or wire.last_log_term > wire.current_term:
        raise WireError(f"a greeting in term {wire.current_term} with a log of term {wire.last_log_term}")
    if wire.session >> 63:
        raise WireError("a greeting for a session of 2^63 or more")
    if wire.lane not in {lane.value for lane in Lane}:
        raise WireError(f"a greeting for lane {wire.lane}")
    hello = PeerHello(
        wire.cluster_id,
        wire.member_id,
        wire.current_term,
        wire.last_log_index,
        wire.last_log_term,
        wire.last_log_hash,
        wire.fresh,
        wire.rebuilding,
        wire.founding,
    )
    return Greeting(
        hello,
        wire.to_member_id,
        Lane(wire.lane),
        wire.instance,
        wire.session,
        wire.protocol_version_min,
        wire.protocol_version_max,
    )


def _refusal_to_wire(refusal: GreetingRefused) -> pb.Refusal:
    kind = f"REFUSAL_KIND_{refusal.reason.name}"
    detail = refusal.detail[:REFUSAL_CHARACTERS_MAX]
    return pb.Refusal(kind=kind, detail=detail, remembered_index=refusal.remembered_index)


def _header_from_wire(wire: pb.SnapshotHeader) -> SnapshotHeader:
    if (wire.term | wire.index | wire.size_bytes) >> 63 or not (wire.term and wire.index and wire.size_bytes):
        raise WireError(f"a snapshot of {wire.size_bytes} bytes at index {wire.index} in term {wire.term}")
    if _SNAPSHOT_ID.fullmatch(wire.snapshot_id) is None:
        raise WireError("a snapshot whose name cannot be one")
    return SnapshotHeader(wire.snapshot_id, wire.size_bytes, wire.index, wire.term)
