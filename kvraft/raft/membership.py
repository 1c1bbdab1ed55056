"""Changing the configuration by one server at a time (thesis sections 4.1 to 4.3), and handing over leadership (3.10).

A configuration takes effect when it is appended. Safety rests on three rules: consecutive configurations differ by one
server, so their majorities overlap; a change waits until the one before it is committed; and a leader must have
committed an entry of its own term first (the correction of 2015: raft-dev, "bug in single-server membership changes").

A server that is removed never returns under its id. The configuration itself says who was removed, so it is agreed on,
compacted, sent in snapshots and, if the removal is truncated, forgotten as the rest of it is.
"""

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Accepted, ProposalRefusalReason, ProposalRefused
from kvraft.raft.entries import EntryKind
from kvraft.raft.inputs import ProposeConfiguration, TransferLeadership
from kvraft.raft.messages import TimeoutNow
from kvraft.raft.progress import Progress, ProgressState, most_up_to_date
from kvraft.raft.replication import tell_commit_index
from kvraft.raft.roles import Leader, Transfer, become_follower
from kvraft.raft.state import State


def propose_configuration(state: State, proposal: ProposeConfiguration) -> None:
    """Append the new configuration and use it from now on, or say why not."""
    leader = state.role
    if not isinstance(leader, Leader):
        state.effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.NOT_LEADER))
        return
    if leader.transfer is not None:
        state.effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.TRANSFERRING))
        return
    wanted = proposal.configuration
    # While the removal itself may still be taken back, "not now" is the whole truth.
    settled = state.configurations[-1][0] <= state.commit_index
    if settled and not set(wanted.servers).isdisjoint(state.configuration.removed):
        state.effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.REMOVED))
        return
    if not _change_allowed(state, leader, wanted):
        state.effects.refused.append(ProposalRefused(proposal.token, ProposalRefusalReason.CONFIGURATION))
        return
    configuration = state.configuration.followed_by(wanted.voters, wanted.learners)
    index = state.append_new(EntryKind.CONFIGURATION, configuration.encode(), leader.clock_ms(state.now_ms))
    state.configurations.append((index, configuration))
    follow_configuration(state, leader)
    # A smaller configuration may already have a majority for what is outstanding.
    leader.commit_pending = True
    state.effects.accepted.append(Accepted(proposal.token, index, state.current_term))


def is_settled(state: State, leader: Leader) -> bool:
    """Whether a change may follow: the one before it is committed, and so is an entry of the leader's own term."""
    return leader.noop_index <= state.commit_index and state.configurations[-1][0] <= state.commit_index


def keeps_up(state: State, progress: Progress) -> bool:
    """Whether a learner can be promoted: it answers, and what it lacks of the committed log is on its way to it.

    To hold all that is committed would be too much to ask: under writes it always lacks what has just been, most of all
    where a cluster of one commits before anybody else has heard. How long the way may be is the caller's to judge.
    """
    is_fed = progress.state is ProgressState.REPLICATE and progress.next_index > state.commit_index
    return is_fed and progress.recent_active and progress.match_index > 0


def _change_allowed(state: State, leader: Leader, wanted: Configuration) -> bool:
    if not is_settled(state, leader):
        return False
    current = state.configuration
    if not wanted.voters or set(wanted.voters) & set(wanted.learners) or 0 in wanted.servers:
        return False
    changed = {
        server
        for server in {*current.servers, *wanted.servers}
        if (server in current.voters, server in current.learners)
        != (server in wanted.voters, server in wanted.learners)
    }
    if len(changed) != 1:
        return False
    server = changed.pop()
    if server in wanted.voters and server in current.learners:
        # Promotion of a learner that lags would leave the cluster with a voter that cannot help to commit (4.2.1).
        return keeps_up(state, leader.progress[server])
    return True


def follow_configuration(state: State, leader: Leader) -> None:
    """Keep one `Progress` per other server of the configuration in force."""
    others = [server for server in state.configuration.servers if server != state.server_id]
    fresh_index = state.log.last_index
    leader.progress = {server: leader.progress.get(server) or Progress(fresh_index, state.now_ms) for server in others}


def leave_if_removed(state: State, leader: Leader) -> bool:
    """A leader that is no voter any more leads until that is committed, then steps down (4.2.2). True if it did.

    The others need not wait for their timeouts: the voter that holds most may campaign at once.
    """
    index, configuration = state.configurations[-1]
    if state.server_id in configuration.voters or state.commit_index < index:
        return False
    tell_commit_index(state, leader)
    state.send(best_successor(state, leader), TimeoutNow(state.current_term))
    become_follower(state, state.current_term, 0)
    return True


def transfer_leadership(state: State, request: TransferLeadership) -> None:
    """Begin to hand over: refuse proposals, bring the target up to date, let it campaign. Only a leader listens."""
    leader = state.role
    if not isinstance(leader, Leader):
        return
    target = request.to_server or best_successor(state, leader)
    if target not in leader.progress or target not in state.configuration.voters:
        return
    if leader.transfer is not None and leader.transfer.to_server == target:
        return
    leader.transfer = Transfer(target, state.now_ms + state.settings.election_timeout_ms)


def advance_transfer(state: State, leader: Leader, transfer: Transfer) -> None:
    """Tell a target that holds the whole log to campaign; again each heartbeat interval, since messages get lost."""
    if state.now_ms >= transfer.deadline_ms:
        leader.transfer = None
        return
    if leader.progress[transfer.to_server].match_index < state.log.last_index:
        return
    if transfer.sent_ms is None or state.now_ms >= transfer.sent_ms + state.settings.heartbeat_interval_ms:
        transfer.sent_ms = state.now_ms
        state.send(transfer.to_server, TimeoutNow(state.current_term))


def best_successor(state: State, leader: Leader) -> int:
    """The voter that holds most of the log; 0 if there is none."""
    return most_up_to_date(
        leader.progress, [server for server in state.configuration.voters if server in leader.progress]
    )
