"""Commands of other members on their way through this one's log, and their refusals."""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.command_codec import CommandError, decode_command
from kvraft.keyspace.commands import Command
from kvraft.member.interfaces import ForwardedCommand, ForwardRefused
from kvraft.member.waiters import OWNER_BYTES, REQUEST_ID_BYTES, owner_of
from kvraft.peer_frames import ForwardFence, ForwardFenced
from kvraft.raft.core import Raft
from kvraft.raft.effects import ProposalRefusalReason, Role
from kvraft.raft.inputs import Propose

NO_SPACE: Final = "no space"
"""As a reason of refusal; the client reads `etcdserver: no space`."""


@final
class Forwarding:
    """Remembers, for one step, whose command each proposal is: only a refusal needs to find its way back.

    And for one term, which commands are behind a fence (`fencing.py`).
    """

    def __init__(self, refuses: Callable[[Command], bool], timeout_ms: int) -> None:
        self._refuses = refuses
        """Whether this member's disk has no room for a command."""
        self._timeout_ms = timeout_ms
        self._proposed: dict[int, tuple[int, ForwardedCommand]] = {}
        self._token = 0
        self._owed: dict[int, deque[tuple[int, ForwardRefused]]] = {}
        """By member, with deadlines: refusals that could not be sent. Without them its clients would wait for their
        whole time; after it, nobody waits for them."""
        self._fences: dict[bytes, int] = {}
        """By the beginning of request ids, which is one for each run of a member, the epoch of what is still taken."""
        self._fences_term = 0
        """The term that they are of."""
        self._asking: list[tuple[int, ForwardFence]] = []
        """Who put up a fence in this step."""

    def propose(self, from_member: int, frame: ForwardedCommand, raft: Raft) -> Propose | ForwardRefused | None:
        """A proposal for this step, or a refusal: a command is for the leader of its own term and no other.

        None for one behind a fence: it may have been sent anew, and this is not the attempt that counts.
        """
        if raft.role is not Role.LEADER or raft.current_term != frame.term:
            return _refusal(frame, ProposalRefusalReason.NOT_LEADER)
        if self._fences and self._is_fenced(frame):
            return None
        try:
            command = decode_command(frame.payload[REQUEST_ID_BYTES:])
        except CommandError as error:
            # Committed, it would stop every member: the defect of one must not become everybody's.
            return _refusal(frame, f"malformed command: {error}")
        if self._refuses(command):
            return _refusal(frame, NO_SPACE)
        self._token -= 1  # negative: this member's own waiters count upwards
        self._proposed[self._token] = (from_member, frame)
        return Propose(self._token, frame.payload)

    def refusal(self, token: int, reason: ProposalRefusalReason) -> tuple[int, ForwardRefused] | None:
        """Who has to be told that the proposal entered no log; None if it was this member's own."""
        proposed = self._proposed.get(token)
        if proposed is None:
            return None
        from_member, frame = proposed
        return from_member, _refusal(frame, reason)

    def fence(self, from_member: int, frame: ForwardFence, raft: Raft) -> None:
        """Take no command of that run's earlier epochs any more. The answer is due behind this step."""
        if raft.role is not Role.LEADER or raft.current_term != frame.term:
            return  # Its asker hears of another term, and asks no more.
        if self._fences_term != frame.term:
            self._fences.clear()
            self._fences_term = frame.term
        owner = owner_of(from_member, frame.boot_nonce)
        self._fences[owner] = max(frame.epoch, self._fences.get(owner, 0))
        self._asking.append((from_member, frame))

    def _is_fenced(self, frame: ForwardedCommand) -> bool:
        return self._fences_term == frame.term and frame.epoch < self._fences.get(frame.payload[:OWNER_BYTES], 0)

    def owe(self, member_id: int, refusal: ForwardRefused, now_ms: int) -> None:
        """This refusal was dropped before it left. A member asks for no more than its own limit of waiting requests."""
        self._owed.setdefault(member_id, deque()).append((now_ms + self._timeout_ms, refusal))

    def take_owed(self, is_connected: Callable[[int], bool], now_ms: int) -> list[tuple[int, list[ForwardRefused]]]:
        """What can be sent again now, by member. What is too late is dropped, as its member may never come back."""
        if not self._owed:
            return []
        for member_id, owed in list(self._owed.items()):
            while owed and owed[0][0] <= now_ms:
                owed.popleft()
            if not owed:
                del self._owed[member_id]
        able = [member_id for member_id in self._owed if is_connected(member_id)]
        return [(member_id, [refusal for _, refusal in self._owed.pop(member_id)]) for member_id in able]

    def end_step(self, raft: Raft) -> list[tuple[int, ForwardFenced]]:
        """Every proposal of the step was accepted or refused; answers for those who put up a fence before it."""
        self._proposed.clear()
        if not self._asking:
            return []
        asking, self._asking = self._asking, []
        return [
            (from_member, ForwardFenced(frame.term, frame.boot_nonce, frame.epoch, raft.last_log_index))
            for from_member, frame in asking
            if raft.role is Role.LEADER and raft.current_term == frame.term
        ]


def _refusal(frame: ForwardedCommand, reason: str) -> ForwardRefused:
    """This very attempt has failed."""
    return ForwardRefused(frame.payload[:REQUEST_ID_BYTES], reason, frame.term, frame.epoch)
