"""A client notes down what it was told."""

import asyncio
import random
import types
from pathlib import Path

from tests.jepsen_like.history import Record
from tests.jepsen_like.session import Session


def test_client_notes_the_status_of_a_failure_that_is_no_json(tmp_path: Path) -> None:
    """A bare 500 is told apart from a connection that breaks; and an index of 0 from none."""

    async def ask_broken_server(answer: bytes) -> Record:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            member = types.SimpleNamespace(name="n1", client_url=url)
            session = Session(0, [member], random.Random(1), tmp_path, roams=False)  # type: ignore[list-item]  # all it is asked
            asked, _ = await session.ask("read", "/jepsen/r")
            session.close()
            return asked

    bare = asyncio.run(ask_broken_server(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"))
    assert (bare.outcome, bare.status, bare.is_broken) == ("unknown", 500, True)
    body = b'{"errorCode":300,"message":"Raft Internal Error","cause":"timed out","index":0}'
    head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    etcds = asyncio.run(ask_broken_server(head + body))
    assert (etcds.outcome, etcds.error_code, etcds.is_broken) == ("unknown", 300, False)
    cut = asyncio.run(ask_broken_server(b"HTTP/1.1 500 Internal Serv"))
    assert (cut.outcome, cut.status, cut.is_broken) == ("unknown", None, False)
    missing = b'{"errorCode":100,"message":"Key not found","cause":"/jepsen/r","index":0}'
    head = f"HTTP/1.1 404 Not Found\r\nX-Etcd-Index: 0\r\nContent-Length: {len(missing)}\r\n\r\n".encode()
    first = asyncio.run(ask_broken_server(head + missing))
    assert (first.outcome, first.etcd_index) == ("ok", 0), "index 0 is one, too: nothing was written yet"
