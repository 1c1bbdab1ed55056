"""HTTP on the peer port beside etcd's, byte for byte but for dates and ids: what a client may send, odd forms too."""

import itertools
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster

pytestmark = pytest.mark.slow
HOST: Final = b"Host: x\r\n"
PATHS: Final = (
    *(b"/members", b"//members", b"/members/", b"/./members", b"/version", b"//version", b"/version/"),
    *(b"/a/../members", b"/%6dembers", b"/members?x=1", b"//members?a=b&c", b"/members%2f", b"/", b"", b"*"),
    *(b"members", b"/Members", b"/members%00", b"/members%zz", b"/mem bers", b"/..", b"/members#f", b"/\xff"),
    *(b"/members//", b"//", b"/v2/keys", b"//%22<>?%22<>", b"//members?\xff", b"/members/.", b"/members/.."),
)
METHODS: Final = (
    *(b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"get", b"Get", b"PATCH", b"TRACE", b"CONNECT", b"FOO", b"G-T"),
    b"G@T",
)
TARGETS: Final = (
    *(b"http://h/members", b"http://h//members", b"http://h", b"http://h/", b"HTTP://h:1/version", b"ftp://h/members"),
    *(b"http:///members", b"http:members", b"h:80", b"http://u:p@h/members", b"http://h?x", b"http://[::1]:2/members"),
    *(b"http://[::1/members", b"http://h%41/members", b"http://h:x/members"),
)
VERSIONS: Final = (
    *(b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.10"),
    b"HTTP/3.0",
)
HEADERS: Final = (
    *(b"", b"Host: a\r\nHost: b\r\n", b"Host: a b\r\n", b"Host:\r\n", b"Host : x\r\n"),
    *(HOST + more + b"\r\n" for more in (b"X Y: z", b"nocolon", b"Connection: close", b"Connection: foo, Close")),
    *(HOST + more + b"\r\n" for more in (b"Content-Length: x", b"Content-Length: 0", b"Expect: foo", b": empty")),
    *(HOST + more + b"\r\n" for more in (b"Transfer-Encoding: gzip", b"Upgrade: h2c\r\nConnection: Upgrade")),
)


def requests() -> Iterator[bytes]:
    """Some 170 of them."""
    for path in PATHS:
        yield b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST)
    for method, path in itertools.product(METHODS, (b"/members", b"/version", b"/nope", b"//members", b"*")):
        yield b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, HOST)
    for target, method in itertools.product(TARGETS, (b"GET", b"CONNECT")):
        yield b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, HOST)
    for version in VERSIONS:
        yield b"GET /members %b\r\n%b\r\n" % (version, HOST)
    for headers in HEADERS:
        yield b"GET /members HTTP/1.1\r\n%b\r\n" % headers
    yield b"GET /members HTTP/1.0\r\n\r\n"
    yield b"GET /members HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    yield b"GET  /members HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"GET /members\r\nHost: x\r\n\r\n"
    yield b"GET /members HTTP/1.1\nHost: x\n\n"


def answer(port: int, request: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, header lines in order of their names, and body; what differs between two clusters is left out."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            data = client.recv(65536)
            if not data:
                break
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        while not request.startswith(b"HEAD") and length is not None and len(body) < int(length[1]):
            body += client.recv(65536)
        if length is None and b"Connection: close" in headers and status:
            while data := _rest(client):
                body += data
    own = (b"Date:", b"X-Etcd-Cluster-Id:", b"Content-Length:", b"X-Kvraft-Voters:")
    body = b"members" if b'"peerURLs"' in body else body
    return status, sorted(line for line in headers if not line.startswith(own)), body


def _rest(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


def test_peer_port_answers_http_as_etcds(tmp_path: Path) -> None:
    """Methods, forms of targets, versions and headers; redirects to the clean path with their pages."""
    with (
        Cluster(tmp_path / "etcd", size=1, kind="etcd") as etcd,
        Cluster(tmp_path / "kvraft", size=1) as ours,
    ):
        ports = [int(cluster.members[0].peer_url.rpartition(":")[2]) for cluster in (etcd, ours)]
        different = []
        for request in requests():
            theirs, own = (answer(port, request) for port in ports)
            if theirs != own:
                different.append(f"{request!r}\n  etcd   {theirs}\n  kvraft {own}")
    assert not different, "\n".join(different)
