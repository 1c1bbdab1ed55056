"""What the clients saw, judged against the one committed history while it grows.

The committed log is a total order, so linearizability is two facts: an operation stands in that order behind every
operation that had ended before it began, and its answer is the one that a model gives at its place.
"""

import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.account_commands import AccountCommand, EnableAuth
from kvraft.keyspace.commands import (
    NO_TTL,
    Authorized,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Sync,
    Update,
)
from kvraft.keyspace.events import Action
from kvraft.raft.entries import HEADER_BYTES, Entry, EntryKind
from tests.simulation.accounts import JUDGED_BY_OTHERS, AccountsModel, Facts
from tests.simulation.checkers import Violation
from tests.simulation.machine import REQUEST_ID_BYTES
from tests.simulation.model import Model, Result


@final
@dataclass(slots=True)
class _Versions:
    """What one key held from which log index on."""

    indices: list[int] = field(default_factory=list)
    nodes: list[tuple[bytes, int] | None] = field(default_factory=list)
    """(value, modifiedIndex), or None while the key does not exist."""

    def at(self, index: int) -> tuple[bytes, int] | None:
        """The node after the entry at `index`."""
        for position in range(len(self.indices) - 1, -1, -1):
            if self.indices[position] <= index:
                return self.nodes[position]
        return None


@final
@dataclass(slots=True, frozen=True)
class Change:
    """One change of the store as a watcher should see it."""

    action: Action
    path: bytes
    value: bytes | None
    prev_value: bytes | None
    prev_index: int
    refresh: bool
    """Seen by nobody."""


_UNSEEN: Final = Change(Action.SET, b"/", None, None, 0, refresh=True)
"""A change of users and roles."""

_ACTIONS: Final = {
    Set: Action.SET,
    Create: Action.CREATE,
    CreateInOrder: Action.CREATE,
    Update: Action.UPDATE,
    CompareAndSwap: Action.COMPARE_AND_SWAP,
    Delete: Action.DELETE,
    CompareAndDelete: Action.COMPARE_AND_DELETE,
}


@final
class History:
    """The clients' side of the truth."""

    def __init__(
        self,
        commands: Mapping[bytes, Command],
        users: Mapping[bytes, str],
        drift_per_mille: int,
        reached: Counter[str],
    ) -> None:
        self._commands = commands
        self._users = users
        self._accounts = AccountsModel()
        self._accounts_since: list[tuple[int, Facts]] = [(0, self._accounts.facts())]
        """Users and roles, and the log index from which on they are so."""
        self._drift_per_mille = drift_per_mille
        self._reached = reached
        self._model = Model()
        self._results: dict[bytes, tuple[int, Result]] = {}
        """By request id: log index and the model's answer."""
        self._versions: dict[bytes, _Versions] = {}
        self._ttl_since: dict[bytes, tuple[int, int]] = {}
        """Key with TTL -> (virtual us of the append, TTL in ms)."""
        self._served: dict[tuple[int, int], int] = {}
        """Greatest etcd_index shown to clients by each run of a server."""
        self.events: list[Change] = []
        """Every change of the store: the one of etcd_index i at i - 1."""
        self._etcd_indices: list[int] = [0]
        """The store's counter after each log index."""
        self._refused: set[bytes] = set()
        """Request ids of writes that were reported as certainly not done."""
        self.model_index = 0
        self.floor = 0
        """The greatest log index at which an ended operation took effect."""
        self.acknowledged = 0
        self.reads = 0
        self.local_reads = 0
        self.expired = 0
        self._expiries: list[tuple[bytes, int, int]] = []

    def committed(self, entry: Entry, appended_us: int, now_us: int) -> None:
        """The next entry of the one history, in order."""
        self._apply(entry, appended_us, now_us)
        self.model_index = entry.index
        self._etcd_indices.append(self._model.etcd_index)

    def _apply(self, entry: Entry, appended_us: int, now_us: int) -> None:
        if entry.kind is not EntryKind.COMMAND:
            return
        request_id = entry.record[HEADER_BYTES : HEADER_BYTES + REQUEST_ID_BYTES]
        if request_id in self._results:
            raise Violation("I8", f"the command of entry {entry.index} is in the log twice")
        if request_id in self._refused:
            raise Violation("I8", f"the write of entry {entry.index} had been reported as not done")
        command = self._commands[request_id]
        before = self._model.etcd_index
        if not self._accounts.admits(command):
            self._reached["write came back to be judged again"] += 1
            self._results[request_id] = (entry.index, Result(error_code=JUDGED_BY_OTHERS, etcd_index=before))
            return
        if isinstance(command, Authorized):
            command = command.command
            if not self._accounts.allows(self._users[request_id], command):
                raise Violation("I7", f"entry {entry.index} is of {self._users[request_id]!r}, who has no right to it")
        if isinstance(command, AccountCommand):
            self._results[request_id] = (entry.index, self._change_accounts(command, entry.index))
            return
        if isinstance(command, Sync):
            self._expire(entry, now_us)
            self._results[request_id] = (entry.index, Result(etcd_index=self._model.etcd_index))
            return
        result = self._model.apply(command, entry.clock_ms)
        self._results[request_id] = (entry.index, result)
        if self._model.etcd_index != before:
            refresh = getattr(command, "refresh", False)
            action = _ACTIONS[type(command)]
            self.events.append(Change(action, result.path, result.value, result.prev_value, result.prev_index, refresh))
            self._changed(result.path, entry.index)
            self._ttl_since.pop(result.path, None)
            ttl_s = getattr(command, "ttl_s", NO_TTL)
            if ttl_s != NO_TTL:
                self._ttl_since[result.path] = (appended_us, ttl_s * 1000)

    def _change_accounts(self, command: AccountCommand, index: int) -> Result:
        error, changes = self._accounts.apply(command, self._model.etcd_index)
        self._model.etcd_index += changes
        self.events += [_UNSEEN] * changes
        if changes:
            self._accounts_since.append((index, self._accounts.facts()))
            self._reached["users and roles changed"] += 1
            self._reached["auth turned on"] += isinstance(command, EnableAuth)
        return Result(error_code=error, etcd_index=self._model.etcd_index)

    def accounts_held(self, server_id: int, index: int, held: Facts) -> None:
        """A server has these users and roles after the entry at `index`."""
        known = self._accounts_since
        since = bisect.bisect_right(known, index, key=lambda each: each[0]) - 1
        if held != known[since][1]:
            raise Violation("I5", f"server {server_id} has other users or roles after entry {index}")

    def _expire(self, entry: Entry, now_us: int) -> None:
        before = dict(self._model.nodes)
        for path in self._model.expire(entry.clock_ms):
            node = before[path]
            self.events.append(Change(Action.EXPIRE, path, None, node.value, node.modified_index, refresh=False))
            self._changed(path, entry.index)
            self._check_not_early(path, now_us)
            assert node.deadline_ms is not None
            self._expiries.append((path, node.deadline_ms, entry.clock_ms))

    def _changed(self, path: bytes, index: int) -> None:
        node = self._model.nodes.get(path)
        versions = self._versions.setdefault(path, _Versions())
        versions.indices.append(index)
        versions.nodes.append((node.value, node.modified_index) if node else None)

    def _check_not_early(self, path: bytes, now_us: int) -> None:
        self.expired += 1
        since_us, ttl_ms = self._ttl_since.pop(path)
        # A clock that runs fast by the drift of this run counts a TTL down faster by as much, and by 1 ms of rounding.
        if (now_us - since_us) * (1000 + self._drift_per_mille) < (ttl_ms - 2) * 1000 * 1000:
            raise Violation("I11", f"{path!r} expired {now_us - since_us} us after it was set for {ttl_ms} ms")

    def write_ended(self, request_id: bytes, log_index: int, result: Result, floor: int) -> None:
        """A client got its answer. `floor` is this history's floor when the client began."""
        known = self._results.get(request_id)
        if known is None or known[0] != log_index:
            raise Violation("I8", f"a write was acknowledged at {log_index}, the log has it at {known}")
        if log_index <= floor:
            raise Violation("I7", f"a write took effect at {log_index}, before {floor} that had ended")
        if known[1] != result:
            raise Violation("I7", f"entry {log_index} was answered {result}, the model says {known[1]}")
        self.acknowledged += 1
        self.floor = max(self.floor, log_index)

    def write_refused(self, request_id: bytes) -> None:
        """A client was told that its write certainly did not happen."""
        if request_id in self._results:
            raise Violation("I8", f"the write of entry {self._results[request_id][0]} is reported as not done")
        self._refused.add(request_id)

    def read_ended(self, path: bytes, applied_index: int, seen: tuple[bytes, int] | None, floor: int) -> None:
        """A linearizable read got its answer from a state with `applied_index`."""
        if applied_index < floor:
            raise Violation("I7", f"a read saw the state at {applied_index}, older than {floor} that had ended")
        self._check_value(path, applied_index, seen)
        self.reads += 1
        self.floor = max(self.floor, applied_index)

    def local_read_ended(
        self,
        server_id: int,
        boot: int,
        path: bytes,
        applied_index: int,
        etcd_index: int,
        seen: tuple[bytes, int] | None,
    ) -> None:
        """A plain read: as old as its server, but what one run of that server shows never goes back."""
        run = (server_id, boot)
        if etcd_index < self._served.get(run, 0):
            raise Violation("I9", f"server {server_id} shows etcd_index {etcd_index} after {self._served[run]}")
        if etcd_index != self._etcd_indices[applied_index]:
            known = self._etcd_indices[applied_index]
            raise Violation("I9", f"server {server_id} shows etcd_index {etcd_index} at {applied_index}, not {known}")
        self._served[run] = etcd_index
        self._check_value(path, applied_index, seen)
        self.local_reads += 1

    def _check_value(self, path: bytes, applied_index: int, seen: tuple[bytes, int] | None) -> None:
        versions = self._versions.get(path)
        expected = versions.at(applied_index) if versions else None
        if expected != seen:
            raise Violation("I7", f"{path!r} at index {applied_index} was read as {seen}, the model says {expected}")

    def take_expiries(self) -> list[tuple[bytes, int, int]]:
        """(key, deadline, log time of the expiry) of what has expired since the last call."""
        taken, self._expiries = self._expiries, []
        return taken

    def overdue(self, clock_ms: int, late_ms: int) -> list[tuple[bytes, int]]:
        """Keys that should have expired more than `late_ms` before the log clock `clock_ms`, with their deadlines."""
        return sorted(
            (path, node.deadline_ms)
            for path, node in self._model.nodes.items()
            if node.deadline_ms is not None and node.deadline_ms + late_ms < clock_ms
        )
