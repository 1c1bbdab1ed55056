"""One request on its way: which endpoint has it, when the next one is asked, and what the client gets of the answer.

A request that may have reached a member, whole, is not sent to another one unless it only reads: etcd sends it again
(v3.4.23 proxy/httpproxy/reverse.go), and a write may then be carried out twice.
"""

import asyncio
import secrets
from typing import Final, Protocol, final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.proxy.counts import Counts, Drop
from kvraft.proxy.dialling import Dialler
from kvraft.proxy.director import Director, Endpoint
from kvraft.proxy.heads import CHUNKED, UNTIL_CLOSE, AnswerHead, RequestHead, forwarded_head, without_cors
from kvraft.proxy.upstream import Upstream
from kvraft.repeats import Repeats

log = logs.get(__name__)

_READS: Final = frozenset((b"GET", b"HEAD"))
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Client(Protocol):
    """Who has sent it."""

    def write(self, parts: list[bytes]) -> None:
        """Send bytes of the answer."""
        ...

    def answer(self, answer: Answer) -> None:
        """Send an answer of the proxy's own, which ends the request."""
        ...

    def over(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        ...

    def break_off(self) -> None:
        """The answer ends in the midst, and the client is to know."""
        ...

    def hold(self) -> None:
        """Read no more of the request for now."""
        ...

    def read_on(self) -> None:
        """Read more of it."""
        ...


@final
class Roads:
    """Where requests can go, for all of them."""

    def __init__(self, director: Director, dialler: Dialler, counts: Counts) -> None:
        self.director: Final = director
        self.counts: Final = counts
        self.tasks: Final[set[asyncio.Task[None]]] = set()
        self.repeats: Final = Repeats(clock.monotonic_ms)
        self.own_name: Final = b"kvraft-" + secrets.token_hex(8).encode()
        self._dialler = dialler

    def dial(self, forwarding: "Forwarding", endpoint: Endpoint) -> None:
        """Connect to an endpoint, and tell who wants it."""
        task = asyncio.get_running_loop().create_task(self._dial(forwarding, endpoint))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _dial(self, forwarding: "Forwarding", endpoint: Endpoint) -> None:
        try:
            upstream = await self._dialler.dial(endpoint)
        except OSError as error:
            forwarding.not_reached(endpoint, error.strerror or str(error))
            return
        except Exception as error:
            log.exception("dialling an endpoint has failed", url=endpoint.url)
            forwarding.not_reached(endpoint, repr(error))
            return
        if not forwarding.reached(upstream):
            endpoint.keep(upstream)


@final
class Forwarding:
    """A request under way. `send` begins it.

    Args:
        roads: Where it can go.
        client: Whose it is.
        head: What it asks.
        address: From where the client has connected.
        cors: Header lines for a page that asks from a browser, in place of the member's; empty without any.
    """

    __slots__ = (
        "_address",
        "_body",
        "_client",
        "_connected",
        "_cors",
        "_endpoints",
        "_head",
        "_is_kept",
        "_is_reused",
        "_is_whole",
        "_keep_alive",
        "_makes_chunks",
        "_may_have_arrived",
        "_pending",
        "_roads",
        "_started_ns",
        "_tried",
        "wants_content",
    )

    def __init__(self, roads: Roads, client: Client, head: RequestHead, address: bytes, cors: bytes) -> None:
        self._roads = roads
        self._client: Client | None = client
        self._head = head
        self._address = address
        self._cors = cors
        self._body = b""
        """What is sent of it with its head, and again to the next endpoint."""
        self._is_whole = True
        """All of the request is there."""
        self._is_kept = True
        """And it is here, to be sent again."""
        self._endpoints: list[Endpoint] = []
        self._tried = 0
        self._connected: Upstream | None = None
        self._is_reused = False
        self._may_have_arrived = False
        """All of it has been written to an endpoint."""
        self._keep_alive = head.keep_alive
        self._pending = b""
        """The head of the answer, to be written with what comes first behind it."""
        self._makes_chunks = False
        self._started_ns = clock.monotonic_ns()
        self.wants_content = False

    @property
    def is_watch(self) -> bool:
        """Whether it may wait for as long as it likes."""
        return b"wait=" in self._head.target

    @property
    def is_whole(self) -> bool:
        """Whether all of the request is there."""
        return self._is_whole

    def send(self, body: bytes, *, is_whole: bool) -> None:
        """Begin, with the body or the beginning of it."""
        self._body = body
        self._is_whole = self._is_kept = is_whole
        if self._roads.own_name in self._head.headers.via:
            # CVE-2020-15114: whatever made this proxy an endpoint of itself, it must not ask itself for ever.
            self._refuse(508, Drop.NO_ANSWER, b"the request came back to this proxy: a member advertises its URL")
            return
        self._endpoints = self._roads.director.available()
        if not self._endpoints:
            self._refuse(503, Drop.ZERO_ENDPOINTS, b"zero endpoints currently available")
            return
        self._try_next()

    def more(self, data: bytes, *, is_last: bool) -> None:
        """More of a body whose beginning was not all."""
        self._is_whole = is_last
        if self._connected is not None:
            self._connected.send(data, is_last=is_last)
            self._may_have_arrived = self._may_have_arrived or is_last
        else:
            self._body += data  # one read's worth: nothing is read while a connection is sought
            self._is_kept = is_last

    def body_broke(self, why: str) -> None:
        """The rest of the body cannot be understood."""
        self._is_whole = True
        if self._connected is not None:
            self._connected.cancel()
            self._connected = None
        self._answer_if_there(
            errors.message(500, b"httpproxy: failed to read request body: " + why.encode()), ends=True
        )

    def client_gone(self) -> None:
        """Nobody waits for the answer: the member is told, which ends a watch."""
        self._client = None
        if self._connected is not None:
            self._connected.cancel()
            self._connected = None

    def client_slow(self) -> None:
        """Read no more of the answer for now."""
        if self._connected is not None:
            self._connected.hold()

    def client_ready(self) -> None:
        """Read more of it."""
        if self._connected is not None:
            self._connected.go_on()

    # -- one endpoint after the other ---------------------------------------------------------------------------

    def _try_next(self) -> None:
        if self._tried == len(self._endpoints):
            count = b"%d" % len(self._endpoints)
            self._refuse(502, Drop.NO_ANSWER, b"unable to get response from " + count + b" endpoint(s)")
            return
        endpoint = self._endpoints[self._tried]
        self._tried += 1
        upstream = endpoint.take()
        self._is_reused = upstream is not None
        if upstream is not None:
            self.reached(upstream)
        else:
            self._dial(endpoint)

    def _dial(self, endpoint: Endpoint) -> None:
        if not self._is_whole and self._client is not None:
            self._client.hold()
        self._roads.dial(self, endpoint)

    def reached(self, upstream: Upstream) -> bool:
        """There is a connection; whether it is still wanted."""
        client = self._client
        if client is None:
            return False
        endpoint = self._endpoints[self._tried - 1]
        roads, hides_origin = self._roads, bool(self._cors)
        head = forwarded_head(
            self._head, self._address, roads.own_name, endpoint.host_header, hides_origin=hides_origin
        )
        self._connected = upstream
        self._may_have_arrived = self._is_whole
        is_head = self._head.method == b"HEAD"
        upstream.carry(self, head + self._body if self._body else head, to_head=is_head, is_whole=self._is_whole)
        if not self._is_whole:
            client.read_on()
        return True

    def not_reached(self, endpoint: Endpoint, error: str) -> None:
        """There is none."""
        if self._client is not None:
            self._roads.counts.dropped(self._head.method, Drop.NOT_SENT)
            endpoint.failed(error)
            self._try_next()

    def failed(self, error: str, *, has_begun: bool) -> None:
        """See `upstream.Call`."""
        self._connected = None
        client = self._client
        if client is None:
            return
        if has_begun:
            log.info("an answer was broken off", url=self._endpoints[self._tried - 1].url, error=error)
            self._client = None
            client.break_off()
            return
        endpoint = self._endpoints[self._tried - 1]
        self._roads.counts.dropped(self._head.method, Drop.NOT_SENT)
        may_repeat = self._is_kept and (self._head.method in _READS or not self._may_have_arrived)
        if self._is_reused:
            # It may have been closed for having been idle, which says nothing about the endpoint.
            self._is_reused = False
            if may_repeat:
                self._dial(endpoint)
                return
        else:
            endpoint.failed(error)
        if may_repeat:
            self._try_next()
        else:
            self._refuse(502, Drop.NO_ANSWER, b"unable to get response from %d endpoint(s)" % self._tried)

    def _refuse(self, status: int, drop: Drop, text: bytes) -> None:
        self._roads.counts.dropped(self._head.method, drop)
        if self._roads.repeats.is_news("refused", text.decode()):
            log.warning("request not answered by any member", error=text)
        self._answer_if_there(errors.message(status, b"httpproxy: " + text), ends=not self._is_whole)

    def _answer_if_there(self, answer: Answer, *, ends: bool) -> None:
        client, self._client = self._client, None
        if client is not None:
            answer.close = ends
            client.answer(answer)

    # -- the answer ---------------------------------------------------------------------------------------------

    def begun(self, head: AnswerHead) -> None:
        """See `upstream.Call`."""
        client = self._head
        self._roads.counts.handled(client.method, head.status, (clock.monotonic_ns() - self._started_ns) / 1e6)
        if not self._is_whole:
            self._keep_alive = False  # the rest of the request is read by nobody
        if self._keep_alive and head.whole and not client.http10 and not self._cors:
            self._pending = head.whole + b"\r\n"
            return
        lines = without_cors(head.lines) if self._cors else head.lines
        frame = b""
        if head.length == CHUNKED and client.http10:
            self.wants_content, self._keep_alive = True, False
        elif head.length == UNTIL_CLOSE and client.http10:
            self._keep_alive = False
        elif head.length < 0:
            self.wants_content = self._makes_chunks = head.length == UNTIL_CLOSE
            frame = b"Transfer-Encoding: chunked\r\n"
        if client.http10:
            lines = b"HTTP/1.0" + lines[len(b"HTTP/1.1") :]
            connection = b"Connection: keep-alive\r\n" if self._keep_alive else b""
        else:
            connection = b"" if self._keep_alive else b"Connection: close\r\n"
        self._pending = b"".join((lines, self._cors, frame, connection, b"\r\n"))

    def answered(self, data: bytes, content: list[bytes], *, is_over: bool) -> None:
        """See `upstream.Call`."""
        client = self._client
        if client is None:
            return
        parts = []
        if self._pending:
            parts.append(self._pending)
            self._pending = b""
        if not self.wants_content:
            if data:
                parts.append(data)
        elif self._makes_chunks:
            size = sum(map(len, content))
            parts += [b"%x\r\n" % size, *content, b"\r\n"] if size else []
            if is_over:
                parts.append(_LAST_CHUNK)
        else:
            parts += content
        if is_over:
            self._client = self._connected = None
        if parts:
            client.write(parts)
        if is_over:
            client.over(keep_alive=self._keep_alive)

    def endpoint_full(self) -> None:
        """See `upstream.Call`."""
        if self._client is not None and not self._is_whole:
            self._client.hold()

    def endpoint_ready(self) -> None:
        """See `upstream.Call`."""
        if self._client is not None and not self._is_whole:
            self._client.read_on()
