"""Directories of real etcds that were killed in the middle of writes: what their clients had been told is in them."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from kvraft.keyspace.account_commands import Permissions
from kvraft.migration.contents import Contents, MigrationError
from kvraft.migration.etcd_directory import read_directory
from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, Member, Program

pytestmark = [pytest.mark.slow, pytest.mark.landing]

HIDDEN = ("/_hidden", "/d1/_below")


def _etcd(directory: Path, size: int = 1) -> Cluster:
    return Cluster(directory, size=size, program=Program("etcd", {"snapshot-count": "150", "log-level": "error"}))


def _write_at_random(member: Member, rng: random.Random, count: int) -> None:
    """Requests of every kind on few keys, so that all of them meet."""
    names = ["/k", "/d1/k", "/d1/l", "/d1/_below/k", "/d2/deep/er/k", "/_hidden/k", "/d3", '/é "q"\n']
    for _ in range(count):
        path = f"/v2/keys{quote(rng.choice(names))}"
        value = rng.choice(["", "1", "2", 'two\nlines "q" <&>', "ü" * rng.randint(0, 50)])
        match rng.randrange(11):
            case 0 | 1 | 2:
                member.http("PUT", path, form={"value": value})
            case 3:
                member.http("PUT", path, form={"value": value, "ttl": str(rng.choice([1, 2, 1000, 5000]))})
            case 4:
                member.http("PUT", path, form={"value": value, "prevExist": rng.choice(["true", "false"])})
            case 5:
                member.http("PUT", path, form={"value": value, "prevValue": rng.choice(["1", "2"])})
            case 6:
                member.http("PUT", path, form={"ttl": "900", "prevExist": "true", "refresh": "true"})
            case 7:
                member.http("POST", path.rpartition("/")[0] + "/queue", form={"value": value})
            case 8:
                member.http("DELETE", f"{path}?recursive={rng.choice(['true', 'false'])}")
            case 9:
                member.http("PUT", f"{path}/sub", form={"dir": "true"})
            case 10:
                member.http("DELETE", f"{path}?prevValue={rng.choice(['1', '2'])}")


def _listed(member: Member) -> tuple[int, dict[str, tuple[object, ...]]]:
    """Everything that the API shows, and the index as of which."""
    found: dict[str, tuple[object, ...]] = {}
    index = 0
    for top in ("/", *HIDDEN):
        answer = member.http("GET", f"/v2/keys{top}?recursive=true&quorum=true")
        index = max(index, answer.etcd_index)
        stack: list[dict[str, Any]] = [answer.json()["node"]] if answer.status == 200 else []
        while stack:
            node = stack.pop()
            stack += node.get("nodes", [])
            if node.get("key"):
                value = None if node.get("dir") else node.get("value")
                has_ttl = "expiration" in node
                found[node["key"]] = (value, has_ttl, node["createdIndex"], node["modifiedIndex"])
    return index, found


def _read(contents: Contents) -> dict[str, tuple[object, ...]]:
    return {
        node.path.decode(): (
            None if node.value is None else node.value.decode(),
            node.expiration_ns > 0,
            node.created_index,
            node.modified_index,
        )
        for node in contents.nodes
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_etcds_directory_is_what_it_last_showed(tmp_path: Path, seed: int) -> None:
    """Keys, directories, hidden ones, which of them expire, both indices of each, and the store's own."""
    rng = random.Random(seed)
    with _etcd(tmp_path / "etcd") as cluster:
        (member,) = cluster.members
        for _ in range(rng.randint(1, 3)):
            _write_at_random(member, rng, rng.randint(20, 200))
            # What was to expire has, or does in an hour: nothing changes between the listing and the kill.
            member.wait_for("what is due to expire", lambda: not _expires_soon(member), 10)
            index, shown = _listed(member)
            member.kill()
            contents = read_directory(tmp_path / "etcd" / "n1")
            assert _read(contents) == shown
            assert contents.etcd_index == index
            member.restart()


def _expires_soon(member: Member) -> bool:
    stack = [member.http("GET", f"/v2/keys{top}?recursive=true").json().get("node", {}) for top in ("/", *HIDDEN)]
    while stack:
        node = stack.pop()
        stack += node.get("nodes", [])
        if node.get("ttl", 1000) < 100:
            return True
    return False


async def _write_until_killed(url: str, number: int, acknowledged: set[str], enough: asyncio.Event) -> None:
    with contextlib.suppress(OSError, EOFError):
        async with await raw_http.Connection.open(url) as connection:
            for count in range(100_000):
                key = f"/w{number}/{count}"
                answer = await connection.request("PUT", f"/v2/keys{key}", form={"value": "v"})
                if answer.status == 201:
                    acknowledged.add(key)
                if len(acknowledged) == 2000:
                    enough.set()


async def test_every_acknowledged_write_is_in_the_directory_of_an_etcd_killed_by_sigkill(tmp_path: Path) -> None:
    """16 writers run into the kill; the record that it may have torn is told of, not lost in silence."""
    with _etcd(tmp_path / "etcd") as cluster:
        (member,) = cluster.members
        acknowledged: set[str] = set()
        enough = asyncio.Event()
        writers = [
            asyncio.create_task(_write_until_killed(member.client_url, number, acknowledged, enough))
            for number in range(16)
        ]
        async with asyncio.timeout(60):
            await enough.wait()
        with pytest.raises(MigrationError, match="an etcd is running on it"):
            read_directory(tmp_path / "etcd" / "n1")
        member.kill()
        await asyncio.gather(*writers)
        contents = read_directory(tmp_path / "etcd" / "n1")
        assert acknowledged <= {node.path.decode() for node in contents.nodes}


def test_users_roles_and_members_are_in_the_directory(tmp_path: Path) -> None:
    """Hashes as bcrypt's text, so that passwords hold where they are taken over."""
    with _etcd(tmp_path / "etcd", 3) as cluster:
        first = cluster.members[0]
        for target, body in (
            ("users/root", b'{"user":"root","password":"r"}'),
            ("roles/reader", b'{"role":"reader","permissions":{"kv":{"read":["/a/*"],"write":[]}}}'),
            ("users/u", b'{"user":"u","password":"p","roles":["reader"]}'),
        ):
            headers = [("Content-Type", "application/json")]
            assert first.http("PUT", f"/v2/auth/{target}", body=body, headers=headers).status in {200, 201}
        assert first.http("PUT", "/v2/auth/enable").status == 200
        listed = {int(each["id"], 16): each for each in first.http("GET", "/v2/members").json()["members"]}
        # The leader settles for less where a member starts late.
        first.wait_for("3.4.0", lambda: first.http("GET", "/version").json()["etcdcluster"] == "3.4.0", 60)
        for member in cluster.members:
            member.kill()
        contents = read_directory(tmp_path / "etcd" / "n1")
        assert contents.auth_enabled
        assert [(user.name, user.roles, user.password_hash[:4]) for user in contents.users] == [
            ("root", ("root",), b"$2a$"),
            ("u", ("reader",), b"$2a$"),
        ]
        assert {role.name: role.permissions for role in contents.roles}["reader"] == Permissions(("/a/*",), ())
        assert {
            number: (member.name, list(member.client_urls), list(member.peer_urls))
            for number, member in contents.members.items()
        } == {number: (each["name"], each["clientURLs"], each["peerURLs"]) for number, each in listed.items()}
        assert contents.version == "3.4.0"
