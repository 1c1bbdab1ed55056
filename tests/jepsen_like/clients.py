"""Clients that write unique values and note what became of each request, one JSON line an operation.

An operation is `ok` (the answer says what happened), `failed` (the answer says that nothing happened) or `unknown` (no
answer, or 500: it may have happened, or still happen). Times are monotonic nanoseconds of this process.
"""

import asyncio
import dataclasses
import json
import random
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from tests.jepsen_like.secure import ANYBODY, Way

KEYS_PER_CLIENT: Final = 8
TTL_S: Final = 2
REQUEST_TIMEOUT_S: Final = 10.0
"""Above the 7 s after which a member itself gives up."""
RECONNECT_PAUSE_S: Final = 0.02


@final
@dataclasses.dataclass(slots=True)
class Tally:
    """What all clients together have seen so far."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    last_ack_ns: int = 0
    longest_gap_ns: int = 0

    def acknowledge(self, now_ns: int) -> None:
        """One more write is acknowledged."""
        if self.last_ack_ns:
            self.longest_gap_ns = max(self.longest_gap_ns, now_ns - self.last_ack_ns)
        self.last_ack_ns = now_ns
        self.acknowledged += 1


class ConnectionLostError(Exception):
    """The member went away before the whole answer came."""


@final
class Client:
    """One client with one connection, that goes to the next member when its own fails."""

    def __init__(
        self, number: int, urls: Sequence[str], seed: int, tally: Tally, history: Path, way: Way = ANYBODY
    ) -> None:
        self._number = number
        self._addresses = [(part.hostname or "", part.port or 0) for part in map(urllib.parse.urlsplit, urls)]
        self._member = number % len(urls)
        self._random = random.Random(f"{seed}/{number}")
        self._tally = tally
        self._history = history
        self._way = way
        self._sequence = 0
        self._counter_value: str | None = None
        self._counter_known = False
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop."""
        operations = (self._set, self._compare_and_swap, self._post, self._set_with_ttl)
        with self._history.open("a") as lines:
            while not stop.is_set():
                self._sequence += 1
                (operation,) = self._random.choices(operations, (5, 2, 2, 1))
                record = await operation(f"c{self._number}-{self._sequence}")
                lines.write(json.dumps(record) + "\n")
        self._disconnect()

    async def _set(self, value: str) -> dict[str, Any]:
        key = f"/kill/set/{self._number}-{self._random.randrange(KEYS_PER_CLIENT)}"
        return await self._write("set", "PUT", key, {"value": value})

    async def _post(self, value: str) -> dict[str, Any]:
        return await self._write("create", "POST", "/kill/queue", {"value": value})

    async def _set_with_ttl(self, value: str) -> dict[str, Any]:
        return await self._write("set", "PUT", f"/kill/ttl/{value}", {"value": value, "ttl": str(TTL_S)})

    async def _compare_and_swap(self, value: str) -> dict[str, Any]:
        """Step this client's own counter; after an unknown outcome it is read with a quorum first."""
        key = f"/kill/cas/{self._number}"
        if not self._counter_known:
            await self._learn_counter(key)
        if self._counter_value is None:
            record = await self._write("create", "PUT", key + "?prevExist=false", {"value": value})
        else:
            target = f"{key}?prevValue={self._counter_value}"
            record = await self._write("compareAndSwap", "PUT", target, {"value": value})
            record["compared"] = self._counter_value
        record["key"] = key
        if record["outcome"] == "ok":
            self._counter_value = value
        elif record["outcome"] == "unknown":
            self._counter_known = False
        return record

    async def _learn_counter(self, key: str) -> None:
        while True:
            try:
                status, answer = await self._exchange("GET", f"{key}?quorum=true", b"")
            except (OSError, ConnectionLostError, TimeoutError):
                await self._go_to_next_member()
                continue
            if status in {200, 404}:
                self._counter_value = answer["node"]["value"] if status == 200 else None
                self._counter_known = True
                return

    async def _write(self, action: str, method: str, target: str, form: dict[str, str]) -> dict[str, Any]:
        started = time.monotonic_ns()
        record: dict[str, Any] = {
            "client": self._number,
            "action": action,
            "key": target,
            "value": form["value"],
            "start": started,
        }
        try:
            status, answer = await self._exchange(method, target, urllib.parse.urlencode(form).encode())
        except (OSError, ConnectionLostError, TimeoutError) as error:
            record |= {"outcome": "unknown", "why": repr(error), "end": time.monotonic_ns()}
            self._tally.unknown += 1
            await self._go_to_next_member()
            return record
        record |= {"end": time.monotonic_ns(), "status": status, "error_code": answer.get("errorCode")}
        if status in {200, 201}:
            node = answer["node"]
            record |= {"outcome": "ok", "index": node["modifiedIndex"], "node_key": node["key"]}
            self._tally.acknowledge(record["end"])
        elif status >= 500:
            record |= {"outcome": "unknown", "why": answer.get("cause", "")}
            self._tally.unknown += 1
        else:
            record |= {"outcome": "failed", "why": answer.get("errorCode")}
            self._tally.failed += 1
        return record

    async def _exchange(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._addresses[self._member], ssl=self._way.tls)
            reader, writer = self._streams
            head = (
                f"{method} /v2/keys{target} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\n{self._way.lines}\r\n"
            )
            writer.write(head.encode() + body)
            try:
                answer_head = await reader.readuntil(b"\r\n\r\n")
                _, _, after = answer_head.lower().partition(b"content-length:")
                answer = await reader.readexactly(int(after.split(b"\r\n", 1)[0]))
            except (asyncio.IncompleteReadError, ValueError) as error:
                raise ConnectionLostError(repr(error)) from error
        status = int(answer_head[9:12])
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, {"cause": f"no JSON: {answer[:100]!r}"}

    async def _go_to_next_member(self) -> None:
        self._disconnect()
        self._member = (self._member + 1) % len(self._addresses)
        await asyncio.sleep(RECONNECT_PAUSE_S)  # a refused connection answers at once: do not spin on it

    def _disconnect(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
