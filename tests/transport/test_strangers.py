"""Whatever speaks to the peer port and is no member: closed, bounded, and without effect (faults N10 and N11)."""

import asyncio
import contextlib
import dataclasses
import logging
import random
from pathlib import Path

import pytest

from kvraft.peer_frames import ForwardedCommand
from kvraft.raft.messages import Heartbeat
from kvraft.transport import framing
from kvraft.transport.codec import Word, encode_frames, encode_word
from kvraft.transport.envelope import encode_answer, encode_chunk
from kvraft.transport.handshake import Greeting, Lane
from kvraft.transport.pb import raft_pb2 as pb
from tests.transport import raw, support

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_FRAME = bytes.fromhex("000000040000000000")
GREETING = encode_answer(Greeting(support.hello(2), 1, Lane.CONTROL, b"stranger", 1))
SHORT = dataclasses.replace(support.QUICK, idle_call_ms=700)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        random.Random(7).randbytes(5000),
        b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303") + bytes(200),
        b"GET /endless HTTP/1.1\r\nX: " + b"x" * 9000,
        b"\x00kvraft",
        framing.MAGIC,
        framing.MAGIC + random.Random(8).randbytes(5000),
        framing.MAGIC + framing.PING * 100,
        PREFACE[:20],
        PREFACE,
        PREFACE + SETTINGS_FRAME,
        PREFACE + SETTINGS_FRAME + b"\xff" * 9000,
        PREFACE + b"\x00\xff\xff\x01" + bytes(5),
    ],
    ids=[
        "silence",
        "noise",
        "http",
        "tls",
        "endless http",
        "half a preamble",
        "preamble",
        "preamble and noise",
        "pings",
        "half a preface",
        "preface",
        "settings",
        "settings and noise",
        "cut headers",
    ],
)
async def test_a_stranger_is_disconnected_and_members_do_not_notice(data: bytes) -> None:
    """The connection is closed within the limits on greeting and idleness."""
    async with support.cluster(2, SHORT) as (first, second):
        reader, writer = await asyncio.open_connection("127.0.0.1", first.transport.ports[0])
        writer.write(data)
        async with asyncio.timeout(support.WAIT_S):
            try:
                while await reader.read(4096):
                    pass  # What the server says before it closes is HTTP's or gRPC's business.
            except ConnectionError as error:
                assert error.errno is not None
        writer.close()
        second.transport.send(1, (Heartbeat(3, 0, 0, 1),))
        await first.events.until(lambda events: events.frames)
        assert first.events.connected == {2}
        assert first.events.disconnects == 0


async def test_requests_that_are_reset_as_fast_as_they_are_made_hold_nobody_up() -> None:
    """HTTP/2 "rapid reset" (CVE-2023-44487), twenty thousand times, then a bare CONTINUATION (fault O7)."""
    path = b"/kvraft.peer.v1.Peer/Status"
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


async def test_who_asks_without_waiting_for_answers_gets_one_and_is_closed() -> None:
    """HTTP/1 requests by the thousand in one piece would hold the loop up, and their answers fill our memory."""
    async with support.cluster(1, SHORT) as (member,):
        reader, writer = await asyncio.open_connection("127.0.0.1", member.transport.ports[0])
        writer.write(b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        answers = b""
        async with asyncio.timeout(support.WAIT_S):
            with contextlib.suppress(ConnectionError):  # what was not read resets the connection
                while data := await reader.read(4096):
                    answers += data
        assert answers.count(b"HTTP/1.1 200 OK") <= 1
        writer.close()


async def test_a_port_scan_leaves_no_descriptors_behind() -> None:
    """Sixty connections that say nothing are closed with all that belongs to them (fault N9)."""
    async with support.cluster(1, SHORT) as (member,):
        before = _open_descriptors()
        streams = [await asyncio.open_connection("127.0.0.1", member.transport.ports[0]) for _ in range(60)]
        assert _open_descriptors() >= before + len(streams)
        async with asyncio.timeout(support.WAIT_S):
            for reader, writer in streams:
                while await reader.read(4096):
                    pass  # Nothing is said to them.
                writer.close()
                await writer.wait_closed()
        assert _open_descriptors() <= before + 10


FRAME = encode_frames([Heartbeat(3, 0, 0, 1)])
ENTRIES_GREETING = encode_answer(Greeting(support.hello(2), 1, Lane.ENTRIES, b"stranger", 1))
SNAPSHOT_GREETING = encode_answer(Greeting(support.hello(2), 1, Lane.SNAPSHOT, b"stranger", 0))
FETCH_GREETING = encode_answer(Greeting(support.hello(2), 1, Lane.FETCH, b"stranger", 0))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [b"\xff\xff\xff"],
        [FRAME],
        [raw.ACCEPTED],
        [GREETING, GREETING],
        [GREETING, FRAME],
        [GREETING, b"\xff\xff\xff"],
        [GREETING, raw.ACCEPTED, pb.SessionMessage(frames=[pb.Frame()]).SerializeToString()],
        [
            GREETING,
            raw.ACCEPTED,
            pb.SessionMessage(fragment=pb.Fragment(data=b"x", frame_bytes=9)).SerializeToString(),
            FRAME,
        ],
        [
            GREETING,
            raw.ACCEPTED,
            pb.SessionMessage(fragment=pb.Fragment(data=b"x", frame_bytes=1 << 40)).SerializeToString(),
        ],
        [GREETING, raw.ACCEPTED, raw.ACCEPTED],
        [GREETING, raw.ACCEPTED, encode_word(Word.RETIRE)],
        [GREETING, raw.ACCEPTED, encode_word(Word.FETCH)],
        [GREETING, raw.ACCEPTED],
        [ENTRIES_GREETING, raw.ACCEPTED, FRAME],
        [b"x" * (8 << 20)],
        [SNAPSHOT_GREETING],
        [SNAPSHOT_GREETING, FRAME],
        [SNAPSHOT_GREETING, raw.ACCEPTED, b"\xff\xff"],
        [SNAPSHOT_GREETING, raw.ACCEPTED, encode_chunk(0, b"x")],
        [FETCH_GREETING, raw.ACCEPTED],
    ],
)
async def test_a_connection_that_breaks_the_protocol_is_closed_and_nothing_of_it_delivered(
    messages: list[bytes],
) -> None:
    """Somebody who speaks our framing but not our protocol, also behind a good greeting."""
    async with support.cluster(1, SHORT) as (member,), raw.connected(member.transport.ports[0]) as stranger:
        stranger.say(*messages)
        await stranger.ended()
        assert member.events.frames == []
        assert member.events.refused == []
        assert member.events.connected == set()


async def test_who_has_not_been_accepted_makes_a_member_hold_no_long_message() -> None:
    """Hundreds of strangers that each begin a message of a megabyte would fill its memory."""
    patient = dataclasses.replace(SHORT, greeting_timeout_ms=60_000)
    async with support.cluster(1, patient) as (member,), raw.connected(member.transport.ports[0]) as stranger:
        stranger.writer.write(framing.seal(bytes(32 << 10))[: 20 << 10])
        await stranger.ended()
        async with raw.session(member.transport.ports[0]) as lanes:
            long = ForwardedCommand(1, bytes(1 << 20))
            lanes[Lane.ENTRIES].say(encode_frames([long]))
            await member.events.until(lambda events: events.frames == [long])


async def test_a_session_that_is_played_again_takes_no_frames_from_its_peer() -> None:
    """Whoever recorded what a member sent could otherwise have what is meant for that member."""
    async with support.cluster(1) as (member,), raw.session(member.transport.ports[0]) as lanes:
        await member.events.until(lambda events: events.connected == {2})
        async with raw.session(member.transport.ports[0]) as again:
            for lane in again.values():
                assert await lane.ended() == []
        member.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        assert await lanes[Lane.CONTROL].hear() == FRAME
        assert member.events.disconnects == 0


async def test_connections_for_snapshots_that_never_come_are_one_a_peer() -> None:
    """However many a peer opens and keeps alive, each takes the place of the one before."""
    greeting = Greeting(support.hello(2), 1, Lane.SNAPSHOT, b"stranger", 0)
    patient = dataclasses.replace(SHORT, silence_ms=60_000)
    async with support.cluster(1, patient) as (member,), contextlib.AsyncExitStack() as stack:
        lanes: list[raw.Raw] = []
        for _ in range(5):
            lanes.append(await stack.enter_async_context(raw.greeted(member.transport.ports[0], greeting)))
            lanes[-1].say(raw.ACCEPTED)
            for earlier in lanes[:-1]:
                assert await earlier.ended() == []
        assert not lanes[-1].reader.at_eof()


async def test_second_connection_for_the_same_lane_ends_its_session() -> None:
    """Two connections would each get half of what is said."""
    async with support.cluster(1, SHORT) as (member,):
        port = member.transport.ports[0]
        greeting = Greeting(support.hello(2), 1, Lane.CONTROL, b"stranger", 1)
        async with raw.greeted(port, greeting), raw.connected(port) as again:
            again.say(encode_answer(greeting))
            await again.ended()
        assert member.events.connected == set()


async def test_a_stranger_is_logged_once_and_not_for_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """A port scanner fills no log, and is named with its address."""
    caplog.set_level(logging.INFO, "kvraft")
    async with support.cluster(1) as (member,):
        for noise in (b"\xff\xff\xff", b"\x16\x03\x01\x00", framing.MAGIC + b"noise behind the preamble", b"\x00"):
            async with raw.connected(member.transport.ports[0], noise) as stranger:
                stranger.writer.write_eof()
                await stranger.ended()
    lines = [record for record in caplog.records if "what no member sends" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].kvraft_fields["address"].startswith("127.0.0.1:")  # type: ignore[attr-defined]  # set by kvraft.logs


async def test_a_crowd_of_strangers_keeps_no_member_out() -> None:
    """The oldest goes, and a member that greets is no stranger any more."""
    settings = dataclasses.replace(SHORT, strangers_max=20, greeting_timeout_ms=60_000)
    async with support.cluster(1, settings) as (member,):
        port = member.transport.ports[0]
        async with contextlib.AsyncExitStack() as crowd:
            strangers = [await crowd.enter_async_context(raw.connected(port, b"\x00")) for _ in range(30)]
            for gone in strangers[:10]:
                await gone.ended()
            async with raw.session(port):
                await member.events.until(lambda events: events.connected == {2})
                more = [await crowd.enter_async_context(raw.connected(port, b"\x00")) for _ in range(30)]
                for gone in more[:10]:
                    await gone.ended()
                assert member.events.connected == {2}
            assert not strangers[29].reader.at_eof() or more


async def test_peer_that_sends_byte_by_byte_holds_nobody_up() -> None:
    """A message that trickles in costs its session nothing and other members even less."""
    async with support.cluster(1) as (member,), raw.session(member.transport.ports[0]) as lanes:
        await member.events.until(lambda events: events.connected == {2})
        slow = lanes[Lane.CONTROL].writer
        for byte in framing.seal(FRAME):
            slow.write(bytes([byte]))
            await slow.drain()
            lanes[Lane.ENTRIES].say(FRAME)
        await member.events.until(lambda events: len(events.frames) == len(framing.seal(FRAME)) + 1)


async def test_a_bug_of_the_member_reaches_the_loop_and_not_the_peer() -> None:
    """An exception from a callback is never swallowed with its stream (fault P8)."""
    seen: asyncio.Queue[object] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.put_nowait(context.get("exception")))
    error = RuntimeError("a bug")

    def fail(_from: int, _frames: object) -> None:
        raise error

    async with support.cluster(2) as (first, second):
        second.events.react = fail
        first.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        async with asyncio.timeout(support.WAIT_S):
            assert await seen.get() is error
        assert seen.empty()
        assert first.events.frames == []
