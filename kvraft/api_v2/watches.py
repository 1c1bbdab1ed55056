"""Open watches: from the hub's callbacks to chunks on a connection.

The headers leave at once; an event is one chunk. What a turn of the loop applies leaves for a stream in one write: a
system call and the waking of a client cost more than all else about an event. A client that reads slowly is given the
next event when it has taken those before, from the history: it costs no memory, and loses nothing unless the history
moves on beyond it.

A watch ends when its user loses the right to read what it watches, and when auth is turned on and the guest has none:
before an event behind that change can reach it.

Whenever this member ends a watch, the connection closes without the last chunk, as etcd's does: many clients take a
complete answer without an event for an error, and all of them ask again when a connection breaks. Only a client that
stops sending gets the end of its body: it has given up the watch itself.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, final

from kvraft import logs
from kvraft.api_v2.answers import Piece
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.key_requests import Watch
from kvraft.api_v2.key_responses import event_json, key_headers
from kvraft.api_v2.unread import TRANSPORT_BYTES
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.event_history import event_bytes
from kvraft.keyspace.events import Event
from kvraft.keyspace.watchers import CloseReason, Watcher
from kvraft.security.logins import Login

log = logs.get(__name__)

_RENDERED_BYTES_MAX: Final = 1 << 20
"""Events kept in the form in which they are sent; the last one is kept however large it is."""
_GATHERED_BYTES_MAX: Final = TRANSPORT_BYTES
"""Events that a stream is owed and not sent yet: with more a write costs little beside its bytes."""
_SAY_S: Final = 1.0
"""Watches that are closed within this time are told in one line."""


@final
@dataclass(slots=True, frozen=True)
class Grant:
    """By what right somebody watches."""

    login: Login
    """Whoever opened the watch; the guest if auth was off then."""
    key: bytes
    """As it stood in the path of the request, behind /v2/keys."""


@final
class Watches:
    """Every open watch of one server."""

    def __init__(self, backend: Backend, guard: Guard) -> None:
        self._backend = backend
        self._guard = guard
        backend.watchers.on_rights_changed.append(self._judge_anew)
        self._open: Final[set[_OpenWatch]] = set()
        self._rendered: dict[int, Piece] = {}
        """The newest events sent, by index: one goes to all its watchers in a row, and to the slow ones soon after."""
        self._rendered_bytes = 0
        self._due: dict[_OpenWatch, None] = {}
        """Streams with events that have not left."""
        self._behind_count = 0

    def open(self, request: Watch, exchange: Exchange, grant: Grant) -> EtcdError | None:
        """Start a watch that was found to be allowed; the error that is to be answered if its history is gone."""
        backend = self._backend
        watch = _OpenWatch(self, exchange, grant)
        watcher = backend.watchers.watch(
            request.path,
            recursive=request.recursive,
            stream=request.stream,
            since_index=request.wait_index,
            on_event=watch.on_event,
            on_close=watch.on_close,
        )
        if isinstance(watcher, EtcdError):
            return watcher
        self._open.add(watch)
        exchange.begin(200, key_headers(backend.cluster_id, watcher.start_index, backend.raft_index, backend.raft_term))
        watch.start(watcher)
        return None

    def end_all(self) -> None:
        """Close the connection of every watch: its client asks again, elsewhere."""
        for watch in list(self._open):
            watch.break_off()

    def _judge_anew(self) -> None:
        """Users, roles or auth have changed: whoever may not watch any more is told no further event.

        A watch from before auth is its guest's, since nobody has asked who opened it.
        """
        guard = self._guard
        if not guard.is_on:
            return
        ended = [watch for watch in self._open if not watch.is_allowed(guard)]
        for watch in ended:
            watch.break_off()
        if ended:
            log.info("watches closed", reason="their users may not read that any more", watches=len(ended))

    def forget(self, watch: "_OpenWatch") -> None:
        """A watch is over."""
        self._open.discard(watch)

    def rendered(self, event: Event) -> Piece:
        """The event as watchers see it: the same bytes wait in front of every socket."""
        piece = self._rendered.get(event.etcd_index)
        if piece is None:
            size = event_bytes(event)
            self._rendered_bytes += size
            if self._rendered_bytes > _RENDERED_BYTES_MAX:
                self._rendered.clear()
                self._rendered_bytes = size
            piece = self._rendered[event.etcd_index] = Piece(event_json(event))
        return piece

    def send_soon(self, watch: "_OpenWatch") -> None:
        """A stream has got the first of the events that leave together."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._send_due)
        self._due[watch] = None

    def _send_due(self) -> None:
        """Send what has gathered."""
        due, self._due = self._due, {}
        for watch in due:
            watch.send_gathered()

    def count_behind(self) -> None:
        """A watch is closed because the history no longer reaches back to where it stands."""
        if not self._behind_count:
            asyncio.get_running_loop().call_later(_SAY_S, self._say_behind)
        self._behind_count += 1

    def _say_behind(self) -> None:
        log.info("watches closed", reason=CloseReason.CLEARED.value, watches=self._behind_count)
        self._behind_count = 0


@final
class _OpenWatch:
    """One watch: a watcher of the hub and the exchange that its events leave by."""

    __slots__ = ("_exchange", "_gathered_bytes", "_grant", "_pieces", "_watcher", "_watches")

    def __init__(self, watches: Watches, exchange: Exchange, grant: Grant) -> None:
        self._watches = watches
        self._exchange = exchange
        self._grant = grant
        self._watcher: Watcher | None = None
        self._pieces: list[Piece] = []
        """Events that have not left."""
        self._gathered_bytes = 0

    def is_allowed(self, guard: Guard) -> bool:
        """Whether its user may go on."""
        grant, watcher = self._grant, self._watcher
        return watcher is None or guard.may(grant.login, grant.key, write=False, recursive=watcher.recursive)

    def start(self, watcher: Watcher) -> None:
        """The headers have left: events may follow."""
        self._watcher = watcher
        self._exchange.on_gone = self._on_gone
        self._exchange.on_last_request = self._on_last_request
        self._exchange.on_writable = self._on_writable
        if not watcher.live:
            self._catch_up()
        if self._exchange.is_last and self._watcher is not None:
            self._on_last_request()

    def _catch_up(self) -> None:
        """Deliver from the history, a slice at a time."""
        watcher = self._watcher
        if watcher is not None and watcher.open and watcher.catch_up():
            asyncio.get_running_loop().call_soon(self._catch_up)

    def on_event(self, event: Event) -> None:
        """Send an event; it is the last one unless the watch is a stream. Called by the hub."""
        watcher = self._watcher
        assert watcher is not None  # the hub delivers nothing before `start`
        piece = self._watches.rendered(event)
        if not watcher.stream:
            self._over()
            self._exchange.end_with(piece)
            return
        size = len(piece.data)
        if self._gathered_bytes + size > _GATHERED_BYTES_MAX:
            self.send_gathered()
        if not self._pieces:
            self._watches.send_soon(self)
        self._pieces.append(piece)
        self._gathered_bytes += size
        if self._exchange.is_writable():
            # Also what we have not sent yet: nobody is to be left behind for that.
            watcher.consumed()

    def send_gathered(self) -> None:
        """Send what it is owed."""
        pieces = self._pieces
        if not pieces:
            return  # sent before its turn
        self._pieces, self._gathered_bytes = [], 0
        self._exchange.send(pieces)

    def on_close(self, reason: CloseReason) -> None:
        """Show the client that events are missing. Called by the hub."""
        assert reason is CloseReason.CLEARED
        self._watches.count_behind()
        self._over()
        self._exchange.break_off()

    def _on_writable(self) -> None:
        """The client has taken what was sent."""
        watcher = self._watcher
        if watcher is not None:
            watcher.consumed()
            if not watcher.live:
                self._catch_up()

    def _on_gone(self) -> None:
        self._cancel()

    def _on_last_request(self) -> None:
        """The client has stopped sending: Go ends the handler then, which completes the body."""
        self._cancel()
        self._exchange.end()

    def break_off(self) -> None:
        """End the watch for no fault of its client's, who may not have taken yet what was sent."""
        self._cancel()
        if self._exchange.is_writable():
            self._exchange.break_off()
        else:
            # Whoever reads slowly must not hold up a stop.
            self._exchange.abort()

    def _cancel(self) -> None:
        watcher = self._watcher
        self._over()
        if watcher is not None:
            watcher.cancel()

    def _over(self) -> None:
        """Nothing follows; what has not left yet does now."""
        self.send_gathered()
        self._watcher = None
        exchange = self._exchange
        exchange.on_gone = exchange.on_last_request = exchange.on_writable = None
        self._watches.forget(self)
