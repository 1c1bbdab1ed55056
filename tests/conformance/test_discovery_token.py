"""Members that find each other by a token: etcd's and kvraft's, through etcd's service and through kvraft's."""

import contextlib
import http.client
import shutil
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft import ids
from kvraft.testing import ports
from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Kind, Member, Program
from tests.programs import etcd_discovery

pytestmark = [pytest.mark.slow, pytest.mark.landing]

TOKEN: Final = "/v2/keys/discovery/token"


@contextlib.contextmanager
def service(directory: Path, kind: Kind, size: str | None = "3") -> Iterator[tuple[Member, str]]:
    """A member that runs, and the URL of a token in it."""
    with Cluster(directory / f"service-{kind}", size=1, kind=kind) as cluster:
        [member] = cluster.members
        if size is not None:
            assert member.http("PUT", f"{TOKEN}/_config/size", form={"value": size}).status == 201
        yield member, f"{member.client_url}{TOKEN}"


@contextlib.contextmanager
def newcomers(directory: Path, kind: Kind, url: str, size: int = 3) -> Iterator[Cluster]:
    """Members that know a URL and nothing of each other, laid out and not started."""
    cluster = Cluster(directory / f"members-{kind}", size=size, kind=kind)
    cluster.directory.mkdir(parents=True)
    for member in cluster.members:
        member.cluster_flags = {"discovery": url, "discovery-fallback": "exit"}
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize(("asked", "kind"), [("etcd", "kvraft"), ("kvraft", "kvraft"), ("kvraft", "etcd")])
def test_three_members_found_a_cluster_and_a_fourth_has_no_place(asked: Kind, kind: Kind, tmp_path: Path) -> None:
    """Each registers under the id that etcd would give it; the fourth leaves nothing there."""
    with service(tmp_path, asked) as (server, url), newcomers(tmp_path, kind, url, 4) as cluster:
        *three, fourth = cluster.members
        for member in three:
            member.start()
        for member in three:
            member.wait_ready()
        expected = {ids.text(ids.member_id([member.peer_url], url)): member for member in three}
        listed = server.http("GET", f"{TOKEN}?sorted=true").json()["node"]["nodes"]
        assert {node["key"].rpartition("/")[2]: node["value"] for node in listed} == {
            member_id: f"{member.name}={member.peer_url}" for member_id, member in expected.items()
        }
        first, second, third = three
        assert {each["id"] for each in first.http("GET", "/v2/members").json()["members"]} == expected.keys()
        assert first.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
        assert third.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"

        fourth.start()
        assert fourth.wait_exit() == 1
        fourth.wait_for_text("discovery: cluster is full")
        assert server.http("GET", f"{TOKEN}?sorted=true").json()["node"]["nodes"] == listed
        if kind == "kvraft":
            assert not fourth.data_dir.exists()
            assert fourth.log_text().count("\n") == 1
            second.restart()
            second.wait_for_text(f"--discovery={url} is ignored since a cluster has already been initialized")


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_client_of_a_member_that_waits_for_others_goes_on_to_the_next(kind: Kind, tmp_path: Path) -> None:
    """It is turned away; etcd's listens already and says nothing."""
    with service(tmp_path, "kvraft") as (_, url), newcomers(tmp_path, kind, url) as cluster:
        first = cluster.members[0]
        first.start()
        first.wait_for("a place", lambda: "waiting for" in first.log_text(), 60)
        address = ("127.0.0.1", first.client_port)
        expected, within_s = (TimeoutError, 0.5) if kind == "etcd" else (ConnectionResetError, 20)
        with pytest.raises(expected), socket.create_connection(address, timeout=within_s) as client:
            client.recv(1)


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_one_too_many_serves_as_a_proxy(kind: Kind, tmp_path: Path) -> None:
    """By default, of either program in front of kvraft's member; kvraft's stays one when it is started again."""
    with service(tmp_path, "kvraft", "1") as (_, url), newcomers(tmp_path, "kvraft", url, 1) as cluster:
        cluster.start()
        [member] = cluster.members
        assert member.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
        with newcomers(tmp_path / "late", kind, url, 1) as others:
            [late] = others.members
            late.cluster_flags = {"discovery": url, "name": "late"}
            # etcd refuses to start again where it has begun both a member and a proxy.
            for value in ("2",) if kind == "etcd" else ("2", "3"):
                late.start()
                late.wait_for("an answer", lambda: _answers(late), 20)
                assert late.http("PUT", "/v2/keys/a", form={"value": value}).status == 200
                assert member.http("GET", "/v2/keys/a").json()["node"]["value"] == value
                assert late.http("GET", "/v2/config/local/proxy").json() == {"endpoints": [member.client_url]}
                late.terminate()
            assert (late.data_dir / "proxy" / "cluster").exists()
            late.wait_for_text("falling back to proxy")
        assert len(member.http("GET", "/v2/members").json()["members"]) == 1


def _answers(member: Member) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return member.http("GET", "/v2/keys/a").status == 200
    return False


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_service_of_https_is_believed_by_the_system_s_authorities(kind: Kind, tmp_path: Path) -> None:
    """Or by those that SSL_CERT_FILE names, by Go's programs as by ours; by no flag of either."""
    authority = Authority(tmp_path / "certificates")
    pair = authority.issue("service")
    trust = ssl.create_default_context(cafile=authority.ca_file)
    program = Program("kvraft", {"cert-file": pair.cert_file, "key-file": pair.key_file}, client_tls=trust)
    with (
        Cluster(tmp_path / "service", size=1, program=program) as service_cluster,
        contextlib.ExitStack() as stack,
    ):
        [server] = service_cluster.members
        assert server.http("PUT", f"{TOKEN}/_config/size", form={"value": "1"}).status == 201
        cluster = stack.enter_context(newcomers(tmp_path, kind, f"{server.client_url}{TOKEN}", 1))
        [member] = cluster.members
        if kind == "kvraft":
            member.start()
            member.wait_for("a retry", lambda: "retry connecting" in member.log_text(), 20)
            member.wait_for_text("certificate verify failed")
            member.kill()
        member.program = Program(kind, environment={"SSL_CERT_FILE": str(authority.ca_file)})
        member.start()
        member.wait_ready()


def test_member_that_lost_its_disk_finds_the_others_again(tmp_path: Path) -> None:
    """With --rebuild: it is known by its id, and gets everything back from them."""
    with service(tmp_path, "kvraft", "2") as (_, url), newcomers(tmp_path, "kvraft", url, 2) as cluster:
        for member in cluster.members:
            member.cluster_flags["rebuild"] = "true"
        cluster.start()
        first, second = cluster.members
        assert first.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
        second.kill()
        shutil.rmtree(second.data_dir)
        second.start()
        second.wait_ready()
        assert second.http("GET", "/v2/keys/a").json()["node"]["value"] == "1"
        second.wait_for_text("rebuild")


def test_member_that_waits_ends_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    """It has made nothing, and keeps its place."""
    with service(tmp_path, "kvraft", "2") as (server, url), newcomers(tmp_path, "kvraft", url, 1) as cluster:
        [member] = cluster.members
        member.start()
        member.wait_for("its wait", lambda: "waiting for more" in member.log_text(), 20)
        assert member.terminate() == -signal.SIGTERM
        assert not member.data_dir.exists()
        assert len(server.http("GET", f"{TOKEN}?sorted=true").json()["node"]["nodes"]) == 1


def test_member_waits_for_a_service_that_is_away(tmp_path: Path) -> None:
    """The log says how long, and the member is there once the service is; a third one registers while two wait."""
    with contextlib.ExitStack() as stack:
        reserved = ports.reserve(2)
        stack.callback(reserved.release)
        client_port, peer_port = reserved.ports
        away = Cluster(tmp_path / "service", size=1, client_ports=[client_port], peer_ports=[peer_port])
        stack.callback(away.stop)
        [server] = away.members
        cluster = stack.enter_context(newcomers(tmp_path, "kvraft", f"{server.client_url}{TOKEN}", 1))
        [member] = cluster.members
        away.start()
        assert server.http("PUT", f"{TOKEN}/_config/size", form={"value": "1"}).status == 201
        server.kill()
        member.start()
        member.wait_for("a retry", lambda: "retry connecting to discovery service" in member.log_text(), 20)
        member.wait_for_text('reason="cluster status check" backoff=2s')
        assert not member.data_dir.exists()
        away.start()
        member.wait_ready()


def _refused(member: Member) -> str:
    """The only line of a member that must not start, and has made nothing."""
    member.start()
    assert member.wait_exit() == 1
    [line] = [line for line in member.log_text().splitlines() if line.startswith("kvraft: ")]
    assert "Traceback" not in member.log_text()
    assert not member.data_dir.exists()
    return line


@pytest.mark.parametrize(
    ("size", "by_etcd", "words"),
    [
        # etcd compares with a type that its client does not give, and so never says what it has a message for.
        (None, "100: Key not found", "discovery: size key not found"),
        ("many", "discovery: size key is bad", "discovery: size key is bad"),
    ],
)
def test_token_without_a_size_is_refused(size: str | None, by_etcd: str, words: str, tmp_path: Path) -> None:
    """By both, at the same service."""
    with service(tmp_path, "kvraft", size) as (_, url):
        with newcomers(tmp_path, "etcd", url, 1) as cluster:
            [member] = cluster.members
            member.start()
            assert member.wait_exit() == 1
            member.wait_for_text(by_etcd)
        with newcomers(tmp_path, "kvraft", url, 1) as cluster:
            assert _refused(cluster.members[0]).startswith(f"kvraft: --discovery={url}: {words}")


def test_second_start_without_data_and_a_page_that_is_no_service_are_refused(tmp_path: Path) -> None:
    """The first by its id, as by etcd; what is registered stays."""
    with service(tmp_path, "kvraft", "1") as (server, url):
        kinds: tuple[Kind, ...] = ("etcd", "kvraft")
        for kind in kinds:
            with newcomers(tmp_path / "duplicates", kind, url, 1) as cluster:
                [member] = cluster.members
                key = f"{TOKEN}/{ids.text(ids.member_id([member.peer_url], url))}"
                assert server.http("PUT", key, form={"value": f"n1={member.peer_url}"}).status == 201
                if kind == "kvraft":
                    line = _refused(member)
                    assert line.startswith(f"kvraft: --discovery={url}: discovery: found duplicate id: member 'n1' has")
                else:
                    member.start()
                    assert member.wait_exit() == 1
                member.wait_for_text("has previously registered")
                assert server.http("DELETE", key).status == 200
        page = f"{server.client_url}/version"
        with newcomers(tmp_path / "page", "kvraft", page, 1) as cluster:
            line = _refused(cluster.members[0])
            assert line.startswith(f"kvraft: --discovery={page}: discovery: bad discovery endpoint")


def test_member_with_a_slip_in_its_directories_takes_no_place(tmp_path: Path) -> None:
    """Corrected, it founds the cluster by the same token."""
    (tmp_path / "file").write_text("somebody's")
    with service(tmp_path, "kvraft", "1") as (server, url), newcomers(tmp_path, "kvraft", url, 1) as cluster:
        [member] = cluster.members
        member.cluster_flags["wal-dir"] = str(tmp_path / "file" / "wal")
        assert f"--wal-dir={tmp_path}/file/wal: {tmp_path}/file is no directory: " in _refused(member)
        del member.cluster_flags["wal-dir"]
        (member.data_dir / "member").mkdir(parents=True)
        member.start()
        assert member.wait_exit() == 1
        member.wait_for_text("holds etcd's data, which kvraft does not read")
        assert "nodes" not in server.http("GET", TOKEN).json()["node"]
        (member.data_dir / "member").rmdir()
        member.start()
        member.wait_ready()


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_debian_s_service_keeps_its_tokens_in_kvraft(kind: Kind, tmp_path: Path) -> None:
    """`etcd-discovery` makes a token, and members of either program find each other through it."""
    with (
        Cluster(tmp_path / "store", size=1) as store,
        etcd_discovery.running(tmp_path, store.client_urls[0]) as service_url,
    ):
        with urllib.request.urlopen(f"{service_url}/new?size=2", timeout=10) as answer:
            url = answer.read().decode().strip()
        assert url.startswith(f"{service_url}/")
        with newcomers(tmp_path, kind, url, 2) as cluster:
            cluster.start()
            first, second = cluster.members
            assert first.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
            assert second.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"
        kept = store.members[0].http("GET", f"/v2/keys/_etcd/registry/{url.rpartition('/')[2]}").json()["node"]["nodes"]
        assert len(kept) == 2
