"""Changing the configuration, and handing over leadership (thesis chapters 3.10 and 4)."""

import pytest

from kvraft.raft.effects import Effects, Role
from kvraft.raft.entries import ZERO_HASH, EntryKind, make_entry
from kvraft.raft.inputs import (
    PeerUnreachable,
    Propose,
    ProposeConfiguration,
    ReadRequest,
    Received,
    TransferLeadership,
)
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, RequestVote, TimeoutNow
from tests.raft.cluster import Cluster, Disk, founded
from tests.raft.made import at_once, made_append, made_log, when_durable


def configure(cluster: Cluster, voters: list[int], learners: list[int] | None = None) -> Effects:
    """Propose a configuration on the leader."""
    wanted = founded(voters, learners or [])
    return cluster.step(cluster.leader().server_id, ProposeConfiguration(1, wanted))


def test_configuration_is_in_force_once_it_is_appended() -> None:
    """Thesis 4.1: "the new configuration takes effect on each server as soon as it is added to that server's log"."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = configure(cluster, [1, 2, 3, 4])
    assert effects.configuration == founded([1, 2, 3, 4])
    assert cluster.servers[1].raft.commit_index == 1
    cluster.settle()
    assert cluster.servers[2].raft.configuration == founded([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("voters", "learners"),
    [
        ([1, 2, 3], []),
        ([1], []),
        ([1, 2, 3, 4, 5], []),
        ([1, 2, 4], []),
        ([1, 2], [3, 4]),
        ([1, 2, 3], [3]),
        ([], [1, 2, 3]),
        ([0, 1, 2, 3], []),
    ],
)
def test_changes_of_more_or_less_than_one_server_are_refused(voters: list[int], learners: list[int]) -> None:
    """Only consecutive configurations that differ by one server are sure to share a voter in every majority."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = configure(cluster, voters, learners)
    assert [refused.reason.value for refused in effects.refused] == ["configuration change not allowed now"]
    assert cluster.servers[1].raft.configuration == founded([1, 2, 3])


@pytest.mark.parametrize(
    ("voters", "learners"), [([1, 2, 3, 4], []), ([1, 2], []), ([1, 2, 3], [4]), ([1, 2], [3]), ([2, 3], [])]
)
def test_adding_removing_and_demoting_one_server(voters: list[int], learners: list[int]) -> None:
    """Each is a change by one server."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    assert configure(cluster, voters, learners).accepted


def test_second_change_waits_for_the_first_to_be_committed() -> None:
    """Thesis 4.1: two changes under way could have majorities without a common voter."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    configure(cluster, [1, 2, 3, 4])
    assert configure(cluster, [1, 2, 3]).refused
    cluster.settle()
    assert configure(cluster, [1, 2, 3]).accepted


def test_change_waits_for_a_commit_of_the_leaders_own_term() -> None:
    """The correction of 2015: an uncommitted change of an earlier leader may still win otherwise."""
    cluster = Cluster([1, 2, 3])
    cluster.drop = lambda flight: isinstance(flight.message, AppendEntriesReply)
    cluster.elect(1)
    assert configure(cluster, [1, 2]).refused
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert configure(cluster, [1, 2]).accepted


def test_new_voter_counts_at_once() -> None:
    """With four voters three must hold an entry, from the change's own entry on."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    configure(cluster, [1, 2, 3, 4])
    cluster.step(1, Received(2, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 1
    cluster.step(1, Received(3, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 2


def test_removed_voter_counts_no_more() -> None:
    """With two voters left both must hold the entry; the removed one's acknowledgement is worth nothing."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    configure(cluster, [1, 2])
    cluster.step(1, Received(3, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 1
    cluster.step(1, Received(2, AppendEntriesReply(1, True, 2, 0, 0)))
    assert leader.raft.commit_index == 2


def test_removal_may_commit_what_waited() -> None:
    """A smaller configuration can already have its majority."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 2
    cluster.propose(b"a")
    cluster.settle()
    configure(cluster, [1])
    cluster.settle()
    assert leader.raft.commit_index == 3


def test_configuration_goes_with_its_entry() -> None:
    """A server "uses the latest configuration in its log", so truncation takes it back."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda _flight: True
    configure(cluster, [1, 2])
    cluster.settle()
    log = cluster.servers[1].raft._state.log
    first = log.slice(1, 1, 0)[0]
    message = AppendEntries(2, 1, 1, first.chain_hash, [], 1, 0)
    assert cluster.step(1, Received(2, message)).configuration is None
    replacement = make_entry(first.chain_hash, 2, 2, EntryKind.NOOP, 0, b"")
    effects = cluster.step(1, Received(2, AppendEntries(2, 1, 1, first.chain_hash, [replacement], 1, 0)))
    assert effects.configuration == founded([1, 2, 3])


def test_learner_receives_and_does_not_count() -> None:
    """A learner's acknowledgement is no part of a majority (thesis 4.2.1)."""
    cluster = Cluster([1, 2], learners=[3])
    leader = cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 2
    cluster.propose(b"a")
    cluster.settle()
    assert leader.raft.progress[3].match_index == 2
    assert leader.raft.commit_index == 1


def test_learner_never_campaigns() -> None:
    """Whatever its clock says, and even if it is told to."""
    cluster = Cluster([1, 2], learners=[3])
    cluster.elect(1)
    cluster.step(3, Received(1, TimeoutNow(1)))
    assert cluster.role(3) is Role.FOLLOWER
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.run(1000)
    assert cluster.role(3) is Role.FOLLOWER
    assert cluster.servers[3].raft.leader_id == 0


def test_learner_is_promoted_only_when_caught_up() -> None:
    """A voter that lags would stop commits instead of helping them (thesis 4.2.1)."""
    cluster = Cluster([1, 2], learners=[3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(b"a")
    cluster.settle()
    cluster.step(1, PeerUnreachable(3))
    assert configure(cluster, [1, 2, 3]).refused
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert configure(cluster, [1, 2, 3]).accepted


def test_learner_that_lacks_only_what_is_on_its_way_is_promoted() -> None:
    """Under writes it never holds all that is committed at the moment of the change."""
    cluster = Cluster([1], learners=[2])
    leader = cluster.elect(1)
    cluster.run(30)
    assert leader.raft.keeps_up(2)
    cluster.drop = lambda flight: flight.to_server == 2
    cluster.propose(b"a")
    cluster.settle()
    assert leader.raft.commit_index > leader.raft.progress[2].match_index
    assert leader.raft.may_reconfigure
    assert configure(cluster, [1, 2]).accepted
    assert not leader.raft.may_reconfigure, "the change is not committed"


def test_removed_leader_steps_down_once_that_is_committed() -> None:
    """Thesis 4.2.2: it leads until then, without counting itself, and the others go on at once."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    configure(cluster, [2, 3])
    assert cluster.role(1) is Role.LEADER
    cluster.step(1, Received(2, AppendEntriesReply(1, True, 2, 0, 0)))
    assert cluster.servers[1].raft.commit_index == 1
    cluster.settle()
    cluster.run(5)
    assert cluster.role(1) is Role.FOLLOWER
    assert cluster.leader().server_id in (2, 3)
    cluster.run(1000)
    assert cluster.role(1) is Role.FOLLOWER


def test_removed_server_does_not_disturb_the_rest() -> None:
    """Thesis 4.2.3: it does not know that it is removed, but voters that hear a leader ignore it."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    configure(cluster, [1, 2])
    cluster.settle()
    term = cluster.leader().raft.current_term
    cluster.run(1000)
    assert cluster.role(3) is not Role.LEADER
    assert cluster.leader().raft.current_term == term


def test_new_server_catches_up_from_nothing() -> None:
    """It knows nobody until the log tells it."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.propose(b"a", b"b")
    cluster.settle()
    cluster.add(4, Disk(founded([])))
    configure(cluster, [1, 2, 3, 4])
    cluster.settle()
    cluster.run(30)
    assert cluster.commands(4) == [b"a", b"b"]
    assert cluster.servers[4].raft.configuration == founded([1, 2, 3, 4])


def test_cluster_grows_from_one_to_five_and_shrinks_to_one() -> None:
    """One server at a time, through the even sizes; at each of them every server has what was proposed there."""
    cluster = Cluster([1])
    cluster.elect(1)
    written: list[bytes] = []
    voters = [1]
    for change in (2, 3, 4, 5, 5, 4, 3, 2):
        if change in voters:
            voters.remove(change)
        else:
            voters.append(change)
            cluster.add(change, Disk(founded([])))
        configure(cluster, voters)
        cluster.settle()
        written.append(b"%d" % len(written))
        cluster.propose(written[-1])
        cluster.settle()
        cluster.run(30)
        assert [cluster.commands(server_id) for server_id in voters] == [written] * len(voters)
    assert cluster.leader().raft.configuration == founded([1], removed=[2, 3, 4, 5])


def test_configuration_survives_compaction_and_restart() -> None:
    """What was in force at the new base stays known after its entry is gone."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    configure(cluster, [1, 2, 3, 4])
    cluster.settle()
    cluster.propose(b"a")
    cluster.settle()
    cluster.compact(1, 3)
    assert cluster.servers[1].raft.configuration == founded([1, 2, 3, 4])
    cluster.crash(1)
    assert cluster.restart(1).raft.configuration == founded([1, 2, 3, 4])


def test_transfer_to_a_follower_that_is_up_to_date_is_immediate() -> None:
    """Thesis 3.10: TimeoutNow, and the target campaigns without waiting or asking first."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.step(1, TransferLeadership(3))
    assert [(out.to_server, out.message) for out in at_once(effects)] == [(3, TimeoutNow(1))]
    cluster.settle()
    assert cluster.leader().server_id == 3
    assert cluster.leader().raft.current_term == 2


def test_transfer_brings_the_target_up_to_date_first() -> None:
    """A target that lacks entries could not be elected."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 3
    cluster.propose(b"a")
    cluster.settle()
    effects = cluster.step(1, TransferLeadership(3))
    assert not any(isinstance(out.message, TimeoutNow) for out in at_once(effects))
    cluster.drop = lambda _flight: False
    cluster.run(30)
    assert cluster.leader().server_id == 3


def test_transfer_without_a_target_takes_the_follower_that_holds_most() -> None:
    """The sooner it can be elected, the shorter the gap."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: flight.to_server == 2
    cluster.propose(b"a")
    cluster.settle()
    cluster.drop = lambda _flight: False
    cluster.step(1, TransferLeadership(0))
    cluster.settle()
    assert cluster.leader().server_id == 3


def test_transfer_asked_for_twice_keeps_its_first_deadline() -> None:
    """Asking again must not keep proposals out for longer."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: isinstance(flight.message, TimeoutNow)
    cluster.step(1, TransferLeadership(2))
    cluster.run(60)
    cluster.step(1, TransferLeadership(2))
    cluster.run(40)
    assert cluster.step(1, Propose(1, b"a")).accepted


def test_proposals_are_refused_during_a_transfer_and_taken_after_it_failed() -> None:
    """Refused for at most one election timeout: the transfer is then given up."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: isinstance(flight.message, TimeoutNow)
    cluster.step(1, TransferLeadership(2))
    effects = cluster.step(1, Propose(1, b"a"), ProposeConfiguration(2, founded([1, 2])))
    assert [refused.reason.value for refused in effects.refused] == ["leadership is being transferred"] * 2
    cluster.run(100)
    assert cluster.leader().server_id == 1
    assert cluster.step(1, Propose(1, b"a")).accepted


def test_lost_timeout_now_is_repeated() -> None:
    """Once a heartbeat interval, until the transfer is given up."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.step(1, TransferLeadership(2))
    cluster.lost()
    cluster.run(10)
    assert cluster.leader().server_id == 2


def test_reads_go_on_during_a_transfer() -> None:
    """The round confirms leadership whatever is planned."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.drop = lambda flight: isinstance(flight.message, TimeoutNow)
    cluster.step(1, TransferLeadership(2))
    cluster.step(1, ReadRequest(5))
    cluster.settle()
    assert any(effects.reads_ready for effects in cluster.servers[1].effects)


@pytest.mark.parametrize("target", [1, 4, 9])
def test_transfer_to_itself_a_learner_or_a_stranger_is_ignored(target: int) -> None:
    """Nobody who cannot lead is asked to."""
    cluster = Cluster([1, 2, 3], learners=[4])
    cluster.elect(1)
    cluster.step(1, TransferLeadership(target))
    assert cluster.step(1, Propose(1, b"a")).accepted


def test_transfer_asked_of_a_follower_is_ignored() -> None:
    """Only the leader can hand over."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.step(2, TransferLeadership(3))
    assert at_once(effects) == []


def test_transferred_election_overrides_the_leases_of_the_others() -> None:
    """The vote request says why it comes while a leader lives."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    effects = cluster.step(2, Received(1, TimeoutNow(1)))
    requests = [out.message for out in when_durable(effects)]
    assert requests == [RequestVote(2, 1, 1, leadership_transfer=True)] * 2


def test_only_voter_has_nobody_to_hand_over_to() -> None:
    """A cluster of one keeps its leader."""
    cluster = Cluster([1])
    cluster.settle()
    cluster.step(1, TransferLeadership(0))
    assert cluster.step(1, Propose(1, b"a")).accepted


def test_configuration_that_cannot_be_read_stops_the_server() -> None:
    """A leader of a later format must not be half understood."""
    cluster = Cluster([1, 2, 3])
    entry = make_entry(ZERO_HASH, 1, 1, EntryKind.CONFIGURATION, 0, b"\x09")
    message = made_append(made_log([1]), 0, 0, term=1)
    message.entries = [entry]
    effects = cluster.step(1, Received(3, message))
    assert effects.divergence is not None
    assert cluster.servers[1].raft.last_log_index == 0


def test_configuration_that_cannot_be_read_behind_one_that_can() -> None:
    """Nothing of the message is taken over."""
    cluster = Cluster([1, 2, 3])
    first = make_entry(ZERO_HASH, 1, 1, EntryKind.CONFIGURATION, 0, founded([1, 2, 3, 4]).encode())
    second = make_entry(first.chain_hash, 2, 1, EntryKind.CONFIGURATION, 0, b"")
    message = made_append(made_log([1]), 0, 0, term=1)
    message.entries = [first, second]
    effects = cluster.step(1, Received(3, message))
    assert effects.divergence is not None
    assert cluster.servers[1].raft.configuration == founded([1, 2, 3])
