"""`kvraft backup`, `verify` and `restore`, as they are typed."""

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import json
import os
import pathlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final

import pytest

from kvraft import clock
from kvraft.api_v2 import backup as served_backup
from kvraft.backup import fetching, restore
from kvraft.backup.part import Part
from kvraft.commands.exits import Exit
from kvraft.keyspace.commands import Set
from kvraft.records import BackupCopy, BackupRefused
from kvraft.storage.environment import stored_identity
from kvraft.storage.errors import BackupError
from tests.api_v2.conftest import Served
from tests.backup.support import FACTS, backup_of, old_keyspace
from tests.commands.conftest import Background, Run

CONTENT: Final = backup_of(
    old_keyspace(*(Set(b"/big/%d" % number, b"v" * 300_000) for number in range(8))),
    dataclasses.replace(FACTS, with_history=False),
)
PEERS: Final = "n1=http://10.1.0.1:2380,n2=http://10.1.0.2:2380"


class Offered:
    """A copy that the served member makes."""

    def __init__(self, served: Served, path: pathlib.Path) -> None:
        self.served = served
        self.path = path
        self.backups = served.backend.backups
        self.url = served.url
        self.make(CONTENT)

    def make(self, content: bytes) -> None:
        """What it sends from now on, under the name that belongs to it."""
        self.path.write_bytes(content)
        self.copy = BackupCopy(f"28-3-{CONTENT[-16:].hex()}", str(self.path), len(CONTENT))
        self.backups.outcome = self.copy
        self.backups.copies = {self.copy.copy_id: self.copy}


@pytest.fixture
def offered(served: Served, tmp_path: pathlib.Path) -> Offered:
    """Made at the member's."""
    return Offered(served, tmp_path / "at the member")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more attempt, soon."""
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    monkeypatch.setattr(fetching, "PATIENCE_S", 0.3)
    monkeypatch.setattr(served_backup, "PIECES_PER_S_MAX", 100_000)
    return iter([None])


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where the backup goes."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "nightly"


def left(place: pathlib.Path) -> list[str]:
    """All that stands in its directory."""
    return sorted(each.name for each in place.parent.iterdir())


def test_backup_is_fetched_whole(run: Run, offered: Offered, place: pathlib.Path) -> None:
    """With the URL in front, or by --endpoints; an older file is replaced, and only its owner can read it."""
    place.write_bytes(b"of yesterday")
    ran = run("backup", offered.url, str(place))
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert ran.stdout == (f"{place}: {len(CONTENT)} bytes of n1 at index 40, taken 2025-11-29T07:06:40Z\n")
    assert (place.read_bytes(), left(place), offered.backups.asked) == (CONTENT, ["nightly"], [False])
    assert place.stat().st_mode & 0o777 == 0o600
    ran = run("--json", "backup", "--endpoints", f"http://127.0.0.1:1,{offered.url}", str(place))
    assert json.loads(ran.stdout) == {
        "file": str(place),
        "copy": offered.copy.copy_id,
        "bytes": len(CONTENT),
        "endpoint": offered.url,
        "taken": "2025-11-29T07:06:40Z",
        "taken_by": "n1",
        "raft_index": 40,
        "raft_term": 3,
        "with_history": False,
    }


def test_what_broke_off_goes_on(run: Run, offered: Offered, place: pathlib.Path) -> None:
    """At the member that has the copy, from the byte that is missing; nothing is fetched twice."""
    part = place.with_name(f"nightly.{offered.copy.copy_id}.part")
    part.write_bytes(CONTENT[:1_000_000])
    offered.path.write_bytes(b"\0" * 1_000_000 + CONTENT[1_000_000:])
    ran = run("backup", offered.url, str(place))
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert (place.read_bytes(), left(place), offered.backups.asked) == (CONTENT, ["nightly"], [])


def test_copy_that_is_gone_is_taken_anew(run: Run, offered: Offered, place: pathlib.Path) -> None:
    """It waits for a while only."""
    place.with_name(f"nightly.1-1-{'ab' * 16}.part").write_bytes(CONTENT[:1000])
    place.with_name(f"nightly.2-1-{'ab' * 16}.part").write_bytes(CONTENT[:500])
    assert run("backup", offered.url, str(place)).exit_code == Exit.DONE
    assert (place.read_bytes(), left(place)) == (CONTENT, ["nightly"])


def test_part_of_a_backup_without_history_is_no_beginning_of_one_with_it(
    run: Run, offered: Offered, place: pathlib.Path
) -> None:
    """It is another copy that is wanted."""
    place.with_name(f"nightly.{offered.copy.copy_id}.part").write_bytes(CONTENT[:1_000_000])
    assert run("backup", offered.url, str(place), "--history").exit_code == Exit.DONE
    assert offered.backups.asked == [True]


def test_connection_that_ends_leaves_a_part_to_go_on_with(run: Run, offered: Offered, place: pathlib.Path) -> None:
    """When patience is over: what has come stays."""
    offered.path.write_bytes(CONTENT[:1_500_000])
    ran = run("backup", offered.url, str(place))
    assert ran.exit_code == Exit.NO_SERVER
    assert "the connection ended in the middle of an answer" in ran.stderr
    [name] = left(place)
    assert name == f"nightly.{offered.copy.copy_id}.part"
    assert CONTENT.startswith(place.with_name(name).read_bytes())
    offered.make(CONTENT)
    assert run("backup", offered.url, str(place)).exit_code == Exit.DONE
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [1_000_000, len(CONTENT)])
def test_part_that_another_backup_writes_is_left_to_it(
    run: Run, offered: Offered, place: pathlib.Path, begun: int
) -> None:
    """A second one ends at once, and the first one, which may have been stopped for long, goes on."""
    with Part.begin(place, offered.copy.copy_id) as part:
        part.write(CONTENT[:begun])
        ran = run("backup", offered.url, str(place))
        assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
        assert ran.stderr == f"kvraft: another kvraft backup writes {place}\n"
        part.write(CONTENT[begun:])
        part.keep(len(CONTENT))
    assert (place.read_bytes(), left(place), offered.backups.asked) == (CONTENT, ["nightly"], [])


@pytest.mark.parametrize("is_moved", [True, False])
def test_finished_backup_stays_if_the_part_is_not_what_was_written(place: pathlib.Path, is_moved: bool) -> None:
    """By an older kvraft, which looks at no lock."""
    place.write_bytes(b"of yesterday")
    with Part.begin(place, f"28-3-{'ab' * 16}") as part:
        [name] = [each for each in left(place) if each.endswith(".part")]
        part.write(b"all of it")
        if is_moved:
            place.with_name(name).replace(place.with_name("elsewhere"))
            place.with_name(name).write_bytes(b"all of it")
        else:
            with place.with_name(name).open("ab") as other:
                other.write(b"more")
        with pytest.raises(BackupError, match="is not what was written to it"):
            part.keep(len(b"all of it"))
    assert place.read_bytes() == b"of yesterday"


@pytest.mark.parametrize("hours", [0, 1])
def test_copy_that_is_gone_is_taken_anew_though_an_endpoint_is_dead(
    run: Run, offered: Offered, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Once patience is over: it might have the rest; of a part that no member has any more, at once."""
    monkeypatch.setattr(fetching, "PATIENCE_S", 60.0 if hours else 0.1)
    part = place.with_name(f"nightly.1-1-{'0' * 32}.part")
    part.touch()
    os.utime(part, ns=(clock.wall_ns() - hours * 3600 * 10**9,) * 2)
    ran = run("backup", "--endpoints", f"{offered.url},http://127.0.0.1:1", str(place))
    assert ran.exit_code == Exit.DONE, ran.stderr
    assert ("waiting: http://127.0.0.1:1: connection refused" in ran.stderr) == (not hours)
    assert (place.read_bytes(), left(place), offered.backups.asked) == (CONTENT, ["nightly"], [False])


@contextlib.contextmanager
def frozen(background: Background, *, after: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """An endpoint that sends this of a backup and nothing else, and what it is asked for."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
                asked.append(path)
                if after and path == "/v2/stats/self":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                elif after and asked.count(path) == 1:
                    name = f"28-3-{CONTENT[-16:].hex()}".encode()
                    head = b"X-Kvraft-Backup: %b\r\nX-Kvraft-Backup-Size: %d\r\n" % (name, len(CONTENT))
                    writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (head, len(CONTENT)))
                    writer.write(after)

    server = background.do(asyncio.start_server(serve, "127.0.0.1", 0))
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    background.loop.call_soon_threadsafe(server.close)


def test_frozen_member_is_asked_last(
    run: Run, offered: Offered, background: Background, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not said who leads within --timeout."""
    monkeypatch.setattr(fetching, "COPY_WITHIN_S", 0.5)
    with frozen(background) as (url, asked):
        ran = run("backup", "--endpoints", f"{url},{offered.url}", "--timeout=0.2", str(place))
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert (place.read_bytes(), asked) == (CONTENT, ["/v2/stats/self"])


def test_frozen_member_is_not_waited_for_while_the_others_have_no_time(
    run: Run, offered: Offered, background: Background, place: pathlib.Path
) -> None:
    """It would be for an hour."""
    offered.backups.outcome = BackupRefused("no room for 5 bytes: ask another member", is_room=True)
    with frozen(background) as (url, asked):
        ran = run("backup", "--endpoints", f"{url},{offered.url}", "--timeout=0.2", str(place))
    assert (ran.exit_code, set(asked)) == (Exit.NO_SERVER, {"/v2/stats/self"})
    assert len(offered.backups.asked) > 1


@pytest.mark.parametrize("has_copy", [True, False])
def test_member_that_freezes_in_mid_stream_is_gone_on_without(
    run: Run,
    offered: Offered,
    background: Background,
    place: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    has_copy: bool,
) -> None:
    """Another one has the rest, or makes a copy of its own."""
    monkeypatch.setattr(fetching, "_HEAD_WITHIN_S", 0.1)
    if not has_copy:
        offered.backups.copies = {}
    with frozen(background, after=CONTENT[:1_000_000]) as (url, _):
        ran = run("backup", "--endpoints", f"{url},{offered.url}", str(place))
    assert ran.exit_code == Exit.DONE, ran.stderr
    assert f"waiting: {url}: has sent nothing for 0.3 s" in ran.stderr
    assert (place.read_bytes(), left(place)) == (CONTENT, ["nightly"])
    assert offered.backups.asked == ([] if has_copy else [False])


@pytest.mark.parametrize("at", [3, 40, 90, 1_000_000, len(CONTENT) - 1])
def test_bit_that_flips_on_the_way_leaves_nothing(run: Run, offered: Offered, place: pathlib.Path, at: int) -> None:
    """Found as soon as it comes, or at the end; there is no file to be trusted by mistake."""
    offered.make(CONTENT[:at] + bytes([CONTENT[at] ^ 4]) + CONTENT[at + 1 :])
    ran = run("backup", offered.url, str(place))
    assert ran.exit_code == Exit.REFUSED
    assert ran.stderr.startswith(f"kvraft: {place} ")
    assert left(place) == []


@pytest.mark.parametrize("is_room", [True, False])
def test_refusal_is_told_when_it_does_not_pass(
    run: Run, offered: Offered, place: pathlib.Path, is_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the member's own words."""
    jumping = SimpleNamespace(monotonic_ms=itertools.count(0, 200).__next__)  # the second refusal is one too many
    monkeypatch.setattr(fetching, "clock", jumping)
    offered.backups.outcome = BackupRefused("no room for 5 bytes: ask another member", is_room)
    ran = run("backup", offered.url, str(place))
    assert (ran.exit_code, left(place)) == (Exit.REFUSED, [])
    why = f"{offered.url}: no room for 5 bytes: ask another member\n"
    assert ran.stderr == f"waiting: {why}kvraft: {why}"
    assert len(offered.backups.asked) == 2


def test_wrong_places_are_told(run: Run, offered: Offered, place: pathlib.Path) -> None:
    """Before anybody is asked."""
    for words, said in (
        (["a", "b", "c"], "give a URL and a file, or a file alone"),
        ([str(place.parent)], "give the name of a file in a directory that is there"),
        ([str(place / "no" / "file")], "give the name of a file in a directory that is there"),
        (["nonsense", str(place)], "'nonsense': no endpoint: write http://HOST:PORT"),
        ([], "Missing argument"),
    ):
        ran = run("backup", *words)
        assert ran.exit_code == Exit.WRONG_ARGUMENTS
        assert said in ran.stderr
    assert offered.backups.asked == []


def test_verify_prints_what_is_in_it(run: Run, place: pathlib.Path) -> None:
    """For people, and for programs."""
    place.write_bytes(CONTENT)
    ran = run("verify", str(place))
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert ran.stdout.startswith(f"{place}: every record of this backup is whole\n")
    lines = {" ".join(line.split()) for line in ran.stdout.splitlines()}
    assert {"keys 11", "auth yes", "members n1 (a1), n2 (a2), n3 (a3)", "taken 2025-11-29T07:06:40Z"} <= lines
    found = json.loads(run("verify", str(place), "--json").stdout)
    assert (found["whole"], found["keys"]) == (True, 11)
    assert 2_400_000 < found["value_bytes"] < 2_400_100


def test_verify_says_what_is_wrong(run: Run, place: pathlib.Path) -> None:
    """One line, and an exit code of its own."""
    place.write_bytes(CONTENT[:-5])
    ran = run("verify", str(place))
    assert (ran.exit_code, ran.stdout) == (Exit.NOT_WELL, "")
    assert "is cut off" in ran.stderr
    assert run("verify", str(place.with_name("nothing"))).exit_code == Exit.WRONG_ARGUMENTS
    assert run("verify", str(place.parent)).exit_code == Exit.WRONG_ARGUMENTS


def test_restore_writes_one_directory_or_all(run: Run, place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The same cluster by one call, or by one for each member; and each directory verifies."""
    place.write_bytes(CONTENT)
    ran = run("restore", str(place), "--peers", PEERS, "--data-dir", str(tmp_path / "all"), "--json")
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [each["name"] for each in told] == ["n1", "n2"]
    for name in ("n1", "n2"):
        one = tmp_path / f"one-{name}"
        assert run("restore", str(place), "--peers", PEERS, "--name", name, "--data-dir", str(one)).exit_code == 0
        assert stored_identity(one) == stored_identity(tmp_path / "all" / name)
        assert json.loads(run("verify", str(one), "--json").stdout)["keys"] == 11
    ran = run("restore", str(place), "--peers", PEERS, "--data-dir", str(tmp_path / "all"))
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
    assert "is not empty" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peers", "n1"], "--peers: 'n1': write every member as name=http://host:port"),
        (["--peers", "n1=ftp://h:1"], "--peers: n1: "),
        (["--peers", ","], "--peers: name every new member, as n1=http://host:2380"),
        (["--peers", "../n1=http://h:1"], "--peers: '../n1' cannot be the name of a directory: use another name"),
        (["--peers", "a=http://h:1,b=http://h:1"], "--peers: duplicate url http://h:1: give each member its own"),
        (["--peers", PEERS, "--name", "n3"], "--name=n3 is not among --peers: use one of n1, n2"),
        (["--peers", PEERS, "--ttl-from", "now"], "--ttl-from=now: write a moment, the same on every machine"),
        (["--peers", PEERS, "--ttl-from", "2025-11-29T07:06:39Z"], "--ttl-from is before the backup was taken"),
        (["--peers", PEERS, "--ttl-from", "2999-01-01"], "that is still to come, and every key with a TTL until then"),
        (["--peers", PEERS, "--ttl-from", "9999-12-31T23:59:59-14:00"], "that is still to come"),
        (["--peers", PEERS, "--ttl-from", "0001-01-01T00:00:00+14:00"], "is before the backup was taken"),
        (["--peers", PEERS, "--bump-index", "-1"], "Invalid value for '--bump-index'"),
    ],
)
def test_wrong_arguments_of_a_restore_write_nothing(
    run: Run, place: pathlib.Path, tmp_path: pathlib.Path, words: list[str], said: str
) -> None:
    """Each in one line that says what to give."""
    place.write_bytes(CONTENT)
    ran = run("restore", str(place), "--data-dir", str(tmp_path / "new"), *words)
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_full_disk_is_told_with_its_place(
    run: Run, place: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system names no file when a write fails."""

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restore, "write_directory", fill)
    place.write_bytes(CONTENT)
    ran = run("restore", str(place), "--data-dir", str(tmp_path / "new"), "--name", "n1", "--peers", PEERS)
    assert (ran.exit_code, ran.stderr) == (Exit.REFUSED, f"kvraft: {tmp_path / 'new'}: No space left on device\n")


def test_directory_is_no_backup(run: Run, tmp_path: pathlib.Path) -> None:
    """It is there, so the line does not say that it is not."""
    ran = run("restore", str(tmp_path), "--data-dir", str(tmp_path / "new"), "--peers", PEERS)
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert f"{tmp_path} is a directory" in ran.stderr


def test_times_are_utc_unless_they_say_otherwise(run: Run, place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The same moment gives the same cluster, however it is written."""
    place.write_bytes(CONTENT)
    clusters = set()
    for number, text in enumerate(("2025-11-29T08:00:00Z", "2025-11-29T08:00:00", "2025-11-29T09:00:00+01:00")):
        words = ("--peers", PEERS, "--name", "n1", "--data-dir", str(tmp_path / str(number)), "--ttl-from", text)
        clusters.add(json.loads(run("restore", str(place), *words, "--json").stdout)["cluster"])
    assert len(clusters) == 1
