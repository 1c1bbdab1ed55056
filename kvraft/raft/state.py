"""What a server knows whatever its role is (Figure 2, "State"), and the effects of the step under way.

Only `core.Raft` makes one. The other modules are functions over it: they change it and add to `effects`.
"""

import random
from collections import deque
from typing import Protocol, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Divergence, Effects, HardState, Outgoing, Persist, Role, RoleChange
from kvraft.raft.entries import EntryKind, make_entry
from kvraft.raft.log import Log
from kvraft.raft.messages import AppendEntriesReply, InstallSnapshot, Message
from kvraft.raft.restored import LogReader, Restored
from kvraft.raft.settings import RaftSettings


class RoleVariables(Protocol):
    """What only a server in one role needs. Made when the role begins, so nothing of an earlier one can leak in.

    Not a base class: `isinstance` of a class under `abc` runs Python code, and a step asks for the role many times.
    """

    @property
    def kind(self) -> Role:
        """Which role this is."""
        ...

    @property
    def deadline_ms(self) -> int:
        """When time alone must be looked at again."""
        ...

    def check(self, state: "State") -> None:
        """Assert what holds in this role at the end of every step."""
        ...


@final
class State:
    """A server. `role` is replaced as a whole at each transition."""

    __slots__ = (
        "_after_disk",
        "_commit_stored_ms",
        "_unapplied",
        "commit_index",
        "configurations",
        "current_term",
        "delivered_index",
        "effects",
        "gone_leader_id",
        "gone_until_ms",
        "heard_clock_ms",
        "heard_clock_term",
        "installing",
        "last_applied",
        "leader_id",
        "log",
        "now_ms",
        "random",
        "rebuilding",
        "role",
        "server_id",
        "settings",
        "stored",
        "unapplied_bytes",
        "voted_for",
    )

    def __init__(
        self,
        server_id: int,
        restored: Restored,
        settings: RaftSettings,
        rng: random.Random,
        log_reader: LogReader,
        now_ms: int,
        role: RoleVariables,
    ) -> None:
        self.server_id = server_id
        self.settings = settings
        self.random = rng
        self.now_ms = now_ms
        self.role = role
        self.leader_id = 0
        """The leader of `current_term`; 0 while unknown."""
        self.gone_leader_id = 0
        self.gone_until_ms = now_ms
        """Until then nothing that leader sent in `current_term` is heard: its process has closed its connection."""
        self.current_term = restored.hard_state.current_term
        self.voted_for = restored.hard_state.voted_for
        self.log = Log(log_reader, restored.base, restored.last, settings.log_tail_bytes_max)
        # The stored commit index is a hint that may ride behind or, in a log that lost its end, ahead of what is held.
        committed = max(restored.hard_state.commit_index, restored.applied_index, restored.base.index)
        self.commit_index = min(committed, restored.last.index)
        self.last_applied = restored.applied_index
        self.delivered_index = restored.applied_index
        """Last index given out in `Effects.committed`."""
        self.unapplied_bytes = 0
        """Bytes given out and not applied yet; `committed_bytes_max` bounds them."""
        self._unapplied: deque[tuple[int, int]] = deque()
        self.configurations = list(restored.configurations)
        """(index, configuration), ascending; the last is in force. A server uses what stands in its log (section 6)."""
        self.heard_clock_term = 0
        self.heard_clock_ms = 0
        """The latest log clock heard from the leader of `heard_clock_term`."""
        self.installing: InstallSnapshot | None = None
        """The snapshot that the member is putting in place; nothing is appended or delivered meanwhile."""
        self.effects = Effects()
        self.rebuilding = restored.hard_state.rebuilding
        """Set while this server does not hold what it may have acknowledged before it lost its disk."""
        self.stored = restored.hard_state
        """The hard state as last issued for persisting."""
        self._after_disk: list[Outgoing] = []
        """Messages of this step that wait for everything this server has decided so far."""
        self._commit_stored_ms = now_ms

    # -- configuration

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not (section 6)."""
        return self.configurations[-1][1]

    @property
    def may_campaign(self) -> bool:
        """Voters only, and not while a snapshot replaces the log or after the log was lost.

        A voter that is removed stands until its removal is committed (thesis section 4.2.2, Figure 4.6): it may be the
        only one with that entry, and then nobody else can be elected without it.
        """
        if self.installing is not None or self.rebuilding is not None:
            return False
        if self.server_id in self.configuration.voters:
            return True
        removal_index = self.configurations[-1][0]
        return removal_index > self.commit_index and any(
            self.server_id in configuration.voters for _, configuration in self.configurations[-2:]
        )

    # -- the log

    def append_new(self, kind: EntryKind, payload: bytes, clock_ms: int) -> int:
        """Append an entry of the current term to this leader's log; returns its index."""
        log = self.log
        index = log.last_index + 1
        log.append(make_entry(log.last_hash, index, self.current_term, kind, clock_ms, payload))
        return index

    def truncate_log(self, first_removed: int) -> None:
        """Remove entries that conflict with the leader's, and any configuration among them."""
        assert first_removed > self.commit_index, "committed entries are never removed"
        self.log.truncate(first_removed)
        while self.configurations[-1][0] >= first_removed:
            self.configurations.pop()

    def restored_clock_ms(self) -> int:
        """The log clock without a leader's own time: the last entry's, or what the leader of its term said since.

        Clocks of other terms are ignored: that leader's entries, and so its time, may never have been committed.
        """
        if self.heard_clock_term == self.log.last_term:
            return max(self.log.last_clock_ms, self.heard_clock_ms)
        return self.log.last_clock_ms

    def hear_clock(self, clock_ms: int) -> None:
        """Remember the log clock that the leader of the current term has sent."""
        if self.heard_clock_term != self.current_term:
            self.heard_clock_term = self.current_term
            self.heard_clock_ms = clock_ms
        elif clock_ms > self.heard_clock_ms:
            self.heard_clock_ms = clock_ms

    # -- effects

    def send(self, to_server: int, message: Message) -> None:
        """Send without waiting for the disk, unless the hard state waits for it (see `close_step`)."""
        self.effects.messages.append(Outgoing(to_server, message))

    def send_after_persist(self, to_server: int, message: Message) -> None:
        """Send once everything this server has decided so far is durable."""
        outgoing = Outgoing(to_server, message)
        self.effects.messages.append(outgoing)
        self._after_disk.append(outgoing)

    def acknowledge(self, leader_id: int, match_index: int) -> None:
        """Tell the leader that this server holds its log up to `match_index`, once that is durable."""
        self.send_after_persist(leader_id, AppendEntriesReply(self.current_term, True, match_index, 0, 0))

    def diverged(self, index: int, detail: str) -> None:
        """Report what correct servers never do; the first report of a step stands."""
        if self.effects.divergence is None:
            self.effects.divergence = Divergence(index, detail)

    def deliver_committed(self) -> None:
        """Hand committed entries to the applier, in order and once, as far as the limit on unapplied bytes allows.

        They may run ahead of this server's own disk (design decision 3: memory may be ahead, durable state may not).
        """
        if self.installing is not None:
            return
        limit = self.settings.committed_bytes_max
        log = self.log
        while self.delivered_index < self.commit_index and self.unapplied_bytes < limit:
            entries = log.slice(self.delivered_index + 1, self.commit_index, limit - self.unapplied_bytes)
            assert entries, "the log is never compacted beyond what is applied"
            size = log.size_of(entries)
            self.delivered_index = entries[-1].index
            self._unapplied.append((self.delivered_index, size))
            self.unapplied_bytes += size
            if self.effects.committed:
                self.effects.committed.extend(entries)
            else:
                self.effects.committed = entries

    @property
    def more_to_deliver(self) -> bool:
        """Whether a further step would hand out committed entries without any new input."""
        return (
            self.delivered_index < self.commit_index
            and self.installing is None
            and self.unapplied_bytes < self.settings.committed_bytes_max
        )

    def applied(self, index: int) -> None:
        """The keyspace has applied entries up to `index`."""
        assert index <= self.delivered_index, "only delivered entries are applied"
        pieces = self._unapplied
        while pieces and pieces[0][0] <= index:
            self.unapplied_bytes -= pieces.popleft()[1]
        self.last_applied = max(self.last_applied, index)

    def restart_at_snapshot(self, index: int) -> None:
        """State and log were replaced by a snapshot at `index`: everything up to it is committed and applied."""
        self.commit_index = max(self.commit_index, index)
        self.last_applied = self.delivered_index = index
        self._unapplied.clear()
        self.unapplied_bytes = 0

    # -- durability

    @property
    def commit_store_deadline_ms(self) -> int:
        """When a commit index that is not the stored one wants to be stored although nothing else is."""
        return self._commit_stored_ms + self.settings.heartbeat_interval_ms

    def close_step(self) -> None:
        """Put what must become durable into `persist`, and tag each message with the batch that it must not precede.

        A message may leave beside the log's own write, but never before the term and vote that it speaks for: while
        such a batch is under way, from this step or an earlier one, everything waits for it. When nothing is under way,
        nothing waits.
        """
        effects = self.effects
        log = self.log
        stored = self.stored
        voted = (
            self.current_term != stored.current_term
            or self.voted_for != stored.voted_for
            or self.rebuilding != stored.rebuilding
        )
        must_sync = voted or log.issued_index < log.last_index or log.truncate_from > 0
        commit_moved = self.commit_index != stored.commit_index
        if must_sync or (commit_moved and self.now_ms >= self.commit_store_deadline_ms):
            truncate_from, entries = log.issue()
            hard_state = None
            if voted or commit_moved:
                self.stored = hard_state = HardState(
                    self.current_term, self.voted_for, self.commit_index, self.rebuilding
                )
                self._commit_stored_ms = self.now_ms
            end = entries[-1] if entries else None
            batch_id = log.durability.issue(log.last_index, end, must_sync=must_sync, promises=voted)
            effects.persist = Persist(batch_id, hard_state, truncate_from, entries, must_sync)
        if effects.messages:
            self._tag(effects.messages)

    def _tag(self, messages: list[Outgoing]) -> None:
        durability = self.log.durability
        if self._after_disk:
            batch_id = durability.under_way
            for outgoing in self._after_disk:
                outgoing.after_batch = batch_id
            self._after_disk = []
        batch_id = durability.promises_under_way
        if batch_id:
            for outgoing in messages:
                outgoing.after_batch = outgoing.after_batch or batch_id

    def report_changes(self, before: tuple[RoleVariables, int, int, Configuration]) -> None:
        """Say what of (role, term, leader, configuration) differs from before the step."""
        role, term, leader_id, configuration = before
        same_role = self.role is role or self.role.kind is role.kind
        if not same_role or self.current_term != term or self.leader_id != leader_id:
            self.effects.role_change = RoleChange(self.role.kind, self.current_term, self.leader_id)
        now = self.configurations[-1][1]
        if now is not configuration and now != configuration:
            self.effects.configuration = now
