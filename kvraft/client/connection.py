"""One HTTP session over several endpoints: which is asked, what is asked again, what never is.

Endpoints are tried in turn, beginning with the one that answered last. What may be repeated follows from whether a
request can have arrived: it cannot where no connection came about or the TLS handshake failed; reads may be repeated in
any case; a write that may have arrived is `UnknownOutcome`.
"""

import asyncio
import base64
import contextlib
import errno
import io
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final
from urllib.parse import urlsplit

import aiohttp
import yarl

from kvraft.client.errors import BadAnswer, BrokenOff, UnknownOutcome, Unreachable
from kvraft.client.values import Answer, index_in

_READS: Final = frozenset({"GET", "HEAD"})
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A watch may hear nothing for hours; the kernel finds out within a minute that its server's host is gone."""
_CONNECT_S: Final = 2.0
"""For a connection to come about, as etcdctl's `--timeout`; at most half of what an answer may take, so that a write
that did not leave is known from one that did."""
_CHUNK_BYTES_MAX: Final = 1 << 16
"""What a stream holds of its body before it stops reading: a slow disk of ours must not fill our memory."""
ANSWER_BYTES_MAX: Final = 1 << 30
"""Of an answer that is held whole: more than any store of etcd's v2 API holds, and what a hostile server may cost."""
_CONNECTIONS_MAX: Final = 100
"""At once to one endpoint; further requests wait for one of them. Streams are not counted."""


@final
@dataclass(slots=True, frozen=True)
class Request:
    """What is asked, ready to be sent to any endpoint."""

    method: str
    target: str
    """Path and query, already quoted."""
    headers: Mapping[str, str]
    body: bytes | None = None

    @property
    def is_read(self) -> bool:
        """Whether it may be asked twice."""
        return self.method in _READS


@final
class Stream:
    """An answer whose body is read as it comes."""

    def __init__(self, endpoint: str, response: aiohttp.ClientResponse) -> None:
        self.endpoint: Final = endpoint
        self.status: Final = response.status
        self.headers: Final[Mapping[str, str]] = response.headers
        self._response = response

    @property
    def etcd_index(self) -> int:
        """`X-Etcd-Index`; 0 without one."""
        return index_in(self.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, in pieces of no particular size.

        Raises:
            BrokenOff: it did not come to its end.
        """
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenOff(self.endpoint, "the connection ended in the middle of an answer") from error

    async def read(self) -> bytes:
        """The whole rest of the body.

        Raises:
            BrokenOff: it did not come to its end.
            BadAnswer: it does not seem to have one.
        """
        return await _whole(self.endpoint, self.chunks())


@final
class Connection:
    """Asks the endpoints. An async context manager."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | None,
        user: tuple[str, str] | None,
        timeout_s: float,
    ) -> None:
        if not endpoints:
            raise ValueError("a client needs at least one endpoint")
        self._endpoints = [_checked(endpoint) for endpoint in endpoints]
        self._tls = tls
        self._headers = {"Authorization": "Basic " + _basic(*user)} if user else {}
        self._timeout_s = timeout_s
        self._first = 0
        """The place of the endpoint that answered last."""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Connection":
        """Open the session; no connection is made yet."""
        connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0, limit_per_host=0, socket_factory=_socket)
        session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_CHUNK_BYTES_MAX,
        )
        # aiohttp would send a PUT or DELETE again on a connection that ended, which may then be done twice.
        session._retry_connection = False  # noqa: SLF001 -- there is no public switch; a test holds it
        self._session = session
        self._slots = asyncio.Semaphore(_CONNECTIONS_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """In the order in which they would be tried now."""
        return tuple(self._endpoints[self._first :] + self._endpoints[: self._first])

    def turn_from(self, endpoint: str) -> None:
        """Try this endpoint last from now on: it answers, and is of no use."""
        self._first = (self._endpoints.index(endpoint) + 1) % len(self._endpoints)

    async def ask(self, request: Request, timeout_s: float | None = None) -> Answer:
        """One answer, whole, whatever its status; `timeout_s` is for each endpoint.

        Raises:
            Unreachable: nobody could be asked, or a read got no answer from anybody.
            UnknownOutcome: a write left and no answer came.
            BadAnswer: the answer is larger than any.
        """
        seconds = self._timeout_s if timeout_s is None else timeout_s
        async with self._slots, contextlib.AsyncExitStack() as stack:
            deadline = aiohttp.ClientTimeout(total=seconds, connect=_connect_s(seconds))
            endpoint, response, body = await self._first_answer(request, deadline, stack, seconds, whole=True)
            return Answer(endpoint, response.status, response.headers, body)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, timeout_s: float | None = None) -> AsyncIterator[Stream]:
        """An answer whose body is read as it comes; `timeout_s` is for its head, from each endpoint.

        Raises:
            Unreachable: nobody could be asked, or a read got no answer from anybody.
            UnknownOutcome: a write left and no answer came.
        """
        seconds = self._timeout_s if timeout_s is None else timeout_s
        async with contextlib.AsyncExitStack() as stack:
            deadline = aiohttp.ClientTimeout(total=None, connect=_connect_s(seconds))
            endpoint, response, _ = await self._first_answer(request, deadline, stack, seconds, whole=False)
            yield Stream(endpoint, response)

    async def _first_answer(
        self,
        request: Request,
        deadline: aiohttp.ClientTimeout,
        stack: contextlib.AsyncExitStack,
        seconds: float,
        *,
        whole: bool,
    ) -> tuple[str, aiohttp.ClientResponse, bytes]:
        """The first endpoint that answers, its answer, and the body if the whole of it is wanted."""
        reasons: list[str] = []
        endpoints = self.endpoints
        for endpoint in endpoints:
            tries_left = 1 + request.is_read  # a kept connection may have ended just now
            while tries_left:
                tries_left -= 1
                try:
                    async with asyncio.timeout(None if whole else seconds):
                        response = await self._send(endpoint, request, deadline)
                    stack.push_async_callback(_close, response)
                    body = await _whole(endpoint, response.content.iter_any()) if whole else b""
                except (aiohttp.ClientError, OSError) as error:
                    # TimeoutError is an OSError.
                    reason = reason_of(error, seconds)
                    if not request.is_read and not _cannot_have_arrived(error):
                        raise UnknownOutcome(endpoint, reason) from error
                    if tries_left and _ended(error):
                        continue
                    reasons.append(reason)
                    break
                self._first = self._endpoints.index(endpoint)
                return endpoint, response, body
        raise Unreachable(endpoints, reasons)

    async def _send(self, endpoint: str, request: Request, deadline: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        assert self._session is not None, "a client is used inside `async with`"
        return await self._session.request(
            request.method,
            yarl.URL(endpoint + request.target, encoded=True),  # as it stands: `//` and `..` are the server's business
            headers=request.headers,
            # aiohttp writes a file in pieces; bytes of more than a megabyte it warns of.
            data=None if request.body is None else io.BytesIO(request.body),
            timeout=deadline,
            allow_redirects=False,
        )


async def _whole(endpoint: str, chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise BadAnswer(endpoint, f"answered with more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _connect_s(seconds: float) -> float:
    return min(_CONNECT_S, seconds / 2)


def reason_of(error: BaseException, timeout_s: float) -> str:
    """Why a connection failed, in few words."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"cannot connect within {_connect_s(timeout_s):g} s"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _tls_reason(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot find the host {error.host}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _os_reason(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "does not speak HTTP"
    if isinstance(error, OSError):
        return _os_reason(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection ended"
    return str(error) or type(error).__name__


def _os_reason(error: OSError) -> str:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        return _tls_reason(cause)
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    if error.errno is None or error.errno not in errno.errorcode:
        return str(error)
    return os.strerror(error.errno).lower()


def _tls_reason(error: Exception) -> str:
    """OpenSSL's word without its file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return "TLS: " + (error.reason or "handshake failed").replace("_", " ").lower()
    return f"TLS: {error}"


def _cannot_have_arrived(error: BaseException) -> bool:
    """Whether no connection came about; with TLS 1.3 the refusal of our certificate is told after our first bytes."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return True
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    return isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or "")


def _ended(error: BaseException) -> bool:
    """Whether a connection that stood was closed, which a kept one may be at any time."""
    if isinstance(error, aiohttp.ClientConnectorError | TimeoutError):
        return False
    return isinstance(error, aiohttp.ServerDisconnectedError | OSError)


async def _close(response: aiohttp.ClientResponse) -> None:
    """Keep the connection if the answer was read to its end; otherwise drop it."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _socket(address: Any) -> socket.socket:
    """A socket whose kernel notices that the other host is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for level, option, value in _KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def _basic(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def _checked(endpoint: str) -> str:
    """An endpoint without what follows its port.

    Raises:
        ValueError: it is no URL of a server, in a text that names it.
    """
    text = endpoint.strip()
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0
        (parts.hostname or ".").encode("idna")  # as the system is asked for it
        yarl.URL(f"{parts.scheme}://{parts.netloc}", encoded=True).host_port_subcomponent  # noqa: B018 -- if it can be
    except ValueError:
        wrong = True
    if wrong or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{endpoint!r} is no endpoint: http://HOST:PORT or https://HOST:PORT is")
    return f"{parts.scheme}://{parts.netloc}"
