"""A running cluster is written to through its v2 API: changes in their order, again and again until they are done.

Every change says how a node shall be, so that doing it twice does no harm. What is refused for good is remembered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, final

from kvraft import clock
from kvraft.client import BrokenOff, Client, EtcdError, UnknownOutcome, Unreachable
from kvraft.client.errors import KEY_NOT_FOUND
from kvraft.migration.changes import Batch, Put
from kvraft.migration.contents import NS_PER_S, MigrationError, shown
from kvraft.migration.reading import target_of

LANES: Final = 32
"""Directories that are written to at the same time."""
WRITE_WITHIN_S: Final = 30.0
"""For one answer: longer than etcd's own 7 s."""
_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 1.0
_NODE_EXISTS: Final = 105
_NOT_FILE: Final = 102
_NOT_DIRECTORY: Final = 104
_INVALID_FIELD: Final = 209
T = TypeVar("T")

_ATTEMPTS: Final = 3
"""What is in the way of a node can be removed; more than twice, somebody else writes there."""


@final
class Patience:
    """Goes on asking a cluster that does not answer, for so long."""

    def __init__(self, patience_s: float, waits: Callable[[str], None]) -> None:
        self._patience_ms = patience_s * 1000
        self._waits = waits
        """Told why nothing goes on, once for each pause."""

    async def until_done(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` comes to at last.

        Raises:
            ClientError: for longer than the patience, or for good.
        """
        began_ms, pause_s = clock.monotonic_ms(), _FIRST_PAUSE_S
        while True:
            try:
                return await ask()
            except (Unreachable, UnknownOutcome, BrokenOff, EtcdError) as error:
                if isinstance(error, EtcdError) and error.status < 500:
                    raise
                if clock.monotonic_ms() - began_ms > self._patience_ms:
                    raise
                self._waits(str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)


@final
class Writer:
    """Writes to one cluster."""

    def __init__(self, client: Client, patience: Patience, done: Callable[[int], None]) -> None:
        self._client = client
        self._patience = patience
        self._done = done
        """Told of every few changes, how many they were."""
        self.refused: dict[bytes, str] = {}
        """What it will not take, and why."""

    async def apply(self, batch: Batch) -> None:
        """Do all of it.

        Raises:
            MigrationError: it refuses for a reason that concerns more than one key.
            ClientError: it does not answer.
        """
        if batch.removed:
            await self._side_by_side([[path] for path in batch.removed], self._remove)
        for lanes in batch.lanes():
            await self._side_by_side(lanes, self._put)

    async def _side_by_side(self, lanes: list[list[T]], do: Callable[[T], Awaitable[None]]) -> None:
        waiting = iter(lanes)

        async def work() -> None:
            for lane in waiting:
                for change in lane:
                    await do(change)
                    self._done(1)

        workers = [asyncio.create_task(work()) for _ in range(min(LANES, len(lanes)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _remove(self, path: bytes) -> None:
        await self._asked("DELETE", path, {"recursive": "true", "dir": "true"}, {KEY_NOT_FOUND, _NOT_DIRECTORY})

    async def _put(self, put: Put) -> None:
        form: dict[str, str | bytes | int | bool] = {"dir": True} if put.value is None else {"value": put.value}
        if put.expiration_ns:
            left_ns = put.expiration_ns - clock.wall_ns()
            if left_ns <= 0:
                return
            form["ttl"] = -(-left_ns // NS_PER_S)
        if put.only_if_absent:
            form["prevExist"] = False
            if await self._asked("PUT", put.path, form, {_NODE_EXISTS, _NOT_DIRECTORY}) == _NOT_DIRECTORY:
                await self._remove_files_above(put.path)
                await self._asked("PUT", put.path, form, {_NODE_EXISTS})
            return
        in_place = form | {"prevExist": True}
        if put.in_place and not await self._asked("PUT", put.path, in_place, {KEY_NOT_FOUND, _NOT_FILE}):
            return
        for _ in range(_ATTEMPTS):
            code = await self._asked("PUT", put.path, form, {_NOT_FILE, _NOT_DIRECTORY})
            if code == _NOT_FILE and put.value is None:
                # The directory is there; its TTL may be another.
                await self._asked("PUT", put.path, in_place, {KEY_NOT_FOUND, _NOT_FILE})
                return
            if code == _NOT_FILE:
                await self._remove(put.path)
            elif code == _NOT_DIRECTORY:
                await self._remove_files_above(put.path)
            else:
                return
        raise MigrationError(f"{shown(put.path)}: something else is written there again and again; stop its clients")

    async def _remove_files_above(self, path: bytes) -> None:
        """Files that stand where directories are to be."""
        names = path.split(b"/")
        for depth in range(2, len(names)):
            await self._asked("DELETE", b"/".join(names[:depth]), {}, {KEY_NOT_FOUND, _NOT_FILE, _NOT_DIRECTORY})

    async def _asked(
        self, method: str, path: bytes, fields: dict[str, str | bytes | int | bool], expected: set[int]
    ) -> int:
        """Etcd's code, 0 for done; anything that is not expected is remembered or raised."""
        target = target_of(path)

        async def ask() -> None:
            if method == "PUT":
                answer = await self._client.request(method, target, form=fields, timeout_s=WRITE_WITHIN_S)
            else:
                query = {name: str(value) for name, value in fields.items()}
                answer = await self._client.request(method, target, query=query, timeout_s=WRITE_WITHIN_S)
            answer.checked()

        try:
            await self._patience.until_done(ask)
        except EtcdError as error:
            if error.code in expected:
                return error.code
            if error.code == _INVALID_FIELD or error.status in {413, 414, 431}:
                self.refused[path] = str(error)
                return 0
            raise MigrationError(f"{shown(path)}: the target refuses it: {error}") from error
        return 0
