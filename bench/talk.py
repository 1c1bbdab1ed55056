"""`python bench/talk.py bare|kvraft COUNT`: so many round trips between two processes, one at a time.

Prints the time of one, and the CPU that it takes at each side, in microseconds. `kvraft`: a heartbeat and its reply
over the transports of the checkout in which it runs (`tests/transport/member_process.py` is the other side). `bare`:
as many bytes over TCP on uvloop, with nothing done to them.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import uvloop

from kvraft import clock
from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from tests.transport import support

TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")
FRAME: Final = bytes(40)
"""About as long as a heartbeat with its frame."""
ECHO: Final = """
import asyncio, sys, uvloop
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
async def main():
    async with await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
uvloop.run(main())
"""

Exchange = Callable[[], Awaitable[object]]


def cpu_us(pid: int) -> float:
    """User and system time of a process since its start (proc(5), stat 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


@contextlib.asynccontextmanager
async def other_side(*arguments: str) -> AsyncIterator[Process]:
    """A process that answers, until its standard input closes."""
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[tuple[Exchange, int]]:
    """What the machine and the event loop cost alone."""
    (port,) = (reservation := ports.reserve(1)).ports
    async with other_side("-c", ECHO, str(port)) as process:
        async with asyncio.timeout(support.WAIT_S):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                else:
                    break

        async def exchange() -> None:
            writer.write(FRAME)
            await reader.readexactly(len(FRAME))

        yield exchange, process.pid
        writer.close()
    reservation.release()


@contextlib.asynccontextmanager
async def kvraft() -> AsyncIterator[tuple[Exchange, int]]:
    """Two members that consist of a transport each."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, 1))
    arguments = json.dumps({"member": 2, "ports": port_of})
    peer = support.make_peer(1, port_of)
    events, transport = peer.events, peer.transport
    async with other_side("-m", "tests.transport.member_process", arguments) as process, support.running(peer):
        await events.until(lambda events: events.connected == {2})

        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None]

        async def exchange() -> None:
            nonlocal waiting
            waiting = loop.create_future()
            transport.send(2, (Heartbeat(3, 0, 0, 1),))
            await waiting

        events.react = lambda _member, _batch: waiting.set_result(None)

        # A connection that one side dials may be there before the other.
        async with asyncio.timeout(support.WAIT_S):
            while await process.stdout.readline() != b"connected 1\n":  # type: ignore[union-attr]  # it is a pipe
                pass
        yield exchange, process.pid
    reservation.release()


async def main(what: str, count: int) -> None:
    """Warm up, and count."""
    async with {"bare": bare, "kvraft": kvraft}[what]() as (exchange, other):
        for _ in range(count // 10):
            await exchange()
        before_us = [cpu_us(pid) for pid in (os.getpid(), other)]
        began_ns = clock.monotonic_ns()
        for _ in range(count):
            await exchange()
        took_us = (clock.monotonic_ns() - began_ns) / 1000
        sides = [cpu_us(pid) - used for pid, used in zip((os.getpid(), other), before_us, strict=True)]
        print(took_us / count, sides[0] / count, sides[1] / count)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
