"""The online checkers: what must hold after every step of every server, whatever the faults.

Each violation names its invariant by the numbers of the fault matrix: I1 election safety, I2 leader append-only,
I3 log matching, I4 leader completeness, I5 state-machine safety, I6 monotone and durable before sent, I12 membership.
All look at the durable level or at the first moment that something is claimed, so a bug shows before it does harm.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, Protocol, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist, Role
from kvraft.raft.entries import Entry, EntryKind, chain
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.raft.restored import LogPosition
from tests.simulation.disk import EntryList, SimulatedDisk

_KEY_SHIFT: Final = 24
"""(index, term) as one integer; terms of a run stay far below 2**24."""
_PROMISES_NOTHING: Final = (Heartbeat, HeartbeatReply, AppendEntries)
"""Nearly all messages: nothing of them must be durable before they leave."""


class Violation(Exception):  # noqa: N818 -- a finding of the simulator, not an error of its code
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        return (Violation, (self.invariant, self.detail))


class CoreFacts(Protocol):
    """What the checkers read from a core."""

    @property
    def role(self) -> Role: ...
    @property
    def current_term(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def last_applied(self) -> int: ...
    @property
    def last_log_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...


class Watched(Protocol):
    """What the checkers read from a simulated server."""

    @property
    def server_id(self) -> int: ...
    @property
    def disk(self) -> SimulatedDisk: ...
    @property
    def log(self) -> EntryList:
        """The log as the server itself sees it: what is durable and what waits for a sync."""
        ...

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in that log."""
        ...

    @property
    def configurations(self) -> list[tuple[int, Configuration]]:
        """All of them with their indices, the one in force at the log's base first."""
        ...

    @property
    def configuration_index(self) -> int:
        """Where it stands in the log."""
        ...


@final
class _Seen:
    """The last facts of one run of one server."""

    __slots__ = ("commit_index", "last_applied", "leads", "term", "used", "written")

    def __init__(self, term: int, commit_index: int, last_applied: int) -> None:
        self.term = term
        self.commit_index = commit_index
        self.last_applied = last_applied
        self.leads = 0
        """The term it leads; 0 if it does not."""
        self.used: Configuration | None = None
        """What its core went by, equal to `written`, what its log says."""
        self.written: Configuration | None = None


@final
class Checkers:
    """Everything that the checkers remember of a cluster."""

    def __init__(self, servers: Mapping[int, Watched], reached: Counter[str]) -> None:
        self._servers = servers
        self._reached = reached
        self.leaders: dict[int, int] = {}
        """Leader of each term."""
        self._votes: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """Durable votes: server -> term -> candidate."""
        self._supporters: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        """Who granted a pre-vote: (candidate, term it would stand in) -> servers."""
        self._told_to_stand: set[tuple[int, int]] = set()
        """(server, term in which a leader told it to stand at once)."""
        self._seen: dict[int, _Seen] = {}
        self._hashes: dict[int, tuple[bytes, bytes]] = {}
        """Of each (index, term) that ever stood in a log: the hash before it, and its own."""
        self.committed: list[Entry] = []
        """The one history: entry of index i at i - 1, from the first server that called it committed."""
        self._committed_in_term: list[int] = []
        self._state_hashes: dict[int, bytes] = {}
        self._nodes_hashes: dict[int, bytes] = {}
        self._members: set[int] = set()
        """Servers of the last committed configuration; before the first one, of the founding one."""
        self._removed: set[int] = set()
        """Servers of earlier committed configurations only. Kept from the entries' voters and learners alone."""
        self._lost: defaultdict[int, list[tuple[EntryList, LogPosition]]] = defaultdict(list)
        """What servers held that lost their disks: log, and position of the state. Until they have everything back."""
        self._spent: dict[int, int] = {}
        """Server that lost its disk -> the term whose vote it counts as given, whoever got it."""
        self._dead: set[tuple[int, int]] = set()
        """(candidate, term) of candidacies that ended with the candidate's disk: votes for them harm nobody."""

    @property
    def committed_index(self) -> int:
        """The greatest index that some server has called committed."""
        return len(self.committed)

    def wiped(self, server: Watched) -> None:
        """A server loses its disk: what it promised binds it still."""
        me = server.server_id
        self._lost[me].append((server.disk.log, server.disk.state.position))
        self._spent.pop(me, None)
        for votes in self._votes.values():
            self._dead.update((me, term) for term, to in votes.items() if to == me and self.leaders.get(term) != me)

    def _promised(self, server_id: int) -> int:
        """The greatest term in which it voted for somebody who could still win."""
        votes = self._votes[server_id]
        return max((term for term, to in votes.items() if (to, term) not in self._dead), default=0)

    # One server's steps.

    def started(self, server: Watched, term: int, commit_index: int, last_applied: int) -> None:
        """A server (re)started from its disk."""
        promised = self._promised(server.server_id)
        if term < promised and not _asks(server.disk.hard_state):
            raise Violation("I6", f"server {server.server_id} restarts in term {term} after it voted in {promised}")
        self._seen[server.server_id] = _Seen(term, commit_index, last_applied)
        if not self.committed:
            self._members.update(server.disk.configurations[0][1].servers)
        if server.disk.configurations[-1][1].servers == (server.server_id,):
            # An only voter may lead the same term again after a crash, and nobody saw what it lost.
            last_index = server.disk.log.last_index
            self._hashes = {key: known for key, known in self._hashes.items() if key >> _KEY_SHIFT <= last_index}

    def stepped(self, server: Watched, core: CoreFacts) -> None:
        """After each step: terms and indices never go back, and a leader commits by the rule of section 5.4.2."""
        seen = self._seen[server.server_id]
        term, commit_index, applied = core.current_term, core.commit_index, core.last_applied
        if term != seen.term:
            if term < seen.term:
                raise Violation("I6", f"server {server.server_id} went from term {seen.term} back to {term}")
            seen.term = term
            if core.role is Role.CANDIDATE:
                self._became_candidate(server, core)
        if applied != seen.last_applied:
            if applied < seen.last_applied:
                raise Violation("I6", f"server {server.server_id}: last_applied {seen.last_applied} -> {applied}")
            seen.last_applied = applied
        used, written = core.configuration, server.configuration
        if used is not seen.used or written is not seen.written:  # They seldom change, and then as a whole.
            if used != written:
                raise Violation("I12", f"server {server.server_id} uses {used}, not {written}")
            seen.used, seen.written = used, written
        leads = term if core.role is Role.LEADER else 0
        if leads and seen.leads != leads:
            self._became_leader(server, core)
        if commit_index != seen.commit_index:
            if commit_index < seen.commit_index:
                raise Violation("I6", f"server {server.server_id}: commit_index {seen.commit_index} -> {commit_index}")
            if (
                leads and seen.leads == leads
            ):  # What it learnt in the step that made it leader, it learnt as a follower.
                self._leader_committed(server, core, commit_index)
            seen.commit_index = commit_index
        seen.leads = leads
        if applied > commit_index:
            raise Violation("I6", f"server {server.server_id}: applied {applied} beyond commit {commit_index}")

    def _became_candidate(self, server: Watched, core: CoreFacts) -> None:
        """Terms grow only if a majority would elect, or a leader says so; else one cut-off server inflates them."""
        me, term = server.server_id, core.current_term
        voters = server.configuration.voters
        # Kept: a term that was lost in a crash may be stood in again on the same grants, which may be replayed.
        supporters = self._supporters.get((me, term), set()) | {me}
        if (me, term - 1) not in self._told_to_stand and 2 * len(supporters.intersection(voters)) <= len(voters):
            raise Violation("I13", f"server {me} stands in term {term}, pre-votes from {sorted(supporters)} only")

    def _became_leader(self, server: Watched, core: CoreFacts) -> None:
        term, me = core.current_term, server.server_id
        other = self.leaders.setdefault(term, me)
        if other != me:
            raise Violation("I1", f"servers {other} and {me} both lead term {term}")
        voters = server.configuration.voters
        # One whose removal is not committed still leads (thesis 4.2.2).
        open_ones = server.configurations[-2:] if server.configuration_index > core.commit_index else ()
        if me not in voters and not any(me in configuration.voters for _, configuration in open_ones):
            raise Violation("I12", f"server {me} leads term {term} and is no voter")
        votes = [voter for voter in voters if self._votes[voter].get(term) == me]
        if 2 * len(votes) <= len(voters) and voters != (me,):  # An only voter needs no promise that outlives it.
            raise Violation("I1", f"server {me} leads term {term} with durable votes of {votes} only")
        index = self.committed_index
        while index and self._committed_in_term[index - 1] >= term:
            index -= 1
        if index > server.log.base.index and server.log.hash_at(index) != self.committed[index - 1].chain_hash:
            raise Violation("I4", f"server {me} leads term {term} without committed entry {index}")

    def _leader_committed(self, server: Watched, core: CoreFacts, index: int) -> None:
        entry = server.log.entry_at(index)
        if entry is None:
            raise Violation("I4", f"leader {server.server_id} commits index {index} that it does not hold")
        if entry.term != core.current_term:
            raise Violation(
                "I4", f"leader of term {core.current_term} commits index {index} of term {entry.term} by counting"
            )
        voters = server.configuration.voters
        holders = [voter for voter in voters if self._has_held(self._servers[voter], entry)]
        if 2 * len(holders) <= len(voters):
            raise Violation("I4", f"leader {server.server_id} commits index {index}, durable on {holders} only")

    def _has_held(self, server: Watched, entry: Entry) -> bool:
        """Whether it holds the entry durably, or did and has lost it: what it acknowledged may be counted late."""
        if server.disk.hard_state.rebuilding is None:
            self._lost.pop(server.server_id, None)
        return _holds_durably(server.disk.log, server.disk.state.position, entry) or any(
            _holds_durably(log, position, entry) for log, position in self._lost.get(server.server_id, ())
        )

    # Logs.

    def persisting(self, server: Watched, core: CoreFacts, batch: Persist) -> None:
        """Before a batch enters a log: append-only leaders, no committed entry removed, one hash a position."""
        log = server.log
        if batch.truncate_from and batch.truncate_from <= log.last_index:
            self._truncating(server, core, batch.truncate_from)
        if not batch.entries:
            return
        first = batch.entries[0]
        before = batch.truncate_from - 1 if batch.truncate_from else log.last_index
        before = min(before, log.last_index)
        if first.index != before + 1:
            raise Violation("I3", f"server {server.server_id} writes entry {first.index} behind {before}")
        previous_hash = log.hash_at(before)
        previous = log.entry_at(before)
        term, clock_ms = (previous.term, previous.clock_ms) if previous else (log.base.term, log.base.clock_ms)
        for entry in batch.entries:
            if entry.term < term or entry.clock_ms < clock_ms:
                raise Violation("I3", f"server {server.server_id}: term or clock goes back at entry {entry.index}")
            assert previous_hash is not None
            self._match(server.server_id, previous_hash, entry)
            if entry.kind is EntryKind.CONFIGURATION and core.role is Role.LEADER and entry.term == core.current_term:
                self._changing_configuration(server, core, entry)
            term, clock_ms, previous_hash = entry.term, entry.clock_ms, entry.chain_hash

    def _changing_configuration(self, server: Watched, core: CoreFacts, entry: Entry) -> None:
        """One server at a time, one change at a time, and only behind an own entry that is committed."""
        self._reached["configuration changed"] += 1
        before, after = server.configuration, Configuration.decode(entry.payload)
        me, index = server.server_id, entry.index
        self._note_change(me, before, after)
        if len(set(before.voters) ^ set(after.voters)) > 1:
            raise Violation("I12", f"leader {me} goes from {before} to {after} at once")
        if server.configuration_index > core.commit_index:
            raise Violation("I12", f"leader {me} changes the configuration at {index}, the last is not committed")
        committed = server.log.entry_at(core.commit_index)
        if committed is not None and committed.term != core.current_term:
            raise Violation("I12", f"leader {me} changes the configuration at {index} before it committed in its term")

    def _note_change(self, leader: int, before: Configuration, after: Configuration) -> None:
        reached = self._reached
        reached["configuration: voter added"] += len(after.voters) > len(before.voters)
        reached["configuration: learner added"] += len(after.learners) > len(before.learners)
        reached["configuration: learner promoted"] += bool(set(after.voters).intersection(before.learners))
        reached["configuration: leader removes itself"] += leader not in after.voters
        reached["configuration: voter removed"] += len(after.voters) < len(before.voters)

    def _match(self, server_id: int, previous_hash: bytes, entry: Entry) -> None:
        key = entry.index << _KEY_SHIFT | entry.term
        known = self._hashes.get(key)
        if known is None:
            if chain(previous_hash, entry.record) != entry.chain_hash:
                raise Violation("I3", f"server {server_id}: entry {entry.index} does not continue the chain")
            self._hashes[key] = (previous_hash, entry.chain_hash)
        elif known[1] != entry.chain_hash:
            raise Violation("I3", f"server {server_id}: two entries at index {entry.index} term {entry.term}")
        elif known[0] != previous_hash:
            raise Violation("I3", f"server {server_id}: entry {entry.index} stands behind another than elsewhere")

    def _truncating(self, server: Watched, core: CoreFacts, index: int) -> None:
        self._reached["log truncated"] += 1
        if core.role is Role.LEADER and self._seen[server.server_id].leads == core.current_term:
            raise Violation("I2", f"leader {server.server_id} removes its entries from {index} on")
        self._removing(server.server_id, server.log, index)

    def _removing(self, server_id: int, log: EntryList, index: int) -> None:
        if index <= self.committed_index and log.hash_at(index) == self.committed[index - 1].chain_hash:
            raise Violation("I8", f"server {server_id} removes committed entry {index}")

    def resetting(self, server_id: int, log: EntryList, position_index: int) -> None:
        """Before a snapshot replaces a log: what lies behind it must not be committed."""
        if log.last_index > position_index:
            self._removing(server_id, log, position_index + 1)

    def durable(self, server_id: int, batch: Persist) -> None:
        """A batch became durable: terms do not go back, a vote is given once a term."""
        hard = batch.hard_state
        if hard is None:
            return
        votes = self._votes[server_id]
        if self._lost.get(server_id) and server_id not in self._spent and not _asks(hard):
            if hard.current_term < (promised := self._promised(server_id)):
                raise Violation("I6", f"server {server_id} takes part in term {hard.current_term}, voted in {promised}")
            self._spent[server_id] = hard.current_term if hard.voted_for == server_id else 0
        if hard.voted_for == server_id and self._spent.get(server_id) == hard.current_term:
            return
        if (votes.get(hard.current_term), hard.current_term) in self._dead:
            del votes[hard.current_term]
        if hard.voted_for:
            earlier = votes.setdefault(hard.current_term, hard.voted_for)
            if earlier != hard.voted_for:
                raise Violation(
                    "I1", f"server {server_id} votes for {earlier} and {hard.voted_for} in term {hard.current_term}"
                )

    # Messages.

    def sending(self, server: Watched, to_server: int, message: Message) -> None:
        """Before a message leaves: what it promises is durable."""
        if isinstance(message, _PROMISES_NOTHING):
            return
        match message:
            case RequestVoteReply(term, granted):
                if granted:
                    self._granting(server, term, to_server)
            case RequestPreVoteReply(_, term, granted):
                if granted:
                    self._supporters[to_server, term].add(server.server_id)
            case TimeoutNow(term):
                self._told_to_stand.add((to_server, term))
            case RequestVote(term):
                self._granting(server, term, server.server_id)
            case AppendEntriesReply(term, success, match_index):
                # What answers an earlier term than the disk's proves nothing to anyone who could still count it.
                durable_index = server.disk.log.last_index
                if success and durable_index < match_index and server.disk.hard_state.current_term <= term:
                    raise Violation(
                        "I6",
                        f"server {server.server_id} acknowledges {match_index}, durable {durable_index}",
                    )
            case _:
                pass

    def _granting(self, server: Watched, term: int, to_server: int) -> None:
        """A promise holds if it is on disk, or if a later term is: then nobody else gets a vote in the old one."""
        votes = self._votes[server.server_id]
        if term not in votes and server.disk.hard_state.current_term > term:
            votes[term] = to_server
        if votes.get(term) != to_server and (to_server, term) not in self._dead:
            raise Violation(
                "I1", f"server {server.server_id} grants term {term} to {to_server}, its disk says {votes.get(term)}"
            )

    # What is decided.

    def called_committed(self, server: Watched, term: int, entries: list[Entry]) -> None:
        """A server hands entries to its applier: the same at every index, everywhere, for ever."""
        for entry in entries:
            index = entry.index
            if index <= len(self.committed):
                if self.committed[index - 1].chain_hash != entry.chain_hash:
                    raise Violation("I5", f"server {server.server_id} commits another entry at {index}")
            elif index == len(self.committed) + 1:
                self.committed.append(entry)
                self._committed_in_term.append(term)
                if entry.kind is EntryKind.CONFIGURATION:
                    self._configuration_committed(entry)
            else:
                raise Violation("I5", f"server {server.server_id} skips to {index} after {len(self.committed)}")

    def _configuration_committed(self, entry: Entry) -> None:
        """A server that was removed never is in a later configuration, whatever that says of removed servers."""
        members = set(Configuration.decode(entry.payload).servers)
        if returned := members & self._removed:
            raise Violation(
                "I12", f"removed servers {sorted(returned)} are in the configuration of entry {entry.index}"
            )
        self._removed |= self._members - members
        self._members = members

    def applied(self, server_id: int, index: int, state_hash: bytes) -> None:
        """Equal applied index means equal state."""
        known = self._state_hashes.setdefault(index, state_hash)
        if known != state_hash:
            raise Violation("I5", f"server {server_id} has another state after entry {index}")

    def holds(self, server_id: int, index: int, nodes_hash: bytes) -> None:
        """Equal applied index means equal nodes in memory, whatever was answered on the way there."""
        known = self._nodes_hashes.setdefault(index, nodes_hash)
        if known != nodes_hash:
            raise Violation("I5", f"server {server_id} holds other nodes after entry {index}")

    def installing(self, server_id: int, snapshot: InstallSnapshot, position: LogPosition) -> None:
        """A snapshot stands where the one history stands."""
        index = snapshot.last_included_index
        claims = (snapshot.last_included_term, snapshot.last_included_hash)
        if index != position.index or index > self.committed_index:
            raise Violation("I4", f"server {server_id} installs a snapshot at {index} that nobody has committed")
        entry = self.committed[index - 1]
        if claims != (entry.term, entry.chain_hash):
            raise Violation("I3", f"server {server_id} installs a snapshot at {index} of another history")


def _holds_durably(log: EntryList, position: LogPosition, entry: Entry) -> bool:
    if position.index >= entry.index and log.base.index >= entry.index:
        return True
    return log.hash_at(entry.index) == entry.chain_hash


def _asks(hard_state: HardState) -> bool:
    """Whether the server lost its disk and promises nothing yet."""
    return hard_state.rebuilding is not None and hard_state.rebuilding.asking
