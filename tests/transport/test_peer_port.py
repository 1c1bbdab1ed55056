"""What else speaks to the peer port: HTTP/1 as to etcd's, byte for byte, and calls by gRPC."""

import asyncio
import dataclasses
import gc
import logging
import re
import subprocess
import sys
from pathlib import Path

import grpc.aio
import pytest

from kvraft.records import MemberRecord
from kvraft.testing.cluster import Cluster
from kvraft.transport.call_server import SERVICE, STATUS
from kvraft.transport.doorway import HTTP2_PREFACE
from kvraft.transport.pb import raft_pb2 as pb
from tests.transport import support

REQUESTS = [
    f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE")
    for path in (
        "/members",
        "/members?x=1",
        "/%6dembers",
        "/version",
        "/members/",
        "/version/",
        "/",
        "/v2/keys",
        "/nope",
    )
]
REQUESTS += [
    b"GET /members HTTP/1.1\r\n\r\n",
    b"GET members\r\n\r\n",
    b"GET http://x/members HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET HTTP://user@y:1/version?z=/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /members%3fx HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /members HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]


async def _answer(port: int, request: bytes) -> bytes:
    """Status, header lines in any order of `Connection`, and body; without the date."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(support.WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if request.startswith(b"HEAD"):
            body = b""
        elif length is None:
            body = await reader.read()
        else:
            body = await reader.readexactly(int(length[1]))
    writer.close()
    return re.sub(rb"(Date: [^\r]+|Connection: close)\r\n", b"", head) + body


class _Pages:
    """Shows what etcd shows."""

    def __init__(self, cluster_id: int, member: MemberRecord) -> None:
        self.cluster_id = cluster_id
        self._member = member

    def members(self) -> list[MemberRecord]:
        return [self._member]

    def cluster_version(self) -> str:
        return "3.4.0"


@pytest.mark.slow
async def test_http_is_answered_as_by_etcd(tmp_path: Path) -> None:
    """Patroni and others find a cluster by what its peer URLs answer."""
    with Cluster(tmp_path, size=1, kind="etcd", durable=False) as cluster:
        (member,) = cluster.members
        record = member.http("GET", "/v2/members").json()["members"][0]
        member.wait_for("a version", lambda: "not_decided" not in str(member.http("GET", "/version").json()), 10)
        shown = await _answer(member.peer_port, REQUESTS[0])
        cluster_id = re.search(rb"X-Etcd-Cluster-Id: (\w+)", shown)
        assert cluster_id is not None
        pages = _Pages(
            int(cluster_id[1], 16),
            MemberRecord(int(record["id"], 16), record["name"], tuple(record["peerURLs"]), tuple(record["clientURLs"])),
        )
        async with support.cluster(1) as (ours,):
            ours.transport._doorway.pages = pages  # type: ignore[misc]  # Final for everybody else
            for request in REQUESTS:
                expected = await _answer(member.peer_port, request)
                assert await _answer(ours.transport.ports[0], request) == expected, request


async def test_members_come_with_who_votes() -> None:
    """In a header beside etcd's: a member that rebuilds must not count who learns."""
    async with support.cluster(1) as (ours,):
        ours.transport._reports.voters = lambda: (0xB, 2)
        assert b"\r\nX-Kvraft-Voters: 2,b\r\n" in await _answer(ours.transport.ports[0], REQUESTS[0])


async def test_requests_on_one_connection_are_answered_in_turn() -> None:
    """The second head cut in two."""
    async with support.cluster(1) as (ours,):
        reader, writer = await asyncio.open_connection("127.0.0.1", ours.transport.ports[0])
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(support.WAIT_S):
            await reader.readuntil(b'"3.4.0"}')
            writer.write(b"GET /ver")
            await writer.drain()
            writer.write(b"sion HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b'"3.4.0"}')
        writer.close()


@pytest.mark.slow
async def test_call_reaches_grpc_behind_the_same_port() -> None:
    """HTTP/2's preface is handed to a gRPC server inside; several calls, several connections."""
    async with support.cluster(2) as (ours, _):
        for _ in range(2):
            async with grpc.aio.insecure_channel(support.address(ours.transport.ports[0])) as channel:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    f"/{SERVICE}/{STATUS}", None, None
                )
                for _ in range(2):
                    status = pb.StatusAnswer.FromString(await call(b"", timeout=support.WAIT_S))
                    assert (status.cluster_id, status.member_id, status.current_term) == (support.CLUSTER, 1, 3)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(f"/{SERVICE}/Nothing", None, None)(b"", timeout=support.WAIT_S)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert ours.events.connected == {2}


async def test_http_connection_that_is_kept_for_later_is_closed_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its client has pools; whoever asks for nothing, or for half of something, is named all the same."""
    caplog.set_level(logging.INFO, "kvraft")
    named = []
    async with support.cluster(1, dataclasses.replace(support.QUICK, greeting_timeout_ms=100)) as (ours,):
        for request in (REQUESTS[0], REQUESTS[0][:9]):
            reader, writer = await asyncio.open_connection("127.0.0.1", ours.transport.ports[0])
            writer.write(request)
            async with asyncio.timeout(support.WAIT_S):
                await reader.read()
            writer.close()
            named.append(sum("no member sends" in record.getMessage() for record in caplog.records))
    assert named == [0, 1]


async def test_grpc_that_cannot_be_loaded_closes_the_call_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises: anybody may make a call, and no member stops for it."""
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    monkeypatch.setitem(sys.modules, "kvraft.transport.call_server", None)
    async with support.cluster(2) as (ours, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", ours.transport.ports[0])
        writer.write(HTTP2_PREFACE)
        async with asyncio.timeout(support.WAIT_S):
            assert await reader.read() == b""
        writer.close()
        assert ours.events.disconnects == 0
    gc.collect()
    assert unhandled == []


def test_member_that_nobody_calls_does_not_load_grpc() -> None:
    """It takes a good part of a start."""
    program = "import sys, kvraft.cli; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
