"""Whatever speaks to the peer port and is no member: closed, bounded, and without effect (faults N10 and N11)."""

import asyncio
import dataclasses
import logging
import random
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kvraft.raft.messages import Heartbeat
from kvraft.transport.channels import FRAMES, SERVICE, SNAPSHOT, channel_opener
from kvraft.transport.codec import encode_frames
from kvraft.transport.envelope import encode_chunk, encode_greeting
from kvraft.transport.handshake import Greeting, Lane
from kvraft.transport.pb import raft_pb2 as pb
from kvraft.transport.sealing import seal, unseal
from tests.transport import support

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_FRAME = bytes.fromhex("000000040000000000")
GREETING = encode_greeting(Greeting(support.hello(2), 1, Lane.CONTROL, b"stranger"))
SHORT = dataclasses.replace(support.QUICK, idle_connection_ms=700)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        random.Random(7).randbytes(5000),
        b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303") + bytes(200),
        PREFACE,
        PREFACE + SETTINGS_FRAME,
        PREFACE + SETTINGS_FRAME + b"\xff" * 9000,
        PREFACE + b"\x00\xff\xff\x01" + bytes(5),
    ],
    ids=["silence", "noise", "http", "tls", "preface", "settings", "settings and noise", "cut headers"],
)
async def test_a_stranger_is_disconnected_and_members_do_not_notice(data: bytes) -> None:
    """The connection is closed within the limits on greeting and idleness."""
    async with support.cluster(2, SHORT) as (first, second):
        reader, writer = await asyncio.open_connection("127.0.0.1", first.transport.ports[0])
        writer.write(data)
        async with asyncio.timeout(support.WAIT_S):
            try:
                while await reader.read(4096):
                    pass  # What the server says before it closes is gRPC's business.
            except ConnectionError as error:
                assert error.errno is not None
        writer.close()
        second.transport.send(1, (Heartbeat(3, 0, 0, 1),))
        await first.events.until(lambda events: events.frames)
        assert first.events.connected == {2}
        assert first.events.disconnects == 0


async def test_requests_that_are_reset_as_fast_as_they_are_made_hold_nobody_up() -> None:
    """HTTP/2 "rapid reset" (CVE-2023-44487), twenty thousand times, then a bare CONTINUATION (fault O7)."""
    path = b"/kvraft.peer.v1.Peer/Frames"
    block = b"\x83\x86\x44" + bytes([len(path)]) + path + b"\x41\x01a" + b"\x5f\x10application/grpc"
    block += b"\x40\x02te\x08trailers"

    def request(stream: int) -> bytes:
        number = stream.to_bytes(4, "big")
        headers = len(block).to_bytes(3, "big") + b"\x01\x04" + number + block
        return headers + b"\x00\x00\x04\x03\x00" + number + b"\x00\x00\x00\x08"

    async with support.cluster(2, SHORT) as (first, second):
        reader, writer = await asyncio.open_connection("127.0.0.1", first.transport.ports[0])
        writer.write(PREFACE + SETTINGS_FRAME)

        async def attack() -> None:
            for stream in range(1, 40_001, 2):
                writer.write(request(stream))
                await writer.drain()
            writer.write(b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x00")

        async def drain() -> None:
            while await reader.read(65536):
                pass  # Settings, resets, GOAWAY: gRPC's business.

        attacking = asyncio.create_task(attack())
        draining = asyncio.create_task(drain())
        for clock_ms in range(1, 21):
            second.transport.send(1, (Heartbeat(3, 0, clock_ms, 1),))
            async with asyncio.timeout(support.WAIT_S):
                await first.events.until(lambda events, wanted=clock_ms: len(events.frames) >= wanted)  # type: ignore[misc]  # bound at once
        async with asyncio.timeout(support.WAIT_S):
            outcomes = await asyncio.gather(attacking, draining, return_exceptions=True)
        writer.close()
        assert all(outcome is None or isinstance(outcome, ConnectionError) for outcome in outcomes), outcomes
        assert first.events.connected == {2}
        assert first.events.disconnects == 0


async def test_a_port_scan_leaves_no_descriptors_behind() -> None:
    """Sixty connections that say nothing are closed with all that belongs to them (fault N9)."""
    async with support.cluster(1, SHORT) as (member,):
        before = _open_descriptors()
        streams = [await asyncio.open_connection("127.0.0.1", member.transport.ports[0]) for _ in range(60)]
        assert _open_descriptors() >= before + len(streams)
        async with asyncio.timeout(support.WAIT_S):
            for reader, writer in streams:
                while await reader.read(4096):
                    pass  # gRPC says what it speaks before it closes.
                writer.close()
                await writer.wait_closed()
        assert _open_descriptors() <= before + 10


async def _status(port: int, method: str, messages: list[bytes]) -> grpc.StatusCode:
    """What a stream that sends these messages ends with."""
    settings = dataclasses.replace(support.QUICK, message_bytes_max=64 << 20)
    async with channel_opener(settings, None)(support.url(port)) as channel:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(f"/{SERVICE}/{method}", seal, unseal)(
            None
        )
        try:
            for message in messages:
                await call.write(message)
            while isinstance(await call.read(), bytes):
                continue
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return await call.code()
        return await call.code()


FRAME = encode_frames([Heartbeat(3, 0, 0, 1)])
UNKNOWN_KIND = pb.FramesMessage(frames=[pb.Frame()]).SerializeToString()


@pytest.mark.parametrize(
    ("method", "messages", "status"),
    [
        (FRAMES, [], grpc.StatusCode.DEADLINE_EXCEEDED),
        (FRAMES, [b"\xff\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        (FRAMES, [b""], grpc.StatusCode.INVALID_ARGUMENT),
        (FRAMES, [FRAME], grpc.StatusCode.INVALID_ARGUMENT),
        (FRAMES, [GREETING, GREETING], grpc.StatusCode.INVALID_ARGUMENT),
        (FRAMES, [GREETING, b"\xff\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        (
            FRAMES,
            [GREETING, pb.FramesMessage(frames=[pb.Frame()]).SerializeToString()],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            FRAMES,
            [GREETING, pb.FramesMessage(fragment=pb.Fragment(data=b"x", frame_bytes=9)).SerializeToString(), FRAME],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            FRAMES,
            [GREETING, pb.FramesMessage(fragment=pb.Fragment(data=b"x", frame_bytes=1 << 40)).SerializeToString()],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            FRAMES,
            [encode_greeting(Greeting(support.hello(2), 1, Lane.SNAPSHOT, b"stranger"))],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (FRAMES, [b"x" * (8 << 20)], grpc.StatusCode.RESOURCE_EXHAUSTED),
        (SNAPSHOT, [], grpc.StatusCode.DEADLINE_EXCEEDED),
        (SNAPSHOT, [b"\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
        (SNAPSHOT, [encode_chunk(0, b"x")], grpc.StatusCode.INVALID_ARGUMENT),
        ("Nothing", [GREETING], grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_a_stream_that_breaks_the_protocol_is_closed_and_nothing_of_it_delivered(
    method: str, messages: list[bytes], status: grpc.StatusCode
) -> None:
    """Somebody who speaks gRPC but not ours, also behind a good greeting."""
    async with support.cluster(1) as (member,):
        member.transport._gate.members = frozenset({2})
        assert await _status(member.transport.ports[0], method, messages) is status
        assert member.events.frames == []
        assert member.events.refused == []


async def test_a_stranger_is_logged_once_and_not_for_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """A port scanner fills no log."""
    caplog.set_level(logging.INFO, "kvraft")
    async with support.cluster(1) as (member,):
        for _ in range(5):
            await _status(member.transport.ports[0], FRAMES, [b"\xff\xff\xff"])
    lines = [record for record in caplog.records if "what no member sends" in record.getMessage()]
    assert len(lines) == 1


async def test_a_bug_of_the_member_reaches_the_loop_and_not_the_peer() -> None:
    """An exception from a callback is never swallowed with its stream (fault P8)."""
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context.get("exception")))
    error = RuntimeError("a bug")

    def fail(_from: int, _frames: object) -> None:
        raise error

    async with support.cluster(2) as (first, second):
        second.events.react = fail
        first.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        await first.events.until(lambda events: events.disconnects)
        assert seen == [error]
