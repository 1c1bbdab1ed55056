"""State on disk and in snapshots: nodes, history and meta as versioned bytes.

Integers are little-endian and fixed; the first byte of every record is its version.
Integrity is the storage's business (it adds checksums); here a record is only refused when it makes no sense.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.cluster import ClusterMember, ClusterState, cluster_facts
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.json_text import encode_value
from kvraft.keyspace.tree import AnyNode, Directory, Lifetime

NODE_VERSION: Final = 1
EVENT_VERSION: Final = 1
META_VERSION_WITH_ACCOUNTS: Final = 3
"""Users and roles have records of their own: written as soon as there are any, which an older version must not miss."""
META_VERSION: Final = 2
META_VERSION_WITHOUT_PEER_URLS: Final = 1
"""Neither peer URLs nor removed ids: written as long as there are none, so that a member of an older version, which is
to be upgraded yet, can load a snapshot."""
STATE_HASH_BYTES: Final = 16

_KEY: Final = struct.Struct(">Q")

_NODE: Final = struct.Struct("<BBQQQI")
"""Version, flags, parent id, createdIndex, modifiedIndex, length of the name; then lifetime, name, value."""
_LIFETIME: Final = struct.Struct("<QQ")
"""Deadline in log clock milliseconds, expiration in Unix nanoseconds."""
_NODE_DIRECTORY: Final = 1
_NODE_LIFETIME: Final = 2
_NODE_RAW: Final = 4
"""The value is stored raw, because its JSON form does not give it back."""
_NODE_FLAGS: Final = _NODE_DIRECTORY | _NODE_LIFETIME | _NODE_RAW

_EVENT: Final = struct.Struct("<BBHIIQqQQQqQ")
"""Version, action, flags, lengths of path and value, createdIndex, ttl and expiration of the node, then modifiedIndex,
createdIndex, ttl and expiration of the previous one; then path, value, previous value. The key is the modifiedIndex."""
_EVENT_DIRECTORY: Final = 1
_EVENT_VALUE: Final = 2
_EVENT_REFRESH: Final = 4
_EVENT_PREV: Final = 8
_EVENT_PREV_DIRECTORY: Final = 16
_EVENT_PREV_VALUE: Final = 32
_EVENT_FLAGS: Final = 63

ACTION_CODES: Final = {
    Action.SET: 1,
    Action.CREATE: 2,
    Action.UPDATE: 3,
    Action.COMPARE_AND_SWAP: 4,
    Action.DELETE: 5,
    Action.COMPARE_AND_DELETE: 6,
    Action.EXPIRE: 7,
}
"""Numbers of the actions in records and in the state hash, for ever. `get` changes nothing and has none."""
_ACTIONS: Final = {code: action for action, code in ACTION_CODES.items()}


@final
class RecordError(ValueError):
    """Stored state that no version wrote, or that does not fit together: the member must not serve it."""


@final
@dataclass(slots=True)
class NodeRecord:
    """A node as stored; which parent it belongs to is resolved when all are read."""

    parent_id: int
    name: bytes
    directory: bool
    created_index: int
    modified_index: int
    lifetime: Lifetime | None
    value_json: bytes
    """Empty for a directory."""
    raw: bytes | None


@final
@dataclass(slots=True)
class Meta:
    """Everything of the state that is neither node nor event."""

    etcd_index: int
    state_hash: bytes
    cluster: ClusterState
    history_events_max: int
    history_floor: int
    history_block_bytes: dict[int, int] = field(default_factory=dict)
    node_sum: bytes = b""
    """The hash of all nodes (see `node_hash.py`); empty if nobody has stored it."""
    accounts: str = ""
    """`Accounts.head`, or all of users and roles as older versions wrote it here; empty while there never were any."""


def encode_key(number: int) -> bytes:
    """A node id or etcd_index as the key of its record; byte order is numeric order."""
    return _KEY.pack(number)


def decode_key(key: bytes) -> int:
    """The number that `encode_key` packed."""
    if len(key) != _KEY.size:
        message = f"key of {len(key)} bytes"
        raise RecordError(message)
    (number,) = _KEY.unpack(key)
    assert isinstance(number, int)
    return number


def encode_node(node: AnyNode) -> bytes:
    """The record of any node but the root."""
    parent = node.parent
    assert parent is not None
    flags = 0
    value = b""
    if isinstance(node, Directory):
        flags = _NODE_DIRECTORY
    elif node.raw is None:
        value = node.value_json
    else:
        flags = _NODE_RAW
        value = node.raw
    name = node.name
    lifetime = node.lifetime
    if lifetime is None:
        return (
            _NODE.pack(NODE_VERSION, flags, parent.node_id, node.created_index, node.modified_index, len(name))
            + name
            + value
        )
    header = _NODE.pack(
        NODE_VERSION, flags | _NODE_LIFETIME, parent.node_id, node.created_index, node.modified_index, len(name)
    )
    return header + _LIFETIME.pack(lifetime.deadline_ms, lifetime.expiration_ns) + name + value


def decode_node(record: bytes) -> NodeRecord:
    """The node that `encode_node` wrote.

    Raises:
        RecordError: another version, or bytes that are no node.
    """
    if len(record) < _NODE.size or record[0] != NODE_VERSION:
        message = f"node record of {len(record)} bytes, version {record[:1].hex()}"
        raise RecordError(message)
    _, flags, parent_id, created_index, modified_index, name_length = _NODE.unpack_from(record)
    start = _NODE.size
    lifetime = None
    if flags & _NODE_LIFETIME:
        if len(record) < start + _LIFETIME.size:
            message = f"node record of {len(record)} bytes ends in its lifetime"
            raise RecordError(message)
        lifetime = Lifetime(*_LIFETIME.unpack_from(record, start))
        start += _LIFETIME.size
    name = record[start : start + name_length]
    value = record[start + name_length :]
    directory = bool(flags & _NODE_DIRECTORY)
    if flags & ~_NODE_FLAGS or len(name) != name_length or not name or b"/" in name or (directory and value):
        message = f"node record with flags {flags}, name {name!r:.80} and {len(value)} bytes of value"
        raise RecordError(message)
    raw = None
    if flags & _NODE_RAW:
        value, raw = encode_value(value)
    elif not directory and (len(value) < 2 or value[:1] != b'"' or value[-1:] != b'"'):
        message = f"node record of {name!r:.80} without a JSON string"
        raise RecordError(message)
    return NodeRecord(parent_id, name, directory, created_index, modified_index, lifetime, value, raw)


def encode_event(event: Event) -> bytes:
    """The record of an event in the history."""
    node = event.node
    prev = event.prev_node
    flags = _EVENT_DIRECTORY if node.directory else 0
    if event.refresh:
        flags |= _EVENT_REFRESH
    value = node.value_json
    if value is None:
        value = b""
    else:
        flags |= _EVENT_VALUE
    action = ACTION_CODES[event.action]
    if prev is None:
        numbers = (0, 0, 0, 0)
        prev_value = b""
    else:
        numbers = (prev.modified_index, prev.created_index, prev.ttl_s, prev.expiration_ns)
        flags |= _EVENT_PREV | _EVENT_PREV_DIRECTORY if prev.directory else _EVENT_PREV
        prev_value = prev.value_json or b""
        if prev.value_json is not None:
            flags |= _EVENT_PREV_VALUE
    header = _EVENT.pack(
        EVENT_VERSION,
        action,
        flags,
        len(node.path),
        len(value),
        node.created_index,
        node.ttl_s,
        node.expiration_ns,
        *numbers,
    )
    return b"".join((header, node.path, value, prev_value))


def decode_event(etcd_index: int, record: bytes) -> Event:
    """The event that `encode_event` wrote under the key `etcd_index`.

    Raises:
        RecordError: another version, or bytes that are no event.
    """
    if len(record) < _EVENT.size or record[0] != EVENT_VERSION:
        message = f"history record of {len(record)} bytes, version {record[:1].hex()}"
        raise RecordError(message)
    header = _EVENT.unpack_from(record)
    _, code, flags, path_length, value_length, created, ttl_s, expiration_ns = header[:8]
    path_end = _EVENT.size + path_length
    value_end = path_end + value_length
    prev_value = record[value_end:]
    action = _ACTIONS.get(code)
    fits = value_end <= len(record) and (not value_length or flags & _EVENT_VALUE)
    if action is None or flags & ~_EVENT_FLAGS or not fits or (prev_value and not flags & _EVENT_PREV_VALUE):
        message = f"history record {etcd_index} with action {code}, flags {flags} and {len(record)} bytes"
        raise RecordError(message)
    path = record[_EVENT.size : path_end]
    value = record[path_end:value_end] if flags & _EVENT_VALUE else None
    node = NodeView(path, bool(flags & _EVENT_DIRECTORY), value, ttl_s, expiration_ns, etcd_index, created)
    prev = None
    if flags & _EVENT_PREV:
        prev_modified, prev_created, prev_ttl, prev_expiration = header[8:]
        prev = NodeView(
            path,
            bool(flags & _EVENT_PREV_DIRECTORY),
            prev_value if flags & _EVENT_PREV_VALUE else None,
            prev_ttl,
            prev_expiration,
            prev_modified,
            prev_created,
        )
    return Event(action, node, prev, bool(flags & _EVENT_REFRESH))


def encode_meta(meta: Meta) -> bytes:
    """The meta record: a version byte and JSON, since it is small, written once a flush, and read by people in need."""
    members, removed_ids = cluster_facts(meta.cluster)
    body: dict[str, object] = {
        "etcd_index": meta.etcd_index,
        "state_hash": meta.state_hash.hex(),
        "cluster_version": meta.cluster.version,
        "members": members,
        "removed_ids": removed_ids,
        "history_events_max": meta.history_events_max,
        "history_floor": meta.history_floor,
        "history_block_bytes": sorted(meta.history_block_bytes.items()),
    }
    if meta.node_sum:
        body["node_sum"] = meta.node_sum.hex()
    version = META_VERSION_WITH_ACCOUNTS if meta.accounts else META_VERSION
    if not (removed_ids or meta.accounts) and all(map(_is_as_before, meta.cluster.members.values())):
        version = META_VERSION_WITHOUT_PEER_URLS
        body["members"] = [(member_id, name, urls) for member_id, name, urls, *_ in members]
        del body["removed_ids"]
    text = json.dumps(body, separators=(",", ":"))
    if meta.accounts:
        text = f'{text[:-1]},"v2_accounts":{meta.accounts}}}'
    return bytes([version]) + text.encode()


def _is_as_before(member: ClusterMember) -> bool:
    """Whether an older version's form says all of it."""
    return not member.peer_urls and member.has_started == (member.name != "")


def _texts(items: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(item) for item in items)


def decode_meta(record: bytes) -> Meta:
    """The meta that `encode_meta` wrote.

    Raises:
        RecordError: another version, or bytes that are no meta record.
    """
    if not META_VERSION_WITHOUT_PEER_URLS <= (record[0] if record else 0) <= META_VERSION_WITH_ACCOUNTS:
        message = f"meta record of {len(record)} bytes, version {record[:1].hex()}"
        raise RecordError(message)
    try:
        body = json.loads(record[1:])
        if record[0] == META_VERSION_WITHOUT_PEER_URLS:
            body["members"] = [(member_id, name, urls, (), name != "") for member_id, name, urls in body["members"]]
            body["removed_ids"] = []
        members = {
            int(member_id): ClusterMember(_texts(peer_urls), str(name), _texts(client_urls), bool(has_started))
            for member_id, name, client_urls, peer_urls, has_started in body["members"]
        }
        removed_ids = {int(member_id) for member_id in body["removed_ids"]}
        meta = Meta(
            etcd_index=int(body["etcd_index"]),
            state_hash=bytes.fromhex(body["state_hash"]),
            cluster=ClusterState(members, removed_ids, str(body["cluster_version"])),
            history_events_max=int(body["history_events_max"]),
            history_floor=int(body["history_floor"]),
            history_block_bytes={int(block): int(size) for block, size in body["history_block_bytes"]},
            node_sum=bytes.fromhex(body.get("node_sum", "")),
            accounts=json.dumps(body["v2_accounts"], separators=(",", ":")) if "v2_accounts" in body else "",
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        # The last two: a number beyond all floats, and arrays nested without end.
        message = f"meta record of {len(record)} bytes: {error!r}"
        raise RecordError(message) from error
    if (
        not 0 <= meta.history_floor <= meta.etcd_index
        or meta.history_events_max < 1
        or len(meta.state_hash) != STATE_HASH_BYTES
    ):
        message = f"meta record with impossible numbers: {meta!r:.200}"
        raise RecordError(message)
    return meta
