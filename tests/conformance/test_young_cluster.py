"""What a new cluster says from its first answer on, and while a founder has never been started, by etcd and kvraft."""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from kvraft.testing.cluster import Cluster, Kind
from kvraft.testing.member import Member
from tests.conformance.etcdctl import ETCDCTL_TIMEOUTS

pytestmark = pytest.mark.slow
WITHIN_S = 20.0
FIRST_TRIES = 5


def members(member: Member) -> list[dict[str, Any]]:
    """As this member lists them, by name."""
    listed: list[dict[str, Any]] = json.loads(member.http("GET", "/v2/members").body)["members"]
    return sorted(listed, key=lambda fields: str(fields["name"]))


def version(member: Member) -> str:
    """What this member says that the cluster is."""
    return str(json.loads(member.http("GET", "/version").body)["etcdcluster"])


def index(member: Member) -> int:
    """Where this member's store stands."""
    return member.http("GET", "/v2/keys/").etcd_index


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
@pytest.mark.parametrize("size", [1, 3, pytest.param(5, marks=pytest.mark.torture)])
def test_first_answer_of_a_new_member_is_of_a_cluster_that_is_complete(
    tmp_path: pathlib.Path, size: int, kind: Kind
) -> None:
    """It names members and version, `etcdctl set` finds an endpoint, and no index moves between its writes.

    Each member costs a registration and a publication, and the version one index more. etcd's leader looks at versions
    on its own, so its first answer may be of an earlier moment, and one more index is for the minimum version.
    """
    cluster = Cluster(tmp_path / "cluster", size=size, kind=kind)
    etcdctl = shutil.which("etcdctl")
    assert etcdctl is not None, "etcdctl is not installed: run `make deps`"
    try:
        cluster.directory.mkdir()
        for member in cluster.members:
            member.start()
        first = cluster.members[0]
        first.wait_listening()
        machines = first.http("GET", "/v2/machines").body.decode()
        assert first.client_url in machines.split(", ")
        if kind == "kvraft":
            assert machines == ", ".join(sorted(member.client_url for member in cluster.members))
            assert version(first) == "3.4.0"
            assert index(first) == 2 * size + 1
        command = [etcdctl, "--endpoints", first.client_url, *ETCDCTL_TIMEOUTS, "set", "key", "value"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "2"})
        assert (told.returncode, told.stdout, told.stderr) == (0, "value\n", "")
        cluster.start()
        written = index(first)
        assert written == 2 * size + 2 or (kind == "etcd" and written == 2 * size + 3)
        for number, member in enumerate(cluster.members, 1):
            answer = member.http("PUT", "/v2/keys/key", form={"value": "v"})
            assert answer.json()["node"]["modifiedIndex"] == written + number
    finally:
        cluster.stop()


def test_etcdctl_succeeds_with_five_new_members_of_five(tmp_path: pathlib.Path) -> None:
    """Each is asked at the moment of its first answer; all start at once, so the processor does not hide the moment."""
    clusters = [Cluster(tmp_path / f"cluster{number}", size=1) for number in range(FIRST_TRIES)]
    etcdctl = shutil.which("etcdctl")
    assert etcdctl is not None, "etcdctl is not installed: run `make deps`"

    def first_set(member: Member) -> tuple[int, str, str]:
        member.wait_listening()
        command = [etcdctl, "--endpoints", member.client_url, *ETCDCTL_TIMEOUTS, "set", "key", "value"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "2"})
        return told.returncode, told.stdout, told.stderr

    members = [cluster.members[0] for cluster in clusters]
    try:
        for cluster, member in zip(clusters, members, strict=True):
            cluster.directory.mkdir()
            member.start()
        with concurrent.futures.ThreadPoolExecutor(FIRST_TRIES) as pool:
            assert list(pool.map(first_set, members)) == [(0, "value\n", "")] * FIRST_TRIES
    finally:
        for cluster in clusters:
            cluster.stop()


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_founder_that_has_not_started_is_known_by_name(tmp_path: pathlib.Path, kind: Kind) -> None:
    """Two of three are a quorum, of the lowest version: what the third is able to do is known once it has started.

    etcdctl would show a member without a name as added later and not started.
    """
    cluster = Cluster(tmp_path / "cluster", kind=kind)
    try:
        cluster.directory.mkdir()
        first, second, third = cluster.members
        for member in (first, second):
            member.start()
        for member in (first, second):
            member.wait_ready()
        first.wait_for("both published", lambda: sum(bool(m["clientURLs"]) for m in members(first)) == 2, WITHIN_S)
        assert [(m["name"], m["peerURLs"], m["clientURLs"]) for m in members(first)] == [
            ("n1", [first.peer_url], [first.client_url]),
            ("n2", [second.peer_url], [second.client_url]),
            ("n3", [third.peer_url], []),
        ]
        first.wait_for("minimum version", lambda: version(first) == "3.0.0", WITHIN_S)
        first.wait_for("3 registered, 2 published, 1 version", lambda: index(first) == index(second) == 6, WITHIN_S)
        third.start()
        first.wait_for("usual version", lambda: version(first) == "3.4.0", WITHIN_S)
        first.wait_for("third published", lambda: index(first) == 8, WITHIN_S)  # of etcd's, the version may come first
    finally:
        cluster.stop()
