"""Commands of other members' clients: for the leader of their own term, refused otherwise, and no refusal is lost."""

import pytest

from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Command, Set, Sync
from kvraft.member.forwarding import Forwarding
from kvraft.member.waiters import REQUEST_ID_BYTES, owner_of
from kvraft.peer_frames import ForwardedCommand, ForwardFence, ForwardFenced, ForwardRefused
from kvraft.raft.effects import ProposalRefusalReason, Role
from kvraft.raft.inputs import Propose
from tests.member.fakes import ScriptedRaft

pytestmark = pytest.mark.pure

TIMEOUT_MS = 7000


def takes_all(_command: Command) -> bool:
    """This disk has room for everything: nothing is refused."""
    return False


def test_forwarded_command_is_for_the_leader_of_its_own_term() -> None:
    """Followers and leaders of other terms refuse it, naming the term of the attempt."""
    frame = ForwardedCommand(4, bytes(range(REQUEST_ID_BYTES)) + encode_command(Sync()))
    refused = ForwardRefused(frame.payload[:REQUEST_ID_BYTES], ProposalRefusalReason.NOT_LEADER, 4)
    for raft in (ScriptedRaft(term=4, leader_id=2), ScriptedRaft(Role.LEADER, 3), ScriptedRaft(Role.LEADER, 5)):
        assert Forwarding(takes_all, TIMEOUT_MS).propose(2, frame, raft.core) == refused
    outcome = Forwarding(takes_all, TIMEOUT_MS).propose(2, frame, ScriptedRaft(Role.LEADER, 4).core)
    assert isinstance(outcome, Propose)
    assert outcome.payload == frame.payload


def test_forwarded_command_that_finds_no_room_is_refused_unless_it_frees_some() -> None:
    """A leader with a full disk that could not hand over takes no more from others than from its own clients."""
    raft = ScriptedRaft(Role.LEADER, 4).core
    forwarding = Forwarding(lambda command: not isinstance(command, Sync), TIMEOUT_MS)
    commands = (Set(path=b"/key"), Sync())
    frames = [ForwardedCommand(4, bytes(REQUEST_ID_BYTES) + encode_command(command)) for command in commands]
    refused, proposed = (forwarding.propose(2, frame, raft) for frame in frames)
    assert refused == ForwardRefused(bytes(REQUEST_ID_BYTES), "no space", 4)
    assert isinstance(proposed, Propose)


def test_refusal_by_the_core_finds_its_way_back_within_the_step() -> None:
    """Tokens of forwarded commands never meet those of this member's own waiters, and are forgotten after the step."""
    forwarding = Forwarding(takes_all, TIMEOUT_MS)
    frames = [ForwardedCommand(4, bytes([number]) * REQUEST_ID_BYTES + encode_command(Sync())) for number in (1, 2)]
    raft = ScriptedRaft(Role.LEADER, 4).core
    tokens = [forwarding.propose(number, frame, raft) for number, frame in zip((2, 3), frames, strict=True)]
    second = tokens[1]
    assert isinstance(second, Propose)
    assert second.token < 0
    refusal = ForwardRefused(frames[1].payload[:REQUEST_ID_BYTES], ProposalRefusalReason.TRANSFERRING, 4)
    assert forwarding.refusal(second.token, ProposalRefusalReason.TRANSFERRING) == (3, refusal)
    assert forwarding.refusal(1, ProposalRefusalReason.TRANSFERRING) is None
    forwarding.end_step(raft)
    assert forwarding.refusal(second.token, ProposalRefusalReason.TRANSFERRING) is None


def test_refusal_that_could_not_be_sent_is_owed_until_its_member_is_connected() -> None:
    """Each is given out once."""
    forwarding = Forwarding(takes_all, TIMEOUT_MS)
    first, second, third = (ForwardRefused(bytes([number]), ProposalRefusalReason.TOO_MANY, 4) for number in (1, 2, 3))
    for member_id, refused in ((2, first), (3, second), (2, third)):
        forwarding.owe(member_id, refused, 0)
    assert forwarding.take_owed(lambda member_id: member_id == 2, 1) == [(2, [first, third])]
    assert forwarding.take_owed(lambda _member_id: True, 1) == [(3, [second])]
    assert forwarding.take_owed(lambda _member_id: True, 1) == []


def test_refusal_owed_to_a_member_that_never_returns_is_dropped_once_nobody_waits_for_it() -> None:
    """Its client has been answered by then; a younger one is still owed."""
    forwarding = Forwarding(takes_all, TIMEOUT_MS)
    old, young = (ForwardRefused(bytes([number]), ProposalRefusalReason.TOO_MANY, 4) for number in (1, 2))
    forwarding.owe(2, old, 0)
    forwarding.owe(2, young, 50)
    forwarding.owe(3, old, 0)
    assert forwarding.take_owed(lambda _member_id: False, TIMEOUT_MS) == []
    assert {member_id: len(owed) for member_id, owed in forwarding._owed.items()} == {2: 1}
    assert forwarding.take_owed(lambda _member_id: True, TIMEOUT_MS + 1) == [(2, [young])]
    assert forwarding._owed == {}


def test_bytes_that_are_no_command_never_enter_the_log() -> None:
    """Committed, they would stop every member; refused, they are the sender's defect alone."""
    frame = ForwardedCommand(4, bytes(REQUEST_ID_BYTES) + b"not a command")
    outcome = Forwarding(takes_all, TIMEOUT_MS).propose(2, frame, ScriptedRaft(Role.LEADER, term=4, leader_id=1).core)
    assert isinstance(outcome, ForwardRefused)
    assert outcome.reason.startswith("malformed command")


def test_fence_lets_no_command_of_an_earlier_epoch_into_the_log_and_names_the_end_behind_the_step() -> None:
    """Others' commands and an earlier run's are not behind it; a second fence of an earlier epoch moves nothing."""
    forwarding, raft = Forwarding(takes_all, TIMEOUT_MS), ScriptedRaft(Role.LEADER, 4)
    owner, other = owner_of(2, 98), owner_of(2, 99)

    def proposed(owner: bytes, epoch: int, term: int = 4) -> object:
        frame = ForwardedCommand(term, owner + bytes(8) + encode_command(Sync()), epoch)
        return type(forwarding.propose(2, frame, raft.core))

    raft.last_log_index = 7
    forwarding.fence(2, ForwardFence(4, 98, 2), raft.core)
    forwarding.fence(2, ForwardFence(4, 98, 1), raft.core)
    assert [proposed(owner, epoch) for epoch in (0, 1, 2, 3)] == [type(None), type(None), Propose, Propose]
    assert proposed(other, 0) is Propose
    raft.last_log_index = 9
    assert forwarding.end_step(raft.core) == [(2, ForwardFenced(4, 98, epoch, 9)) for epoch in (2, 1)]
    assert forwarding.end_step(raft.core) == []
    raft.current_term = 5
    assert proposed(owner, 0, term=5) is Propose
    forwarding.fence(2, ForwardFence(5, 99, 1), raft.core)
    assert proposed(owner, 0, term=5) is Propose


@pytest.mark.parametrize("raft", [ScriptedRaft(term=4, leader_id=2), ScriptedRaft(Role.LEADER, 5)])
def test_fence_is_answered_only_by_the_leader_of_its_term(raft: ScriptedRaft) -> None:
    """Nobody else knows where that leader's log ends; nor does it once the step has deposed it."""
    forwarding = Forwarding(takes_all, TIMEOUT_MS)
    forwarding.fence(2, ForwardFence(4, 98, 1), raft.core)
    assert forwarding.end_step(raft.core) == []
    forwarding.fence(2, ForwardFence(4, 98, 1), ScriptedRaft(Role.LEADER, 4).core)
    assert forwarding.end_step(raft.core) == []
