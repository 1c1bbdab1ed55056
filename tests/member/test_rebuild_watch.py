"""What the operator of a member that lost its data hears, and when clients may come."""

import logging

import pytest

from kvraft.member.rebuild_watch import RebuildWatch
from tests.member import virtual_time
from tests.member.fakes import ScriptedRaft
from tests.member.host import cluster_of


def test_clients_wait_and_the_operator_hears_who_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """When that changes and every five seconds, then how far the log is, and once that everything is back.

    One that lost its data as well is not missing, unless too few are left that know anything.
    """

    async def story() -> None:
        raft = ScriptedRaft()
        raft.is_rebuilding, raft.unanswered = True, [2, 3]
        watch = RebuildWatch(raft.core, cluster_of(1))
        for now_ms in (1000, 5999, 6000):
            watch.look(now_ms)
        raft.lost_as_well = [3]
        watch.look(11_000)
        raft.unanswered = [3]
        watch.look(11_100)
        raft.unanswered = []
        watch.look(11_200)
        assert not watch.ended.is_set()
        raft.is_rebuilding = False
        watch.look(11_300)
        assert watch.ended.is_set()
        watch.look(30_000)

    caplog.set_level(logging.INFO, "kvraft")
    virtual_time.run(story())
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" member=")[0] for line in told] == [
        *["rebuilding: every other member must answer once, or be removed"] * 3,
        "rebuilding: too many members have lost their data: stop one and give it back what it had",
        "rebuilding: getting the log",
        "everything is back from the other members",
    ]
    assert vars(caplog.records[0])["kvraft_fields"] == {"member": "m1", "missing": "m2,m3"}
    assert vars(caplog.records[2])["kvraft_fields"] == {"member": "m1", "missing": "m2"}
    assert vars(caplog.records[3])["kvraft_fields"] == {"member": "m1", "lost": "m3"}


def test_member_that_lost_nothing_serves_at_once() -> None:
    """There is nothing to wait for."""

    async def story() -> None:
        assert RebuildWatch(ScriptedRaft().core, cluster_of(1)).ended.is_set()

    virtual_time.run(story())
