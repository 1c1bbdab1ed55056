"""A backup made of contents, for `kvraft restore`: what no API can write.

A cluster that is founded with it has the source's indices, its users with their hashes, and auth as it was, and begins
where the source ended: a watch from an older index is told that its history is gone, one from the next index waits.
"""

import itertools
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from kvraft import clock
from kvraft.keyspace import state_hash
from kvraft.keyspace.account_commands import AccountCommand, DeleteRole, EnableAuth, PutRole, PutUser
from kvraft.keyspace.accounts import GUEST, AccountError, Accounts
from kvraft.keyspace.cluster import ClusterState
from kvraft.keyspace.event_history import BLOCK_EVENTS, EVENTS_MAX, event_bytes, internal_event
from kvraft.keyspace.json_text import encode_value
from kvraft.keyspace.records import Meta, encode_event, encode_key, encode_meta, encode_node
from kvraft.keyspace.tree import ORDINAL_MAX, ORDINAL_SHIFT, ROOT_ID, AnyNode, Directory, File, Lifetime
from kvraft.migration.contents import Contents, MigrationError, Node, parent_of, shown
from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import HASH_BYTES
from kvraft.raft.restored import LogPosition
from kvraft.records import BackupFacts
from kvraft.storage import codec
from kvraft.storage.backup_file import write_backup
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record, SpoolHeader
from kvraft.storage.whole_file import whole_file

_NOBODY: Final = 1
"""The cluster and member of the file: ids that no computation gives. A restore founds another one in any case."""
_TERM: Final = 1
_NS_PER_MS: Final = 1_000_000


def write(contents: Contents, path: Path) -> None:
    """Write the file, whole or not at all, for nobody else to read. Notes of `contents` say what is left out.

    Raises:
        MigrationError: the contents make no state.
        OSError: it cannot be written.
    """
    now_ns = clock.wall_ns()
    etcd_index = max(contents.etcd_index, 1)
    accounts = _accounts(contents)
    event = internal_event(etcd_index)
    meta = Meta(
        etcd_index,
        state_hash.NO_STATE,
        ClusterState(),
        EVENTS_MAX,
        etcd_index,
        {etcd_index // BLOCK_EVENTS: event_bytes(event)},
        accounts=accounts.head(),
    )
    nodes = sorted(_node_records(contents.nodes, now_ns))
    account_records = [(ACCOUNT, encode_key(key), record) for key, record in sorted(accounts.take_records()[0])]
    history = codec.encode_history([(encode_key(etcd_index), encode_event(event))])
    digest = blake2b(b"".join(record for _, _, record in nodes), digest_size=HASH_BYTES).digest()
    header = SpoolHeader(
        _NOBODY,
        LogPosition(etcd_index, _TERM, digest, 0),
        Configuration.of((_NOBODY,)).encode(),
        encode_meta(meta),
        etcd_index,
        len(nodes),
        len(history),
        len(account_records),
    )
    facts = BackupFacts(_NOBODY, "import", now_ns, 0, with_history=True)

    def records() -> Iterator[Record]:
        for table, key, record in itertools.chain(nodes, account_records):
            yield table, key, codec.seal(key, record)
        for key, stored in history:
            yield HISTORY, key, stored

    with whole_file(path) as file:
        write_backup(file, facts, header, records())


def _node_records(nodes: list[Node], now_ns: int) -> Iterator[Record]:
    """Each node under an id of its createdIndex; of those that were made at once, a parent has the larger one."""
    directories: dict[bytes, Directory] = {b"/": Directory(ROOT_ID, None, b"", 0, None)}
    younger: dict[int, int] = {}
    """For each createdIndex, how many nodes of it are still to come."""
    for node in nodes:
        younger[node.created_index] = younger.get(node.created_index, 0) + 1
    for node in nodes:
        ordinal = younger[node.created_index] = younger[node.created_index] - 1
        parent = directories.get(parent_of(node.path))
        if parent is None or not 0 < node.created_index <= node.modified_index or ordinal > ORDINAL_MAX:
            raise MigrationError(
                f"{shown(node.path)}: without its directory, or without indices: only a source that"
                " tells them can be made into a backup"
            )
        made = _made(node, parent, ordinal << ORDINAL_SHIFT | node.created_index, now_ns)
        if isinstance(made, Directory):
            directories[node.path] = made
        yield NODE, encode_key(made.node_id), encode_node(made)


def _made(node: Node, parent: Directory, node_id: int, now_ns: int) -> AnyNode:
    """TTLs are counted from the log clock 0, which is now."""
    name = node.path.rpartition(b"/")[2]
    lifetime = None
    if node.expiration_ns:
        lifetime = Lifetime(max(0, -((now_ns - node.expiration_ns) // _NS_PER_MS)), node.expiration_ns)
    if node.value is None:
        return Directory(node_id, parent, name, node.created_index, lifetime)
    value_json, raw = encode_value(node.value)
    return File(node_id, parent, name, node.created_index, node.modified_index, lifetime, value_json, raw)


def _accounts(contents: Contents) -> Accounts:
    """Users and roles by the rules for making them."""
    commands: list[AccountCommand] = [PutRole(role.name, role.permissions) for role in contents.roles]
    without = [user.name for user in contents.users if not user.password_hash]
    commands += [PutUser(user.name, user.password_hash, user.roles) for user in contents.users if user.password_hash]
    if contents.auth_enabled:
        commands.append(EnableAuth())
        if GUEST not in {role.name for role in contents.roles}:
            commands.append(DeleteRole(GUEST))
    if without:
        contents.notes.append(f"left out for want of their passwords' hashes, which no API tells: {', '.join(without)}")
    accounts = Accounts()
    for command in commands:
        outcome = accounts.apply(command, contents.etcd_index).outcome
        if isinstance(outcome, AccountError):
            raise MigrationError(f"users and roles make no state: {outcome.text}")
    return accounts
