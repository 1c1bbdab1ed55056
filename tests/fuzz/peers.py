"""The peer protocol's decoders: whatever a stranger sends is a value that a member can have sent, or a `WireError`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from google.protobuf.message import Message as ProtobufMessage
from hypothesis import strategies as st

from kvraft.peer_frames import GreetingRefused, PeerHello
from kvraft.raft.entries import HASH_BYTES, EntryKind, chain
from kvraft.transport import codec, envelope
from kvraft.transport.codec import Fragment, Reassembly, WireError
from kvraft.transport.handshake import Greeting, judge_greeting
from kvraft.transport.pb import raft_pb2 as pb
from tests.fuzz.damage import U64, damaged
from tests.fuzz.engine import Check, Target
from tests.transport.test_codec import FRAMES, GREETINGS

REASSEMBLED_BYTES_MAX: Final = 1 << 16
OURS: Final = PeerHello(7, 1, 5, 10, 4, bytes(HASH_BYTES), False)

NUMBERS: Final = st.integers(0, 6) | U64
HASHES: Final = (
    st.just(bytes(HASH_BYTES)) | st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES) | st.binary(max_size=20)
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """A chain hash and an entry's record, whose kind, index, term and clock may be anything."""
    kind = draw(st.sampled_from([*EntryKind, 3, 255]))
    header = bytes([kind]) + b"".join(draw(NUMBERS).to_bytes(8, "little") for _ in range(3))
    record = header + draw(st.binary(max_size=20))
    return draw(st.just(chain(bytes(HASH_BYTES), record)) | HASHES) + record


def values_of(descriptor: Any) -> st.SearchStrategy[Any]:
    """Values for one field of a message, whatever it means."""
    if descriptor.message_type is not None:
        return messages(descriptor.message_type)
    if descriptor.name == "entries":
        return records()
    if descriptor.type == descriptor.TYPE_BYTES:
        return HASHES | st.binary(max_size=40)
    match descriptor.cpp_type:
        case descriptor.CPPTYPE_UINT64 | descriptor.CPPTYPE_INT64:
            return NUMBERS
        case descriptor.CPPTYPE_UINT32 | descriptor.CPPTYPE_INT32 | descriptor.CPPTYPE_ENUM:
            return st.integers(0, 6) | st.sampled_from((2**31 - 1,))
        case descriptor.CPPTYPE_BOOL:
            return st.booleans()
    assert descriptor.cpp_type == descriptor.CPPTYPE_STRING, f"a new kind of field: {descriptor.full_name}"
    return st.text(max_size=12) | st.sampled_from(("../up", "a/b", "x" * 2000, "1-1-" + "0" * 32))


@st.composite
def messages(draw: st.DrawFn, descriptor: Any) -> ProtobufMessage:
    """A message of this type with any of its fields."""
    message: ProtobufMessage = getattr(pb, descriptor.name)()
    for field in draw(st.lists(st.sampled_from(list(descriptor.fields)), unique_by=lambda f: f.name, max_size=8)):
        slot = getattr(message, field.name)
        if field.is_repeated:
            for value in draw(st.lists(values_of(field), min_size=1, max_size=4)):
                if field.message_type is None:
                    slot.append(value)
                else:
                    slot.add().CopyFrom(value)
        elif field.message_type is not None:
            slot.CopyFrom(draw(values_of(field)))
        else:
            setattr(message, field.name, draw(values_of(field)))
    return message


TYPES: Final = ("SessionMessage", "Frame", "SnapshotMessage", "SnapshotAnswer", "StatusAnswer", "Greeting")
INPUTS: Final[st.SearchStrategy[bytes]] = st.one_of(
    damaged(st.lists(FRAMES, min_size=1, max_size=3).map(codec.encode_frames)),
    damaged(st.builds(lambda frame: next(codec.encode_fragments(frame, 30)), FRAMES)),
    damaged(GREETINGS.map(envelope.encode_answer)),
    st.binary(max_size=60),
    *[
        damaged(messages(pb.DESCRIPTOR.message_types_by_name[name]).map(lambda m: m.SerializeToString()))
        for name in TYPES
    ],
)

DECODERS: Final[tuple[Callable[[bytes], Any], ...]] = (
    codec.decode_message,
    codec.decode_frame,
    envelope.decode_greeting,
    envelope.decode_answer,
    envelope.decode_header,
    envelope.decode_chunk,
    envelope.decode_snapshot_answer,
)


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    yield check


def check(data: bytes) -> str:
    """Every decoder takes the bytes or raises `WireError`; what it takes can be used."""
    outcomes = set()
    for decode in DECODERS:
        try:
            value = decode(data)
        except WireError as error:
            assert str(error).isprintable()
            continue
        outcomes.add(_use(value))
    return max(outcomes, default="refused")


def _use(value: Any) -> str:
    match value:
        case Greeting():
            refusal = judge_greeting(value, OURS, {2, 3}, lambda _hello, _instance: None)
            assert refusal is None or refusal.detail.isprintable()
            assert envelope.decode_greeting(envelope.encode_answer(value)) == value
            return "greeting"
        case GreetingRefused():
            assert len(value.detail) <= codec.REFUSAL_CHARACTERS_MAX
            return "another message"
        case Fragment():
            with contextlib.suppress(WireError):
                Reassembly(REASSEMBLED_BYTES_MAX).add(value)
            return "fragment"
        case list():
            assert codec.decode_message(codec.encode_frames(value)) == value, "it travels on unchanged"
            return "frames"
        case _:
            return "another message"


TARGET: Final = Target("peer-messages", INPUTS, _open, frozenset({"refused", "frames", "fragment"}))
