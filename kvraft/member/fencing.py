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
        self._in_doubt = False
        """Commands of earlier epochs may be lost."""
        self._asked = False
        self._last_log_index = 0
        """The leader's answer; 0 while there is none."""

    @property
    def in_doubt(self) -> bool:
        """Whether commands of this term may be lost."""
        return self._in_doubt

    @property
    def wants_answer(self) -> bool:
        """Whether the leader has to be asked, or asked again."""
        return self._in_doubt and not self._last_log_index

    def epoch_to(self, leader_id: int, term: int) -> int:
        """The epoch of commands that leave to this leader now."""
        if term != self._term:
            self._term, self._epoch, self._in_doubt = term, 0, False
        self._leader_id = leader_id
        return self._epoch

    def session_ended(self, member_id: int, transport: Transport) -> None:
        """A session with this member was lost, with everything on it that had not arrived."""
        if member_id == self._leader_id and transport.newest_protocol(member_id) >= _PROTOCOL_OF_FENCES:
            self._epoch += 1
            self._in_doubt = True
            self._asked = False
            self._last_log_index = 0

    def ask(self, raft: Raft, transport: Transport) -> None:
        """Ask the leader, if it is still the one and can be reached."""
        if raft.current_term != self._term:
            self._in_doubt = False  # A later term will tell.
        elif not self._asked and raft.leader_id == self._leader_id and transport.is_connected(self._leader_id):
            self._asked = True
            transport.send(self._leader_id, (ForwardFence(self._term, self._boot_nonce, self._epoch),))

    def ask_again(self) -> None:
        """Question or answer may be lost; each answer is as good as the first."""
        self._asked = False

    def answered(self, frame: ForwardFenced) -> None:
        """The leader has put up the fence."""
        is_ours = (frame.term, frame.boot_nonce, frame.epoch) == (self._term, self._boot_nonce, self._epoch)
        if is_ours and self.wants_answer:
            self._last_log_index = frame.last_log_index

    def is_clear(self, applied_index: int) -> bool:
        """Whether a command of this term and an earlier epoch that has not shown up was never taken; said once."""
        is_clear = self._in_doubt and 0 < self._last_log_index <= applied_index
        if is_clear:
            self._in_doubt = False
        return is_clear

    def is_lost(self, term: int, epoch: int) -> bool:
        """Once it is clear: whether a command with these two was never taken."""
        return term == self._term and epoch < self._epoch
