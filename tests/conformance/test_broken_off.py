"""How answers end that are not over: the member stops, or the client stops sending. The same bytes as etcd's."""

import pathlib
import re
import socket
from typing import Final

import pytest

from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, Kind
from kvraft.testing.member import Member

pytestmark = pytest.mark.slow
FORM: Final = (("Content-Type", raw_http.FORM),)
WITHIN_S: Final = 20.0
WAYS: Final = {
    "long poll": b"GET /v2/keys/none?wait=true HTTP/1.1\r\nHost: x\r\n\r\n",
    "stream": b"GET /v2/keys/none?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n",
    "future": b"GET /v2/keys/none?wait=true&waitIndex=99 HTTP/1.1\r\nHost: x\r\n\r\n",
    "escaped": b"GET /v2/keys/%6eone?wait=true HTTP/1.1\r\nHost: x\r\n\r\n",
    "closing": b"GET /v2/keys/none?wait=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "old": b"GET /v2/keys/none?wait=true HTTP/1.0\r\nHost: x\r\n\r\n",
    "after one": b"GET /v2/none HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/keys/none?wait=true HTTP/1.1\r\nHost: x\r\n\r\n",
    "before one": b"GET /v2/keys/none?wait=true HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/none HTTP/1.1\r\nHost: x\r\n\r\n",
}
"""Watches that are told of nothing, as their clients ask for them."""
LISTING: Final = b"GET /v2/keys/large?recursive=true HTTP/1.1\r\nHost: x\r\n\r\n"
VALUES: Final = 12
VALUE_BYTES: Final = 1 << 20
"""Together more than the sockets of both sides hold."""


def opened(member: Member, request: bytes) -> socket.socket:
    """A connection on which this was asked, and the head of an answer has arrived."""
    connection = socket.create_connection(("127.0.0.1", int(member.client_url.rpartition(":")[2])), WITHIN_S)
    connection.sendall(request)
    assert connection.recv(1, socket.MSG_PEEK)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """Everything that arrives until the connection ends."""
    with connection:
        return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def unvarying(answers: bytes) -> bytes:
    """Answers without dates, the cluster's id, the header lines that count, and CORS, which kvraft has off."""
    return re.sub(rb"(?:Date|X-(?:Etcd|Raft)-[\w-]+|Access-[\w-]+): [^\r]*\r\n", b"", answers)


def endings(kind: Kind, directory: pathlib.Path) -> dict[str, bytes]:
    """What clients of each way see of a member that they stop sending to, and of one that is stopped."""
    with Cluster(directory, size=1, kind=kind) as cluster:
        (member,) = cluster.members
        for number in range(VALUES):
            body = b"value=" + b"%d" % number * (VALUE_BYTES // len(b"%d" % number))
            member.http("PUT", f"/v2/keys/large/{number}", body=body, headers=FORM)
        seen = {}
        for way, request in (*WAYS.items(), ("listing", LISTING)):
            connection = opened(member, request)
            connection.shutdown(socket.SHUT_WR)
            whole = all_of(connection)
            seen[f"half-closed {way}"] = b"%d whole values" % whole.count(b'"value"') if way == "listing" else whole
            assert whole.endswith(b"\r\n0\r\n\r\n") or way in {"old", "before one"}
        connections = {f"stopped {way}": opened(member, request) for way, request in WAYS.items()}
        member.terminate()
        seen |= {way: all_of(connection) for way, connection in connections.items()}
    return {way: unvarying(answers) for way, answers in seen.items()}


def test_watches_and_listings_end_as_etcd_ends_them(tmp_path: pathlib.Path) -> None:
    """Completely for a client that stops sending, without the last chunk where the member stops.

    Clients take a complete answer without an event for an error, and go on in silence when a connection breaks.
    """
    ours, theirs = endings("kvraft", tmp_path / "kvraft"), endings("etcd", tmp_path / "etcd")
    assert ours == theirs
    assert not any(b"\r\n0\r\n" in seen for way, seen in ours.items() if way.startswith("stopped"))
