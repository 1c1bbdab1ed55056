"""Greetings, refusals and snapshots in protobuf. As in `codec.py`, whatever is wrong raises `WireError`."""

import re
import zlib
from dataclasses import dataclass
from typing import Final, final

from google.protobuf.message import DecodeError

from kvraft.peer_frames import PeerHello, Refusal
from kvraft.raft.entries import HASH_BYTES
from kvraft.transport.codec import REFUSAL_CHARACTERS_MAX, WireError, refusal_from_wire
from kvraft.transport.handshake import INSTANCE_BYTES, Greeting, Lane
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
@dataclass(slots=True)
class Resume:
    """The acceptor of a snapshot has `offset` bytes of it already."""

    greeting: Greeting
    offset: int


@final
class Received:
    """The acceptor has the whole snapshot, verified and durable."""


def encode_greeting(greeting: Greeting) -> bytes:
    """The dialler's first message on a Frames stream."""
    return pb.FramesMessage(greeting=_greeting_to_wire(greeting)).SerializeToString()


def decode_greeting(data: bytes) -> Greeting:
    """A first message on a Frames stream.

    Raises:
        WireError: it is none, or it carries more than a greeting.
    """
    message = pb.FramesMessage()
    _parse(message, data)
    if not message.HasField("greeting") or message.frames or message.HasField("fragment"):
        raise WireError("a first message that is no greeting")
    return _greeting_from_wire(message.greeting)


def encode_dialler_refusal(refusal: Refusal) -> bytes:
    """The dialler's second message, if it does not accept the acceptor's greeting."""
    return pb.FramesMessage(refusal=_refusal_to_wire(refusal)).SerializeToString()


def encode_answer(answer: Greeting | Refusal) -> bytes:
    """The acceptor's answer to a greeting on a Frames stream."""
    if isinstance(answer, Refusal):
        return pb.FramesAnswer(refusal=_refusal_to_wire(answer)).SerializeToString()
    return pb.FramesAnswer(greeting=_greeting_to_wire(answer)).SerializeToString()


def decode_answer(data: bytes) -> Greeting | Refusal:
    """The acceptor's answer.

    Raises:
        WireError: neither greeting nor refusal.
    """
    message = pb.FramesAnswer()
    _parse(message, data)
    if message.HasField("refusal"):
        return refusal_from_wire(message.refusal)
    if not message.HasField("greeting"):
        raise WireError("an answer without a greeting")
    return _greeting_from_wire(message.greeting)


def encode_snapshot_start(greeting: Greeting, header: SnapshotHeader) -> bytes:
    """The first message of a Snapshot stream."""
    wire = pb.SnapshotHeader(
        term=header.term, index=header.index, size_bytes=header.size_bytes, snapshot_id=header.snapshot_id
    )
    return pb.SnapshotMessage(greeting=_greeting_to_wire(greeting), header=wire).SerializeToString()


def decode_snapshot_start(data: bytes) -> tuple[Greeting, SnapshotHeader]:
    """The first message of a Snapshot stream.

    Raises:
        WireError: not both of greeting and header, or a header that no snapshot has.
    """
    message = pb.SnapshotMessage()
    _parse(message, data)
    if not message.HasField("greeting") or not message.HasField("header") or message.HasField("chunk"):
        raise WireError("a snapshot that does not start with greeting and header")
    return _greeting_from_wire(message.greeting), _header_from_wire(message.header)


def encode_chunk(offset: int, data: bytes) -> bytes:
    """A later message of a Snapshot stream."""
    chunk = pb.SnapshotChunk(offset=offset, data=data, crc32=zlib.crc32(data))
    return pb.SnapshotMessage(chunk=chunk).SerializeToString()


def decode_chunk(data: bytes) -> SnapshotChunk:
    """A later message of a Snapshot stream.

    Raises:
        WireError: not a chunk, or its bytes are not those that were sent.
    """
    message = pb.SnapshotMessage()
    _parse(message, data)
    chunk = message.chunk
    if message.HasField("greeting") or not chunk.data:
        raise WireError("a snapshot chunk without bytes")
    if zlib.crc32(chunk.data) != chunk.crc32:
        raise WireError(f"a damaged snapshot chunk at offset {chunk.offset}")
    return SnapshotChunk(chunk.offset, chunk.data)


def encode_snapshot_answer(answer: Resume | Refusal | Received) -> bytes:
    """What the acceptor of a snapshot says."""
    if isinstance(answer, Resume):
        greeting = _greeting_to_wire(answer.greeting)
        return pb.SnapshotAnswer(greeting=greeting, resume_offset=answer.offset).SerializeToString()
    if isinstance(answer, Refusal):
        return pb.SnapshotAnswer(refusal=_refusal_to_wire(answer)).SerializeToString()
    return pb.SnapshotAnswer(received=True).SerializeToString()


def decode_snapshot_answer(data: bytes) -> Resume | Refusal | Received:
    """What the acceptor of a snapshot says.

    Raises:
        WireError: nothing.
    """
    message = pb.SnapshotAnswer()
    _parse(message, data)
    if message.HasField("refusal"):
        return refusal_from_wire(message.refusal)
    if message.received:
        return Received()
    if not message.HasField("greeting"):
        raise WireError("a snapshot answer that says nothing")
    return Resume(_greeting_from_wire(message.greeting), message.resume_offset)


def _parse(message: pb.FramesMessage | pb.FramesAnswer | pb.SnapshotMessage | pb.SnapshotAnswer, data: bytes) -> None:
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
    )


def _greeting_from_wire(wire: pb.Greeting) -> Greeting:
    if not 0 < wire.protocol_version_min <= wire.protocol_version_max:
        raise WireError(f"protocol versions {wire.protocol_version_min} to {wire.protocol_version_max}")
    if not wire.cluster_id or not wire.member_id or not wire.to_member_id:
        raise WireError("a greeting without ids")
    if len(wire.last_log_hash) != HASH_BYTES or len(wire.instance) != INSTANCE_BYTES:
        raise WireError(f"a greeting with a hash of {len(wire.last_log_hash)} bytes")
    if (wire.last_log_index | wire.current_term) >> 63 or wire.last_log_term > wire.current_term:
        raise WireError(f"a greeting in term {wire.current_term} with a log of term {wire.last_log_term}")
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
    )
    return Greeting(
        hello,
        wire.to_member_id,
        Lane(wire.lane),
        wire.instance,
        wire.protocol_version_min,
        wire.protocol_version_max,
    )


def _refusal_to_wire(refusal: Refusal) -> pb.Refusal:
    kind = f"REFUSAL_KIND_{refusal.kind.name}"
    detail = refusal.detail[:REFUSAL_CHARACTERS_MAX]
    return pb.Refusal(kind=kind, detail=detail, remembered_index=refusal.remembered_index)


def _header_from_wire(wire: pb.SnapshotHeader) -> SnapshotHeader:
    if (wire.term | wire.index | wire.size_bytes) >> 63 or not (wire.term and wire.index and wire.size_bytes):
        raise WireError(f"a snapshot of {wire.size_bytes} bytes at index {wire.index} in term {wire.term}")
    if _SNAPSHOT_ID.fullmatch(wire.snapshot_id) is None:
        raise WireError("a snapshot whose name cannot be one")
    return SnapshotHeader(wire.snapshot_id, wire.size_bytes, wire.index, wire.term)
