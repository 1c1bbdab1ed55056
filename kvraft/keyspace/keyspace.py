"""The state machine: applies one command at a time, in log order, and answers as etcd's v2 store does.

Everything here is a function of the commands and their log clocks alone, so that equal logs mean equal trees, indices,
histories and state hashes on all members.
Rules, causes and the order of checks are those of etcd v3.4 etcdserver/api/v2store/store.go.
"""

from collections.abc import Iterator
from typing import Final, final

from kvraft.keyspace import state_hash
from kvraft.keyspace.account_commands import AccountCommand
from kvraft.keyspace.accounts import Accounts, AccountsChanged
from kvraft.keyspace.answers import Acknowledged, Answer
from kvraft.keyspace.changes import PendingChanges
from kvraft.keyspace.cluster import ClusterState, MembershipRefused, Refusal
from kvraft.keyspace.commands import (
    Authorized,
    ClusterCommand,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    MembershipCommand,
    Set,
    SetClusterVersion,
    SetHistorySize,
    SetHistorySizeAtIndex,
    Sync,
    Update,
)
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.event_history import EVENTS_MAX, MEMORY_MAX, EventHistory, HistoryReader, internal_event
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.json_text import encode_value, escape
from kvraft.keyspace.listing import Found, Listing, render_file
from kvraft.keyspace.live_tree import LiveTree
from kvraft.keyspace.loading import Loading
from kvraft.keyspace.records import Meta, decode_accounts
from kvraft.keyspace.state_records import StateImage
from kvraft.keyspace.stats import StoreStats
from kvraft.keyspace.tree import AnyNode, Directory, File, path_of
from kvraft.keyspace.views import compare_cause, lifetime_of, view_of
from kvraft.keyspace.watchers import WatcherHub, WatchPoint

SYNC_EXPIRES_MAX: Final = 4096
"""Nodes that one Sync expires at most, some 20 ms; the next Sync takes the rest, since they are still due."""

_NOTHING_DOOMED: Final[list[WatchPoint]] = []


@final
class Keyspace:
    """The applied state of one member."""

    def __init__(
        self,
        watchers: WatcherHub | None = None,
        history_events_max: int = EVENTS_MAX,
        history_reader: HistoryReader | None = None,
    ) -> None:
        self.watchers = watchers if watchers is not None else WatcherHub()
        """Told of every event as it is applied."""
        self.history = EventHistory(history_events_max, history_reader)
        self.watchers.history = self.history
        self.etcd_index = 0
        """Counts every change of keys, members and version, and every expiry; a function of the log."""
        self.state_hash = state_hash.NO_STATE
        """A chain over every answer so far: equal on two members that have applied the same log and agree."""
        self.cluster = ClusterState()
        """Who belongs to the cluster, and its version."""
        self.accounts = Accounts()
        """Users and roles, and whether they count."""
        self.stats = StoreStats()
        """This member's own counters, not part of the state."""
        self._tree = LiveTree()
        self._flushed_index = 0
        """The etcd_index at which the last flush began; its history need not be encoded again."""
        self._flushing_bytes = self._durable_bytes = 0
        """`history.added_bytes` when the last flush began, and when the last one began that is durable."""

    # Reading

    def get(self, path: bytes, *, recursive: bool, in_order: bool, clock_ms: int) -> Found | EtcdError:
        """The JSON of the `node` object of a GET; see `listing.py` for the form of large ones.

        Counted in `stats`. `ttl` is counted from `clock_ms`; the caller reads `etcd_index` before other work runs.
        """
        self.stats.recursive_gets += recursive
        node = self._tree.find(path, self.etcd_index)
        if isinstance(node, EtcdError):
            self.stats.gets_fail += 1
            return node
        self.stats.gets_success += 1
        if isinstance(node, File):
            return render_file(escape(path), node, clock_ms)
        listing = Listing(path, node, recursive=recursive, in_order=in_order, clock_ms=clock_ms)
        whole = listing.start()
        if whole is not None:
            return whole
        self._tree.add_listing(listing)
        return listing

    def nodes(self, clock_ms: int = 0) -> Iterator[NodeView]:
        """Every node below the root, hidden ones too, parents first, by path component; not for use across writes."""
        for node in self._tree.nodes():
            yield view_of(path_of(node), node, clock_ms)

    def next_deadline_ms(self) -> int | None:
        """When the next node is due, in the log's clock; None while no node has a TTL."""
        return self._tree.deadlines.next_deadline_ms()

    # Applying

    def apply(self, command: Command, clock_ms: int) -> Answer:
        """Apply the command of one log entry whose clock is `clock_ms`; a failure changes only the state hash."""
        answer: Event | EtcdError
        if self.accounts.enabled or type(command) is Authorized:
            admitted = self.accounts.admitted(command)
            if admitted is None:
                self.state_hash = state_hash.after_other_accounts(self.state_hash, self.etcd_index, clock_ms)
                return AccountsChanged(self.etcd_index)
            command = admitted
        if isinstance(command, Set):
            answer = self._set(command, clock_ms)
        elif isinstance(command, CompareAndSwap):
            answer = self._compare_and_swap(command, clock_ms)
        elif isinstance(command, Create):
            answer = self._create(command, clock_ms)
        elif isinstance(command, Update):
            answer = self._update(command, clock_ms)
        elif isinstance(command, Delete):
            answer = self._delete(command, clock_ms)
        elif isinstance(command, CreateInOrder):
            answer = self._create_in_order(command, clock_ms)
        elif isinstance(command, CompareAndDelete):
            answer = self._compare_and_delete(command, clock_ms)
        else:
            return self._apply_other(command, clock_ms)
        if isinstance(answer, EtcdError):
            self.state_hash = state_hash.after_error(self.state_hash, answer, clock_ms)
        self._tree.tidy()
        return answer

    def _apply_other(self, command: Command, clock_ms: int) -> Answer:
        """What is not a client's write of a key; these answers have no event that binds them in the state hash."""
        answer: Acknowledged | MembershipRefused
        digest = b""
        if isinstance(command, AccountCommand):
            changed = self.accounts.apply(command, self.etcd_index)
            self._take_indices(changed.changes)
            self.state_hash = state_hash.after_accounts(self.state_hash, changed, self.accounts.digest, clock_ms)
            if changed.changes:
                self.watchers.rights_changed()
            return changed
        if isinstance(command, Sync):
            answer = self._sync(clock_ms)
        else:
            assert isinstance(command, ClusterCommand), "what was judged is taken out, once"
            answer = self._change_cluster(command)
            digest = self.cluster.digest() if isinstance(command, MembershipCommand) else b""
        if isinstance(answer, Acknowledged):
            self.state_hash = state_hash.after_changes(
                self.state_hash, answer.changes, answer.etcd_index, clock_ms, digest
            )
        else:
            self.state_hash = state_hash.after_refusal(self.state_hash, answer, clock_ms)
        self._tree.tidy()
        return answer

    def _set(self, command: Set, clock_ms: int) -> Event | EtcdError:
        path = command.path
        value = command.value
        if command.refresh:
            found = self._tree.find(path, self.etcd_index)
            if isinstance(found, EtcdError):
                self.stats.sets_fail += 1
                return found
            value = found.value() if isinstance(found, File) else b""
        event = self._put(Action.SET, path, value, command, clock_ms, refresh=command.refresh)
        if isinstance(event, EtcdError):
            self.stats.sets_fail += 1
        else:
            self.stats.sets_success += 1
        return event

    def _create(self, command: Create, clock_ms: int) -> Event | EtcdError:
        event = self._put(Action.CREATE, command.path, command.value, command, clock_ms)
        if isinstance(event, EtcdError):
            self.stats.create_fail += 1
        else:
            self.stats.create_success += 1
        return event

    def _create_in_order(self, command: CreateInOrder, clock_ms: int) -> Event | EtcdError:
        parent = b"" if command.path == b"/" else command.path
        path = b"%b/%020d" % (parent, self.etcd_index + 1)
        event = self._put(Action.CREATE, path, command.value, command, clock_ms)
        if isinstance(event, EtcdError):
            self.stats.create_fail += 1
        else:
            self.stats.create_success += 1
        return event

    def _put(
        self,
        action: Action,
        path: bytes,
        value: bytes,
        command: Set | Create | CreateInOrder,
        clock_ms: int,
        *,
        refresh: bool = False,
    ) -> Event | EtcdError:
        """Create the node at `path` with its missing parents; SET replaces a file (etcd's internalCreate)."""
        names = path.split(b"/")
        name = names.pop()
        if not name:
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self.etcd_index)
        index = self.etcd_index + 1
        parent = self._tree.root
        for depth in range(1, len(names)):
            child = parent.children.get(names[depth])
            if child is None:
                parent = self._tree.create_parents(parent, names[depth:], index)
                break
            if isinstance(child, File):
                if action is Action.CREATE:
                    # etcd counts this failure twice, once as a set (store.go, internalCreate).
                    self.stats.sets_fail += 1
                return EtcdError(ErrorCode.NOT_DIR, b"/".join(names[: depth + 1]), self.etcd_index)
            parent = child
        old = parent.children.get(name)
        prev = None
        node_id = index
        if old is not None:
            if action is Action.CREATE:
                return EtcdError(ErrorCode.NODE_EXIST, path, self.etcd_index)
            if isinstance(old, Directory):
                return EtcdError(ErrorCode.NOT_FILE, path, self.etcd_index)
            prev = view_of(path, old, clock_ms)
            node_id = old.node_id
            name = old.name
        lifetime = lifetime_of(command, clock_ms)
        node: AnyNode
        if command.directory:
            node = Directory(node_id, parent, name, index, lifetime)
        else:
            value_json, raw = encode_value(value)
            node = File(node_id, parent, name, index, index, lifetime, value_json, raw)
        if old is None:
            self._tree.place(parent, node)
        else:
            self._tree.replace(old, node)
        return self._record(Event(action, view_of(path, node, clock_ms), prev, refresh), clock_ms)

    def _update(self, command: Update, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.update_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self.etcd_index)
        node = self._tree.find(path, self.etcd_index)
        if isinstance(node, EtcdError):
            stats.update_fail += 1
            return node
        stats.update_success += 1
        if isinstance(node, File):
            return self._rewrite(Action.UPDATE, path, node, command, clock_ms)
        if command.value:
            return EtcdError(ErrorCode.NOT_FILE, path, self.etcd_index)
        prev = view_of(path, node, clock_ms)
        lifetime = lifetime_of(command, clock_ms)
        self._tree.change_lifetime(node, lifetime)
        # The event shows a new modifiedIndex, the directory keeps the old one (contract A.5).
        view = view_of(path, node, clock_ms)
        view.modified_index = self.etcd_index + 1
        return self._record(Event(Action.UPDATE, view, prev, command.refresh), clock_ms)

    def _rewrite(
        self, action: Action, path: bytes, old: File, command: Update | CompareAndSwap, clock_ms: int
    ) -> Event:
        """Put a file with new value and TTL in the place of `old`; createdIndex stays."""
        index = self.etcd_index + 1
        lifetime = lifetime_of(command, clock_ms)
        value_json, raw = (old.value_json, old.raw) if command.refresh else encode_value(command.value)
        prev = view_of(path, old, clock_ms)
        parent = old.parent
        assert parent is not None
        node = File(old.node_id, parent, old.name, old.created_index, index, lifetime, value_json, raw)
        self._tree.replace(old, node)
        return self._record(Event(action, view_of(path, node, clock_ms), prev, command.refresh), clock_ms)

    def _compare_and_swap(self, command: CompareAndSwap, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.compare_and_swap_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self.etcd_index)
        node = self._find_comparable(path, command.prev_value, command.prev_index)
        if isinstance(node, EtcdError):
            stats.compare_and_swap_fail += 1
            return node
        stats.compare_and_swap_success += 1
        return self._rewrite(Action.COMPARE_AND_SWAP, path, node, command, clock_ms)

    def _compare_and_delete(self, command: CompareAndDelete, clock_ms: int) -> Event | EtcdError:
        node = self._find_comparable(command.path, command.prev_value, command.prev_index)
        if isinstance(node, EtcdError):
            if node.code in (ErrorCode.KEY_NOT_FOUND, ErrorCode.NOT_DIR):
                self.stats.compare_and_delete_fail += 1
            else:
                self.stats.compare_and_delete_success += 1
            return node
        self.stats.compare_and_delete_success += 1
        return self._remove(Action.COMPARE_AND_DELETE, command.path, node, clock_ms)

    def _find_comparable(self, path: bytes, prev_value: bytes | None, prev_index: int) -> File | EtcdError:
        """The file at `path` if it meets the conditions."""
        node = self._tree.find(path, self.etcd_index)
        if isinstance(node, EtcdError):
            return node
        if isinstance(node, Directory):
            # etcd names its internal root `/1` and cuts that off, which leaves nothing of the root (contract A.6).
            return EtcdError(ErrorCode.NOT_FILE, b"" if path == b"/" else path, self.etcd_index)
        if cause := compare_cause(node, prev_value, prev_index):
            return EtcdError(ErrorCode.TEST_FAILED, cause, self.etcd_index)
        return node

    def _delete(self, command: Delete, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.delete_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self.etcd_index)
        node = self._tree.find(path, self.etcd_index)
        if not isinstance(node, EtcdError) and isinstance(node, Directory):
            if not (command.directory or command.recursive):
                node = EtcdError(ErrorCode.NOT_FILE, path, self.etcd_index)
            elif node.children and not command.recursive:
                node = EtcdError(ErrorCode.DIR_NOT_EMPTY, path, self.etcd_index)
        if isinstance(node, EtcdError):
            stats.delete_fail += 1
            return node
        stats.delete_success += 1
        return self._remove(Action.DELETE, path, node, clock_ms)

    def _sync(self, clock_ms: int) -> Acknowledged:
        changes = 0
        while changes < SYNC_EXPIRES_MAX and (due := self._tree.deadlines.pop_due(clock_ms)) is not None:
            node, path = due
            self._remove(Action.EXPIRE, path, node, clock_ms)
            changes += 1
        self.stats.expire_count += changes
        return Acknowledged(changes, self.etcd_index)

    def _change_cluster(self, command: ClusterCommand) -> Acknowledged | MembershipRefused:
        """Take one index for each change, with an event in the history that nobody sees, as in etcd.

        etcd has no history size, so that takes none: a new cluster of n stands at 2n + 1 whatever its size is.
        """
        if isinstance(command, SetHistorySize | SetHistorySizeAtIndex):
            changes = int(self.history.events_max != max(command.events_max, 1))
            self.history.set_events_max(max(command.events_max, 1))
            if isinstance(command, SetHistorySize):
                return Acknowledged(changes, self.etcd_index)
        elif isinstance(command, SetClusterVersion):
            changes = self.cluster.set_version(command)
        elif isinstance(command, MembershipCommand):
            outcome = self.cluster.change(command)
            if isinstance(outcome, Refusal):
                return MembershipRefused(outcome, self.etcd_index)
            changes = outcome
        else:
            changes = self.cluster.publish(command)
        self._take_indices(changes)
        return Acknowledged(changes, self.etcd_index)

    def _take_indices(self, changes: int) -> None:
        for _ in range(changes):
            self.etcd_index += 1
            self.history.add(internal_event(self.etcd_index))

    def compared_hash(self) -> bytes:
        """What members compare: `state_hash`, then the hash of all nodes, unless removed ones are not all counted yet.

        The first is a function of the answers so far, the second of what memory holds; with users and roles, if there
        are any, between them.
        """
        return self.state_hash + self.accounts.digest + self._tree.node_sum()

    # Flushing and restoring

    def begin_changes(self) -> PendingChanges:
        """Everything that has changed since the previous call, as of now, to be encoded in slices.

        One at a time: the previous one must have been encoded to its end.
        """
        history = self.history
        meta = Meta(
            etcd_index=self.etcd_index,
            state_hash=self.state_hash,
            cluster=self.cluster.copy(),
            history_events_max=history.events_max,
            history_floor=history.floor,
            history_block_bytes=dict(history.block_bytes),
            accounts=self.accounts.to_json(),
        )
        unflushed = history.unflushed(self._flushed_index)
        self._flushed_index = self.etcd_index
        self._flushing_bytes = history.added_bytes
        return self._tree.begin_changes(self.etcd_index, unflushed, history.floor, meta)

    def mark_durable(self, etcd_index: int) -> None:
        """The changes begun at `etcd_index` are stored: history up to there may be read back from disk."""
        self.history.mark_durable(etcd_index)
        self._durable_bytes = self._flushing_bytes

    @property
    def unflushed_bytes(self) -> int:
        """Bytes of the events that are not durable yet, about."""
        return self.history.added_bytes - self._durable_bytes

    def load(self, image: StateImage) -> None:
        """`begin_load` and all its slices at once."""
        loading = self.begin_load(image)
        while loading.load_some():
            pass

    def begin_load(self, image: StateImage) -> Loading:
        """Take over a stored state, in slices, into this keyspace, which must be new."""
        assert self.etcd_index == 0
        newest_max = None if self.history.reader is None else MEMORY_MAX
        return Loading(image, self._tree.root, newest_max, self._tree.deadlines.add, self._restore)

    def succeed(self, other: "Keyspace") -> None:
        """Take over the watchers and counters of the keyspace that this one, just loaded, replaces (snapshot install).

        Call `watchers.catch_up` until it returns False, for the events in between.
        """
        self.stats = other.stats
        self.watchers = other.watchers
        self.watchers.resume_after_install(self.history)

    def _restore(self, meta: Meta, newest: list[Event], node_sum: int) -> None:
        """Everything but the tree, once that is built."""
        self.history.events_max = meta.history_events_max
        self.history.restore(meta.history_floor, meta.etcd_index, meta.history_block_bytes, newest)
        self.etcd_index = meta.etcd_index
        self.state_hash = meta.state_hash
        self.cluster = meta.cluster
        if meta.accounts:
            self.accounts = decode_accounts(meta.accounts)
        self._flushed_index = meta.etcd_index
        self._tree.restore(meta.etcd_index, node_sum)

    # What every change comes to

    def _remove(self, action: Action, path: bytes, node: AnyNode, clock_ms: int) -> Event:
        """Take a node out of the tree, a directory with everything below it, as one event."""
        view = NodeView(path, isinstance(node, Directory), None, 0, 0, self.etcd_index + 1, node.created_index)
        event = Event(action, view, view_of(path, node, clock_ms), refresh=False)
        doomed = _NOTHING_DOOMED
        if self.watchers.has_live and isinstance(node, Directory):
            doomed = self.watchers.doomed_below(path, node)
        self._tree.detach(node)
        return self._record(event, clock_ms, doomed)

    def _record(self, event: Event, clock_ms: int, doomed: list[WatchPoint] = _NOTHING_DOOMED) -> Event:
        """Count, hash, remember and publish an event; `doomed` is what the hub gave before a removal."""
        self.etcd_index = event.node.modified_index
        self.state_hash = state_hash.after_event(self.state_hash, event, clock_ms)
        self.history.add(event)
        if self.watchers.has_live:
            self.watchers.publish(event, doomed)
        return event
