"""A watcher that keeps every event line as it came, and resumes where it was when its member was away."""

import asyncio
import json
import re
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, final

from tests.jepsen_like.secure import ANYBODY, Way

RECONNECT_PAUSE_S: Final = 0.05
READ_BYTES: Final = 1 << 16
_MODIFIED: Final = re.compile(rb'"modifiedIndex":([0-9]+)')


@final
class WatchLog:
    """A stream watch on `/kill` of one member, written to a file of one JSON event a line.

    With several URLs it goes on at the next one when its member is away.
    """

    def __init__(self, urls: Sequence[str], path: Path, first_index: int, way: Way = ANYBODY) -> None:
        self._addresses = [(part.hostname or "", part.port or 0) for part in map(urllib.parse.urlsplit, urls)]
        self._path = path
        self._way = way
        self.next_index = first_index
        """The `waitIndex` of the next connection."""
        self.connections = 0
        self.problems: list[str] = []
        """What is wrong whatever the events say: refused, or not in the order of their indices."""

    async def run(self) -> None:
        """Record until cancelled."""
        with self._path.open("ab") as lines:
            while True:
                try:
                    await self._record(lines.write)
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(RECONNECT_PAUSE_S)  # its member is being killed or restarted
                self._addresses.append(self._addresses.pop(0))

    async def _record(self, write: Callable[[bytes], int]) -> None:
        reader, writer = await asyncio.open_connection(*self._addresses[0], ssl=self._way.tls)
        try:
            target = f"/v2/keys/kill?wait=true&recursive=true&stream=true&waitIndex={self.next_index}"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: test\r\n{self._way.lines}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                write(json.dumps({"refused": head.decode()}).encode() + b"\n")
                self.problems.append(f"refused: {head.decode(errors='replace').splitlines()[0]}")
                raise ConnectionResetError
            self.connections += 1
            rest = b""
            while data := await reader.read(READ_BYTES):
                rest = self._keep_events(rest + data, write)
        finally:
            writer.close()

    def _keep_events(self, data: bytes, write: Callable[[bytes], int]) -> bytes:
        """Write the whole event lines of a chunked body, between which chunk sizes stand; return the cut one."""
        whole, newline, rest = data.rpartition(b"\n")
        for line in whole.split(b"\n"):
            if line.startswith(b"{"):
                write(line + b"\n")
                found = _MODIFIED.search(line)  # of the node: what was before it comes behind it
                if found is None:
                    self.problems.append(f"an event without an index: {line!r}")
                    continue
                index = int(found[1])
                if index < self.next_index:
                    self.problems.append(f"event {index} came where {self.next_index} or a later one was to come")
                self.next_index = index + 1
        return rest if newline else data
