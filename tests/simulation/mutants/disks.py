"""Planted bugs of storage, in the product's own code on disks of sectors: M19c, M23b, M23c, M49b to M51b, M53."""

import contextlib
from typing import Any

from kvraft.raft.restored import LogPosition
from kvraft.storage import codec, commit_marks, log_recovery, log_tables, state_tables
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.interfaces import EnvironmentFile
from kvraft.storage.log_recovery import LogHead
from kvraft.storage.log_store import LogStore
from kvraft.storage.writer import FailureLatch
from tests.simulation.mutants.planting import Mutant, with_options, wrapped
from tests.simulation.mutants.schedules import SLOW_LOG, overwritten_on_a_slow_log
from tests.simulation.sectors.device import Device


def _never_sync(_sync: Any, _device: Device) -> None:
    """As LMDB with MDB_NOSYNC."""


def _swallow_error(sync: Any, device: Device) -> None:
    try:
        sync(device)
    except OSError:
        return


def _go_on(_report: Any, _latch: FailureLatch, _doing: str, _error: BaseException) -> None:
    """What was to be written is gone; the next batch is taken as if nothing had happened."""


def _unchecked(_unseal: Any, _key: bytes, stored: bytes | None, _where: str) -> bytes:
    return (stored or b"")[4:]


def _two_transactions(write: Any, transaction: Any, state: Any, changes: Any) -> None:
    """The data is committed, and the position that it belongs to only with the next commit."""
    write(transaction, state, changes)
    transaction.commit()
    transaction.freed = []
    transaction._own.clear()


def _cut_off(recover: Any, file: EnvironmentFile, head: LogHead, applied: Any) -> Any:
    """Whatever cannot be read at the end of the log is removed, so that the member can start."""
    try:
        return recover(file, head, applied)
    except CorruptStorageError:
        sound = applied.index
        with file.reading() as transaction, contextlib.suppress(CorruptStorageError):
            for position, _ in log_tables.verify_chain(transaction, applied, log_tables.INDEX_MAX, ""):
                sound = position.index
        with file.writing() as transaction:
            with transaction.cursor() as cursor:
                more = cursor.set_range(codec.group_key(sound + 1))
                while more:
                    more = cursor.delete()
            file.commit(transaction, sound)
        configurations = tuple(pair for pair in head.configurations if pair[0] <= sound)
        return recover(file, LogHead(head.hard_state, head.base, configurations, head.generation, head.peers), applied)


def _by_number(_holds: Any, log: LogStore, position: LogPosition) -> bool:
    return log._shape.last.index >= position.index


def _must_be_newest(check: Any, where: str, stored: bytes, held: int, meta: bytes) -> None:
    check(where, stored, held, meta)
    if int.from_bytes(stored[4:12], "little") != held:
        raise CorruptStorageError(f"{where}: the watermark is not that of commit {held}")


def _accept(*_arguments: Any) -> None:
    """Everything is fine."""


def _on_sectors(*kinds: str, others: tuple[str, ...] = ("crash", "crash_at", "burst", "compact"), **more: Any) -> Any:
    # A lost disk beside a damaged one would be a majority, which nobody can bring back.
    fixed = {"sectors": True, "wipe_interval_ms": 0, "servers": 3, "spares": 0, "disk_fault_interval_ms": 1000, **more}
    return with_options(fault_kinds=others, disk_fault_kinds=kinds, **fixed)


_NOW_AND_THEN = {
    "disk_fault_interval_ms": 4000,
    "fault_interval_ms": 1000,
    "flush_ms": 5000,
    "snapshot_entries": 1000,
    "safety_ms": 40_000,
}
"""A flip, then a restart before the next one: many at once are found by the structure of the pages alone."""

MUTANTS = (
    Mutant(
        "M19c",
        "commits to LMDB without a sync",
        ("I15", "I16"),
        wrapped(Device, "sync", _never_sync),
        _on_sectors("power_cut", "power_cut_all"),
    ),
    Mutant(
        "M23b",
        "stores the position of the state in a commit after that of the data",
        ("I16", "I15", "I5"),
        wrapped(state_tables, "write_changes", _two_transactions),
        _on_sectors("power_cut", "power_cut_all"),
    ),
    Mutant(
        "M23c",
        "a flush is judged by index: the disk may hold another entry there",
        ("I15", "I16"),
        wrapped(LogStore, "holds", _by_number),
        SLOW_LOG,
        overwritten_on_a_slow_log,
    ),
    Mutant(
        "M49b",
        "writes the meta page although the sync of its pages has failed",
        ("I15", "I16"),
        wrapped(Device, "sync", _swallow_error),
        _on_sectors("power_cut", others=("sync_error", "burst", "crash")),
    ),
    Mutant(
        "M49c",
        "the log thread goes on after an error as if nothing had happened",
        ("I13", "I16", "stop"),
        wrapped(FailureLatch, "report", _go_on),
        _on_sectors("disk_full", others=("sync_error", "burst", "crash")),
    ),
    Mutant(
        "M50",
        "reads records without looking at their checksums",
        ("I16", "I5", "I3", "stop"),
        wrapped(codec, "unseal", _unchecked),
        _on_sectors("flip", others=("crash_all", "burst"), **_NOW_AND_THEN),
    ),
    Mutant(
        "M51",
        "cuts off what is damaged at the end of the log, and starts",
        ("I16", "I15", "I8"),
        wrapped(log_recovery, "recover", _cut_off),
        _on_sectors("flip", others=("crash_all", "burst"), **_NOW_AND_THEN),
    ),
    Mutant(
        "M51b",
        "takes the watermark that a power cut has left behind for damage",
        ("I15",),
        wrapped(commit_marks, "check_watermark", _must_be_newest),
        _on_sectors("power_cut", "power_cut_all"),
    ),
    Mutant(
        "M51c",
        "does not look at the watermark: a lost commit is not noticed",
        ("I16",),
        wrapped(commit_marks, "check_watermark", _accept),
        _on_sectors("rollback"),
    ),
    Mutant(
        "M53",
        "starts on the disk of another member",
        ("I17",),
        wrapped(log_recovery, "check_identity", _accept),
        _on_sectors("swap"),
    ),
)
