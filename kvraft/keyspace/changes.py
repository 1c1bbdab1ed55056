"""A flush: what has changed since the previous one as records, encoded in slices while commands go on.

Files never change, so the nodes collected at the start are a snapshot by themselves.
A directory whose TTL is about to change is encoded first (`PendingChanges.preserve`).
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.account_records import ChangedAccounts
from kvraft.keyspace.dirty_state import DirtyState
from kvraft.keyspace.events import Event
from kvraft.keyspace.records import Meta, encode_event, encode_key, encode_meta, encode_node
from kvraft.keyspace.removal import RemovedSubtrees
from kvraft.keyspace.state_records import StateChanges
from kvraft.keyspace.tree import Directory

SLICE_RECORDS: Final = 250
"""Records encoded in one slice by default, each KiB of them counting as one more: a fraction of a millisecond, as every
request that is under way waits for it in each turn of the loop."""


@final
class PendingChanges:
    """One flush in the making. Made by `Keyspace.begin_changes`."""

    def __init__(
        self,
        etcd_index: int,
        dirty: DirtyState,
        removed_subtrees: RemovedSubtrees,
        history: list[Event],
        history_floor: int,
        meta: Meta,
        accounts: ChangedAccounts,
        on_finished: Callable[[], bytes],
    ) -> None:
        self.etcd_index = etcd_index
        """The state's index when the flush began; give it to `Keyspace.mark_durable` once stored."""
        self.changes = StateChanges(
            history_floor=history_floor,
            accounts=[(encode_key(key), record) for key, record in accounts[0]],
            removed_accounts=[encode_key(key) for key in accounts[1]],
        )
        """Complete once `encode_some` has returned False."""
        self._on_finished = on_finished
        """Called once when all is encoded, so that nobody keeps the records after they are stored; gives the sum of all
        nodes then on disk, which is not known before, since removed subtrees are taken apart only now."""
        self._meta = meta
        self._dirty = dirty
        self._removed_subtrees = removed_subtrees
        self._history = deque(history)

    @property
    def node_sum(self) -> int:
        """What these changes come to in the sum of all nodes' hashes."""
        return self._dirty.node_sum

    def encode_some(self, records_max: int = SLICE_RECORDS) -> bool:
        """Encode up to `records_max` records, fewer if they are large; True if more are left."""
        left = records_max
        while self._removed_subtrees.waiting_for(self._dirty):
            if left <= 0:
                return True
            left -= self._removed_subtrees.take_apart(left)
        nodes = self._dirty.nodes
        while nodes and left > 0:
            node_id, node = nodes.popitem()
            record = encode_node(node)
            self.changes.nodes.append((encode_key(node_id), record))
            left -= 1 + (len(record) >> 10)
        removed = self._dirty.removed
        while removed and left > 0:
            self.changes.removed_nodes.append(encode_key(removed.pop()))
            left -= 1
        history = self._history
        while history and left > 0:
            event = history.popleft()
            record = encode_event(event)
            self.changes.history.append((encode_key(event.node.modified_index), record))
            left -= 1 + (len(record) >> 10)
        if nodes or removed or history:
            return True
        self._meta.node_sum = self._on_finished()
        self.changes.meta = encode_meta(self._meta)
        return False

    def preserve(self, directory: Directory) -> None:
        """The directory's TTL is about to change: encode it as it is."""
        if self._dirty.nodes.pop(directory.node_id, None) is not None:
            self.changes.nodes.append((encode_key(directory.node_id), encode_node(directory)))
