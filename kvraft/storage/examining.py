"""A data directory that no member uses, looked through from end to end: every record of its log and of its state."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import lmdb

from kvraft.founding import Identity
from kvraft.keyspace.state_records import StateImage
from kvraft.raft.restored import LogPosition
from kvraft.storage import codec, log_recovery, log_tables, state_tables
from kvraft.storage.environment import stored_identity
from kvraft.storage.errors import CorruptStorageError, DirectoryInUseError, StorageFailedError, WrongDirectoryError
from kvraft.storage.lmdb_file import LmdbFile
from kvraft.storage.opening import LOG_MAP_BYTES, STATE_MAP_BYTES
from kvraft.storage.state_tables import StateHead

_FILE: Final = "data.mdb"


@final
@dataclass(slots=True, frozen=True)
class Examined:
    """What was found. The image is read, and verified, as its iterators are; it is to be used within the block."""

    identity: Identity
    head: StateHead
    """Of the stored state."""
    base: LogPosition
    """Where the log begins."""
    last: LogPosition
    """Where it ends, every entry between verified."""
    commit_index: int
    image: StateImage


@contextlib.contextmanager
def examine(path: Path) -> Iterator[Examined]:
    """Open a directory as a start would, and read all of its log. Nothing of what it holds is changed.

    Raises:
        WrongDirectoryError: no member's data is there, or it is half restored.
        DirectoryInUseError: a member runs there.
        CorruptStorageError: something is damaged or missing; so do the iterators of the image.
        NewerFormatError: a newer kvraft wrote it.
        StorageFailedError: the system refuses to have it read.
        OSError: the same.
    """
    identity = stored_identity(path)
    if identity is None:
        raise WrongDirectoryError(f"{path} holds no member's data: give a data directory, or a file of kvraft backup")
    with contextlib.ExitStack() as open_files:
        _lock(path, open_files)
        log_path = path / "log"
        log_file = _open(log_path.readlink() if log_path.is_symlink() else log_path, LOG_MAP_BYTES, 0, open_files)
        log_recovery.check_identity(log_file, identity, codec.LOG_ENVIRONMENT)
        log_head = log_recovery.read_head(log_file)
        state_path = path / f"state-{log_head.generation}"
        state_file = _open(state_path, STATE_MAP_BYTES, state_tables.DATABASES, open_files)
        log_recovery.check_identity(state_file, identity, codec.STATE_ENVIRONMENT)
        state = state_tables.open_tables(state_file)
        with state_file.reading() as transaction:
            head = state_tables.read_head(transaction, state.where)
        restored = log_recovery.recover(log_file, log_head, head.position)
        with log_file.reading() as transaction:
            for _ in log_tables.verify_chain(transaction, restored.base, restored.last.index, str(log_file.path)):
                pass
        history = state_tables.iterate_history(state, head.history_floor)
        keyed = ((codec.number_key(etcd_index), record) for etcd_index, record in history)
        nodes, accounts = (state_tables.iterate_records(state, table) for table in (state.nodes, state.accounts))
        image = StateImage(head.keyspace, nodes, keyed, accounts)
        yield Examined(identity, head, restored.base, restored.last, restored.hard_state.commit_index, image)


def _lock(path: Path, open_files: contextlib.ExitStack) -> None:
    """Hold the directory, as a member does, but write nothing into its lock."""
    descriptor = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    open_files.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise DirectoryInUseError(
            f"{path} is in use by process {holder}: stop it, or verify a backup of it instead"
        ) from None


def _open(path: Path, map_bytes: int, databases: int, open_files: contextlib.ExitStack) -> LmdbFile:
    if path.exists() and not os.access(path / _FILE, os.R_OK | os.W_OK):
        raise StorageFailedError(f"{path / _FILE} cannot be opened: do this as the user whose it is")
    try:
        file = LmdbFile(path, map_bytes, databases, create=False, examine=True)
    except lmdb.Error as error:
        raise CorruptStorageError(f"{path} cannot be used: {error}; {codec.REMEDY}") from error
    open_files.callback(file.close)
    return file
