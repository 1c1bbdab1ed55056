"""What can be wrong with a disk. Every message is one line that says what was found, where, and what to do."""

from typing import ClassVar, final


class StorageError(Exception):
    """The stored data cannot be used, or can no longer be written."""

    rebuild_helps: ClassVar = False
    """Whether the other members' data can take the place of what is wrong here."""


@final
class DirectoryInUseError(StorageError):
    """Another process holds the data directory."""


@final
class WrongDirectoryError(StorageError):
    """The data directory belongs to another member or cluster, or is no data directory at all."""


@final
class NewerFormatError(StorageError):
    """A newer kvraft has written the data directory."""


@final
class CorruptStorageError(StorageError):
    """Bytes on disk are not what was written, or an acknowledged write is missing. Nothing of it may be served."""

    rebuild_helps: ClassVar = True


@final
class StorageFailedError(StorageError):
    """Writing failed. Nothing that came after it is durable, whatever later calls would say; the process must stop."""


@final
class BackupError(StorageError):
    """A backup is no backup, not what was written, or cannot be put where it is wanted."""
