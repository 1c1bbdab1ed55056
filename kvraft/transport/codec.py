"""The core's messages and protobuf: the only file that knows both. What it accepts is safe to hand to the core.

(Greetings and snapshots, which the core does not know, are in `envelope.py`.)

This file alone reads what lanes carry. Whatever cannot come from a correct member of a known protocol version raises
`WireError`; the connection is then closed, and nothing of the whole message has gone further.

Entries travel as their chain hash and their record, as hashed and stored; they are never encoded anew. Their chain is
checked by the core, which alone knows what stands before them.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, final

from google.protobuf.message import DecodeError

from kvraft.peer_frames import (
    ForwardedCommand,
    ForwardFence,
    ForwardFenced,
    ForwardRefused,
    Frame,
    GreetingRefusalReason,
    GreetingRefused,
    MatchIndices,
    StateHash,
)
from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import HASH_BYTES, ZERO_HASH, Entry, entries_from_wire
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
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


@final
class Word(enum.IntEnum):
    """What needs no more than saying it. The numbers are those on the wire; proto/raft.proto says what they mean."""

    ACCEPTED = 1
    RETIRE = 2
    FETCH = 3
    NOT_FETCHED = 4


def frame_size(frame: Frame) -> int:
    """How many bytes the frame takes on the wire, or a few more."""
    if isinstance(frame, AppendEntries):
        return _SMALL_FRAME_BYTES + sum([len(entry.record) + _ENTRY_OVERHEAD for entry in frame.entries])
    if isinstance(frame, ForwardedCommand):
        return _SMALL_FRAME_BYTES + len(frame.payload)
    if isinstance(frame, ForwardRefused):
        return _SMALL_FRAME_BYTES + len(frame.request_id) + 4 * len(frame.reason)
    if isinstance(frame, RebuildReply):
        return _SMALL_FRAME_BYTES + sum(len(each.encode()) + _ENTRY_OVERHEAD for each in frame.configurations)
    return _SMALL_FRAME_BYTES


def encode_frames(frames: Iterable[Frame]) -> bytes:
    """One message with these frames."""
    message = pb.SessionMessage()
    add = message.frames.add
    for frame in frames:
        _codec_of(frame).write(add(), frame)
    return message.SerializeToString()


def encode_fragments(frame: Frame, fragment_bytes: int) -> Iterator[bytes]:
    """One frame as consecutive messages of about `fragment_bytes` each."""
    whole = pb.Frame()
    _codec_of(frame).write(whole, frame)
    data = whole.SerializeToString()
    for start in range(0, len(data), fragment_bytes):
        part = pb.Fragment(data=data[start : start + fragment_bytes], frame_bytes=len(data))
        yield pb.SessionMessage(fragment=part).SerializeToString()


def encode_word(word: Word) -> bytes:
    """A message that is a word."""
    return pb.SessionMessage(word=f"WORD_{word.name}").SerializeToString()


def decode_message(data: bytes) -> list[Frame] | Fragment | GreetingRefused | Word:
    """What a message on a lane carries once both sides have greeted.

    Raises:
        WireError: not a message, an unknown kind of frame, impossible numbers, or nothing at all.
    """
    message = pb.SessionMessage()
    _parse(message, data)
    frames = message.frames[:]  # a list: to go through protobuf's own container costs as much as all the rest
    if frames:
        if message.HasField("fragment") or message.word:
            raise WireError("frames beside something else")
        return [_frame(frame) for frame in frames]
    if message.HasField("fragment"):
        part = message.fragment
        if not 0 < len(part.data) <= part.frame_bytes:
            raise WireError(f"a fragment of {len(part.data)} bytes of a frame of {part.frame_bytes}")
        return Fragment(part.data, part.frame_bytes)
    if message.HasField("greeting"):
        raise WireError("a second greeting")
    if message.HasField("refusal"):
        return refusal_from_wire(message.refusal)
    try:
        return Word(message.word)
    except ValueError:
        raise WireError("a message that says nothing") from None


def decode_frame(data: bytes) -> Frame:
    """A frame that was put together from its fragments.

    Raises:
        WireError: as in `decode_message`.
    """
    frame = pb.Frame()
    _parse(frame, data)
    return _frame(frame)


def refusal_from_wire(wire: pb.Refusal) -> GreetingRefused:
    """A peer's refusal. One of a kind that only later versions know is taken for its text."""
    known = wire.kind in {kind.value for kind in GreetingRefusalReason}
    kind = GreetingRefusalReason(wire.kind) if known else GreetingRefusalReason.OTHER
    _numbers("refusal", wire.remembered_index)
    return GreetingRefused(kind, wire.detail[:REFUSAL_CHARACTERS_MAX], wire.remembered_index)


@final
class Reassembly:
    """Puts a frame together from its fragments."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max: Final = frame_bytes_max
        self._data = bytearray()
        self._frame_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no frame is half here."""
        return not self._data

    def add(self, fragment: Fragment) -> Frame | None:
        """Take the next fragment; the frame, if it was the last one.

        Raises:
            WireError: it does not fit the ones before it, the frame is larger than allowed, or is none.
        """
        if not self._data:
            self._frame_bytes = fragment.frame_bytes
        if fragment.frame_bytes != self._frame_bytes or fragment.frame_bytes > self._frame_bytes_max:
            raise WireError(f"a fragment of a frame of {fragment.frame_bytes} bytes")
        self._data += fragment.data
        if len(self._data) < self._frame_bytes:
            return None
        if len(self._data) > self._frame_bytes:
            raise WireError(f"fragments beyond the {self._frame_bytes} bytes of their frame")
        whole = bytes(self._data)
        self._data = bytearray()
        return decode_frame(whole)


def _parse(message: pb.SessionMessage | pb.Frame, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise WireError(f"{len(data)} bytes that are no message") from None


def _codec_of(frame: Frame) -> "_Plain | _Rich":
    try:
        return _BY_TYPE[type(frame)]
    except KeyError:
        raise TypeError("a snapshot travels by send_snapshot, never as a frame") from None


def _frame(frame: pb.Frame) -> Frame:
    kind = frame.WhichOneof("body")
    if kind is None:
        raise WireError("a frame of an unknown kind")
    return _BY_KIND[kind].read(getattr(frame, kind))


def _numbers(kind: str, *numbers: int) -> None:
    """Refuse what does not fit a signed 64-bit integer: no index, term or clock gets there, and sums stay exact."""
    if max(numbers) >> 63:
        raise WireError(f"{kind} with a number of 2^63 or more")


# ---- Frames that are numbers and flags, field by field ----


@final
class _Plain:
    """A kind of frame whose fields are integers below 2^63 and booleans, under the same names on the wire."""

    def __init__(
        self,
        kind: str,
        made: type[Frame],
        fields: str,
        complaint: Callable[[Any], str | None] | None = None,
    ) -> None:
        """`complaint` says what is impossible about a frame, if anything is."""
        self.kind = kind
        self.made: type = made
        self._fields = fields.split()
        self._values = attrgetter(*self._fields) if len(self._fields) > 1 else _alone(fields)
        self._complaint = complaint

    def write(self, slot: pb.Frame, frame: Frame) -> None:
        """Fill the protobuf form."""
        body = getattr(slot, self.kind)
        body.SetInParent()
        for name, value in zip(self._fields, self._values(frame), strict=True):
            if value:  # 0 and False are what a field is that was not set (proto3)
                setattr(body, name, value)

    def read(self, body: Any) -> Frame:
        """The frame, checked."""
        values = self._values(body)
        if max(values) >> 63:
            raise WireError(f"{self.kind} with a number of 2^63 or more")
        frame: Frame = self.made(*values)
        if self._complaint is not None:
            complaint = self._complaint(frame)
            if complaint is not None:
                raise WireError(complaint)
        return frame


def _alone(name: str) -> Callable[[object], tuple[int]]:
    return lambda owner: (getattr(owner, name),)


def _needs_term(frame: Heartbeat | TimeoutNow) -> str | None:
    return None if frame.term else f"{type(frame).__name__} of term 0"


def _vote(frame: RequestVote) -> str | None:
    above = frame.last_log_term >= frame.term
    return f"vote request of term {frame.term} with a log of term {frame.last_log_term}" if above else None


def _pre_vote(frame: RequestPreVote) -> str | None:
    above = frame.last_log_term > frame.term
    return f"pre-vote request of term {frame.term} with a log of term {frame.last_log_term}" if above else None


def _fence(frame: ForwardFence | ForwardFenced) -> str | None:
    return None if frame.term and frame.epoch else f"a fence of term {frame.term} and epoch {frame.epoch}"


def _read_index_request(frame: ReadIndexRequest) -> str | None:
    return None if frame.read_id else "read index request 0"


# ---- Frames that carry more ----


@final
class _Rich:
    """A kind of frame with functions of its own."""

    def __init__(
        self, kind: str, made: type[Frame], fill: Callable[[Any, Any], None], read: Callable[[Any], Frame]
    ) -> None:
        self.kind = kind
        self.made: type = made
        self._fill = fill
        self.read = read

    def write(self, slot: pb.Frame, frame: Frame) -> None:
        """Fill the protobuf form."""
        self._fill(getattr(slot, self.kind), frame)


_APPEND: Final = attrgetter(
    "term", "prev_log_index", "prev_log_term", "prev_log_hash", "leader_commit", "clock_ms", "notice"
)
"""All of it but the entries."""


def _fill_append_entries(body: pb.AppendEntries, frame: AppendEntries) -> None:
    body.term = frame.term
    body.prev_log_index = frame.prev_log_index
    body.prev_log_term = frame.prev_log_term
    body.prev_log_hash = frame.prev_log_hash
    if frame.entries:
        body.entries.extend([entry.chain_hash + entry.record for entry in frame.entries])
    body.leader_commit = frame.leader_commit
    body.clock_ms = frame.clock_ms
    body.notice = frame.notice


def _append_entries(body: pb.AppendEntries) -> AppendEntries:
    term, prev_log_index, prev_log_term, prev_log_hash, leader_commit, clock_ms, notice = _APPEND(body)
    _numbers("append", term, prev_log_index, prev_log_term, leader_commit, clock_ms)
    if term == 0:
        raise WireError("append of term 0")
    if len(prev_log_hash) != HASH_BYTES:
        raise WireError(f"append with a hash of {len(prev_log_hash)} bytes")
    if prev_log_index == 0 and (prev_log_term or prev_log_hash != ZERO_HASH):
        raise WireError("append behind index 0 with a term or hash")
    if prev_log_term > term or (prev_log_index and not prev_log_term):
        raise WireError(f"append of term {term} behind an entry of term {prev_log_term}")
    encoded = body.entries[:]
    entries = _entries(encoded, prev_log_index, prev_log_term, term) if encoded else []
    if notice and entries:
        raise WireError("append with entries that is a notice")
    return AppendEntries(term, prev_log_index, prev_log_term, prev_log_hash, entries, leader_commit, clock_ms, notice)


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


def _fill_forwarded_command(body: pb.ForwardedCommand, frame: ForwardedCommand) -> None:
    body.term = frame.term
    body.payload = frame.payload
    body.epoch = frame.epoch


def _forwarded_command(body: pb.ForwardedCommand) -> ForwardedCommand:
    _numbers("forwarded command", body.term, body.epoch)
    if not body.payload:
        raise WireError("a forwarded command without a payload")
    return ForwardedCommand(body.term, body.payload, body.epoch)


def _fill_forward_refused(body: pb.ForwardRefused, frame: ForwardRefused) -> None:
    body.request_id = frame.request_id
    body.reason = frame.reason
    body.term = frame.term
    body.epoch = frame.epoch


def _forward_refused(body: pb.ForwardRefused) -> ForwardRefused:
    if not body.request_id:
        raise WireError("a refused forward without a request id")
    _numbers("refused forward", body.term, body.epoch)
    return ForwardRefused(body.request_id, body.reason, body.term, body.epoch)


def _fill_state_hash(body: pb.StateHash, frame: StateHash) -> None:
    body.index = frame.index
    body.state_hash = frame.state_hash


def _state_hash(body: pb.StateHash) -> StateHash:
    _numbers("state hash", body.index)
    if body.index == 0 or not 0 < len(body.state_hash) <= _STATE_HASH_BYTES_MAX:
        raise WireError(f"a state hash of {len(body.state_hash)} bytes at index {body.index}")
    return StateHash(body.index, body.state_hash)


def _fill_match_indices(body: pb.MatchIndices, frame: MatchIndices) -> None:
    for member_id, index in frame.indices:
        body.members.add(member_id=member_id, index=index)


def _match_indices(body: pb.MatchIndices) -> MatchIndices:
    indices = tuple((each.member_id, each.index) for each in body.members)
    for member_id, index in indices:
        _numbers("match index", index)
        if not member_id or not index:
            raise WireError(f"match index {index} of member {member_id:x}")
    if not indices or len(indices) != len(dict(indices)):
        raise WireError(f"match indices of {len(indices)} members")
    return MatchIndices(indices)


def _fill_rebuild_reply(body: pb.RebuildReply, frame: RebuildReply) -> None:
    body.term = frame.term
    body.nonce = frame.nonce
    body.last_log_index = frame.last_log_index
    body.last_log_term = frame.last_log_term
    body.blank = frame.blank
    body.configurations.extend([configuration.encode() for configuration in frame.configurations])


def _rebuild_reply(body: pb.RebuildReply) -> RebuildReply:
    _numbers("rebuild reply", body.term, body.nonce, body.last_log_index, body.last_log_term)
    told = body.term | body.last_log_index | body.last_log_term
    if body.last_log_term > body.term or (body.blank and (told or body.configurations)):
        raise WireError(f"rebuild reply of term {body.term} with a log of term {body.last_log_term}")
    try:
        configurations = tuple(Configuration.decode(each) for each in body.configurations)
    except ValueError as error:
        raise WireError(f"rebuild reply: {error}") from None
    return RebuildReply(body.term, body.nonce, body.last_log_index, body.last_log_term, body.blank, configurations)


_ALL: Final = (
    _Rich("append_entries", AppendEntries, _fill_append_entries, _append_entries),
    _Plain("append_entries_reply", AppendEntriesReply, "term success match_index hint_index hint_term"),
    _Plain("forward_fence", ForwardFence, "term boot_nonce epoch", _fence),
    _Plain("forward_fenced", ForwardFenced, "term boot_nonce epoch last_log_index", _fence),
    _Rich("forward_refused", ForwardRefused, _fill_forward_refused, _forward_refused),
    _Rich("forwarded_command", ForwardedCommand, _fill_forwarded_command, _forwarded_command),
    _Plain("heartbeat", Heartbeat, "term leader_commit clock_ms read_id", _needs_term),
    _Plain("heartbeat_reply", HeartbeatReply, "term read_id last_log_index"),
    _Rich("match_indices", MatchIndices, _fill_match_indices, _match_indices),
    _Plain("read_index_reply", ReadIndexReply, "term read_id read_index"),
    _Plain("read_index_request", ReadIndexRequest, "term read_id", _read_index_request),
    _Rich("rebuild_reply", RebuildReply, _fill_rebuild_reply, _rebuild_reply),
    _Plain("rebuild_request", RebuildRequest, "term nonce"),
    _Plain("request_pre_vote", RequestPreVote, "term last_log_index last_log_term", _pre_vote),
    _Plain("request_pre_vote_reply", RequestPreVoteReply, "term prospective_term granted"),
    _Plain("request_vote", RequestVote, "term last_log_index last_log_term leadership_transfer", _vote),
    _Plain("request_vote_reply", RequestVoteReply, "term granted"),
    _Rich("state_hash", StateHash, _fill_state_hash, _state_hash),
    _Plain("timeout_now", TimeoutNow, "term", _needs_term),
)
"""With the name of the field in proto/raft.proto."""
_BY_KIND: Final[Mapping[str, _Plain | _Rich]] = {each.kind: each for each in _ALL}
_BY_TYPE: Final[Mapping[type, _Plain | _Rich]] = {each.made: each for each in _ALL}
