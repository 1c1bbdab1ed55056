"""A backup made of what an etcd held: a cluster that is founded with it goes on where that ended."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from kvraft import clock
from kvraft.backup import state, verification
from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import Role, User
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.tree import File, path_of
from kvraft.migration import founding_backup
from kvraft.migration.contents import Contents, MigrationError, Node
from kvraft.migration.etcd_directory import read_directory
from kvraft.storage.backup_file import open_backup
from kvraft.testing.cluster import Cluster
from tests.migration.etcd_files import Wal, request
from tests.migration.importing import etcd, fill, put, tree

_HASH = b"$2a$10$" + b"x" * 53


def _loaded(path: Path) -> Keyspace:
    with open_backup(path) as (decoder, records):
        meta = state.meta_of(str(path), decoder.header)
        return state.load(str(path), state.image_of(str(path), meta, records))


def _held(keyspace: Keyspace) -> list[Node]:
    """Every node with its value as it was written, by path."""
    found = []
    for node in keyspace._tree.nodes():
        value = node.value() if isinstance(node, File) else None
        expiration_ns = node.lifetime.expiration_ns if node.lifetime else 0
        found.append(Node(path_of(node), value, expiration_ns, node.created_index, node.modified_index))
    return sorted(found, key=lambda node: node.path)


def test_everything_is_in_the_file(tmp_path: Path) -> None:
    """Indices, TTLs, hidden and odd keys, hashes, roles, auth; and it is verified like any backup."""
    expiration_ns = clock.wall_ns() + 100 * 10**9
    nodes = [
        Node(b"/a", None, 0, 5, 5),
        Node(b"/a/_hidden", None, 0, 5, 5),
        Node(b"/a/_hidden/k", b"\xff", 0, 5, 9),
        Node(b"/\xfe", b'two\n"lines"', expiration_ns, 7, 7),
    ]
    users = [User("root", _HASH, ("root",)), User("u", _HASH, ("r",)), User("of-the-api", b"", ())]
    contents = Contents(12, nodes, users, [Role("r", Permissions(("/a/*",), ()))], auth_enabled=True)
    founding_backup.write(contents, tmp_path / "file")
    facts = verification.verify_file(tmp_path / "file")
    assert {name: facts[name] for name in ("keys", "directories", "hidden", "users", "roles", "auth")} == {
        "keys": 2,
        "directories": 2,
        "hidden": 2,
        "users": 2,
        "roles": 1,
        "auth": True,
    }
    keyspace = _loaded(tmp_path / "file")
    assert _held(keyspace) == sorted(nodes, key=lambda node: node.path)
    assert (keyspace.etcd_index, keyspace.history.floor) == (12, 12)
    assert keyspace.accounts.users["u"] == users[1]
    deadline_ms = keyspace.next_deadline_ms()
    assert deadline_ms is not None
    assert 80_000 < deadline_ms <= 100_000
    assert contents.notes == ["left out for want of their passwords' hashes, which no API tells: of-the-api"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def _requests() -> st.SearchStrategy[bytes]:
    paths = st.sampled_from(["/1/a", "/1/a/b", "/1/a/b/c/d", "/1/e/f", "/1/_h/x"])
    return st.one_of(
        st.builds(lambda path, value: request("PUT", path, value), paths, st.sampled_from(["", "1"])),
        st.builds(lambda path: request("PUT", path, dir=1), paths),
        st.builds(lambda path: request("POST", path, "in order"), paths),
        st.builds(lambda path: request("DELETE", path, dir=1, recursive=1), paths),
    )


@hypothesis.given(st.lists(_requests(), max_size=30))
@hypothesis.settings(max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_an_etcd_did_makes_a_state_that_a_member_takes(tmp_path: Path, requests: list[bytes]) -> None:
    """Parents that were made with their children, nodes that took others' places."""
    wal = Wal()
    wal.cut(0)
    for index, data in enumerate(requests, 1):
        wal.entry(index, data)
    wal.state(len(requests))
    wal.write(tmp_path / "wal")
    contents = read_directory(tmp_path)
    founding_backup.write(contents, tmp_path / "file")
    keyspace = _loaded(tmp_path / "file")
    assert _held(keyspace) == sorted(contents.nodes, key=lambda node: node.path)
    assert keyspace.etcd_index == max(contents.etcd_index, 1)


def test_contents_without_indices_are_refused(tmp_path: Path) -> None:
    """In one line, and nothing is left."""
    with pytest.raises(MigrationError, match=r"^/k: without its directory, or without indices"):
        founding_backup.write(Contents(1, [Node(b"/k", b"v")]), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def _kvraft(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "kvraft", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended
    return ended.stdout


def _indices(text: bytes) -> list[bytes]:
    """Each node of a listing with its indices, without the TTL that is left."""
    shown = re.sub(rb'"ttl":\d+,', b"", text)
    return sorted(re.findall(rb'"key":"[^"]*"[^{}]*?"modifiedIndex":\d+,"createdIndex":\d+', shown))


@pytest.mark.slow
@pytest.mark.landing
async def test_a_cluster_of_three_goes_on_where_a_killed_etcd_ended(tmp_path: Path) -> None:
    """With its indices, hidden keys, TTLs, users and their passwords; the next write has the next index."""
    root = ("Authorization", "Basic " + base64.b64encode(b"root:secret").decode())
    with etcd(tmp_path / "etcd") as old:
        (source,) = old.members
        await fill(source.client_url, 500)
        put(source, "/_hidden/k")
        body = b'{"user":"root","password":"secret"}'
        headers = [("Content-Type", "application/json")]
        assert source.http("PUT", "/v2/auth/users/root", body=body, headers=headers).status == 201
        assert source.http("PUT", "/v2/auth/enable").status == 200
        shown = tree(source, "/_hidden")
        listed = source.http("GET", "/v2/keys/?recursive=true&quorum=true")
        source.kill()
        file = str(tmp_path / "file")
        told = _kvraft("import", "--from-data-dir", str(source.data_dir), "--to-backup", file)
        assert told == f"{file}: {len(shown)} keys at index {listed.etcd_index}, for kvraft restore\n"
    with Cluster(tmp_path / "new", size=3) as new:
        peers = ",".join(f"{member.name}={member.peer_url}" for member in new.members)
        for member in new.members:
            assert member.terminate() == 0
            member.data_dir.rename(member.data_dir.with_name(f"{member.name}-unused"))
        _kvraft("restore", file, "--peers", peers, "--data-dir", str(tmp_path / "new"), "--token", "moved")
        for member in new.members:
            member.cluster_flags["initial-cluster-token"] = "moved"
        new.start()
        assert tree(new.members[2], "/_hidden") == shown
        again = new.members[1].http("GET", "/v2/keys/?recursive=true&quorum=true")
        assert _indices(again.body) == _indices(listed.body)
        assert again.etcd_index >= listed.etcd_index
        assert new.members[0].http("GET", "/v2/auth/users").status == 401
        assert new.members[0].http("GET", "/v2/auth/users", headers=[root]).status == 200
        assert (
            new.members[0].http("GET", f"/v2/keys/?wait=true&waitIndex={listed.etcd_index - 1}").json()["errorCode"]
            == 401
        )
