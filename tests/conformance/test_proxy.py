"""kvraft's proxy mode beside etcd's, and what is held of members held of a proxy before them."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster, Kind, Member
from tests.conformance import recordings, systems
from tests.conformance.differential.campaign import run_campaign
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.pair import pair
from tests.conformance.long_runs import SEED
from tests.conformance.replay import replayed
from tests.proxy.running import laid_out, running

pytestmark = [pytest.mark.slow, pytest.mark.landing]

REQUESTS: Final = 3000
WITHIN_S: Final = 30.0
LAST: Final = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STORE_COUNTS: Final = re.compile(rb'"(?:modified|created)Index":\d+|,"prevNode":\{.*?\}')
FORM: Final = b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.timeout(300)
def test_generated_requests_through_a_proxy_get_etcds_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Every answer and every event agrees, watches included, as at a member itself."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.proxied() as subject, pair(oracle, subject) as servers:
        finding = run_campaign(servers, REQUESTS, SEED, coverage, first=200_000)
    with capsys.disabled():
        print(f"\nseed {SEED}, through a proxy: {coverage.requests} requests, {coverage.events} events")
    assert finding is None, str(finding)
    assert coverage.requests >= REQUESTS
    assert coverage.events


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", recordings.NAMES)
def test_recorded_traffic_through_a_proxy_gets_etcds_answers(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One proxy before three members: events to its watches, and equal trees in the end."""
    lines: list[str] = []
    with systems.etcd() as oracle, systems.proxied(3) as subject:
        differences = replayed(recordings.plan(recordings.load(name)), oracle, subject, lines.append)
    with capsys.disabled():
        print(f"\n{name} through a proxy: {lines[0]}")
    assert not differences, "\n".join(differences[:10])


# -- beside etcd's proxy -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    """Etcd's proxy and kvraft's before one etcd, which lets every origin in, as both do."""
    with (
        Cluster(tmp_path_factory.mktemp("behind"), size=1, kind="etcd") as cluster,
        running(cluster, "etcd", "etcds") as etcds,
        running(cluster, "kvraft", "kvrafts", cors="*") as kvrafts,
    ):
        cluster.members[0].http("PUT", "/v2/keys/a", form={"value": "1"})
        yield etcds, kvrafts


def _said(proxy: Member, sent: bytes) -> list[tuple[bytes, list[bytes], bytes]]:
    """Status, headers that matter, and body of each answer; the last one is LAST's if the connection was kept."""
    got = b""
    with socket.create_connection(("127.0.0.1", proxy.client_port)) as connection:
        connection.settimeout(WITHIN_S)
        connection.sendall(sent + LAST)
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 16):
                got += data
    said = []
    for answer in re.split(rb"(?=HTTP/1\.[01] [1-5])", got)[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.lower().split(b"\r\n")
        kept = sorted({line for line in lines if line.split(b":")[0] in {b"allow", b"location", b"content-type"}})
        # The store counts on between the two, and the second one finds what the first has written.
        status = first.split(b" ")[1].replace(b"201", b"200")
        said.append((status, kept, STORE_COUNTS.sub(b"", _content(lines, body))))
    return said


def _content(lines: list[bytes], body: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in lines:
        return body
    return b"".join(re.findall(rb"(?:^|\r\n)[0-9a-f]+\r\n(.*?)(?=\r\n)", body, re.DOTALL))


REQUESTS_TO_BOTH: Final = {
    "read": b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "write that expects to be told": b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    + FORM
    + b"Content-Length: 7\r\n\r\nvalue=1",
    "write in chunks": b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\n"
    + FORM
    + b"Transfer-Encoding: chunked\r\n\r\n7\r\nvalue=1\r\n0\r\n\r\n",
    "chunks that are none": b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "another expectation": b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\nExpect: x\r\nContent-Length: 0\r\n\r\n",
    "HEAD": b"HEAD /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS": b"OPTIONS /v2/keys/a HTTP/1.1\r\nHost: x\r\nOrigin: http://page\r\n\r\n",
    "of no known method": b"BREW /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.0": b"GET /v2/keys/a HTTP/1.0\r\n\r\n",
    "HTTP/1.0 kept": b"GET /v2/keys/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "closed": b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "two ahead": b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 2,
    "upgrade": b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "without Host": b"GET /version HTTP/1.1\r\n\r\n",
    "two of Host": b"GET /version HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "garbage": b"garbage\r\n\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "a length that is none": b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "for a proxy": b"GET http://foo/version HTTP/1.1\r\nHost: x\r\n\r\n",
    "not clean": b"GET /v2/keys//a/../b HTTP/1.1\r\nHost: x\r\n\r\n",
    "not clean, and a write": b"PUT /v2/keys//a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "not there": b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
    "an escape that is none": b"GET /v2/keys/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET v2/keys HTTP/1.1\r\nHost: x\r\n\r\n",
    "a star": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "health": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "members": b"GET /v2/members HTTP/1.1\r\nHost: x\r\n\r\n",
    "endpoints": b"GET /v2/config/local/proxy HTTP/1.1\r\nHost: x\r\n\r\n",
    "endpoints, and a write": b"PUT /v2/config/local/proxy HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "endpoints by HEAD": b"HEAD /v2/config/local/proxy HTTP/1.1\r\nHost: x\r\n\r\n",
    "below the endpoints": b"GET /v2/config/local/proxy/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "an error of the store": b"GET /v2/keys/none?x=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("what", REQUESTS_TO_BOTH)
def test_request_gets_the_answer_of_etcds_proxy(both: tuple[Member, Member], what: str) -> None:
    """Status, kind, body, and whether the connection goes on."""
    etcds, kvrafts = (_said(proxy, REQUESTS_TO_BOTH[what]) for proxy in both)
    assert kvrafts == etcds


def test_readonly_proxy_refuses_what_etcds_refuses(tmp_path: Path) -> None:
    """501 for all but GET."""
    with (
        Cluster(tmp_path, size=1, kind="etcd") as cluster,
        running(cluster, "etcd", "etcds", proxy="readonly") as etcds,
        running(cluster, "kvraft", "kvrafts", proxy="readonly") as kvrafts,
    ):
        for method in (b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"BREW", b"GET"):
            for target in (b"/version", b"/v2/config/local/proxy"):
                sent = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, target)
                assert _said(kvrafts, sent) == _said(etcds, sent), sent


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_proxy_before_members_that_are_gone_answers_as_etcds(kind: Kind, tmp_path: Path) -> None:
    """502 first, then 503 as long as the only endpoint is set aside; then all is well again."""
    with Cluster(tmp_path, size=1) as cluster, running(cluster, kind, proxy_failure_wait="60000") as proxy:
        cluster.members[0].kill()
        first, second = (_said(proxy, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2))
        [(status, _, body), _] = first
        assert status == b"502"
        assert body == b'{"message":"httpproxy: unable to get response from 1 endpoint(s)"}'
        [(status, _, body), _] = second
        assert status == b"503"
        assert body == b'{"message":"httpproxy: zero endpoints currently available"}'


# -- directories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("etcd", "kvraft"), ("kvraft", "etcd"), ("kvraft", "kvraft")])
def test_proxy_goes_on_in_the_directory_of_another(first: Kind, second: Kind, tmp_path: Path) -> None:
    """The cluster file is etcd's; with it, `--initial-cluster` and `--proxy` count no more, as in etcd."""
    with Cluster(tmp_path, size=1) as cluster:
        with running(cluster, first) as proxy:
            expected = {"PeerURLs": [cluster.members[0].peer_url]}
            file = proxy.data_dir / "proxy" / "cluster"
            proxy.wait_for("its file", lambda: file.exists() and json.loads(file.read_bytes()) == expected, 10)
        with running(cluster, second, proxy="off", initial_cluster="proxy=http://127.0.0.1:1") as proxy:
            assert proxy.http("GET", "/v2/config/local/proxy").json() == {"endpoints": cluster.client_urls}


def test_directory_of_etcds_member_starts_no_proxy_and_etcd_goes_back_to_it(tmp_path: Path) -> None:
    """Where etcd would start as the member."""
    with Cluster(tmp_path, size=1, kind="etcd") as cluster, laid_out(cluster) as proxy:
        member = cluster.members[0]
        member.terminate()
        member.data_dir.rename(proxy.data_dir)
        proxy.start()
        assert proxy.wait_exit() == 1
        assert "holds etcd's data, which kvraft does not read" in proxy.log_text().splitlines()[-1]
        proxy.data_dir.rename(member.data_dir)
        assert not (member.data_dir / "proxy").exists()
        member.start()
        member.wait_ready()


def test_directory_of_a_member_starts_a_member_whatever_proxy_says(tmp_path: Path) -> None:
    """As in etcd, with a line; one that has both starts nothing, and one that is damaged says what to remove."""
    with Cluster(tmp_path, size=1) as cluster:
        member = cluster.members[0]
        member.terminate()
        member.cluster_flags |= {"proxy": "on", "logger": "zap"}
        member.start()
        member.wait_ready()
        member.wait_for_text("started as a member, whatever --proxy says")
        (line,) = (each for each in member.log_text().splitlines() if "whatever --proxy says" in each)
        assert json.loads(line)["level"] == "warn", "in the form that the flags want, like every line"
        del member.cluster_flags["logger"]
        assert member.http("GET", "/v2/stats/self").json()["state"] == "StateLeader"
        member.terminate()
        (member.data_dir / "proxy").mkdir()
        member.start()
        assert member.wait_exit() == 1
        assert "both a member's data and a proxy's are in it" in member.log_text().splitlines()[-1]
        with laid_out(cluster) as proxy:
            (proxy.data_dir / "proxy").mkdir(parents=True)
            (proxy.data_dir / "proxy" / "cluster").write_text("{")
            proxy.start()
            assert proxy.wait_exit() == 1
            assert "remove it, and name them with --initial-cluster" in proxy.log_text().splitlines()[-1]
