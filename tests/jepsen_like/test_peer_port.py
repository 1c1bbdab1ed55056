"""Crowds on the peer ports of real members: sessions that break, strangers that are slow, endless or talk nonsense."""

import asyncio
import contextlib
import functools
import itertools
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster, Member
from kvraft.testing.member import pause_or_exit
from tests.jepsen_like import db

pytestmark = [pytest.mark.torture, pytest.mark.timeout(400)]

SESSIONS: Final = 10_000
AT_ONCE: Final = 50
RESETS: Final = 60
BUSY_S: Final = 3.0
MEMORY_MORE_KB: Final = 16 << 10
"""What a heap keeps of a crowd; 10,000 sessions that leak leave 2 KiB each at the very least, and rather 20."""
DESCRIPTORS_MORE: Final = 6
THREADS_MORE: Final = 4
"""Pools of threads grow to their limits with whoever asks."""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETED_WITHIN_S: Final = 30.0


def _descriptors(member: Member) -> int:
    return len(list(Path(f"/proc/{member.pid}/fd").iterdir()))


def _threads(member: Member) -> int:
    return len(list(Path(f"/proc/{member.pid}/task").iterdir()))


def _memory_kb(member: Member) -> int:
    status = Path(f"/proc/{member.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def _write(member: Member) -> float:
    """How long it took."""
    began = time.monotonic()
    answer = member.http("PUT", "/v2/keys/a", form={"value": "v"})
    assert answer.status in {200, 201}, answer.body
    return time.monotonic() - began


def _elections(cluster: Cluster) -> int:
    return sum(member.log_text().count("became leader") for member in cluster.members)


def _first_words(port: int) -> bytes:
    """What a member says first when it dials this port, whatever its protocol is."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(GREETED_WITHIN_S)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(GREETED_WITHIN_S)
                if words := connection.recv(65536):
                    return words


async def _stranger(port: int, words: bytes, *, resets: bool, waits: bool) -> None:
    """Connect, say something, perhaps wait for the first word of an answer, and go."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return  # a listener whose queue is full
    sock = writer.get_extra_info("socket")
    if resets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(words)
    if waits:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(4096)
    writer.close()


async def _crowd(member: Member, greeting: bytes, chance: random.Random) -> None:
    """Ten thousand strangers, fifty at a time: silent, noisy, with a real greeting whole or cut, HTTP/1 and HTTP/2."""
    kinds: tuple[bytes, ...] = (
        b"",
        chance.randbytes(300),
        greeting,
        greeting[: len(greeting) // 2],
        greeting + chance.randbytes(300),
    )
    kinds += (b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE, PREFACE + bytes.fromhex("000000040000000000"))
    left = iter(range(SESSIONS))

    async def one_after_another() -> None:
        for _ in left:
            words = chance.choice(kinds)
            await _stranger(
                member.peer_port, words, resets=chance.random() < 0.5, waits=bool(words) and chance.random() < 0.2
            )

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


def test_ten_thousand_sessions_leave_nothing(tmp_path: Path, torture_seed: int) -> None:
    """Opened and broken by strangers, some with the first words of a real member; the member works on meanwhile."""
    chance = random.Random(torture_seed)
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        absent = cluster.followers()[0]
        absent.kill()
        greeting = _first_words(absent.peer_port)
        absent.restart()
        asyncio.run(_crowd(leader, greeting, chance))  # what the first crowd leaves are caches
        leader.wait_for("its own members", lambda: _descriptors(leader) < 100, 60)
        elections, began = _elections(cluster), _memory_kb(leader)
        descriptors, threads = _descriptors(leader), _threads(leader)
        asyncio.run(_crowd(leader, greeting, chance))
        assert _write(leader) < BUSY_S
        given_back = functools.partial(_holds_at_most, leader, descriptors + DESCRIPTORS_MORE)
        leader.wait_for("descriptors given back", given_back, 60)
        print(f"memory {began} to {_memory_kb(leader)} KB")
        assert _memory_kb(leader) < began + MEMORY_MORE_KB
        assert _threads(leader) <= threads + THREADS_MORE
        assert _elections(cluster) == elections
        assert cluster.leader() is leader


def _holds_at_most(member: Member, count: int) -> bool:
    return _descriptors(member) <= count


def test_sessions_of_members_that_are_reset_leave_nothing(tmp_path: Path) -> None:
    """All links of three members are reset again and again: descriptors, threads and memory are as before."""
    with db.started(tmp_path, "kvraft") as database:
        network, members = database.network, database.members
        names = [member.name for member in members]
        rules = [network.reset(one, other) for one in names for other in names if one != other]

        def storms(count: int) -> None:
            for _ in range(count):
                with network.rules(rules):
                    _wait(members[0], 0.05)
                for member in members:
                    member.wait_ready(30)

        storms(RESETS // 4)
        before = {member: (_descriptors(member), _threads(member), _memory_kb(member)) for member in members}
        storms(RESETS)
        for member, (descriptors, threads, memory_kb) in before.items():
            given_back = functools.partial(_holds_at_most, member, descriptors + DESCRIPTORS_MORE)
            member.wait_for("descriptors given back", given_back, 60)
            assert _threads(member) <= threads + THREADS_MORE
            assert _memory_kb(member) < memory_kb + MEMORY_MORE_KB


def _wait(member: Member, seconds: float) -> None:
    """Let so much time pass, in which the member must not end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert member.is_running
        pause_or_exit(member.pid)


async def _slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes) -> None:
    """A byte now and then."""
    for byte in words:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)
    await reader.read()


async def _endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: bytes) -> None:
    """As much as goes through, without reading."""
    writer.write(words)
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def _deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _words: bytes) -> None:
    """Asks again and again, and reads nothing."""
    while True:
        writer.write(b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        await writer.drain()


Manner = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


MANNERS: Final = [*itertools.product((_slow, _endless), ("garbage", "greeting", "zeros")), (_deaf, "zeros")]


@contextlib.asynccontextmanager
async def _strangers(port: int, manner: Manner, words: bytes, count: int) -> AsyncIterator[None]:
    """So many strangers of a kind at a time; who is disconnected comes again."""

    async def come_again() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await manner(reader, writer, words)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(come_again()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("manner", "start"),
    [(manner, start) for manner in (_slow, _endless) for start in ("garbage", "greeting", "zeros")]
    + [(_deaf, "zeros")],
)
def test_slow_endless_and_deaf_strangers_hold_nobody_up(tmp_path: Path, manner: Manner, start: str) -> None:
    """Twenty of them at the leader's peer port for ten seconds: writes go on, nobody is elected, memory is bounded."""
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        absent = cluster.followers()[0]
        absent.kill()
        greeting = _first_words(absent.peer_port)
        absent.restart()
        words = {"garbage": random.Random(1).randbytes(64), "greeting": greeting, "zeros": bytes(64)}[start]
        elections, memory_kb = _elections(cluster), _memory_kb(leader)

        async def write_beside() -> None:
            async with _strangers(leader.peer_port, manner, words, 20):
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    assert await asyncio.to_thread(_write, leader) < BUSY_S
                    await asyncio.sleep(0.1)

        asyncio.run(write_beside())
        assert _elections(cluster) == elections
        assert _memory_kb(leader) < memory_kb + 4 * MEMORY_MORE_KB
        assert "Traceback" not in leader.log_text()
        leader.wait_for("its own members", lambda: _descriptors(leader) < 60, 60)
