"""The data directory of a new member that begins with a backup."""

from collections.abc import Iterator
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
from kvraft.storage.new_directory import write_directory
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


def restore(path: Path, cluster: NewCluster, name: str, data_dir: Path) -> Identity:
    """Write the directory of one member of a planned cluster; nothing is left of one that could not be written.

    Raises:
        StorageError: the backup is damaged, or the directory cannot be used.
        OSError: one of them cannot be read or written.
    """
    founder = cluster.founder(name)
    identity = Identity(cluster.cluster_id, founder.member_id, name, cluster.token, cluster.founders)
    where = str(path)
    with open_backup(path) as (decoder, records):
        meta = state.meta_of(where, decoder.header)
        state_of = _NewState(where, cluster, meta, decoder.facts.with_history)
        write_directory(
            data_dir, identity, cluster.configuration, cluster.position, state_of.records(records), state_of.head
        )
    return identity


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
