"""`--host-whitelist` and `--listen-metrics-urls`, live against etcd and kvraft."""

import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from kvraft.testing import ports
from kvraft.testing.cluster import Program
from tests.conformance.systems import System

pytestmark = pytest.mark.slow

HOSTS = (
    b"127.0.0.1", b"127.0.0.1:1", b"a.example", b"a.example:99", b"a.example:", b"A.example", b"b.example", b"", b":1",
    b"[::1]", b"[::1]:1", b"[127.0.0.1]:1", b"a.example:1:2", b"a.example.", b"*",
)  # fmt: skip
REQUESTS = (
    (b"GET", b"/v2/keys/a"), (b"PUT", b"/v2/keys/a?value=1"), (b"OPTIONS", b"/v2/keys"), (b"GET", b"/health"),
    (b"GET", b"//v2/keys"), (b"GET", b"/nowhere"), (b"HEAD", b"/version"), (b"GET", b"http://a.example:1/version"),
    (b"GET", b"http://b.example/version"),
)  # fmt: skip
METRICS_REQUESTS = (
    *((method, b"/health") for method in (b"GET", b"HEAD", b"POST", b"OPTIONS", b"FOO")),
    *((b"GET", path) for path in (b"/", b"/health/", b"/health?exclude=NOSPACE", b"//health", b"/v2/keys")),
    (b"GET", b"/version"), (b"GET", b"/v2/machines"),
    (b"GET", b"/debug/vars"), (b"GET", b"/debug/pprof/"), (b"OPTIONS", b"/"),
    (b"PUT", b"/config/local/log"),
)  # fmt: skip


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[tuple[System, str], tuple[System, str]]]:
    """Both with the same flags, each with the URL of its metrics."""
    reservation = ports.reserve(2)
    urls = [f"http://127.0.0.1:{port}" for port in reservation.ports]
    flags = {"host-whitelist": "127.0.0.1,a.example", "cors": "*"}
    with (
        System(Program("etcd", {**flags, "listen-metrics-urls": urls[0], "log-level": "error"}), 1) as oracle,
        System(Program("kvraft", {**flags, "listen-metrics-urls": urls[1]}), 1) as subject,
    ):
        yield (oracle, urls[0]), (subject, urls[1])
    reservation.release()


def said(url: str, method: bytes, target: bytes, host: bytes, headers: bytes = b"") -> bytes:
    """The whole answer, without what differs from one to the next."""
    parts = urlsplit(url)
    request = b"%s %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (method, target, host, headers)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"Date: ", b"X-Raft-", b"X-Etcd-"))]
    body = re.sub(rb'"(modifiedIndex|createdIndex|index)":\d+', rb'"\1":0', body)
    return b"\n".join([lines[0], *sorted(lines[1:]), b"", body])


@pytest.mark.parametrize("host", HOSTS)
def test_host_is_judged_as_by_etcd(both: tuple[tuple[System, str], tuple[System, str]], host: bytes) -> None:
    """Before everything else, without CORS headers; ports aside, capitals not."""
    (oracle, _), (subject, _) = both
    for method, target in REQUESTS:
        expected = said(oracle.client_urls[0], method, target, host)
        assert said(subject.client_urls[0], method, target, host) == expected, (method, target)


@pytest.mark.parametrize("request_", METRICS_REQUESTS, ids=repr)
def test_metrics_listener_serves_what_etcds_serves(
    both: tuple[tuple[System, str], tuple[System, str]], request_: tuple[bytes, bytes]
) -> None:
    """Two paths, whatever Host says, no CORS."""
    (_, expected), (_, actual) = both
    for headers in (b"", b"Origin: http://x.example\r\n"):
        asked = (*request_, b"b.example", headers)
        assert said(actual, *asked) == said(expected, *asked)


def test_metrics_are_there_too(both: tuple[tuple[System, str], tuple[System, str]]) -> None:
    """By any method, and at the client URLs as well."""
    for system, url in both:
        for place in (url, system.client_urls[0]):
            for method in (b"GET", b"PUT"):
                answer = said(place, method, b"/metrics", b"127.0.0.1")
                assert answer.startswith(b"HTTP/1.1 200 OK")
                assert b"etcd_server_has_leader 1" in answer
