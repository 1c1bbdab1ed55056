"""A stream watch on each member that notes down every event with the time at which it came."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final, final

from kvraft.testing import raw_http
from kvraft.testing.cluster import Member
from tests.jepsen_like.secure import ANYBODY, Way

RECONNECT_PAUSE_S: Final = 0.05


@final
class EventLog:
    """Watches a directory of one member, and goes on where it was when its connection breaks."""

    def __init__(self, member: Member, key: str, directory: Path, first_index: int, way: Way = ANYBODY) -> None:
        self._member = member
        self._key = key
        self._way = way
        self._path = directory / f"events-{member.name}.jsonl"
        self._next_index = first_index
        self._moved = asyncio.Event()

    async def reached(self, index: int) -> None:
        """Wait until an event of this index or a later one has come."""
        while self._next_index <= index:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Record until cancelled."""
        with self._path.open("a") as lines:
            while True:
                try:
                    await self._record(lines.write)
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _record(self, write: Any) -> None:
        connection = await raw_http.Connection.open(self._member.client_url, tls=self._way.tls)
        try:
            target = f"/v2/keys{self._key}?wait=true&recursive=true&stream=true&waitIndex={self._next_index}"
            head = await connection.stream(target, headers=self._way.headers)
            if head.status != 200:
                write(json.dumps({"at": time.monotonic_ns(), "refused": head.status}) + "\n")
                raise ConnectionResetError
            rest = b""
            while chunk := await connection.read_chunk():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line:
                        event = json.loads(line)
                        self._next_index = event["node"]["modifiedIndex"] + 1
                        self._moved.set()
                        write(json.dumps({"at": time.monotonic_ns(), "event": event}) + "\n")
            raise ConnectionResetError
        finally:
            connection.writer.transport.abort()


def read(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """By member, the lines of its watcher."""
    return {
        path.stem.removeprefix("events-"): [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(directory.glob("events-*.jsonl"))
    }
