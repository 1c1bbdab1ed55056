"""Random schedules with every kind of trouble: the properties of Figure 3 hold, and the cluster comes back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvraft.raft.settings import RaftSettings
from tests.raft.schedules import Faults, Schedule

_FAULTS = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.05, 0.2, 0.4]),
    duplication=st.sampled_from([0.0, 0.05, 0.2]),
    reordering=st.sampled_from([0.0, 0.1, 0.3]),
    crash=st.sampled_from([0.0, 0.002, 0.01]),
    slow_disk=st.sampled_from([0.0, 0.3, 0.8]),
    compaction=st.sampled_from([0.0, 0.02, 0.1]),
    disconnect=st.sampled_from([0.0, 0.01]),
    transfer=st.sampled_from([0.0, 0.005]),
    partition=st.sampled_from([0.0, 0.003, 0.01]),
)

_SETTINGS = st.builds(
    RaftSettings,
    heartbeat_interval_ms=st.just(10),
    election_timeout_ms=st.sampled_from([50, 100]),
    message_bytes_max=st.sampled_from([1, 100, 1 << 20]),
    inflight_messages_max=st.sampled_from([1, 4, 64]),
    inflight_bytes_max=st.sampled_from([200, 1 << 20]),
    log_tail_bytes_max=st.sampled_from([1, 500, 1 << 20]),
    committed_bytes_max=st.sampled_from([1, 300, 1 << 20]),
    uncommitted_bytes_max=st.sampled_from([500, 1 << 20]),
)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32), faults=_FAULTS, raft_settings=_SETTINGS, servers=st.sampled_from([1, 2, 3, 3, 4, 5])
)
def test_figure_3_holds_and_the_cluster_heals(
    seed: int, faults: Faults, raft_settings: RaftSettings, servers: int
) -> None:
    """Whatever is lost, doubled, reordered, crashed or slow: safety always, and agreement once the trouble ends."""
    schedule = Schedule(seed, faults, servers=servers, settings=raft_settings)
    schedule.run(400)
    schedule.heal()


@pytest.mark.parametrize(
    ("loss", "duplication", "reordering"),
    [(0.0, 0.0, 0.0), (0.05, 0.0, 0.0), (0.2, 0.0, 0.0), (0.05, 0.05, 0.1), (0.2, 0.2, 0.3)],
)
@pytest.mark.slow
def test_messages_per_commit_stay_few_on_a_bad_network(loss: float, duplication: float, reordering: float) -> None:
    """Replication does not answer trouble with a storm.

    Without loss a write costs two messages and two replies with three servers. An early prototype, which answered each
    rejection at once, sent a million messages per commit at 5 % loss.
    """
    raft_settings = RaftSettings(heartbeat_interval_ms=100, election_timeout_ms=1000)
    schedule = Schedule(7, Faults(loss, duplication, reordering), settings=raft_settings)
    schedule.run(1500, reads=0.0)
    sent, committed = schedule.cluster.sent, len(schedule.safety.committed)
    schedule.run(500, reads=0.0)
    committed = len(schedule.safety.committed) - committed
    assert committed > 200
    assert (schedule.cluster.sent - sent) / committed < 5
