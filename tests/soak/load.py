"""The clients of a soak: each does the same again and again, at a pace, and goes on after a restart.

Everything is paced so that three members and their clients leave a part of two cores free: a soak looks for what grows,
not for how much can be done.
"""

import asyncio
import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, final

from kvraft.testing.raw_http import Answer, Connection

WRITERS: Final = 6
WRITES_EVERY_S: Final = 0.1
SMALL_KEYS: Final = 2_000
TTL_EVERY_S: Final = 0.15
LARGE_EVERY_S: Final = 1.0
LARGE_KEYS: Final = 20
LARGE_BYTES: Final = (50_000, 500_000)
SHORT_EVERY_S: Final = 0.1
FAST_WATCHERS: Final = 6
SLOW_WATCHERS: Final = 4
SLOW_READ_EVERY_S: Final = 1.0
RESUMING_WATCHERS: Final = 4
RESUME_AFTER_EVENTS: Final = 50
AFTER_TROUBLE_S: Final = 0.5
REQUEST_S: Final = 20.0

Client = Callable[[], Awaitable[None]]


class WatchError(Exception):
    """A watcher was told something else than what happened."""


@final
class Load:
    """All clients over the members' URLs."""

    def __init__(self, urls: Sequence[str], seed: int) -> None:
        self._urls: Final = urls
        self._seed: Final = seed
        self.done: Final[Counter[str]] = Counter()
        """What was done, by kind."""
        self.errors: Final[list[str]] = []
        """What must never happen."""

    def clients(self) -> list[Client]:
        """One coroutine function a client; each goes on until it is cancelled."""
        every: list[Client] = []

        def add(count: int, client: Callable[[str, random.Random], Awaitable[None]]) -> None:
            for number in range(count):
                chance = random.Random(f"{self._seed}/{client.__name__}/{number}")
                every.append(functools.partial(self._again, client, chance))

        add(WRITERS, self._write)
        add(1, self._expire)
        add(1, self._write_large)
        add(1, self._come_and_go)
        add(FAST_WATCHERS, self._watch)
        add(SLOW_WATCHERS, self._watch_slowly)
        add(RESUMING_WATCHERS, self._watch_and_resume)
        return every

    async def _again(self, client: Callable[[str, random.Random], Awaitable[None]], chance: random.Random) -> None:
        while True:
            try:
                await client(chance.choice(self._urls), chance)
            except WatchError as error:
                self.errors.append(str(error))
                return
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                self.done[f"ended by {type(error).__name__}"] += 1  # a member is away; the next one may be there
            await asyncio.sleep(AFTER_TROUBLE_S)

    def _count(self, what: str, answer: Answer) -> None:
        self.done[what if answer.status in {200, 201, 404} else f"{what} answered {answer.status}"] += 1

    async def _write(self, url: str, chance: random.Random) -> None:
        async with await Connection.open(url) as connection:
            while True:
                key = f"/v2/keys/small/{chance.randrange(SMALL_KEYS)}"
                draw = chance.random()
                if draw < 0.7:
                    form = {"value": "v" * chance.randrange(10, 400)}
                    answer = await connection.request("PUT", key, form=form, timeout_s=REQUEST_S)
                elif draw < 0.85:
                    answer = await connection.request("DELETE", key, timeout_s=REQUEST_S)
                else:
                    answer = await connection.request("GET", f"{key}?quorum=true", timeout_s=REQUEST_S)
                self._count("small requests", answer)
                await asyncio.sleep(WRITES_EVERY_S * 2 * chance.random())

    async def _expire(self, url: str, chance: random.Random) -> None:
        async with await Connection.open(url) as connection:
            while True:
                form = {"value": "v", "ttl": str(chance.randint(1, 20))}
                key = f"/v2/keys/ttl/{chance.randrange(SMALL_KEYS)}"
                self._count("keys with a TTL", await connection.request("PUT", key, form=form, timeout_s=REQUEST_S))
                await asyncio.sleep(TTL_EVERY_S)

    async def _write_large(self, url: str, chance: random.Random) -> None:
        async with await Connection.open(url) as connection:
            while True:
                key = f"/v2/keys/large/{chance.randrange(LARGE_KEYS)}"
                if chance.random() < 0.7:
                    form = {"value": "x" * chance.randint(*LARGE_BYTES)}
                    answer = await connection.request("PUT", key, form=form, timeout_s=REQUEST_S)
                else:
                    answer = await connection.request("DELETE", key, timeout_s=REQUEST_S)
                self._count("large values", answer)
                await asyncio.sleep(LARGE_EVERY_S)

    async def _come_and_go(self, _url: str, chance: random.Random) -> None:
        """One request a connection; a few leave without waiting for the answer, or without asking."""
        while True:
            async with await Connection.open(chance.choice(self._urls)) as connection:
                draw = chance.random()
                if draw < 0.8:
                    key = f"/v2/keys/small/{chance.randrange(SMALL_KEYS)}"
                    self._count("short connections", await connection.request("GET", key, timeout_s=REQUEST_S))
                elif draw < 0.9:
                    await connection.send("GET", "/v2/keys/small?recursive=true")
                    self.done["connections left early"] += 1
            await asyncio.sleep(SHORT_EVERY_S)

    async def _watch(self, url: str, chance: random.Random) -> None:
        """Reads everything at once."""
        prefix = chance.choice(("", "small", "ttl", "large"))
        async with await Connection.open(url) as connection:
            await connection.stream(f"/v2/keys/{prefix}?wait=true&recursive=true&stream=true")
            while chunk := await connection.read_chunk():
                self.done["events"] += chunk.count(b'"action"')

    async def _watch_slowly(self, url: str, chance: random.Random) -> None:
        """Reads a little now and then, until it is cut off or has enough."""
        async with await Connection.open(url, limit_bytes=4096) as connection:
            await connection.stream("/v2/keys/?wait=true&recursive=true&stream=true")
            for _ in range(chance.randint(10, 120)):
                if not await connection.reader.read(2048):
                    break
                self.done["slow reads"] += 1
                await asyncio.sleep(SLOW_READ_EVERY_S)

    async def _watch_and_resume(self, url: str, chance: random.Random) -> None:
        """Goes on from what it has seen, at any member; no index may be told twice."""
        first = await self._last_index(url)
        while True:
            async with await Connection.open(chance.choice(self._urls)) as connection:
                for _ in range(RESUME_AFTER_EVENTS):
                    target = f"/v2/keys/small?wait=true&recursive=true&waitIndex={first}"
                    answer = await connection.request("GET", target, timeout_s=REQUEST_S)
                    told = answer.json()
                    if answer.status == 400 and told.get("errorCode") == 401:
                        self.done["histories outrun"] += 1
                        return
                    if answer.status != 200:
                        self.done[f"watches answered {answer.status}"] += 1
                        break
                    index = int(told["node"]["modifiedIndex"])
                    if index < first:
                        raise WatchError(f"a watch from index {first} was told {index}")
                    first = index + 1
                    self.done["resumed events"] += 1
            await asyncio.sleep(chance.random())

    async def _last_index(self, url: str) -> int:
        async with await Connection.open(url) as connection:
            answer = await connection.request("GET", "/v2/keys/small", timeout_s=REQUEST_S)
            return int(answer.header("X-Etcd-Index") or 0) + 1
