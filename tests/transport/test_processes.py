"""Members in processes of their own: they talk, they die, they fall silent, they come back."""

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvraft.raft.messages import Heartbeat, HeartbeatReply
from kvraft.testing import leash, ports
from tests.transport import support

pytestmark = pytest.mark.slow


@asynccontextmanager
async def member_process(member_id: int, port_of: dict[int, int]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A member in another process, killed at the end if it still runs."""
    arguments = json.dumps({"member": member_id, "ports": port_of})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.transport.member_process",
        arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    leash.hold(process.pid)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        leash.let_go(process.pid)


async def line(process: asyncio.subprocess.Process, wanted: str) -> None:
    """Return once the process has written this line."""
    assert process.stdout is not None
    async with asyncio.timeout(support.WAIT_S):
        while (written := (await process.stdout.readline()).decode().strip()) != wanted:
            assert written, f"the process ended without writing {wanted!r}"


async def test_appends_reach_two_other_processes_in_order_and_are_answered() -> None:
    """Three processes, every one connected to every other; 2,000 entries to each."""
    reservation = ports.reserve(3)
    port_of = dict(enumerate(reservation.ports, start=1))
    leader = support.make_peer(1, port_of)
    async with support.running(leader), member_process(2, port_of) as second, member_process(3, port_of) as third:
        await leader.events.until(lambda events: events.connected == {2, 3})
        await line(second, "connected 3")
        await line(third, "connected 2")
        log = support.entries(2000, 300)
        for start in range(0, 2000, 20):
            for peer in (2, 3):
                leader.transport.send(peer, (support.append(log[start : start + 20]),))
            await asyncio.sleep(0)
        for read_id in range(1, 1000):
            for peer in (2, 3):
                leader.transport.send(peer, (Heartbeat(3, 0, 0, read_id),))
            await leader.events.until(lambda events, due=2 * read_id: len(events.frames) >= due)  # type: ignore[misc]  # mypy cannot infer a default's type in a lambda
            if leader.events.frames[-2:] == [HeartbeatReply(3, read_id, 2000)] * 2:
                break
        else:
            pytest.fail("the appends did not all arrive in order")
    reservation.release()


async def test_a_killed_peer_is_noticed_at_once_and_found_again_when_it_is_back() -> None:
    """The kernel closes a dead process's connections: the signs of life (20 s here) is not needed for that."""
    settings = dataclasses.replace(support.QUICK, silence_ms=20_000)
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    survivor = support.make_peer(1, port_of, settings)
    loop = asyncio.get_running_loop()
    async with support.running(survivor):
        for _ in range(2):
            async with member_process(2, port_of) as victim:
                await survivor.events.until(lambda events: events.connected == {2})
                killed = loop.time()
                victim.kill()
                await survivor.events.until(lambda events: not events.connected)
                noticed_ms = (loop.time() - killed) * 1000
                assert noticed_ms < 10_000, f"noticed after {noticed_ms:.0f} ms"
                assert not survivor.transport.is_connected(2)
    reservation.release()


async def test_a_silent_peer_is_noticed_by_the_keepalive_and_found_again_when_it_speaks() -> None:
    """A stopped process keeps its connections open and answers nothing (fault N8)."""
    settings = dataclasses.replace(support.QUICK, silence_ms=600)
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    watcher = support.make_peer(1, port_of, settings)
    loop = asyncio.get_running_loop()
    async with support.running(watcher), member_process(2, port_of) as frozen:
        await watcher.events.until(lambda events: events.connected == {2})
        stopped = loop.time()
        frozen.send_signal(signal.SIGSTOP)
        try:
            await watcher.events.until(lambda events: not events.connected)
            noticed_ms = (loop.time() - stopped) * 1000
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert noticed_ms < 10_000, f"noticed after {noticed_ms:.0f} ms"
        await watcher.events.until(lambda events: events.connected == {2})
    reservation.release()
