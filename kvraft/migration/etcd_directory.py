"""A stopped etcd's data directory: which snapshot, which part of the log, and what they come to together.

Nothing in the directory is changed. While it is read its log is held by a shared lock, so that no etcd starts on it.
"""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from kvraft.migration import etcd_wal
from kvraft.migration.contents import Contents, MigrationError, UnusableError
from kvraft.migration.etcd_entries import Entry, OfVersion3, asked, entry_of
from kvraft.migration.etcd_replay import EtcdReplay
from kvraft.migration.etcd_snapshot import EtcdSnapshot, place_of, read_snapshot, snapshot_paths
from kvraft.migration.protobuf_fields import NotProtobufError, fields_of, number_in

_BUSY: Final = (errno.EACCES, errno.EAGAIN)


@final
@dataclass(slots=True)
class _Log:
    """What the write-ahead log says behind a snapshot."""

    entries: list[Entry] = field(default_factory=list)
    """Without a gap from the snapshot on; those behind `commit` may never have been acknowledged."""
    commit: int = 0
    snapshots: set[tuple[int, int]] = field(default_factory=set)
    """Index and term of each that the log says was taken."""
    metadata: bytes = b""
    """Whose log it is, the same in every file."""
    torn: str = ""


def read_directory(directory: Path, wal_directory: Path | None = None, *, committed_only: bool = False) -> Contents:
    """Everything that a member of etcd 2.x or 3.x has stored of its v2 store.

    Entries behind the last commit that it wrote down are taken, as a write that its client was told of may be among
    them; `committed_only` leaves them.

    Raises:
        UnusableError: no such directory, an etcd runs in it, or it is damaged.
    """
    member = _member_directory(directory)
    log_directory = wal_directory or member / "wal"
    if not log_directory.is_dir():
        raise UnusableError(f"{log_directory}: no such directory; where the log has its own disk, name it (--wal-dir)")
    files = etcd_wal.wal_files(log_directory)
    with _held(files):
        snapshot, log, notes = _best_snapshot(member / "snap", files)
        return _replayed(snapshot, log, notes, committed_only=committed_only)


def _member_directory(directory: Path) -> Path:
    if not directory.exists():
        raise UnusableError(f"{directory}: no such directory")
    if not directory.is_dir():
        raise UnusableError(f"{directory}: a file; the data directory of an etcd is wanted, the one with member/ in it")
    for member in (directory / "member", directory):
        if (member / "wal").is_dir() or (member / "snap").is_dir():
            return member
    if (directory / "identity").is_file():
        raise UnusableError(f"{directory}: of kvraft; start it and name its URL instead, or use `kvraft backup`")
    if (directory / "log").exists() or (directory / "snapshot").is_dir():
        raise UnusableError(f"{directory}: of etcd 0.4; start it once with etcd 2.x, which upgrades it")
    raise UnusableError(f"{directory}: no data of an etcd is there (member/wal and member/snap)")


@contextlib.contextmanager
def _held(files: list[etcd_wal.WalFile]) -> Iterator[None]:
    """No etcd runs on these files, and none starts: it locks each for writing (pkg/fileutil/lock_linux.go)."""
    with contextlib.ExitStack() as stack:
        for file in files:
            opened = stack.enter_context(etcd_wal.open_file(file.path))
            try:
                fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _BUSY:
                    raise
                raise UnusableError(
                    f"{file.path}: an etcd is running on it; stop it first, or import from its URL with --from"
                ) from error
        yield


def _best_snapshot(directory: Path, files: list[etcd_wal.WalFile]) -> tuple[EtcdSnapshot | None, _Log, list[str]]:
    """The newest sound snapshot that the log knows, with the log behind it (snap/snapshotter.go)."""
    notes: list[str] = []
    for path in snapshot_paths(directory) if directory.is_dir() else []:
        term, index = place_of(path)
        try:
            snapshot = read_snapshot(path)
        except MigrationError as error:
            notes.append(f"{error}; the one before it is used")
            continue
        log = _read_log(etcd_wal.files_from(files, index), index)
        if (index, term) in log.snapshots:
            # Taken of what was applied, so committed, though the log may not say so yet.
            log.commit = max(log.commit, index)
            return snapshot, log, notes
        notes.append(f"{path}: its log does not know of this snapshot; the one before it is used")
    if files[0].first_index:
        begins = f"{directory}: no sound snapshot, and the log begins at entry {files[0].first_index}"
        raise UnusableError("; ".join([begins, "take the directory of another member", *notes]))
    return None, _read_log(files, 0), notes


def _read_log(files: list[etcd_wal.WalFile], snapshot_index: int) -> _Log:
    """wal/wal.go, `ReadAll`."""
    reader = etcd_wal.WalReader(files)
    log = _Log()
    for record in reader.records():
        try:
            _take(record, log, snapshot_index)
        except NotProtobufError as error:
            raise UnusableError(f"{record.place}: no record of an etcd up to 3.5 ({error})") from error
    log.torn = reader.torn
    return log


def _take(record: etcd_wal.WalRecord, log: _Log, snapshot_index: int) -> None:
    """What kind a record is stands outside its checksum, so each has to look like its kind."""
    if record.kind == etcd_wal.ENTRY:
        _append(log.entries, entry_of(record.data), snapshot_index, record.place)
        return
    fields = fields_of(record.data)
    if record.kind == etcd_wal.STATE and fields.keys() == {1, 2, 3} and number_in(fields, 1):
        log.commit = number_in(fields, 3)
    elif record.kind == etcd_wal.SNAPSHOT and {1, 2} <= fields.keys() <= {1, 2, 3}:
        log.snapshots.add((number_in(fields, 1), number_in(fields, 2)))
    elif record.kind == etcd_wal.METADATA and fields.keys() == {1, 2} and log.metadata in (b"", record.data):
        log.metadata = record.data
    elif record.kind != etcd_wal.CRC or fields:
        raise NotProtobufError(f"of kind {record.kind}, which does not look like one")


def _append(entries: list[Entry], entry: Entry, snapshot_index: int, place: str) -> None:
    """Behind those before it; a later leader's entry takes the place of what was never committed."""
    number = entry.index - snapshot_index - 1
    if number < 0:
        return
    if number > len(entries):
        missing = snapshot_index + 1 + len(entries)
        raise UnusableError(f"{place}: entry {entry.index} where {missing} belongs; take another member's directory")
    del entries[number:]
    entries.append(entry)


def _replayed(snapshot: EtcdSnapshot | None, log: _Log, notes: list[str], *, committed_only: bool) -> Contents:
    replay = EtcdReplay()
    if snapshot is not None:
        replay.restore(snapshot)
    if log.torn:
        notes.append(
            f"{log.torn}: the last record is torn, as a crash leaves it; it was never acknowledged, and is left"
        )
    of_version_3 = beyond = 0
    for entry in log.entries:
        if entry.index > log.commit:
            if committed_only:
                break
            beyond += 1
        try:
            request = asked(entry)
        except (NotProtobufError, ValueError) as error:
            raise UnusableError(f"entry {entry.index} of the log is no request of etcd ({error})") from error
        of_version_3 += isinstance(request, OfVersion3)
        replay.apply(request)
    contents = replay.contents()
    if beyond:
        notes.append(
            f"the last {beyond} entries were taken though the log does not say yet that they are committed: writes that"
            " clients were told of may be among them (--committed-only leaves them)"
        )
    if of_version_3:
        notes.append(
            f"{of_version_3} requests of the v3 API were passed over: its keys are not in the v2 store"
            " (etcdctl snapshot is for them)"
        )
    contents.notes = notes
    return contents
