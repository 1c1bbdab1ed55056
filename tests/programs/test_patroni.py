"""Patroni 4 minds three PostgreSQL servers through three members, while both are killed and replaced."""

import http.client
import json
import pathlib
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvraft.testing import ports
from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.plugin import ClusterFactory
from tests.jepsen_like.roster import Roster
from tests.programs.patroni import TTL_S, Patroni, PrimaryWatch, Server, Writer

pytestmark = [pytest.mark.landing, pytest.mark.timeout(900)]

BOOTSTRAP_S = 120.0
FAILOVER_S = TTL_S + 60.0


@pytest.fixture
def public_directory() -> Iterator[pathlib.Path]:
    """A directory that the user `postgres` can get to, which those of pytest are not."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kvraft-programs-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_patroni_never_has_two_leaders_while_everything_is_killed_and_moved(
    clusters: ClusterFactory, public_directory: pathlib.Path
) -> None:
    """Bootstrap, both leaders killed at once, a switchover, every member replaced: no two primaries, no row lost."""
    cluster = clusters()
    reserved = ports.reserve(6)
    hosts = [url.removeprefix("http://") for url in cluster.client_urls]
    with Patroni(public_directory, reserved.ports, hosts) as patroni, PrimaryWatch(patroni.servers) as watch:
        first = patroni.primary(BOOTSTRAP_S)
        patroni.wait_for_replicas(2, BOOTSTRAP_S)
        assert holder_of_lock(cluster) == first.name, "the key that Patroni's clients go by"
        first.sql("CREATE TABLE numbers (number bigint PRIMARY KEY)")

        with Writer(patroni.servers) as writer:
            wait_for_rows(patroni, writer, 20)
            kill_both_leaders(cluster, first)
            second = patroni.primary(FAILOVER_S, other_than=first)
            wait_for_rows(patroni, writer, 20)
            for member in cluster.members:
                if not member.is_running:
                    member.restart()
            first.start()
            patroni.wait_for_replicas(2, FAILOVER_S)

            switch_over(patroni, second)
            wait_for_rows(patroni, writer, 20)
            replace_every_member(cluster, patroni, lambda: wait_for_rows(patroni, writer, 20))
            before = lock(cluster)["modifiedIndex"]
            patroni.wait_for("renewal of the lock", lambda: lock(cluster)["modifiedIndex"] > before, FAILOVER_S)
            wait_for_rows(patroni, writer, 20)

        last = patroni.primary(FAILOVER_S)
        rows = {int(row) for row in last.sql("SELECT number FROM numbers").split()}
        lost = set(writer.acknowledged) - rows
        assert not lost, f"{len(lost)} of {len(writer.acknowledged)} acknowledged rows are gone"
    reserved.release()
    print(f"{len(writer.acknowledged)} rows; longest time without a primary {watch.longest_gap_s():.1f} s")
    assert len(watch.periods) >= 3, "bootstrap, fail-over and switchover made a primary each"
    assert not watch.overlaps()


def test_patroni_keeps_its_lock_over_tls_as_a_user_with_few_rights(
    tmp_path: pathlib.Path, public_directory: pathlib.Path
) -> None:
    """By certificate, CA and password, where guests may do nothing: bootstrap, both leaders killed, a new primary."""
    ca = Authority(tmp_path / "ca")
    served, shown, root = ca.issue("server"), ca.issue("client", hosts=()), ca.issue("root", hosts=())
    as_root = ssl.create_default_context(cafile=ca.ca_file)
    as_root.load_cert_chain(root.cert_file, root.key_file)
    flags = {
        "cert-file": served.cert_file,
        "key-file": served.key_file,
        "trusted-ca-file": ca.ca_file,
        "client-cert-auth": "true",
        "auth-guest": "none",
    }
    user = {"user": "patroni", "password": "p:ss word", "roles": ["patroni"]}
    reserved = ports.reserve(6)
    with Cluster(tmp_path / "cluster", program=Program(flags=flags, client_tls=as_root)) as cluster:
        rights = {"kv": {"read": ["/service/*"], "write": ["/service/*"]}}
        for path, body in (
            ("users/root", {"user": "root", "password": "of the certificate"}),
            ("roles/patroni", {"role": "patroni", "permissions": rights}),
            ("users/patroni", user),
            ("enable", None),
        ):
            answer = cluster.members[0].http("PUT", f"/v2/auth/{path}", body=json.dumps(body).encode())
            assert answer.status in {200, 201}, answer
        options = {
            "protocol": "https",
            "cacert": ca.ca_file,
            "cert": shown.cert_file,
            "key": shown.key_file,
            "username": "patroni",
            "password": str(user["password"]),
        }
        hosts = [url.removeprefix("https://") for url in cluster.client_urls]
        with (
            Patroni(public_directory, reserved.ports, hosts, options) as patroni,
            PrimaryWatch(patroni.servers) as watch,
        ):
            first = patroni.primary(BOOTSTRAP_S)
            patroni.wait_for_replicas(2, BOOTSTRAP_S)
            assert holder_of_lock(cluster) == first.name
            first.sql("CREATE TABLE numbers (number bigint PRIMARY KEY)")
            with Writer(patroni.servers) as writer:
                wait_for_rows(patroni, writer, 20)
                kill_both_leaders(cluster, first)
                second = patroni.primary(FAILOVER_S, other_than=first)
                wait_for_rows(patroni, writer, 20)
            rows = {int(row) for row in second.sql("SELECT number FROM numbers").split()}
            assert set(writer.acknowledged) - rows == set()
        assert not watch.overlaps()
        for member in cluster.running:
            assert "rejected connection" not in member.log_text()
    reserved.release()


def holder_of_lock(cluster: Cluster) -> object:
    return lock(cluster)["value"]


def lock(cluster: Cluster) -> dict[str, Any]:
    """The node that Patroni's primary renews, by a member that serves now."""
    answer = cluster.running[0].http("GET", "/v2/keys/service/kvraft/leader?quorum=true")
    assert answer.status == http.client.OK, f"nobody holds the lock, or nobody can tell: {answer}"
    node: dict[str, Any] = answer.json()["node"]
    return node


def kill_both_leaders(cluster: Cluster, primary: Server) -> None:
    cluster.leader().kill()
    primary.kill()


def replace_every_member(cluster: Cluster, patroni: Patroni, after_each: Callable[[], None]) -> None:
    """Patroni was told of the first three only: of the others it hears from the members themselves.

    It asks for their list when a member fails it, and otherwise every ten TTLs. So the other two founders are away
    once, before they go, until every Patroni has asked somebody else: whoever had stayed with the last of them would
    know nobody in the end, with etcd as well. One that had nothing to ask meanwhile would only connect anew.
    """
    roster = Roster(cluster.members, cluster.members)
    founders = tuple(cluster.members)
    for old in founders:
        new = cluster.more(f"{old.name}-new")
        roster.add(new)
        roster.wait_voter(new)
        roster.remove(old)
        cluster.without(old)
        after_each()
        if old is founders[0]:
            for other in founders[1:]:
                other.terminate()
                patroni.wait_until_all_asked(FAILOVER_S)
                other.restart()
                after_each()


def switch_over(patroni: Patroni, primary: Server) -> None:
    others = [server for server in patroni.servers if server is not primary]
    candidate = patroni.wait_for("candidate", lambda: next(filter(is_synchronous, others), None), FAILOVER_S)
    primary.hand_over(candidate)
    patroni.primary(FAILOVER_S, other_than=primary)
    patroni.wait_for_replicas(2, FAILOVER_S)


def is_synchronous(server: Server) -> bool:
    return bool(server.status().get("sync_standby"))


def wait_for_rows(patroni: Patroni, writer: Writer, more: int) -> None:
    wanted = len(writer.acknowledged) + more
    patroni.wait_for(f"{more} more rows", lambda: len(writer.acknowledged) >= wanted, FAILOVER_S)
