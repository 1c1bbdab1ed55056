"""Directories of stopped etcds, of 2.3's form and 3.x's, made from the formats: what is read, and what is refused."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import Role, User
from kvraft.keyspace.cluster import ClusterMember
from kvraft.migration.contents import MigrationError, Node, UnusableError
from kvraft.migration.etcd_directory import read_directory
from kvraft.migration.etcd_snapshot import unix_ns
from tests.migration.etcd_files import Wal, member_change, node, of_version_3, request, wrapped, write_snapshot

_FAR_NS = 4_000_000_000 * 10**9 + 5


class _Change(bytes):
    """An entry that changes the members."""


def _log(*entries: bytes, padded: bool = True) -> Wal:
    """A log of these entries, all committed."""
    wal = Wal(padded)
    wal.cut(0)
    wal.snapshot(0, 0)
    for index, data in enumerate(entries, 1):
        wal.entry(index, data, kind=int(isinstance(data, _Change)))
    wal.state(len(entries))
    return wal


def _member(kind: int, member_id: int, **context: object) -> bytes:
    return _Change(member_change(kind, member_id, **context))


def _put(path: str | bytes, value: str | bytes = "v", **given: int | str) -> bytes:
    return request("PUT", path, value, **given)


def _values(directory: Path) -> dict[bytes, bytes | None]:
    return {each.path: each.value for each in read_directory(directory).nodes}


@pytest.mark.parametrize("padded", [False, True], ids=["2.3", "3.4"])
def test_every_request_is_replayed_by_the_rules_of_the_store(tmp_path: Path, padded: bool) -> None:
    """Each method and condition once, one that fails among them; indices are etcd's."""
    wal = _log(
        _member(0, 0xA1, peerURLs=["http://a:2380"]),
        b"",
        _put("/0/members/a1/attributes", '{"name":"a","clientURLs":["http://a:2379"]}'),
        _put("/1/a/k", "1"),
        request("POST", "/1/queue", "first"),
        _put("/1/a/k", "2", prev_value="1"),
        _put("/1/a/k", "never", prev_value="1"),
        _put("/1/a/new", "n", prev_exist=0),
        _put("/1/a/k", "3", prev_exist=1),
        _put("/1/ttl", "t", expiration=_FAR_NS),
        _put("/1/ttl", expiration=_FAR_NS + 7, prev_exist=1, refresh=1),
        _put("/1/soon", "s", expiration=2_000_000_000 * 10**9 + 1),
        _put("/1/later", "l", expiration=2_000_000_000 * 10**9 + 2),
        request("SYNC", time=2_000_000_000 * 10**9 + 1),
        _put("/1/empty", dir=1),
        _put("/1/gone/x/y", "g"),
        request("DELETE", "/1/gone", dir=1, recursive=1),
        request("QGET", "/1/a"),
        request("DELETE", "/1", dir=1, recursive=1),
        wrapped(_put("/1/_hidden/x", "h")),
        _put("/1/before-2000", "p", expiration=5),
        padded=padded,
    )
    wal.write(tmp_path / "member" / "wal")
    contents = read_directory(tmp_path)
    assert contents.nodes == [
        Node(b"/_hidden", None, 0, 16, 16),
        Node(b"/_hidden/x", b"h", 0, 16, 16),
        Node(b"/a", None, 0, 3, 3),
        Node(b"/a/k", b"3", 0, 3, 7),
        Node(b"/a/new", b"n", 0, 6, 6),
        Node(b"/before-2000", b"p", 0, 17, 17),
        Node(b"/empty", None, 0, 13, 13),
        Node(b"/later", b"l", 2_000_000_000 * 10**9 + 2, 11, 11),
        Node(b"/queue", None, 0, 4, 4),
        Node(b"/queue/00000000000000000004", b"first", 0, 4, 4),
        Node(b"/ttl", b"t", _FAR_NS + 7, 8, 9),
    ]
    assert contents.etcd_index == 17
    assert contents.members == {0xA1: ClusterMember(("http://a:2380",), "a", ("http://a:2379",), has_started=True)}
    assert contents.notes == []


def test_a_snapshot_is_gone_on_from(tmp_path: Path) -> None:
    """Keys, hidden keys, TTLs, users, roles, members and the index come from it; what follows changes them."""
    user = {"user": "u", "password": "$2a$10$hash", "roles": ["r"]}
    role = {"role": "r", "permissions": {"kv": {"read": ["/a/*"], "write": None}}}
    children = [
        node(
            "/0",
            index=0,
            children=[
                node("/0/version", "3.4.0", 3),
                node(
                    "/0/members",
                    children=[
                        node(
                            "/0/members/b2",
                            children=[node("/0/members/b2/raftAttributes", '{"peerURLs":["http://b:2380"]}')],
                        )
                    ],
                ),
                node("/0/removed_members", children=[node("/0/removed_members/c3", "removed")]),
            ],
        ),
        node(
            "/1",
            index=0,
            children=[
                node("/1/_h", "hidden", 9),
                node("/1/d", index=8, expires="2096-10-02T07:06:40.000000005+00:00", children=[node("/1/d/k", "v", 9)]),
            ],
        ),
        node(
            "/2",
            children=[
                node("/2/enabled", "true"),
                node("/2/users", children=[node("/2/users/u", json.dumps(user))]),
                node("/2/roles", children=[node("/2/roles/r", json.dumps(role))]),
            ],
        ),
    ]
    write_snapshot(tmp_path / "snap", 20, 40, 2, children)
    wal = Wal()
    wal.cut(0)
    for index in range(1, 41):
        wal.entry(index, _put("/1/not-again"))
    wal.snapshot(40)
    wal.cut(41)
    wal.entry(41, _put("/1/d/k", "w"))
    wal.entry(42, request("POST", "/1/d", "in order"))
    wal.state(42)
    wal.write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    assert contents.nodes == [
        Node(b"/_h", b"hidden", 0, 9, 9),
        Node(b"/d", None, _FAR_NS, 8, 8),
        Node(b"/d/00000000000000000022", b"in order", 0, 22, 22),
        Node(b"/d/k", b"w", 0, 21, 21),
    ]
    assert contents.users == [User("u", b"$2a$10$hash", ("r",))]
    assert contents.roles == [Role("r", Permissions(("/a/*",), ()))]
    assert (contents.auth_enabled, contents.version, contents.removed_ids) == (True, "3.4.0", {0xC3})
    assert contents.members == {0xB2: ClusterMember(("http://b:2380",))}


def test_a_damaged_snapshot_gives_way_to_the_one_before_it(tmp_path: Path) -> None:
    """And it is said so; so does one that the log has not written down."""
    write_snapshot(tmp_path / "snap", 5, 5, 2, [node("/1", index=0, children=[node("/1/k", "5", 5)])])
    broken = write_snapshot(tmp_path / "snap", 6, 6, 2, [node("/1", index=0)])
    broken.write_bytes(broken.read_bytes()[:-1] + b"!")
    unknown = write_snapshot(tmp_path / "snap", 7, 7, 2, [node("/1", index=0)])
    wal = _log(*(_put(f"/1/k{index}") for index in range(1, 8)))
    wal.snapshot(5)
    wal.snapshot(6)
    wal.write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    assert [each.path for each in contents.nodes] == [b"/k", b"/k6", b"/k7"]
    assert [str(path) in note for path, note in zip([unknown, broken], contents.notes, strict=True)] == [True, True]


def test_members_come_and_go_at_etcds_cost_in_indices(tmp_path: Path) -> None:
    """A refused change takes none, a removal two."""
    wal = _log(
        _member(0, 0xA1, peerURLs=["http://a:2380"]),
        _member(0, 0xB2, peerURLs=["http://b:2380"]),
        _member(0, 0xB2, peerURLs=["http://other:2380"]),
        _member(0, 0xC3, peerURLs=["http://b:2380"]),
        _member(2, 0xB2, peerURLs=["http://moved:2380"]),
        _member(3, 0xD4, peerURLs=["http://d:2380"], isLearner=True),
        _member(0, 0xD4, isPromote=True),
        _member(1, 0xA1),
        _member(0, 0xA1, peerURLs=["http://a:2380"]),
        _member(1, 0xEE),
    )
    wal.write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    assert contents.members == {0xB2: ClusterMember(("http://moved:2380",)), 0xD4: ClusterMember(("http://d:2380",))}
    assert contents.removed_ids == {0xA1}
    assert contents.etcd_index == 7


def test_what_a_later_leader_wrote_counts(tmp_path: Path) -> None:
    """An entry takes the place of those from its index on, that were never committed."""
    wal = _log(_put("/1/a"))
    wal.entry(2, _put("/1/lost"))
    wal.entry(3, _put("/1/lost-too"))
    wal.entry(2, _put("/1/kept"), term=3)
    wal.state(2, term=3)
    wal.write(tmp_path / "wal")
    assert set(_values(tmp_path)) == {b"/a", b"/kept"}


def test_entries_beyond_the_commit_are_taken_unless_told_otherwise(tmp_path: Path) -> None:
    """An acknowledged write may be among them: etcd writes the commit down with the next one."""
    wal = _log(_put("/1/a"))
    wal.entry(2, _put("/1/beyond"))
    wal.write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    assert {each.path for each in contents.nodes} == {b"/a", b"/beyond"}
    assert "the last 1 entries" in contents.notes[0]
    assert {each.path for each in read_directory(tmp_path, committed_only=True).nodes} == {b"/a"}


def test_every_end_of_the_last_file_is_read_or_told_to_be_torn(tmp_path: Path) -> None:
    """Cut off anywhere, the log is what its whole records say; nothing is made up, nothing raises."""
    wal = _log(_put("/1/a"), _put("/1/b"))
    (path,) = wal.write(tmp_path / "wal")
    whole = bytes(wal.files[0][1])
    ends = [*wal.offsets[1:], len(whole)]
    for cut in sorted({*range(1, len(whole) + 1, 5), *ends}):
        path.write_bytes(whole[:cut])
        notes = read_directory(tmp_path).notes
        assert any("torn" in note for note in notes) == (cut not in ends), cut
    assert set(_values(tmp_path)) == {b"/a", b"/b"}


def test_a_sector_that_was_never_written_is_a_torn_record(tmp_path: Path) -> None:
    """As after a power cut: the length is there, and a part of what it promises is zeros."""
    wal = _log(_put("/1/a"))
    wal.entry(2, _put("/1/big", "x" * 2000))
    (path,) = wal.write(tmp_path / "wal")
    content = bytearray(path.read_bytes())
    content[1024:1536] = bytes(512)
    path.write_bytes(content)
    contents = read_directory(tmp_path)
    assert [each.path for each in contents.nodes] == [b"/a"]
    assert f"{path} at offset {wal.offsets[-1]}" in contents.notes[0]


def test_every_flipped_bit_of_the_log_is_found(tmp_path: Path) -> None:
    """Refused with file and offset, or, where it makes a record longer than the file, a torn end that is told.

    Every 23rd bit, so that each byte of a frame and each place in a byte has its turn.
    """
    wal = _log(_put("/1/a"), _put("/1/b"), _put("/1/c"))
    (path,) = wal.write(tmp_path / "wal")
    whole = bytes(wal.files[0][1])
    sound = read_directory(tmp_path)
    for bit in range(0, len(whole) * 8, 23):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            read = read_directory(tmp_path)
        except MigrationError as error:
            assert str(path) in str(error) or "entry" in str(error)
        else:
            in_padding = content[: len(whole)] != whole and read == sound
            assert in_padding or read.notes, bit


def test_damage_before_the_last_file_is_refused(tmp_path: Path) -> None:
    """Only the end of the log may be torn."""
    wal = _log(_put("/1/a"))
    wal.cut(2)
    wal.entry(2, _put("/1/b"))
    first, _ = wal.write(tmp_path / "wal")
    first.write_bytes(first.read_bytes()[: wal.files[0][1].__len__() - 3])
    with pytest.raises(MigrationError, match=rf"^{first} at offset \d+: the file ends within a record"):
        read_directory(tmp_path)


def test_keys_that_are_not_utf8_come_as_they_are(tmp_path: Path) -> None:
    """The log has the bytes that the API cannot show."""
    _log(_put(b"/1/\xff\xfe", b"\x00\xff"), _put('/1/"quoted"\n', 'two\nlines "q"')).write(tmp_path / "wal")
    assert _values(tmp_path) == {b"/\xff\xfe": b"\x00\xff", b'/"quoted"\n': b'two\nlines "q"'}


def test_keys_of_version_3_are_told_of(tmp_path: Path) -> None:
    """They are not in the v2 store, and whoever misses them has to know."""
    _log(of_version_3("k"), of_version_3("l")).write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    assert contents.nodes == []
    assert contents.notes[0].startswith("2 requests of the v3 API were passed over")


def test_deep_keys_are_read(tmp_path: Path) -> None:
    """100 names below one another, from a snapshot and from the log."""
    deep = node("/1" + "/d" * 100, "v", 5)
    for depth in range(99, 0, -1):
        deep = node("/1" + "/d" * depth, index=5, children=[deep])
    write_snapshot(tmp_path / "snap", 5, 1, 2, [node("/1", index=0, children=[deep])])
    wal = _log(b"", _put("/1" + "/e" * 100))
    wal.snapshot(1)
    wal.write(tmp_path / "wal")
    assert len(read_directory(tmp_path).nodes) == 200


def test_wrong_directories_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """One line each."""
    file = tmp_path / "file"
    file.write_text("no directory")
    empty = tmp_path / "empty"
    empty.mkdir()
    without_log = tmp_path / "without"
    (without_log / "member" / "snap").mkdir(parents=True)
    (tmp_path / "bare" / "member" / "wal").mkdir(parents=True)
    gap = tmp_path / "gap" / "wal"
    gap.mkdir(parents=True)
    (gap / f"{0:016x}-{0:016x}.wal").touch()
    (gap / f"{2:016x}-{9:016x}.wal").touch()
    late = Wal()
    late.cut(100)
    late.write(tmp_path / "late" / "wal")
    ours = tmp_path / "ours"
    (ours / "log").mkdir(parents=True)
    (ours / "identity").touch()
    for directory, said in (
        (tmp_path / "missing", "no such directory"),
        (ours, "of kvraft; start it and name its URL instead"),
        (file, "a file; the data directory of an etcd is wanted"),
        (empty, "no data of an etcd is there"),
        (without_log, "name it (--wal-dir)"),
        (tmp_path / "bare", "no write-ahead log"),
        (tmp_path / "gap", "files between"),
        (tmp_path / "late", "the log begins at entry 100"),
    ):
        with pytest.raises(MigrationError) as refused:
            read_directory(directory)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_running_etcds_directory_is_refused(tmp_path: Path) -> None:
    """It holds a lock on its log."""
    (path,) = _log(_put("/1/a")).write(tmp_path / "wal")
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MigrationError, match="an etcd is running on it"):
            read_directory(tmp_path)
    assert set(_values(tmp_path)) == {b"/a"}


def test_an_empty_store_is_read_as_one(tmp_path: Path) -> None:
    """A cluster that was never written to."""
    _log(b"").write(tmp_path / "wal")
    assert read_directory(tmp_path).nodes == []


def test_gos_times_are_read_to_the_nanosecond() -> None:
    """With any offset; the zero time is none."""
    assert unix_ns("0001-01-01T00:00:00Z") == 0
    assert unix_ns("1970-01-01T01:00:01.5+01:00") == 1_500_000_000
    assert unix_ns("2096-10-02T07:06:40.000000005Z") == _FAR_NS
    with pytest.raises(ValueError, match="is no time"):
        unix_ns("yesterday")


@pytest.mark.parametrize("kind", ["fifo", "directory", "long record", "sparse"])
def test_files_that_no_etcd_makes_are_neither_waited_for_nor_taken_into_memory(tmp_path: Path, kind: str) -> None:
    """A FIFO, a directory, a record as long as a damaged length says; a hole of a terabyte is passed over."""
    wal = Wal()
    wal.cut(0)
    wal.entry(1, request("PUT", "/1/k", "1"))
    wal.state(1)
    wal.write(tmp_path / "member" / "wal")
    (file,) = (tmp_path / "member" / "wal").iterdir()
    if kind == "sparse":
        os.truncate(file, 1 << 40)
        assert [node.path for node in read_directory(tmp_path).nodes] == [b"/k"]
        return
    if kind == "long record":
        with file.open("r+b") as opened:
            opened.write((1 << 39).to_bytes(8, "little"))
            opened.truncate(1 << 40)
    else:
        file.unlink()
        os.mkfifo(file) if kind == "fifo" else file.mkdir()
    with pytest.raises(UnusableError, match="a record of 549755813888 bytes" if kind == "long record" else ": no file"):
        read_directory(tmp_path)


@pytest.mark.parametrize("size", [1 << 40, 1 << 30])
def test_snapshots_that_no_etcd_makes_are_passed_over(tmp_path: Path, size: int) -> None:
    """Enormous ones, holes, and a FIFO: they are not sound, and the log is whole without them."""
    wal = Wal()
    wal.cut(0)
    wal.entry(1, request("PUT", "/1/k", "1"))
    wal.state(1)
    wal.write(tmp_path / "member" / "wal")
    snap = tmp_path / "member" / "snap"
    snap.mkdir()
    (snap / "0000000000000001-0000000000000001.snap").touch()
    os.truncate(snap / "0000000000000001-0000000000000001.snap", size)
    os.mkfifo(snap / "0000000000000001-0000000000000002.snap")
    contents = read_directory(tmp_path)
    assert [node.path for node in contents.nodes] == [b"/k"]
    assert len(contents.notes) == 2
