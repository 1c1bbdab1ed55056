"""Directories in which no member can begin: found out before a cluster or a discovery service hears of it."""

import pathlib
from collections.abc import Callable

import pytest

from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.start import newcomers
from kvraft.storage.errors import StorageError
from tests.start.fake_cluster import FakeCluster

OWN = "http://10.0.0.4:2380"
N1 = "http://10.0.0.1:2380"


def _etcd(place: pathlib.Path) -> None:
    (place / "d" / "member" / "wal").mkdir(parents=True)


def _file_of(name: str) -> Callable[[pathlib.Path], None]:
    def lay_out(place: pathlib.Path) -> None:
        (place / "d").mkdir()
        (place / "d" / name).write_text("somebody's")

    return lay_out


def _directory_of(name: str) -> Callable[[pathlib.Path], None]:
    return lambda place: (place / "d" / name).mkdir(parents=True)


def _file(place: pathlib.Path) -> None:
    (place / "file").write_text("a file")


def _nothing(_place: pathlib.Path) -> None:
    pass


UNUSABLE = [
    pytest.param(_etcd, "", "holds etcd's data, which kvraft does not read", id="etcd's"),
    pytest.param(_file_of("log"), "", "log is somebody's file", id="file log"),
    pytest.param(_file_of("spool"), "", "spool is somebody's file", id="file spool"),
    pytest.param(_directory_of("restoring"), "", "a restore was interrupted", id="half restored"),
    pytest.param(_directory_of("putting-back"), "", "run --put-back again", id="half put back"),
    pytest.param(_directory_of("state-1"), "", "identity is missing, and state-1 is there", id="without identity"),
    pytest.param(_file, "file/wal", r"--wal-dir=.*file/wal: .*/file is no directory: give", id="wal below a file"),
    pytest.param(_file, "file", r"--wal-dir=.*/file: .*/file is no directory: give", id="wal is a file"),
    pytest.param(_nothing, "d/spool/wal", r"--wal-dir=.*: kvraft keeps something else there", id="wal within ours"),
    pytest.param(_nothing, "w" * 300, r"--wal-dir=.*: File name too long: give", id="wal of no name"),
]


def _wanted(place: pathlib.Path, wal: str, *more: str) -> Settings:
    listening = ("--name=n4", f"--initial-advertise-peer-urls={OWN}", "--listen-peer-urls=http://127.0.0.1:2380")
    wal_dir = (f"--wal-dir={place / wal}",) if wal else ()
    return settings.from_flags(flags.read((f"--data-dir={place}/d", *listening, *wal_dir, *more), {}), None)


def _refused(wanted: Settings, line: str, place: pathlib.Path) -> None:
    """With one line, and nothing is touched."""
    held = {path: path.stat() for path in place.rglob("*")}
    with pytest.raises((SettingsError, StorageError), match=line) as refused:
        newcomers.settle(wanted, "")
    assert "\n" not in str(refused.value)
    after = {path: path.stat() for path in place.rglob("*")}
    assert {path: (facts.st_mode, facts.st_mtime_ns) for path, facts in after.items()} == {
        path: (facts.st_mode, facts.st_mtime_ns) for path, facts in held.items()
    }


@pytest.mark.parametrize(("lay_out", "wal", "line"), UNUSABLE)
def test_cluster_is_not_changed(
    lay_out: Callable[[pathlib.Path], None], wal: str, line: str, tmp_path: pathlib.Path
) -> None:
    """`--join`, in the place of a member at the same URLs, which would be removed first: it would be lost for good."""
    lay_out(tmp_path)
    with FakeCluster(n1=N1, n4=OWN) as cluster:
        _refused(_wanted(tmp_path, wal, f"--join={cluster.url}", "--replace=n4"), line, tmp_path)
        assert not cluster.changes


@pytest.mark.parametrize(("lay_out", "wal", "line"), UNUSABLE)
def test_discovery_service_is_not_asked(
    lay_out: Callable[[pathlib.Path], None],
    wal: str,
    line: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A place that is taken there is never given back, and the corrected start would be one too many."""
    lay_out(tmp_path)

    def discover(*_: object, **__: object) -> None:
        pytest.fail("asked")

    monkeypatch.setattr(newcomers, "discover", discover)
    _refused(_wanted(tmp_path, wal, "--discovery=http://127.0.0.1:9/v2/keys/discovery/t"), line, tmp_path)


def test_what_is_left_of_a_member_that_rebuilds_is_no_hindrance(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside, once others have told who the member is."""
    _directory_of("state-1")(tmp_path)
    wanted = _wanted(tmp_path, "", "--discovery=http://127.0.0.1:9/v2/keys/discovery/t", "--rebuild")
    monkeypatch.setattr(newcomers, "discover", lambda asked, **_: (asked, True))
    assert newcomers.settle(wanted, "") == (wanted, "it holds no member's data")


def test_directories_that_can_be_made_are_none(tmp_path: pathlib.Path) -> None:
    """Nor is one with files of others, or the log in the data directory."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".keep").touch()
    for wal in ("", "new/wal", "d", "d/wal"):
        with FakeCluster(n1=N1) as cluster:
            newcomers.settle(_wanted(tmp_path, wal, f"--join={cluster.url}"), "")
            assert cluster.changes == [("POST", OWN)]
