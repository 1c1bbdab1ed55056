"""One connection to an endpoint: requests go out on it one after the other, and their answers come back."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast, final

from kvraft.proxy.bodies import Body, BrokenBodyError, body_of
from kvraft.proxy.heads import UNTIL_CLOSE, AnswerHead, GarbageError, read_answer

_HEAD_BYTES_MAX: Final = 256 << 10
"""Of an answer: far more than a member ever says."""
_BUFFER_BYTES: Final = 64 << 10
"""A request goes on being read while no more than this waits in front of the endpoint's socket."""
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200


class Call(Protocol):
    """A request under way on a connection."""

    wants_content: bool
    """Whether it wants the pieces of a body without their frame. Asked behind the head."""

    def begun(self, head: AnswerHead) -> None:
        """The answer begins; the first of its body follows at once, be it nothing."""
        ...

    def answered(self, data: bytes, content: list[bytes], *, is_over: bool) -> None:
        """More of the answer: bytes as they came; what is in them, if that is wanted."""
        ...

    def failed(self, error: str, *, has_begun: bool) -> None:
        """There will be no more of it; `has_begun`: the head has been passed on."""
        ...

    def endpoint_full(self) -> None:
        """Send no more of the request for now."""
        ...

    def endpoint_ready(self) -> None:
        """Send more of it."""
        ...


@final
class Upstream(asyncio.Protocol):
    """A connection. Of one call at a time; `release` gets it back when it can take another."""

    __slots__ = (
        "_body",
        "_buffer",
        "_call",
        "_head",
        "_is_sent",
        "_is_to_head",
        "_is_unwanted",
        "_release",
        "_timer",
        "_transport",
        "_wait_s",
        "_write_s",
        "idle_sweeps",
    )

    def __init__(self, release: "Callable[[Upstream], None]", read_timeout_ms: int, write_timeout_ms: int) -> None:
        self._release = release
        self._wait_s = read_timeout_ms / 1000
        self._write_s = write_timeout_ms / 1000
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._is_to_head = False
        self._is_sent = True
        """The whole of the request has been written."""
        self._buffer = b""
        """A head whose end has not come."""
        self._head: AnswerHead | None = None
        self._body: Body | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_unwanted = False
        self.idle_sweeps = 0

    # -- for whoever has a call ---------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether it is still there."""
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, call: Call, data: bytes, *, to_head: bool, is_whole: bool) -> None:
        """Send a request, or its beginning."""
        assert self._call is None, "one at a time"
        assert self._transport is not None, "asked before"
        self._call, self._is_to_head, self._is_sent = call, to_head, is_whole
        self._head = self._body = None
        self.idle_sweeps = 0
        self._transport.write(data)
        if self._wait_s:
            self._wait()

    def send(self, data: bytes, *, is_last: bool) -> None:
        """Send more of it."""
        if self._transport is not None:
            self._transport.write(data)
        self._is_sent = is_last

    def hold(self) -> None:
        """Read no more of the answer for now."""
        if self._transport is not None:
            self._transport.pause_reading()
        self._rest()

    def go_on(self) -> None:
        """Read more of it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            if self._call is not None and self._wait_s:
                self._wait()

    def cancel(self) -> None:
        """Nobody waits for the answer any more: the endpoint is told so by the end of the connection."""
        self._call = None
        self._rest()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """It is not needed any more, even if it has not come about yet."""
        self._is_unwanted = True
        self._rest()
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There it is."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_BUFFER_BYTES)
        if self._is_unwanted:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Find the head, then pass the body on."""
        call = self._call
        if call is None:  # nobody has asked: whatever it is, it would be taken for the next answer
            self.cancel()
            return
        if self._timer is not None:
            self._wait()
        try:
            if self._head is None:
                self._read_head(call, self._buffer + data if self._buffer else data)
            else:
                self._pass_on(call, data)
        except (GarbageError, BrokenBodyError) as error:
            self._fail(str(error))

    def _read_head(self, call: Call, buffer: bytes) -> None:
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(buffer) > _HEAD_BYTES_MAX or not buffer.startswith(b"HTTP/1."[: len(buffer)]):
                    raise GarbageError("what it answers is no HTTP")
                self._buffer = buffer
                return
            head = read_answer(buffer[: end + 2], to_head=self._is_to_head)
            buffer = buffer[end + 4 :]
            if head.status == _SWITCHING_PROTOCOLS:
                raise GarbageError("it switches to a protocol that nobody has asked for")
            if head.status >= _OK:
                break
        self._buffer = b""
        self._head = head
        self._body = body_of(head.length)
        call.begun(head)
        self._pass_on(call, buffer)

    def _pass_on(self, call: Call, data: bytes) -> None:
        body = self._body
        assert body is not None, "it comes with the head"
        content: list[bytes] = []
        used = 0
        if data and not body.is_over:
            used = body.feed(data, content if call.wants_content else None)
        is_over = body.is_over
        if is_over:
            self._end(has_more=used < len(data))
        call.answered(data[:used] if used < len(data) else data, content, is_over=is_over)

    def _end(self, *, has_more: bool) -> None:
        """The answer is complete: another request may go out, if the connection is clean."""
        head = self._head
        assert head is not None, "it came before its body"
        self._call = None
        self._rest()
        if has_more or not head.keep_alive or not self._is_sent or not self.is_usable:
            self.close()
        else:
            self._release(self)

    def eof_received(self) -> bool:
        """It sends no more: the end of a body that has no other."""
        self._over("it closed the connection in the midst of its answer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        reason = f"the connection was lost: {exc}" if exc is not None else "it closed the connection without an answer"
        self._over(reason)

    def _over(self, reason: str) -> None:
        call, head = self._call, self._head
        if call is None:
            self._rest()
        elif head is not None and head.length == UNTIL_CLOSE:
            self._call = None
            self._rest()
            call.answered(b"", [], is_over=True)
        else:
            self._fail(reason)

    def pause_writing(self) -> None:
        """The endpoint takes no more for now."""
        if self._call is not None:
            self._call.endpoint_full()
            if self._write_s:
                self._plan(self._write_s, "it takes nothing of the request")

    def resume_writing(self) -> None:
        """It does again."""
        self._rest()
        if self._call is not None:
            self._call.endpoint_ready()
            if self._wait_s:
                self._wait()

    # -- time ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self._wait_s and self._call is not None:
            self._plan(self._wait_s, "it says nothing")

    def _plan(self, wait_s: float, why: str) -> None:
        self._rest()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._fail, f"{why} for {wait_s:g} s")

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, reason: str) -> None:
        call, self._call = self._call, None
        self._rest()
        if self._transport is not None:
            self._transport.abort()
        if call is not None:
            call.failed(reason, has_begun=self._head is not None)
