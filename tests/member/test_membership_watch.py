"""Whom the transport is told of, and how a removed member leaves."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import cast, final

import pytest

from kvraft.founding import Founder
from kvraft.keyspace.commands import AddMember, Command, MoveMember, PublishMember, RemoveMember
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.failure import Failure
from kvraft.member.leaving import Leaving
from kvraft.member.membership_watch import MembershipWatch
from kvraft.raft.configuration import Configuration
from tests.member import virtual_time
from tests.member.fakes import RecordingTransport, ScriptedRaft, log_of, payload_of
from tests.member.host import CONFIGURATION, REGISTRATION, cluster_of

URLS = {2: ("http://127.0.0.1:2",), 3: ("http://127.0.0.1:3",)}


@final
@dataclass
class _Applied:
    """What the watch sees of an applier."""

    configuration: Configuration


@final
@dataclass
class _Watched:
    """Member 1 of three founders, with a state that a test changes by commands."""

    keyspace: Keyspace = field(default_factory=Keyspace)
    raft: ScriptedRaft = field(default_factory=ScriptedRaft)
    transport: RecordingTransport = field(default_factory=RecordingTransport)
    applied: _Applied = field(default_factory=lambda: _Applied(CONFIGURATION))

    def __post_init__(self) -> None:
        self.apply(REGISTRATION)
        cluster = cluster_of(1, self.keyspace)
        self.watch = MembershipWatch(cluster, self.raft.core, cast("Applier", self.applied), self.transport)
        self.watch.follow()

    def apply(self, command: Command) -> None:
        self.keyspace.apply(command, 0)

    def configure(self, configuration: Configuration, *, committed: bool = True) -> None:
        self.raft.configuration = configuration
        if committed:
            self.raft.committed_configuration = self.applied.configuration = configuration


def test_peers_are_the_others_where_they_are_wanted() -> None:
    """One that is added is dialled at once, before it is in any configuration; one that moves at its new address."""
    watched = _Watched()
    assert watched.transport.peers == URLS
    assert not watched.watch.look()
    watched.apply(AddMember(9, ("http://nine:2380",)))
    watched.apply(MoveMember(2, ("http://two:2380",)))
    assert watched.watch.look()
    assert watched.transport.peers == {2: ("http://two:2380",), 3: URLS[3], 9: ("http://nine:2380",)}


def test_a_removed_member_is_found_after_a_restart_until_its_removal_is_committed() -> None:
    """A founder and one that came later, neither of whom the state knows any more; who is known by it is not kept."""
    keyspace, raft, transport = Keyspace(), ScriptedRaft(), RecordingTransport()
    for command in (REGISTRATION, AddMember(9, ("http://nine:2380",)), RemoveMember(9), RemoveMember(3)):
        keyspace.apply(command, 0)
    raft.configuration = raft.committed_configuration = Configuration.of((1, 2, 3, 9))
    told = [Founder(2, "m2", ("http://old:2380",)), Founder(9, "", ("http://nine:2380",))]
    cluster = cluster_of(1, keyspace, told=told)
    watch = MembershipWatch(cluster, raft.core, cast("Applier", _Applied(raft.configuration)), transport)
    watch.follow()
    assert transport.peers == {2: URLS[2], 3: URLS[3], 9: ("http://nine:2380",)}
    assert {each.member_id: each.peer_urls for each in watch.leaving} == {3: URLS[3], 9: ("http://nine:2380",)}
    raft.configuration = raft.committed_configuration = raft.configuration.followed_by((1, 2, 3), ())
    watch.follow()
    assert [each.member_id for each in watch.leaving] == [3]


def test_a_removed_member_is_looked_for_wherever_it_may_be_and_not_where_another_is() -> None:
    """The state that was loaded is from before it moved, and its first URL belongs to one that came since."""
    keyspace, raft, transport = Keyspace(), ScriptedRaft(), RecordingTransport()
    keyspace.apply(REGISTRATION, 0)
    raft.configuration = raft.committed_configuration = Configuration.of((1, 2, 3))
    cluster = cluster_of(1, keyspace, told=[Founder(3, "m3", ("http://new:2380",))])
    watch = MembershipWatch(cluster, raft.core, cast("Applier", _Applied(raft.configuration)), transport)
    watch.follow()
    keyspace.apply(RemoveMember(3), 0)
    watch.follow()
    assert transport.peers[3] == (*URLS[3], "http://new:2380")
    keyspace.apply(AddMember(9, URLS[3]), 0)
    watch.follow()
    assert transport.peers == {2: URLS[2], 3: ("http://new:2380",), 9: URLS[3]}
    keyspace.apply(MoveMember(1, ("http://new:2380",)), 0)
    watch.follow()
    assert transport.peers == {2: URLS[2], 3: (), 9: URLS[3]}
    assert not watch.leaving


def test_a_removed_member_is_a_peer_until_its_removal_is_committed() -> None:
    """At its last address: its vote and its acknowledgements may be needed."""
    watched = _Watched()
    watched.apply(RemoveMember(3))
    assert watched.watch.look()
    assert watched.transport.peers == URLS
    watched.configure(CONFIGURATION.followed_by((1, 2), ()), committed=False)
    watched.watch.follow()
    assert watched.transport.peers == URLS
    watched.configure(watched.raft.configuration)
    assert watched.watch.look()
    assert watched.transport.peers == {2: URLS[2]}


def test_a_server_that_is_in_the_log_before_it_is_known_may_come() -> None:
    """Its address is in an entry that is not applied here yet."""
    watched = _Watched()
    watched.configure(Configuration.of((1, 2, 3), (9,)), committed=False)
    watched.watch.follow()
    assert watched.transport.peers == {**URLS, 9: ()}


def test_an_own_move_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The member listens where its flags say, which nobody else can change."""
    caplog.set_level(logging.WARNING, "kvraft")
    watched = _Watched()
    watched.apply(MoveMember(1, ("http://one:2380",)))
    watched.watch.look()
    watched.apply(MoveMember(1, ("http://one:2380",)))
    watched.watch.look()
    assert [record.message for record in caplog.records] == [
        "the peer URLs of this member were changed: if it does not listen there, start it with --listen-peer-urls "
        "that do"
    ]


def test_who_votes_is_said_by_name_once_each_time_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """A member that was added has no name before it has told it; then the line is said once more."""
    caplog.set_level(logging.INFO, "kvraft")
    watched = _Watched()
    watched.apply(AddMember(9, ("http://nine:2380",)))
    watched.configure(Configuration.of((1, 2, 3, 9)))
    watched.watch.look()
    watched.apply(MoveMember(2, ("http://two:2380",)))
    watched.watch.look()
    watched.apply(PublishMember(9, "m0", ()))
    watched.watch.look()
    said = [record.kvraft_fields for record in caplog.records]  # type: ignore[attr-defined]  # set by kvraft.logs
    assert [fields["voters"] for fields in said] == ["9,m1,m2,m3", "m0,m1,m2,m3"]


def test_a_removed_member_leaves_when_it_is_told_or_knows_for_long() -> None:
    """Not because it is not wanted any more: its removal may not be committed yet."""

    async def story() -> None:
        for told in (True, False):
            raft, failure = ScriptedRaft(), Failure("m1")
            keyspace = Keyspace()
            keyspace.apply(REGISTRATION, 0)
            keyspace.apply(RemoveMember(1), 0)
            leaving = Leaving(cluster_of(1, keyspace), raft.core, failure, 1000)
            leaving.look(0)
            leaving.look(5000)
            assert not failure.reason.done()
            if told:
                leaving.told(2)
            else:
                raft.committed_configuration = CONFIGURATION.followed_by((2, 3), ())
                leaving.look(6000)
                leaving.look(6999)
                assert not failure.reason.done()
                leaving.look(7000)
            assert failure.is_removal
            assert await asyncio.shield(failure.reason) == "it was removed from the cluster"

    virtual_time.run(story())


def test_a_member_is_looked_for_where_the_log_has_it_while_nobody_leads() -> None:
    """Beside where it was: nobody knows yet whether the move is committed, and its vote may be needed."""
    watched = _Watched()
    watched.raft.entries = log_of(
        payload_of(MoveMember(3, ("http://three:2380",))), payload_of(AddMember(9, ("http://9",)))
    )
    watched.raft.leader_id = 2
    watched.watch.look_ahead()
    assert watched.transport.peers == URLS
    watched.raft.leader_id = 0
    watched.watch.look_ahead()
    assert watched.transport.peers == {2: URLS[2], 3: (*URLS[3], "http://three:2380")}
    watched.raft.leader_id, watched.raft.last_applied = 2, 2
    watched.apply(MoveMember(3, ("http://three:2380",)))
    watched.watch.look_ahead()
    assert watched.transport.peers == {2: URLS[2], 3: ("http://three:2380",)}
