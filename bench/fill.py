"""`python -m bench.fill URL COUNT SIZE CONNECTIONS`: writes keys /bench/1 to /bench/COUNT, as fast as they are taken.

Exit code 1 if one fails. A process of its own, with a client of few steps: a million keys are to be written.
"""

import argparse
import asyncio
import itertools
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse
from typing import Final, cast

import uvloop

from kvraft.testing.member import Member

FILLERS: Final = 64
GROUP: Final = 100_000
"""So many keys in one directory, where they are grouped."""


def fill(member: Member, count: int, size_bytes: int, *, ttl_s: int = 0, grouped: bool = False) -> None:
    """Write keys /bench/1 and on, or /bench/0/1 and on with every 100,000 in a directory of their own.

    Raises:
        SystemExit: a write failed.
    """
    command = [sys.executable, "-m", "bench.fill", member.client_url, str(count), str(size_bytes), str(FILLERS)]
    command += [f"--ttl={ttl_s}", *(["--grouped"] if grouped else [])]
    if member.program.client_tls is not None:
        command.append(f"--ca={member.data_dir.parent / 'ca' / 'ca.pem'}")
    root = pathlib.Path(__file__).parents[1]
    if subprocess.run(command, check=False, cwd=root).returncode:
        sys.exit(f"bench: {member} could not be filled")


class Lane(asyncio.Protocol):
    """One connection: the next key as soon as the last one is answered."""

    transport: asyncio.WriteTransport

    def __init__(self, requests: "itertools.chain[bytes]", done: "asyncio.Future[None]") -> None:
        self.requests = requests
        self.done = done
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclasses of asyncio's.
        self.transport = cast("asyncio.WriteTransport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not is_whole(self.received):
            return
        if self.received[9:12] not in {b"200", b"201"}:
            self._end(RuntimeError(repr(self.received)))
            return
        self.received = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the connection was closed"))

    def _next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self._end(None)
        else:
            self.transport.write(request)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self.transport.close()


def is_whole(answer: bytes) -> bool:
    """Whether these bytes are an answer to its end: by its length, or by its last chunk."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def request_for(host: str, number: int, size_bytes: int, *, ttl_s: int, grouped: bool) -> bytes:
    """The write of one key."""
    body = b"value=" + b"v" * size_bytes + (b"&ttl=%d" % ttl_s if ttl_s else b"")
    key = f"{(number - 1) // GROUP}/{number}" if grouped else str(number)
    head = f"PUT /v2/keys/bench/{key} HTTP/1.1\r\nHost: {host}\r\n"
    head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def write_all(given: argparse.Namespace) -> None:
    """Write every key once."""
    parts = urllib.parse.urlsplit(given.url)
    tls = ssl.create_default_context(cafile=given.ca) if given.ca else None
    loop = asyncio.get_running_loop()
    numbers = range(1, given.count + 1)
    requests = (
        request_for(parts.netloc, number, given.size, ttl_s=given.ttl, grouped=given.grouped) for number in numbers
    )
    lanes = [loop.create_future() for _ in range(given.connections)]
    for lane in lanes:
        await loop.create_connection(
            lambda lane=lane: Lane(itertools.chain(requests), lane),
            parts.hostname,
            parts.port,
            ssl=tls,
        )
    await asyncio.gather(*lanes)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("size", type=int, help="bytes of each value")
    parser.add_argument("connections", type=int)
    parser.add_argument("--ca", help="whom to believe at an https URL")
    parser.add_argument("--ttl", type=int, default=0, help="seconds; 0 for none")
    parser.add_argument("--grouped", action="store_true", help="every 100,000 keys in a directory of their own")
    uvloop.run(write_all(parser.parse_args()))


if __name__ == "__main__":
    main()
