"""The log on a disk of its own: begun there, moved there and back, killed on the way, lost, swapped, set aside."""

import os
import shutil
from pathlib import Path

import pytest

from kvraft.storage import environment, failpoints
from kvraft.storage.aside import put_back
from kvraft.storage.errors import CorruptStorageError, DirectoryInUseError, WrongDirectoryError
from tests.storage.child import open_small
from tests.storage.support import IDENTITY, vote


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    """A directory for logs that does not exist yet."""
    return tmp_path / "wal"


def voted(data_path: Path) -> bool:
    """Whether the log that the data directory has is the one into which `vote` wrote."""
    storage = open_small(data_path)
    try:
        return storage.log.restored().hard_state.current_term == 1
    finally:
        storage.close()


def logs_in(wal: Path) -> list[str]:
    """The environments there."""
    return sorted(path.name for path in wal.iterdir())


def begun(data_path: Path, wal: Path | None = None) -> None:
    """A member that has promised something."""
    open_small(data_path, wal_dir=wal).close()
    vote(data_path)


def test_log_begins_where_it_is_wanted_and_stays_there_unasked(data_path: Path, wal: Path) -> None:
    """A unit file that loses the line loses nothing."""
    begun(data_path, wal)
    (name,) = logs_in(wal)
    assert name.startswith("log-a1-")
    assert (data_path / "log").readlink() == wal / name
    assert voted(data_path)
    assert logs_in(wal) == [name]


def test_log_moves_and_moves_on_and_comes_back(data_path: Path, wal: Path) -> None:
    """From the data directory to a disk, to another one, and back; nothing is left behind."""
    begun(data_path)
    for wanted in (wal, wal.with_name("other"), wal.with_name("other"), data_path, data_path):
        open_small(data_path, wal_dir=wanted).close()
        assert voted(data_path)
        assert not (data_path / "log-link").exists()
        assert not (data_path / "log-leaving").exists()
        elsewhere = [place for place in (wal, wal.with_name("other")) if place.exists() and logs_in(place)]
        assert elsewhere == ([wanted] if wanted != data_path else [])
    assert (data_path / "log").is_dir()
    assert not (data_path / "log").is_symlink()


def test_members_may_share_a_directory(data_path: Path, wal: Path) -> None:
    """Each finds its own."""
    begun(data_path, wal)
    other = type(IDENTITY)(IDENTITY.cluster_id, 0xA2, "n2")
    second = open_small(data_path.with_name("n2"), other, wal_dir=wal)
    assert second.log.restored().hard_state.current_term == 0
    second.close()
    assert len(logs_in(wal)) == 2
    assert voted(data_path)


def test_holes_stay_holes(data_path: Path, wal: Path) -> None:
    """A log that has given pages back does not fill the new disk with zeros."""
    begun(data_path)
    with (data_path / "log" / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"end")
        file.truncate((1 << 30) + (1 << 20))
    open_small(data_path, wal_dir=wal).close()
    copied = data_path / "log" / "sparse"
    facts = copied.stat()
    assert facts.st_size == (1 << 30) + (1 << 20)
    assert facts.st_blocks * 512 < 1 << 20
    with copied.open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(1 << 30)
        assert file.read(5) == b"end\0\0"


@pytest.mark.parametrize("where", ["log_place.copied", "log_place.leaving", "log_place.arrived"])
@pytest.mark.parametrize("then", ["the same", "nothing", "another", "back"])
@pytest.mark.parametrize("origin", ["data", "wal"])
def test_move_that_is_killed_goes_on_or_is_given_up(
    where: str, then: str, origin: str, data_path: Path, wal: Path
) -> None:
    """Wherever it stopped, and whatever the next start is told: there is one log, and it is the member's."""
    begun(data_path, wal if origin == "wal" else None)
    target, other = wal.with_name("target"), wal.with_name("other")

    def die() -> None:
        raise KeyboardInterrupt

    failpoints.register(where, die)
    with pytest.raises(KeyboardInterrupt):
        open_small(data_path, wal_dir=target)
    failpoints.clear()
    told = {"the same": target, "nothing": None, "another": other, "back": data_path}[then]
    open_small(data_path, wal_dir=told).close()
    assert voted(data_path)
    entries = {path.name for path in data_path.iterdir()} - {"lock"}
    assert entries <= {"identity", "log", "spool", "state-1"}
    left = [path for place in (wal, target, other) if place.exists() for path in place.iterdir()]
    link = data_path / "log"
    assert left == ([link.readlink()] if link.is_symlink() else [])
    if told is not None:
        assert link.resolve().parent == told.resolve()


def test_half_a_copy_is_made_anew(data_path: Path, wal: Path) -> None:
    """What an interrupted copy has left is no log."""
    begun(data_path)
    wal.mkdir()
    target = wal / "log-a1-0123456789abcdef"
    (data_path / "log-link").symlink_to(target)
    target.mkdir()
    (target / "data.mdb").write_bytes(b"half")
    open_small(data_path, wal_dir=wal).close()
    assert voted(data_path)
    assert logs_in(wal) == [target.name]


def test_log_that_is_not_there_is_told_by_both_names(data_path: Path, wal: Path) -> None:
    """The disk is not mounted, with the flag or without it, or the flag names an empty one."""
    begun(data_path, wal)
    wal.rename(wal.with_name("unmounted"))
    for told in (None, wal, wal.with_name("empty")):
        with pytest.raises(CorruptStorageError) as caught:
            open_small(data_path, wal_dir=told)
        line = str(caught.value)
        assert f"the log that belongs to {data_path} is {(data_path / 'log').readlink()}, and is not there" in line
        assert "mount its disk" in line
        assert told is None or line.startswith(f"--wal-dir={told}: ")
    wal.with_name("unmounted").rename(wal)
    assert voted(data_path)


def test_disk_may_be_mounted_elsewhere(data_path: Path, wal: Path) -> None:
    """The name of the log is found there."""
    begun(data_path, wal)
    wal.rename(wal.with_name("elsewhere"))
    open_small(data_path, wal_dir=wal.with_name("elsewhere")).close()
    assert (data_path / "log").readlink().parent == wal.with_name("elsewhere")
    assert voted(data_path)


@pytest.mark.parametrize("kind", ["no data directory", "one from before the move"])
def test_log_without_its_data_directory_is_not_passed_over(kind: str, data_path: Path, wal: Path) -> None:
    """A lost data directory must not begin anew beside what it had promised; nor an old copy put its log there."""
    begun(data_path)
    shutil.copytree(data_path, data_path.with_name("copy"))
    open_small(data_path, wal_dir=wal).close()
    shutil.rmtree(data_path)
    if kind == "one from before the move":
        data_path.with_name("copy").rename(data_path)
    with pytest.raises(WrongDirectoryError, match=rf"^--wal-dir={wal} holds a log of this member, log-a1-"):
        open_small(data_path, wal_dir=wal)
    assert len(logs_in(wal)) == 1


def test_copy_of_a_data_directory_cannot_run_beside_it(data_path: Path, wal: Path) -> None:
    """Both lead to one log."""
    begun(data_path, wal)
    shutil.copytree(data_path, data_path.with_name("copy"), symlinks=True)
    storage = open_small(data_path)
    with pytest.raises(DirectoryInUseError, match="is in use by a process with another data directory"):
        open_small(data_path.with_name("copy"))
    storage.close()
    assert voted(data_path.with_name("copy"))


def test_rebuild_sets_the_log_aside_and_put_back_brings_it_back(data_path: Path, wal: Path) -> None:
    """On its own disk, where it is; a log that was lost there is no obstacle."""
    begun(data_path, wal)
    open_small(data_path, wal_dir=wal, rebuild="a reason").close()
    assert len(logs_in(wal)) == 2
    assert not voted(data_path)
    put_back(data_path)
    assert voted(data_path)
    (aside,) = data_path.glob("damaged-*")
    shutil.rmtree((aside / "log").readlink())
    shutil.rmtree(aside)
    shutil.rmtree((data_path / "log").readlink())
    open_small(data_path, wal_dir=wal, rebuild="its disk is new").close()
    assert len(logs_in(wal)) == 1
    assert not voted(data_path)


def test_first_start_that_breaks_off_leaves_no_log(data_path: Path, wal: Path) -> None:
    """It is repeated with another key."""

    def fail() -> None:
        raise OSError(28, "No space left on device")

    failpoints.register("directory.created", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            open_small(data_path, wal_dir=wal)
    failpoints.clear()
    open_small(data_path, wal_dir=wal).close()
    assert len(logs_in(wal)) == 1


@pytest.mark.parametrize("below", ["log", "log/x", "state-1", "spool", "damaged-x/y"])
def test_place_within_what_kvraft_keeps_is_refused(below: str, data_path: Path) -> None:
    """The log cannot move into itself."""
    begun(data_path)
    with pytest.raises(WrongDirectoryError, match="kvraft keeps something else there"):
        open_small(data_path, wal_dir=data_path / below)
    assert voted(data_path)


def test_place_of_its_own_below_the_data_directory_is_fine(data_path: Path) -> None:
    """As etcd's users have it."""
    begun(data_path, data_path / "wal")
    assert voted(data_path)
    assert len(logs_in(data_path / "wal")) == 1


def test_place_that_cannot_be_used_is_one_line(data_path: Path, tmp_path: Path) -> None:
    """A file, a file system that takes none; the log stays where it is."""
    begun(data_path)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/kvraft")):
        with pytest.raises(WrongDirectoryError, match=rf"^--wal-dir={place}: .*: give a directory"):
            open_small(data_path, wal_dir=place)
    assert voted(data_path)


def test_new_place_survives_a_power_cut(data_path: Path, wal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each directory that was made is synced in the one above it, before the link that leads there counts."""
    begun(data_path)
    synced: list[Path] = []
    monkeypatch.setattr(environment, "sync_directory", synced.append)
    open_small(data_path, wal_dir=wal / "a" / "b").close()
    assert synced[:3] == [wal / "a", wal, wal.parent]


def test_room_is_that_of_the_fuller_disk(data_path: Path, wal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes stop before either is full."""
    begun(data_path, wal)
    storage = open_small(data_path)
    facts = os.statvfs(data_path)
    asked = []

    def statvfs(path: Path) -> os.statvfs_result:
        asked.append(path)
        return facts

    monkeypatch.setattr(os, "statvfs", statvfs)
    storage.directory.free_bytes()
    assert asked == [data_path, data_path / "log"]
    storage.close()
