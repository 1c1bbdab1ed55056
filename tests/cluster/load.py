"""Many small writes through one member, as fast as a test needs them."""

import asyncio
import re
import urllib.parse

from kvraft.testing.cluster import Member

CONNECTIONS = 32


async def write_many(url: str, count: int, prefix: str, value: str = "v", distinct: int | None = None) -> None:
    """PUT `prefix`0.. with `count` writes over at most `distinct` keys; every one must be acknowledged."""
    part = urllib.parse.urlsplit(url)
    numbers = iter(range(count))
    modulus = distinct or count

    async def writer() -> None:
        reader, stream = await asyncio.open_connection(part.hostname, part.port)
        for number in numbers:
            body = f"value={value}{number}"
            stream.write(
                f"PUT /v2/keys{prefix}{number % modulus} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head[9:12] in {b"200", b"201"}, head
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        stream.close()
        await stream.wait_closed()

    await asyncio.gather(*(writer() for _ in range(CONNECTIONS)))


def write_until_compacted(member: Member, index: int) -> None:
    """Write until the member has dropped the entry at `index` from its log: who lacks it needs a snapshot then."""

    def is_dropped() -> bool:
        member.http("PUT", "/v2/keys/until-compacted", form={"value": "v"})
        dropped = re.findall(r"log compacted index=(\d+)", member.log_text())
        return any(int(last) >= index for last in dropped)

    member.wait_for(f"compaction up to {index}", is_dropped, 60)
