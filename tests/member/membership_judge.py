"""Watches the cores of members that come and go: who leads by whose votes, what commits by whose disks, who is let in.

Everything is looked at on the disks of all machines, in the very step in which a leader makes its claim.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role
from tests.storage.memory import MemoryDisk

LAG_S_MAX: Final = 1.0
"""A learner is promoted once a round took half an election timeout, and holds what came before it, at least."""


@final
class MembershipJudge:
    """One cluster's."""

    def __init__(
        self,
        time_s: Callable[[], float],
        disk_of: Callable[[int], MemoryDisk | None],
        is_up: Callable[[int, int], bool],
    ) -> None:
        """`disk_of` is None for one that is lost or never was; `is_up` tells whether two members have a session."""
        self.found: list[str] = []
        self.reached: list[str] = []
        self._time_s = time_s
        self._disk_of = disk_of
        self._is_up = is_up
        self._leaders: dict[int, int] = {}
        self._commits: dict[int, int] = {}
        self._ruled: dict[int, tuple[int, Configuration]] = {}
        """By leader: its term and the configuration that it was seen with last."""
        self._commit_times: deque[tuple[float, int]] = deque()
        self._highest_commit = 0
        self.committed_removals: set[int] = set()
        """Whoever was removed by a committed configuration."""
        self._committed_servers: set[int] = set()
        """Whoever was in a committed configuration."""

    def look(self, member_id: int, raft: Raft) -> None:
        """After a step of this member."""
        committed = raft.committed_configuration
        self.committed_removals.update(committed.removed)
        self._committed_servers.update(committed.servers)
        if raft.role is not Role.LEADER:
            self._commits.pop(member_id, None)
            self._ruled.pop(member_id, None)
            return
        self._look_at_leader(member_id, raft)
        self._look_at_commit(member_id, raft)
        self._look_at_configuration(member_id, raft)

    def has_gone(self, member_id: int) -> None:
        """Its process ends, as somebody knows that it was removed: that must be committed, if it ever came."""
        if member_id in self._committed_servers - self.committed_removals:
            self.found.append(f"member {member_id} has gone before its removal was committed")

    def _look_at_leader(self, member_id: int, raft: Raft) -> None:
        term = raft.current_term
        if self._leaders.get(term) == member_id:
            return
        if term in self._leaders:
            self.found.append(f"members {self._leaders[term]} and {member_id} both lead term {term}")
        self._leaders[term] = member_id
        voters = raft.configuration.voters
        votes = [voter for voter in voters if self._has_voted(voter, term, member_id)]
        if 2 * len(votes) <= len(voters) and voters != (member_id,):
            self.found.append(f"member {member_id} leads term {term} with votes of {votes} of {voters}")

    def _has_voted(self, voter: int, term: int, candidate: int) -> bool:
        disk = self._disk_of(voter)
        if disk is None or disk.hard_state.current_term > term:
            return True  # nobody can tell any more
        if disk.hard_state.rebuilding is not None and disk.hard_state.rebuilding.asking:
            return True
        return (disk.hard_state.current_term, disk.hard_state.voted_for) == (term, candidate)

    def _look_at_commit(self, member_id: int, raft: Raft) -> None:
        index = raft.commit_index
        before = self._commits.get(member_id)
        self._commits[member_id] = index
        if index > self._highest_commit:
            self._highest_commit = index
            self._commit_times.append((self._time_s(), index))
        if before is None or index <= before:
            return
        position = raft._state.log.position(index)
        voters = raft.configuration.voters
        holders = [voter for voter in voters if position is None or self._holds(voter, index, position.chain_hash)]
        if 2 * len(holders) <= len(voters):
            self.found.append(f"member {member_id} commits {index}, held by {holders} of {voters}")

    def _holds(self, voter: int, index: int, chain_hash: bytes) -> bool:
        disk = self._disk_of(voter)
        if disk is None or disk.base.index >= index or disk.hard_state.rebuilding is not None:
            return True  # it may have held it before it lost its disk
        at = index - disk.base.index - 1
        return at < len(disk.entries) and disk.entries[at].chain_hash == chain_hash

    def _look_at_configuration(self, member_id: int, raft: Raft) -> None:
        now, term = raft.configuration, raft.current_term
        before = self._ruled.get(member_id)
        self._ruled[member_id] = (term, now)
        if before is None or before[0] != term or before[1] is now:
            return
        if before[1].servers == now.servers and before[1].voters == now.voters:
            return  # only its founding
        self._look_at_change(member_id, before[1], now)

    def _look_at_change(self, member_id: int, before: Configuration, now: Configuration) -> None:
        came = set(now.voters) - set(before.voters)
        self.reached += ["promotion"] * bool(came)
        self.reached += ["removal"] * (len(now.servers) < len(before.servers))
        self.reached += ["leader removes itself"] * (member_id not in now.voters)
        for voter in sorted(came):
            if voter not in before.learners:
                self.found.append(f"member {voter} became a voter, and never was a learner")
            self._look_at_lag(voter)
        if now.voters == before.voters:
            return  # a learner comes or goes: no majority is another one by that
        reached = [voter for voter in now.voters if voter == member_id or self._is_up(member_id, voter)]
        if 2 * len(reached) <= len(now.voters):
            self.found.append(f"leader {member_id} goes to {now.voters} and reaches only {reached}")

    def _look_at_lag(self, voter: int) -> None:
        long_ago = self._time_s() - LAG_S_MAX
        while len(self._commit_times) > 1 and self._commit_times[1][0] < long_ago:
            self._commit_times.popleft()
        at, index = self._commit_times[0]
        disk = self._disk_of(voter)
        if at < long_ago and disk is not None and disk.last.index < index:
            self.found.append(f"member {voter} is promoted at {disk.last.index}, {index} was committed before")


def agreed(facts: Iterable[object]) -> bool:
    """Whether all are the same."""
    first, *others = facts
    return all(other == first for other in others)
