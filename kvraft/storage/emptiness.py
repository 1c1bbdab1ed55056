"""Whether there is anything in a data directory that a member could miss."""

from pathlib import Path
from typing import Final

import lmdb

from kvraft.raft.restored import LogPosition
from kvraft.storage import log_recovery, log_tables, state_tables
from kvraft.storage.environment import state_paths, was_begun
from kvraft.storage.errors import StorageError
from kvraft.storage.lmdb_file import MAP_BYTES_MIN, LmdbFile

_NEW_BYTES_MAX: Final = 1 << 20
"""Far more than the files of a new member take."""


def holds_nothing(path: Path) -> bool:
    """Whether a member was begun there at most: no entry, no vote, no term, nothing applied.

    Such a start leaves an identity and two environments, also where it ended at once because its peers knew better.
    What cannot be read is something, and is not touched beyond what any start does.
    """
    if not was_begun(path):
        return True
    log, states = path / "log", state_paths(path)
    try:
        return all(map(_is_small, (log, *states))) and _log_is_new(log) and all(map(_state_is_new, states))
    except (StorageError, lmdb.Error, OSError):
        return False


def _is_small(environment: Path) -> bool:
    return (environment / "data.mdb").stat().st_size <= _NEW_BYTES_MAX


def _log_is_new(path: Path) -> bool:
    file = LmdbFile(path, MAP_BYTES_MIN, 0, create=False, examine=True)
    try:
        head = log_recovery.read_head(file)
        state, origin = head.hard_state, LogPosition()
        with file.reading() as transaction:
            last = log_tables.last_position(transaction, head.base, str(path))
        return (state.current_term, state.voted_for, state.commit_index) == (0, 0, 0) and head.base == last == origin
    finally:
        file.close()


def _state_is_new(path: Path) -> bool:
    file = LmdbFile(path, MAP_BYTES_MIN, state_tables.DATABASES, create=False, examine=True)
    try:
        with file.reading() as transaction:
            return state_tables.read_head(transaction, str(path)).position == LogPosition()
    finally:
        file.close()
