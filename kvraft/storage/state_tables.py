"""Reading and changing the state inside one LMDB transaction.

Nodes, users and roles have a record each.
History records are stored in chunks: one put and one delete for up to 256 events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft.founding import Identity
from kvraft.keyspace.state_records import StateChanges
from kvraft.raft.restored import LogPosition
from kvraft.storage import codec
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.interfaces import Database, EnvironmentFile, Transaction
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record

DATABASES: Final = 3
FILL_RECORDS: Final = 20_000
"""Records of a snapshot written in one transaction."""


@final
@dataclass(slots=True, frozen=True)
class StateHead:
    """The meta records."""

    position: LogPosition
    configuration: bytes
    keyspace: bytes
    history_floor: int


@final
@dataclass(slots=True, frozen=True)
class StateFile:
    """An open state environment and its tables."""

    file: EnvironmentFile
    nodes: Database
    history: Database
    accounts: Database
    """Not there in what older versions have made, until it is opened."""

    @property
    def where(self) -> str:
        """For messages."""
        return str(self.file.path)


def open_tables(file: EnvironmentFile) -> StateFile:
    """The tables of an environment; they are created if they do not exist."""
    return StateFile(file, file.database(b"nodes"), file.database(b"history"), file.database(b"accounts"))


def create_state(state: StateFile, identity: Identity) -> None:
    """A new store: nothing applied."""
    with state.file.writing() as transaction:
        key = codec.IDENTITY_KEY
        transaction.put(key, codec.encode_identity(identity.cluster_id, identity.member_id, codec.STATE_ENVIRONMENT))
        write_head(transaction, StateHead(LogPosition(), b"", b"", 0))
        state.file.commit(transaction, 0)


def write_head(transaction: Transaction, head: StateHead) -> None:
    """In the same transaction as what it describes, always."""
    transaction.put(codec.POSITION_KEY, codec.encode_position(codec.POSITION_KEY, head.position))
    transaction.put(codec.CONFIGURATION_KEY, codec.seal(codec.CONFIGURATION_KEY, head.configuration))
    transaction.put(codec.KEYSPACE_KEY, codec.seal(codec.KEYSPACE_KEY, head.keyspace))
    transaction.put(codec.HISTORY_FLOOR_KEY, codec.encode_number(codec.HISTORY_FLOOR_KEY, head.history_floor))


def read_head(transaction: Transaction, where: str) -> StateHead:
    """Raises CorruptStorageError."""
    return StateHead(
        codec.decode_position(codec.POSITION_KEY, transaction.get(codec.POSITION_KEY), where),
        codec.unseal(codec.CONFIGURATION_KEY, transaction.get(codec.CONFIGURATION_KEY), where),
        codec.unseal(codec.KEYSPACE_KEY, transaction.get(codec.KEYSPACE_KEY), where),
        codec.decode_number(codec.HISTORY_FLOOR_KEY, transaction.get(codec.HISTORY_FLOOR_KEY), where),
    )


def write_changes(transaction: Transaction, state: StateFile, changes: StateChanges) -> None:
    """Nodes, history, users and roles of a flush. Sorted, since neighbours share pages."""
    with transaction.cursor(db=state.nodes) as cursor:
        cursor.putmulti([(key, codec.seal(key, record)) for key, record in sorted(changes.nodes)])
    for key in sorted(changes.removed_nodes):
        transaction.delete(key, db=state.nodes)
    chunks = codec.encode_history(changes.history)
    with transaction.cursor(db=state.history) as cursor:
        _, added = cursor.putmulti(chunks, append=True)
    assert added == len(chunks), "history grows at its end only"
    remove_history(transaction, state, changes.history_floor)
    for key, record in changes.accounts:
        transaction.put(key, codec.seal(key, record), db=state.accounts)
    for key in changes.removed_accounts:
        transaction.delete(key, db=state.accounts)


def remove_history(transaction: Transaction, state: StateFile, floor: int) -> None:
    """Remove chunks that lie below the floor as a whole; the rest of the first one is skipped by readers."""
    with transaction.cursor(db=state.history) as cursor:
        keys = []
        more = cursor.first()
        while more and cursor.key() <= codec.number_key(floor):
            keys.append(cursor.key())
            more = cursor.next()
    for key in keys[:-1]:
        transaction.delete(key, db=state.history)


def iterate_records(state: StateFile, table: Database) -> Iterator[tuple[bytes, bytes]]:
    """(key, record) of nodes or accounts, verified, ascending. Holds a read transaction until its end."""
    with state.file.reading() as transaction, transaction.cursor(db=table) as cursor:
        for key, stored in cursor:
            yield key, codec.unseal(key, stored, state.where)


def iterate_history(state: StateFile, first: int) -> Iterator[tuple[int, bytes]]:
    """(etcd_index, record) from `first` on, verified. Holds a read transaction until exhausted.

    Raises:
        CorruptStorageError: a chunk is damaged.
    """
    with state.file.reading() as transaction, transaction.cursor(db=state.history) as cursor:
        sought = codec.number_key(first)
        more = cursor.set_range(sought)
        if not more or cursor.key() != sought:
            more = (cursor.prev() if more else cursor.last()) or cursor.first()
        while more:
            for etcd_index, record in codec.decode_history(*cursor.item(), state.where):
                if etcd_index >= first:
                    yield etcd_index, record
            more = cursor.next()


def history_slice(state: StateFile, first: int, floor: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
    """Records from an etcd_index on, cut after `bytes_max` but never before the first."""
    records: list[tuple[int, bytes]] = []
    size = 0
    for etcd_index, record in iterate_history(state, max(first, floor)):
        size += len(record)
        if records and size > bytes_max:
            break
        records.append((etcd_index, record))
    return records


def fill(state: StateFile, records: Iterator[Record]) -> None:
    """Write the records of a snapshot into a new store, a bounded number in a transaction. It has no head yet."""
    table_of = {NODE: state.nodes, HISTORY: state.history, ACCOUNT: state.accounts}
    more = True
    while more:
        with state.file.writing() as transaction:
            more = False
            for count, (table, key, stored) in enumerate(records, start=1):
                transaction.put(key, stored, db=table_of[table])
                if count == FILL_RECORDS:
                    more = True
                    break
            state.file.commit(transaction, 0)


def check_counts(state: StateFile, expected: tuple[int, int, int]) -> None:
    """Raises CorruptStorageError if an installed snapshot did not arrive as a whole."""
    with state.file.reading() as transaction:
        held = counts(transaction, state)
    if held != expected:
        raise CorruptStorageError(f"{state.where}: {held} records, expected {expected}; {REMEDY}")


def counts(transaction: Transaction, state: StateFile) -> tuple[int, int, int]:
    """How many records of nodes, chunks of history, and records of users and roles there are."""
    nodes, chunks, accounts = (
        int(transaction.stat(db=table)["entries"]) for table in (state.nodes, state.history, state.accounts)
    )
    return nodes, chunks, accounts
