"""Commands that were on their way to a leader when a session with it was lost: taken or not, it is asked, once.

The leader of the same term goes on, so no later term will say that they are lost (`waiters.py`), and whoever waits for
them would wait for ever. Each loss begins an epoch, and commands carry theirs. A fence has the leader take none of
earlier epochs from then on and tell where its log ends: a command that has not shown up when that entry is applied was
never taken, and may be sent again in the new epoch. What the old session still brings is behind the fence.

Epochs are counted within a term. Towards a leader whose program knows no fences none begins.
"""

from typing import Final, final

from kvraft.member.interfaces import Transport
from kvraft.peer_frames import ForwardFence, ForwardFenced
from kvraft.raft.core import Raft

_PROTOCOL_OF_FENCES: Final = 3


@final
class Fencing:
    """The asking side; the leader's is in `forwarding.py`."""

    def __init__(self, boot_nonce: int) -> None:
        """`boot_nonce` is the one in this member's request ids."""
        self._boot_nonce = boot_nonce
        self._leader_id = 0
        """Who got commands last,"""
        self._term = 0
        """in which term,"""
        self._epoch = 0
        """and how many sessions with it were lost in that term since."""
        self._fenced_epoch = 0
        """The leader has put up this fence, the highest that it has told of,"""
        self._last_log_index = 0
        """and its log ended there."""
        self._settled_epoch = 0
        """What became of commands of earlier epochs than this is known."""
        self._asked = False

    @property
    def in_doubt(self) -> bool:
        """Whether commands of this term may be lost."""
        return self._settled_epoch < self._epoch

    @property
    def wants_answer(self) -> bool:
        """Whether the leader has to be asked, or asked again."""
        return self._settled_epoch < self._epoch and self._fenced_epoch < self._epoch

    def epoch_to(self, leader_id: int, term: int) -> int:
        """The epoch of commands that leave to this leader now."""
        if term != self._term:
            self._term = term
            self._epoch = self._fenced_epoch = self._settled_epoch = 0
        self._leader_id = leader_id
        return self._epoch

    def session_ended(self, member_id: int, transport: Transport) -> None:
        """A session with this member was lost, with everything on it that had not arrived."""
        if member_id == self._leader_id and _knows_fences(member_id, transport):
            self._epoch += 1
            self._asked = False

    def ask(self, raft: Raft, transport: Transport) -> None:
        """Ask the leader, if it is still the one and can be reached."""
        if raft.current_term != self._term:
            self._settled_epoch = self._epoch  # A later term will tell.
        elif not self._asked and raft.leader_id == self._leader_id and transport.is_connected(self._leader_id):
            self._asked = True
            if _knows_fences(self._leader_id, transport):
                transport.send(self._leader_id, (ForwardFence(self._term, self._boot_nonce, self._epoch),))

    def ask_again(self) -> None:
        """Question or answer may be lost; each answer is as good as the first."""
        self._asked = False

    def answered(self, frame: ForwardFenced) -> None:
        """The leader has put up a fence: the last one, or, where sessions break quickly, one of those before."""
        is_ours = (frame.term, frame.boot_nonce) == (self._term, self._boot_nonce)
        if is_ours and self._fenced_epoch < frame.epoch <= self._epoch:
            self._fenced_epoch, self._last_log_index = frame.epoch, frame.last_log_index

    def is_clear(self, applied_index: int) -> bool:
        """Whether more is known about commands of this term that have not shown up, see `is_lost`; said once."""
        is_clear = self._settled_epoch < self._fenced_epoch and self._last_log_index <= applied_index
        if is_clear:
            self._settled_epoch = self._fenced_epoch
        return is_clear

    def is_lost(self, term: int, epoch: int) -> bool:
        """Whether a command of these two that has not shown up was never taken, as far as it is known."""
        return term == self._term and epoch < self._settled_epoch


def _knows_fences(member_id: int, transport: Transport) -> bool:
    return transport.newest_protocol(member_id) >= _PROTOCOL_OF_FENCES
