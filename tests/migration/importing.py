"""`kvraft import` as a process, and clients that go on writing while it runs."""

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote

from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, Member, Program

WITHIN_S: Final = 100.0
"""For anything that is waited for, on a machine that does much else."""


def etcd(directory: Path, size: int = 1) -> Cluster:
    """A real one with its v2 API."""
    return Cluster(directory, size=size, program=Program("etcd", {"log-level": "error"}))


@final
class Importing:
    """One run."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process: Final = process
        self.told: Final[list[str]] = []
        """The lines on stderr so far."""
        self._came = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def begin(cls, *arguments: str) -> "Importing":
        """Start it."""
        command = (sys.executable, "-m", "kvraft", "import", *arguments)
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.told.append(line.decode().rstrip())
            self._came.set()

    async def until(self, beginning: str) -> None:
        """Wait for a line."""
        async with asyncio.timeout(WITHIN_S):
            while not any(line.startswith(beginning) for line in self.told):
                assert self.process.returncode is None, self.told
                self._came.clear()
                await self._came.wait()

    async def switch(self) -> tuple[int, str]:
        """Ctrl-C, and wait for the end: exit code and stdout."""
        self.process.send_signal(signal.SIGINT)
        return await self.end()

    async def kill(self) -> None:
        """SIGKILL, if it has not ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.end()

    async def end(self) -> tuple[int, str]:
        """Its exit code and stdout."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            out = await self.process.stdout.read()
            await self._reader
            return await self.process.wait(), out.decode()


@final
class Writers:
    """Clients that write to keys of their own, and know what those hold by what was acknowledged."""

    def __init__(self, url: str, count: int, seed: int) -> None:
        self.expected: Final[dict[str, str]] = {}
        """What every key must hold in the end."""
        self.acknowledged = 0
        self._unsure: Final[set[str]] = set()
        self._stopping = False
        rngs = [random.Random(f"{seed} {number}") for number in range(count)]
        self._tasks = [asyncio.create_task(self._write(url, number, rng)) for number, rng in enumerate(rngs)]

    async def stop(self) -> None:
        """Let each finish what it has begun."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, url: str, number: int, rng: random.Random) -> None:
        while not self._stopping:
            with contextlib.suppress(OSError, EOFError):
                async with await raw_http.Connection.open(url) as connection:
                    await self._write_on(connection, number, rng)

    async def _write_on(self, connection: raw_http.Connection, number: int, rng: random.Random) -> None:
        while not self._stopping:
            key = f"/w{number}/{rng.randrange(5)}/{rng.randrange(5)}"
            directory = key.rpartition("/")[0]
            value = str(rng.random())
            self._unsure.add(key)
            match rng.randrange(8):
                case 0:
                    answer = await connection.request("DELETE", f"/v2/keys{directory}?recursive=true")
                    gone = [each for each in self.expected if each.startswith(f"{directory}/")]
                    assert answer.status == (200 if gone or answer.status == 200 else 404), answer
                    for each in gone:
                        del self.expected[each]
                case 1 | 2:
                    answer = await connection.request("PUT", f"/v2/keys{key}", form={"value": value, "ttl": "3000"})
                    assert answer.status in {200, 201}, answer
                    self.expected[key] = value
                case _:
                    answer = await connection.request("PUT", f"/v2/keys{key}", form={"value": value})
                    assert answer.status in {200, 201}, answer
                    self.expected[key] = value
            self._unsure.discard(key)
            self.acknowledged += 1


def tree(member: Member, *hidden: str) -> dict[str, tuple[object, ...]]:
    """Each key with its value and whether it expires, by another way than the import's own."""
    found: dict[str, tuple[object, ...]] = {}
    for top in ("/", *hidden):
        answer = member.http("GET", f"/v2/keys{top}?recursive=true&quorum=true", timeout_s=WITHIN_S)
        stack: list[dict[str, Any]] = [answer.json().get("node", {})]
        while stack:
            node = stack.pop()
            stack += node.get("nodes", [])
            if "key" in node:
                found[node["key"]] = (node.get("value"), "expiration" in node)
    return found


def files(found: dict[str, tuple[object, ...]], below: str) -> dict[str, object]:
    """The values of the files below a key."""
    return {key: value for key, (value, _) in found.items() if key.startswith(below) and value is not None}


async def fill(url: str, count: int, lanes: int = 32) -> None:
    """So many keys in directories of 100, every tenth of which expires in an hour."""

    async def lane(first: int) -> None:
        async with await raw_http.Connection.open(url) as connection:
            for number in range(first, count, lanes):
                form = {"value": f"value of {number} " + "x" * 80} | ({"ttl": "3600"} if number % 10 == 0 else {})
                answer = await connection.request("PUT", f"/v2/keys/data/{number // 100}/{number}", form=form)
                assert answer.status == 201, answer

    await asyncio.gather(*(lane(first) for first in range(lanes)))


def put(member: Member, key: str, value: str = "v", headers: Sequence[tuple[str, str]] = ()) -> None:
    """One key."""
    answer = member.http("PUT", f"/v2/keys{quote(key)}", form={"value": value}, headers=headers)
    assert answer.status in {200, 201}, answer


@contextlib.asynccontextmanager
async def writing(url: str, count: int, seed: int) -> AsyncIterator[Writers]:
    """Writers that are stopped in any case."""
    writers = Writers(url, count, seed)
    try:
        yield writers
    finally:
        await writers.stop()
