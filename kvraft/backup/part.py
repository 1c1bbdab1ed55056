"""What has come of a backup, beside the file that it becomes; one process at a time writes it."""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import BinaryIO, Final, final

from kvraft import clock
from kvraft.storage.backup_file import PIECE_BYTES, BackupDecoder
from kvraft.storage.environment import sync_directory
from kvraft.storage.errors import BackupError, StorageError

COPY_ID: Final = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{32}")
"""The name of a copy."""
_NS_PER_S: Final = 1_000_000_000


class PartInUseError(StorageError):
    """Another process is at it."""


@final
class Part:
    """It is locked while it is open. A context manager: the file is closed at its end, and stays."""

    def __init__(self, path: Path, place: Path, copy_id: str, *, made: bool = False) -> None:
        """Open it; `made`: whether or not it is there.

        Raises:
            PartInUseError: another process has it.
            OSError: it cannot be opened, or locked.
        """
        self._path = path
        self._place = place
        self.copy_id: Final = copy_id
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if made else 0)
        self._file: BinaryIO = os.fdopen(os.open(place, flags, 0o600), "r+b")
        try:
            self._lock()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """Until it is closed. Whoever had it may have given it its name, or removed it, just before."""
        in_use = PartInUseError(f"another kvraft backup writes {self._path}")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise in_use from error
        if not self._is_there():
            raise in_use

    @staticmethod
    def find(path: Path) -> "Part | None":
        """What an earlier call has left, the most of it if there are several; the others are removed.

        Raises:
            PartInUseError: another process has one of them.
        """
        begun = path.name + "."
        places = [
            place
            for place in path.parent.glob("*.part")
            if place.name.startswith(begun) and COPY_ID.fullmatch(place.name[len(begun) : -len(".part")])
        ]
        parts: list[Part] = []
        try:
            for place in places:
                with contextlib.suppress(FileNotFoundError):  # another process has ended just now
                    parts.append(Part(path, place, place.name[len(begun) : -len(".part")]))
        except BaseException:
            for part in parts:
                part.close()
            raise
        parts.sort(key=lambda part: part.size_bytes)
        for part in parts[:-1]:
            part.remove()
            part.close()
        return parts[-1] if parts else None

    @staticmethod
    def begin(path: Path, copy_id: str) -> "Part":
        """Nothing yet."""
        part = Part(path, path.with_name(f"{path.name}.{copy_id}.part"), copy_id, made=True)
        part._file.truncate(0)
        return part

    def __enter__(self) -> "Part":
        """Nothing is to be done."""
        return self

    def __exit__(self, *_: object) -> None:
        """What was written is in the file."""
        self.close()

    def close(self) -> None:
        """It stays, and is anybody's."""
        self._file.close()

    @property
    def size_bytes(self) -> int:
        """How much has come."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def age_s(self) -> float:
        """For how long nothing has come."""
        return (clock.wall_ns() - os.fstat(self._file.fileno()).st_mtime_ns) / _NS_PER_S

    def read_into(self, decoder: BackupDecoder) -> None:
        """Verify what is there already."""
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            decoder.feed(piece)

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._file.write(chunk)

    def keep(self, size_bytes: int) -> None:
        """All has come: it gets its name, durably.

        Raises:
            BackupError: somebody who looks at no lock has put something else there; FILE stays as it was.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        if not self._is_there() or self.size_bytes != size_bytes:
            raise BackupError(f"{self._place} is not what was written to it: something else writes there, too")
        self._place.replace(self._path)
        sync_directory(self._path.parent)

    def remove(self) -> None:
        """It is of no use."""
        if self._is_there():
            self._place.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        """Whether its place is still that of the file that is open."""
        try:
            return os.path.samestat(self._place.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False
