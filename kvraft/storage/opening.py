"""Opening a member's data directory: the one door of this package."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import lmdb

from kvraft.founding import Founder, Identity
from kvraft.raft.configuration import Configuration
from kvraft.storage import codec, environment, failpoints, log_recovery, state_tables
from kvraft.storage.aside import has_set_aside, set_aside
from kvraft.storage.environment import (
    DataDirectory,
    claim,
    complete_creation,
    lock_directory,
)
from kvraft.storage.errors import StorageError, StorageFailedError
from kvraft.storage.going_alone import Survivor, WentAlone, go_alone
from kvraft.storage.identity_keeper import IdentityKeeper
from kvraft.storage.interfaces import Directory, EnvironmentFile, OpenFile
from kvraft.storage.lmdb_file import LmdbFile, Supply
from kvraft.storage.log_place import LogPlace
from kvraft.storage.log_store import LogStore
from kvraft.storage.spool import Spool
from kvraft.storage.state_store import StateStore
from kvraft.storage.writer import FailureLatch

LOG_MAP_BYTES: Final = 64 << 30
"""Address space for the log: it holds what was not compacted yet, a few GiB at the very most."""
STATE_MAP_BYTES: Final = 256 << 30
"""Address space for the state; far more than a keyspace that is served from memory can need."""


@final
@dataclass(slots=True, frozen=True)
class Storage:
    """An open data directory. `start` it before anything is written; `close` it at the end."""

    directory: DataDirectory
    log: LogStore
    state: StateStore
    latch: FailureLatch
    identity_keeper: IdentityKeeper
    went_alone: WentAlone | None = None
    """What became of the others, if this start has parted from them."""

    @property
    def fresh(self) -> bool:
        """Whether the directory was empty: this member remembers nothing, and says so to its peers."""
        return self.directory.fresh

    def forget_replaced(self) -> None:
        """The member in whose place this one came is removed: later starts have nothing to do with it."""
        self.identity_keeper.keep(lambda held: replace(held, replaces=0))

    def keep_members(self, members: Sequence[Founder]) -> None:
        """These are the members of the day, for a start that cannot read the state."""
        self.identity_keeper.keep(
            lambda held: replace(held, members=() if set(members) == set(held.founders) else tuple(members))
        )

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        on_persisted: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
    ) -> None:
        """Start the two storage threads. The state has been loaded by now: nothing may read it from an old reader.

        Args:
            loop: where every callback is called.
            on_persisted: the batch with this id is durable; in order.
            on_failure: writing failed, nothing later is durable, and the process must stop. Called once.
        """
        self.directory.end_reading()
        self.latch.bind(loop, on_failure)
        self.log.start(loop, on_persisted)
        self.state.start()

    def close(self) -> None:
        """Finish what is queued, and release the directory."""
        self.identity_keeper.stop()
        self.directory.end_reading()
        self.state.close()
        self.log.close()
        self.directory.close()


def open_storage(
    path: Path,
    identity: Identity,
    configuration: Configuration,
    *,
    rebuild: str = "",
    survivor: Survivor | None = None,
    wal_dir: Path | None = None,
    log_map_bytes: int = LOG_MAP_BYTES,
    state_map_bytes: int = STATE_MAP_BYTES,
    supply: Supply = Supply(),  # noqa: B008 -- frozen
) -> Storage:
    """Open the data directory of a member, or create it.

    Args:
        path: the data directory.
        identity: whose it is; a directory of somebody else is refused.
        configuration: what a new cluster starts with; ignored if the directory already knows one.
        rebuild: why what the directory holds is set aside, for a log that gets everything back from the other members.
            Empty if it is to be used.
        survivor: how the member goes on alone, if it is to and has not been since that was asked for.
        wal_dir: where the log is wanted, if not in the data directory; it is moved there if it is elsewhere. None:
            wherever it is.
        log_map_bytes: address space for the log.
        state_map_bytes: address space for the state.
        supply: how many free pages the files may keep.

    Raises:
        StorageError: one line that says what is wrong and what to do; the directory is left as it was.
        OSError: the directory cannot be created or read.
    """
    directory = lock_directory(path)

    def open_file(path: Path, databases: int, create: bool) -> LmdbFile:
        map_bytes = state_map_bytes if databases else log_map_bytes
        examine = directory.reading_died and not create
        path = path.readlink() if path.is_symlink() else path
        return LmdbFile(path, map_bytes, databases, create=create, examine=examine, supply=supply)

    try:
        place = LogPlace(directory, wal_dir, identity.member_id)
        if rebuild:
            set_aside(directory, rebuild)
        if claim(directory, identity):
            for leftover in directory.state_paths():
                shutil.rmtree(leftover, ignore_errors=True)
            rebuilding = bool(rebuild) or has_set_aside(directory)
            place.begin(is_new=not rebuilding)
            create_stores(directory, identity, configuration, open_file, rebuilding=rebuilding)
            failpoints.hit("directory.created")
            complete_creation(directory, identity)
        else:
            place.settle()
        place.hold()
        directory.begin_reading()
        went_alone = None
        if survivor is not None:
            went_alone = go_alone(directory, identity, open_file, survivor)
            failpoints.hit("alone.before_identity")
            environment.change_identity(directory, lambda held: replace(held, forced=True))
        log, state, latch = open_stores(directory, identity, open_file)
    except BaseException as error:
        directory.end_reading()
        directory.close()
        if isinstance(error, lmdb.Error):  # its own class, also for what the system refused
            raise StorageFailedError(
                f"data directory {path} cannot be used: {error}; give a directory on a sound disk with room"
            ) from error
        raise
    return Storage(directory, log, state, latch, IdentityKeeper(directory, state.beside), went_alone)


def create_stores(
    directory: Directory,
    identity: Identity,
    configuration: Configuration,
    open_file: OpenFile,
    *,
    rebuilding: bool = False,
) -> None:
    """Both environments, empty. A crash in here is followed by a new attempt: nothing was acknowledged yet."""
    log_file = open_file(directory.log_path, 0, True)
    log_recovery.create_log(log_file, identity, configuration, rebuilding=rebuilding)
    log_file.close()
    state_file = open_file(directory.state_path(1), state_tables.DATABASES, True)
    state_tables.create_state(state_tables.open_tables(state_file), identity)
    state_file.close()


def open_stores(
    directory: Directory,
    identity: Identity,
    open_file: OpenFile,
    open_spool: Callable[[Directory], Spool] | None = None,
) -> tuple[LogStore, StateStore, FailureLatch]:
    """Verify both environments and what lies between them.

    Raises:
        StorageError: one line that says what is wrong and what to do; the files are left as they were.
    """
    opened: list[EnvironmentFile] = []
    try:
        log_file = open_file(directory.log_path, 0, False)
        opened.append(log_file)
        log_recovery.check_identity(log_file, identity, codec.LOG_ENVIRONMENT)
        head = log_recovery.read_head(log_file)
        state_file = open_file(directory.state_path(head.generation), state_tables.DATABASES, False)
        opened.append(state_file)
        log_recovery.check_identity(state_file, identity, codec.STATE_ENVIRONMENT)
        state = state_tables.open_tables(state_file)
        directory.remove_other_states(head.generation)
        with state_file.reading() as transaction:
            applied = state_tables.read_head(transaction, state.where).position
        latch = FailureLatch()
        log = LogStore(log_file, log_recovery.recover(log_file, head, applied), head.peers, latch)
        spool = open_spool(directory) if open_spool else Spool(directory.spool_path, directory.free_bytes)
        store = StateStore(directory, identity, state, log, latch, open_file, spool)
    except BaseException:
        for file in opened:
            file.close()
        raise
    return log, store, latch
