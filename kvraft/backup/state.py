"""The state in a backup: its records turned into what a keyspace loads."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, final

from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import Meta, RecordError, decode_event, decode_key, decode_meta, encode_meta
from kvraft.keyspace.state_records import StateImage
from kvraft.storage import codec
from kvraft.storage.errors import BackupError
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, Record, SpoolHeader

_NO_EVENTS: Final[list[tuple[int, bytes]]] = []


@final
class _Unread:
    """The history on disk, which nobody asks for here: only its newest events are kept in memory."""

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """Nothing."""
        del first_etcd_index, bytes_max
        return _NO_EVENTS


def meta_of(where: str, header: SpoolHeader) -> Meta:
    """Indices, members, users and roles; the history begins where that of the backup does.

    Raises:
        BackupError: there are none, or they make no sense.
    """
    try:
        return replace(decode_meta(header.keyspace), history_floor=header.history_floor)
    except RecordError as error:
        raise BackupError(f"{where}: {error}") from error


def image_of(where: str, meta: Meta, records: Iterator[Record]) -> StateImage:
    """What a start would load. Nodes, then users and roles, then the history are to be read, each to its end."""
    first: list[Record] = []
    """Of the next table, met at the end of the one before."""

    def of(wanted: int) -> Iterator[tuple[bytes, bytes]]:
        for table, key, stored in itertools.chain(_popped(first), records):
            if table != wanted:
                first.append((table, key, stored))
                return
            yield key, stored

    def unsealed(wanted: int) -> Iterator[tuple[bytes, bytes]]:
        for key, stored in of(wanted):
            yield key, codec.unseal(key, stored, where)

    def history() -> Iterator[tuple[bytes, bytes]]:
        for key, stored in of(HISTORY):
            yield from events_in(where, key, stored, meta.history_floor)
        if first:
            raise BackupError(f"{where}: nodes, accounts and history are not in this order")

    return StateImage(encode_meta(meta), unsealed(NODE), history(), unsealed(ACCOUNT))


def _popped(records: list[Record]) -> Iterator[Record]:
    while records:
        yield records.pop()


def events_in(where: str, key: bytes, stored: bytes, floor: int) -> Iterator[tuple[bytes, bytes]]:
    """The events of one stored chunk from `floor` on, as (key, record)."""
    for etcd_index, record in codec.decode_history(key, stored, where):
        if etcd_index >= floor:
            yield codec.number_key(etcd_index), record


def load(where: str, image: StateImage) -> Keyspace:
    """The keyspace of an image; whatever a member would refuse is refused here.

    Raises:
        BackupError: the records are as they were written, and make no state.
        StorageError: they are not.
    """
    keyspace = Keyspace(history_reader=_Unread())
    decoded = StateImage(image.meta, image.nodes, map(_decoded, image.history), image.accounts)
    try:
        keyspace.load(decoded)
    except RecordError as error:
        raise BackupError(f"{where}: {error}") from error
    return keyspace


def _decoded(event: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """The same, having made sense: a load looks into the newest ones only."""
    key, record = event
    decode_event(decode_key(key), record)
    return event
