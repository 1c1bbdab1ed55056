"""Copies for backups, as files of the spool directory: written by the state thread, read by the HTTP API.

They outlive the process, so that a client goes on with the one that it has begun to fetch.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, final

from kvraft.records import BackupCopy, BackupFacts
from kvraft.storage import failpoints
from kvraft.storage.backup_file import write_backup
from kvraft.storage.spool import Record, SpoolHeader

_NAME: Final = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{32}\.backup")


@final
class BackupSpool:
    """The directory of them. It is made when the first is written."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory

    def held(self) -> list[BackupCopy]:
        """Those that an earlier process has left, the oldest first; what it has not finished is removed."""
        for unfinished in self.directory.glob("*.part"):
            unfinished.unlink()
        paths = [path for path in self.directory.glob("*.backup") if _NAME.fullmatch(path.name)]
        paths.sort(key=lambda path: path.stat().st_mtime_ns)
        return [_copy_at(path, path.stat().st_size) for path in paths]

    def write(self, facts: BackupFacts, header: SpoolHeader, records: Iterable[Record]) -> BackupCopy:
        """Write one; it has its name only once it is whole, and nothing is left of one that could not be.

        Raises:
            OSError: the disk is full, or fails.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        unfinished = self.directory / "copy.part"
        try:
            with unfinished.open("wb") as file:
                copy_id = write_backup(file, facts, header, records)
                failpoints.hit("backup.before_close")
                size_bytes = file.tell()
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        path = self.directory / f"{copy_id}.backup"
        unfinished.replace(path)
        return _copy_at(path, size_bytes)


def _copy_at(path: Path, size_bytes: int) -> BackupCopy:
    return BackupCopy(path.stem, str(path), size_bytes)
