"""Whether a member can begin in its directories, for a start that changes something elsewhere first."""

import contextlib
from pathlib import Path

from kvraft.storage import environment, log_place


def refuse_unusable(path: Path, wal_dir: Path | None, *, rebuilds: bool) -> None:
    """Find out what `open_storage` would refuse a directory for in which no member has completed its first start.

    Touches nothing. Whether this user can write there is for whoever knows users.

    Args:
        path: the data directory.
        wal_dir: where the log is wanted, if not there.
        rebuilds: the member may set aside what is left of its data.

    Raises:
        WrongDirectoryError: it is etcd's, half restored or half put back, or a place in it is taken.
        CorruptStorageError: it holds a member's data without its identity, and the member does not rebuild.
        OSError: it cannot be read.
    """
    environment.refuse_restoring(path)
    environment.refuse_half_put_back(path)
    environment.foreign_names(path)
    if not rebuilds and not (path / "identity").exists():
        with contextlib.suppress(FileNotFoundError):
            environment.refuse_remains(path)
    if wal_dir is not None:
        log_place.refuse_within(path, wal_dir)
