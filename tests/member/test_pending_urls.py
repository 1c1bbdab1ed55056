"""Where members will be by entries that are not applied: looked at only while nobody leads."""

import pytest

from kvraft.keyspace.command_codec import encode_command, place_told
from kvraft.keyspace.commands import AddMember, Authorized, Command, MoveMember, RemoveMember, Set, Sync
from kvraft.member.pending_urls import PendingUrls
from tests.member.fakes import ScriptedRaft, log_of, payload_of

pytestmark = pytest.mark.pure

MOVED = MoveMember(3, ("http://three:2380",))
ADDED = AddMember(9, ("http://nine:2380",))


def _raft(*commands: Command | None) -> ScriptedRaft:
    """A follower that has applied nothing of a log with these entries."""
    raft = ScriptedRaft(term=4)
    raft.entries = log_of(*(None if command is None else payload_of(command) for command in commands), term=4)
    return raft


def test_only_commands_that_say_where_a_member_is_tell_a_place() -> None:
    """Also those that somebody with rights has sent."""
    for command in (MOVED, ADDED):
        for sent in (command, Authorized(7, command)):
            assert place_told(encode_command(sent)) == command
    for other in (RemoveMember(3), Sync(), Set(path=b"/k"), Authorized(7, Set(path=b"/k"))):
        assert place_told(encode_command(other)) is None


def test_unapplied_entries_tell_where_members_are_until_they_are_applied() -> None:
    """The last word about a member counts."""
    raft = _raft(None, MoveMember(3, ("http://old:2380",)), Set(path=b"/k"), ADDED, MOVED)
    pending = PendingUrls(raft.core)
    assert pending.look()
    assert pending.urls == {3: MOVED.peer_urls, 9: ADDED.peer_urls}
    assert not pending.look()
    raft.leader_id, raft.last_applied = 2, 4
    assert not pending.look()
    assert pending.urls
    raft.last_applied = 5
    assert pending.look()
    assert not pending.urls


def test_nothing_is_looked_at_while_somebody_leads_or_what_is_applied() -> None:
    """Whoever leads commits what its followers lack."""
    raft = _raft(MOVED, Sync())
    raft.leader_id = 2
    pending = PendingUrls(raft.core)
    assert not pending.look()
    raft.leader_id, raft.last_applied = 0, 1
    assert not pending.look()


def test_entries_of_a_later_leader_are_looked_at_anew() -> None:
    """They may stand where others stood."""
    raft = _raft(Sync(), Sync(), Sync())
    pending = PendingUrls(raft.core)
    assert not pending.look()
    raft.current_term, raft.entries = 5, log_of(payload_of(Sync()), payload_of(MOVED), term=5)
    assert pending.look()
    assert pending.urls == {3: MOVED.peer_urls}
