"""What goes onto the wire comes off it unchanged; what no correct member sends is refused whole."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvraft.peer_frames import (
    ForwardedCommand,
    ForwardFence,
    ForwardFenced,
    ForwardRefused,
    Frame,
    GreetingRefusalReason,
    GreetingRefused,
    MatchIndices,
    PeerHello,
    StateHash,
)
from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import HASH_BYTES, ZERO_HASH, Entry, EntryKind, make_entry
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
from kvraft.transport import codec, envelope
from kvraft.transport.codec import Fragment, Reassembly, WireError, Word
from kvraft.transport.handshake import Greeting, Lane
from kvraft.transport.pb import raft_pb2 as pb
from tests.transport import golden

NUMBER = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))
TERM = st.one_of(st.integers(1, 300), st.integers(1, 2**63 - 1))
HASH = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)


@st.composite
def append_entries(draw: st.DrawFn) -> AppendEntries:
    term = draw(TERM)
    prev_log_index = draw(st.one_of(st.just(0), st.integers(1, 2**62)))
    prev_log_term = draw(st.integers(1, term)) if prev_log_index else 0
    prev_log_hash = draw(HASH) if prev_log_index else ZERO_HASH
    payloads = draw(st.lists(st.binary(max_size=40), max_size=5))
    terms = sorted(draw(st.integers(max(1, prev_log_term), term)) for _ in payloads)
    entries: list[Entry] = []
    chain_hash = prev_log_hash
    for offset, (payload, entry_term) in enumerate(zip(payloads, terms, strict=True), start=1):
        kind = draw(st.sampled_from(EntryKind))
        entries.append(make_entry(chain_hash, prev_log_index + offset, entry_term, kind, draw(NUMBER), payload))
        chain_hash = entries[-1].chain_hash
    return AppendEntries(term, prev_log_index, prev_log_term, prev_log_hash, entries, draw(NUMBER), draw(NUMBER))


def _vote_requests() -> st.SearchStrategy[Frame]:
    return st.tuples(TERM, NUMBER, NUMBER, st.booleans()).map(
        lambda drawn: RequestVote(drawn[0], drawn[1], drawn[2] % drawn[0], drawn[3])
    )


CONFIGURATION = st.builds(
    lambda servers, learner, removed: Configuration.of(servers, {learner} - servers, removed - servers - {learner}),
    *(st.sets(st.integers(1, 2**64 - 1), max_size=9), st.integers(1, 9), st.sets(st.integers(1, 9))),
)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    append_entries(),
    st.builds(AppendEntriesReply, NUMBER, st.booleans(), NUMBER, NUMBER, NUMBER),
    st.builds(ForwardedCommand, NUMBER, st.binary(min_size=1, max_size=50), NUMBER),
    st.builds(ForwardFence, TERM, NUMBER, TERM),
    st.builds(ForwardFenced, TERM, NUMBER, TERM, NUMBER),
    st.builds(ForwardRefused, st.binary(min_size=1, max_size=20), st.text(max_size=20), NUMBER, NUMBER),
    st.builds(Heartbeat, TERM, NUMBER, NUMBER, NUMBER),
    st.builds(HeartbeatReply, NUMBER, NUMBER, NUMBER),
    st.builds(ReadIndexReply, NUMBER, NUMBER, NUMBER),
    st.builds(ReadIndexRequest, NUMBER, TERM),
    st.builds(lambda term, index, last: RequestPreVote(term, index, last % (term + 1)), NUMBER, NUMBER, NUMBER),
    st.builds(RequestPreVoteReply, NUMBER, NUMBER, st.booleans()),
    _vote_requests(),
    st.builds(RequestVoteReply, NUMBER, st.booleans()),
    st.builds(StateHash, TERM, st.binary(min_size=1, max_size=64)),
    st.builds(
        lambda indices: MatchIndices(tuple(indices.items())),
        st.dictionaries(st.integers(1, 2**64 - 1), TERM, min_size=1, max_size=5),
    ),
    st.builds(TimeoutNow, TERM),
    st.builds(RebuildRequest, NUMBER, NUMBER),
    st.builds(
        lambda term, nonce, index, last, told: RebuildReply(term, nonce, index, last % (term + 1), False, told),
        *(NUMBER, NUMBER, NUMBER, NUMBER, st.lists(CONFIGURATION, max_size=2).map(tuple)),
    ),
    st.builds(lambda nonce: RebuildReply(0, nonce, 0, 0, blank=True), NUMBER),
)
GREETINGS = st.builds(
    Greeting,
    st.builds(
        lambda cluster, member, term, index, last, chain_hash, fresh, founding: PeerHello(
            cluster, member, term, index, last % (term + 1), chain_hash, fresh, founding=founding
        ),
        st.integers(1, 2**64 - 1),
        st.integers(1, 2**64 - 1),
        NUMBER,
        NUMBER,
        NUMBER,
        HASH,
        st.booleans(),
        st.sampled_from((b"", bytes(16), b"a founding of 16")),
    ),
    st.integers(1, 2**64 - 1),
    st.sampled_from(Lane),
    st.binary(min_size=8, max_size=8),
    NUMBER,
    st.just(1),
    st.integers(1, 2**32 - 1),
)


@given(st.lists(FRAMES, min_size=1, max_size=6))
def test_frames_come_back_as_they_were_sent(frames: list[Frame]) -> None:
    """Every field of every kind survives, and the order of frames."""
    assert codec.decode_message(codec.encode_frames(frames)) == frames


@given(FRAMES)
def test_the_size_of_a_frame_is_never_guessed_too_low(frame: Frame) -> None:
    """Messages are filled by the guess, and the receiver refuses what is larger than allowed."""
    assert len(codec.encode_frames([frame])) <= codec.frame_size(frame)


@given(FRAMES, st.integers(1, 40))
def test_a_frame_comes_back_from_its_fragments(frame: Frame, fragment_bytes: int) -> None:
    """Whatever the size of the fragments, the last one and only the last one completes the frame."""
    parts = [codec.decode_message(part) for part in codec.encode_fragments(frame, fragment_bytes)]
    reassembly = Reassembly(1 << 20)
    results = [reassembly.add(part) for part in parts if isinstance(part, Fragment)]
    assert len(results) == len(parts)
    assert results[:-1] == [None] * (len(parts) - 1)
    assert results[-1] == frame
    assert reassembly.is_empty


@given(GREETINGS)
def test_greetings_come_back_as_they_were_sent(greeting: Greeting) -> None:
    """In both directions."""
    assert envelope.decode_greeting(envelope.encode_answer(greeting)) == greeting
    assert envelope.decode_answer(envelope.encode_answer(greeting)) == greeting


@given(st.sampled_from(GreetingRefusalReason), st.text(max_size=50), NUMBER)
def test_refusals_come_back_as_they_were_sent(kind: GreetingRefusalReason, detail: str, remembered_index: int) -> None:
    """The acceptor's first message, and the dialler's second."""
    refusal = GreetingRefused(kind, detail, remembered_index)
    assert envelope.decode_answer(envelope.encode_answer(refusal)) == refusal
    assert codec.decode_message(envelope.encode_answer(refusal)) == refusal


@pytest.mark.parametrize("word", Word)
def test_words_come_back_as_they_were_sent(word: Word) -> None:
    """Each a message by itself."""
    assert codec.decode_message(codec.encode_word(word)) is word


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_a_wire_error(data: bytes) -> None:
    """A stranger's bytes cannot raise what nobody expects."""
    for decode in (
        codec.decode_message,
        codec.decode_frame,
        envelope.decode_greeting,
        envelope.decode_answer,
        envelope.decode_header,
        envelope.decode_chunk,
        envelope.decode_snapshot_answer,
    ):
        try:
            decode(data)
        except WireError as error:
            assert str(error)


@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
def test_a_damaged_message_is_refused_or_still_a_valid_one(frames: list[Frame], data: st.DataObject) -> None:
    """A flipped bit below the stream's own checksums never gets through as something impossible."""
    encoded = bytearray(codec.encode_frames(frames))
    position = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[position // 8] ^= 1 << (position % 8)
    try:
        received = codec.decode_message(bytes(encoded))
    except WireError:
        return
    assert not isinstance(received, list) or codec.decode_message(codec.encode_frames(received)) == received


def test_the_bytes_on_the_wire_are_those_of_version_1() -> None:
    """Members of different builds must understand each other: these bytes never change."""
    committed = {name: bytes.fromhex(text) for name, text in json.loads(golden.PATH.read_text()).items()}
    assert golden.samples() == committed
    for name, frame in golden.FRAMES.items():
        assert codec.decode_message(committed[name]) == [frame]
    assert envelope.decode_greeting(committed["greeting"]) == golden.GREETING
    assert envelope.decode_header(committed["snapshot_header"]) == golden.HEADER
    assert envelope.decode_chunk(committed["snapshot_chunk"]) == envelope.SnapshotChunk(512, b"chunk")
    assert envelope.decode_snapshot_answer(committed["snapshot_resume"]) == envelope.Resume(512)


ENTRY = make_entry(ZERO_HASH, 1, 2, EntryKind.COMMAND, 1000, b"x")
WIRE_ENTRY = ENTRY.chain_hash + ENTRY.record
APPEND = {"term": 2, "prev_log_hash": ZERO_HASH, "entries": [WIRE_ENTRY]}


def _append(**changes: object) -> pb.Frame:
    return pb.Frame(append_entries=pb.AppendEntries(**{**APPEND, **changes}))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (pb.Frame(), "unknown kind"),
        (_append(term=0), "term 0"),
        (_append(prev_log_hash=b"short"), "hash of 5 bytes"),
        (_append(prev_log_hash=b"h" * 16), "behind index 0"),
        (_append(prev_log_term=1), "behind index 0"),
        (_append(prev_log_index=4), "behind an entry of term 0"),
        (_append(prev_log_index=4, prev_log_term=3), "behind an entry of term 3"),
        (_append(prev_log_index=1, prev_log_term=1), "where 2 was due"),
        (_append(prev_log_index=2**63), "2^63"),
        (_append(clock_ms=2**64 - 1), "2^63"),
        (_append(term=1), "in term 1"),
        (_append(entries=[WIRE_ENTRY, WIRE_ENTRY]), "where 2 was due"),
        (_append(entries=[WIRE_ENTRY[:40]]), "entry of 40 bytes"),
        (_append(entries=[WIRE_ENTRY[:16] + b"\x09" + WIRE_ENTRY[17:]]), "kind 9"),
        (_append(entries=[WIRE_ENTRY[:17] + bytes(8) + WIRE_ENTRY[25:]]), "index 0"),
        (_append(entries=[WIRE_ENTRY[:33] + b"\xff" * 8 + WIRE_ENTRY[41:]]), "where 1 was due"),
        (pb.Frame(append_entries_reply=pb.AppendEntriesReply(match_index=2**63)), "2^63"),
        (pb.Frame(heartbeat=pb.Heartbeat(leader_commit=1)), "term 0"),
        (pb.Frame(heartbeat=pb.Heartbeat(term=1, read_id=2**63)), "2^63"),
        (pb.Frame(heartbeat_reply=pb.HeartbeatReply(last_log_index=2**63)), "2^63"),
        (pb.Frame(read_index_request=pb.ReadIndexRequest(term=1)), "request 0"),
        (pb.Frame(read_index_reply=pb.ReadIndexReply(read_index=2**63)), "2^63"),
        (pb.Frame(request_pre_vote=pb.RequestPreVote(term=1, last_log_term=2)), "log of term 2"),
        (pb.Frame(request_pre_vote_reply=pb.RequestPreVoteReply(prospective_term=2**63)), "2^63"),
        (pb.Frame(request_vote=pb.RequestVote(term=2, last_log_term=2)), "log of term 2"),
        (pb.Frame(request_vote_reply=pb.RequestVoteReply(term=2**63)), "2^63"),
        (pb.Frame(timeout_now=pb.TimeoutNow()), "term 0"),
        (pb.Frame(rebuild_request=pb.RebuildRequest(nonce=2**63)), "2^63"),
        (pb.Frame(rebuild_reply=pb.RebuildReply(term=1, last_log_term=2)), "log of term 2"),
        (pb.Frame(rebuild_reply=pb.RebuildReply(term=1, blank=True)), "of term 1"),
        (pb.Frame(rebuild_reply=pb.RebuildReply(configurations=[b"x"], blank=True)), "of term 0"),
        (
            pb.Frame(rebuild_reply=pb.RebuildReply(term=1, configurations=[b"x"])),
            "configuration of 1 bytes is too short",
        ),
        (pb.Frame(rebuild_reply=pb.RebuildReply(nonce=2**63)), "2^63"),
        (pb.Frame(forwarded_command=pb.ForwardedCommand(term=1)), "without a payload"),
        (pb.Frame(forward_refused=pb.ForwardRefused(reason="x")), "without a request id"),
        (pb.Frame(forwarded_command=pb.ForwardedCommand(payload=b"x", epoch=2**63)), "2^63"),
        (pb.Frame(forward_refused=pb.ForwardRefused(request_id=b"x", epoch=2**63)), "2^63"),
        (pb.Frame(forward_fence=pb.ForwardFence(term=1)), "a fence of term 1 and epoch 0"),
        (pb.Frame(forward_fenced=pb.ForwardFenced(epoch=1)), "a fence of term 0"),
        (pb.Frame(forward_fenced=pb.ForwardFenced(term=1, boot_nonce=2**63, epoch=1)), "2^63"),
        (pb.Frame(match_indices=pb.MatchIndices()), "of 0 members"),
        (pb.Frame(match_indices=pb.MatchIndices(members=[pb.MatchIndex(index=1)])), "of member 0"),
        (pb.Frame(match_indices=pb.MatchIndices(members=[pb.MatchIndex(member_id=1)])), "match index 0"),
        (pb.Frame(match_indices=pb.MatchIndices(members=[pb.MatchIndex(member_id=1, index=2**63)])), "2^63"),
        (pb.Frame(match_indices=pb.MatchIndices(members=[pb.MatchIndex(member_id=1, index=2)] * 2)), "of 2 members"),
        (pb.Frame(state_hash=pb.StateHash(index=1)), "0 bytes"),
        (pb.Frame(state_hash=pb.StateHash(state_hash=b"x")), "index 0"),
    ],
)
def test_an_impossible_frame_is_refused_with_the_whole_message(frame: pb.Frame, complaint: str) -> None:
    """One impossible frame among good ones, and none of them gets further."""
    good = pb.Frame(heartbeat=pb.Heartbeat(term=1))
    data = pb.SessionMessage(frames=[good, frame, good]).SerializeToString()
    with pytest.raises(WireError) as caught:
        codec.decode_message(data)
    assert complaint in str(caught.value)


def test_a_message_is_one_thing_only() -> None:
    """Greetings come first and once; fragments and frames do not mix; an empty message says nothing."""
    greeting = pb.SessionMessage.FromString(envelope.encode_answer(golden.GREETING)).greeting
    frame = pb.Frame(heartbeat=pb.Heartbeat(term=1))
    part = pb.Fragment(data=b"ab", frame_bytes=3)
    for message, complaint in (
        (pb.SessionMessage(), "says nothing"),
        (pb.SessionMessage(word=99), "says nothing"),  # type: ignore[arg-type]  # unknown on purpose
        (pb.SessionMessage(greeting=greeting), "second greeting"),
        (pb.SessionMessage(frames=[frame], fragment=part), "beside something else"),
        (pb.SessionMessage(fragment=pb.Fragment(data=b"abcd", frame_bytes=3)), "4 bytes of a frame of 3"),
        (pb.SessionMessage(fragment=pb.Fragment(frame_bytes=3)), "0 bytes of a frame of 3"),
    ):
        with pytest.raises(WireError) as caught:
            codec.decode_message(message.SerializeToString())
        assert complaint in str(caught.value)
    for message in (pb.SessionMessage(greeting=greeting, frames=[frame]), pb.SessionMessage(frames=[frame])):
        with pytest.raises(WireError) as caught:
            envelope.decode_greeting(message.SerializeToString())
        assert "no greeting" in str(caught.value)


def test_fragments_that_do_not_fit_each_other_are_refused() -> None:
    """Their number is bounded by the first one, which is bounded by the settings."""
    with pytest.raises(WireError):
        Reassembly(100).add(Fragment(b"x", 101))
    changed = Reassembly(100)
    changed.add(Fragment(b"x", 10))
    with pytest.raises(WireError):
        changed.add(Fragment(b"x", 11))
    longer = Reassembly(100)
    longer.add(Fragment(b"x" * 9, 10))
    with pytest.raises(WireError):
        longer.add(Fragment(b"xx", 10))
    with pytest.raises(WireError):
        Reassembly(100).add(Fragment(b"\xff", 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_id": 0},
        {"member_id": 0},
        {"to_member_id": 0},
        {"protocol_version_min": 0},
        {"protocol_version_min": 3, "protocol_version_max": 2},
        {"last_log_hash": b"short"},
        {"instance": b""},
        {"last_log_term": 9, "current_term": 8},
        {"last_log_index": 2**63},
        {"lane": 0},
        {"lane": 77},
        {"session": 2**63},
    ],
)
def test_an_impossible_greeting_is_refused(changes: dict[str, int | bytes]) -> None:
    """Before anybody judges it."""
    wire = pb.SessionMessage.FromString(envelope.encode_answer(golden.GREETING))
    for name, value in changes.items():
        setattr(wire.greeting, name, value)
    with pytest.raises(WireError):
        envelope.decode_greeting(wire.SerializeToString())


@pytest.mark.parametrize(
    "header",
    [
        dataclasses.replace(golden.HEADER, snapshot_id="../../etc/passwd"),
        dataclasses.replace(golden.HEADER, snapshot_id=".hidden"),
        dataclasses.replace(golden.HEADER, snapshot_id=""),
        dataclasses.replace(golden.HEADER, snapshot_id="x" * 129),
        dataclasses.replace(golden.HEADER, snapshot_id="a\n"),
        dataclasses.replace(golden.HEADER, size_bytes=0),
        dataclasses.replace(golden.HEADER, size_bytes=2**63),
        dataclasses.replace(golden.HEADER, index=0),
        dataclasses.replace(golden.HEADER, term=0),
    ],
)
def test_an_impossible_snapshot_header_is_refused(header: envelope.SnapshotHeader) -> None:
    """Its name becomes a file name, so it is held to a narrow form."""
    with pytest.raises(WireError):
        envelope.decode_header(envelope.encode_header(header))


def test_a_refusal_of_a_kind_unknown_here_still_says_why() -> None:
    """A later version may have more reasons; its text is for people."""
    data = pb.SessionMessage(refusal=pb.Refusal(kind=99, detail="later")).SerializeToString()  # type: ignore[arg-type]  # unknown on purpose
    assert envelope.decode_answer(data) == GreetingRefused(GreetingRefusalReason.OTHER, "later")


@settings(max_examples=25)
@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_fields_of_a_later_version_are_ignored(frames: list[Frame]) -> None:
    """Inside a frame and beside the frames: what is known of the message means what it meant."""
    message = pb.SessionMessage.FromString(codec.encode_frames(frames))
    unknown = bytes.fromhex("c0bb782a")  # field 123,000, a varint of 42
    for frame in message.frames:
        frame.MergeFromString(unknown)
    assert codec.decode_message(message.SerializeToString() + unknown) == frames


def test_a_snapshot_message_is_never_a_frame() -> None:
    """It travels with its bytes, by send_snapshot; among frames it is our own mistake."""
    with pytest.raises(TypeError):
        codec.encode_frames([InstallSnapshot(1, 1, 1, ZERO_HASH, Configuration.of([1]), "id")])
