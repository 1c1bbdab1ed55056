"""A stored state taken over in slices: node records in any order, users and roles, then the newest history.

Storage has verified the bytes; here they must also make a tree, or the member must not serve them.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, final

from kvraft.keyspace.accounts import Accounts
from kvraft.keyspace.events import Event
from kvraft.keyspace.node_hash import node_hash, sum_bytes
from kvraft.keyspace.records import (
    Meta,
    NodeRecord,
    RecordError,
    decode_event,
    decode_key,
    decode_meta,
    decode_node,
)
from kvraft.keyspace.state_records import StateImage
from kvraft.keyspace.tree import INDEX_MASK, ROOT_ID, AnyNode, Directory, File

SLICE_RECORDS: Final = 5000
"""Records taken in one slice by default, each KiB of them counting as one more: some 10 ms."""


@final
class Loading:
    """One load in the making. Made by `Keyspace.begin_load`."""

    def __init__(
        self,
        image: StateImage,
        root: Directory,
        newest_max: tuple[int, int] | None,
        add_deadline: Callable[[AnyNode], None],
        restore: Callable[[Meta, list[Event], int, Accounts], None],
    ) -> None:
        """`newest_max`: how many events, and bytes of them, are taken over; None for all, as nobody reads them back."""
        self._add_deadline = add_deadline
        """Called with each node that has a TTL."""
        self._restore = restore
        """Called once with everything else when the tree is complete."""
        self._meta = decode_meta(image.meta) if image.meta else None
        self._nodes = image.nodes
        self._account_records = image.accounts
        self._accounts = _begun(self._meta.accounts) if self._meta and self._meta.accounts else Accounts()
        self._history = image.history
        self._directories: dict[int, Directory] = {ROOT_ID: root}
        self._waiting: dict[int, list[AnyNode]] = {}
        """Nodes whose parent has not come yet, by its id: most, since parents made on the way have large ids."""
        self._came_late: list[tuple[Directory, list[AnyNode]]] = []
        """Directories that have come since, with the nodes that waited for them."""
        self._node_sum = 0
        """The hashes of all nodes that stand in the tree."""
        self._last_id = ROOT_ID
        self._seen: set[int] | None = None
        """Every id so far; None while they have come in ascending order, as storage gives them."""
        self._nodes_done = False
        self._accounts_done = False
        self._next_event = self._meta.history_floor if self._meta else 0
        """The etcd_index that comes next: the history has no gap from its floor on."""
        self._newest: deque[tuple[bytes, bytes]] = deque()
        self._newest_bytes = 0
        self._newest_max = newest_max

    def load_some(self, records_max: int = SLICE_RECORDS) -> bool:
        """Take up to `records_max` records, fewer if they are large; True if more are left.

        Raises:
            RecordError: a record, or the whole, makes no sense. The keyspace is then useless.
        """
        if self._meta is None:
            self._expect_nothing()
            return False
        left = records_max
        if not self._nodes_done:
            for key, record in self._nodes:
                self._take_node(decode_key(key), decode_node(record), self._meta.etcd_index)
                left -= 1 + (len(record) >> 10)
                if left <= 0:
                    return True
            left = self._attach_late(left)
            if left <= 0:
                return True
            self._nodes_done = True
            self._expect_complete()
        if not self._accounts_done:
            for key, record in self._account_records:
                self._take_account(decode_key(key), record)
                left -= 1 + (len(record) >> 10)
                if left <= 0:
                    return True
            self._accounts_done = True
            self._expect_all_accounts()
        for event in self._history:
            self._keep(event)
            left -= 1 + (len(event[1]) >> 10)
            if left <= 0:
                return True
        events = [decode_event(decode_key(key), record) for key, record in self._newest]
        self._restore(self._meta, events, self._node_sum, self._accounts)
        return False

    def _keep(self, event: tuple[bytes, bytes]) -> None:
        """Take the next event for now, and let go of what is no more among the newest."""
        if (index := decode_key(event[0])) != self._next_event:
            message = f"stored history has index {index} where {self._next_event} belongs"
            raise RecordError(message)
        self._next_event += 1
        self._newest.append(event)
        self._newest_bytes += len(event[1])
        if self._newest_max is None:
            return
        events_max, bytes_max = self._newest_max
        while len(self._newest) > events_max or (self._newest_bytes > bytes_max and len(self._newest) > 1):
            _, record = self._newest.popleft()
            self._newest_bytes -= len(record)

    def _take_node(self, node_id: int, record: NodeRecord, etcd_index: int) -> None:
        created_index, lifetime = record.created_index, record.lifetime
        indices_fit = 0 < (node_id & INDEX_MASK) <= created_index <= record.modified_index <= etcd_index and (
            not record.directory or created_index == record.modified_index
        )
        if not indices_fit or self._is_doubled(node_id):
            message = f"node {node_id} {record.name!r:.80}: doubled, or impossible indices at etcd_index {etcd_index}"
            raise RecordError(message)
        if created_index == node_id:
            # One integer object for both, and for the modifiedIndex of what was written once.
            created_index = node_id
        modified_index = created_index if record.modified_index == created_index else record.modified_index
        parent = self._directories.get(record.parent_id)
        # Until the parent comes, the root stands for it.
        owner = parent if parent is not None else self._directories[ROOT_ID]
        node: AnyNode
        if record.directory:
            node = Directory(node_id, owner, record.name, created_index, lifetime)
            self._directories[node_id] = node
            if node_id in self._waiting:
                self._came_late.append((node, self._waiting.pop(node_id)))
        else:
            node = File(
                node_id,
                owner,
                record.name,
                created_index,
                modified_index,
                record.lifetime,
                record.value_json,
                record.raw,
            )
        if lifetime is not None:
            self._add_deadline(node)
        if parent is None:
            self._waiting.setdefault(record.parent_id, []).append(node)
        else:
            self._attach(node, parent)

    def _attach_late(self, left: int) -> int:
        """Attach up to `left` nodes whose directories came after them; returns what is left of `left`."""
        while self._came_late and left > 0:
            directory, children = self._came_late[-1]
            while children and left > 0:
                self._attach(children.pop(), directory)
                left -= 1
            if not children:
                self._came_late.pop()
        return left

    def _is_doubled(self, node_id: int) -> bool:
        """Whether this id has come before."""
        if self._seen is None:
            if node_id > self._last_id:
                self._last_id = node_id
                return False
            self._seen = {node.node_id for node in self._nodes_so_far()}
        if node_id in self._seen:
            return True
        self._seen.add(node_id)
        return False

    def _nodes_so_far(self) -> Iterator[AnyNode]:
        stack: list[AnyNode] = [self._directories[ROOT_ID]]
        stack.extend(node for nodes in self._waiting.values() for node in nodes)
        stack.extend(node for _, nodes in self._came_late for node in nodes)
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, Directory):
                stack.extend(node.children.values())

    def _attach(self, node: AnyNode, parent: Directory) -> None:
        """Make `node` a child, if it can be one.

        A parent is created before its child, or with it and then has the larger ordinal in its id (see `keyspace.py`),
        so nodes that pass can form no cycle.
        """
        if node.name in parent.children:
            message = f"node {node.node_id} {node.name!r:.80}: its directory {parent.node_id} has that name already"
            raise RecordError(message)
        older = parent.created_index < node.created_index
        if not older and not (parent.created_index == node.created_index and parent.node_id > node.node_id):
            message = f"node {node.node_id} {node.name!r:.80} is older than its directory {parent.node_id}"
            raise RecordError(message)
        node.parent = parent
        parent.children[node.name] = node
        self._node_sum += node_hash(node)

    def _take_account(self, key: int, record: bytes) -> None:
        try:
            self._accounts.load(key, record)
        except (ValueError, TypeError, RecursionError) as error:
            message = f"record {key} of users and roles: {error!r:.200}"
            raise RecordError(message) from error

    def _expect_all_accounts(self) -> None:
        try:
            self._accounts.expect_complete()
        except ValueError as error:
            raise RecordError(str(error)) from error

    def _expect_complete(self) -> None:
        if self._waiting:
            parent_id, orphans = next(iter(self._waiting.items()))
            message = f"{len(self._waiting)} directories are missing, such as {parent_id} of {orphans[0].name!r:.80}"
            raise RecordError(message)
        assert self._meta is not None
        loaded = sum_bytes(self._node_sum)
        if self._meta.node_sum not in (b"", loaded):
            message = (
                f"the nodes add up to {loaded.hex()}, and not to {self._meta.node_sum.hex()} as when they were stored"
            )
            raise RecordError(message)

    def _expect_nothing(self) -> None:
        if any(next(each, None) is not None for each in (self._nodes, self._history, self._account_records)):
            message = "records of nodes, history or accounts without a meta record"
            raise RecordError(message)


def _begun(head: str) -> Accounts:
    try:
        return Accounts.from_head(json.loads(head))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        # Not RecursionError: it has been parsed before, and with a limit that is no lower.
        message = f"users and roles in the meta record: {error!r:.200}"
        raise RecordError(message) from error
