"""What the operator hears while there is no leader."""

import pytest

from kvraft.member.leader_watch import LeaderWatch
from tests.member.fakes import RecordingTransport, ScriptedRaft
from tests.member.host import cluster_of


def test_lasting_loss_of_the_leader_is_told_with_who_is_out_of_reach(caplog: pytest.LogCaptureFixture) -> None:
    """After five seconds, then once a minute; an election between starts the time anew."""
    raft, transport = ScriptedRaft(), RecordingTransport()
    watch = LeaderWatch(raft.core, cluster_of(1), transport.is_connected)
    transport.connected = {2}
    for now_ms in (1000, 5999, 6000, 65_999, 66_000):
        watch.look(now_ms)
    raft.leader_id = 2
    watch.look(66_100)
    raft.leader_id = 0
    watch.look(66_200)
    watch.look(71_199)
    transport.connected = set()
    watch.look(71_200)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert [vars(record)["kvraft_fields"] for record in caplog.records] == [
        {"member": "m1", "seconds": 5, "connected": "m2", "missing": "m3"},
        {"member": "m1", "seconds": 65, "connected": "m2", "missing": "m3"},
        {"member": "m1", "seconds": 5, "connected": "nobody", "missing": "m2,m3"},
    ]


def test_member_that_rebuilds_does_not_miss_a_leader(caplog: pytest.LogCaptureFixture) -> None:
    """What it waits for is told by its rebuild."""
    raft = ScriptedRaft()
    raft.is_rebuilding = True
    watch = LeaderWatch(raft.core, cluster_of(1), RecordingTransport().is_connected)
    for now_ms in (0, 10_000, 20_000):
        watch.look(now_ms)
    assert not caplog.records
