"""A blocking HTTP/1.1 client that hides nothing: raw request targets out, header case, order and chunks in.

Ordinary clients normalise the very things these tests are about (`..` in paths, header case, where one chunk ends).
"""

import base64
import contextlib
import re
import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Final, Self, final
from urllib.parse import urlsplit

FORM: Final = "application/x-www-form-urlencoded"
HEAD_BYTES_MAX: Final = 65_536
"""No answer of etcd has a head this long; more means that we lost the framing."""
ANSWER_SECONDS: Final = 30.0
"""Longer than any request timeout of etcd (7 s): reached only when a server hangs."""
LANES: Final = 32
"""Connections of `ask_all`: enough for a server to commit in batches."""
_HEAD_END: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ?(.*)")


class WireError(Exception):
    """The server closed or broke the framing in the middle of an answer."""


class NothingCameError(Exception):
    """No byte arrived within the time given."""


@final
@dataclass(frozen=True, slots=True)
class Request:
    """One request, exactly as it goes out. `Host` and `Content-Length` are added; everything else is here."""

    method: str
    target: bytes
    """The request target as bytes on the wire: `/v2/keys/a%2Fb?wait=true`."""
    body: bytes | None = None
    """None sends no Content-Length either."""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, host: str) -> bytes:
        """The bytes of this request."""
        lines = [b"%s %s HTTP/1.1" % (self.method.encode(), self.target), b"Host: " + host.encode()]
        if self.content_type is not None:
            lines.append(b"Content-Type: " + self.content_type.encode())
        lines += [f"{name}: {value}".encode() for name, value in self.headers]
        if self.body is not None:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + _HEAD_END + (self.body or b"")

    def __str__(self) -> str:
        """The request in one line, for a failing test."""
        content_type = f" [{self.content_type}]" if self.content_type not in (None, FORM) else ""
        body = (
            "" if not self.body else f" {self.body[:200]!r}" + (f"... {len(self.body)} bytes" * (len(self.body) > 200))
        )
        return f"{self.method} {self.target[:300].decode('latin-1')}{content_type}{body}"


@final
@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    """In the order and case in which they came."""

    def header(self, name: str) -> str | None:
        """The first header of exactly this case, or None."""
        return next((value for key, value in self.headers if key == name), None)

    def _folded(self, name: str) -> str:
        return next((value.lower() for key, value in self.headers if key.lower() == name), "")

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self._folded("transfer-encoding")

    @property
    def content_length(self) -> int | None:
        """The announced length, or None."""
        text = self._folded("content-length")
        return int(text) if text else None

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after this answer."""
        return self._folded("connection") == "close"


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    def header(self, name: str) -> str | None:
        """The first header of exactly this case, or None."""
        return self.head.header(name)

    @property
    def etcd_index(self) -> int:
        """`X-Etcd-Index`; 0 when the answer has none."""
        return int(self.head.header("X-Etcd-Index") or 0)

    def __str__(self) -> str:
        """The answer in a few lines, for a failing test."""
        headers = ", ".join(f"{name}: {value}" for name, value in self.head.headers if name != "Date")
        return f"{self.status} {{{headers}}} {self.body[:600]!r}"


@final
class Connection:
    """One keep-alive connection. Not for two threads at once."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = ANSWER_SECONDS,
        receive_buffer_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """To `http://host:port`, or `https` with whom to believe and what to show."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host: Final = f"{parts.hostname}:{parts.port}"
        self.timeout: Final = timeout
        assert (parts.scheme == "https") == (tls is not None)
        self._tls = tls
        self._receive_buffer_bytes = receive_buffer_bytes
        self._address = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._socket is not None

    def ask(self, request: Request) -> Answer:
        """Send a request and wait for its answer."""
        self.send(request)
        return self.receive(request.method)

    def send(self, request: Request) -> None:
        """Send a request, opening the connection if need be."""
        self.send_bytes(request.encode(self.host))

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes, opening the connection if need be."""
        if self._socket is None:
            self._socket = self._connect()
        # A server may answer and close before it has read a body that it refuses: its answer is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def _connect(self) -> socket.socket:
        connected = socket.socket()
        connected.settimeout(self.timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._receive_buffer_bytes is not None:
            # Before connecting: the window is agreed then.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        try:
            connected.connect(self._address)
            return (
                connected if self._tls is None else self._tls.wrap_socket(connected, server_hostname=self._address[0])
            )
        except OSError:
            connected.close()
            raise

    def receive(self, method: str) -> Answer:
        """The answer to the oldest request that is not answered."""
        return self.complete(self.receive_head(), method)

    def complete(self, head: Head, method: str) -> Answer:
        """The answer whose head has been received."""
        body = b"" if method == "HEAD" else self._body(head)
        if head.closes:
            self.close()
        return Answer(head, body)

    def receive_interim(self) -> int:
        """The status of the next head, be it `100 Continue`, which every other method here passes over."""
        return self.receive_head(interim=True).status

    def receive_head(self, timeout: float | None = None, *, interim: bool = False) -> Head:
        """Status and headers of the next answer."""
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        while (end := self._buffer.find(_HEAD_END)) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                msg = f"no end of the head in {len(self._buffer)} bytes"
                raise WireError(msg)
            self._fill(deadline)
        lines = self._buffer[:end].split(b"\r\n")
        self._buffer = self._buffer[end + 4 :]
        status = _STATUS_LINE.fullmatch(lines[0])
        if status is None:
            msg = f"not a status line: {lines[0]!r}"
            raise WireError(msg)
        if status[1] == b"100" and not interim:
            return self.receive_head(deadline - monotonic())
        pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
        return Head(
            int(status[1]), status[2].decode("latin-1"), tuple((name, value.strip(" ")) for name, _, value in pairs)
        )

    def receive_chunk(self, timeout: float | None = None) -> bytes | None:
        """The next chunk of a chunked answer; None at its end.

        Raises:
            NothingCameError: no whole chunk within `timeout` seconds; what came of it is kept.
        """
        deadline = monotonic() + (self.timeout if timeout is None else timeout)
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._fill(deadline)
        length = int(self._buffer[:end].partition(b";")[0], 16)
        while len(self._buffer) < end + 2 + length + 2:
            self._fill(deadline)
        chunk = self._buffer[end + 2 : end + 2 + length]
        self._buffer = self._buffer[end + 2 + length + 2 :]
        return chunk if length else None

    def at_end(self, timeout: float) -> bool:
        """Whether the server closes within `timeout` seconds, sending nothing more."""
        try:
            self._fill(monotonic() + timeout)
        except NothingCameError:
            return False
        except (WireError, ConnectionResetError):
            return True
        return False

    def _body(self, head: Head) -> bytes:
        if head.chunked:
            chunks = []
            while (chunk := self.receive_chunk()) is not None:
                chunks.append(chunk)
            return b"".join(chunks)
        if head.status in (204, 304):
            return b""
        length = head.content_length
        deadline = monotonic() + self.timeout
        if length is None:
            with contextlib.suppress(WireError):
                while True:
                    self._fill(deadline)
            body = self._buffer
            self.close()
            return body
        while len(self._buffer) < length:
            self._fill(deadline)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _fill(self, deadline: float) -> None:
        if self._socket is None:
            msg = "not connected"
            raise WireError(msg)
        readable, _, _ = select.select([self._socket], [], [], max(0.0, deadline - monotonic()))
        if not readable:
            msg = f"nothing came from {self.host}; so far {self._buffer[:200]!r}"
            raise NothingCameError(msg)
        if self._tls is not None:
            self._socket.settimeout(max(0.001, deadline - monotonic()))
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            # What came was TLS's own, such as a session ticket.
            msg = f"nothing but TLS came from {self.host}"
            raise NothingCameError(msg) from None
        if not data:
            msg = f"{self.host} closed after {self._buffer[:200]!r}"
            raise WireError(msg)
        self._buffer += data


def basic(login: str) -> tuple[str, str]:
    """The header by which `user:password` asks."""
    return "Authorization", "Basic " + base64.b64encode(login.encode()).decode()


def ask_all(url: str, requests: Sequence[Request], tls: ssl.SSLContext | None = None) -> list[Answer]:
    """Answers to many requests, `LANES` under way at once, so in no particular order of effect."""
    answers = []
    with contextlib.ExitStack() as stack:
        lanes = [stack.enter_context(Connection(url, tls=tls)) for _ in range(min(LANES, len(requests)))]
        for start in range(0, len(requests), LANES):
            wave = list(zip(lanes, requests[start : start + LANES], strict=False))
            for lane, request in wave:
                lane.send(request)
            answers += [lane.receive(request.method) for lane, request in wave]
    return answers


def keys_request(method: str, path: str, form: str | None = None, *, query: str = "") -> Request:
    """A request to /v2/keys as most clients send it: the form in the body, flags in the query."""
    target = f"/v2/keys{path}" + (f"?{query}" if query else "")
    return Request(method, target.encode(), None if form is None else form.encode(), None if form is None else FORM)
