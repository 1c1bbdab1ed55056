"""etcd's v2 store again: a snapshot and the commands behind it, by kvraft's own rules for each.

etcd keeps three trees under one counter: `/0` the cluster, `/1` the keys, `/2` the accounts.
Here the keys are one `Store`, so that their root is a root, and the other two are another; both count on one
`Chronicle`. Its clock counts nanoseconds, as etcd's expiry does.
"""

import itertools
import json
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, final

from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import ROOT, Role, User
from kvraft.keyspace.chronicle import Chronicle
from kvraft.keyspace.cluster import ClusterMember
from kvraft.keyspace.commands import Command, Create, Delete, Update
from kvraft.keyspace.event_history import EventHistory
from kvraft.keyspace.json_text import encode_value
from kvraft.keyspace.live_tree import LiveTree
from kvraft.keyspace.store import Store
from kvraft.keyspace.tree import AnyNode, Directory, File, Lifetime, path_of
from kvraft.keyspace.watchers import WatcherHub
from kvraft.migration.contents import Contents, Node, parent_of
from kvraft.migration.etcd_entries import ADD, ADD_LEARNER, MOVE, REMOVE, Ask, Asked, ChangeMember, Expire
from kvraft.migration.etcd_snapshot import EtcdSnapshot

_KEYS: Final = b"/1"
_NODE_IDS: Final = 1 << 63
"""Ids from here on are for nodes of a snapshot, beyond those that the store gives by index; they name nothing here."""


@final
class EtcdReplay:
    """A v2 store in the making."""

    def __init__(self) -> None:
        self._chronicle = Chronicle(WatcherHub(), EventHistory(events_max=1))
        self._keys_tree, self._own_tree = LiveTree(), LiveTree()
        self._keys = Store(self._keys_tree, self._chronicle)
        self._own = Store(self._own_tree, self._chronicle)
        self._node_ids = itertools.count(_NODE_IDS)
        self._load([Node(b"/0", None), Node(_KEYS, None)])

    @property
    def etcd_index(self) -> int:
        """The store's index."""
        return self._chronicle.etcd_index

    def restore(self, snapshot: EtcdSnapshot) -> None:
        """Begin from a snapshot."""
        self._keys_tree, self._own_tree = LiveTree(), LiveTree()
        self._keys = Store(self._keys_tree, self._chronicle)
        self._own = Store(self._own_tree, self._chronicle)
        self._load(snapshot.nodes)
        self._chronicle.history.restore(snapshot.etcd_index + 1, snapshot.etcd_index, {}, [])
        self._chronicle.etcd_index = snapshot.etcd_index

    def apply(self, asked: Asked) -> None:
        """Do what an entry asks; what etcd refused is refused again."""
        if isinstance(asked, Ask):
            command = asked.command
            path = _clean(command.path)
            is_key = path == _KEYS or path.startswith(b"/1/")
            if is_key:
                self._do(self._keys, replace(command, path=path[len(_KEYS) :] or b"/"), asked.expiration_ns)
            elif path not in (b"/", b"/0"):
                self._do(self._own, replace(command, path=path), asked.expiration_ns)
        elif isinstance(asked, Expire):
            while self._keys.sync(asked.time_ns).changes:
                self._keys_tree.tidy()
        elif isinstance(asked, ChangeMember):
            self._change_member(asked)

    def contents(self) -> Contents:
        """Everything, as it is now."""
        own = {node.path: node for node in _nodes_of(self._own_tree)}
        contents = Contents(self.etcd_index, list(_nodes_of(self._keys_tree)))
        contents.members, contents.removed_ids = dict(self._members()), set(self._removed_ids())
        version = own.get(b"/0/version")
        contents.version = (version.value or b"").decode() if version else ""
        enabled = own.get(b"/2/enabled")
        contents.auth_enabled = enabled is not None and enabled.value == b"true"
        for path, node in own.items():
            if node.value and parent_of(path) == b"/2/users":
                contents.users.append(_user(json.loads(node.value)))
            elif node.value and parent_of(path) == b"/2/roles":
                contents.roles.append(_role(json.loads(node.value)))
        contents.roles = [role for role in contents.roles if role.name != ROOT]
        return contents

    def _load(self, nodes: list[Node]) -> None:
        places: dict[bytes, tuple[LiveTree, Directory]] = {_KEYS: (self._keys_tree, self._keys_tree.root)}
        for node in nodes:
            if node.path == _KEYS:
                continue
            tree, parent = places.get(parent_of(node.path), (self._own_tree, self._own_tree.root))
            name = node.path.rpartition(b"/")[2]
            lifetime = Lifetime(node.expiration_ns, node.expiration_ns) if node.expiration_ns else None
            made: AnyNode
            if node.value is None:
                made = Directory(next(self._node_ids), parent, name, node.created_index, lifetime)
                places[node.path] = (tree, made)
            else:
                value_json, raw = encode_value(node.value)
                ids = (node.created_index, node.modified_index)
                made = File(next(self._node_ids), parent, name, *ids, lifetime, value_json, raw)
            tree.place(parent, made)

    def _do(self, store: Store, command: Command, clock_ns: int = 0) -> None:
        store.apply(command, clock_ns)
        (self._keys_tree if store is self._keys else self._own_tree).tidy()

    def _change_member(self, change: ChangeMember) -> None:
        """etcdserver/api/membership/cluster.go and store.go: what is not valid changes nothing."""
        directory = b"/0/members/%x" % change.member_id
        members, attributes = dict(self._members()), directory + b"/raftAttributes"
        is_member, is_removed = change.member_id in members, change.member_id in self._removed_ids()
        facts = {name: change.context[name] for name in ("peerURLs", "isLearner") if name in change.context}
        value = json.dumps(facts).encode()
        urls = {
            url for member_id, member in members.items() if member_id != change.member_id for url in member.peer_urls
        }
        is_taken = not urls.isdisjoint(_texts(change.context.get("peerURLs")))
        if is_removed:
            return
        if change.kind in (ADD, ADD_LEARNER):
            if change.context.get("isPromote"):
                if is_member:
                    self._do(
                        self._own,
                        Update(attributes, json.dumps({"peerURLs": members[change.member_id].peer_urls}).encode()),
                    )
            elif not is_member and not is_taken:
                self._do(self._own, Create(attributes, value))
        elif change.kind == MOVE and is_member and not is_taken:
            self._do(self._own, Update(attributes, value))
        elif change.kind == REMOVE and is_member:
            self._do(self._own, Delete(directory, directory=True, recursive=True))
            self._do(self._own, Create(b"/0/removed_members/%x" % change.member_id))

    def _children(self, *names: bytes) -> dict[bytes, AnyNode]:
        directory: AnyNode | None = self._own_tree.root
        for name in names:
            directory = directory.children.get(name) if isinstance(directory, Directory) else None
        return directory.children if isinstance(directory, Directory) else {}

    def _removed_ids(self) -> list[int]:
        return [int(name, 16) for name in self._children(b"0", b"removed_members")]

    def _members(self) -> Iterator[tuple[int, ClusterMember]]:
        for name in self._children(b"0", b"members"):
            facts: dict[str, Any] = {}
            for file in self._children(b"0", b"members", name).values():
                if isinstance(file, File):
                    facts |= json.loads(file.value())
            client_urls = _texts(facts.get("clientURLs"))
            peer_urls = tuple(sorted(_texts(facts.get("peerURLs"))))
            yield int(name, 16), ClusterMember(peer_urls, facts.get("name", ""), client_urls, bool(client_urls))


def _clean(path: bytes) -> bytes:
    """As the store itself does (path.Clean)."""
    return b"/" + posixpath.normpath(path).lstrip(b"/") if path else b"/"


def _nodes_of(tree: LiveTree) -> Iterator[Node]:
    for node in tree.nodes():
        expiration_ns = node.lifetime.expiration_ns if node.lifetime else 0
        value = node.value() if isinstance(node, File) else None
        yield Node(path_of(node), value, expiration_ns, node.created_index, node.modified_index)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _user(facts: dict[str, Any]) -> User:
    roles = facts.get("roles")
    return User(facts["user"], str(facts.get("password", "")).encode(), None if roles is None else _texts(roles))


def _role(facts: dict[str, Any]) -> Role:
    patterns = (facts.get("permissions") or {}).get("kv") or {}
    return Role(facts["role"], Permissions(_texts(patterns.get("read")), _texts(patterns.get("write"))))
