"""Linearizable reads: one ReadIndex round serves every read that waits when it starts (thesis section 6.4).

A read that arrives while a round is under way must not join it: the round's read index may be older than a write
that the client has already seen acknowledged. It waits for the next round. Every attempt has a fresh read id
(a reused id let etcd answer with a stale index, etcd-io/etcd#20418).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from kvraft.keyspace.errors import EtcdError
from kvraft.member import outcomes
from kvraft.raft.effects import ReadReady
from kvraft.raft.inputs import ReadRequest

Done = Callable[[EtcdError | None], None]


@final
@dataclass(slots=True, eq=False)
class Read:
    """One that waits."""

    deadline_ms: int
    done: Done | None
    """None: told its end, or abandoned."""


Reads = deque[Read]
"""In order of arrival and so of deadlines."""

_LEFT_MAX: Final = 100
"""So many abandoned reads may keep their places however few others wait."""


@final
class ReadBarriers:
    """Reads waiting for a round, for its answer, and for the applier."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self.timed_out = 0
        """Reads that got no leader's word in time, since the start."""
        self._read_id = 0
        self._round_id = 0
        self._count = 0
        self._left = 0
        """At most so many in the queues are abandoned."""
        self._waiting: Reads = deque()
        """For the next round."""
        self._in_round: Reads = deque()
        self._until_applied: deque[tuple[int, Reads]] = deque()
        """(read_index, reads), ascending."""

    def __len__(self) -> int:
        return self._count

    def add(self, done: Done, now_ms: int) -> Read:
        """Queue a read; `done` is called from `ready`'s, `applied`'s or `end_overdue`'s caller, never from here."""
        self._count += 1
        read = Read(now_ms + self._timeout_ms, done)
        self._waiting.append(read)
        return read

    def abandon(self, read: Read) -> None:
        """Nobody waits for it any more. It keeps its place and nothing else, or leaves with others of its kind."""
        if read.done is None:
            return
        read.done = None
        self._count -= 1
        self._left += 1
        if self._left > _LEFT_MAX and self._left > self._count:
            self._left = 0
            for reads in (self._in_round, self._waiting, *(group for _, group in self._until_applied)):
                kept = [read for read in reads if read.done is not None]
                reads.clear()
                reads.extend(kept)

    def wants_round(self) -> bool:
        """Whether reads wait and no round is under way."""
        return bool(self._waiting) and self._round_id == 0

    def start_round(self) -> ReadRequest:
        """A fresh request that serves every read waiting now."""
        assert not self._in_round
        self._read_id += 1
        self._round_id = self._read_id
        self._in_round, self._waiting = self._waiting, deque()
        return ReadRequest(self._read_id)

    def ready(self, answer: ReadReady, applied_index: int) -> None:
        """The round's read index is known: its reads are answered once that is applied."""
        if answer.read_id != self._round_id:
            return
        self._round_id = 0
        reads, self._in_round = self._in_round, deque()
        if answer.read_index <= applied_index:
            self._end(reads, None)
        else:
            self._until_applied.append((answer.read_index, reads))

    def failed(self, read_id: int) -> bool:
        """The round has no answer; its reads wait for another, before those that came later.

        True if it was the current round.
        """
        if read_id != self._round_id:
            return False
        self._round_id = 0
        self._in_round.extend(self._waiting)
        self._waiting, self._in_round = self._in_round, deque()
        return True

    def applied(self, applied_index: int) -> None:
        """Answer the reads whose read index is applied now."""
        while self._until_applied and self._until_applied[0][0] <= applied_index:
            self._end(self._until_applied.popleft()[1], None)

    def end_overdue(self, now_ms: int) -> None:
        """Answer the reads whose time is up with 500/300."""
        if not self._count:
            return
        overdue: Reads = deque()
        for reads in (self._in_round, self._waiting, *(group for _, group in self._until_applied)):
            while reads and reads[0].deadline_ms <= now_ms:
                overdue.append(reads.popleft())
        while self._until_applied and not self._until_applied[0][1]:
            self._until_applied.popleft()
        self.timed_out += sum(read.done is not None for read in overdue)
        self._end(overdue, outcomes.internal_error(outcomes.TIMED_OUT))

    def end_all(self, cause: bytes) -> None:
        """Answer everything with an error (the member stops)."""
        groups = [self._in_round, self._waiting, *(group for _, group in self._until_applied)]
        self._in_round, self._waiting, self._until_applied = deque(), deque(), deque()
        for reads in groups:
            self._end(reads, outcomes.internal_error(cause))

    def _end(self, reads: Reads, outcome: EtcdError | None) -> None:
        """Tell reads that stand in no queue any more: who is told may ask for the next one at once."""
        ended = []
        for read in reads:
            if read.done is not None:
                ended.append(read.done)
                read.done = None
        self._left = max(0, self._left - len(reads) + len(ended))
        self._count -= len(ended)
        for done in ended:
            outcomes.tell(done, outcome)
