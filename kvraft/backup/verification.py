"""Every record of a backup, or of a stopped member's data directory, read and checked."""

from collections.abc import Mapping
from pathlib import Path

from kvraft import ids
from kvraft.backup import state
from kvraft.backup.contents import Contents, moment
from kvraft.raft.configuration import Configuration
from kvraft.storage.backup_file import open_backup
from kvraft.storage.errors import BackupError
from kvraft.storage.examining import examine


def verify(path: Path) -> Mapping[str, object]:
    """What is in it, all of it verified.

    Raises:
        StorageError: it is not what was written, or something else; one line that says what to do.
        OSError: it cannot be read.
    """
    return verify_directory(path) if path.is_dir() else verify_file(path)


def verify_file(path: Path) -> Mapping[str, object]:
    """A file that `kvraft backup` wrote. Raises as `verify` does."""
    where = str(path)
    with open_backup(path) as (decoder, records):
        header, facts = decoder.header, decoder.facts
        keyspace = state.load(where, state.image_of(where, state.meta_of(where, header), records))
        copy_id = decoder.finish()
    _check_configuration(where, header.configuration)
    return {
        "kind": "backup",
        "copy": copy_id,
        "bytes": decoder.taken_bytes,
        "taken": moment(facts.taken_ns),
        "taken_by": facts.name,
        "cluster": ids.text(header.cluster_id),
        "raft_index": header.position.index,
        "raft_term": header.position.term,
        "with_history": facts.with_history,
        **Contents.of(keyspace).facts(),
    }


def verify_directory(path: Path) -> Mapping[str, object]:
    """The data directory of a member that does not run. Raises as `verify` does."""
    where = str(path)
    with examine(path) as found:
        keyspace = state.load(where, found.image)
        if found.head.position.index:
            _check_configuration(where, found.head.configuration)
        return {
            "kind": "data directory",
            "member": ids.text(found.identity.member_id),
            "name": found.identity.name,
            "cluster": ids.text(found.identity.cluster_id),
            "raft_index": found.head.position.index,
            "raft_term": found.head.position.term,
            "log_first": found.base.index + 1,
            "log_last": found.last.index,
            "commit_index": found.commit_index,
            **Contents.of(keyspace).facts(),
        }


def _check_configuration(where: str, encoded: bytes) -> None:
    try:
        Configuration.decode(encoded)
    except ValueError as error:
        raise BackupError(f"{where}: {error}") from error
