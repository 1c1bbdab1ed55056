"""What clients' commands do to the tree: the operations of etcd's v2 store.

Rules, causes and the order of checks are those of etcd v3.4 etcdserver/api/v2store/store.go.
"""

from typing import Final, final

from kvraft.keyspace.answers import Acknowledged
from kvraft.keyspace.chronicle import NOTHING_DOOMED, Chronicle
from kvraft.keyspace.commands import (
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Update,
)
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.json_text import encode_value
from kvraft.keyspace.live_tree import LiveTree
from kvraft.keyspace.stats import StoreStats
from kvraft.keyspace.tree import AnyNode, Directory, File
from kvraft.keyspace.views import compare_cause, lifetime_of, view_of

SYNC_EXPIRES_MAX: Final = 4096
"""Nodes that one Sync expires at most, some 20 ms; the next Sync takes the rest, since they are still due."""


@final
class Store:
    """The tree under its commands."""

    def __init__(self, tree: LiveTree, chronicle: Chronicle) -> None:
        self.stats = StoreStats()
        """This member's own counters, not part of the state."""
        self._tree = tree
        self._chronicle = chronicle

    def apply(self, command: Command, clock_ms: int) -> Event | EtcdError | None:
        """Carry a client's write of a key out; None for every other command."""
        if isinstance(command, Set):
            return self._set(command, clock_ms)
        if isinstance(command, CompareAndSwap):
            return self._compare_and_swap(command, clock_ms)
        if isinstance(command, Create):
            return self._create(command, clock_ms)
        if isinstance(command, Update):
            return self._update(command, clock_ms)
        if isinstance(command, Delete):
            return self._delete(command, clock_ms)
        if isinstance(command, CreateInOrder):
            return self._create_in_order(command, clock_ms)
        if isinstance(command, CompareAndDelete):
            return self._compare_and_delete(command, clock_ms)
        return None

    def _set(self, command: Set, clock_ms: int) -> Event | EtcdError:
        path = command.path
        value = command.value
        if command.refresh:
            found = self._tree.find(path, self._chronicle.etcd_index)
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
        path = b"%b/%020d" % (parent, self._chronicle.etcd_index + 1)
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
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self._chronicle.etcd_index)
        index = self._chronicle.etcd_index + 1
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
                return EtcdError(ErrorCode.NOT_DIR, b"/".join(names[: depth + 1]), self._chronicle.etcd_index)
            parent = child
        old = parent.children.get(name)
        prev = None
        node_id = index
        if old is not None:
            if action is Action.CREATE:
                return EtcdError(ErrorCode.NODE_EXIST, path, self._chronicle.etcd_index)
            if isinstance(old, Directory):
                return EtcdError(ErrorCode.NOT_FILE, path, self._chronicle.etcd_index)
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
        return self._chronicle.record(Event(action, view_of(path, node, clock_ms), prev, refresh), clock_ms)

    def _update(self, command: Update, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.update_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self._chronicle.etcd_index)
        node = self._tree.find(path, self._chronicle.etcd_index)
        if isinstance(node, EtcdError):
            stats.update_fail += 1
            return node
        stats.update_success += 1
        if isinstance(node, File):
            return self._rewrite(Action.UPDATE, path, node, command, clock_ms)
        if command.value:
            return EtcdError(ErrorCode.NOT_FILE, path, self._chronicle.etcd_index)
        prev = view_of(path, node, clock_ms)
        lifetime = lifetime_of(command, clock_ms)
        self._tree.change_lifetime(node, lifetime)
        # The event shows a new modifiedIndex, the directory keeps the old one (contract A.5).
        view = view_of(path, node, clock_ms)
        view.modified_index = self._chronicle.etcd_index + 1
        return self._chronicle.record(Event(Action.UPDATE, view, prev, command.refresh), clock_ms)

    def _rewrite(
        self, action: Action, path: bytes, old: File, command: Update | CompareAndSwap, clock_ms: int
    ) -> Event:
        """Put a file with new value and TTL in the place of `old`; createdIndex stays."""
        index = self._chronicle.etcd_index + 1
        lifetime = lifetime_of(command, clock_ms)
        value_json, raw = (old.value_json, old.raw) if command.refresh else encode_value(command.value)
        prev = view_of(path, old, clock_ms)
        parent = old.parent
        assert parent is not None
        node = File(old.node_id, parent, old.name, old.created_index, index, lifetime, value_json, raw)
        self._tree.replace(old, node)
        return self._chronicle.record(Event(action, view_of(path, node, clock_ms), prev, command.refresh), clock_ms)

    def _compare_and_swap(self, command: CompareAndSwap, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.compare_and_swap_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self._chronicle.etcd_index)
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
        node = self._tree.find(path, self._chronicle.etcd_index)
        if isinstance(node, EtcdError):
            return node
        if isinstance(node, Directory):
            # etcd names its internal root `/1` and cuts that off, which leaves nothing of the root (contract A.6).
            return EtcdError(ErrorCode.NOT_FILE, b"" if path == b"/" else path, self._chronicle.etcd_index)
        if cause := compare_cause(node, prev_value, prev_index):
            return EtcdError(ErrorCode.TEST_FAILED, cause, self._chronicle.etcd_index)
        return node

    def _delete(self, command: Delete, clock_ms: int) -> Event | EtcdError:
        path = command.path
        stats = self.stats
        if path == b"/":
            stats.delete_success += 1
            return EtcdError(ErrorCode.ROOT_READ_ONLY, b"/", self._chronicle.etcd_index)
        node = self._tree.find(path, self._chronicle.etcd_index)
        if not isinstance(node, EtcdError) and isinstance(node, Directory):
            if not (command.directory or command.recursive):
                node = EtcdError(ErrorCode.NOT_FILE, path, self._chronicle.etcd_index)
            elif node.children and not command.recursive:
                node = EtcdError(ErrorCode.DIR_NOT_EMPTY, path, self._chronicle.etcd_index)
        if isinstance(node, EtcdError):
            stats.delete_fail += 1
            return node
        stats.delete_success += 1
        return self._remove(Action.DELETE, path, node, clock_ms)

    def sync(self, clock_ms: int) -> Acknowledged:
        """Expire what is due."""
        changes = 0
        while changes < SYNC_EXPIRES_MAX and (due := self._tree.deadlines.pop_due(clock_ms)) is not None:
            node, path = due
            self._remove(Action.EXPIRE, path, node, clock_ms)
            changes += 1
        self.stats.expire_count += changes
        return Acknowledged(changes, self._chronicle.etcd_index)

    def _remove(self, action: Action, path: bytes, node: AnyNode, clock_ms: int) -> Event:
        """Take a node out of the tree, a directory with everything below it, as one event."""
        index = self._chronicle.etcd_index + 1
        view = NodeView(path, isinstance(node, Directory), None, 0, 0, index, node.created_index)
        event = Event(action, view, view_of(path, node, clock_ms), refresh=False)
        doomed = NOTHING_DOOMED
        if self._chronicle.watchers.has_live and isinstance(node, Directory):
            doomed = self._chronicle.watchers.doomed_below(path, node)
        self._tree.detach(node)
        return self._chronicle.record(event, clock_ms, doomed)
