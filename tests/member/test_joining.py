"""A member that comes to a running cluster: what it waits for, and whom it removes."""

import logging
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvraft.founding import Founder
from kvraft.keyspace.commands import (
    AddMember,
    Command,
    MoveMember,
    PublishMember,
    PublishMemberAlone,
    RegisterFounders,
    RemoveMember,
)
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member import outcomes
from kvraft.member.cluster import Cluster
from kvraft.member.join_watch import JoinWatch
from kvraft.member.known_members import KnownMembers
from kvraft.member.replacement import Replacement
from kvraft.raft.configuration import Configuration
from kvraft.records import Written

OWN = PublishMember(4, "n4", ("http://d:2379",))
TOLD = (
    Founder(1, "n1", ("http://a:2380",)),
    Founder(2, "n2", ("http://b:2380",)),
    Founder(4, "n4", ("http://d:2380",)),
)


class _Raft:
    """As much of the core as is looked at."""

    leader_id = 0
    last_applied = 0
    last_log_index = 0
    is_rebuilding = False


class _Applier:
    configuration = Configuration.of(())


def _cluster() -> tuple[Cluster, Keyspace]:
    keyspace = Keyspace()
    return Cluster(7, OWN, (), 1000, keyspace, TOLD), keyspace


def _grow(keyspace: Keyspace) -> None:
    keyspace.apply(RegisterFounders(((1, "n1", ("http://a:2380",)), (2, "n2", ("http://b:2380",)))), 1)


def test_newcomer_goes_by_what_it_was_told_until_it_has_applied_something() -> None:
    """Its peers are those; itself it belongs to them once that it was added is applied here, and publishes then."""
    cluster, keyspace = _cluster()
    assert cluster.others() == [1, 2]
    assert [member.peer_urls for member in cluster.members()] == [("http://a:2380",), ("http://b:2380",)]
    assert cluster.peer_name(2) == "n2"
    assert cluster.unpublished() is None
    keyspace.apply(RegisterFounders(((1, "n1", ("http://a:2380",)),)), 1)
    assert cluster.others() == [1], "told of n2 it was, but the applied state counts"
    keyspace.apply(AddMember(4, ("http://d:2380",)), 2)
    assert cluster.member_ids() == {1, 4}
    assert cluster.unpublished() == OWN
    assert not isinstance(cluster.leader_duty(0, lambda _: 2), RegisterFounders)


def test_newcomer_is_kept_from_clients_until_it_has_applied_that_it_was_added(caplog: pytest.LogCaptureFixture) -> None:
    """And says what it waits for every five seconds."""
    caplog.set_level(logging.INFO)
    cluster, keyspace = _cluster()
    raft = _Raft()
    watch = JoinWatch(cast("Any", raft), cluster)
    assert watch.is_newcomer
    for now_ms in (100, 200, 5000, 5100):
        watch.look(now_ms)
    raft.leader_id = 1
    watch.look(10_100)
    _grow(keyspace)
    watch.look(10_200)
    assert not watch.ended.is_set()
    keyspace.apply(AddMember(4, ("http://d:2380",)), 2)
    watch.look(10_300)
    watch.look(20_000)
    assert watch.ended.is_set()
    waits = "joining: waiting for a leader of the cluster"
    assert caplog.messages == [waits, waits, "joining: getting the log", "this member has joined the cluster"]
    assert not JoinWatch(cast("Any", raft), cluster).is_newcomer, "at its next start"


class _Submitted:
    """Takes commands, and carries them out when it is told to."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.waiting: list[tuple[Command, Callable[[Written | EtcdError], None]]] = []

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> None:
        self.waiting.append((command, done))

    def end(self, *, applied: bool) -> Command:
        ((command, done),) = self.waiting
        self.waiting.clear()
        if applied:
            self.keyspace.apply(command, 9)
        done(outcomes.internal_error(outcomes.TIMED_OUT))
        return command


@pytest.mark.parametrize("voters", [(1, 2), (1, 2, 4)])
def test_replaced_member_is_removed_once_this_one_is_a_voter(voters: Collection[int]) -> None:
    """Again until it is gone, whatever it was answered; then it is forgotten, once."""
    cluster, keyspace = _cluster()
    _grow(keyspace)
    keyspace.apply(AddMember(4, ("http://d:2380",)), 2)
    applier, submitted, forgotten = _Applier(), _Submitted(keyspace), list[None]()
    replacement = Replacement(cluster, cast("Any", applier), submitted.submit, 2, lambda: forgotten.append(None))
    applier.configuration = Configuration.of(voters, [] if 4 in voters else [4])
    replacement.look(1000)
    replacement.look(3000)
    if 4 not in voters:
        assert not submitted.waiting
        return
    assert submitted.end(applied=False) == RemoveMember(2)
    replacement.look(1500)
    assert not submitted.waiting, "not at once"
    replacement.look(2000)
    submitted.end(applied=True)
    assert not forgotten
    for now_ms in (2100, 9000):
        replacement.look(now_ms)
    assert forgotten == [None]
    assert not submitted.waiting
    assert cluster.is_removed(2)


class _Identity:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.kept: list[list[Founder]] = []

    def keep_members(self, members: Sequence[Founder], /) -> None:
        self.kept.append(list(members))

    def forget_replaced(self) -> None:
        raise AssertionError


def test_members_of_the_day_are_kept_for_a_start_that_knows_nothing_else() -> None:
    """Once this one belongs to them, and whenever they change; not without their URLs, which an old log lacks."""
    cluster, keyspace = _cluster()
    identity = _Identity()
    watch = SimpleNamespace(leaving=())
    known = KnownMembers(cluster, cast("Any", watch), identity)
    known.look()
    _grow(keyspace)
    known.look()
    assert not identity.kept, "it knows itself only by what it was told"
    keyspace.apply(AddMember(4, ("http://d:2380",)), 2)
    for _ in range(2):
        known.look()
    assert identity.kept == [[*TOLD[:2], Founder(4, "", ("http://d:2380",))]]
    keyspace.apply(MoveMember(2, ("http://c:2380",)), 3)
    known.look()
    assert identity.kept[1][1] == Founder(2, "n2", ("http://c:2380",))
    keyspace.apply(PublishMemberAlone(9, "old", ()), 4)
    known.look()
    assert len(identity.kept) == 2


def test_members_that_leave_are_kept_as_long_as_they_may_have_to_vote() -> None:
    """The state says no more where they are, and whoever has moved meanwhile has to find them."""
    cluster, keyspace = _cluster()
    identity, watch = _Identity(), SimpleNamespace(leaving=())
    known = KnownMembers(cluster, cast("Any", watch), identity)
    _grow(keyspace)
    keyspace.apply(AddMember(4, ("http://d:2380",)), 2)
    known.look()
    keyspace.apply(RemoveMember(2), 3)
    watch.leaving = (Founder(2, "", ("http://b:2380",)),)
    known.look()
    assert [each.member_id for each in identity.kept[-1]] == [1, 4, 2]
    watch.leaving = ()
    known.look()
    assert [each.member_id for each in identity.kept[-1]] == [1, 4]


def test_member_that_replaces_nobody_removes_nobody() -> None:
    """Whatever its id."""
    cluster, keyspace = _cluster()
    applier, submitted = _Applier(), _Submitted(keyspace)
    applier.configuration = Configuration.of([1, 2, 4])
    replacement = Replacement(cluster, cast("Any", applier), submitted.submit, 0, lambda: None)
    replacement.look(1000)
    assert not submitted.waiting
