"""The data directory of a new member that begins with a backup."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from kvraft.backup import state
from kvraft.backup.new_cluster import NewCluster, Wanted, found_cluster
from kvraft.founding import Identity
from kvraft.keyspace.cluster import ClusterMember, ClusterState
from kvraft.keyspace.event_history import BLOCK_EVENTS, event_bytes, internal_event
from kvraft.keyspace.events import Event
from kvraft.keyspace.records import Meta, RecordError, decode_event, decode_key, encode_event, encode_meta
from kvraft.storage import codec
from kvraft.storage.backup_file import open_backup
from kvraft.storage.errors import BackupError
from kvraft.storage.new_directory import NewDirectory, write_directory
from kvraft.storage.spool import HISTORY, Record
from kvraft.storage.state_tables import StateHead


def plan(path: Path, wanted: Wanted) -> NewCluster:
    """Read all of a backup, and say what cluster it becomes.

    Raises:
        StorageError: it is damaged, or the arguments do not fit it.
        OSError: it cannot be read.
    """
    with open_backup(path) as (decoder, records):
        for _ in records:
            pass
        return found_cluster(wanted, decoder.finish(), decoder.facts, decoder.header)


def restore_all(path: Path, cluster: NewCluster, places: Mapping[str, Path]) -> None:
    """Write the directories of these members of a planned cluster, or none of them.

    No member can be started in one of them until all are whole: each is locked until then, and may yet be removed.

    Raises:
        StorageError: the backup is damaged, or a directory cannot be used.
        OSError: one of them cannot be read or written; it names the file, or the directory.
    """
    with contextlib.ExitStack() as held:
        written = []
        for name, place in places.items():
            directory = held.enter_context(NewDirectory(place))
            _write(path, cluster, name, directory)
            written.append(directory)
        for directory in written:
            with _naming(directory):
                directory.finish()


def restore(path: Path, cluster: NewCluster, name: str, data_dir: Path) -> None:
    """Write the directory of one member. Raises as `restore_all` does."""
    restore_all(path, cluster, {name: data_dir})


def _write(path: Path, cluster: NewCluster, name: str, place: NewDirectory) -> None:
    founder = cluster.founder(name)
    identity = Identity(cluster.cluster_id, founder.member_id, name, cluster.token, cluster.founders)
    where = str(path)
    with open_backup(path) as (decoder, records):
        meta = state.meta_of(where, decoder.header)
        state_of = _NewState(where, cluster, meta, decoder.facts.with_history)
        with _naming(place):
            write_directory(
                place, identity, cluster.configuration, cluster.position, state_of.records(records), state_of.head
            )


@contextlib.contextmanager
def _naming(place: NewDirectory) -> Iterator[None]:
    """A write that fails names nothing."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place.path)
        raise


@final
@dataclass(slots=True)
class _NewState:
    """The state of a backup as the new cluster has it: its members are others, and its indices may go on further on."""

    where: str
    cluster: NewCluster
    meta: Meta
    with_history: bool
    block_bytes: dict[int, int] = field(default_factory=dict)
    """Of the events that are kept, if they are not all."""

    def records(self, records: Iterator[Record]) -> Iterator[Record]:
        """What is to be stored. After a jump of the indices no event is kept: what came between is unknown."""
        jump = self.cluster.bump_index
        for table, key, stored in records:
            if table != HISTORY:
                yield table, key, stored
            elif not jump:
                if not self.with_history:
                    self._count(key, stored)
                yield table, key, stored
        if jump:
            event = internal_event(self.meta.etcd_index + jump)
            self._add(event)
            for key, stored in codec.encode_history(
                [(codec.number_key(event.node.modified_index), encode_event(event))]
            ):
                yield HISTORY, key, stored

    def head(self) -> StateHead:
        """Once the records are exhausted."""
        cluster = self.cluster
        meta = replace(
            self.meta,
            etcd_index=self.meta.etcd_index + cluster.bump_index,
            cluster=ClusterState(
                {founder.member_id: ClusterMember(founder.peer_urls, founder.name) for founder in cluster.founders},
                version=self.meta.cluster.version,
            ),
        )
        if cluster.bump_index:
            meta.history_floor = meta.etcd_index
        if self.block_bytes:
            meta.history_block_bytes = self.block_bytes
        return StateHead(cluster.position, cluster.configuration.encode(), encode_meta(meta), meta.history_floor)

    def _count(self, key: bytes, stored: bytes) -> None:
        try:
            for event_key, record in state.events_in(self.where, key, stored, self.meta.history_floor):
                self._add(decode_event(decode_key(event_key), record))
        except RecordError as error:
            raise BackupError(f"{self.where}: {error}") from error

    def _add(self, event: Event) -> None:
        block = event.node.modified_index // BLOCK_EVENTS
        self.block_bytes[block] = self.block_bytes.get(block, 0) + event_bytes(event)
