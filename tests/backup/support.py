"""A backup of a small cluster, made of commands, without any member."""

import dataclasses
import io
from pathlib import Path
from typing import Final

from kvraft.keyspace.account_commands import EnableAuth, Permissions, PutRole, PutUser
from kvraft.keyspace.commands import (
    Command,
    Delete,
    PublishMember,
    RegisterFounders,
    Set,
    SetClusterVersion,
    SetHistorySize,
)
from kvraft.keyspace.keyspace import Keyspace
from kvraft.raft.configuration import Configuration
from kvraft.raft.restored import LogPosition
from kvraft.records import BackupFacts
from kvraft.storage import codec
from kvraft.storage.backup_file import write_backup
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record, SpoolHeader

CLUSTER_ID: Final = 0xC1
TAKEN_NS: Final = 1_764_400_000 * 1_000_000_000
CLOCK_MS: Final = 70_000
"""The log clock when the backup was taken; the last entry is five seconds older."""
POSITION: Final = LogPosition(40, 3, bytes(range(16)), CLOCK_MS - 5_000)
FACTS: Final = BackupFacts(0xA1, "n1", TAKEN_NS, CLOCK_MS, with_history=True)
URLS: Final = {"n1": "http://10.0.0.1:2380", "n2": "http://10.0.0.2:2380", "n3": "http://10.0.0.3:2380"}


def old_keyspace(*more: Command, history: int = 1000) -> Keyspace:
    """Members, users, auth, TTLs, hidden keys, directories and something deleted."""
    keyspace = Keyspace()
    founders = tuple((number, name, (url,)) for number, (name, url) in enumerate(URLS.items(), 0xA1))
    commands: list[Command] = [
        SetHistorySize(history),
        RegisterFounders(founders),
        PublishMember(0xA1, "n1", ("http://10.0.0.1:2379",)),
        SetClusterVersion("3.4.0"),
        PutUser("root", b"$2b$04$" + b"x" * 53, ()),
        PutRole("reader", Permissions(("/app/*",), ())),
        PutUser("alice", b"$2b$04$" + b"y" * 53, ("reader",)),
        Set(path=b"/app/name", value="wört".encode()),
        Set(path=b"/app/raw", value=b"\xff\xfe"),
        Set(path=b"/app/_hidden/key", value=b"h", ttl_s=100, expiration_ns=TAKEN_NS + 95 * 10**9),
        Set(path=b"/app/dir", directory=True, ttl_s=30, expiration_ns=TAKEN_NS + 25 * 10**9),
        Set(path=b"/gone", value=b"1"),
        Delete(path=b"/gone"),
        *more,
        EnableAuth(),
    ]
    for command in commands:
        keyspace.apply(command, POSITION.clock_ms)
    return keyspace


def records_of(keyspace: Keyspace) -> tuple[bytes, list[Record]]:
    """The meta record, and every other as it is stored. Once for each keyspace."""
    pending = keyspace.begin_changes()
    while pending.encode_some():
        pass
    changes = pending.changes
    nodes = [(NODE, key, codec.seal(key, record)) for key, record in sorted(changes.nodes)]
    accounts = [(ACCOUNT, key, codec.seal(key, record)) for key, record in changes.accounts]
    chunks = [(HISTORY, key, stored) for key, stored in codec.encode_history(changes.history)]
    return changes.meta, [*nodes, *accounts, *chunks]


def backup_of(keyspace: Keyspace, facts: BackupFacts = FACTS, cluster_id: int = CLUSTER_ID) -> bytes:
    """A whole file, as a member writes it: without the history, the newest chunk of it is there."""
    meta, records = records_of(keyspace)
    floor = keyspace.history.floor
    if not facts.with_history:
        chunks = [record for record in records if record[0] == HISTORY]
        records = [*(record for record in records if record[0] != HISTORY), chunks[-1]]
        floor = codec.number_of_key(chunks[-1][1])
    header = SpoolHeader(
        cluster_id,
        POSITION,
        Configuration.of([0xA1, 0xA2, 0xA3], founding=b"f" * 16).encode(),
        meta,
        floor,
        sum(table == NODE for table, _, _ in records),
        sum(table == HISTORY for table, _, _ in records),
        sum(table == ACCOUNT for table, _, _ in records),
    )
    file = io.BytesIO()
    write_backup(file, facts, header, records)
    return file.getvalue()


def written(directory: Path, content: bytes) -> Path:
    """A file with this content."""
    path = directory / "copy.backup"
    path.write_bytes(content)
    return path


def tree_of(keyspace: Keyspace, clock_ms: int) -> list[tuple[object, ...]]:
    """All that clients can see of it, hidden nodes too."""
    nodes = sorted(keyspace.nodes(clock_ms), key=lambda node: node.path)
    return [dataclasses.astuple(node) for node in nodes]
