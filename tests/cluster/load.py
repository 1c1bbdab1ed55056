"""Many small writes through one member, as fast as a test needs them."""

import asyncio
import urllib.parse

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
