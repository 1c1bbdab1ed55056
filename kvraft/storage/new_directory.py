"""A data directory that begins with a state from elsewhere: what `kvraft restore` writes.

Everything is built below `restoring/`, which is there from the first step to the last. As long as it is, nothing else
in the directory is believed by anybody, and the same restore may begin again. The identity comes before it goes.
What fails is undone: the directories that were not there go, and one that was is empty again. That is done under the
lock, which is held until all directories of one restore are whole: nobody starts a member in one that may still go.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

import lmdb

from kvraft.founding import Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.restored import LogPosition
from kvraft.storage import failpoints, log_recovery, state_tables
from kvraft.storage.environment import (
    RESTORING,
    DataDirectory,
    complete_creation,
    open_lock,
    sign_lock,
    sync_directory,
)
from kvraft.storage.errors import BackupError, StorageFailedError
from kvraft.storage.lmdb_file import LmdbFile
from kvraft.storage.opening import LOG_MAP_BYTES, STATE_MAP_BYTES
from kvraft.storage.spool import Record
from kvraft.storage.state_tables import StateHead

_NOT_OURS: Final = {"lock", "lost+found"}
"""Left behind by a lock, or made with a file system: nothing that anybody could miss."""
_BUILT: Final = ("log", "state-1")
_FULL_BYTES: Final = 1 << 20
"""With less room than that it is the room that was wanting: LMDB calls a short write an input/output error."""


def write_directory(
    place: "NewDirectory",
    identity: Identity,
    configuration: Configuration,
    position: LogPosition,
    records: Iterator[Record],
    head: Callable[[], StateHead],
) -> None:
    """Write the directory of a member that has applied everything up to `position`; it is whole once it is finished.

    Args:
        place: entered, for an empty directory, or none yet.
        identity: whose it is to be.
        configuration: in force at `position`.
        position: where its log begins.
        records: of the state. What they raise at their end is raised.
        head: asked once they are exhausted; its position is `position`.

    Raises:
        BackupError: something is there already.
        DirectoryInUseError: another restore, or a member, is at work there.
        StorageFailedError: the disk is full or has failed.
        StorageError: a record is damaged.
        OSError: the system refuses the directory.
    """
    path = place.path
    try:
        directory = place.lock()
        building = path / RESTORING
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
    except Exception as error:
        failed = _disk_error(path, error)
        if failed is not None:
            raise failed from error
        raise


def _disk_error(path: Path, error: BaseException) -> StorageFailedError | None:
    """What LMDB says where the disk will not have more; nothing in there was read from an older file."""
    cause = error if isinstance(error, lmdb.Error) else error.__cause__
    if not isinstance(cause, lmdb.Error):
        return None
    why = str(cause)
    with contextlib.suppress(OSError):
        room = os.statvfs(path)
        if room.f_bavail * room.f_frsize < _FULL_BYTES:
            why = "no space left on device"
    return StorageFailedError(f"{path} cannot be written: {why}: give a directory on a sound disk with room")


@final
class NewDirectory:
    """The directory, locked until the end of the `with`, and what was there before it: that again if it is left early.

    Leaving it early raises StorageFailedError if something cannot be removed; with why it was left in its text.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._made: list[Path] = []
        """The directories that were not there and that nobody else has made meanwhile, the deepest first."""
        self._mode: int | None = None
        """Of the directory, if it was there."""
        self._locked: DataDirectory | None = None
        self._is_ours = False
        """Whether what is in it is to be removed: it was locked and held nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._undo(error)
        finally:
            if self._locked is not None:
                self._locked.close()

    def lock(self) -> DataDirectory:
        """It is there, empty, and nobody else's until the end.

        Raises:
            BackupError: something is in it.
            DirectoryInUseError: somebody else holds it.
            OSError: it cannot be made.
        """
        if self.path.exists():
            _refuse_used(self.path)  # before a lock is put there
        self._make()
        if self.path not in self._made:
            self._mode = self.path.stat().st_mode & 0o7777
        descriptor = open_lock(self.path)
        self._locked = DataDirectory(self.path, descriptor)
        _refuse_used(self.path)
        self._is_ours = True
        sign_lock(descriptor)
        _clear(self.path)
        return self._locked

    def finish(self) -> None:
        """It may be believed, once the lock is released."""
        failpoints.hit("restore.before_end")
        (self.path / RESTORING).rmdir()
        sync_directory(self.path)

    def _make(self) -> None:
        missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
        for each in reversed(missing):
            try:
                each.mkdir(mode=0o700 if each == self.path else 0o777)
            except FileExistsError:
                if not each.is_dir():
                    raise
                continue  # another restore was faster: not ours to remove
            self._made.insert(0, each)
            with contextlib.suppress(PermissionError):  # may be written and not be read: then nobody can sync it
                sync_directory(each.parent)

    def _undo(self, error: BaseException) -> None:
        try:
            if self._is_ours:
                _clear(self.path)
                if self.path in self._made:
                    (self.path / "lock").unlink(missing_ok=True)
                elif self._mode is not None:
                    self.path.chmod(self._mode)
            for made in self._made:
                _remove_if_empty(made)
        except OSError as why:
            if not isinstance(error, Exception):
                return  # Ctrl-C: what is left is no member, and says so to whoever starts one there
            raise StorageFailedError(
                f"{error}; {why.filename or self.path} cannot be removed again ({why.strerror}): remove {self.path}"
            ) from error


def _remove_if_empty(made: Path) -> None:
    """What is in there is somebody else's: another restore has come, or a member beside it is there."""
    try:
        made.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def _refuse_used(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()} - _NOT_OURS
    if names and RESTORING not in names:
        raise BackupError(f"{path} is not empty ({min(names)} is there): give an empty directory, or a new one")


def _clear(path: Path) -> None:
    """Remove what a restore has written. Whose it was goes first and the sign last, so that no member starts with half.

    Raises:
        OSError: something cannot be removed.
    """
    (path / "identity").unlink(missing_ok=True)
    (path / "identity.new").unlink(missing_ok=True)
    for name in (*_BUILT, RESTORING):
        if (path / name).exists():
            shutil.rmtree(path / name)
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
