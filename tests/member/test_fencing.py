"""A session with the leader is lost: it is asked whether commands have arrived, and believed for what it says alone."""

import pytest

from kvraft.member.fencing import Fencing
from kvraft.peer_frames import ForwardFence, ForwardFenced
from tests.member.fakes import RecordingTransport, ScriptedRaft

pytestmark = pytest.mark.pure

NONCE = 99
LEADER = 2


class _Story:
    """A follower in term 4, which has forwarded commands to member 2."""

    def __init__(self) -> None:
        self.fencing = Fencing(NONCE)
        self.transport = RecordingTransport()
        self.raft = ScriptedRaft(term=4, leader_id=LEADER)
        assert self.fencing.epoch_to(LEADER, 4) == 0

    def lose(self, member_id: int = LEADER) -> None:
        self.fencing.session_ended(member_id, self.transport)

    def asked(self) -> list[ForwardFence]:
        """What leaves in one step."""
        if self.fencing.wants_answer:
            self.fencing.ask(self.raft.core, self.transport)
        sent = self.transport.take()
        assert all(member_id == LEADER for member_id, _ in sent)
        return [frame for _, frame in sent if isinstance(frame, ForwardFence)]


def test_leader_is_asked_as_soon_as_it_can_be_reached_and_again_after_a_while() -> None:
    """Question or answer may be lost, and a second one does no harm."""
    story = _Story()
    assert story.asked() == []
    story.transport.connected = set()
    story.lose()
    assert (story.asked(), story.fencing.epoch_to(LEADER, 4)) == ([], 1)
    story.transport.connected = {LEADER}
    assert story.asked() == [ForwardFence(4, NONCE, 1)]
    assert story.asked() == []
    story.fencing.ask_again()
    assert story.asked() == [ForwardFence(4, NONCE, 1)]
    story.fencing.answered(ForwardFenced(4, NONCE, 1, 9))
    story.fencing.ask_again()
    assert story.asked() == []


def test_what_was_given_before_is_lost_once_the_leaders_last_entry_is_applied() -> None:
    """And not what was given since; that is said once."""
    story = _Story()
    story.lose()
    assert not story.fencing.is_clear(100)
    story.fencing.answered(ForwardFenced(4, NONCE, 1, 9))
    assert not story.fencing.is_clear(8)
    assert story.fencing.is_clear(9)
    assert not story.fencing.is_clear(9)
    assert [story.fencing.is_lost(term, epoch) for term, epoch in ((4, 0), (4, 1), (3, 0), (5, 0))] == [
        *(True, False, False, False)
    ]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ForwardFenced(3, NONCE, 2, 5), id="term"),
        pytest.param(ForwardFenced(4, NONCE, 3, 5), id="a loss to come"),
        pytest.param(ForwardFenced(4, 98, 2, 5), id="an earlier run"),
    ],
)
def test_answer_to_another_question_is_not_heeded(answer: ForwardFenced) -> None:
    """Its index is too small: commands of this epoch may stand behind it."""
    story = _Story()
    story.lose()
    story.lose()
    story.fencing.answered(answer)
    assert not story.fencing.is_clear(100)
    assert story.asked() == [ForwardFence(4, NONCE, 2)]


def test_answer_about_an_earlier_loss_settles_what_was_given_before_that() -> None:
    """Where sessions break more often than a fence takes, something is known nevertheless; never about what came later.

    What is known by a later answer is not undone by an earlier one that comes late.
    """
    story = _Story()
    story.lose()
    story.lose()
    story.fencing.answered(ForwardFenced(4, NONCE, 1, 5))
    assert story.fencing.is_clear(5)
    assert [story.fencing.is_lost(4, epoch) for epoch in (0, 1, 2)] == [True, False, False]
    assert story.fencing.in_doubt
    assert story.asked() == [ForwardFence(4, NONCE, 2)]
    story.fencing.answered(ForwardFenced(4, NONCE, 2, 9))
    story.fencing.answered(ForwardFenced(4, NONCE, 1, 5))
    assert not story.fencing.is_clear(8)
    assert story.fencing.is_clear(9)
    assert [story.fencing.is_lost(4, epoch) for epoch in (0, 1, 2)] == [True, True, False]
    assert not story.fencing.in_doubt


def test_leader_that_came_back_with_an_older_program_is_not_asked() -> None:
    """It would not understand the question, and end the session for it."""
    story = _Story()
    story.lose()
    story.transport.protocols[LEADER] = 2
    assert story.asked() == []


def test_session_with_somebody_else_puts_nothing_in_doubt() -> None:
    """Nor with a leader whose program has no fences: it would not understand the question."""
    story = _Story()
    story.lose(3)
    story.transport.protocols[LEADER] = 2
    story.lose()
    assert not story.fencing.in_doubt
    assert story.fencing.epoch_to(LEADER, 4) == 0


def test_another_leader_is_not_asked_and_a_later_term_begins_anew() -> None:
    """Entries of its term will tell what is lost; towards it no epoch has begun."""
    story = _Story()
    story.lose()
    story.raft.leader_id = 0
    assert (story.asked(), story.fencing.wants_answer) == ([], True)
    story.raft.leader_id, story.raft.current_term = 3, 5
    assert (story.asked(), story.fencing.wants_answer) == ([], False)
    story.lose()
    assert story.fencing.epoch_to(3, 5) == 0
    assert not story.fencing.in_doubt
