"""The data directory as a whole: first starts that break off, address space, free space, timers."""

import asyncio
import errno
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest

from kvraft.founding import Founder, Identity
from kvraft.raft.effects import HardState, Rebuilding
from kvraft.storage import codec, environment, failpoints, identity_keeper, lmdb_file, log_store
from kvraft.storage.aside import put_back
from kvraft.storage.codec import position_of
from kvraft.storage.environment import DataDirectory, lock_directory, stored_identity
from kvraft.storage.errors import (
    CorruptStorageError,
    DirectoryInUseError,
    StorageError,
    StorageFailedError,
    WrongDirectoryError,
)
from kvraft.storage.opening import open_storage
from tests.storage.child import open_small
from tests.storage.support import CONFIGURATION, IDENTITY, ORIGIN, LmdbHarness, batch, changes, entries_after, vote


@pytest.mark.parametrize("where", ["identity.before_rename", "directory.created"])
def test_first_start_that_breaks_off_is_repeated(data_path: Path, where: str) -> None:
    """Wherever creation stopped, the next start is a first start again, and the directory is not left locked."""

    def fail() -> None:
        raise OSError(28, "No space left on device")

    failpoints.register(where, fail)
    with pytest.raises(OSError, match="No space left"):
        open_small(data_path)
    failpoints.clear()
    storage = open_small(data_path)
    assert storage.fresh
    assert storage.log.restored().last == ORIGIN
    storage.close()
    storage = open_small(data_path)
    assert not storage.fresh
    storage.close()


def test_first_start_that_broke_off_binds_nobody(data_path: Path) -> None:
    """Of a member that was removed before it came, and added again under another id."""

    def fail() -> None:
        raise OSError(5, "killed here")

    failpoints.register("directory.created", fail)
    with pytest.raises(OSError, match="killed here"):
        open_small(data_path)
    failpoints.clear()
    other = replace(IDENTITY, member_id=0xB1)
    storage = open_small(data_path, other)
    assert storage.fresh
    storage.close()
    assert stored_identity(data_path) == other


def test_lock_is_held_against_the_same_process_too_and_released_by_close(data_path: Path) -> None:
    """Two stores over one directory would destroy it, whoever opens them."""
    storage = open_small(data_path)
    with pytest.raises(DirectoryInUseError, match="is in use by process"):
        open_small(data_path)
    storage.close()
    open_small(data_path).close()


def test_refused_directory_is_not_left_locked(data_path: Path) -> None:
    """The operator corrects the flag and starts again."""
    open_small(data_path).close()
    with pytest.raises(Exception, match="belongs to cluster"):
        open_storage(data_path, type(IDENTITY)(0xDEAD, IDENTITY.member_id, "n1"), CONFIGURATION)
    lock_directory(data_path).close()


def test_rebuild_sets_everything_aside_and_remembers_that_it_asks(data_path: Path) -> None:
    """Nothing is deleted. The next start goes on asking, without being told again."""
    open_small(data_path).close()
    (data_path / "log" / "mark").write_text("old")
    vote(data_path)
    storage = open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason")
    assert storage.fresh
    assert storage.log.restored().hard_state == HardState(0, 0, 0, Rebuilding(asking=True))
    storage.close()
    (aside,) = data_path.glob("damaged-*")
    assert (aside / "log" / "mark").read_text() == "old"
    assert stored_identity(aside) == stored_identity(data_path) == IDENTITY
    storage = open_small(data_path)
    assert not storage.fresh
    assert storage.log.restored().hard_state.rebuilding == Rebuilding(asking=True)
    storage.close()


def test_rebuild_is_refused_while_what_an_earlier_one_set_aside_is_there(data_path: Path) -> None:
    """A failing disk under a supervisor would fill itself; and the oldest copy may be the one that is needed."""
    open_small(data_path).close()
    vote(data_path)
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()
    (aside,) = data_path.glob("damaged-*")
    vote(data_path)
    with pytest.raises(WrongDirectoryError, match=f"another reason: .*{aside.name} is still there: .*move"):
        open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="another reason")
    assert list(data_path.glob("damaged-*")) == [aside]
    open_small(data_path).close()
    aside.rename(data_path.with_name("elsewhere"))
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="another reason").close()
    assert len(list(data_path.glob("damaged-*"))) == 1


def test_rebuild_of_a_directory_that_is_not_there_sets_nothing_aside(data_path: Path) -> None:
    """The disk itself was lost."""
    storage = open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason")
    assert storage.log.restored().hard_state.rebuilding == Rebuilding(asking=True)
    storage.close()
    assert list(data_path.glob("damaged-*")) == []


@pytest.mark.parametrize("where", ["identity.before_rename", "directory.created"])
def test_rebuild_that_dies_after_it_has_set_aside_goes_on(data_path: Path, where: str) -> None:
    """The next start needs no flag: it is not a new member, as what it had lies there."""
    open_small(data_path).close()
    vote(data_path)

    def fail() -> None:
        raise OSError(5, "killed here")

    failpoints.register(where, fail)
    with pytest.raises(OSError, match="killed here"):
        open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason")
    failpoints.clear()
    storage = open_small(data_path)
    assert storage.log.restored().hard_state.rebuilding == Rebuilding(asking=True)
    storage.close()


def _lay_foreign_files(data_path: Path) -> dict[str, str]:
    """What packages, people and tools leave in a directory; it is open to others, too."""
    data_path.mkdir(mode=0o755)
    files = {
        ".keep": "",
        "README": "keep out",
        ".snapshot/hourly": "theirs",
        "damaged-parts.txt": "a list",
        "state-1.bak/data.mdb": "a copy",
        "state-of-things": "a note",
    }
    for name, text in files.items():
        (data_path / name).parent.mkdir(exist_ok=True)
        (data_path / name).write_text(text)
    return files


def test_foreign_files_are_left_alone_and_said_once(data_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Through a first start, a later one, a rebuild and the way back; the permissions are the owner's, too."""
    files = _lay_foreign_files(data_path)
    storage = open_small(data_path)
    assert storage.fresh
    storage.close()
    [warning] = caplog.records
    assert warning.getMessage() == "the data directory has files of others, which are left alone"
    assert vars(warning)["kvraft_fields"] == {
        "directory": data_path,
        "names": ".keep, .snapshot, README, state-1.bak, state-of-things",
    }
    open_small(data_path).close()
    assert len(caplog.records) == 1
    vote(data_path)
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()
    put_back(data_path)
    assert {name: (data_path / name).read_text() for name in files} == files
    assert data_path.stat().st_mode & 0o777 == 0o755
    assert (data_path / "log").stat().st_mode & 0o777 == 0o700
    open_small(data_path).close()


@pytest.mark.parametrize("name", ["log", "spool"])
@pytest.mark.parametrize("rebuild", ["", "a reason"])
def test_file_in_the_place_of_a_directory_is_refused_untouched(data_path: Path, name: str, rebuild: str) -> None:
    """What somebody wrote there, as by `2>D/log`, is no damage of ours, and no rebuild moves it."""
    data_path.mkdir()
    (data_path / name).write_text("theirs")
    with pytest.raises(WrongDirectoryError, match=f"{name} is somebody's file, .*: move it away"):
        open_storage(data_path, IDENTITY, CONFIGURATION, rebuild=rebuild)
    assert [path.name for path in data_path.iterdir()] == [name]


def test_damage_is_seen_beside_foreign_files(data_path: Path) -> None:
    """A log without an identity is no fresh directory, whatever lies there too."""
    _lay_foreign_files(data_path)
    open_small(data_path).close()
    (data_path / "identity").unlink()
    with pytest.raises(CorruptStorageError, match="identity is missing, and log is there"):
        open_small(data_path)


def test_new_name_of_a_member_is_kept(data_path: Path) -> None:
    """The next start knows it, and the founders stay as they were."""
    open_small(data_path).close()
    renamed = replace(IDENTITY, name="another")
    open_storage(data_path, renamed, CONFIGURATION).close()
    assert stored_identity(data_path) == renamed


async def test_members_of_the_day_are_kept_with_the_identity_until_they_are_the_founders(data_path: Path) -> None:
    """By the state thread, in its turn; a close waits for it. What need not be written is not."""
    founders = (Founder(0xA1, "n1", ("http://a:1",)), Founder(0xA2, "n2", ("http://b:1",)))
    identity = replace(IDENTITY, founders=founders, replaces=0xA9)
    grown = (*founders, Founder(0xA3, "n3", ("http://c:1",)))
    for members, kept in ((grown, grown), (founders[::-1], ())):
        storage = open_small(data_path, identity)
        storage.start(asyncio.get_running_loop(), lambda _: None, _raise)
        storage.keep_members(members)
        storage.forget_replaced()
        storage.close()
        assert stored_identity(data_path) == replace(identity, members=kept, replaces=0)


async def test_identity_that_cannot_be_written_now_is_written_later(
    data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor left, or on a full disk, the member goes on; what came first is kept first."""
    founders = (Founder(0xA1, "n1", ("http://a:1",)),)
    identity = replace(IDENTITY, founders=founders, replaces=0xA9)
    storage = open_small(data_path, identity)
    storage.start(asyncio.get_running_loop(), lambda _: None, _raise)
    failed, kept = asyncio.Event(), asyncio.Event()
    loop, real = asyncio.get_running_loop(), environment.change_identity

    def fail(*_: object) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise OSError(errno.EMFILE, "Too many open files")

    def succeed(directory: DataDirectory, change: Callable[[Identity], Identity]) -> None:
        real(directory, change)
        loop.call_soon_threadsafe(kept.set)

    monkeypatch.setattr(identity_keeper, "AGAIN_S", 0.01)
    monkeypatch.setattr(environment, "change_identity", fail)
    storage.keep_members((*founders, Founder(0xA2, "n2", ("http://b:1",))))
    async with asyncio.timeout(10):
        await failed.wait()
    storage.keep_members((*founders, Founder(0xA3, "n3", ("http://c:1",))))
    storage.forget_replaced()
    monkeypatch.setattr(environment, "change_identity", succeed)
    async with asyncio.timeout(10):
        await kept.wait()
    storage.close()
    after = (*founders, Founder(0xA3, "n3", ("http://c:1",)))
    assert stored_identity(data_path) == replace(identity, members=after, replaces=0)


def _raise(error: StorageError) -> None:
    raise error


def test_file_system_that_is_mounted_as_the_directory_is_an_empty_one(data_path: Path) -> None:
    """What mkfs has put there is nobody's data, at a first start and after a lost disk."""
    (data_path / "lost+found").mkdir(parents=True)
    storage = open_small(data_path)
    assert storage.fresh
    storage.close()
    vote(data_path)
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()
    assert (data_path / "lost+found").is_dir()


def test_directory_of_etcd_is_left_as_it_is_and_the_way_told(data_path: Path) -> None:
    """A unit file that names etcd's directory: nothing is created in it, and its permissions stay."""
    (data_path / "member" / "wal").mkdir(parents=True)
    data_path.chmod(0o750)
    with pytest.raises(
        WrongDirectoryError, match=r"--data-dir=.* holds etcd's data, .* empty directory, .*Coming from"
    ):
        open_storage(data_path, IDENTITY, CONFIGURATION)
    assert [path.name for path in data_path.iterdir()] == ["member"]
    assert data_path.stat().st_mode & 0o777 == 0o750


def test_rebuild_that_dies_while_it_sets_aside_leaves_a_damaged_directory(
    data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never an empty one, which could be taken for a new member's: the identity goes last."""
    open_small(data_path).close()
    vote(data_path)
    genuine = Path.rename
    moved: list[str] = []

    def dying(path: Path, target: Path) -> Path:
        if moved:
            raise OSError(5, "killed here")
        moved.append(path.name)
        return genuine(path, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(OSError, match="killed here"):
        open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason")
    monkeypatch.undo()
    assert moved == ["log"]
    with pytest.raises(CorruptStorageError):
        open_small(data_path)
    storage = open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="again")
    assert storage.log.restored().hard_state.rebuilding is not None
    storage.close()
    (aside,) = data_path.glob("damaged-*")
    assert {"log", "identity"} <= {entry.name for entry in aside.iterdir()}, "it went on where it stopped"


def test_member_that_rebuilds_never_becomes_a_new_one_by_a_flipped_bit(data_path: Path) -> None:
    """What it has still to get back stands in the hard state: a flip anywhere in that record is found.

    As a record of its own it went missing when a bit of its key flipped (simulator, seed 5510962793363716893).
    """
    open_small(data_path).close()
    vote(data_path)
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()
    data = data_path / "log" / "data.mdb"
    whole = data.read_bytes()
    assert b"rebuilding" not in whole
    places = [found.start() for found in re.finditer(re.escape(codec.HARD_STATE_KEY), whole)]
    assert places
    record_bytes = len(codec.HARD_STATE_KEY) + len(codec.encode_hard_state(HardState(0, 0, 0, Rebuilding(True))))
    found = 0
    for bit in (8 * place + bit for place in places for bit in range(8 * record_bytes)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        data.write_bytes(damaged)
        try:
            storage = open_small(data_path)
        except CorruptStorageError:
            found += 1
            continue
        assert storage.log.restored().hard_state == HardState(0, 0, 0, Rebuilding(asking=True)), f"bit {bit}"
        storage.close()
    assert found >= 8 * record_bytes


def test_record_that_nobody_wrote_is_found(data_path: Path) -> None:
    """A peer's record under a flipped key would be forgotten, and with it what that peer acknowledged."""
    storage = open_small(data_path)
    storage.close()
    with lmdb.open(str(data_path / "log"), map_size=1 << 20) as environment, environment.begin(write=True) as writing:
        writing.put(b"\0peeR/12345678", b"x")
    (data_path / "log" / "watermark").unlink()
    with pytest.raises(CorruptStorageError, match=r"peeR/12345678.* is none of ours; .*--rebuild"):
        open_small(data_path)


async def test_floor_of_a_rebuild_is_durable_with_its_term_and_goes_with_the_log(lmdb_harness: LmdbHarness) -> None:
    """Term, vote and floor are one record; once the log reaches it the floor is gone."""
    lmdb_harness.start()
    floor = Rebuilding(False, 4, 9)
    await lmdb_harness.persist(batch(1, hard_state=HardState(5, 0xA1, 0, floor)))
    lmdb_harness.crash()
    lmdb_harness.reopen()
    assert lmdb_harness.log.restored().hard_state == HardState(5, 0xA1, 0, floor)
    lmdb_harness.start()
    await lmdb_harness.persist(batch(1, entries_after(ORIGIN, 3), hard_state=HardState(5, 0xA1, 0)))
    lmdb_harness.crash()
    lmdb_harness.reopen()
    assert lmdb_harness.log.restored().hard_state.rebuilding is None


def test_maps_of_full_size_open_and_take_no_disk(data_path: Path) -> None:
    """They are address space: the files stay as small as their content."""
    storage = open_storage(data_path, IDENTITY, CONFIGURATION)
    assert storage.log.size_bytes() + storage.state.size_bytes() < 1 << 20
    storage.close()


def test_smaller_map_is_taken_where_the_system_refuses_the_large_one(
    data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on address space (ulimit -v) halves the map until it fits, down to 1 GiB."""
    asked: list[int] = []
    genuine = lmdb.open

    def limited(path: str, *, map_size: int, **options: Any) -> lmdb.Environment:
        asked.append(map_size)
        if map_size > 3 << 30:
            raise lmdb.MemoryError("mmap")
        return genuine(path, map_size=map_size, **options)

    monkeypatch.setattr(lmdb, "open", limited)
    open_storage(data_path, IDENTITY, CONFIGURATION).close()
    assert asked[:6] == [size << 30 for size in (64, 32, 16, 8, 4, 2)]
    monkeypatch.setattr(lmdb_file, "MAP_BYTES_MIN", 4 << 30)
    with pytest.raises(StorageFailedError, match=r"cannot be used: mmap; give a directory"):
        open_storage(data_path, IDENTITY, CONFIGURATION)


def test_free_space_is_what_the_file_system_says(data_path: Path) -> None:
    """The member compares it with its floor, before a write can fail."""
    storage = open_small(data_path)
    assert isinstance(storage.directory, DataDirectory)
    assert 0 < storage.directory.free_bytes() < 1 << 60
    storage.close()


def test_directory_that_was_taken_away_is_named(data_path: Path) -> None:
    """An operator removed it under the member, which hears of it when it measures free space."""
    storage = open_small(data_path)
    assert isinstance(storage.directory, DataDirectory)
    shutil.rmtree(data_path)
    with pytest.raises(StorageFailedError, match=f"^--data-dir={data_path}: No such file or directory: the directory"):
        storage.directory.free_bytes()
    storage.close()


async def test_peers_and_commit_index_are_durable_within_a_second_without_any_batch(lmdb_harness: LmdbHarness) -> None:
    """They wait for a batch to ride on, but not for long."""
    lmdb_harness.start()
    await lmdb_harness.persist(batch(1, entries_after(ORIGIN, 3), hard_state=HardState(1, 0, 0)))
    loop, committed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(committed.set)

    failpoints.register("log.after_commit", tell)
    lmdb_harness.log.remember_peer(0xA2, 2)
    lmdb_harness.log.persist(batch(2, hard_state=HardState(1, 0, 3), must_sync=False))
    assert not committed.is_set()
    assert log_store.LAZY_DELAY_S <= 0.5
    async with asyncio.timeout(30):  # for a commit on a busy disk
        await committed.wait()
    failpoints.clear()
    lmdb_harness.crash()
    lmdb_harness.reopen()
    assert lmdb_harness.log.peer_seen(0xA2) == 2
    assert lmdb_harness.log.restored().hard_state.commit_index == 3


async def test_waiting_batches_share_one_sync(lmdb_harness: LmdbHarness) -> None:
    """While one commit runs, what is queued becomes the next one, whole."""
    lmdb_harness.start()
    commits: list[None] = []
    failpoints.register("log.before_commit", lambda: commits.append(None))
    entries = entries_after(ORIGIN, 200)
    with lmdb_harness.storage.log._writing:  # the first commit takes long
        for number, entry in enumerate(entries, start=1):
            lmdb_harness.log.persist(batch(number, [entry]))
    await lmdb_harness.until(lambda: 200 in lmdb_harness.persisted)
    assert lmdb_harness.persisted == list(range(1, 201))
    assert len(commits) <= 4
    assert lmdb_harness.log.slice(1, 200, 1 << 20) == entries


async def test_directory_of_a_version_without_a_table_of_accounts_is_opened(data_path: Path) -> None:
    """The table is made, and written to by the next flush."""
    LmdbHarness(data_path).crash()
    state = data_path / "state-1"
    with lmdb.open(str(state), max_dbs=3) as environment:
        table = environment.open_db(b"accounts")
        with environment.begin(write=True) as transaction:
            transaction.drop(table)
    harness = LmdbHarness(data_path)
    assert harness.stored_accounts() == {}
    harness.start()
    entries = entries_after(ORIGIN, 1)
    await harness.persist(batch(1, entries))
    await harness.flush(position_of(entries[0]), changes({}, accounts={1: b"root"}))
    assert harness.stored_accounts() == {1: b"root"}
    harness.crash()
