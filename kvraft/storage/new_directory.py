"""A data directory that begins with a state from elsewhere: what `kvraft restore` writes.

Everything is built below `restoring/`, which is there from the first step to the last. As long as it is, nothing else
in the directory is believed by anybody, and the same restore may begin again. The identity comes before it goes.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from kvraft.founding import Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.restored import LogPosition
from kvraft.storage import failpoints, log_recovery, state_tables
from kvraft.storage.environment import (
    RESTORING,
    DataDirectory,
    complete_creation,
    make_directory,
    sync_directory,
    take_lock,
)
from kvraft.storage.errors import BackupError
from kvraft.storage.lmdb_file import LmdbFile
from kvraft.storage.opening import LOG_MAP_BYTES, STATE_MAP_BYTES
from kvraft.storage.spool import Record
from kvraft.storage.state_tables import StateHead

_NOT_OURS: Final = {"lock", "lost+found"}
"""Left behind by a lock, or made with a file system: nothing that anybody could miss."""
_BUILT: Final = ("log", "state-1")


def write_directory(
    path: Path,
    identity: Identity,
    configuration: Configuration,
    position: LogPosition,
    records: Iterator[Record],
    head: Callable[[], StateHead],
) -> None:
    """Write the directory of a member that has applied everything up to `position`.

    Args:
        path: an empty directory, or none yet.
        identity: whose it is to be.
        configuration: in force at `position`.
        position: where its log begins.
        records: of the state. What they raise at their end undoes it all.
        head: asked once they are exhausted; its position is `position`.

    Raises:
        BackupError: something is there already, or another restore is under way.
        StorageError: the disk has failed.
        OSError: the directory cannot be made.
    """
    was_there = path.exists()
    if was_there:
        _refuse_used(path)  # before a lock is put there
    make_directory(path)
    directory = _lock_empty(path)
    building = path / RESTORING
    try:
        _clear(directory.path)
        building.mkdir(mode=0o700)
        sync_directory(path)
        _build(building, identity, configuration, position, records, head)
        failpoints.hit("restore.built")
        for name in _BUILT:
            (building / name).rename(path / name)
            failpoints.hit("restore.moving")
        path.chmod(0o700)
        sync_directory(path)
        complete_creation(directory, identity)
        failpoints.hit("restore.before_end")
        building.rmdir()
        sync_directory(path)
    except BaseException:
        _clear(path)
        if not was_there:
            shutil.rmtree(path)
        raise
    finally:
        directory.close()


def _lock_empty(path: Path) -> DataDirectory:
    descriptor = take_lock(path)
    try:
        _refuse_used(path)
    except BackupError:
        os.close(descriptor)
        raise
    return DataDirectory(path, descriptor)


def _refuse_used(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()} - _NOT_OURS
    if names and RESTORING not in names:
        raise BackupError(f"{path} is not empty ({min(names)} is there): give an empty directory, or a new one")


def _clear(path: Path) -> None:
    """Remove what a restore has written, itself last: what is half stays marked as such."""
    (path / "identity").unlink(missing_ok=True)
    (path / "identity.new").unlink(missing_ok=True)
    for name in (*_BUILT, RESTORING):
        shutil.rmtree(path / name, ignore_errors=True)
    sync_directory(path)


def _build(
    building: Path,
    identity: Identity,
    configuration: Configuration,
    position: LogPosition,
    records: Iterator[Record],
    head: Callable[[], StateHead],
) -> None:
    state_file = LmdbFile(building / "state-1", STATE_MAP_BYTES, state_tables.DATABASES, create=True, examine=False)
    try:
        state = state_tables.open_tables(state_file)
        state_tables.create_state(state, identity)
        state_tables.fill(state, records)
        found = head()
        assert found.position == position, "of one moment"
        with state_file.writing() as transaction:
            state_tables.write_head(transaction, found)
            state_file.commit(transaction, position.index)
    finally:
        state_file.close()
    log_file = LmdbFile(building / "log", LOG_MAP_BYTES, 0, create=True, examine=False)
    try:
        log_recovery.create_log(log_file, identity, configuration, origin=position)
    finally:
        log_file.close()
