"""Data that a rebuild has set aside is put back by one call, which may be killed and run again."""

import itertools
from pathlib import Path

import pytest

from kvraft.storage.aside import holds_data, put_back
from kvraft.storage.environment import claim, lock_directory, stored_identity
from kvraft.storage.errors import DirectoryInUseError, WrongDirectoryError
from kvraft.storage.opening import open_storage
from tests.storage.child import open_small
from tests.storage.support import CONFIGURATION, IDENTITY, vote


def _mark(data_path: Path) -> str:
    return (data_path / "log" / "mark").read_text()


@pytest.fixture
def rebuilt(data_path: Path) -> Path:
    """A directory whose old data lies aside."""
    open_small(data_path).close()
    vote(data_path)
    (data_path / "log" / "mark").write_text("old")
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()
    vote(data_path)
    (data_path / "log" / "mark").write_text("new")
    return data_path


def test_put_back_is_a_swap(rebuilt: Path) -> None:
    """The old data can be opened, the new one lies aside; once more, and all is as it was."""
    (first,) = rebuilt.glob("damaged-*")
    for mark, other in (("old", "new"), ("new", "old")):
        was, replaced = put_back(rebuilt)
        assert was == first
        assert replaced is not None
        assert (_mark(rebuilt), _mark(replaced)) == (mark, other)
        (first,) = rebuilt.glob("damaged-*")
        assert first == replaced
        open_small(rebuilt).close()


def test_lost_directory_gets_back_what_lies_aside(rebuilt: Path) -> None:
    """Somebody removed all but the aside: nothing has to make room."""
    (aside,) = rebuilt.glob("damaged-*")
    for entry in ("identity", "log", "state-1", "spool", "lock"):
        path = rebuilt / entry
        if path.is_dir():
            path.rename(rebuilt.with_name(f"elsewhere-{entry}"))
        else:
            path.unlink(missing_ok=True)
    assert put_back(rebuilt) == (aside, None)
    assert stored_identity(rebuilt) == IDENTITY
    assert _mark(rebuilt) == "old"


def test_put_back_goes_on_after_a_crash_at_any_rename(rebuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at its n-th rename, for each n: no member starts on the half of it, and the second run ends it."""
    rename = Path.rename
    for kill_at in itertools.count(1):
        mark = _mark(rebuilt)
        left = kill_at

        def dies(path: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", dies)
        try:
            put_back(rebuilt)
        except KeyboardInterrupt:
            monkeypatch.setattr(Path, "rename", rename)
            if kill_at > 1:
                with pytest.raises(WrongDirectoryError, match="run --put-back again"):
                    open_small(rebuilt)
            put_back(rebuilt)
        else:
            assert kill_at > 5, "every rename was reached"
            break
        finally:
            monkeypatch.setattr(Path, "rename", rename)
        (aside,) = rebuilt.glob("damaged-*")
        assert {mark, _mark(rebuilt)} == {mark, "new" if mark == "old" else "old"}
        assert _mark(aside) == mark
        assert stored_identity(aside) == stored_identity(rebuilt) == IDENTITY


def test_nothing_aside_is_refused_and_nothing_moved(data_path: Path) -> None:
    """One line that says what was looked for."""
    open_small(data_path).close()
    with pytest.raises(WrongDirectoryError, match=r"--put-back: .* has no damaged-<time> with a member's data in it"):
        put_back(data_path)
    open_small(data_path).close()


def test_mistyped_directory_is_refused_and_not_made(data_path: Path) -> None:
    """The slip leaves nothing behind."""
    mistyped = data_path / "nosuch"
    with pytest.raises(WrongDirectoryError, match=r"--put-back: --data-dir=.*nosuch is not there"):
        put_back(mistyped)
    assert not mistyped.exists()


def test_directory_in_use_is_refused(rebuilt: Path) -> None:
    """The member has to be stopped first."""
    directory = lock_directory(rebuilt)
    with pytest.raises(DirectoryInUseError):
        put_back(rebuilt)
    directory.close()
    assert _mark(rebuilt) == "new"


def _rebuild(data_path: Path) -> None:
    open_storage(data_path, IDENTITY, CONFIGURATION, rebuild="a reason").close()


def test_what_a_start_has_begun_and_not_written_into_is_no_data(data_path: Path) -> None:
    """A start that its peers refuse leaves it: nothing is set aside, however often; no later rebuild is blocked."""
    for _ in range(3):
        open_small(data_path).close()
        assert not holds_data(data_path)
        _rebuild(data_path)
        assert list(data_path.glob("damaged-*")) == []
    vote(data_path)
    assert holds_data(data_path)
    _rebuild(data_path)
    (aside,) = data_path.glob("damaged-*")
    vote(data_path)
    with pytest.raises(WrongDirectoryError, match=f"{aside} is still there"):
        _rebuild(data_path)


def test_start_that_was_killed_while_it_made_its_files_is_no_data(data_path: Path) -> None:
    """Whatever part of them is there."""
    directory = lock_directory(data_path)
    claim(directory, IDENTITY)
    directory.close()
    (data_path / "log").mkdir()
    (data_path / "log" / "data.mdb").write_bytes(b"half")
    assert not holds_data(data_path)
    _rebuild(data_path)
    assert list(data_path.glob("damaged-*")) == []


def test_empty_data_that_was_set_aside_is_neither_in_the_way_nor_put_back(data_path: Path) -> None:
    """As members before this one set it aside."""
    open_small(data_path).close()
    empty = data_path / "damaged-2026-01-01T000000Z"
    empty.mkdir()
    for name in ("identity", "log", "state-1", "spool"):
        if (data_path / name).exists():
            (data_path / name).rename(empty / name)
    with pytest.raises(WrongDirectoryError, match="has no damaged-<time> with a member's data in it"):
        put_back(data_path)
    open_small(data_path).close()
    vote(data_path)
    _rebuild(data_path)
    (aside,) = data_path.glob("damaged-*")
    assert aside != empty
    assert holds_data(aside)


@pytest.mark.parametrize("lost", ["identity", "log", "log/data.mdb", "state-1/data.mdb"])
def test_what_is_partly_lost_or_damaged_is_data(data_path: Path, lost: str) -> None:
    """Nobody can tell what was in it."""
    open_small(data_path).close()
    vote(data_path)
    path = data_path / lost
    if path.is_dir():
        path.rename(data_path.with_name("elsewhere"))
    else:
        path.unlink()
    assert holds_data(data_path)
