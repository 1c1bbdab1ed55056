"""Moves Raft's configuration towards the membership that is wanted, one server at a time (thesis chapter 4).

What is wanted is replicated state (`kvraft/keyspace/cluster.py`); who votes stands in the log. Only the leader moves,
and nothing of how far it is has to be remembered: whoever leads next compares the two again.

What it does next depends on what helps most and risks least: learners that are to go and come cost nothing; of voters
those that cannot be reached go first, as their going makes majorities easier; a learner becomes a voter when it has
caught up; a leader that is to go itself hands over first, which takes a fraction of an election. Nothing is done by
which the voters that can be reached would be no majority: neither a wrong address nor a removal in the wrong moment
stops writes. One that has lost its disk and still asks the others what it held is as good as out of reach: it waits for
everybody, perhaps for one that never comes, and only the majority without it could remove that one.
"""

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, final

from kvraft import logs
from kvraft.member.cluster import Cluster
from kvraft.member.raft_loop import RaftLoop
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Role
from kvraft.raft.inputs import ProposeConfiguration, TransferLeadership
from kvraft.raft.progress import most_up_to_date
from kvraft.raft.quorum import majority

_TOKEN: Final = 0
"""Of its proposals. Nobody waits for one: commands count from 1, forwarded ones downwards."""

log = logs.get(__name__)


@final
@dataclass(slots=True, frozen=True)
class Membership:
    """What is wanted."""

    wanted: AbstractSet[int]
    removed: AbstractSet[int]
    """Who is not wanted any more, and never will be. Who is in neither may be wanted by entries not applied yet."""


@final
@dataclass(slots=True, frozen=True)
class HandOver:
    """The leader is to go: first another takes over."""

    to_server: int


def next_move(
    own_id: int,
    now: Configuration,
    membership: Membership,
    connected: AbstractSet[int],
    caught_up: AbstractSet[int],
    successor: int,
) -> Configuration | HandOver | None:
    """What a leader that may change its configuration does now; None for nothing.

    Args:
        own_id: The leader.
        now: The configuration in force.
        membership: What is wanted.
        connected: The other servers that can be reached and have not forgotten what they held.
        caught_up: The learners that can be promoted.
        successor: Who takes over if the leader is to go; 0: nobody can, or it was asked for in vain.
    """
    voters, learners = set(now.voters), set(now.learners)
    reached = connected | {own_id}
    for learner in sorted(learners & membership.removed):
        return Configuration.of(voters, learners - {learner})
    for voter in sorted(voters & membership.removed - {own_id}, key=lambda voter: (voter in reached, voter)):
        if _has_majority(voters - {voter}, reached):
            return Configuration.of(voters - {voter}, learners)
    for server in sorted(membership.wanted - set(now.servers) - set(now.removed)):
        return Configuration.of(voters, learners | {server})
    for learner in sorted(learners & membership.wanted & caught_up):
        if _has_majority(voters | {learner}, reached):
            return Configuration.of(voters | {learner}, learners - {learner})
    if own_id in voters & membership.removed and _has_majority(voters - {own_id}, connected):
        return HandOver(successor) if successor else Configuration.of(voters - {own_id}, learners)
    return None


def _has_majority(voters: AbstractSet[int], reached: AbstractSet[int]) -> bool:
    """Whether so many of these voters can be reached that they can commit. Nobody is no majority of nobody."""
    return bool(voters) and len(voters & reached) >= majority(len(voters))


@final
@dataclass(slots=True)
class _Round:
    target_index: int
    began_ms: int
    was_short: bool = False


@final
class Rounds:
    """Judges whether learners have caught up (thesis 4.2.1): each round is about what the log held when it began.

    A learner has once a round was short: what came during that round is then all that it can lack, and takes no longer.
    """

    def __init__(self, short_ms: int) -> None:
        self._short_ms = short_ms
        self._rounds: dict[int, _Round] = {}

    def keep(self, learners: Collection[int]) -> None:
        """Forget whoever is none of these."""
        for gone in self._rounds.keys() - set(learners):
            del self._rounds[gone]

    def is_close(self, learner: int, match_index: int, last_index: int, now_ms: int) -> bool:
        """Look at a learner that holds the log up to `match_index`, as often as that may have moved."""
        current = self._rounds.setdefault(learner, _Round(last_index, now_ms))
        if match_index < current.target_index:
            current.was_short = current.was_short and now_ms - current.began_ms < self._short_ms
        else:
            was_short = match_index >= last_index or now_ms - current.began_ms < self._short_ms
            self._rounds[learner] = current = _Round(last_index, now_ms, was_short)
        return current.was_short


@final
class Reconfiguration:
    """One member's. Idle unless it leads and something is to be changed."""

    def __init__(
        self, cluster: Cluster, loop: RaftLoop, can_be_counted_on: Callable[[int], bool], election_timeout_ms: int
    ) -> None:
        """`can_be_counted_on`: whether a member can be reached now, and votes and acknowledges, if its part is to."""
        self.is_due = False
        """Whether each step may bring the moment for the next change. Whom nobody reaches no step brings nearer: he and
        what waits for him are looked at now and then, by the housekeeping."""
        self._cluster = cluster
        self._loop = loop
        self._can_be_counted_on = can_be_counted_on
        # The new voter's lag may be a pause of writes, of which the new voter has as much again to recover.
        self._rounds = Rounds(election_timeout_ms // 2)
        self._asked_in_term = 0
        """The term in which this member, as its leader, asked another to take over."""
        self._told: Configuration | None = None
        """In which configuration it was said that a removal has to wait."""

    def look(self, now_ms: int) -> None:
        """Propose the next change, if there is one and it can be now."""
        raft = self._loop.raft
        self.is_due = False
        if raft.role is not Role.LEADER or not self._is_wanted():
            self._rounds.keep(())
            return
        now, membership = raft.configuration, self._membership()
        connected = {server for server in now.servers if self._can_be_counted_on(server)}
        caught_up = self._caught_up(connected, now_ms)
        self.is_due = not raft.may_reconfigure or not connected.isdisjoint(now.learners)
        if not raft.may_reconfigure:
            return
        own_id = self._cluster.own.member_id
        move = next_move(own_id, now, membership, connected, caught_up, self._successor(connected))
        if isinstance(move, HandOver):
            self._asked_in_term = raft.current_term
            log.info("handing leadership over, to be removed", to=self._cluster.peer_name(move.to_server))
            self._loop.put(TransferLeadership(move.to_server))
        elif move is not None:
            self._loop.put(ProposeConfiguration(_TOKEN, move))
            self.is_due = True
        elif not membership.removed & {*now.voters}:
            self._told = None
        elif self._told != now:
            self._told = now
            leaving = ",".join(map(self._cluster.peer_name, sorted(membership.removed & {*now.voters})))
            log.warning("a removal waits until the others that can be reached are a majority", leaving=leaving)

    def _membership(self) -> Membership:
        return Membership({*self._cluster.member_ids()}, self._cluster.removed_ids())

    def _is_wanted(self) -> bool:
        """Whether the configuration in force is not the one that is wanted."""
        now = self._loop.raft.configuration
        if now.learners or not self._cluster.removed_ids().isdisjoint(now.voters):
            return True
        return not self._cluster.member_ids() <= {*now.voters, *now.removed}

    def _caught_up(self, connected: AbstractSet[int], now_ms: int) -> set[int]:
        raft = self._loop.raft
        learners = raft.configuration.learners
        self._rounds.keep(learners)
        found = set()
        for learner in learners:
            progress = raft.progress.get(learner)
            if progress is None or learner not in connected:
                continue
            is_close = self._rounds.is_close(learner, progress.match_index, raft.last_log_index, now_ms)
            if is_close and raft.keeps_up(learner):
                found.add(learner)
        return found

    def _successor(self, connected: AbstractSet[int]) -> int:
        """The voter that stays and holds most; nobody if one was asked in this term, and did not take over."""
        raft = self._loop.raft
        if self._asked_in_term == raft.current_term:
            return 0
        able = connected & {*raft.configuration.voters} - self._cluster.removed_ids()
        return most_up_to_date(raft.progress, able)
