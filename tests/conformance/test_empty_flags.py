"""Flags whose variable is empty, at starts to which they say nothing: beside the real etcd."""

import dataclasses
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Kind, Member
from tests.conformance.test_discovery_token import newcomers, service
from tests.proxy.running import laid_out, running

pytestmark = [pytest.mark.slow, pytest.mark.landing]

KINDS: list[Kind] = ["etcd", "kvraft"]


def _published(member: Member) -> bytes:
    """Its list of members, once it has told of itself."""
    listed = member.http("GET", "/v2/members").body
    return listed if b'"clientURLs":["' in listed else b""


@pytest.mark.parametrize("kind", KINDS)
def test_member_with_data_needs_no_initial_cluster(kind: Kind, tmp_path: Path) -> None:
    """Its data tells who it is, and its members."""
    with Cluster(tmp_path, size=1, kind=kind) as cluster:
        [member] = cluster.members
        known = member.wait_for("its own URLs", lambda: _published(member), 10)
        member.terminate()
        member.cluster_flags |= {"initial-cluster": ""}
        member.start()
        member.wait_ready()
        assert _published(member) == known


@pytest.mark.parametrize("kind", KINDS)
def test_member_with_data_starts_without_a_name(kind: Kind, tmp_path: Path) -> None:
    """Etcd's has none from then on; kvraft's keeps its own, as if the flag had not been given."""
    with Cluster(tmp_path, size=1, kind=kind) as cluster:
        [member] = cluster.members
        member.terminate()
        member.cluster_flags |= {"name": "", "initial-cluster": ""}
        member.start()
        member.wait_ready()
        name = b"" if kind == "etcd" else member.name.encode()
        member.wait_for("its name", lambda: b'"name":"%b"' % name in _published(member), 10)


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_a_discovery_service_needs_no_initial_cluster(kind: Kind, tmp_path: Path) -> None:
    """A member, and a proxy, which is one too many; it starts again without the service."""
    with service(tmp_path, "kvraft", "1") as (_, url), newcomers(tmp_path, kind, url, 1) as cluster:
        [member] = cluster.members
        member.cluster_flags |= {"initial-cluster": ""}
        member.start()
        member.wait_ready()
        with running(cluster, kind, initial_cluster="", discovery=url) as proxy:
            proxy.wait_for("the member", lambda: proxy.http("GET", "/v2/members").status == 200, 10)
            proxy.terminate()
            flags = {**proxy.program.flags, "discovery": ""}
            proxy.program = dataclasses.replace(proxy.program, flags=flags)
            proxy.start()
            proxy.wait_ready()
            assert proxy.http("GET", "/v2/config/local/proxy").json() == {"endpoints": cluster.client_urls}


@pytest.mark.parametrize("flag", ["initial-cluster", "name"])
@pytest.mark.parametrize("kind", KINDS)
def test_member_without_data_and_discovery_is_refused(kind: Kind, flag: str, tmp_path: Path) -> None:
    """Nothing names the members, or itself."""
    cluster = Cluster(tmp_path, size=1, kind=kind)
    [member] = cluster.members
    member.data_dir.parent.mkdir(exist_ok=True)
    member.cluster_flags |= {flag: ""}
    try:
        member.start()
        assert member.wait_exit() == 1
    finally:
        cluster.stop()
    if kind == "kvraft":
        member.wait_for_text(f"--{flag}=: it is empty, as from a variable that is not set")
        assert not member.data_dir.exists()


def test_proxy_that_knows_nobody_is_refused(tmp_path: Path) -> None:
    """No default takes the place of what a script meant whose variable is empty."""
    with Cluster(tmp_path, size=1) as cluster, laid_out(cluster, initial_cluster="") as proxy:
        proxy.start()
        assert proxy.wait_exit() == 1
        proxy.wait_for_text("--initial-cluster=: it is empty, as from a variable that is not set")
        assert not proxy.data_dir.exists()
