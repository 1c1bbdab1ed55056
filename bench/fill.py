"""`python bench/fill.py URL COUNT SIZE CONNECTIONS [CA]`: writes keys /bench/1 to /bench/COUNT.

Exit code 1 if one fails. CA is the file of whom to believe at an https URL.
"""

import asyncio
import itertools
import ssl
import sys

from kvraft.testing.raw_http import Connection


async def fill(url: str, count: int, size_bytes: int, connections: int, tls: ssl.SSLContext | None) -> None:
    """Write every key once, over so many connections.

    Raises:
        SystemExit: a write was not answered with success.
    """
    numbers = itertools.count(1)
    body = b"value=" + b"v" * size_bytes
    headers = [("Content-Type", "application/x-www-form-urlencoded")]

    async def write() -> None:
        async with await Connection.open(url, tls=tls) as connection:
            while (number := next(numbers)) <= count:
                answer = await connection.request("PUT", f"/v2/keys/bench/{number}", body=body, headers=headers)
                if answer.status not in {200, 201}:
                    sys.exit(f"fill: {answer.status} {answer.body!r}")

    await asyncio.gather(*(write() for _ in range(connections)))


if __name__ == "__main__":
    url, count, size_bytes, connections = sys.argv[1:5]
    believed = ssl.create_default_context(cafile=sys.argv[5]) if sys.argv[5:] else None
    asyncio.run(fill(url, int(count), int(size_bytes), int(connections), believed))
