"""The ledger of rare states: what a run must have gone through before its silence means anything.

Each state has a name and a counter. Most are seen here, from what a server does; others are counted where they happen
(`context.reach`). `REQUIRED` are those that every campaign of 300 seeds reaches; one that misses one of them fails.
"""

from typing import TYPE_CHECKING, Final

from kvraft.raft.effects import Role, RoleChange
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    RequestPreVoteReply,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.raft.restored import Restored

if TYPE_CHECKING:
    from tests.simulation.context import Context
    from tests.simulation.member import SimulatedMember

_FAR_BEHIND: Final = 50
_LARGE_BATCH: Final = 20
_NOTHING_RARE: Final = (Heartbeat, HeartbeatReply)
"""Half of all messages."""


class Ledger:
    """Watches the servers of one world, and counts."""

    def __init__(self, context: "Context", members: "dict[int, SimulatedMember]") -> None:
        self._members = members
        self._reach = context.reach
        self._roles: dict[int, RoleChange] = {}
        """The last one of each running server."""
        self._elected: set[int] = set()
        """Terms that had a leader."""
        self._told_to_stand: set[tuple[int, int]] = set()

    # Life.

    def started(self, member: "SimulatedMember", restored: Restored) -> None:
        """A server has recovered."""
        hard, last = restored.hard_state, restored.last.index
        self._roles.pop(member.server_id, None)
        if member.boots == 1:
            return
        if hard.voted_for:
            self._reach("restart: with a vote in the current term")
        if hard.current_term > restored.last.term:
            self._reach("restart: in a later term than the log's last entry")
        if last > hard.commit_index:
            self._reach("restart: with entries not known to be committed")
        if hard.commit_index > restored.applied_index:
            self._reach("restart: replays entries behind the state")
        if last == restored.base.index:
            self._reach("restart: with an empty log")
        if restored.base.index:
            self._reach("restart: with a compacted log")
        if len(restored.configurations) > 1:
            self._reach("restart: with a configuration in the log")

    def crashing(self, member: "SimulatedMember") -> None:
        """A running server is about to die."""
        core = member.core
        if core is None:
            return
        self._reach(f"crash: of a {core.role}")
        if core.role is Role.LEADER:
            entry = member.log.entry_at(core.commit_index)
            if entry is not None and entry.term < core.current_term:
                self._reach("crash: of a leader before it committed in its term")
            if member.log.last_index > core.commit_index:
                self._reach("crash: of a leader with uncommitted entries")
        if member.disk.flushing:
            self._reach("crash: during a flush of the state")
        if member.position.index < core.commit_index:
            self._reach("crash: with committed entries not applied")
        up = [other for other in self._members.values() if other.up and other is not member]
        if not up:
            self._reach("crash: of the last running server")
        elif 2 * len(up) <= len(self._members):
            self._reach("crash: of the quorum")

    # Roles.

    def role_changed(self, member: "SimulatedMember", change: RoleChange) -> None:
        """A step changed role, term or known leader."""
        me = member.server_id
        before = self._roles.get(me)
        self._roles[me] = change
        core = member.core
        assert core is not None
        if change.role is Role.LEADER:
            self._became_leader(member, change)
        elif change.role is Role.CANDIDATE:
            if (me, change.term - 1) in self._told_to_stand:
                self._reach("election: stood because the leader said so")
            if before is not None and before.role is Role.CANDIDATE:
                self._reach("election: nobody won, stood again")
        if before is None:
            return
        if before.role is Role.LEADER and change.role is not Role.LEADER:
            same = change.term == before.term
            self._reach("leader stepped down without a quorum" if same else "leader heard of a later term")
        if before.role is Role.CANDIDATE and change.role is Role.FOLLOWER and change.term == before.term:
            self._reach("election: candidate yielded to the leader of its term")
        if before.role is Role.PRE_CANDIDATE and change.role is Role.FOLLOWER:
            self._reach("election: gave up before it stood")

    def _became_leader(self, member: "SimulatedMember", change: RoleChange) -> None:
        core, term = member.core, change.term
        assert core is not None
        if self._elected and term > max(self._elected) + 1:
            self._reach("election: a term without a leader before")
        self._elected.add(term)
        if member.log.last_index > core.commit_index + 1:
            self._reach("election: leader inherits entries not known to be committed")
        if member.configuration_index > core.commit_index:
            self._reach("election: leader inherits an uncommitted configuration")
        if (member.server_id, term - 1) in self._told_to_stand:
            self._reach("leadership handed over")
        for other in self._members.values():
            if other is not member and other.up and other.core is not None and other.core.role is Role.LEADER:
                self._reach("two servers think that they lead")

    # Messages.

    def sending(self, member: "SimulatedMember", to_server: int, message: Message) -> None:
        """A message leaves."""
        if isinstance(message, _NOTHING_RARE):
            return
        match message:
            case AppendEntries(entries=entries):
                if entries:
                    self._sending_entries(entries)
            case AppendEntriesReply(success=False):
                self._reach("append refused")
            case RequestVoteReply(granted=False):
                self._reach("vote refused")
            case RequestPreVoteReply(granted=False):
                self._reach("pre-vote refused")
            case ReadIndexReply(read_index=0):
                self._reach("read index refused")
            case TimeoutNow(term):
                self._told_to_stand.add((to_server, term))
            case _:
                pass

    def _sending_entries(self, entries: list[Entry]) -> None:
        if entries[0].term != entries[-1].term:
            self._reach("append with entries of several terms")
        if len(entries) >= _LARGE_BATCH:
            self._reach("append with many entries")

    def received(self, member: "SimulatedMember", message: Message) -> None:
        """A message arrives at a running server."""
        core = member.core
        assert core is not None
        term = core.current_term
        if message.term < term:
            self._reach("message of an earlier term")
            if isinstance(message, AppendEntriesReply) and core.role is Role.LEADER:
                self._reach("acknowledgement of an earlier term at a leader")
        elif message.term > term + 1:
            self._reach("message of a term far ahead")
        if isinstance(message, InstallSnapshot):
            if message.last_included_index <= member.position.index:
                self._reach("snapshot arrives too late")
            elif member.installing:
                self._reach("snapshot arrives during an install")

    # Log.

    def writing(self, member: "SimulatedMember", truncate_from: int) -> None:
        """Before a batch enters the log."""
        log = member.log
        if not truncate_from or truncate_from > log.last_index:
            return
        if truncate_from <= member.disk.log.last_index:
            self._reach("log truncated: durable entries")
        entries = [log.entry_at(index) for index in range(truncate_from, log.last_index + 1)]
        if len({entry.term for entry in entries if entry is not None}) > 1:
            self._reach("log truncated: several terms at once")
        if any(entry is not None and entry.kind is EntryKind.CONFIGURATION for entry in entries):
            self._reach("log truncated: a configuration")

    def committed(self, member: "SimulatedMember", entries: list[Entry]) -> None:
        """Entries go to the applier."""
        core = member.core
        assert core is not None
        if entries[-1].index - member.position.index > _FAR_BEHIND:
            self._reach("applier far behind")
        if core.role is Role.LEADER and entries[0].term < core.current_term:
            self._reach("entry of an earlier term committed by a later leader")

    def resetting(self, member: "SimulatedMember", index: int) -> None:
        """A snapshot replaces the log."""
        if member.log.last_index > index:
            self._reach("snapshot replaces a longer log")


REQUIRED: Final[tuple[str, ...]] = (
    "a sync held the loop for a heartbeat",
    "append refused",
    "append with entries of several terms",
    "append with many entries",
    "applier far behind",
    "auth turned on",
    "became candidate",
    "became leader",
    "became pre-candidate",
    "commit survived the power cut inside it",
    "commit was undone by the power cut inside it",
    "configuration changed",
    "configuration: leader removes itself",
    "configuration: learner added",
    "configuration: learner promoted",
    "configuration: removed server refused",
    "configuration: voter added",
    "configuration: voter removed",
    "crash at a boundary",
    "crash lost unsynced batches",
    "crash: during a flush of the state",
    "crash: of a candidate",
    "crash: of a follower",
    "crash: of a leader",
    "crash: of a leader before it committed in its term",
    "crash: of a leader with uncommitted entries",
    "crash: of a pre-candidate",
    "crash: of the last running server",
    "crash: of the quorum",
    "crash: with committed entries not applied",
    "crash: with writes whose outcome nobody knows",
    "damage found while running",
    "disk lost",
    "disk of another server refused",
    "disk rebuilt",
    "election: a term without a leader before",
    "election: candidate yielded to the leader of its term",
    "election: gave up before it stood",
    "election: leader inherits an uncommitted configuration",
    "election: leader inherits entries not known to be committed",
    "election: stood because the leader said so",
    "entries read from disk",
    "entry of an earlier term committed by a later leader",
    "forwarded write refused: not the leader any more",
    "leader heard of a later term",
    "leader stepped down without a quorum",
    "leadership handed over",
    "link: a queue was full",
    "link: control overtook entries",
    "link: entries waited for an election timeout",
    "log compacted",
    "log compacted to nothing",
    "log truncated",
    "log truncated: a configuration",
    "log truncated: durable entries",
    "message of a term far ahead",
    "message of an earlier term",
    "power cut inside a commit",
    "power cut tore or lost sectors",
    "pre-vote refused",
    "proposal refused",
    "read failed",
    "read index refused",
    "read waits until its index is applied",
    "restart: in a later term than the log's last entry",
    "restart: replays entries behind the state",
    "restart: with a compacted log",
    "restart: with a configuration in the log",
    "restart: with a vote in the current term",
    "restart: with an empty log",
    "restart: with entries not known to be committed",
    "run on disks of sectors",
    "session: both sides dialled at once",
    "session: half-open until somebody noticed",
    "session: only one side could dial",
    "session: what a cut held came after all",
    "snapshot arrives during an install",
    "snapshot arrives too late",
    "snapshot installed",
    "snapshot lost on its way",
    "snapshot sent",
    "snapshot superseded before its install",
    "start refused",
    "stopped by a failed sync",
    "users and roles changed",
    "vote refused",
    "watch closed by a snapshot",
    "watch refused with 401",
    "watch resumed",
    "write came back to be judged again",
    "write not sent: no leader known",
    "write not sent: no right",
)
"""Nearly all are reached some dozens of times by 300 seeds; the rarest, a truncated configuration, eight times."""
