"""One request's way out: whoever answers writes here, whichever front the request came through."""

from collections.abc import Callable
from typing import Protocol, final

from kvraft.api_v2.answers import Answer, Framing, Piece, answer_parts, stream_end, stream_head, stream_parts
from kvraft.api_v2.asker import Asker


class Connection(Protocol):
    """What an exchange needs of the connection that its request came on. Both fronts have one."""

    def common_headers(self) -> bytes:
        """Header lines of every answer at this moment: Date, CORS."""
        ...

    def asker(self) -> Asker:
        """Who has sent the request that is being answered; made when somebody wants to know."""
        ...

    def token(self) -> bytes:
        """Stands for what that request says of its sender, and is never said by another one; empty for nothing."""
        ...

    def write(self, parts: list[bytes]) -> None:
        """Queue bytes for the client. Never blocks."""
        ...

    def is_writable(self) -> bool:
        """False while the client has left too much unread; `Exchange.on_writable` is called when that is over."""
        ...

    def abort(self) -> None:
        """Drop the connection at once, with what is queued."""
        ...

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The answer is complete; the next request may come, or the connection ends once everything has left."""
        ...


@final
class Exchange:
    """The answer to one request: either `answer` once, or `begin`, then pieces, then one of the ends.

    Everything is ignored once the client has gone, so that nobody has to ask before answering.
    """

    __slots__ = (
        "_connection",
        "_framing",
        "_keep_alive",
        "change",
        "is_last",
        "on_gone",
        "on_last_request",
        "on_status",
        "on_writable",
        "user",
    )

    def __init__(self, connection: Connection, framing: Framing) -> None:
        self._connection: Connection | None = connection
        self._framing = framing
        self._keep_alive = False
        self.user = ""
        """Who asks, as far as somebody wanted to know; empty for the guest, and while auth is off."""
        self.change = ""
        """What of users, roles, auth or members he wants to change, without passwords."""
        self.on_status: Callable[[int], None] | None = None
        """Called once with the status as the answer begins, or with 0 if the client has gone before."""
        self.is_last = False
        """Whether it is known that the client sends nothing more."""
        self.on_gone: Callable[[], None] | None = None
        """Called once if the client goes away before the answer is complete."""
        self.on_last_request: Callable[[], None] | None = None
        """Called once if the client stops sending before the answer is complete; it may read on."""
        self.on_writable: Callable[[], None] | None = None
        """Called when a client that had left too much unread has caught up."""

    @property
    def is_head(self) -> bool:
        """Whether the client wants to see the head only."""
        return self._framing.head

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for this answer."""
        return self._connection is not None

    def token(self) -> bytes:
        """Stands for who asks; empty if nothing does, or if he has gone."""
        return b"" if self._connection is None else self._connection.token()

    def asker(self) -> Asker | None:
        """Who asks; None if he has gone."""
        return None if self._connection is None else self._connection.asker()

    def is_writable(self) -> bool:
        """False while the client has left too much unread, or has gone."""
        return self._connection is not None and self._connection.is_writable()

    def answer(self, answer: Answer) -> None:
        """Send a whole answer."""
        connection = self._connection
        if connection is None:
            return
        # What waited for the answer goes now, and not with the next collection: its callbacks know this exchange.
        self._connection = self.on_gone = self.on_last_request = None
        if self.on_status is not None:
            self._tell_status(answer.status)
        parts, keep_alive = answer_parts(answer, self._framing, connection.common_headers())
        connection.write(parts)
        connection.exchange_over(keep_alive=keep_alive)

    def begin(self, status: int, headers: bytes) -> None:
        """Send the head of a streamed answer now, so that the client knows that it is connected."""
        connection = self._connection
        if connection is None:
            return
        if self.on_status is not None:
            self._tell_status(status)
        head, self._keep_alive = stream_head(status, headers, self._framing, connection.common_headers())
        connection.write([head])

    def send(self, pieces: list[Piece]) -> None:
        """Send pieces of a streamed answer, at least one, together."""
        if self._connection is not None:
            self._connection.write([piece.framed(self._framing) for piece in pieces])

    def send_parts(self, *parts: bytes) -> None:
        """Send one piece of a streamed answer, not empty, whose parts are not copied for it."""
        if self._connection is not None:
            self._connection.write(stream_parts(parts, self._framing))

    def end_with(self, piece: Piece) -> None:
        """Send the last piece of a streamed answer."""
        self._end(piece.framed_last(self._framing), keep_alive=self._keep_alive)

    def end(self) -> None:
        """Complete a streamed answer."""
        self._end(stream_end(self._framing), keep_alive=self._keep_alive)

    def break_off(self) -> None:
        """Close the connection after what was sent: the client sees that the streamed answer is not complete."""
        self._end([], keep_alive=False)

    def _end(self, parts: list[bytes], *, keep_alive: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        self._forget()
        if parts:
            connection.write(parts)
        connection.exchange_over(keep_alive=keep_alive)

    def abort(self) -> None:
        """Drop the connection where it stands, with what the client has not taken yet."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def last_request(self) -> None:
        """The client sends no more. Called by the front as soon as it knows, unless this answer is complete."""
        self.is_last = True
        if self.on_last_request is not None:
            self.on_last_request()

    def gone(self) -> None:
        """The connection is lost. Called by the front, which makes no further use of this exchange."""
        on_gone = self.on_gone
        self._forget()
        if self.on_status is not None:
            self._tell_status(0)
        if on_gone is not None:
            on_gone()

    def _tell_status(self, status: int) -> None:
        on_status, self.on_status = self.on_status, None
        if on_status is not None:
            on_status(status)

    def _forget(self) -> None:
        self._connection = self.on_gone = self.on_last_request = self.on_writable = None
