"""A command goes to one leader, once; only a refusal of that very attempt sends it again."""

from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Command, Set, Sync
from kvraft.keyspace.errors import EtcdError
from kvraft.member.forwarding import Forwarding
from kvraft.member.router import Router
from kvraft.member.waiters import REQUEST_ID_BYTES, UNSENT, Waiters
from kvraft.peer_frames import ForwardedCommand, ForwardRefused
from kvraft.raft.effects import RefusalReason, Role
from kvraft.raft.inputs import Propose
from kvraft.records import Written
from tests.member.fakes import RecordingTransport, ScriptedRaft


def takes_all(_command: Command) -> bool:
    """This disk has room for everything: nothing is refused."""
    return False


def ignore(_outcome: Written | EtcdError) -> None:
    """Nobody looks at this answer."""


def test_command_is_forwarded_once_to_a_leader_that_can_be_reached() -> None:
    """Until then it waits; afterwards it is nobody's to send."""
    transport, waiters, raft = RecordingTransport(), Waiters(1, 1, 7000), ScriptedRaft(term=4)
    router = Router(transport)
    waiter = waiters.add(b"command", ignore, 0)
    router.add(waiter)
    assert router.route(raft.core) == []
    raft.leader_id = 2
    transport.connected = {3}
    assert router.route(raft.core) == []
    assert (transport.take(), waiter.term, router.unsent) == ([], UNSENT, 1)
    transport.connected = {2, 3}
    for _ in range(2):
        assert router.route(raft.core) == []
    assert transport.take() == [(2, ForwardedCommand(4, waiter.payload))]
    assert (waiter.term, router.unsent) == (4, 0)


def test_leader_proposes_its_own_clients_commands() -> None:
    """Nothing is sent; the waiter remembers the term."""
    transport, waiters = RecordingTransport(), Waiters(1, 1, 7000)
    router = Router(transport)
    waiter = waiters.add(b"command", ignore, 0)
    router.add(waiter)
    raft = ScriptedRaft(Role.LEADER, term=5, leader_id=1)
    assert router.route(raft.core) == [Propose(waiter.counter, waiter.payload)]
    assert router.route(raft.core) == []
    assert (waiter.term, transport.take()) == (5, [])


def test_command_whose_client_was_answered_is_not_sent() -> None:
    """It timed out while it waited for a leader: its client was told that the outcome is unknown, and may try again."""
    transport, waiters = RecordingTransport(), Waiters(1, 1, 100)
    router = Router(transport)
    router.add(waiters.add(b"command", ignore, 0))
    waiters.take_overdue(100)
    router.route(ScriptedRaft(term=4, leader_id=2).core)
    assert (transport.take(), router.unsent) == ([], 0)


def test_forwarded_command_is_for_the_leader_of_its_own_term() -> None:
    """Followers and leaders of other terms refuse it, naming the term of the attempt."""
    frame = ForwardedCommand(4, bytes(range(REQUEST_ID_BYTES)) + encode_command(Sync()))
    refused = ForwardRefused(frame.payload[:REQUEST_ID_BYTES], RefusalReason.NOT_LEADER, 4)
    for raft in (ScriptedRaft(term=4, leader_id=2), ScriptedRaft(Role.LEADER, 3), ScriptedRaft(Role.LEADER, 5)):
        assert Forwarding(takes_all).propose(2, frame, raft.core) == refused
    outcome = Forwarding(takes_all).propose(2, frame, ScriptedRaft(Role.LEADER, 4).core)
    assert isinstance(outcome, Propose)
    assert (outcome.payload, outcome.for_server) == (frame.payload, 2)


def test_forwarded_command_that_finds_no_room_is_refused_unless_it_frees_some() -> None:
    """A leader with a full disk that could not hand over takes no more from others than from its own clients."""
    raft = ScriptedRaft(Role.LEADER, 4).core
    forwarding = Forwarding(lambda command: not isinstance(command, Sync))
    commands = (Set(path=b"/key"), Sync())
    frames = [ForwardedCommand(4, bytes(REQUEST_ID_BYTES) + encode_command(command)) for command in commands]
    refused, proposed = (forwarding.propose(2, frame, raft) for frame in frames)
    assert refused == ForwardRefused(bytes(REQUEST_ID_BYTES), "no space", 4)
    assert isinstance(proposed, Propose)


def test_refusal_by_the_core_finds_its_way_back_within_the_step() -> None:
    """Tokens of forwarded commands never meet those of this member's own waiters, and are forgotten after the step."""
    forwarding = Forwarding(takes_all)
    frames = [ForwardedCommand(4, bytes([number]) * REQUEST_ID_BYTES + encode_command(Sync())) for number in (1, 2)]
    raft = ScriptedRaft(Role.LEADER, 4).core
    tokens = [forwarding.propose(number, frame, raft) for number, frame in zip((2, 3), frames, strict=True)]
    second = tokens[1]
    assert isinstance(second, Propose)
    assert second.token < 0
    refusal = ForwardRefused(frames[1].payload[:REQUEST_ID_BYTES], RefusalReason.TRANSFERRING, 4)
    assert forwarding.refusal(second.token, RefusalReason.TRANSFERRING) == (3, refusal)
    assert forwarding.refusal(1, RefusalReason.TRANSFERRING) is None
    forwarding.end_step()
    assert forwarding.refusal(second.token, RefusalReason.TRANSFERRING) is None


def test_refusal_that_could_not_be_sent_is_owed_until_its_member_is_connected() -> None:
    """Each is given out once."""
    forwarding = Forwarding(takes_all)
    first, second, third = (ForwardRefused(bytes([number]), RefusalReason.TOO_MANY, 4) for number in (1, 2, 3))
    for member_id, refused in ((2, first), (3, second), (2, third)):
        forwarding.owe(member_id, refused)
    assert forwarding.take_owed(lambda member_id: member_id == 2) == [(2, [first, third])]
    assert forwarding.take_owed(lambda _member_id: True) == [(3, [second])]
    assert forwarding.take_owed(lambda _member_id: True) == []


def test_bytes_that_are_no_command_never_enter_the_log() -> None:
    """Committed, they would stop every member; refused, they are the sender's defect alone."""
    frame = ForwardedCommand(4, bytes(REQUEST_ID_BYTES) + b"not a command")
    outcome = Forwarding(takes_all).propose(2, frame, ScriptedRaft(Role.LEADER, term=4, leader_id=1).core)
    assert isinstance(outcome, ForwardRefused)
    assert outcome.reason.startswith("malformed command")


def test_held_command_goes_out_when_it_is_released() -> None:
    """A refused one is not sent back at once: it would fly to and fro until leadership has settled."""
    transport, waiters, raft = RecordingTransport(), Waiters(1, 1, 7000), ScriptedRaft(term=4, leader_id=2)
    transport.connected = {2}
    router = Router(transport)
    waiter = waiters.add(b"command", ignore, 0)
    router.hold(waiter)
    router.route(raft.core)
    assert (transport.take(), router.unsent) == ([], 1)
    router.release()
    router.route(raft.core)
    assert transport.take() == [(2, ForwardedCommand(4, waiter.payload))]
