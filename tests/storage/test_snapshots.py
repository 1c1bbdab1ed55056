"""Snapshots as files, their transfer, and what a crash in the middle of an install leaves."""

import asyncio
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvraft.raft.effects import HardState
from kvraft.raft.restored import SnapshotFile
from kvraft.storage import failpoints
from kvraft.storage.codec import position_of
from kvraft.storage.errors import CorruptStorageError, NewerFormatError
from kvraft.storage.spool import Spool, read_header, read_spool, write_spool
from tests.storage.child import open_small
from tests.storage.processes import run
from tests.storage.support import CONFIGURATION, ORIGIN, LmdbHarness, batch, changes, entries_after, read

ENTRIES = entries_after(ORIGIN, 9)
NODES = {number: b"record %d" % number * 50 for number in range(1, 2000)}
HISTORY = {index: b"event %d" % index for index in range(1, 500)}
STALE = entries_after(ORIGIN, 12, payload=b"stale")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> SnapshotFile:
    """The state at index 7, some 1 MiB, as its sender spooled it."""
    path = tmp_path_factory.mktemp("sender") / "n2.kvraft"

    async def write() -> SnapshotFile:
        harness = LmdbHarness(path)
        harness.start()
        await harness.persist(batch(1, ENTRIES))
        await harness.flush(position_of(ENTRIES[6]), changes(NODES, HISTORY, meta=b"keyspace"))
        spooled = await harness.snapshot()
        harness.storage.close()
        return spooled

    return asyncio.run(write())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """The receiver's spool."""
    return Spool(tmp_path / "spool")


def chunks(content: bytes, size: int = 100_000) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) as a sender streams them."""
    for offset in range(0, len(content), size):
        yield offset, content[offset : offset + size]


def test_snapshot_arrives_in_chunks(snapshot: SnapshotFile, spool: Spool) -> None:
    """The finished file is the sender's, byte for byte, and describes itself."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    assert incoming.offset == 0
    for offset, chunk in chunks(read(snapshot)):
        incoming.write(offset, chunk)
    arrived = incoming.finish()
    assert read(arrived) == read(snapshot)
    assert arrived.path == str(spool.path_of(snapshot.snapshot_id))
    assert (arrived.position, arrived.configuration) == (snapshot.position, snapshot.configuration)
    message = arrived.installation(5)
    assert (message.term, message.last_included_index, message.last_included_term) == (5, 7, 1)
    assert message.last_included_hash == ENTRIES[6].chain_hash
    assert message.configuration == CONFIGURATION


def test_broken_transfer_goes_on_where_it_ended(snapshot: SnapshotFile, spool: Spool) -> None:
    """Also in another process: what has arrived is read again, so the hash covers it."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    content = read(snapshot)
    incoming.write(0, content[:150_000])
    incoming.close()
    again = Spool(spool.directory).receive(snapshot.snapshot_id, snapshot.size_bytes)
    assert again.offset == 150_000
    for offset, chunk in chunks(content[150_000:]):
        again.write(150_000 + offset, chunk)
    assert read(again.finish()) == content


def test_snapshot_that_cannot_be_installed_is_not_received(snapshot: SnapshotFile, tmp_path: Path) -> None:
    """A full disk stops a member; what has arrived already counts."""
    free = [3 * snapshot.size_bytes - 1]
    spool = Spool(tmp_path / "spool", lambda: free[0])
    with pytest.raises(OSError, match="no room"):
        spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    free[0] += 1
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot)[:1000])
    incoming.close()
    free[0] -= 1000
    again = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    again.close()
    assert again.offset == 1000


def test_transfer_of_another_snapshot_removes_the_unfinished_one(snapshot: SnapshotFile, spool: Spool) -> None:
    """One transfer at a time; a leader that has a newer snapshot makes the older one useless."""
    older = spool.receive(f"3-1-{'0' * 32}", 1000)
    older.write(0, b"x" * 500)
    older.close()
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    assert [path.name for path in spool.directory.glob("incoming/*")] == [f"{snapshot.snapshot_id}.part"]
    incoming.close()


def test_snapshots_on_their_way_in_and_out_leave_each_other_alone(snapshot: SnapshotFile, spool: Spool) -> None:
    """What has arrived and waits for its install is not removed because this member writes snapshots itself."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot))
    arrived = incoming.finish()
    header, records = read_spool(Path(snapshot.path))
    own = list(records)
    for floor in range(3):
        write_spool(spool.directory, dataclasses.replace(header, history_floor=floor), own)
    assert read(arrived) == read(snapshot)
    spool.remove(snapshot.snapshot_id)
    assert not Path(arrived.path).exists()
    assert len(list(spool.directory.glob("*.snapshot"))) == 2


def test_snapshot_that_was_not_installed_before_the_process_ended_is_removed(
    snapshot: SnapshotFile, spool: Spool
) -> None:
    """The leader sends one again if it is still wanted."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot))
    arrived = incoming.finish()
    Spool(spool.directory)
    assert not Path(arrived.path).exists()


@pytest.mark.parametrize("offset", [1, 150_001])
def test_chunk_at_another_place_is_refused(snapshot: SnapshotFile, spool: Spool, offset: int) -> None:
    """A lost or repeated chunk, or one beyond the end."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    with pytest.raises(ValueError, match=f"at {offset}, expected at 0"):
        incoming.write(offset, b"chunk")
    with pytest.raises(ValueError, match="expected at 0"):
        incoming.write(0, bytes(snapshot.size_bytes + 1))
    incoming.close()


@pytest.mark.parametrize("snapshot_id", ["", "../../etc/passwd", "7-1-xyz", f"7-1-{'a' * 31}", f"7-1-{'A' * 32}"])
def test_snapshot_id_that_is_none_is_refused(spool: Spool, snapshot_id: str) -> None:
    """It comes from a peer and becomes a file name."""
    with pytest.raises(ValueError, match="snapshot id"):
        spool.receive(snapshot_id, 1000)


def test_snapshot_of_impossible_size_is_refused(spool: Spool) -> None:
    """Not even the end mark would fit."""
    with pytest.raises(ValueError, match="snapshot of 3 bytes"):
        spool.receive(f"7-1-{'a' * 32}", 3)


@pytest.mark.parametrize("where", [0, 17, 40, 1000, 500_000, -20, -1])
def test_corrupt_chunk_is_found_when_it_has_arrived(snapshot: SnapshotFile, spool: Spool, where: int) -> None:
    """One flipped bit anywhere: nothing gets the snapshot's name, and the transfer begins anew."""
    content = bytearray(read(snapshot))
    content[where] ^= 4
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, bytes(content))
    with pytest.raises(CorruptStorageError, match="arrived damaged"):
        incoming.finish()
    assert list(spool.directory.glob("incoming/*")) == []


def test_incomplete_snapshot_is_not_finished(snapshot: SnapshotFile, spool: Spool) -> None:
    """A sender that stops early."""
    incoming = spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot)[:-1])
    with pytest.raises(CorruptStorageError, match="arrived damaged"):
        incoming.finish()


@pytest.mark.parametrize("where", [0, 17, 26, 1000, 300_000, -17, -1])
def test_bit_that_flips_in_the_spool_is_found_before_anything_is_used(
    snapshot: SnapshotFile, tmp_path: Path, where: int
) -> None:
    """Disks also change what has arrived well."""
    content = bytearray(read(snapshot))
    content[where] ^= 4
    path = tmp_path / "damaged.snapshot"
    path.write_bytes(content)
    with pytest.raises((CorruptStorageError, NewerFormatError)):
        list(read_spool(path)[1])


@pytest.mark.parametrize("kept", [0, 5, 20, 100, 300_000, -16, -1])
def test_truncated_spool_file_is_found(snapshot: SnapshotFile, tmp_path: Path, kept: int) -> None:
    """However much of it is left."""
    path = tmp_path / "short.snapshot"
    path.write_bytes(read(snapshot)[:kept])
    with pytest.raises(CorruptStorageError):
        list(read_spool(path)[1])


async def test_damaged_snapshot_is_not_installed(snapshot: SnapshotFile, lmdb_harness: LmdbHarness) -> None:
    """The failure is reported; state and log are as they were."""
    lmdb_harness.start()
    await lmdb_harness.persist(batch(1, STALE))
    await lmdb_harness.flush(position_of(STALE[0]), changes({7: b"old"}))
    content = bytearray(read(snapshot))
    content[600_000] ^= 1
    target = lmdb_harness.spool.path_of(snapshot.snapshot_id)
    target.write_bytes(content)
    await lmdb_harness.install(snapshot.installation(3))
    assert [type(failure) for failure in lmdb_harness.failures] == [CorruptStorageError]
    lmdb_harness.crash()
    target.unlink()
    lmdb_harness.reopen()
    assert lmdb_harness.stored()[1] == {7: b"old"}
    assert lmdb_harness.all_entries() == STALE


async def test_snapshot_that_ends_elsewhere_than_announced_is_not_installed(
    snapshot: SnapshotFile, lmdb_harness: LmdbHarness
) -> None:
    """The core's message and the file must name the same position."""
    lmdb_harness.start()
    shutil.copy(snapshot.path, lmdb_harness.spool.path_of(snapshot.snapshot_id))
    message = snapshot.installation(3)
    message.last_included_term = 2
    await lmdb_harness.install(message)
    assert "ends at index 7" in str(lmdb_harness.failures)


async def test_two_newest_snapshots_are_kept(lmdb_harness: LmdbHarness) -> None:
    """A transfer that is still running keeps its file while the next one is made; older ones go."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 4)
    await lmdb_harness.persist(batch(1, entries))
    made = []
    for entry in entries:
        await lmdb_harness.flush(position_of(entry), changes({1: b"%d" % entry.index}))
        made.append(await lmdb_harness.snapshot())
    left = {path.name for path in lmdb_harness.spool.directory.glob("*.snapshot")}
    assert left == {f"{snapshot.snapshot_id}.snapshot" for snapshot in made[-2:]}


async def test_equal_state_gives_an_equal_snapshot(lmdb_harness: LmdbHarness) -> None:
    """So a transfer may go on after the sender has made its snapshot again."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 1)
    await lmdb_harness.persist(batch(1, entries))
    await lmdb_harness.flush(position_of(entries[0]), changes({1: b"a"}, {1: b"e"}))
    first, second = await lmdb_harness.snapshot(), await lmdb_harness.snapshot()
    assert first == second
    assert read_header(Path(first.path)).nodes == 1


async def test_disk_that_fills_up_while_spooling_stops_the_member_and_leaves_no_snapshot(
    lmdb_harness: LmdbHarness,
) -> None:
    """A snapshot has its name only when it is whole."""
    lmdb_harness.start()

    def full() -> None:
        raise OSError(28, "No space left on device")

    failpoints.register("spool.before_rename", full)
    lmdb_harness.state.spool_snapshot(lambda _: None)
    await lmdb_harness.until(lambda: bool(lmdb_harness.failures))
    assert "No space left" in str(lmdb_harness.failures[0])
    assert list(lmdb_harness.spool.directory.glob("*.snapshot")) == []


@pytest.fixture(scope="module")
def lagging(tmp_path_factory: pytest.TempPathFactory, snapshot: SnapshotFile) -> Path:
    """A receiver with 12 stale entries, one applied, and the snapshot in its spool."""
    path = tmp_path_factory.mktemp("lagging") / "n1.kvraft"

    async def write() -> None:
        harness = LmdbHarness(path)
        harness.start()
        await harness.persist(batch(1, STALE, hard_state=HardState(2, 0xA3, 1)))
        await harness.flush(position_of(STALE[0]), changes({7: b"old"}, {1: b"old"}, meta=b"old"))
        harness.storage.close()

    asyncio.run(write())
    shutil.copy(snapshot.path, path / "spool")
    return path


STEPS = {
    "install.state_built": "old",
    "install.before_switch": "old",
    "install.after_switch": "new",
    "install.before_cleanup": "new",
    "nowhere": "new",
}


@pytest.mark.slow
@pytest.mark.parametrize("step", sorted(STEPS))
def test_crash_at_each_step_of_an_install_leaves_the_old_or_the_new(
    snapshot: SnapshotFile, lagging: Path, data_path: Path, step: str
) -> None:
    """SIGKILL between any two steps: state and log belong together, nothing is left over, and it can be done again."""
    shutil.copytree(lagging, data_path)
    outcome = run("install", data_path, step)
    assert outcome.exit_code == (0 if step == "nowhere" else -9)
    _check_installed(data_path, snapshot, STEPS[step])
    if STEPS[step] == "old":
        assert run("install", data_path, "nowhere").exit_code == 0
        _check_installed(data_path, snapshot, "new")


def _check_installed(path: Path, snapshot: SnapshotFile, which: str) -> None:
    storage = open_small(path)
    try:
        restored = storage.log.restored()
        image = storage.state.load()
        nodes = {int.from_bytes(key, "big"): record for key, record in image.nodes}
        history = {int.from_bytes(key, "big"): record for key, record in image.history}
        assert restored.hard_state.current_term == 2
        assert restored.hard_state.voted_for == 0xA3
        if which == "old":
            assert (image.meta, nodes, history) == (b"old", {7: b"old"}, {1: b"old"})
            assert storage.log.slice(1, 20, 1 << 20) == STALE
        else:
            assert (image.meta, nodes, history) == (b"keyspace", NODES, HISTORY)
            assert restored.base == restored.last == storage.state.position == snapshot.position
            assert storage.log.slice(1, 20, 1 << 20) == []
    finally:
        storage.close()
    assert len(list(path.glob("state-*"))) == 1
