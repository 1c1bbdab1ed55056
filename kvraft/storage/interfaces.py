"""What the stores need of the files below them.

`lmdb_file` and `environment` give it. The simulator gives it as well: sectors that are torn, lost and misdirected, in
virtual time, so that what runs there is the code of this package and not a model of it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import lmdb

Database: TypeAlias = "lmdb._Database"  # noqa: SLF001 -- the type of a named table has no public name
Transaction: TypeAlias = "lmdb.Transaction[bytes]"


class EnvironmentFile(Protocol):
    """One environment. What each call does and raises is said at `LmdbFile`."""

    @property
    def path(self) -> Path:
        """Its directory; the name tells what it is."""
        ...

    def database(self, name: bytes) -> Database:
        """Open or create a named table."""
        ...

    def reading(self) -> AbstractContextManager[Transaction]:
        """A read transaction."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """A write transaction."""
        ...

    def commit(self, transaction: Transaction, label: int) -> None:
        """Commit, durably, then move the watermark."""
        ...

    def size_bytes(self) -> int:
        """The length of the data file."""
        ...

    def capacity_bytes(self) -> int:
        """How long it can become: the address space that it was given."""
        ...

    def used_bytes(self) -> int:
        """Pages in use in the unnamed table."""
        ...

    def give_back(self, *, idle: bool) -> int:
        """Give free pages back to the disk, if they are too many."""
        ...

    def close(self) -> None:
        """Nobody uses it any more."""
        ...


OpenFile = Callable[[Path, int, bool], EnvironmentFile]
"""(path, number of named tables, whether to create it) to an open environment."""


class Directory(Protocol):
    """Where the environments are. See `DataDirectory`."""

    @property
    def log_path(self) -> Path:
        """The log environment."""
        ...

    def state_path(self, generation: int) -> Path:
        """The state environment of a generation."""
        ...

    @property
    def spool_path(self) -> Path:
        """Snapshots on their way out or in."""
        ...

    def free_bytes(self) -> int:
        """What the file system still has for this member."""
        ...

    def remove_other_states(self, generation: int) -> None:
        """Remove every state environment but this."""
        ...


class Jobs(Protocol):
    """Does jobs one after the other. See `StorageThread`."""

    def submit(self, doing: str, job: Callable[[], None]) -> None:
        """Queue a job."""
        ...

    def finish(self) -> None:
        """Do what is queued, then end."""
        ...
