"""A survivor makes a cluster of one of what it holds (`--force-new-cluster`), in one transaction of its log.

Behind everything that the log has, committed or not, a configuration of this server alone is written, in a term of its
own and under a new founding, with the command by which the keyspace forgets the others; and all of that is committed.
So what nobody but the others held is lost, what this server had without knowing that it was committed is kept, and with
another founding and their ids removed the others never meet this history again.
"""

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import final

from kvraft.founding import Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState
from kvraft.raft.entries import EntryKind, make_entry
from kvraft.raft.restored import LogPosition, Restored
from kvraft.storage import codec, log_recovery, log_tables, state_tables
from kvraft.storage.errors import WrongDirectoryError
from kvraft.storage.interfaces import Directory, EnvironmentFile, OpenFile


@final
@dataclass(slots=True, frozen=True)
class Survivor:
    """How a server goes on alone."""

    founding: bytes
    """Random: the name of the new history."""
    command: Callable[[Collection[int]], bytes]
    """The payload of the entry by which the keyspace forgets the others, of whom these ids are known."""


@final
@dataclass(slots=True, frozen=True)
class WentAlone:
    """What an operator should know of it."""

    held: LogPosition
    """The end of the log that the server had: what was written behind it is lost."""
    unconfirmed: int
    """How many entries before that end it did not know to be committed. They are now."""
    removed: tuple[int, ...]
    """The servers that it had known."""


def go_alone(directory: Directory, identity: Identity, open_file: OpenFile, survivor: Survivor) -> WentAlone | None:
    """Rewrite the log of a directory that nobody has open; None if the server is alone already.

    Raises:
        StorageError: there is nothing that it could go on with.
    """
    log_file = open_file(directory.log_path, 0, False)
    try:
        shape = _recover(directory, identity, open_file, log_file)
        own = identity.member_id
        servers = {server for _, configuration in shape.configurations for server in configuration.servers}
        if shape.configurations[-1][1].servers == (own,):
            return None
        _refuse_unfit(directory, shape, servers)
        others = {*servers, *(member.member_id for member in identity.known_members)} - {own}
        _write(log_file, shape, own, others, survivor)
    finally:
        log_file.close()
    return WentAlone(shape.last, shape.last.index - shape.hard_state.commit_index, tuple(sorted(servers - {own})))


def _recover(directory: Directory, identity: Identity, open_file: OpenFile, log_file: EnvironmentFile) -> Restored:
    """The log as a start would find it."""
    log_recovery.check_identity(log_file, identity, codec.LOG_ENVIRONMENT)
    head = log_recovery.read_head(log_file)
    state_file = open_file(directory.state_path(head.generation), state_tables.DATABASES, False)
    try:
        state = state_tables.open_tables(state_file)
        with state_file.reading() as transaction:
            applied = state_tables.read_head(transaction, state.where).position
    finally:
        state_file.close()
    return log_recovery.recover(log_file, head, applied)


def _refuse_unfit(directory: Directory, shape: Restored, servers: Collection[int]) -> None:
    rebuilding = shape.hard_state.rebuilding
    if not servers or not shape.last.index or (rebuilding is not None and rebuilding.asking):
        raise WrongDirectoryError(
            f"--force-new-cluster: {directory.log_path.parent} holds nothing of the cluster yet: go on with a member "
            "that has its data"
        )


def _write(log_file: EnvironmentFile, shape: Restored, own: int, others: AbstractSet[int], survivor: Survivor) -> None:
    last, term = shape.last, shape.hard_state.current_term + 1
    removed = {server for _, configuration in shape.configurations for server in configuration.removed}
    configuration = Configuration.of([own], removed={*removed, *others} - {own}, founding=survivor.founding)
    payload, command = configuration.encode(), survivor.command(others - removed)
    alone = make_entry(last.chain_hash, last.index + 1, term, EntryKind.CONFIGURATION, last.clock_ms, payload)
    forgets = make_entry(alone.chain_hash, last.index + 2, term, EntryKind.COMMAND, last.clock_ms, command)
    change = log_tables.LogChange(HardState(term, own, forgets.index), entries=[alone, forgets])
    with log_file.writing() as transaction:
        written = log_tables.write_change(transaction, shape, change, str(log_file.path))
        log_file.commit(transaction, written.last.index)
