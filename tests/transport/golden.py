"""One sample of everything on the wire, for golden bytes: `python -m tests.transport.golden` writes them anew.

Bytes of a version that was released never change; a new kind of message adds lines.
"""

import dataclasses
import json
from pathlib import Path
from typing import Final

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
from kvraft.raft.entries import ZERO_HASH, EntryKind, make_entry
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
from kvraft.transport import codec, envelope, framing
from kvraft.transport.handshake import Greeting, Lane

PATH: Final = Path(__file__).parents[1] / "data" / "transport" / "wire.json"
GREETING: Final = Greeting(  # of a program that speaks version 1 alone
    PeerHello(0xCAFE, 0xA1, 7, 1234, 6, bytes(range(16)), fresh=False), 0xB2, Lane.ENTRIES, b"instance", 5, 1, 1
)
HEADER: Final = envelope.SnapshotHeader("4d2-6-000102030405060708090a0b0c0d0e0f", 1 << 30, 1234, 7)
REFUSAL: Final = GreetingRefused(GreetingRefusalReason.WIPED, "its data directory is empty")
_FIRST: Final = make_entry(ZERO_HASH, 1, 2, EntryKind.NOOP, 1000, b"")
_SECOND: Final = make_entry(_FIRST.chain_hash, 2, 2, EntryKind.COMMAND, 1001, b"payload")
_THIRD: Final = make_entry(_SECOND.chain_hash, 3, 5, EntryKind.CONFIGURATION, 1002, b"\x01\x01\x00\x00\x00")
FRAMES: Final[dict[str, Frame]] = {
    "append_entries": AppendEntries(5, 1, 2, _FIRST.chain_hash, [_SECOND, _THIRD], 1, 1003),
    "append_entries_at_the_start": AppendEntries(2, 0, 0, ZERO_HASH, [_FIRST], 0, 1000),
    "append_entries_empty": AppendEntries(5, 3, 5, _THIRD.chain_hash, [], 3, 1004),
    "append_entries_notice": AppendEntries(5, 3, 5, _THIRD.chain_hash, [], 3, 1004, notice=True),
    "append_entries_refused": AppendEntriesReply(5, False, 9, 7, 4),
    "append_entries_reply": AppendEntriesReply(5, True, 3, 0, 0),
    "forward_fence": ForwardFence(5, 99, 2),
    "forward_fenced": ForwardFenced(5, 99, 2, 1234),
    "forward_refused": ForwardRefused(b"\x00\x01request", "not leader", 5),
    "forward_refused_after_a_lost_session": ForwardRefused(b"\x00\x01request", "not leader", 5, 2),
    "forwarded_command": ForwardedCommand(5, b"\x00\x01request and command"),
    "forwarded_command_after_a_lost_session": ForwardedCommand(5, b"\x00\x01request and command", 2),
    "heartbeat": Heartbeat(5, 3, 1005, 17),
    "heartbeat_reply": HeartbeatReply(5, 17, 3),
    "match_indices": MatchIndices(((0xA1, 3), (0xA2, 2))),
    "read_index_reply": ReadIndexReply(5, 9, 3),
    "read_index_request": ReadIndexRequest(5, 9),
    "rebuild_reply": RebuildReply(5, 99, 3, 4, blank=False),
    "rebuild_reply_with_configurations": RebuildReply(
        5, 99, 3, 4, False, (Configuration.of([1, 2], removed=[9]), Configuration.of([1, 2], [3], [9]))
    ),
    "rebuild_reply_of_one_that_knows_nothing": RebuildReply(0, 99, 0, 0, blank=True),
    "rebuild_request": RebuildRequest(0, 99),
    "request_pre_vote": RequestPreVote(5, 3, 5),
    "request_pre_vote_reply": RequestPreVoteReply(5, 6, True),
    "request_pre_vote_reply_of_a_new_server": RequestPreVoteReply(0, 0, False),
    "request_vote": RequestVote(6, 3, 5, True),
    "request_vote_reply": RequestVoteReply(6, True),
    "state_hash": StateHash(1024, b"\x10" * 16),
    "timeout_now": TimeoutNow(6),
}


def samples() -> dict[str, bytes]:
    """Every sample by name, as this program writes it."""
    made = {name: codec.encode_frames([frame]) for name, frame in FRAMES.items()}
    made["two_frames"] = codec.encode_frames([FRAMES["heartbeat"], FRAMES["append_entries_reply"]])
    for number, part in enumerate(codec.encode_fragments(FRAMES["append_entries"], 100)):
        made[f"fragment_{number}"] = part
    made["greeting"] = envelope.encode_answer(GREETING)
    rebuilding = dataclasses.replace(GREETING, hello=dataclasses.replace(GREETING.hello, rebuilding=True))
    made["greeting_of_one_that_rebuilds"] = envelope.encode_answer(rebuilding)
    made["refusal"] = envelope.encode_answer(REFUSAL)
    for word in codec.Word:
        made[f"word_{word.name.lower()}"] = codec.encode_word(word)
    made["sealed_word"] = framing.seal(codec.encode_word(codec.Word.ACCEPTED))
    made["ping"] = framing.PING
    made["snapshot_header"] = envelope.encode_header(HEADER)
    made["snapshot_chunk"] = envelope.encode_chunk(512, b"chunk")
    made["snapshot_resume"] = envelope.encode_snapshot_answer(envelope.Resume(512))
    made["snapshot_not_received"] = envelope.encode_snapshot_answer(envelope.NotReceived("no room"))
    made["status"] = envelope.encode_status(GREETING.hello)
    made["snapshot_received"] = envelope.encode_snapshot_answer(envelope.Received())
    return made


if __name__ == "__main__":
    PATH.write_text(json.dumps({name: data.hex() for name, data in samples().items()}, indent=1) + "\n")
