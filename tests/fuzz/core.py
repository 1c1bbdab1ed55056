"""One server of the core against peers that lie: whatever decodes may arrive, in any order, at any moment.

What a peer claims may stop the server only by `Effects.divergence`, the documented end when two histories contradict
each other; then the run is over. An assertion that falls is a finding: asserts state what the server's own code holds.
Numbers are drawn relative to what the server holds at that moment, so that lies are near enough to the truth to matter.
"""

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from typing import Final, final

from hypothesis import strategies as st

from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, Role
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.inputs import (
    Input,
    PeerConnected,
    PeerDisconnected,
    PeerUnreachable,
    Propose,
    ReadRequest,
    Received,
    SnapshotInstalled,
    SnapshotSent,
    TransferLeadership,
)
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
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
from kvraft.raft.restored import LogPosition
from kvraft.raft.settings import RaftSettings
from kvraft.transport import codec
from kvraft.transport.codec import WireError
from tests.fuzz.engine import Check, Target
from tests.raft.cluster import Disk

VOTERS: Final = (1, 2, 3)
STRANGER: Final = 9
HUGE: Final = 2**63 - 1
SETTINGS: Final = RaftSettings(
    heartbeat_interval_ms=10,
    election_timeout_ms=100,
    uncommitted_bytes_max=500,
    log_tail_bytes_max=200,
    message_bytes_max=200,
    inflight_messages_max=4,
)


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Number:
    """A number near one that the server knows."""

    base: str
    """`term`, `commit`, `last`, `durable`, `base`, `read` or `zero`."""
    plus: int

    def of(self, server: "Server") -> int:
        """What it is now; at least 0."""
        return max(0, server.numbers()[self.base] + self.plus)


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Lie:
    """A message in the making; which numbers count depends on its kind."""

    kind: str
    sender: int
    term: Number
    first: Number
    second: Number
    third: Number
    yes: bool
    entries: tuple[tuple[int, EntryKind, bytes], ...]
    """(term below or above the message's, kind, payload) of entries, chained behind `first`."""
    honest_chain: bool
    """Whether the hash before the entries is the one that the server has there."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Local:
    """Something of the server's own."""

    what: str
    number: int


PLUS: Final = st.sampled_from((0, 0, 0, 1, -1, 2, -2, 5, HUGE, 2**62))
NUMBERS: Final = st.builds(Number, st.sampled_from(("last", "commit", "durable", "term", "base", "read", "zero")), PLUS)
TERMS: Final = st.builds(Number, st.just("term"), st.sampled_from((0, 0, 0, 0, 1, 1, -1, 2, 7, 2**62)))
CONFIGURATIONS: Final = st.builds(
    lambda voters, learners, removed: Configuration.of(voters, learners, removed).encode(),
    st.lists(st.sampled_from((0, 1, 2, 3, STRANGER)), max_size=4),
    st.lists(st.sampled_from((1, 2, 8)), max_size=2),
    st.lists(st.sampled_from((3, 8, 9)), max_size=2),
)
ENTRIES: Final = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, -1, 1)),
        st.sampled_from((EntryKind.COMMAND, EntryKind.COMMAND, EntryKind.NOOP, EntryKind.CONFIGURATION)),
        CONFIGURATIONS | st.binary(max_size=60),
    ),
    max_size=4,
).map(tuple)
KINDS: Final = (
    "append", "append", "append reply", "append reply", "heartbeat", "heartbeat reply", "read", "read reply",
    "pre-vote", "pre-vote reply", "vote", "vote reply", "vote reply", "snapshot", "timeout now",
    "rebuild", "rebuild reply",
)  # fmt: skip
LIES: Final = st.builds(
    Lie,
    st.sampled_from(KINDS),
    st.sampled_from((2, 2, 3, 3, STRANGER)),
    TERMS, NUMBERS, NUMBERS, NUMBERS, st.booleans(), ENTRIES, st.sampled_from((True, True, True, False)),
)  # fmt: skip
LOCALS: Final = st.builds(
    Local,
    st.sampled_from(
        (
            "sync",
            "sync",
            "time",
            "time",
            "propose",
            "propose",
            "query",
            "connected",
            "disconnected",
            "unreachable",
            "sent",
            "transfer",
        )
    ),
    st.integers(0, 250),
)
STARTS: Final = st.sampled_from(("fresh", "follower", "leader", "leader"))
INPUTS: Final = st.tuples(STARTS, st.lists(LIES | LIES | LOCALS, min_size=1, max_size=25), st.integers(0, 3))


@final
class Server:
    """Server 1 with its disk; it applies and installs what the core says at once, and syncs when told."""

    def __init__(self, seed: int) -> None:
        self.disk = Disk(Configuration.of(VOTERS))
        self.now_ms = 0
        self.raft = Raft(1, self.disk.restored(), SETTINGS, random.Random(seed), self.disk, 0)
        self.batches: list[int] = []
        self.reads = 0
        self.asked = 0
        self.divergence = False
        self.wanted = False
        """The core wants a step without input."""

    def numbers(self) -> dict[str, int]:
        """What lies are measured by."""
        raft = self.raft
        return {
            "term": raft.current_term,
            "commit": raft.commit_index,
            "last": raft.last_log_index,
            "durable": self.disk.last_index,
            "base": raft.first_log_index - 1,
            "read": self.asked,
            "zero": 0,
        }

    def step(self, *inputs: Input) -> None:
        """One step, with what its caller owes. A divergence stops the member, so nothing follows one."""
        pending = list(inputs)
        while not self.divergence:
            effects = self.raft.step(pending, self.now_ms)
            self.divergence = effects.divergence is not None
            self.wanted = False
            pending = self._carry_out(effects)
            if not pending and not self.wanted:
                return

    def _carry_out(self, effects: Effects) -> list[Input]:
        more: list[Input] = []
        for outgoing in effects.messages:
            if isinstance(outgoing.message, ReadIndexRequest):
                self.asked = outgoing.message.read_id
        if effects.persist is not None:
            self.disk.write(effects.persist)
            self.batches.append(effects.persist.batch_id)
        if effects.install is not None and not self.divergence:
            snapshot = effects.install
            index = snapshot.last_included_index
            self.disk.base = LogPosition(index, snapshot.last_included_term, snapshot.last_included_hash)
            self.disk.entries.clear()
            self.batches.clear()
            more.append(SnapshotInstalled(index))
        elif effects.committed:
            self.wanted |= self.raft.applied(effects.committed[-1].index)
        return more

    def own(self, local: Local) -> None:
        """Something that is no peer's doing."""
        match local.what:
            case "sync":
                if self.batches:
                    self.raft.persisted(self.batches[-1])
                    self.batches.clear()
                    self.step()
            case "time":
                self.now_ms += local.number
                self.step()
            case "propose":
                self.step(Propose(local.number, bytes(local.number)))
            case "query":
                self.reads += 1
                self.step(ReadRequest(self.reads))
            case "connected":
                self.step(PeerConnected(2 + local.number % 2, local.number % 4 < 2))
            case "disconnected":
                self.step(PeerDisconnected(2 + local.number % 2))
            case "unreachable":
                self.step(PeerUnreachable(2 + local.number % 2))
            case "sent":
                last = self.raft.last_log_index
                self.step(SnapshotSent(2 + local.number % 2, min(local.number % 3, last)))
            case "transfer":
                self.step(TransferLeadership((0, 2, 3, STRANGER)[local.number % 4]))

    def hear(self, lie: Lie) -> bool:
        """A message from a peer, over the wire; False if the decoder refuses it."""
        message = self._message(lie)
        if isinstance(message, InstallSnapshot):
            if not 0 < message.last_included_index < HUGE or not 0 < message.term < HUGE:
                return False
            self.step(Received(lie.sender, message))
            return True
        try:
            frames = codec.decode_message(codec.encode_frames([message]))
        except (WireError, ValueError):  # protobuf takes no number beyond 64 bits
            return False
        assert isinstance(frames, list)
        frame = frames[0]
        assert frame == message
        self.step(Received(lie.sender, message))
        return True

    def _message(self, lie: Lie) -> Message:
        term, first, second, third = (n.of(self) for n in (lie.term, lie.first, lie.second, lie.third))
        match lie.kind:
            case "append":
                return self._append(lie, term, first, second, third)
            case "append reply":
                return AppendEntriesReply(term, lie.yes, first, second, third)
            case "heartbeat":
                return Heartbeat(term, first, second, third)
            case "heartbeat reply":
                return HeartbeatReply(term, first, second)
            case "read":
                return ReadIndexRequest(term, first)
            case "read reply":
                return ReadIndexReply(term, first, second)
            case "pre-vote":
                return RequestPreVote(term, first, second)
            case "pre-vote reply":
                return RequestPreVoteReply(term, term + 1 if lie.yes else first, True)
            case "vote":
                return RequestVote(term, first, min(second, term - 1) if term else 0, lie.yes)
            case "vote reply":
                return RequestVoteReply(term, lie.yes)
            case "rebuild":
                return RebuildRequest(term, first)
            case "rebuild reply":
                return RebuildReply(term, first, second, min(third, term), blank=False)
            case "snapshot":
                payload = next((p for _, kind, p in lie.entries if kind is EntryKind.CONFIGURATION), b"")
                with contextlib.suppress(ValueError):
                    return InstallSnapshot(
                        term, first, min(second, term), b"s" * 16, Configuration.decode(payload), "s"
                    )
                return InstallSnapshot(term, first, min(second, term), b"s" * 16, Configuration.of(VOTERS), "s")
        return TimeoutNow(term)

    def _append(self, lie: Lie, term: int, first: int, second: int, third: int) -> AppendEntries:
        index = first if first < HUGE else self.disk.last_index
        previous = self._held(index)
        prev_term = previous.term if previous else min(second, term)
        prev_hash = previous.chain_hash if previous else ZERO_HASH if index == 0 else b"h" * 16
        if index == 0:
            prev_term = 0
        if not lie.honest_chain and index:
            prev_hash = b"l" * 16
        entries: list[Entry] = []
        last_hash, last_term = prev_hash, max(1, prev_term)
        for offset, (plus, kind, payload) in enumerate(lie.entries, 1):
            last_term = max(last_term, min(term, max(1, term + plus)))
            entries.append(make_entry(last_hash, index + offset, last_term, kind, second % 2**63, payload))
            last_hash = entries[-1].chain_hash
        return AppendEntries(term, index, prev_term, prev_hash, entries, second, third)

    def _held(self, index: int) -> LogPosition | None:
        if self.disk.base.index < index <= self.disk.last_index:
            return self.disk.position(index)
        return self.disk.base if index == self.disk.base.index and index else None


def _started(start: str, seed: int) -> Server:
    """A server in the role where the lies begin."""
    server = Server(seed)
    if start == "follower":
        log: list[Entry] = []
        for index in range(1, 7):
            before = log[-1].chain_hash if log else ZERO_HASH
            log.append(make_entry(before, index, (index + 1) // 2, EntryKind.COMMAND, index, b"x" * 40))
        server.step(Received(3, AppendEntries(4, 0, 0, ZERO_HASH, log, 3, 9)))
        server.own(Local("sync", 0))
    if start == "leader":
        server.own(Local("time", 250))
        server.step(Received(2, RequestPreVoteReply(0, 1, True)))
        server.own(Local("sync", 0))
        server.step(Received(2, RequestVoteReply(1, True)))
        assert server.raft.role is Role.LEADER
        server.own(Local("sync", 0))
    return server


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    yield check


def check(given: tuple[str, list[Lie | Local], int]) -> str:
    """Every step ends, and none by an assertion."""
    start, happenings, seed = given
    server = _started(start, seed)
    heard = 0
    for happening in happenings:
        if isinstance(happening, Local):
            server.own(happening)
        else:
            heard += server.hear(happening)
        if server.divergence:
            return "divergence"
    return server.raft.role.value if heard else "nothing heard"


TARGET: Final = Target("core", INPUTS, _open, frozenset({"divergence", "leader", "follower", "candidate"}))
