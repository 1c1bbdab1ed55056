"""Linearizable reads: one ReadIndex round serves every read that waits when it starts (thesis section 6.4).

A read that arrives while a round is under way must not join it: the round's read index may be older than a write
that the client has already seen acknowledged. It waits for the next round. Every attempt has a fresh read id
(a reused id let etcd answer with a stale index, etcd-io/etcd#20418).
"""

from collections.abc import Callable
from typing import final

from kvraft.keyspace.errors import EtcdError
from kvraft.member.waiters import TIMED_OUT, internal_error
from kvraft.raft.effects import ReadReady
from kvraft.raft.inputs import ReadRequest

Done = Callable[[EtcdError | None], None]


@final
class ReadBarriers:
    """Reads waiting for a round, for its answer, and for the applier."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self.timed_out = 0
        """Reads that got no leader's word in time, since the start."""
        self._read_id = 0
        self._round_id = 0
        self._waiting: list[tuple[int, Done]] = []
        """(deadline, done), in order of arrival, for the next round."""
        self._in_round: list[tuple[int, Done]] = []
        self._until_applied: list[tuple[int, list[tuple[int, Done]]]] = []
        """(read_index, reads), ascending."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_round) + sum(len(reads) for _, reads in self._until_applied)

    def add(self, done: Done, now_ms: int) -> None:
        """Queue a read; `done` is called from `start_round`'s, `ready`'s or `sweep`'s caller, never from here."""
        self._waiting.append((now_ms + self._timeout_ms, done))

    def wants_round(self) -> bool:
        """Whether reads wait and no round is under way."""
        return bool(self._waiting) and self._round_id == 0

    def start_round(self) -> ReadRequest:
        """A fresh request that serves every read waiting now."""
        assert not self._in_round
        self._read_id += 1
        self._round_id = self._read_id
        self._in_round, self._waiting = self._waiting, []
        return ReadRequest(self._read_id)

    def ready(self, answer: ReadReady, applied_index: int) -> None:
        """The round's read index is known: its reads are answered once that is applied."""
        if answer.read_id != self._round_id:
            return
        self._round_id = 0
        reads, self._in_round = self._in_round, []
        if answer.read_index <= applied_index:
            for _, done in reads:
                done(None)
        else:
            self._until_applied.append((answer.read_index, reads))

    def failed(self, read_id: int) -> bool:
        """The round has no answer; its reads wait for another, before those that came later.

        True if it was the current round.
        """
        if read_id != self._round_id:
            return False
        self._round_id = 0
        self._waiting = self._in_round + self._waiting
        self._in_round = []
        return True

    def applied(self, applied_index: int) -> None:
        """Answer the reads whose read index is applied now."""
        while self._until_applied and self._until_applied[0][0] <= applied_index:
            _, reads = self._until_applied.pop(0)
            for _, done in reads:
                done(None)

    def next_deadline_ms(self) -> int | None:
        """When the oldest read times out."""
        deadlines = [reads[0][0] for reads in (self._in_round, self._waiting) if reads]
        deadlines.extend(reads[0][0] for _, reads in self._until_applied if reads)
        return min(deadlines, default=None)

    def sweep(self, now_ms: int) -> None:
        """Answer the reads whose time is up with 500/300."""
        before = len(self)
        self._in_round = _without_overdue(self._in_round, now_ms)
        self._waiting = _without_overdue(self._waiting, now_ms)
        self._until_applied = [
            (index, kept) for index, reads in self._until_applied if (kept := _without_overdue(reads, now_ms))
        ]
        self.timed_out += before - len(self)

    def fail_all(self, error: EtcdError) -> None:
        """Answer everything with an error (the member stops)."""
        reads = self._in_round + self._waiting + [read for _, group in self._until_applied for read in group]
        self._in_round, self._waiting, self._until_applied = [], [], []
        for _, done in reads:
            done(error)


def _without_overdue(reads: list[tuple[int, Done]], now_ms: int) -> list[tuple[int, Done]]:
    if not reads or reads[0][0] > now_ms:
        return reads
    kept = []
    for deadline_ms, done in reads:
        if deadline_ms <= now_ms:
            done(internal_error(TIMED_OUT))
        else:
            kept.append((deadline_ms, done))
    return kept
