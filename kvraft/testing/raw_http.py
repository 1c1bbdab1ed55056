"""HTTP for tests that look at every byte: targets are sent as they are, header names keep their case and order.

`exchange` blocks and opens a connection for each request. `Connection` is asyncio, keeps its connection, pipelines
nothing by itself, reads streams chunk by chunk, and sends raw bytes for requests that no client would build.
"""

import asyncio
import dataclasses
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, final

FORM: Final = "application/x-www-form-urlencoded"
DEADLINE_S: Final = 30.0
"""Longer than the slowest answer that the contract allows (7 s without a quorum), on a loaded machine."""
_HEAD_BYTES_MAX: Final = 1 << 20

Headers = Sequence[tuple[str, str]]
FormValues = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Answer:
    """A response, or the head of a streamed one (then `body` is empty)."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    """In the order and the case in which they came."""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever the case of its name."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: the body is no JSON.
        """
        return json.loads(self.body)

    @property
    def etcd_index(self) -> int:
        """`X-Etcd-Index`.

        Raises:
            ValueError: the header is missing or no number.
        """
        return int(self.header("X-Etcd-Index") or "")


def exchange(
    url: str,
    method: str,
    target: str,
    *,
    form: FormValues | None = None,
    body: bytes | None = None,
    headers: Headers = (),
    timeout_s: float = DEADLINE_S,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request on its own connection and read the answer.

    Args:
        url: `http://host:port` of the member, or `https`.
        method: sent as it is.
        target: the request target, sent as it is: escape it yourself.
        form: values for an urlencoded body, with its Content-Type.
        body: the body, instead of `form`.
        headers: sent after Host and before the body's own.
        timeout_s: for connecting and for each read.
        tls: whom to believe, for `https`; what the system believes otherwise.

    Raises:
        OSError: no connection, reset or too late.
        http.client.HTTPException: the answer is no HTTP.
    """
    parts = urllib.parse.urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    payload, all_headers = _with_body(form, body, headers)
    # http.client refuses odd targets and methods; tests send them on purpose.
    connection._validate_path = _accept  # type: ignore[attr-defined]  # noqa: SLF001 -- the documented override of http.client
    connection._validate_method = _accept  # type: ignore[attr-defined]  # noqa: SLF001 -- as above
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in all_headers:
            connection.putheader(name, value)
        connection.endheaders(payload)
        response = connection.getresponse()
        return Answer(response.status, response.reason, tuple(response.getheaders()), response.read())
    except OSError as error:
        _close_left(error)
        raise
    finally:
        connection.close()


def _close_left(error: OSError) -> None:
    """Close what Python's `ssl.SSLSocket._create` leaves open if the connection is reset before the handshake begins.

    Nobody else has it but the frames that the error has come through.
    """
    trace = error.__traceback__
    while trace is not None:
        left = trace.tb_frame.f_locals.get("self")
        if isinstance(left, ssl.SSLSocket):
            left.close()
        trace = trace.tb_next


@final
class Connection:
    """One asyncio connection to a member."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader: Final = reader
        self.writer: Final = writer
        self._host = host

    @classmethod
    async def open(cls, url: str, *, limit_bytes: int = 64 << 20, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to `http://host:port`, or `https`. `limit_bytes` bounds a line, and so a chunk's header."""
        parts = urllib.parse.urlsplit(url)
        context = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=limit_bytes, ssl=context)
        return cls(reader, writer, parts.netloc)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. A peer that reset it already is fine, and so is one that goes on sending over TLS."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return

    async def request(
        self,
        method: str,
        target: str,
        *,
        form: FormValues | None = None,
        body: bytes | None = None,
        headers: Headers = (),
        timeout_s: float = DEADLINE_S,
    ) -> Answer:
        """Send a request and read its whole answer. The connection can be used again.

        Raises:
            TimeoutError: no whole answer in time.
            asyncio.IncompleteReadError: the connection ended within the answer.
            OSError: the connection was reset.
        """
        async with asyncio.timeout(timeout_s):
            await self.send(method, target, form=form, body=body, headers=headers)
            return await self.read_answer(without_body=method == "HEAD")

    async def stream(self, target: str, *, headers: Headers = (), timeout_s: float = DEADLINE_S) -> Answer:
        """Send a GET and return once the answer's head has arrived; then use `read_chunk`."""
        async with asyncio.timeout(timeout_s):
            await self.send("GET", target, headers=headers)
            return await self.read_head()

    async def send(
        self,
        method: str,
        target: str,
        *,
        form: FormValues | None = None,
        body: bytes | None = None,
        headers: Headers = (),
    ) -> None:
        """Write a request without reading its answer."""
        payload, all_headers = _with_body(form, body, headers)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in all_headers]
        await self.send_raw("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (payload or b""))

    async def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def read_answer(self, *, without_body: bool = False) -> Answer:
        """Read one whole answer; `without_body` for the answer to a HEAD."""
        head = await self.read_head()
        if without_body or head.status in {204, 304}:
            return head
        if (head.header("Transfer-Encoding") or "").lower() == "chunked":
            chunks = []
            while chunk := await self.read_chunk():
                chunks.append(chunk)
            return dataclasses.replace(head, body=b"".join(chunks))
        length = head.header("Content-Length")
        body = await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        return dataclasses.replace(head, body=body)

    async def read_head(self) -> Answer:
        """Read a status line and headers."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert len(head) <= _HEAD_BYTES_MAX
        status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        _version, status, reason = (status_line + " ").split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        return Answer(int(status), reason.strip(), tuple((name, value.strip()) for name, value in pairs))

    async def read_chunk(self, *, timeout_s: float = DEADLINE_S) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        async with asyncio.timeout(timeout_s):
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            chunk = await self.reader.readexactly(size + 2)
        assert chunk[-2:] == b"\r\n"
        return chunk[:-2]


def _with_body(
    form: FormValues | None, body: bytes | None, headers: Headers
) -> tuple[bytes | None, list[tuple[str, str]]]:
    assert form is None or body is None, "a request has one body"
    all_headers = list(headers)
    if form is not None:
        body = urllib.parse.urlencode(form).encode()
        all_headers.append(("Content-Type", FORM))
    names = {name.lower() for name, _ in all_headers}
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        all_headers.append(("Content-Length", str(len(body))))
    return body, all_headers


def _accept(_text: str) -> None:
    """Whatever the test sends is what it wants to send."""
