"""Names in URLs that lead to more than one address, or are the same place as an address: beside the real etcd."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvraft import ids
from kvraft.testing.cluster import Cluster, Kind, Member
from tests.conformance import hosts
from tests.proxy.running import running
from tests.proxy.silence import silent

pytestmark = [pytest.mark.slow, pytest.mark.landing]

KINDS: list[Kind] = ["etcd", "kvraft"]


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_reaches_a_member_whose_name_has_a_dead_first_address(kind: Kind, tmp_path: Path) -> None:
    """Within the second that a dial may take."""
    with Cluster(tmp_path, size=1) as cluster:
        [member] = cluster.members
        member.terminate()
        member.cluster_flags["advertise-client-urls"] = f"http://two:{member.client_port}"
        member.start()
        member.wait_ready()
        both = hosts.wrapper(tmp_path, "::1 two", "127.0.0.1 two")
        with silent("::1", member.client_port), running(cluster, kind, wrapper=both) as proxy:
            endpoints = proxy.http("GET", "/v2/config/local/proxy").json()
            assert endpoints == {"endpoints": [f"http://two:{member.client_port}"]}
            assert proxy.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201


def _with_name(cluster: Cluster, member: Member, named: str, advertised: str) -> None:
    """One URL of a member in `--initial-cluster`, another one that it advertises; P stands for its port."""
    port = str(member.peer_port)
    member.cluster_flags["initial-cluster"] = f"{member.name}={named.replace('P', port)}"
    member.cluster_flags["initial-advertise-peer-urls"] = advertised.replace("P", port)
    member.program = dataclasses.replace(
        member.program, wrapper=hosts.wrapper(cluster.directory, "127.0.0.1 here", "127.0.0.2 there")
    )


@contextlib.contextmanager
def _laid_out(directory: Path, kind: Kind, named: str, advertised: str) -> Iterator[Member]:
    cluster = Cluster(directory / kind, size=1, kind=kind)
    cluster.directory.mkdir(parents=True)
    _with_name(cluster, cluster.members[0], named, advertised)
    try:
        yield cluster.members[0]
    finally:
        cluster.stop()


def _shown(member: Member) -> str:
    """Its list of members once it has told of itself, without the ports."""

    def published() -> str:
        text = member.http("GET", "/v2/members").body.decode()
        return text if '"clientURLs":["' in text else ""

    text = member.wait_for("published member", published, 10)
    return text.replace(str(member.client_port), "C").replace(str(member.peer_port), "P").partition('"name"')[2]


@pytest.mark.parametrize(
    ("named", "advertised"),
    [("http://here:P", "http://127.0.0.1:P"), ("http://127.0.0.1:P", "http://here:P")],
)
def test_founder_may_advertise_its_address_by_another_text(named: str, advertised: str, tmp_path: Path) -> None:
    """What `--initial-cluster` says counts, in ids too, and at later starts."""
    shown = []
    for kind in KINDS:
        with _laid_out(tmp_path, kind, named, advertised) as member:
            for _ in range(2):
                member.start()
                member.wait_ready()
                shown.append(_shown(member))
                [each] = member.http("GET", "/v2/members").json()["members"]
                own_urls, token = (
                    [named.replace("P", str(member.peer_port))],
                    member.cluster_flags["initial-cluster-token"],
                )
                assert each["id"] == ids.text(ids.member_id(own_urls, token))
                member.terminate()
    assert len(set(shown)) == 1
    assert f'"peerURLs":["{named}"]' in shown[0]


@pytest.mark.parametrize(
    ("named", "advertised"),
    [
        ("http://127.0.0.1:P", "http://localhost:P"),
        ("http://here:P", "http://localhost:P"),
        ("http://here:P", "http://there:P"),
        ("http://here:P", "https://here:P"),
    ],
)
def test_founder_that_advertises_another_place_is_refused(named: str, advertised: str, tmp_path: Path) -> None:
    """`localhost` is a name that etcd does not look up."""
    for kind in KINDS:
        with _laid_out(tmp_path, kind, named, advertised) as member:
            member.start()
            assert member.wait_exit() == 1
            member.wait_for_text("--initial-cluster has ")
            assert kind == "etcd" or not member.data_dir.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_member_that_was_added_by_its_name_may_advertise_its_address(kind: Kind, tmp_path: Path) -> None:
    """The lines of `etcdctl member add` have the name, and its unit the address."""
    with Cluster(tmp_path, size=1, kind=kind) as cluster:
        [first] = cluster.members
        added = cluster.more("n2")
        name = f"http://here:{added.peer_port}"
        _with_name(cluster, added, name, f"http://127.0.0.1:{added.peer_port}")
        founder = f"{first.name}={first.peer_url}"
        added.cluster_flags["initial-cluster"] = f"{founder},n2={name}"
        added.cluster_flags["initial-cluster-state"] = "existing"
        add = json.dumps({"peerURLs": [name]}).encode()
        headers = [("Content-Type", "application/json")]
        first.wait_for(
            "its addition",
            lambda: first.http("POST", "/v2/members", body=add, headers=headers).status in {201, 409},
            10,
        )
        added.start()
        added.wait_ready()
        cluster.wait_for("both", lambda: _shown(added).count('"clientURLs":["') == 2, 20)
        assert f'"peerURLs":["{name}"]' in added.http("GET", "/v2/members").body.decode()
