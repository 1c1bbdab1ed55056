"""Backups of real members: what a restored cluster serves, a transfer that loses its member, a disk without room."""

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any, Final

import pytest

from kvraft.backup import verification
from kvraft.backup.answers import TARGET
from kvraft.backup.fetching import Fetch, Fetched
from kvraft.backup.new_cluster import Wanted
from kvraft.backup.restore import plan, restore
from kvraft.client import Client
from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.member import Member
from tests.jepsen_like.db import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.landing]

ROOT: Final = ("root", "rootpw")


def basic(name: str, password: str) -> tuple[str, str]:
    """The header that says who asks."""
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


AUTHORIZATION: Final = basic(*ROOT)
VALUE: Final = "x" * (1 << 20)
TREE: Final = "/v2/keys/?recursive=true&sorted=true"
HIDDEN: Final = "/v2/keys/_hidden?recursive=true&sorted=true"


def fetch(member: Member, path: Path, user: tuple[str, str] | None = None, **options: Any) -> Fetched:
    """`kvraft backup`, in this process."""
    return asyncio.run(Fetch(lambda urls: Client(urls, user=user), [member.client_url], path, **options).run())


def restored(backup: Path, cluster: Cluster, **wanted: Any) -> None:
    """Give the members of a cluster that was not started yet the directories of a backup."""
    peers = tuple((member.name, (member.peer_url,)) for member in cluster.members)
    planned = plan(backup, Wanted(peers, **wanted))
    for member in cluster.members:
        restore(backup, planned, member.name, member.data_dir)


def seen(member: Member, *targets: str) -> list[Any]:
    """What root is answered, without TTLs, which go on."""

    def still(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: still(value) for name, value in node.items() if name != "ttl"}
        return [still(each) for each in node] if isinstance(node, list) else node

    return [still(member.http("GET", target, headers=[AUTHORIZATION]).json()) for target in targets]


def test_restored_clusters_serve_what_was_there(tmp_path: Path) -> None:
    """Three new members, and one: the same tree, indices, TTLs, hidden keys, history, users, roles and rights."""
    accounts = ("/v2/auth/users", "/v2/auth/roles")
    backup = tmp_path / "copy"
    with Cluster(tmp_path / "old") as cluster:
        member = cluster.members[0]
        for number in range(50):
            member.http("PUT", f"/v2/keys/app/{number}", form={"value": str(number)})
        member.http("PUT", "/v2/keys/app/leased", form={"value": "x", "ttl": "1000"})
        member.http("PUT", "/v2/keys/_hidden/key", form={"value": "h"})
        member.http("DELETE", "/v2/keys/app/7")
        for path, body in (
            ("/v2/auth/users/root", {"user": ROOT[0], "password": ROOT[1]}),
            ("/v2/auth/roles/app", {"role": "app", "permissions": {"kv": {"read": ["/app/*"], "write": []}}}),
            ("/v2/auth/users/alice", {"user": "alice", "password": "pw", "roles": ["app"]}),
        ):
            assert member.http("PUT", path, body=json.dumps(body).encode()).status in {200, 201}
        assert member.http("PUT", "/v2/auth/enable", headers=[AUTHORIZATION]).status == 200
        assert cluster.members[1].http("GET", TARGET).status == 401
        fetched = fetch(cluster.members[1], backup, ROOT, with_history=True)
        leased = member.http("GET", "/v2/keys/app/leased", headers=[AUTHORIZATION]).json()["node"]
        before = seen(member, TREE, HIDDEN, *accounts)
        etcd_index = member.http("GET", "/v2/keys/", headers=[AUTHORIZATION]).etcd_index
    found = verification.verify(backup)
    assert found["etcd_index"] == etcd_index
    assert (found["users"], found["auth"], found["with_ttl"], found["copy"]) == (2, True, 1, fetched.copy_id)
    for size in (3, 1):
        program = Program(client_headers=[AUTHORIZATION])
        new = Cluster(tmp_path / f"new-{size}", size=size, program=program)
        restored(backup, new)
        with new:
            for member in new.members:
                assert seen(member, TREE, HIDDEN, *accounts) == before
                ttl = member.http("GET", "/v2/keys/app/leased", headers=[AUTHORIZATION]).json()["node"]["ttl"]
                assert leased["ttl"] - 100 < ttl <= leased["ttl"] + 1
                etcd_index = member.http("GET", "/v2/keys/", headers=[AUTHORIZATION]).etcd_index
                assert etcd_index > int(str(found["etcd_index"]))
            member = new.members[-1]
            deleted = member.http("GET", "/v2/keys/app/7?wait=true&waitIndex=50", headers=[AUTHORIZATION]).json()
            assert deleted["action"] == "delete"
            for method, password, status in (("GET", "pw", 200), ("GET", "other", 401), ("PUT", "pw", 401)):
                target, form = ("/v2/keys/app/1", {"value": "2"} if method == "PUT" else None)
                tried = raw_http.exchange(
                    member.client_url, method, target, form=form, headers=[basic("alice", password)]
                )
                assert tried.status == status, (method, password)
            names = {each["name"]: each["clientURLs"] for each in seen(member, "/v2/members")[0]["members"]}
            assert names == {each.name: [each.client_url] for each in new.members}
            written = member.http("PUT", "/v2/keys/app/new", form={"value": "1"}, headers=[AUTHORIZATION])
            assert written.status == 201


def test_transfer_goes_on_when_its_member_was_killed(tmp_path: Path) -> None:
    """With the copy that it had made, and from the byte where it ended; a writer's later keys are not in it."""
    with Cluster(tmp_path / "cluster") as cluster:
        for number in range(40):
            assert cluster.members[0].http("PUT", f"/v2/keys/large/{number}", form={"value": VALUE}).status == 201
        victim = cluster.followers()[0]
        come: list[int] = []

        def kill_once(bytes_come: int, _of: int) -> None:
            if bytes_come > 5 * len(VALUE) and victim.is_running and not come:
                victim.kill()
                assert cluster.leader().http("PUT", "/v2/keys/later", form={"value": "1"}).status == 201
                victim.start()
                come.append(bytes_come)
            elif come and len(come) == 1:
                come.append(bytes_come)

        fetched = fetch(victim, tmp_path / "copy", on_progress=kill_once)
        assert come[0] < come[1] < come[0] + 3 * len(VALUE), "it went on, and did not begin anew"
        found = verification.verify(tmp_path / "copy")
        assert (found["keys"], found["bytes"]) == (40, fetched.size_bytes)
        assert fetch(victim, tmp_path / "again").copy_id != fetched.copy_id
        assert verification.verify(tmp_path / "again")["keys"] == 41


def test_disk_without_room_refuses_a_copy_and_the_member_goes_on(tmp_path: Path) -> None:
    """With a line that says so; another member gives one, without a leader, too."""
    cluster = Cluster(tmp_path / "cluster")
    small, other, third = cluster.members
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.directory.mkdir()
        stack.enter_context(small_disk(small))
        cluster.start()
        while cluster.leader() is small:  # as a leader it takes no more writes than it has room for
            small.restart()
        for number in range(45):
            assert other.http("PUT", f"/v2/keys/fill/{number}", form={"value": VALUE}).status == 201
        answer = small.http("GET", TARGET)
        assert answer.status == 507, answer.body[:200]
        assert "has no room for a copy of about" in answer.json()["message"]
        assert small.http("GET", "/v2/keys/fill/1").status == 200
        small.kill()
        third.kill()
        other.wait_for("the loss of its leader", lambda: other.self_stats().get("state") == "StateFollower", 30)
        assert fetch(other, tmp_path / "copy").facts.name == other.name
        assert verification.verify(tmp_path / "copy")["keys"] == 45
