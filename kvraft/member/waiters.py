"""Requests that wait for their entry to be applied on this member.

An entry's payload begins with a request id: (member id, boot nonce, counter). The member that took the request finds
its waiter by it, whichever server led when the entry was appended.

A waiter remembers the term whose leader got its command. Entries of a term stand before those of later terms in every
log, and a leader takes a forwarded command only in the very term that it was meant for. So once this member applies an
entry of a later term, a command that has not shown up never will: it may be proposed anew, once again safely.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.records import Written

REQUEST_ID: Final = struct.Struct("<QQQ")
REQUEST_ID_BYTES: Final = REQUEST_ID.size
_OWNER_BYTES: Final = 16

TIMED_OUT: Final = b"etcdserver: request timed out"
TIMED_OUT_LEADER_LOST: Final = b"etcdserver: request timed out, possibly due to previous leader failure"
TIMED_OUT_CONNECTION_LOST: Final = b"etcdserver: request timed out, possibly due to connection lost"
TOO_MANY_REQUESTS: Final = b"etcdserver: too many requests"
STOPPED: Final = b"etcdserver: server stopped"
NO_SPACE: Final = b"etcdserver: no space"

UNSENT: Final = 0
"""`Waiter.term` of a request that no leader got yet."""
UNKNOWN: Final = 1 << 64
"""`Waiter.term` of a request that may have been applied inside an installed snapshot: it must not be proposed again."""


def internal_error(cause: bytes) -> EtcdError:
    """The 500/300 answer with one of etcd's causes."""
    return EtcdError(ErrorCode.RAFT_INTERNAL, cause, 0)


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
    """The term of the leader that it was given to."""
    answered: bool = False
    """It timed out while it still waited for a leader; nobody must send it."""


@final
class Waiters:
    """All requests of this member that have no answer yet, oldest first."""

    def __init__(self, member_id: int, boot_nonce: int, timeout_ms: int) -> None:
        self._owner = struct.pack("<QQ", member_id, boot_nonce)
        self._timeout_ms = timeout_ms
        self._counter = 0
        # Deadlines grow with the counter, so insertion order is deadline order and a sweep stops at the first live one.
        self._waiting: dict[int, Waiter] = {}
        self.payload_bytes = 0
        """What the waiting requests hold in memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: bytes, done: Callable[[Written | EtcdError], None], now_ms: int) -> Waiter:
        """A waiter for an encoded command; its payload is what must stand in the entry."""
        self._counter += 1
        payload = self._owner + self._counter.to_bytes(8, "little") + command
        waiter = Waiter(self._counter, payload, done, now_ms, now_ms + self._timeout_ms)
        self._waiting[self._counter] = waiter
        self.payload_bytes += len(payload)
        return waiter

    def get(self, counter: int) -> Waiter | None:
        """The waiter with that counter, if it still waits."""
        return self._waiting.get(counter)

    def counter_of(self, request_id: bytes) -> int | None:
        """The counter in a request id or payload, if it is one of this run of this member."""
        if not request_id.startswith(self._owner):
            return None
        return int.from_bytes(request_id[_OWNER_BYTES:REQUEST_ID_BYTES], "little")

    def take(self, payload: bytes) -> Waiter | None:
        """Remove and return the waiter of an applied payload; None if it is another's or has gone."""
        if not payload.startswith(self._owner):
            return None
        waiter = self._waiting.pop(int.from_bytes(payload[_OWNER_BYTES:REQUEST_ID_BYTES], "little"), None)
        if waiter is not None:
            self.payload_bytes -= len(waiter.payload)
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """Forget a waiter that was answered otherwise."""
        waiter.answered = True
        if self._waiting.pop(waiter.counter, None) is not None:
            self.payload_bytes -= len(waiter.payload)

    def next_deadline_ms(self) -> int | None:
        """When the oldest waiter times out."""
        for waiter in self._waiting.values():
            return waiter.deadline_ms
        return None

    def take_overdue(self, now_ms: int) -> list[Waiter]:
        """Remove and return every waiter whose time is up."""
        overdue = []
        for waiter in self._waiting.values():
            if waiter.deadline_ms > now_ms:
                break
            overdue.append(waiter)
        for waiter in overdue:
            self.discard(waiter)
        return overdue

    def take_all(self) -> list[Waiter]:
        """Remove and return everything (the member stops)."""
        waiting = list(self._waiting.values())
        for waiter in waiting:
            self.discard(waiter)
        return waiting

    def mark_unknown(self) -> None:
        """A snapshot was installed: what was under way may be inside it, and nobody here can tell."""
        for waiter in self._waiting.values():
            if waiter.term != UNSENT:
                waiter.term = UNKNOWN

    def lost_before(self, term: int) -> Iterator[Waiter]:
        """Waiters given to a leader of an earlier term than `term`: their commands are in no log that can commit."""
        return (waiter for waiter in list(self._waiting.values()) if UNSENT < waiter.term < term)
