"""New members from a backup: what they begin with, and what a restore that ends early leaves behind."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from kvraft.backup import state, verification
from kvraft.backup.new_cluster import NewCluster, Wanted
from kvraft.backup.restore import plan, restore, restore_all
from kvraft.keyspace.commands import Set, SetClusterVersion
from kvraft.keyspace.event_history import BLOCK_EVENTS, event_bytes
from kvraft.keyspace.keyspace import Keyspace
from kvraft.storage import failpoints, new_directory
from kvraft.storage.environment import DataDirectory, lock_directory, stored_identity, take_lock
from kvraft.storage.errors import (
    BackupError,
    DirectoryInUseError,
    StorageError,
    StorageFailedError,
    WrongDirectoryError,
)
from kvraft.storage.examining import examine
from tests.backup.support import CLOCK_MS, CLUSTER_ID, FACTS, TAKEN_NS, backup_of, old_keyspace, tree_of, written

PEERS = (("n1", ("http://10.1.0.1:2380",)), ("n2", ("http://10.1.0.2:2380",)), ("n3", ("http://10.1.0.3:2380",)))
WANTED = Wanted(PEERS)
MANY = tuple(Set(b"/many/%d" % number, b"v") for number in range(2000))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A file to restore."""
    return written(tmp_path, backup_of(old_keyspace()))


def restored(backup: Path, data_dir: Path, wanted: Wanted = WANTED) -> tuple[NewCluster, Keyspace]:
    """The cluster, and the keyspace that its n1 begins with."""
    cluster = plan(backup, wanted)
    restore(backup, cluster, "n1", data_dir)
    with examine(data_dir) as found:
        assert found.head.position == found.base == found.last == cluster.position
        assert found.commit_index == cluster.position.index
        return cluster, state.load(str(data_dir), found.image)


def test_restored_member_begins_with_all_of_it(backup: Path, tmp_path: Path) -> None:
    """Tree, indices, TTLs, history, users and roles; under ids of its own."""
    old = old_keyspace()
    cluster, new = restored(backup, tmp_path / "n1")
    assert tree_of(new, cluster.position.clock_ms) == tree_of(old, CLOCK_MS)
    assert (new.etcd_index, new.history.floor, new.state_hash) == (old.etcd_index, old.history.floor, old.state_hash)
    assert new.history.block_bytes == old.history.block_bytes
    assert (new.accounts.users, new.accounts.roles) == (old.accounts.users, old.accounts.roles)
    assert new.accounts.head() == old.accounts.head()
    assert new.cluster.version == "3.4.0"
    assert {member.name: member.peer_urls for member in new.cluster.members.values()} == dict(PEERS)
    assert not set(new.cluster.members) & set(old.cluster.members)
    assert cluster.cluster_id != CLUSTER_ID
    assert cluster.position.index == 40


def test_same_arguments_give_the_same_cluster_and_others_another(backup: Path) -> None:
    """Whatever order they are given in; so that a call on each machine is enough."""
    wanted = Wanted(PEERS)
    assert plan(backup, wanted) == plan(backup, Wanted(tuple(reversed(PEERS))))
    others = [
        Wanted(PEERS[:1]),
        Wanted(PEERS, token="another"),
        Wanted(PEERS, bump_index=1),
        Wanted(PEERS, ttl_from_ns=TAKEN_NS + 10**9),
    ]
    clusters = [plan(backup, each) for each in (wanted, *others)]
    assert len({cluster.cluster_id for cluster in clusters}) == len(clusters)
    assert len({cluster.position.chain_hash for cluster in clusters}) == len(clusters)
    assert len({cluster.configuration.founding for cluster in clusters}) == len(clusters)


def test_without_history_the_newest_events_are_there(tmp_path: Path) -> None:
    """So that a watcher that was nearly up to date goes on; whoever wants older ones is told that they are gone."""
    old = old_keyspace(*MANY)
    content = backup_of(old, dataclasses.replace(FACTS, with_history=False))
    path = written(tmp_path, content)
    _, new = restored(path, tmp_path / "n1")
    assert old.history.floor < new.history.floor < new.etcd_index
    kept = [old.history._events[index] for index in range(new.history.floor, old.etcd_index + 1)]
    assert sum(new.history.block_bytes.values()) == sum(map(event_bytes, kept))
    assert min(new.history.block_bytes) == new.history.floor // BLOCK_EVENTS


def test_bumped_indices_go_on_behind_a_gap(backup: Path, tmp_path: Path) -> None:
    """Keys keep theirs; a watch from an index that somebody has cached is told to begin anew."""
    old = old_keyspace()
    cluster, new = restored(backup, tmp_path / "n1", Wanted(PEERS, bump_index=1000))
    assert new.etcd_index == old.etcd_index + 1000
    assert new.history.floor == new.etcd_index
    assert cluster.position.index == 1040
    assert tree_of(new, CLOCK_MS) == tree_of(old, CLOCK_MS)
    new.apply(SetClusterVersion("3.5.0"), cluster.position.clock_ms)
    assert new.etcd_index == old.etcd_index + 1001


def test_ttls_stand_still_or_have_counted_on(backup: Path, tmp_path: Path) -> None:
    """From the clock when it was taken, which is later than that of the last entry; or to a given moment."""
    still = plan(backup, Wanted(PEERS)).position
    assert still.clock_ms == CLOCK_MS
    later, new = restored(backup, tmp_path / "n1", Wanted(PEERS, ttl_from_ns=TAKEN_NS + 20 * 10**9))
    assert later.position.clock_ms == CLOCK_MS + 20_000
    ttls = {node.path: node.ttl_s for node in new.nodes(later.position.clock_ms) if node.ttl_s}
    assert ttls == {b"/app/_hidden/key": 75, b"/app/dir": 5}
    with pytest.raises(BackupError, match=r"before the backup was taken \(2025-11-29T07:06:40Z\)"):
        plan(backup, Wanted(PEERS, ttl_from_ns=TAKEN_NS - 1))


def test_token_that_gives_the_old_ids_is_refused(tmp_path: Path) -> None:
    """A restored member must never talk to the old ones, or be taken for one."""
    path = written(tmp_path, backup_of(old_keyspace()))
    cluster = plan(path, Wanted(PEERS, token="t"))
    with pytest.raises(BackupError, match="--name=n9 is not among --peers: use one of n1, n2, n3"):
        cluster.founder("n9")
    path.write_bytes(backup_of(old_keyspace(), cluster_id=cluster.cluster_id))
    with pytest.raises(BackupError, match="--token=t is that of the cluster that the backup is of"):
        plan(path, Wanted(PEERS, token="t"))


@pytest.mark.parametrize("name", ["identity", "member", ".keep", "log"])
def test_directory_that_holds_anything_is_left_alone(backup: Path, tmp_path: Path, name: str) -> None:
    """Also somebody's note; nothing of it is touched."""
    data_dir = tmp_path / "n1"
    data_dir.mkdir(mode=0o755)
    (data_dir / name).touch()
    with pytest.raises(BackupError, match=f"is not empty \\({name} is there\\)"):
        restored(backup, data_dir)
    assert [entry.name for entry in data_dir.iterdir()] == [name]
    assert data_dir.stat().st_mode & 0o777 == 0o755


def test_restore_into_a_restored_directory_is_refused(backup: Path, tmp_path: Path) -> None:
    """The second call of an operator who is not sure."""
    restored(backup, tmp_path / "n1")
    with pytest.raises(BackupError, match="is not empty"):
        restored(backup, tmp_path / "n1")
    assert verification.verify(tmp_path / "n1")["keys"] == 3


@pytest.mark.parametrize("exists", [True, False])
def test_damaged_backup_leaves_nothing(tmp_path: Path, exists: bool) -> None:
    """Found at the very end, when all but the last bytes are written."""
    content = bytearray(backup_of(old_keyspace(*MANY)))
    path = written(tmp_path, bytes(content))
    cluster = plan(path, Wanted(PEERS))
    content[-1] ^= 1
    path.write_bytes(content)
    data_dir = tmp_path / "n1"
    if exists:
        data_dir.mkdir()
    with pytest.raises(BackupError, match="is damaged"):
        restore(path, cluster, "n1", data_dir)
    assert data_dir.exists() == exists
    assert not exists or {entry.name for entry in data_dir.iterdir()} <= {"lock"}


STEPS = ("restore.built", "restore.moving", "restore.before_end")


def _die() -> None:
    os._exit(9)


def _in_child(work: Callable[[], object]) -> int:
    """Run it in a process that may die; the exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_restore_is_no_member_and_can_be_done_again(backup: Path, tmp_path: Path, step: str) -> None:
    """Nothing half is ever started: an empty cluster would be served in its place."""
    data_dir = tmp_path / "n1"
    failpoints.register(step, _die)
    try:
        assert _in_child(lambda: restored(backup, data_dir)) == 9
    finally:
        failpoints.clear()
    for look in (stored_identity, lock_directory, verification.verify):
        with pytest.raises(WrongDirectoryError, match="a restore was interrupted: run the same kvraft restore again"):
            look(data_dir)
    _, new = restored(backup, data_dir)
    assert new.etcd_index == old_keyspace().etcd_index


@pytest.mark.parametrize("step", STEPS)
def test_restore_that_fails_leaves_nothing(backup: Path, tmp_path: Path, step: str) -> None:
    """As when the disk is full, or somebody presses Ctrl-C."""

    def full() -> None:
        raise OSError(28, "No space left on device")

    failpoints.register(step, full)
    try:
        with pytest.raises(OSError, match="No space left"):
            restored(backup, tmp_path / "n1")
    finally:
        failpoints.clear()
    assert not (tmp_path / "n1").exists()


def test_two_restores_into_one_directory_do_not_meet(backup: Path, tmp_path: Path) -> None:
    """The second is told who is at work."""
    data_dir = tmp_path / "n1"
    holder = lock_directory(data_dir)
    try:
        with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}"):
            restored(backup, data_dir)
    finally:
        holder.close()


def test_directory_in_use_is_not_verified(backup: Path, tmp_path: Path) -> None:
    """A member that runs changes it meanwhile."""
    restored(backup, tmp_path / "n1")
    holder = lock_directory(tmp_path / "n1")
    try:
        with pytest.raises(DirectoryInUseError, match="verify a backup of it instead"):
            verification.verify(tmp_path / "n1")
    finally:
        holder.close()


def test_what_is_no_data_directory_is_said_so(tmp_path: Path) -> None:
    """An empty directory, by a slip."""
    with pytest.raises(WrongDirectoryError, match="holds no member's data"):
        verification.verify(tmp_path)


def test_flipped_bits_in_a_directory_are_found(backup: Path, tmp_path: Path) -> None:
    """In every record, key or value, of state and log."""
    data_dir = tmp_path / "n1"
    restored(backup, data_dir)
    data = data_dir / "state-1" / "data.mdb"
    whole = data.read_bytes()
    for text in (b"_hidden", b"v2_accounts", b'["user"', b"/app/raw"):
        at = whole.index(text)
        data.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StorageError):
            verification.verify(data_dir)
    data.write_bytes(whole)
    assert verification.verify(data_dir)["kind"] == "data directory"


def _failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def failpoint() -> Iterator[Callable[[str, Callable[[], None]], None]]:
    """Registers until the end of the test."""
    yield failpoints.register
    failpoints.clear()


FailPoint = Callable[[str, Callable[[], None]], None]
FAILURES = (
    lmdb.DiskError("mdb_txn_commit", 28),
    lmdb.Error("mdb_txn_commit", 5),
    OSError(28, "full"),
    KeyboardInterrupt(),
)


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_failed_restore_leaves_no_directory_that_was_not_there(
    backup: Path, tmp_path: Path, failpoint: FailPoint, error: BaseException
) -> None:
    """Those above it neither; the disk's own words are an error of the storage."""
    failpoint("commit.before_watermark", _failing(error))
    with pytest.raises(StorageFailedError if isinstance(error, lmdb.Error) else type(error)):
        restored(backup, tmp_path / "new" / "er" / "n1")
    assert not (tmp_path / "new").exists()


def test_failed_restore_leaves_a_directory_that_was_there_as_it_was(
    backup: Path, tmp_path: Path, failpoint: FailPoint
) -> None:
    """Its mode too, which is changed at the end."""
    data_dir = tmp_path / "n1"
    data_dir.mkdir(mode=0o750)
    failpoint("restore.before_end", _failing(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        restored(backup, data_dir)
    assert {entry.name for entry in data_dir.iterdir()} <= {"lock"}
    assert data_dir.stat().st_mode & 0o777 == 0o750


def test_members_of_one_call_are_all_there_or_none_is(backup: Path, tmp_path: Path, failpoint: FailPoint) -> None:
    """As where the disk has room for one of them."""
    cluster = plan(backup, WANTED)
    passed: list[None] = []

    def fail_at_the_second() -> None:
        passed.append(None)
        if len(passed) > 1:
            raise OSError(28, "full")

    failpoint("restore.before_end", fail_at_the_second)
    places = {name: tmp_path / "all" / name for name in ("n1", "n2", "n3")}
    with pytest.raises(OSError, match="full"):
        restore_all(backup, cluster, places)
    assert (len(passed), (tmp_path / "all").exists()) == (2, False)
    failpoints.clear()
    restore_all(backup, cluster, places)
    assert all(stored_identity(place) for place in places.values())


@pytest.mark.parametrize("step", ["restore.built", "restore.before_end"])
def test_no_member_starts_while_its_directory_may_still_go(
    backup: Path, tmp_path: Path, failpoint: FailPoint, step: str
) -> None:
    """A supervisor sees a first directory that looks whole; the second fails minutes later, and both are removed."""
    places = {name: tmp_path / name for name in ("n1", "n2")}
    refused: list[bool] = []

    def start_and_fail() -> None:
        if len(refused) < 1:
            refused.append(True)
            return
        with pytest.raises((WrongDirectoryError, DirectoryInUseError)):
            lock_directory(places["n1"]).close()
        refused.append(True)
        raise OSError(28, "full")

    failpoint(step, start_and_fail)
    with pytest.raises(OSError, match="full"):
        restore_all(backup, plan(backup, WANTED), places)
    assert (len(refused), [place.exists() for place in places.values()]) == (2, [False, False])


@pytest.mark.parametrize("exists", [True, False])
def test_what_failed_is_removed_under_its_lock(
    backup: Path, tmp_path: Path, failpoint: FailPoint, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Otherwise another restore that comes in between loses what it writes."""
    data_dir = tmp_path / "n1"
    if exists:
        data_dir.mkdir()
    remove = shutil.rmtree
    removed: list[str] = []

    def look_and_remove(place: Path) -> None:
        with pytest.raises(DirectoryInUseError):
            os.close(take_lock(data_dir))
        removed.append(place.name)
        remove(place)

    monkeypatch.setattr(new_directory.shutil, "rmtree", look_and_remove)  # type: ignore[attr-defined] # as above
    failpoint("restore.before_end", _failing(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        restored(backup, data_dir)
    assert (removed, data_dir.exists()) == (["log", "state-1", "restoring"], exists)


@pytest.mark.parametrize(("module", "call"), [(Path, "mkdir"), (os, "fsync")], ids=["mkdir", "fsync"])
def test_who_loses_the_race_for_a_new_directory_leaves_it_to_the_winner(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str
) -> None:
    """Whether the winner comes before the directory is made or after that, the loser says who it is."""
    data_dir = tmp_path / "new" / "n1"
    cluster = plan(backup, WANTED)
    real = getattr(module, call)
    winners: list[DataDirectory] = []

    def be_slower(*arguments: object, **named: object) -> object:
        if (not winners and call == "mkdir") or (not winners and data_dir.exists()):
            monkeypatch.setattr(module, call, real)
            winners.append(lock_directory(data_dir))
        return real(*arguments, **named)

    monkeypatch.setattr(module, call, be_slower)
    with pytest.raises(DirectoryInUseError, match=f"in use by process {os.getpid()}"):
        restore(backup, cluster, "n1", data_dir)
    assert [entry.name for entry in data_dir.iterdir()] == ["lock"]
    winners.pop().close()


def test_what_cannot_be_removed_is_said(
    backup: Path, tmp_path: Path, failpoint: FailPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what went wrong at first; it is no member until then."""

    def refuse(place: Path) -> None:
        raise OSError(5, "Input/output error", str(place))

    monkeypatch.setattr(new_directory.shutil, "rmtree", refuse)  # type: ignore[attr-defined] # its import is its own
    failpoint("restore.built", _failing(OSError(28, "full")))
    with pytest.raises(StorageFailedError, match=f"full.*; .* cannot be removed again .*: remove {tmp_path}/n1"):
        restored(backup, tmp_path / "n1")
    with pytest.raises(WrongDirectoryError, match="a restore was interrupted"):
        stored_identity(tmp_path / "n1")


@pytest.mark.landing
@pytest.mark.parametrize("size_kib", [8, 40, 200])
def test_disk_that_is_really_full_is_told_and_left_empty(tmp_path: Path, size_kib: int) -> None:
    """LMDB calls it an input/output error, or that it cannot open."""
    path = written(tmp_path, backup_of(old_keyspace(*MANY)))
    script = 'mount -t tmpfs -o "size=$1k" none "$2" && disk=$2 && shift 2 && "$@"; code=$?; ls -A "$disk"; exit $code'
    disk = tmp_path / "disk"
    disk.mkdir()
    restoring = ["restore", str(path), "--peers=n1=http://h:1", "--data-dir", str(disk / "all" / "n1")]
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(size_kib), str(disk), sys.executable, "-m", "kvraft"]
    ended = subprocess.run([*command, *restoring], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 4, ended
    assert ended.stderr.startswith(f"kvraft: --data-dir: {disk}/all/n1/n1 cannot be written: no space left"), ended
    assert (ended.stderr.count("\n"), ended.stdout) == (1, "")
