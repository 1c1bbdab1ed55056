"""/v2/keys: asks the member for what a request wants, and answers with what it says."""

import asyncio
from typing import Final, final

from kvraft.api_v2.answers import DECLARED_LENGTH_MAX, Answer
from kvraft.api_v2.backend import Backend, Written
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.key_requests import KeyRequest, Read, Watch, parse_key_request
from kvraft.api_v2.key_responses import error_answer, key_headers, written_answer
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.watches import Watches
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.listing import Listing
from kvraft.metrics import Metrics

_GET: Final = b'{"action":"get","node":'
_END: Final = b"}\n"
_EASY_BYTES: Final = 64 << 10
_EASY_PAIRS: Final = 10_000
"""Forms with more parameters than this, about 10 ms of work, are parsed on a thread."""
_LONG_BODY: Final = bytes(DECLARED_LENGTH_MAX + 1)
"""Stands for any body whose length is not declared, where only the head is sent."""


@final
class Keys:
    """The key space as clients see it."""

    def __init__(self, backend: Backend, settings: ApiSettings, metrics: Metrics) -> None:
        self._backend = backend
        self._settings = settings
        self._metrics = metrics
        self._watches: Final = Watches(backend)

    def handle(
        self,
        method: bytes,
        key: bytes,
        query: bytes,
        content_type: bytes | None,
        body: bytes,
        exchange: Exchange,
    ) -> None:
        """Answer a request, now or later. `method` is one of the five that keys have, `key` is rooted and clean."""
        backend = self._backend
        if len(query) + len(body) > _EASY_BYTES and query.count(b"&") + body.count(b"&") > _EASY_PAIRS:
            self._handle_laborious(method, key, query, content_type, body, exchange)
            return
        try:
            request = parse_key_request(method, key, query, content_type, body, backend.wall_ns)
        except EtcdError as error:
            self._fail(error, exchange)
            return
        self._perform(request, exchange)

    def _handle_laborious(
        self, method: bytes, key: bytes, query: bytes, content_type: bytes | None, body: bytes, exchange: Exchange
    ) -> None:
        """Parse a form of very many parameters on a thread: millions of them fit a body and take seconds."""
        parsing = asyncio.get_running_loop().run_in_executor(
            None, parse_key_request, method, key, query, content_type, body, self._backend.wall_ns
        )

        def parsed(future: asyncio.Future[KeyRequest]) -> None:
            try:
                request = future.result()
            except EtcdError as error:
                self._fail(error, exchange)
            else:
                self._perform(request, exchange)

        parsing.add_done_callback(parsed)

    def _perform(self, request: KeyRequest, exchange: Exchange) -> None:
        """Do what was asked for."""
        backend = self._backend
        if isinstance(request, Read):
            if request.quorum:
                self._read_after_barrier(request, exchange)
            else:
                self._read(request, exchange)
        elif isinstance(request, Watch):
            self._metrics.store_watch_requests.add()
            self._watches.open(request, exchange)
        else:
            quiet = request.quiet

            def done(outcome: Written | EtcdError) -> None:
                if isinstance(outcome, EtcdError):
                    self._fail(outcome, exchange)
                else:
                    exchange.answer(written_answer(outcome, backend.cluster_id, quiet=quiet))

            backend.submit(request.command, done)

    def end_watches(self) -> None:
        """End every open watch (the server stops)."""
        self._watches.end_all()

    def _fail(self, error: EtcdError, exchange: Exchange) -> None:
        exchange.answer(error_answer(error, self._backend.cluster_id))

    def _read_after_barrier(self, request: Read, exchange: Exchange) -> None:
        def done(error: EtcdError | None) -> None:
            if error is not None:
                self._fail(error, exchange)
            else:
                self._read(request, exchange)

        self._backend.read_barrier(done)

    def _read(self, request: Read, exchange: Exchange) -> None:
        """Answer from the local keyspace."""
        backend = self._backend
        keyspace = backend.keyspace
        node = keyspace.get(
            request.path, recursive=request.recursive, in_order=request.sort, clock_ms=backend.log_clock_ms()
        )
        if isinstance(node, EtcdError):
            self._fail(node, exchange)
            return
        headers = key_headers(backend.cluster_id, keyspace.etcd_index, backend.raft_index, backend.raft_term)
        if isinstance(node, bytes):
            exchange.answer(Answer(200, headers, b"%b%b}\n" % (_GET, node)))
        elif exchange.is_head:
            node.close()
            exchange.answer(Answer(200, headers, _LONG_BODY))
        else:
            exchange.begin(200, headers)
            _ListingSender(node, exchange).start()


@final
class _ListingSender:
    """Sends a long listing a fragment at a time, so that neither the loop nor the memory is held by it."""

    __slots__ = ("_exchange", "_listing")

    def __init__(self, listing: Listing, exchange: Exchange) -> None:
        self._listing = listing
        self._exchange = exchange

    def start(self) -> None:
        """Send the beginning now, the fragments in later turns of the loop."""
        exchange = self._exchange
        exchange.on_gone = self._listing.close
        exchange.on_writable = self._step
        exchange.chunk(_GET)
        self._plan()

    def _plan(self) -> None:
        if self._exchange.is_writable():
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        """Send a fragment. Planned by the step before, or called when the client has made room."""
        if not self._listing.open and not self._exchange.is_open:
            return
        fragment = next(self._listing, None)
        if fragment is None:
            self._exchange.on_writable = None
            self._exchange.end_with(_END)
            return
        if fragment:
            self._exchange.chunk(fragment)
        self._plan()
