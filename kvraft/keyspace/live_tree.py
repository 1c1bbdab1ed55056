"""The tree and what hangs on it: deadlines, nodes to be flushed, removed subtrees, open listings.

Every change of the tree goes through here, so that none of them is forgotten.
"""

from collections.abc import Iterator
from typing import final

from kvraft.keyspace.account_records import ChangedAccounts
from kvraft.keyspace.changes import PendingChanges
from kvraft.keyspace.dirty_state import DirtyState
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.expiry import Deadlines
from kvraft.keyspace.listing import Listing
from kvraft.keyspace.node_hash import node_hash, sum_bytes
from kvraft.keyspace.records import Meta
from kvraft.keyspace.removal import SLICE_NODES, RemovedSubtrees
from kvraft.keyspace.tree import ORDINAL_MAX, ORDINAL_SHIFT, ROOT_ID, AnyNode, Directory, File, Lifetime


@final
class LiveTree:
    """The applied tree of one member."""

    def __init__(self) -> None:
        self.root = Directory(ROOT_ID, None, b"", 0, None)
        self.deadlines = Deadlines()
        self._dirty = DirtyState(0)
        self._flushed_sum = 0
        """The sum of the hashes of all nodes when the last flush began that is encoded."""
        self._removed_subtrees = RemovedSubtrees(self._withdraw, self._preserve)
        self._pending_changes: PendingChanges | None = None
        self._listings: list[Listing] = []

    def find(self, path: bytes, etcd_index: int) -> AnyNode | EtcdError:
        """The node at `path`, or why there is none, naming the first component in the way (etcd's internalGet)."""
        node: AnyNode = self.root
        if path == b"/":
            return node
        names = path.split(b"/")
        for depth in range(1, len(names)):
            if isinstance(node, File):
                return EtcdError(ErrorCode.NOT_DIR, b"/".join(names[:depth]), etcd_index)
            child = node.children.get(names[depth])
            if child is None:
                return EtcdError(ErrorCode.KEY_NOT_FOUND, b"/".join(names[: depth + 1]), etcd_index)
            node = child
        return node

    def nodes(self) -> Iterator[AnyNode]:
        """Every node below the root, hidden ones too, parents first, siblings by name."""
        stack: list[AnyNode] = [self.root]
        while stack:
            node = stack.pop()
            if node is not self.root:
                yield node
            if isinstance(node, Directory):
                stack.extend(node.children[name] for name in sorted(node.children, reverse=True))

    def create_parents(self, parent: Directory, names: list[bytes], index: int) -> Directory:
        """Permanent directories down to the last of `names`, which is returned; they get no event (contract A.6)."""
        ordinal = len(names)
        assert ordinal <= ORDINAL_MAX, "request lines are limited to fewer components"
        for name in names:
            # A parent's ordinal is above its child's, which `loading.py` relies on to rule out cycles.
            directory = Directory(ordinal << ORDINAL_SHIFT | index, parent, name, index, None)
            self.place(parent, directory)
            parent = directory
            ordinal -= 1
        return parent

    def place(self, parent: Directory, node: AnyNode) -> None:
        """Make `node` the child of that name."""
        self._dirty.node_sum += node_hash(node)
        self._put(parent, node)

    def replace(self, old: File, node: AnyNode) -> None:
        """Put `node`, which has the same parent, name and id, in the place of `old`."""
        if old.lifetime is not None:
            self.deadlines.discard(old, old.lifetime.deadline_ms)
        parent = node.parent
        assert parent is not None
        self._dirty.node_sum += node_hash(node) - node_hash(old)
        self._put(parent, node)

    def _put(self, parent: Directory, node: AnyNode) -> None:
        if self._listings:
            self._preserve(parent)
        parent.children[node.name] = node
        self._dirty.nodes[node.node_id] = node
        if node.lifetime is not None:
            self.deadlines.add(node)

    def detach(self, node: AnyNode) -> None:
        """Take a node out of the tree in one step, whatever is below it; that is taken apart in slices."""
        parent = node.parent
        assert parent is not None
        if self._listings:
            self._preserve(parent)
        del parent.children[node.name]
        if isinstance(node, Directory) and node.children:
            self._removed_subtrees.add(node, self._dirty)
            self.deadlines.subtree_removed()
        else:
            self._dirty.remove(node)
            self._withdraw(node)

    def change_lifetime(self, directory: Directory, lifetime: Lifetime | None) -> None:
        """Give a directory another TTL, or none: the one change that is made in place."""
        if self._pending_changes is not None:
            self._pending_changes.preserve(directory)
        for listing in self._listings:
            listing.preserve_lifetime(directory)
        self._withdraw(directory)
        dirty = self._dirty
        dirty.node_sum -= node_hash(directory)
        directory.lifetime = lifetime
        dirty.node_sum += node_hash(directory)
        dirty.nodes[directory.node_id] = directory
        if lifetime is not None:
            self.deadlines.add(directory)

    def tidy(self) -> None:
        """Take a slice of what was removed apart; called after each command."""
        if self._removed_subtrees:
            self._removed_subtrees.take_apart(SLICE_NODES)

    def add_listing(self, listing: Listing) -> None:
        """From now on tell `listing` before anything changes that it may still read, until it is closed."""
        self._listings = [other for other in self._listings if other.open]
        self._listings.append(listing)

    def node_sum(self) -> bytes:
        """The hash of all nodes; empty while removed subtrees are being taken apart, since it is not known then."""
        if self._removed_subtrees:
            return b""
        pending = 0 if self._pending_changes is None else self._pending_changes.node_sum
        return sum_bytes(self._flushed_sum + pending + self._dirty.node_sum)

    def begin_changes(
        self, etcd_index: int, history: list[Event], history_floor: int, meta: Meta, accounts: ChangedAccounts
    ) -> PendingChanges:
        """What has changed since the previous call, as of now; the previous one must be encoded to its end."""
        assert self._pending_changes is None
        pending = PendingChanges(
            etcd_index, self._dirty, self._removed_subtrees, history, history_floor, meta, accounts, self._end_changes
        )
        self._dirty = DirtyState(etcd_index)
        self._pending_changes = pending
        return pending

    def _end_changes(self) -> bytes:
        assert self._pending_changes is not None
        self._flushed_sum += self._pending_changes.node_sum
        self._pending_changes = None
        return sum_bytes(self._flushed_sum)

    def restore(self, etcd_index: int, node_sum: int) -> None:
        """Root and deadlines were filled from a stored state as of `etcd_index`; the hashes of its nodes are summed."""
        self._dirty = DirtyState(etcd_index)
        self._flushed_sum = node_sum

    def _preserve(self, directory: Directory) -> None:
        """Tell open listings that a directory's children are about to change."""
        self._listings = [listing for listing in self._listings if listing.open]
        for listing in self._listings:
            listing.preserve(directory)

    def _withdraw(self, node: AnyNode) -> None:
        if node.lifetime is not None:
            self.deadlines.discard(node, node.lifetime.deadline_ms)
