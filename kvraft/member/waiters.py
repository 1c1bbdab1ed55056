"""Writes of this member's clients, from their arrival until they are told their end, wherever their commands are.

An entry's payload begins with a request id: (member id, boot nonce, counter). The member that took the request finds
its waiter by it, whichever server led when the entry was appended.

A command goes to one leader, once. A waiter remembers the term whose leader got it. Entries of a term stand before
those of later terms in every log, and a leader takes a forwarded command only in the very term that it was meant for.
So once this member applies an entry of a later term, a command that has not shown up never will: it may be proposed
anew, once again safely. So may one that its leader refused, and one that was lost with a session (`fencing.py`).
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

from kvraft.keyspace.errors import EtcdError
from kvraft.member import outcomes
from kvraft.member.fencing import Fencing
from kvraft.member.interfaces import ForwardedCommand, Transport
from kvraft.raft.core import Raft
from kvraft.raft.effects import ProposalRefusalReason, Role
from kvraft.raft.inputs import Propose
from kvraft.records import Written

REQUEST_ID: Final = struct.Struct("<QQQ")
REQUEST_ID_BYTES: Final = REQUEST_ID.size
OWNER_BYTES: Final = 16

UNSENT: Final = 0
"""`Waiter.term` of a request that no leader got yet."""
UNKNOWN: Final = 1 << 64
"""`Waiter.term` of a request that may have been applied inside an installed snapshot: it must not be proposed again."""

_WITHOUT_LEADER: Final = frozenset({ProposalRefusalReason.NOT_LEADER, ProposalRefusalReason.TRANSFERRING})
"""Refusals that are over as soon as somebody leads."""


def owner_of(member_id: int, boot_nonce: int) -> bytes:
    """The beginning of all request ids of one run of a member."""
    return struct.pack("<QQ", member_id, boot_nonce)


def _ignore(_outcome: Written | EtcdError) -> None:
    """Nobody waits for it."""


@final
@dataclass(slots=True, eq=False)
class Waiter:
    """One request on its way through the log."""

    counter: int
    payload: bytes
    done: Callable[[Written | EtcdError], None]
    started_ms: int
    deadline_ms: int
    term: int = UNSENT
    """The term of the leader that it was given to,"""
    epoch: int = 0
    """and the epoch, if that was another member."""


@final
class Waiters:
    """All writes of this member that have no answer yet, oldest first. A waiter is here, or it is nowhere."""

    def __init__(self, member_id: int, boot_nonce: int, timeout_ms: int) -> None:
        self._owner = owner_of(member_id, boot_nonce)
        self.fencing = Fencing(boot_nonce)
        self._timeout_ms = timeout_ms
        self._counter = 0
        # Deadlines grow with the counter, so insertion order is deadline order and a sweep stops at the first live one.
        self._waiting: dict[int, Waiter] = {}
        self._unsent: dict[int, Waiter] = {}
        """Those that no leader has got: they leave with the next step, or as soon as a leader can be reached."""
        self._held: dict[int, Waiter] = {}
        """Those that were refused: sent again at once they would fly to and fro until leadership has settled."""
        self._abandoned: list[Waiter] = []
        """Those whose clients have gone before the next step could send them."""
        self.payload_bytes = 0
        """What the waiting requests hold in memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unsent(self) -> int:
        """Requests that wait for a leader."""
        return len(self._unsent) + len(self._held)

    # -- to a leader --------------------------------------------------------------------------------------------

    def add(self, command: bytes, done: Callable[[Written | EtcdError], None], now_ms: int) -> Waiter:
        """A waiter for an encoded command; its payload is what must stand in the entry."""
        self._counter += 1
        payload = self._owner + self._counter.to_bytes(8, "little") + command
        waiter = Waiter(self._counter, payload, done, now_ms, now_ms + self._timeout_ms)
        self._waiting[self._counter] = self._unsent[self._counter] = waiter
        self.payload_bytes += len(payload)
        return waiter

    def route(self, raft: Raft, transport: Transport) -> list[Propose]:
        """Send what can be sent: proposals for this server's own core are returned, others leave to the leader."""
        if self.fencing.wants_answer:
            self.fencing.ask(raft, transport)
        if not self._unsent:
            return []
        proposals = self._send(raft, transport)
        if self._abandoned:
            for waiter in self._abandoned:
                if waiter.counter in self._waiting:
                    self._forget(waiter)
            self._abandoned.clear()
        return proposals

    def _send(self, raft: Raft, transport: Transport) -> list[Propose]:
        if raft.role is Role.LEADER:
            return [Propose(waiter.counter, waiter.payload) for waiter in self._take_unsent(raft.current_term, 0)]
        leader_id, term = raft.leader_id, raft.current_term
        if leader_id and transport.is_connected(leader_id):
            epoch = self.fencing.epoch_to(leader_id, term)
            unsent = self._take_unsent(term, epoch)
            transport.send(leader_id, [ForwardedCommand(term, waiter.payload, epoch) for waiter in unsent])
        return []

    def _take_unsent(self, term: int, epoch: int) -> Iterable[Waiter]:
        unsent, self._unsent = self._unsent, {}
        for waiter in unsent.values():
            waiter.term, waiter.epoch = term, epoch
        return unsent.values()

    def release(self) -> None:
        """Another leader, or some time later: what was held may go again."""
        self._unsent.update(self._held)
        self._held.clear()
        self.fencing.ask_again()

    def refused(self, counter: int, reason: str) -> None:
        """A proposal of this member entered no log. While nobody leads it is held; otherwise its client is told."""
        waiter = self._waiting.get(counter)
        if waiter is None:
            return
        if reason in _WITHOUT_LEADER:
            waiter.term = UNSENT
            self._held[counter] = waiter
        else:
            cause = f"etcdserver: {reason}".encode()
            self._end(waiter, outcomes.TOO_MANY_REQUESTS if reason == ProposalRefusalReason.TOO_MANY else cause)

    def forward_refused(self, request_id: bytes, reason: str, term: int, epoch: int) -> None:
        """The leader of that term refused a command, or never got it. One that was sent anew since waits for that."""
        waiter = self._waiting.get(self._counter_of(request_id))
        if waiter is not None and waiter.term == term and waiter.epoch == epoch:
            self.refused(waiter.counter, reason)

    def later_term(self, term: int) -> None:
        """An entry of `term` is applied: commands that earlier terms' leaders got are in no log that can commit."""
        for waiter in self._waiting.values():
            if UNSENT < waiter.term < term:
                self._send_anew(waiter)

    def resend_lost(self) -> None:
        """It has become clear (`Fencing.is_clear`) that commands which were lost with a session are in no log."""
        for waiter in self._waiting.values():
            if self.fencing.is_lost(waiter.term, waiter.epoch):
                self._send_anew(waiter)

    def _send_anew(self, waiter: Waiter) -> None:
        waiter.term = UNSENT
        self._unsent[waiter.counter] = waiter

    def mark_unknown(self) -> None:
        """A snapshot was installed: what was under way may be inside it, and nobody here can tell."""
        for waiter in self._waiting.values():
            if waiter.term != UNSENT:
                waiter.term = UNKNOWN

    def abandon(self, waiter: Waiter) -> None:
        """The client has gone. What it has just asked for is sent if a leader can be reached now, as etcd does it.

        A later leader is not given it: nobody would see whether it takes it.
        """
        if waiter.counter not in self._waiting:
            return
        if waiter.counter in self._unsent:
            waiter.done = _ignore
            self._abandoned.append(waiter)
        else:
            self._forget(waiter)

    # -- the end ------------------------------------------------------------------------------------------------

    def take(self, request_id: bytes) -> Waiter | None:
        """Remove and return the waiter of an applied entry; None if it is another's or has gone."""
        waiter = self._waiting.get(self._counter_of(request_id))
        if waiter is not None:
            self._forget(waiter)
        return waiter

    def end_overdue(self, now_ms: int, cause: Callable[[Waiter], bytes]) -> int:
        """Answer every waiter whose time is up; how many."""
        overdue = []
        for waiter in self._waiting.values():
            if waiter.deadline_ms > now_ms:
                break
            overdue.append(waiter)
        for waiter in overdue:
            self._end(waiter, cause(waiter))
        return len(overdue)

    def end_all(self, cause: bytes) -> None:
        """Answer everything (the member stops)."""
        for waiter in list(self._waiting.values()):
            self._end(waiter, cause)

    def _end(self, waiter: Waiter, cause: bytes) -> None:
        self._forget(waiter)
        outcomes.tell(waiter.done, outcomes.internal_error(cause))

    def _forget(self, waiter: Waiter) -> None:
        del self._waiting[waiter.counter]
        if waiter.term == UNSENT:
            self._unsent.pop(waiter.counter, None)
            self._held.pop(waiter.counter, None)
        self.payload_bytes -= len(waiter.payload)

    def _counter_of(self, request_id: bytes) -> int:
        """The counter in a request id or payload; 0, which nobody has, if it is not one of this run of this member."""
        if not request_id.startswith(self._owner):
            return 0
        return int.from_bytes(request_id[OWNER_BYTES:REQUEST_ID_BYTES], "little")
