"""The log environment on a disk of its own (`--wal-dir`).

<data-dir>/log          a link to <wal-dir>/log-<member>-<key>, which is the environment
<data-dir>/log-link     what `log` is going to be, while a move is under way: such a link, or the environment itself
<data-dir>/log-leaving  what `log` was, while a move comes to its end
<data-dir>/log-again    a link on its way to `log`, when the disk has another place; never followed

Everything else that looks after the data directory moves the link like any entry: so what a rebuild sets aside keeps
its log, and gets it back. The key is random, made with each environment: no other directory can be taken for it, and
members may share a --wal-dir.

A move copies, and changes `log` when the copy is durable. Killed anywhere, it goes on at the next start.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from kvraft import logs
from kvraft.storage import failpoints
from kvraft.storage.codec import REMEDY
from kvraft.storage.environment import ASIDE_PREFIX, DataDirectory, is_ours, make_directory, sync_directory
from kvraft.storage.errors import CorruptStorageError, DirectoryInUseError, WrongDirectoryError

_log = logs.get(__name__)

_PIECE_BYTES: Final = 1 << 20
_NOT_COPIED: Final = "lock.mdb"
"""LMDB's readers, of processes that are gone."""


@final
class LogPlace:
    """Where the log of a locked data directory is, and where it should be."""

    def __init__(self, directory: DataDirectory, wal_dir: Path | None, member_id: int) -> None:
        """Look at nothing yet.

        Args:
            directory: the data directory.
            wal_dir: where logs are wanted; None: wherever this one is. The data directory itself: there.
            member_id: whose it is.

        Raises:
            WrongDirectoryError: it is within what kvraft keeps in the data directory.
        """
        self._directory = directory
        self._data: Final = directory.path
        self._log: Final = directory.log_path
        self._link: Final = self._data / "log-link"
        self._leaving: Final = self._data / "log-leaving"
        self._wal_dir = wal_dir
        self._prefix = f"log-{member_id:x}-"
        if wal_dir is not None:
            refuse_within(self._data, wal_dir)

    def begin(self, *, is_new: bool) -> None:
        """Make the place of an environment that is about to be created. `is_new`: for a member that has lost nothing.

        Raises:
            WrongDirectoryError: another log of this member is there, so its data directory is the wrong one, or lost.
            OSError: it cannot be made; its `filename` says which.
        """
        for leftover in (self._log, self._link, self._leaving):
            remove(leftover)
        if self._wal_dir is None or self._is_data(self._wal_dir):
            return
        self._make_wal_dir(self._wal_dir)
        if is_new:
            self._refuse_others(self._wal_dir)
        self._log.symlink_to(self._new_target(self._wal_dir))
        sync_directory(self._data)

    def settle(self) -> None:
        """Finish a move that was interrupted, and move the log to where it is wanted.

        Raises:
            CorruptStorageError: the log is not where its link leads.
            WrongDirectoryError: where it is wanted is another log of this member, or no room.
        """
        (self._data / "log-again").unlink(missing_ok=True)
        if not os.path.lexists(self._log) and os.path.lexists(self._leaving):
            (self._link if os.path.lexists(self._link) else self._leaving).rename(self._log)
            sync_directory(self._data)
        if os.path.lexists(self._leaving):
            self._finish()
        here = self._target()
        wanted = self._wal_dir
        if wanted is None or _same(here.parent, wanted):
            remove(self._link)
            if wanted is None and self._log.is_symlink():
                _log.info("the log stays where it is: give --wal-dir, or --data-dir for it", directory=here)
        elif self._log.is_symlink() and not here.exists() and (wanted / here.name).is_dir():
            self._lead_to(wanted / here.name)
        elif here.exists():
            self._move(here, wanted)
        self._check()

    def hold(self) -> None:
        """Lock an environment that is elsewhere, as a copy of the data directory leads to it too.

        Raises:
            DirectoryInUseError: another process has it.
        """
        if not self._log.is_symlink():
            return
        descriptor = os.open(self._log, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directory.hold_too(self._log, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUseError(
                f"the log {self._target()} is in use by a process with another data directory: "
                "stop it, or give this member its own data"
            ) from None
        for orphan in self._others(self._target().parent):
            _log.warning("a log of this member that nothing leads to: remove it if it is old", directory=orphan)

    def _check(self) -> None:
        here = self._target()
        if self._log.is_symlink() and not here.is_dir():
            asked = f"--wal-dir={self._wal_dir}" if self._wal_dir is not None else f"{self._log}"
            raise CorruptStorageError(
                f"{asked}: the log that belongs to {self._data} is {here}, and is not there: mount its disk, or give "
                f"the --wal-dir that has {here.name}; or else {REMEDY}"
            )

    def _target(self) -> Path:
        """Where the environment is."""
        return self._log.readlink() if self._log.is_symlink() else self._log

    def _is_data(self, path: Path) -> bool:
        return _same(path, self._data)

    def _make_wal_dir(self, wal_dir: Path) -> None:
        try:
            make_directory(wal_dir)
        except OSError as error:
            raise _unusable(wal_dir, error) from error

    def _new_target(self, wal_dir: Path) -> Path:
        return wal_dir.absolute() / f"{self._prefix}{secrets.token_hex(8)}"

    def _others(self, wal_dir: Path) -> list[Path]:
        """Logs of this member there which neither the data directory nor what was set aside in it leads to."""
        places = [self._data, *(path for path in self._data.glob(f"{ASIDE_PREFIX}*"))]
        links = [link for place in places for link in place.glob("log*") if link.is_symlink()]
        known = {link.readlink().name for link in links}
        return sorted(path for path in wal_dir.glob(f"{self._prefix}*") if path.name not in known)

    def _refuse_others(self, wal_dir: Path) -> None:
        others = self._others(wal_dir)
        if others:
            raise WrongDirectoryError(
                f"--wal-dir={wal_dir} holds a log of this member, {others[0].name}, that --data-dir={self._data} does "
                "not belong to: give the data directory that does, or move that log away"
            )

    def _lead_to(self, target: Path) -> None:
        """The disk is mounted elsewhere now."""
        again = self._data / "log-again"
        again.symlink_to(target.absolute())
        again.rename(self._log)
        sync_directory(self._data)
        _log.info("the log was found in another place", directory=target)

    def _move(self, here: Path, wanted: Path) -> None:
        is_back = self._is_data(wanted)
        if not is_back:
            self._make_wal_dir(wanted)
            if not (self._link.is_symlink() and _same(self._link.readlink().parent, wanted)):
                remove(self._link)
                self._refuse_others(wanted)
                self._link.symlink_to(self._new_target(wanted))
                sync_directory(self._data)
        elif self._link.is_symlink():
            remove(self._link)
        target = self._link if is_back else self._link.readlink()
        _log.info("the log moves: give it a moment", origin=here, directory=wanted)
        try:
            copied = _copy(here, target)
        except OSError as error:
            remove(self._link)
            raise _unusable(wanted, error) from error
        failpoints.hit("log_place.copied")
        self._log.rename(self._leaving)
        sync_directory(self._data)
        failpoints.hit("log_place.leaving")
        self._link.rename(self._log)
        sync_directory(self._data)
        failpoints.hit("log_place.arrived")
        self._finish()
        _log.info("the log has moved", origin=here, directory=wanted, bytes=copied)

    def _finish(self) -> None:
        remove(self._leaving)
        sync_directory(self._data)


def refuse_within(data_dir: Path, wal_dir: Path) -> None:
    """Raises WrongDirectoryError if a place for logs is within what kvraft keeps in the data directory."""
    if wal_dir.is_relative_to(data_dir):
        below = wal_dir.relative_to(data_dir).parts
        if below and is_ours(below[0]):
            raise WrongDirectoryError(
                f"--wal-dir={wal_dir}: kvraft keeps something else there: give a directory of its own"
            )


def remove(path: Path) -> None:
    """Remove what is there, if anything: a link to an environment together with that."""
    if path.is_symlink():
        target = path.readlink()
        if target.is_dir():
            shutil.rmtree(target)
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one directory, there or not."""
    return one.resolve() == other.resolve()


def _unusable(wal_dir: Path, error: OSError) -> WrongDirectoryError:
    return WrongDirectoryError(
        f"--wal-dir={wal_dir}: {error.strerror}: give a directory that this user can write, on a disk with room"
    )


def _copy(source: Path, target: Path) -> int:
    """Copy an environment durably, over whatever an earlier attempt left; how many bytes of it are data."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(mode=0o700)
    copied = 0
    for file in source.iterdir():
        if file.name != _NOT_COPIED:
            copied += _copy_file(file, target / file.name)
    sync_directory(target)
    sync_directory(target.parent)
    return copied


def _copy_file(source: Path, target: Path) -> int:
    """Copy a file with its holes, which are a large part of a log; how much of it is data."""
    copied = 0
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(writing, os.fstat(reading).st_size)
            for start, end in _data_ranges(reading):
                for offset in range(start, end, _PIECE_BYTES):
                    piece = os.pread(reading, min(_PIECE_BYTES, end - offset), offset)
                    copied += os.pwrite(writing, piece, offset)
            os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return copied


def _data_ranges(descriptor: int) -> Iterator[tuple[int, int]]:
    """From where to where a file is more than a hole."""
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to its end, or nothing
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
