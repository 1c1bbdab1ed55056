"""Elections: who may stand, who gets a vote, who leads (sections 5.2 and 5.4.1; PreVote: thesis section 9.6).

PreVote and CheckQuorum are always on, as neither alone keeps a cluster alive under partial partitions (Howard and
Abraham, "Raft does not guarantee liveness in the face of network faults", 2020): a server that cannot hear the leader
asks before it raises the term, voters that hear a leader ignore it, and a leader that hears no majority steps down.
"""

from typing import Final

from kvraft.raft.configuration import FOUNDING_BYTES
from kvraft.raft.entries import EntryKind
from kvraft.raft.inputs import PeerConnected
from kvraft.raft.membership import follow_configuration
from kvraft.raft.messages import (
    Message,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from kvraft.raft.quorum import VoteResult, reached_by_majority, vote_result
from kvraft.raft.rebuild import position_to_reach
from kvraft.raft.roles import (
    Candidate,
    Follower,
    Leader,
    PreCandidate,
    become_follower,
    leader_lost,
    random_election_timeout_ms,
    release_reads,
)
from kvraft.raft.state import State

_TURN_OF_TIMEOUT: Final = 8
"""A part of the election timeout between those who ask one after another once they have connected."""
_ELECTION_ANSWERS: Final = 2
_SPREAD_ANSWERS: Final = 4
"""Behind the best of the rivals the others wait for as long as an election takes, two answers with a sync, and are
spread over twice that."""
_NO_RIVAL: Final = (0, 0, 0)

# -- standing for election


def become_pre_candidate(state: State) -> None:
    """Ask the others whether they would vote for this server; nothing durable changes."""
    assert state.may_campaign, "only voters campaign"
    release_reads(state)
    state.leader_id = 0
    role = PreCandidate(state.now_ms + random_election_timeout_ms(state), _next_resend_ms(state))
    role.votes[state.server_id] = True
    state.role = role
    if vote_result(state.configuration.voters, role.votes) is VoteResult.WON:
        become_candidate(state, leadership_transfer=False)
        return
    _ask_for_pre_votes(state, role)


def become_candidate(state: State, *, leadership_transfer: bool) -> None:
    """Stand in a new term, with the own vote (section 5.2). The requests leave once that vote is durable."""
    assert state.may_campaign, "only voters campaign"
    release_reads(state)
    state.leader_id = 0
    state.current_term += 1
    state.voted_for = state.server_id
    deadline_ms = state.now_ms + random_election_timeout_ms(state)
    role = Candidate(deadline_ms, _next_resend_ms(state), leadership_transfer, state.now_ms)
    role.votes[state.server_id] = True
    state.role = role
    if vote_result(state.configuration.voters, role.votes) is VoteResult.WON:
        become_leader(state)
        return
    _ask_for_votes(state, role)


def become_leader(state: State) -> None:
    """Lead the current term: an entry of its own first, so that those of earlier terms can be committed (section 8)."""
    now_ms = state.now_ms
    settings = state.settings
    leader = Leader(
        progress={},
        noop_index=state.log.last_index + 1,
        clock_start_ms=state.restored_clock_ms(),
        became_leader_ms=now_ms,
        heartbeat_deadline_ms=now_ms + settings.heartbeat_interval_ms,
        quorum_deadline_ms=now_ms + settings.election_timeout_ms,
    )
    state.role = leader
    state.leader_id = state.server_id
    if state.configuration.founding:
        state.append_new(EntryKind.NOOP, b"", leader.clock_start_ms)
    else:
        _found(state, leader)
    follow_configuration(state, leader)


def _found(state: State, leader: Leader) -> None:
    """Begin a history: the leader's first entry gives it the name that tells it from every other.

    It changes no server, so it need not wait for a change before it, as the rules for those ask (thesis section 4.1).
    """
    configuration = state.configuration.founded_as(state.random.randbytes(FOUNDING_BYTES))
    index = state.append_new(EntryKind.CONFIGURATION, configuration.encode(), leader.clock_start_ms)
    state.configurations.append((index, configuration))


def _ask_for_pre_votes(state: State, role: PreCandidate) -> None:
    """Also those that refused: a lease lapses, and a survivor may hear later that the leader's process is gone."""
    log = state.log
    request = RequestPreVote(state.current_term, log.last_index, log.last_term)
    _ask(state, [voter for voter in state.configuration.voters if not role.votes.get(voter)], request)


def _ask_for_votes(state: State, role: Candidate) -> None:
    """Those that have not answered: a vote of this term is given once."""
    log = state.log
    request = RequestVote(state.current_term, log.last_index, log.last_term, role.leadership_transfer)
    _ask(state, [voter for voter in state.configuration.voters if voter not in role.votes], request)


def _ask(state: State, voters: list[int], request: Message) -> None:
    for voter in voters:
        state.send_after_persist(voter, request)


def _next_resend_ms(state: State) -> int:
    return state.now_ms + state.settings.heartbeat_interval_ms


# -- voting


def lease_stands(state: State) -> bool:
    """Whether a live leader is known, so that requests to replace it are ignored (section 6, last paragraph)."""
    role = state.role
    if isinstance(role, Follower):
        return state.now_ms < role.lease_until_ms
    return isinstance(role, Leader)


def _log_is_up_to_date(state: State, last_log_index: int, last_log_term: int) -> bool:
    """Whether a candidate's log is at least as up-to-date as this one (section 5.4.1)."""
    return (last_log_term, last_log_index) >= position_to_reach(state)


def handle_request_pre_vote(state: State, from_server: int, message: RequestPreVote) -> None:
    """Would this server vote for the sender in the term after its current one? Nothing here changes."""
    prospective_term = message.term + 1
    granted = (
        prospective_term > state.current_term
        and not lease_stands(state)
        and not _counts_on_another(state, from_server)
        and not _was_removed(state, from_server)
        and _log_is_up_to_date(state, message.last_log_index, message.last_log_term)
    )
    state.send_after_persist(from_server, RequestPreVoteReply(state.current_term, prospective_term, granted))


def _was_removed(state: State, server: int) -> bool:
    """Whether it is known for good that this server is no voter any more: it does not know, and would only disturb."""
    index, configuration = state.configurations[-1]
    return server in configuration.removed and index <= state.commit_index


def _counts_on_another(state: State, from_server: int) -> bool:
    """Whether another candidate has just got this server's vote. One that voted for itself knows of the split vote."""
    role = state.role
    return isinstance(role, Follower) and state.now_ms < role.voted_until_ms and state.voted_for != from_server


def handle_request_vote(state: State, from_server: int, message: RequestVote) -> None:
    """Vote at most once a term, and only for a log that holds everything committed (sections 5.2, 5.4.1)."""
    if isinstance(state.role, Candidate):
        _meet_rival(state, state.role, (message.last_log_term, message.last_log_index, from_server))
    granted = state.voted_for in (0, from_server) and _log_is_up_to_date(
        state, message.last_log_index, message.last_log_term
    )
    if granted:
        state.voted_for = from_server
        if isinstance(state.role, Follower):
            state.role.election_deadline_ms = state.now_ms + state.role.election_timeout_ms
            state.role.voted_until_ms = state.now_ms + state.settings.heartbeat_interval_ms
    state.send_after_persist(from_server, RequestVoteReply(state.current_term, granted))


def handle_request_pre_vote_reply(state: State, from_server: int, message: RequestPreVoteReply) -> None:
    """Count a pre-vote, which may come from a server in a lower term.

    It gives up when a majority refuses, which can elect one of its own. Half of an even number cannot: after the death
    of a leader of four this server may be the only one whom the other two would elect, once they have noticed.
    """
    role = state.role
    if not isinstance(role, PreCandidate) or message.prospective_term != state.current_term + 1:
        return
    role.votes[from_server] = message.granted
    voters = state.configuration.voters
    if vote_result(voters, role.votes) is VoteResult.WON:
        become_candidate(state, leadership_transfer=False)
    elif vote_result(voters, {voter: not granted for voter, granted in role.votes.items()}) is VoteResult.WON:
        become_follower(state, state.current_term, 0)


def handle_request_vote_reply(state: State, from_server: int, message: RequestVoteReply) -> None:
    """Count a vote of the current term."""
    role = state.role
    if not isinstance(role, Candidate):
        return
    role.votes[from_server] = message.granted
    result = vote_result(state.configuration.voters, role.votes)
    if result is VoteResult.WON:
        become_leader(state)
        return
    if not message.granted and not role.refused:
        role.refused = True
        role.election_deadline_ms = _after_split_vote_ms(state, role)
    if result is VoteResult.LOST:
        become_follower(state, state.current_term, 0)
        assert isinstance(state.role, Follower), "just made"
        state.role.election_deadline_ms = role.election_deadline_ms


def _meet_rival(state: State, role: Candidate, rank: tuple[int, int, int]) -> None:
    """Another stands in the same term; `rank` is the last term and index of its log and its id."""
    role.best_rival = max(role.best_rival, rank)
    if role.refused:
        role.election_deadline_ms = _after_split_vote_ms(state, role)


def _after_split_vote_ms(state: State, role: Candidate) -> int:
    """When to ask again after a refusal, which after a won pre-vote means a rival: both would wait a whole timeout.

    Not before other voters had as long again as the one that refused, for their votes would be thrown away. First the
    best of the rivals by log and id, if they heard of each other, the others spread behind it. A rank was too brittle
    for the authors of Raft (section 5.2), where it decided who stood down; here it only says who is quicker, and if the
    best one is gone, others are next. It is a pre-vote that comes then, which disturbs nobody.
    """
    log = state.log
    took_ms = state.now_ms - role.asked_ms
    delay_ms = 1 + took_ms
    if not _NO_RIVAL < role.best_rival < (log.last_term, log.last_index, state.server_id):
        spread_ms = state.settings.disconnect_delay_ms_max + _SPREAD_ANSWERS * took_ms
        delay_ms += _ELECTION_ANSWERS * took_ms + state.random.randrange(spread_ms + 1)
    return state.now_ms + min(delay_ms, state.settings.election_timeout_ms)


def handle_timeout_now(state: State, from_server: int) -> None:
    """The leader hands over: campaign at once, without PreVote (thesis section 3.10)."""
    if isinstance(state.role, Follower) and from_server == state.leader_id and state.may_campaign:
        become_candidate(state, leadership_transfer=True)


def peer_connected(state: State, connected: PeerConnected) -> None:
    """A leader is heard by whoever has come. Who knows of none asks for an election, once a majority can answer.

    A timeout waits for a leader to speak, and where nobody could be reached nobody was heard: members that start
    together, or meet again after a cut, need not wait for it (etcd moves its clock on when its peers have connected:
    etcdserver/raft.go, `advanceTicks`). What is asked first is a pre-vote, which disturbs nobody.

    All of them have connected at once: the one with the highest id asks first, or far apart all would vote for
    themselves. The others are next if it cannot be elected, or asks nobody.
    """
    role = state.role
    if isinstance(role, Leader):
        role.heartbeat_wanted = True
        progress = role.progress.get(connected.server)
        if progress is not None:
            progress.connected()
    elif connected.reaches_majority and isinstance(role, Follower) and not state.leader_id:
        if state.now_ms >= role.voted_until_ms:
            _ask_soon(state, role, connected.higher_ids * state.settings.election_timeout_ms // _TURN_OF_TIMEOUT)
    elif isinstance(role, PreCandidate | Candidate):
        role.resend_ms = state.now_ms


def _ask_soon(state: State, follower: Follower, after_ms: int = 0) -> None:
    delay_ms = after_ms + state.random.randrange(state.settings.disconnect_delay_ms_max + 1)
    follower.election_deadline_ms = min(follower.election_deadline_ms, state.now_ms + delay_ms)


def peer_disconnected(state: State, server: int) -> None:
    """The leader's process closed its connection: stop counting on it, and ask for an election soon.

    Safe, because voters that still hear the leader refuse. The delay is random so that the followers, who all notice at
    the same moment, do not ask each other at the same moment.

    The same for a candidate that has this server's vote: it may have led, and died before it said so.

    What the process sent before may still come, on another lane. It would be a lease of the dead, which refuses
    everybody for an election timeout: so nothing is heard of it until the delay is over.
    """
    role = state.role
    if not isinstance(role, Follower) or server != (state.leader_id or state.voted_for):
        return
    leader_lost(state)
    state.gone_leader_id = server
    state.gone_until_ms = state.now_ms + state.settings.disconnect_delay_ms_max
    _ask_soon(state, role)


# -- time


def follower_timed_out(state: State, follower: Follower) -> None:
    """An election timeout without a leader leads to PreVote; a server that may not campaign only notes the loss."""
    if state.may_campaign:
        become_pre_candidate(state)
        return
    leader_lost(state)
    follower.election_deadline_ms = state.now_ms + follower.election_timeout_ms


def pre_candidate_tick(state: State, role: PreCandidate) -> None:
    """Start over after a timeout; repeat unanswered requests in between."""
    if state.now_ms >= role.election_deadline_ms:
        become_pre_candidate(state)
    elif state.now_ms >= role.resend_ms:
        role.resend_ms = _next_resend_ms(state)
        _ask_for_pre_votes(state, role)


def candidate_tick(state: State, role: Candidate) -> None:
    """A split vote: ask again whether an election can be won (section 5.2), in the same term at first."""
    if state.now_ms >= role.election_deadline_ms:
        become_pre_candidate(state)
    elif state.now_ms >= role.resend_ms:
        role.resend_ms = _next_resend_ms(state)
        _ask_for_votes(state, role)


def leader_tick(state: State, leader: Leader) -> None:
    """Send heartbeats when due; step down when no majority has been heard within an election timeout (CheckQuorum)."""
    now_ms = state.now_ms
    if now_ms >= leader.quorum_deadline_ms:
        timeout_ms = state.settings.election_timeout_ms
        heard_ms = reached_by_majority(
            [
                now_ms if voter == state.server_id else leader.progress[voter].last_contact_ms
                for voter in state.configuration.voters
            ]
        )
        if now_ms >= heard_ms + timeout_ms:
            become_follower(state, state.current_term, 0)
            return
        leader.quorum_deadline_ms = heard_ms + timeout_ms
        for progress in leader.progress.values():
            progress.recent_active = progress.recent_active and now_ms < progress.last_contact_ms + timeout_ms
    if now_ms >= leader.heartbeat_deadline_ms:
        leader.heartbeat_wanted = True
