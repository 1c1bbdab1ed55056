"""Brings new requests to the leader: into this server's own log, or over the peer stream, once."""

from collections import deque
from typing import final

from kvraft.member.interfaces import ForwardedCommand, Frame, Transport
from kvraft.member.waiters import UNSENT, Waiter
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role
from kvraft.raft.inputs import Propose


@final
class Router:
    """Waiters that no leader has got yet."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._unsent: deque[Waiter] = deque()
        self._held: list[Waiter] = []
        """Refused ones: sent again at once they would fly to and fro until leadership has settled."""

    def add(self, waiter: Waiter) -> None:
        """Send this one with the next step, or as soon as a leader can be reached."""
        waiter.term = UNSENT
        self._unsent.append(waiter)

    def hold(self, waiter: Waiter) -> None:
        """A leader refused this one: keep it until `release`."""
        waiter.term = UNSENT
        self._held.append(waiter)

    def release(self) -> None:
        """Another leader, or some time later: what was held may go again."""
        self._unsent.extend(self._held)
        self._held.clear()

    @property
    def unsent(self) -> int:
        """Requests that wait for a leader."""
        return len(self._unsent) + len(self._held)

    def route(self, raft: Raft) -> list[Propose]:
        """Send what can be sent: proposals for this server's own core are returned, others leave to the leader."""
        if not self._unsent:
            return []
        if raft.role is Role.LEADER:
            term = raft.current_term
            return [Propose(waiter.counter, waiter.payload) for waiter in self._take_unsent(term)]
        leader_id = raft.leader_id
        if leader_id and self._transport.is_connected(leader_id):
            self._forward(leader_id, raft.current_term)
        return []

    def _forward(self, leader_id: int, term: int) -> None:
        frames: list[Frame] = [ForwardedCommand(term, waiter.payload) for waiter in self._take_unsent(term)]
        self._transport.send(leader_id, frames)

    def _take_unsent(self, term: int) -> list[Waiter]:
        waiters = [waiter for waiter in self._unsent if not waiter.answered]
        self._unsent.clear()
        for waiter in waiters:
            waiter.term = term
        return waiters
