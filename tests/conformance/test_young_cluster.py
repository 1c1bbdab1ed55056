"""What a cluster says while one of its founders has never been started, by etcd and by kvraft."""

import json
import pathlib
from typing import Any

import pytest

from kvraft.testing.cluster import Cluster, Kind
from kvraft.testing.member import Member

pytestmark = pytest.mark.slow
WITHIN_S = 20.0


def members(member: Member) -> list[dict[str, Any]]:
    """As this member lists them, by name."""
    listed: list[dict[str, Any]] = json.loads(member.http("GET", "/v2/members").body)["members"]
    return sorted(listed, key=lambda fields: str(fields["name"]))


def version(member: Member) -> str:
    """What this member says that the cluster is."""
    return str(json.loads(member.http("GET", "/version").body)["etcdcluster"])


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
        third.start()
        first.wait_for("usual version", lambda: version(first) == "3.4.0", WITHIN_S)
    finally:
        cluster.stop()
