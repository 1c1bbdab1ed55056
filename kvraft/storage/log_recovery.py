"""Creating the log, and finding out on open whether it is what was acknowledged.

LMDB's commits are whole or absent, so there is no torn tail to cut off: any record that does not fit is damage, and
nothing is ever removed to make a log look sound, since it may have been acknowledged.
"""

from dataclasses import dataclass, replace
from typing import final

from kvraft.founding import Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Rebuilding
from kvraft.raft.entries import EntryKind
from kvraft.raft.restored import LogPosition, Restored
from kvraft.storage import codec, log_tables
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError, WrongDirectoryError
from kvraft.storage.interfaces import EnvironmentFile


@final
@dataclass(slots=True, frozen=True)
class LogHead:
    """The meta records, before any entry was looked at."""

    hard_state: HardState
    base: LogPosition
    configurations: tuple[tuple[int, Configuration], ...]
    generation: int
    """Which state environment belongs to this log."""
    peers: dict[int, int]


def create_log(
    file: EnvironmentFile,
    identity: Identity,
    configuration: Configuration,
    *,
    rebuilding: bool = False,
    origin: LogPosition = LogPosition(),  # noqa: B008 -- nobody modifies one
) -> None:
    """An empty log, whose configuration at index 0 is the one the cluster starts with.

    With `rebuilding` it is that of a member that has taken part before and lost it. With another origin it is behind a
    state that somebody has brought (a restore), and the configuration is the one in force there.
    """
    records = {
        codec.IDENTITY_KEY: codec.encode_identity(identity.cluster_id, identity.member_id, codec.LOG_ENVIRONMENT),
        codec.HARD_STATE_KEY: codec.encode_hard_state(
            HardState(origin.term, 0, origin.index, Rebuilding(asking=True) if rebuilding else None)
        ),
        codec.BASE_KEY: codec.encode_position(codec.BASE_KEY, origin),
        codec.CONFIGURATIONS_KEY: codec.encode_configurations([(origin.index, configuration)]),
        codec.GENERATION_KEY: codec.encode_number(codec.GENERATION_KEY, 1),
    }
    with file.writing() as transaction:
        for key, value in records.items():
            transaction.put(key, value)
        file.commit(transaction, 0)


def check_identity(file: EnvironmentFile, identity: Identity, environment: bytes) -> None:
    """Refuse an environment that was copied here from elsewhere.

    Raises:
        WrongDirectoryError: it is another member's, another cluster's, or the other environment.
        CorruptStorageError: the record is missing or damaged.
        NewerFormatError: a newer kvraft wrote it.
    """
    with file.reading() as transaction:
        held = codec.decode_identity(transaction.get(codec.IDENTITY_KEY), str(file.path))
    if held != (identity.cluster_id, identity.member_id, environment):
        raise WrongDirectoryError(
            f"{file.path} belongs to member {held[1]:x} of cluster {held[0]:x}, not to member {identity.member_id:x} "
            f"of cluster {identity.cluster_id:x}: files of different members were mixed"
        )


def read_head(file: EnvironmentFile) -> LogHead:
    """Raises CorruptStorageError."""
    where = str(file.path)
    with file.reading() as transaction:
        configurations = codec.decode_configurations(transaction.get(codec.CONFIGURATIONS_KEY), where)
        base = codec.decode_position(codec.BASE_KEY, transaction.get(codec.BASE_KEY), where)
        if not configurations or configurations[0][0] > base.index:
            raise CorruptStorageError(f"{where}: no configuration is known at index {base.index}; {REMEDY}")
        hard_state = codec.decode_hard_state(transaction.get(codec.HARD_STATE_KEY), where)
        return LogHead(
            hard_state,
            base,
            tuple(configurations),
            codec.decode_number(codec.GENERATION_KEY, transaction.get(codec.GENERATION_KEY), where),
            log_tables.read_peers(transaction, where),
        )


def recover(file: EnvironmentFile, head: LogHead, applied: LogPosition) -> Restored:
    """Check that the log continues the durable state at `applied`, and verify every entry behind it.

    Older entries are left to `LogStore.scrub`.

    Raises:
        CorruptStorageError: something that was acknowledged is damaged or missing.
    """
    where = str(file.path)
    base = head.base
    with file.reading() as transaction:
        last = log_tables.last_position(transaction, base, where)
        if not base.index <= applied.index <= last.index:
            raise CorruptStorageError(
                f"{where} holds entries {base.index + 1} to {last.index}, the state stands at {applied.index}; {REMEDY}"
            )
        held = log_tables.position_at(transaction, base, applied.index, where)
        if held != applied:
            raise CorruptStorageError(f"{where}: entry {applied.index} is not the one the state has applied; {REMEDY}")
        changes = [
            (entry.index, entry.payload)
            for _, entry in log_tables.verify_chain(transaction, applied, last.index, where)
            if entry.kind is EntryKind.CONFIGURATION
        ]
    known = [(index, configuration.encode()) for index, configuration in head.configurations if index > applied.index]
    if changes != known:
        raise CorruptStorageError(f"{where}: the list of configurations does not fit the entries; {REMEDY}")
    hard_state = head.hard_state
    # What is applied was committed. And a leader's commit index may be ahead of its own disk: the entries were durable
    # on a majority without it.
    commit_index = min(max(hard_state.commit_index, applied.index), last.index)
    hard_state = replace(hard_state, commit_index=commit_index)
    return Restored(hard_state, base, last, head.configurations, applied.index)
