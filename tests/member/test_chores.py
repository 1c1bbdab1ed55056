"""What nobody asked for is proposed once at a time, again when it failed, and by the leader where only it may."""

import asyncio
from collections.abc import Callable
from typing import final

from kvraft.keyspace.commands import (
    Command,
    PublishMember,
    Set,
    SetClusterVersion,
    SetHistorySize,
    Sync,
)
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.chores import Chores
from kvraft.member.cluster import CLUSTER_VERSION, MINIMUM_VERSION, MISSING_AFTER_S
from kvraft.member.outcomes import TIMED_OUT, internal_error
from kvraft.member.waiters import Waiters
from kvraft.raft.effects import Role
from kvraft.records import Written
from tests.member import virtual_time
from tests.member.fakes import ScriptedRaft, Silence, applier_of
from tests.member.host import HISTORY_EVENTS, MEMBER_IDS, REGISTRATION, cluster_of


@final
class Desk:
    """Chores of member 1, whose commands the test carries out."""

    def __init__(self) -> None:
        self.keyspace = Keyspace()
        self.raft = ScriptedRaft()
        self.clock_ms = 0
        self.waiting: list[tuple[Command, Callable[[Written | EtcdError], None]]] = []
        waiters = Waiters(1, 1, 7000)
        self.applier = applier_of(self.keyspace, waiters, Silence())
        self.chores = Chores(
            cluster_of(1, self.keyspace),
            self.raft.core,
            self.applier,
            self.submit,
            lambda: self.clock_ms,
            idle_sync_ms=30_000,
            newest_protocol=lambda _: 2,
        )

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> None:
        self.waiting.append((command, done))

    def carry_out(self) -> list[Command]:
        """Apply and answer what waits."""
        waiting, self.waiting = self.waiting, []
        for command, done in waiting:
            answer = self.keyspace.apply(command, self.clock_ms)
            done(Written(answer, self.keyspace.etcd_index, 1, 1))
        return [command for command, _ in waiting]


def test_member_publishes_itself_once_there_is_a_leader_and_again_when_that_failed() -> None:
    """One command is under way at a time; once it is in the keyspace there is nothing to do."""

    async def story() -> None:
        desk = Desk()
        desk.chores.publish()
        assert desk.waiting == []
        desk.raft.leader_id = 2
        desk.chores.publish()
        desk.chores.publish()
        [(command, done)] = desk.waiting
        assert command == PublishMember(1, "m1", ())
        desk.waiting.clear()
        done(internal_error(TIMED_OUT))
        desk.chores.publish()
        assert desk.carry_out() == [command]
        desk.chores.publish()
        assert desk.waiting == []

    virtual_time.run(story())


def test_leader_settles_history_founders_and_then_the_version_once_all_have_published() -> None:
    """The version says that every member is there; a follower settles nothing. In the end etcd's 2n + 1 indices."""

    async def story() -> None:
        desk = Desk()
        desk.keyspace.apply(SetHistorySize(10), 0)
        desk.keyspace.apply(PublishMember(1, "m1", ()), 0)
        desk.raft.leader_id = 2
        desk.chores.publish()
        assert desk.waiting == []
        desk.raft.role, desk.raft.leader_id = Role.LEADER, 1
        desk.chores.publish()
        assert desk.carry_out() == [SetHistorySize(HISTORY_EVENTS)]
        desk.chores.publish()
        assert desk.carry_out() == [REGISTRATION]
        desk.chores.publish()
        assert desk.waiting == []
        for member_id in MEMBER_IDS[1:]:
            desk.keyspace.apply(PublishMember(member_id, f"m{member_id}", ()), 0)
        desk.chores.publish()
        assert desk.carry_out() == [SetClusterVersion(CLUSTER_VERSION)]
        assert desk.keyspace.etcd_index == 2 * len(MEMBER_IDS) + 1
        desk.chores.publish()
        await asyncio.sleep(2 * MISSING_AFTER_S)
        desk.chores.publish()
        assert desk.waiting == []

    virtual_time.run(story())


def test_leader_settles_for_the_minimum_version_while_a_founder_is_missing() -> None:
    """After a while of its own term, once; when the founder has come at last, the version is the usual one."""

    async def story() -> None:
        desk = Desk()
        desk.raft.role, desk.raft.leader_id = Role.LEADER, 1
        for member_id in MEMBER_IDS[:-1]:
            desk.keyspace.apply(PublishMember(member_id, f"m{member_id}", ()), 0)
        desk.keyspace.apply(SetHistorySize(HISTORY_EVENTS), 0)
        desk.chores.publish()
        assert desk.carry_out() == [REGISTRATION]
        await asyncio.sleep(0.75 * MISSING_AFTER_S)
        desk.chores.start_anew()
        desk.chores.publish()
        await asyncio.sleep(0.75 * MISSING_AFTER_S)
        desk.chores.publish()
        assert desk.waiting == []
        await asyncio.sleep(0.25 * MISSING_AFTER_S)
        desk.chores.publish()
        assert desk.carry_out() == [SetClusterVersion(MINIMUM_VERSION)]
        await asyncio.sleep(2 * MISSING_AFTER_S)
        desk.keyspace.apply(SetHistorySize(10), 0)
        desk.chores.publish()
        assert desk.waiting == []
        desk.keyspace.apply(PublishMember(MEMBER_IDS[-1], "m3", ()), 0)
        desk.chores.publish()
        assert desk.carry_out() == [SetClusterVersion(CLUSTER_VERSION)]

    virtual_time.run(story())


def test_settled_is_a_member_that_has_published_itself_in_a_cluster_with_its_version() -> None:
    """Not a moment before: each chore goes out as soon as the one before is applied."""

    async def story() -> None:
        desk = Desk()
        desk.raft.role, desk.raft.leader_id = Role.LEADER, 1
        settling = asyncio.ensure_future(desk.chores.settle())
        await virtual_time.turns()
        for member_id in MEMBER_IDS[1:]:
            desk.keyspace.apply(PublishMember(member_id, f"m{member_id}", ()), 0)
        rounds = []
        while not settling.done():
            rounds.append(desk.carry_out())
            desk.chores.applied()
            await virtual_time.turns()
        own, version = PublishMember(1, "m1", ()), SetClusterVersion(CLUSTER_VERSION)
        assert rounds == [[REGISTRATION, own], [version]]
        await settling

    virtual_time.run(story())


def test_leader_proposes_one_sync_when_a_key_is_due() -> None:
    """Not before; not a second one while the first is under way; again if it was lost. Followers never do."""

    async def story() -> None:
        desk = Desk()
        desk.keyspace.apply(Set(path=b"/leased", value=b"v", ttl_s=1), 0)
        desk.clock_ms = 1000
        desk.chores.expire()
        assert desk.waiting == []
        desk.raft.role, desk.clock_ms = Role.LEADER, 900
        desk.chores.expire()
        assert desk.waiting == []
        desk.clock_ms = 1000
        await asyncio.sleep(0.1)
        assert [command for command, _ in desk.waiting] == [Sync()]
        desk.chores.expire()
        assert len(desk.waiting) == 1
        await asyncio.sleep(1.0)
        assert len(desk.waiting) == 1
        desk.chores.start_anew()
        await asyncio.sleep(1.0)
        assert len(desk.waiting) == 2
        desk.carry_out()
        assert desk.keyspace.next_deadline_ms() is None
        desk.chores.expire()
        assert desk.waiting == []
        desk.chores.stop()

    virtual_time.run(story())


def test_nothing_is_proposed_after_a_stop() -> None:
    """Neither by the timer nor by housekeeping."""

    async def story() -> None:
        desk = Desk()
        desk.raft.role, desk.raft.leader_id = Role.LEADER, 1
        desk.keyspace.apply(Set(path=b"/leased", value=b"v", ttl_s=1), 0)
        desk.chores.expire()
        desk.chores.stop()
        desk.clock_ms = 5000
        await asyncio.sleep(10)
        desk.chores.publish()
        assert desk.waiting == []

    virtual_time.run(story())
