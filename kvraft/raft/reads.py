"""Linearizable reads without writing to the log: ReadIndex (thesis section 6.4).

The leader notes its commit index, lets a majority confirm that it still leads, and only then names that index. It must
first have committed an entry of its own term, since before that it does not know what is committed. One heartbeat round
serves every read that waited when it began; a read that comes later waits for the next round, because only a
confirmation asked for after the read arrived says anything about it.

A follower's id stands for the same reads for ever, and is not used again for others, not even by a restarted server: an
answer to the earlier ones would pass for theirs (etcd issue 20418). Its requests therefore carry an id of their own, a
random number of this run above a counter, and not the caller's.
"""

import random
from typing import Final, final

from kvraft.raft.effects import ReadReady
from kvraft.raft.inputs import ReadRequest
from kvraft.raft.messages import ReadIndexReply, ReadIndexRequest
from kvraft.raft.quorum import reached_by_majority
from kvraft.raft.roles import Follower, Leader, ReadRound
from kvraft.raft.state import State

_COUNTER_BITS: Final = 32
_RUN_BITS: Final = 31
"""Together they stay below 2^63, so that any integer on the wire holds an id."""


@final
class RequestIds:
    """Ids for ReadIndexRequests: unique over the runs of a server."""

    __slots__ = ("_last",)

    def __init__(self, rng: random.Random) -> None:
        self._last = rng.getrandbits(_RUN_BITS) << _COUNTER_BITS

    def next(self) -> int:
        """An id that no attempt had before."""
        self._last += 1
        return self._last


def read_request(state: State, request: ReadRequest) -> None:
    """A local read wants its index: wait for a round, ask the leader, or fail at once when there is none."""
    role = state.role
    if isinstance(role, Leader):
        role.waiting_reads.append((state.server_id, request.read_id))
    elif isinstance(role, Follower) and state.leader_id:
        role.unsent_reads.append(request.read_id)
    else:
        state.effects.reads_failed.append(request.read_id)


def ask_leader(state: State, follower: Follower, ids: RequestIds) -> None:
    """Send one request for all reads of this step, which is repeated until it is answered or the leader is lost."""
    request_id = ids.next()
    deadline_ms = state.now_ms + state.settings.election_timeout_ms
    follower.reads[request_id] = (deadline_ms, follower.unsent_reads)
    follower.unsent_reads = []
    state.send(state.leader_id, ReadIndexRequest(state.current_term, request_id))


def ask_again(state: State, follower: Follower) -> None:
    """Repeat what was not answered for an election timeout, under its id: request or answer were lost, or are slow.

    An answer to any of the attempts will do, as each of them left after these very reads had come. With a new id none
    would ever be in time where three round trips (there, the round under way, their own) take longer than the timeout.
    """
    for request_id, (deadline_ms, read_ids) in follower.reads.items():
        if deadline_ms <= state.now_ms:
            follower.reads[request_id] = (state.now_ms + state.settings.election_timeout_ms, read_ids)
            state.send(state.leader_id, ReadIndexRequest(state.current_term, request_id))


def handle_read_index_request(state: State, from_server: int, message: ReadIndexRequest) -> None:
    """A follower asks for a read index. Refused at once by a server that does not lead."""
    role = state.role
    if isinstance(role, Leader):
        role.waiting_reads.append((from_server, message.read_id))
    else:
        state.send(from_server, ReadIndexReply(state.current_term, message.read_id, 0))


def handle_read_index_reply(state: State, from_server: int, message: ReadIndexReply) -> None:
    """The leader of this term answers; what was asked in another term or role has failed already."""
    role = state.role
    if not isinstance(role, Follower) or from_server != state.leader_id:
        return
    waiting = role.reads.pop(message.read_id, None)
    if waiting is None:
        return
    if message.read_index == 0:
        state.effects.reads_failed.extend(waiting[1])
    else:
        state.effects.reads_ready.extend(ReadReady(read_id, message.read_index) for read_id in waiting[1])


def advance_reads(state: State, leader: Leader) -> None:
    """End the round that a majority has confirmed, and begin the next for the reads that wait."""
    _begin_round_if_idle(state, leader)
    current = leader.read_round
    if current is None or _confirmed_round(state, leader) < current.round_id:
        return
    leader.read_round = None
    for server, read_id in current.reads:
        if server == state.server_id:
            state.effects.reads_ready.append(ReadReady(read_id, current.read_index))
        else:
            state.send(server, ReadIndexReply(state.current_term, read_id, current.read_index))
    _begin_round_if_idle(state, leader)


def _begin_round_if_idle(state: State, leader: Leader) -> None:
    if leader.waiting_reads and leader.read_round is None and state.commit_index >= leader.noop_index:
        begin_round(state, leader)


def begin_round(state: State, leader: Leader) -> None:
    """Ask for confirmation of all reads that wait.

    Until a majority has answered, every heartbeat asks again for the same round, and never for a new one in its place:
    where an answer takes longer than a heartbeat interval, each would come too late for its round.
    """
    leader.read_round_id += 1
    leader.read_round = ReadRound(leader.read_round_id, state.commit_index, leader.waiting_reads)
    leader.waiting_reads = []
    leader.heartbeat_wanted = True


def _confirmed_round(state: State, leader: Leader) -> int:
    """The latest round for which a majority of voters still took this server for the leader."""
    return reached_by_majority(
        [
            leader.read_round_id if voter == state.server_id else leader.progress[voter].read_id
            for voter in state.configuration.voters
        ]
    )
