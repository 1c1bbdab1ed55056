"""The core's messages and protobuf: the only file that knows both. What it accepts is safe to hand to the core.

(Greetings and snapshots, which the core does not know, are in `envelope.py`.)

Streams carry bytes, and this file alone reads them: what a stranger sends meets these checks and nothing of gRPC's
own deserialization. Whatever cannot come from a correct member of a known protocol version raises `WireError`; the
stream is then closed, and nothing of the whole message has gone further.

Entries travel as their chain hash and their record, as hashed and stored; they are never encoded anew. Their chain is
checked by the core, which alone knows what stands before them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never, final

from google.protobuf.message import DecodeError

from kvraft.peer_frames import (
    ForwardedCommand,
    ForwardRefused,
    Frame,
    MatchIndices,
    Refusal,
    RefusalKind,
    StateHash,
)
from kvraft.raft.entries import HASH_BYTES, ZERO_HASH, Entry, entries_from_wire
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    ReadIndexReply,
    ReadIndexRequest,
    RebuildReply,
    RebuildRequest,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.transport.pb import raft_pb2 as pb

_ENTRY_OVERHEAD: Final = HASH_BYTES + 5
"""Bytes of an entry in a message beside its record: chain hash, tag and length."""
_SMALL_FRAME_BYTES: Final = 96
"""What a frame without entries or payload takes at most."""
_STATE_HASH_BYTES_MAX: Final = 64
REFUSAL_CHARACTERS_MAX: Final = 1000
"""Longer details of a refusal are cut: they go into the log."""


@final
class WireError(ValueError):
    """Bytes that no correct member sends. The text says what is wrong with them."""


@final
@dataclass(slots=True)
class Fragment:
    """Part of a frame that is too large for one message."""

    data: bytes
    frame_bytes: int
    """Length of the whole frame."""


def frame_size(frame: Frame) -> int:
    """How many bytes the frame takes on the wire, or a few more."""
    if isinstance(frame, AppendEntries):
        return _SMALL_FRAME_BYTES + sum([len(entry.record) + _ENTRY_OVERHEAD for entry in frame.entries])
    if isinstance(frame, ForwardedCommand):
        return _SMALL_FRAME_BYTES + len(frame.payload)
    if isinstance(frame, ForwardRefused):
        return _SMALL_FRAME_BYTES + len(frame.request_id) + 4 * len(frame.reason)
    return _SMALL_FRAME_BYTES


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """One message with these frames."""
    message = pb.FramesMessage()
    add = message.frames.add
    for frame in frames:
        _fill(add(), frame)
    return message.SerializeToString()


def encode_fragments(frame: Frame, fragment_bytes: int) -> Iterator[bytes]:
    """One frame as consecutive messages of about `fragment_bytes` each."""
    whole = pb.Frame()
    _fill(whole, frame)
    data = whole.SerializeToString()
    for start in range(0, len(data), fragment_bytes):
        part = pb.Fragment(data=data[start : start + fragment_bytes], frame_bytes=len(data))
        yield pb.FramesMessage(fragment=part).SerializeToString()


def decode_frames(data: bytes) -> list[Frame] | Fragment | Refusal:
    """What a message on a stream that is open carries.

    Raises:
        WireError: not a message, an unknown kind of frame, impossible numbers, or nothing at all.
    """
    message = pb.FramesMessage()
    _parse(message, data)
    if message.HasField("greeting"):
        raise WireError("a second greeting")
    if message.HasField("refusal"):
        return refusal_from_wire(message.refusal)
    if message.HasField("fragment"):
        if message.frames:
            raise WireError("frames beside a fragment")
        part = message.fragment
        if not 0 < len(part.data) <= part.frame_bytes:
            raise WireError(f"a fragment of {len(part.data)} bytes of a frame of {part.frame_bytes}")
        return Fragment(part.data, part.frame_bytes)
    frames = [_frame(frame) for frame in message.frames]
    if not frames:
        raise WireError("a message without frames")
    return frames


def decode_frame(data: bytes) -> Frame:
    """A frame that was put together from its fragments.

    Raises:
        WireError: as in `decode_frames`.
    """
    frame = pb.Frame()
    _parse(frame, data)
    return _frame(frame)


def refusal_from_wire(wire: pb.Refusal) -> Refusal:
    """A peer's refusal. One of a kind that only later versions know is taken for its text."""
    known = wire.kind in {kind.value for kind in RefusalKind}
    kind = RefusalKind(wire.kind) if known else RefusalKind.OTHER
    _numbers("refusal", wire.remembered_index)
    return Refusal(kind, wire.detail[:REFUSAL_CHARACTERS_MAX], wire.remembered_index)


def _parse(message: pb.FramesMessage | pb.Frame, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise WireError(f"{len(data)} bytes that are no message") from None


def _fill(slot: pb.Frame, frame: Frame) -> None:  # noqa: C901, PLR0912, PLR0915 -- one branch a kind
    """Write a frame into its protobuf form. The kinds that come often are asked for first."""
    if isinstance(frame, AppendEntriesReply):
        append_reply = slot.append_entries_reply
        append_reply.term = frame.term
        append_reply.success = frame.success
        append_reply.match_index = frame.match_index
        append_reply.hint_index = frame.hint_index
        append_reply.hint_term = frame.hint_term
    elif isinstance(frame, AppendEntries):
        append = slot.append_entries
        append.term = frame.term
        append.prev_log_index = frame.prev_log_index
        append.prev_log_term = frame.prev_log_term
        append.prev_log_hash = frame.prev_log_hash
        append.entries.extend([entry.chain_hash + entry.record for entry in frame.entries])
        append.leader_commit = frame.leader_commit
        append.clock_ms = frame.clock_ms
        append.notice = frame.notice
    elif isinstance(frame, ForwardedCommand):
        command = slot.forwarded_command
        command.term = frame.term
        command.payload = frame.payload
    elif isinstance(frame, Heartbeat):
        heartbeat = slot.heartbeat
        heartbeat.term = frame.term
        heartbeat.leader_commit = frame.leader_commit
        heartbeat.clock_ms = frame.clock_ms
        heartbeat.read_id = frame.read_id
    elif isinstance(frame, HeartbeatReply):
        heartbeat_reply = slot.heartbeat_reply
        heartbeat_reply.term = frame.term
        heartbeat_reply.read_id = frame.read_id
        heartbeat_reply.last_log_index = frame.last_log_index
    elif isinstance(frame, ReadIndexRequest):
        slot.read_index_request.term = frame.term
        slot.read_index_request.read_id = frame.read_id
    elif isinstance(frame, ReadIndexReply):
        slot.read_index_reply.term = frame.term
        slot.read_index_reply.read_id = frame.read_id
        slot.read_index_reply.read_index = frame.read_index
    elif isinstance(frame, RequestPreVote):
        slot.request_pre_vote.term = frame.term
        slot.request_pre_vote.last_log_index = frame.last_log_index
        slot.request_pre_vote.last_log_term = frame.last_log_term
    elif isinstance(frame, RequestPreVoteReply):
        slot.request_pre_vote_reply.term = frame.term
        slot.request_pre_vote_reply.prospective_term = frame.prospective_term
        slot.request_pre_vote_reply.granted = frame.granted
    elif isinstance(frame, RequestVote):
        slot.request_vote.term = frame.term
        slot.request_vote.last_log_index = frame.last_log_index
        slot.request_vote.last_log_term = frame.last_log_term
        slot.request_vote.leadership_transfer = frame.leadership_transfer
    elif isinstance(frame, RequestVoteReply):
        slot.request_vote_reply.term = frame.term
        slot.request_vote_reply.granted = frame.granted
    elif isinstance(frame, TimeoutNow):
        slot.timeout_now.term = frame.term
    elif isinstance(frame, RebuildRequest):
        slot.rebuild_request.term = frame.term
        slot.rebuild_request.nonce = frame.nonce
    elif isinstance(frame, RebuildReply):
        slot.rebuild_reply.term = frame.term
        slot.rebuild_reply.nonce = frame.nonce
        slot.rebuild_reply.last_log_index = frame.last_log_index
        slot.rebuild_reply.last_log_term = frame.last_log_term
        slot.rebuild_reply.blank = frame.blank
    elif isinstance(frame, ForwardRefused):
        slot.forward_refused.request_id = frame.request_id
        slot.forward_refused.reason = frame.reason
        slot.forward_refused.term = frame.term
    elif isinstance(frame, StateHash):
        slot.state_hash.index = frame.index
        slot.state_hash.state_hash = frame.state_hash
    elif isinstance(frame, MatchIndices):
        for member_id, index in frame.indices:
            slot.match_indices.members.add(member_id=member_id, index=index)
    elif isinstance(frame, InstallSnapshot):
        raise TypeError("a snapshot travels by send_snapshot, never as a frame")
    else:
        assert_never(frame)


def _frame(frame: pb.Frame) -> Frame:
    kind = frame.WhichOneof("body")
    if kind is None:
        raise WireError("a frame of an unknown kind")
    return _DECODERS[kind](frame)


def _numbers(kind: str, *numbers: int) -> None:
    """Refuse what does not fit a signed 64-bit integer: no index, term or clock gets there, and sums stay exact."""
    if any(number >> 63 for number in numbers):
        raise WireError(f"{kind} with a number of 2^63 or more")


def _append_entries_reply(frame: pb.Frame) -> AppendEntriesReply:
    body = frame.append_entries_reply
    reply = AppendEntriesReply(body.term, body.success, body.match_index, body.hint_index, body.hint_term)
    if (reply.term | reply.match_index | reply.hint_index | reply.hint_term) >> 63:
        raise WireError("append reply with a number of 2^63 or more")
    return reply


def _append_entries(frame: pb.Frame) -> AppendEntries:
    body = frame.append_entries
    prev_log_index, prev_log_hash = body.prev_log_index, body.prev_log_hash
    _numbers("append", body.term, prev_log_index, body.prev_log_term, body.leader_commit, body.clock_ms)
    if body.term == 0:
        raise WireError("append of term 0")
    if len(prev_log_hash) != HASH_BYTES:
        raise WireError(f"append with a hash of {len(prev_log_hash)} bytes")
    if prev_log_index == 0 and (body.prev_log_term or prev_log_hash != ZERO_HASH):
        raise WireError("append behind index 0 with a term or hash")
    if body.prev_log_term > body.term or (prev_log_index and not body.prev_log_term):
        raise WireError(f"append of term {body.term} behind an entry of term {body.prev_log_term}")
    entries = _entries(body.entries, prev_log_index, body.prev_log_term, body.term)
    if body.notice and entries:
        raise WireError("append with entries that is a notice")
    return AppendEntries(
        body.term,
        prev_log_index,
        body.prev_log_term,
        prev_log_hash,
        entries,
        body.leader_commit,
        body.clock_ms,
        body.notice,
    )


def _entries(encoded: Iterable[bytes], prev_log_index: int, prev_log_term: int, term: int) -> list[Entry]:
    """Entries behind (`prev_log_index`, `prev_log_term`): consecutive, of rising terms up to the leader's."""
    try:
        entries = entries_from_wire(encoded)
    except ValueError as error:
        raise WireError(str(error)) from None
    index, last_term = prev_log_index, prev_log_term
    for entry in entries:
        index += 1
        if entry.index != index or not last_term <= entry.term <= term or entry.clock_ms >> 63:
            raise WireError(f"entry {entry.index} of term {entry.term} where {index} was due in term {term}")
        last_term = entry.term
    return entries


def _forwarded_command(frame: pb.Frame) -> ForwardedCommand:
    body = frame.forwarded_command
    _numbers("forwarded command", body.term)
    if not body.payload:
        raise WireError("a forwarded command without a payload")
    return ForwardedCommand(body.term, body.payload)


def _forward_refused(frame: pb.Frame) -> ForwardRefused:
    body = frame.forward_refused
    if not body.request_id:
        raise WireError("a refused forward without a request id")
    return ForwardRefused(body.request_id, body.reason, body.term)


def _heartbeat(frame: pb.Frame) -> Heartbeat:
    body = frame.heartbeat
    _numbers("heartbeat", body.term, body.leader_commit, body.clock_ms, body.read_id)
    if body.term == 0:
        raise WireError("heartbeat of term 0")
    return Heartbeat(body.term, body.leader_commit, body.clock_ms, body.read_id)


def _heartbeat_reply(frame: pb.Frame) -> HeartbeatReply:
    body = frame.heartbeat_reply
    _numbers("heartbeat reply", body.term, body.read_id, body.last_log_index)
    return HeartbeatReply(body.term, body.read_id, body.last_log_index)


def _read_index_request(frame: pb.Frame) -> ReadIndexRequest:
    body = frame.read_index_request
    _numbers("read index request", body.term, body.read_id)
    if body.read_id == 0:
        raise WireError("read index request 0")
    return ReadIndexRequest(body.term, body.read_id)


def _read_index_reply(frame: pb.Frame) -> ReadIndexReply:
    body = frame.read_index_reply
    _numbers("read index reply", body.term, body.read_id, body.read_index)
    return ReadIndexReply(body.term, body.read_id, body.read_index)


def _rebuild_request(frame: pb.Frame) -> RebuildRequest:
    body = frame.rebuild_request
    _numbers("rebuild request", body.term, body.nonce)
    return RebuildRequest(body.term, body.nonce)


def _rebuild_reply(frame: pb.Frame) -> RebuildReply:
    body = frame.rebuild_reply
    _numbers("rebuild reply", body.term, body.nonce, body.last_log_index, body.last_log_term)
    told = body.term | body.last_log_index | body.last_log_term
    if body.last_log_term > body.term or (body.blank and told):
        raise WireError(f"rebuild reply of term {body.term} with a log of term {body.last_log_term}")
    return RebuildReply(body.term, body.nonce, body.last_log_index, body.last_log_term, body.blank)


def _request_pre_vote(frame: pb.Frame) -> RequestPreVote:
    body = frame.request_pre_vote
    _numbers("pre-vote request", body.term, body.last_log_index, body.last_log_term)
    if body.last_log_term > body.term:
        raise WireError(f"pre-vote request of term {body.term} with a log of term {body.last_log_term}")
    return RequestPreVote(body.term, body.last_log_index, body.last_log_term)


def _request_pre_vote_reply(frame: pb.Frame) -> RequestPreVoteReply:
    body = frame.request_pre_vote_reply
    _numbers("pre-vote reply", body.term, body.prospective_term)
    return RequestPreVoteReply(body.term, body.prospective_term, body.granted)


def _request_vote(frame: pb.Frame) -> RequestVote:
    body = frame.request_vote
    _numbers("vote request", body.term, body.last_log_index, body.last_log_term)
    if body.last_log_term >= body.term:
        raise WireError(f"vote request of term {body.term} with a log of term {body.last_log_term}")
    return RequestVote(body.term, body.last_log_index, body.last_log_term, body.leadership_transfer)


def _request_vote_reply(frame: pb.Frame) -> RequestVoteReply:
    body = frame.request_vote_reply
    _numbers("vote reply", body.term)
    return RequestVoteReply(body.term, body.granted)


def _timeout_now(frame: pb.Frame) -> TimeoutNow:
    _numbers("timeout-now", frame.timeout_now.term)
    if frame.timeout_now.term == 0:
        raise WireError("timeout-now of term 0")
    return TimeoutNow(frame.timeout_now.term)


def _state_hash(frame: pb.Frame) -> StateHash:
    body = frame.state_hash
    _numbers("state hash", body.index)
    if body.index == 0 or not 0 < len(body.state_hash) <= _STATE_HASH_BYTES_MAX:
        raise WireError(f"a state hash of {len(body.state_hash)} bytes at index {body.index}")
    return StateHash(body.index, body.state_hash)


def _match_indices(frame: pb.Frame) -> MatchIndices:
    indices = tuple((each.member_id, each.index) for each in frame.match_indices.members)
    for member_id, index in indices:
        _numbers("match index", index)
        if not member_id or not index:
            raise WireError(f"match index {index} of member {member_id:x}")
    if not indices or len(indices) != len(dict(indices)):
        raise WireError(f"match indices of {len(indices)} members")
    return MatchIndices(indices)


_DECODERS: Final[dict[str, Callable[[pb.Frame], Frame]]] = {
    "append_entries": _append_entries,
    "append_entries_reply": _append_entries_reply,
    "forward_refused": _forward_refused,
    "forwarded_command": _forwarded_command,
    "heartbeat": _heartbeat,
    "heartbeat_reply": _heartbeat_reply,
    "match_indices": _match_indices,
    "read_index_reply": _read_index_reply,
    "read_index_request": _read_index_request,
    "rebuild_reply": _rebuild_reply,
    "rebuild_request": _rebuild_request,
    "request_pre_vote": _request_pre_vote,
    "request_pre_vote_reply": _request_pre_vote_reply,
    "request_vote": _request_vote,
    "request_vote_reply": _request_vote_reply,
    "state_hash": _state_hash,
    "timeout_now": _timeout_now,
}
