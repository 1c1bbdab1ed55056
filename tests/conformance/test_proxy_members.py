"""Members that come, go and speak TLS behind a proxy, and how a proxy finds them first."""

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import pytest

from kvraft.testing import raw_http
from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, ClusterError, Kind, Member, Program
from tests.cluster import operating
from tests.conformance.test_discovery_token import newcomers, service
from tests.proxy.running import laid_out, running

pytestmark = [pytest.mark.slow, pytest.mark.landing]

WRITERS: Final = 4
LAST: Final = "/w/last"
WITHIN_S: Final = 60.0
"""Bound on whatever should take seconds at most: far beyond it, also on a busy machine."""
WATCH_S: Final = 30.0
"""A watch that hears nothing for so long is opened again."""
BROKEN: Final = (OSError, http.client.HTTPException, ValueError)


@final
class Clients:
    """Writers that write without pause through a proxy, and one that watches them; each on threads of its own."""

    def __init__(self, proxy: Member) -> None:
        self._proxy = proxy
        self._stop = threading.Event()
        self._last_seen = threading.Event()
        """The watcher has seen the write that comes after all others."""
        self.acknowledged: set[tuple[str, str]] = set()
        """Key and value; every value is written once."""
        self.seen: dict[tuple[str, str], int] = {}
        """Of each write that the watcher saw, its index."""
        self.lost_history = False
        self.failures = 0
        self._writers = [threading.Thread(target=self._write, args=(f"/w/{number}",)) for number in range(WRITERS)]
        first = int(proxy.http("GET", "/v2/keys/").header("X-Etcd-Index") or "0")
        self._watcher = threading.Thread(target=self._watch, args=(first + 1,))

    def __enter__(self) -> "Clients":
        for thread in (*self._writers, self._watcher):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the writers, and then the watcher with a last write: before it, one may be under way to either."""
        self._stop.set()
        for thread in self._writers:
            thread.join()
        try:
            self._proxy.http("PUT", f"/v2/keys{LAST}", form={"value": ""})
            self._last_seen.wait(WITHIN_S)
        finally:
            self._last_seen.set()
            self._watcher.join()

    def has_written(self, count: int) -> Callable[[], bool]:
        """Whether so many writes are acknowledged."""
        return lambda: len(self.acknowledged) >= count

    def _write(self, key: str) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                answer = self._proxy.http("PUT", f"/v2/keys{key}", form={"value": str(number)})
            except BROKEN:
                self.failures += 1
                continue
            if answer.status in {200, 201}:
                self.acknowledged.add((key, str(number)))
            else:
                self.failures += 1
                self._stop.wait(0.05)  # an endpoint that is set aside comes back by time alone

    def _watch(self, index: int) -> None:
        while not self._last_seen.is_set():
            target = f"/v2/keys/w?wait=true&recursive=true&waitIndex={index}"
            try:
                answer = self._proxy.http("GET", target, timeout_s=WATCH_S)
                if answer.status == 400:
                    self.lost_history = True
                    self._last_seen.set()
                    return
                node = answer.json()["node"] if answer.status == 200 and answer.body else None
            except BROKEN:
                continue
            if node is not None and node["key"] == LAST:
                self._last_seen.set()
            elif node is not None:
                self.seen[node["key"], node["value"]] = node["modifiedIndex"]
                index = node["modifiedIndex"] + 1


@pytest.mark.timeout(300)
def test_all_members_are_replaced_one_by_one_behind_a_proxy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writers go on, the watcher sees each acknowledged write, once and in order, and the proxy starts again."""
    with Cluster(tmp_path) as cluster, laid_out(cluster, proxy_failure_wait="200") as proxy:
        proxy.start()
        proxy.wait_ready()
        with Clients(proxy) as clients:
            for number, old in enumerate(list(cluster.members), 4):
                counted = len(clients.acknowledged)
                new = operating.add(cluster, f"n{number}")
                new.wait_for_log(rf"members that vote .*voters=\S*\b{new.name}\b", WITHIN_S)
                new.wait_ready()
                operating.remove(cluster, old, through=new)
                cluster.without(old)
                old.wait_exit(WITHIN_S)
                cluster.wait_for("writes that go on", clients.has_written(counted + 50), WITHIN_S)
            expected = sorted(cluster.client_urls)

            def knows_them() -> bool:
                """Whether the proxy has asked since."""
                endpoints = proxy.http("GET", "/v2/config/local/proxy").json()["endpoints"]
                return bool(sorted(endpoints) == expected)

            with contextlib.suppress(ClusterError):
                proxy.wait_for("the members of today", knows_them, 1)
            for member in cluster.members[:1]:
                member.restart()  # whoever fails makes the proxy ask
            proxy.wait_for("the members of today", knows_them, WITHIN_S)
        with capsys.disabled():
            print(f"\n{len(clients.acknowledged)} writes, {clients.failures} failed ones, through a proxy")
        assert not clients.lost_history
        assert clients.acknowledged <= clients.seen.keys()
        for number in range(WRITERS):
            own = sorted((index, int(value)) for (key, value), index in clients.seen.items() if key == f"/w/{number}")
            assert [value for _, value in own] == sorted(value for _, value in own), "in the order of the writes"
        assert len(clients.acknowledged) > clients.failures
        proxy.terminate()
        proxy.start()
        proxy.wait_ready()
        known = json.loads((proxy.data_dir / "proxy" / "cluster").read_bytes())
        assert known == {"PeerURLs": sorted(member.peer_url for member in cluster.members)}


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kvraft", "etcd"])
def test_tls_is_spoken_on_both_sides(kind: Kind, tmp_path: Path) -> None:
    """Clients show certificates to the proxy, it shows its own to members, at client URLs and at peer URLs."""
    ca, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    pair, client = ca.issue("server"), ca.issue("client", hosts=())
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.load_cert_chain(client.cert_file, client.key_file)
    files = {"cert-file": pair.cert_file, "key-file": pair.key_file, "trusted-ca-file": ca.ca_file}
    flags = {
        **files,
        "client-cert-auth": "true",
        **{f"peer-{name}": path for name, path in files.items()},
        "peer-client-cert-auth": "true",
    }
    program = Program(kind, flags, client_tls=context, peer_scheme="https")
    with Cluster(tmp_path / "cluster", size=1, program=program) as cluster:
        with running(cluster, files=flags) as proxy:
            assert proxy.client_url.startswith("https:")
            assert proxy.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
            large = "x" * 1_000_000
            assert proxy.http("PUT", "/v2/keys/large", form={"value": large}).status == 201
            assert cluster.members[0].http("GET", "/v2/keys/large").json()["node"]["value"] == large
            assert proxy.http("GET", "/v2/keys/large").json()["node"]["value"] == large
            unknown = ssl.create_default_context(cafile=ca.ca_file)
            own = stranger.issue("stranger", hosts=())
            unknown.load_cert_chain(own.cert_file, own.key_file)
            with pytest.raises((OSError, http.client.HTTPException)):
                raw_http.exchange(proxy.client_url, "GET", "/v2/keys/", tls=unknown)
        wrong = {**flags, "trusted-ca-file": stranger.ca_file}
        with laid_out(cluster, name="distrustful", files=wrong) as proxy:
            proxy.start()
            proxy.wait_for_log("proxy for the v2 API", WITHIN_S)
            asking = ssl.create_default_context(cafile=ca.ca_file)
            foreign = stranger.issue("known", hosts=())
            asking.load_cert_chain(foreign.cert_file, foreign.key_file)
            answer = raw_http.exchange(proxy.client_url, "GET", "/v2/keys/", tls=asking)
            assert answer.status == 502
            proxy.wait_for_log("endpoint set aside .*its certificate is not accepted", WITHIN_S)


def test_certificate_of_the_proxy_is_no_clients(tmp_path: Path) -> None:
    """While auth is on: the members see the proxy's, and a user must come with his password (CVE-2018-16886)."""
    ca = Authority(tmp_path / "ca")
    server, root = ca.issue("server"), ca.issue("root", common_name="root")
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.load_cert_chain(root.cert_file, root.key_file)
    flags = {"cert-file": server.cert_file, "key-file": server.key_file, "trusted-ca-file": ca.ca_file}
    program = Program("kvraft", {**flags, "client-cert-auth": "true"}, client_tls=context)
    with Cluster(tmp_path / "cluster", size=1, program=program) as cluster:
        member = cluster.members[0]
        user = json.dumps({"user": "root", "password": "p"}).encode()
        assert member.http("PUT", "/v2/auth/users/root", body=user).status == 201
        assert member.http("PUT", "/v2/auth/enable").status == 200
        assert member.http("GET", "/v2/auth/users").status == 200, "by the certificate"
        own = {"cert-file": root.cert_file, "key-file": root.key_file, "trusted-ca-file": ca.ca_file}
        with running(cluster, files=own) as proxy:
            assert proxy.http("GET", "/v2/auth/users").status == 401
            password = [("Authorization", "Basic cm9vdDpw")]
            assert proxy.http("GET", "/v2/auth/users", headers=password).status == 200


# -- discovery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["etcd", "kvraft"])
def test_member_without_a_place_serves_as_a_proxy_and_so_do_those_that_want_to(asked: Kind, tmp_path: Path) -> None:
    """`--discovery-fallback=proxy`, and `--proxy on` with a token; started again, they ask nobody any more."""
    with service(tmp_path, asked, "1") as (server, url), newcomers(tmp_path, "kvraft", url, 3) as cluster:
        first, late, proxy = cluster.members
        first.start()
        first.wait_ready()
        late.cluster_flags["discovery-fallback"] = "proxy"
        proxy.cluster_flags["proxy"] = "on"
        for member in (late, proxy):
            member.start()
            member.wait_ready()
            assert member.http("GET", "/v2/config/local/proxy").json() == {"endpoints": [first.client_url]}
        late.wait_for_text("falling back to proxy")
        assert late.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
        server.kill()
        for member in (late, proxy):
            member.restart()
            assert member.http("GET", "/v2/keys/a").json()["node"]["value"] == "1"
            member.wait_for_text("discovery changes nothing")
