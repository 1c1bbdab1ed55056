"""/v2/keys: asks the member for what a request wants, and answers with what it says.

Requests and failures are counted where etcd counts them (v3.4.23 etcdserver/api/v2http/client.go, keysHandler): none
that could not be understood, watches among the failures only, and a quorum read as a method of its own.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, final

from kvraft.api_v2.answers import DECLARED_LENGTH_MAX, Answer, Piece
from kvraft.api_v2.backend import Abandon, Backend, Written
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import BUSY, DENIED, JUDGEMENTS_MAX, RESTLESS, Guard, Standing, Unknown
from kvraft.api_v2.key_requests import KeyRequest, Read, Watch, Write, parse_key_request
from kvraft.api_v2.key_responses import error_answer, headers_of_reads, written_answer
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.watches import Grant, Watches
from kvraft.keyspace.accounts import AccountsChanged
from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.listing import Listing
from kvraft.metrics import Metrics
from kvraft.security.logins import GUEST, Login

KEYS_PREFIX: Final = b"/v2/keys"
WAIT_AHEAD_MAX: Final = 100
"""A watch may wait for an event so far in the future: clients ask for the next one, and tests for one soon after."""
_LABELS: Final = {method.encode(): method for method in ("GET", "HEAD", "PUT", "POST", "DELETE")}
"""The methods as they are counted."""
_GET: Final = b'{"action":"get","node":'
_BEGINNING: Final = Piece(_GET)
_END: Final = Piece(b"}\n")
_EASY_BYTES: Final = 64 << 10
_EASY_PAIRS: Final = 10_000
"""Forms with more parameters than this, about 10 ms of work, are parsed on a thread."""
_LABORIOUS_BYTES_MAX: Final = 64 << 20
"""Of such forms at once. One more: 500/300 `etcdserver: too many requests`."""
_LAST_REQUEST_S: Final = 1.0
"""So long a write or quorum read may wait whose client sends nothing more."""
TIMED_OUT: Final = EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: request timed out")
TOO_MANY_REQUESTS: Final = EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: too many requests")
_LONG_BODY: Final = bytes(DECLARED_LENGTH_MAX + 1)
"""Stands for any body whose length is not declared, where only the head is sent."""


@final
class Keys:
    """The key space as clients see it."""

    def __init__(self, backend: Backend, settings: ApiSettings, metrics: Metrics, guard: Guard) -> None:
        self._backend = backend
        self._guard = guard
        self._settings = settings
        self._metrics = metrics
        self._watches: Final = Watches(backend, guard)
        self._unopened: Final[set[Exchange]] = set()
        """Watches whose index is being checked."""
        self._laborious_bytes = 0

    def handle(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        content_type: bytes | None,
        body: bytes,
        exchange: Exchange,
    ) -> None:
        """Answer a request, now or later. `method` is one of the five that keys have, `path` is clean."""
        backend = self._backend
        if len(query) + len(body) > _EASY_BYTES and query.count(b"&") + body.count(b"&") > _EASY_PAIRS:
            self._handle_laborious(method, path, query, content_type, body, exchange)
            return
        try:
            request = parse_key_request(method, key_of(path), query, content_type, body, backend.wall_ns)
        except EtcdError as error:
            exchange.answer(error_answer(error, backend.cluster_id))
            return
        self._perform(_LABELS[method], request, path, exchange)

    def _handle_laborious(
        self, method: bytes, path: bytes, query: bytes, content_type: bytes | None, body: bytes, exchange: Exchange
    ) -> None:
        """Parse a form of very many parameters on a thread: millions of them fit a body and take seconds."""
        size = len(query) + len(body)
        if self._laborious_bytes + size > _LABORIOUS_BYTES_MAX:
            exchange.answer(error_answer(TOO_MANY_REQUESTS, self._backend.cluster_id))
            return
        self._laborious_bytes += size
        parsing = asyncio.get_running_loop().run_in_executor(
            None, parse_key_request, method, key_of(path), query, content_type, body, self._backend.wall_ns
        )

        def parsed(future: asyncio.Future[KeyRequest]) -> None:
            self._laborious_bytes -= size
            try:
                request = future.result()
            except EtcdError as error:
                exchange.answer(error_answer(error, self._backend.cluster_id))
            else:
                self._perform(_LABELS[method], request, path, exchange)

        parsing.add_done_callback(parsed)

    def _perform(self, label: str, request: KeyRequest, path: bytes, exchange: Exchange) -> None:
        """Do what was asked for. `label` is the method as it is counted."""
        guard = self._guard
        if not guard.is_on:
            self._carry_out(label, request, path, exchange, None)
            return
        known = guard.standing(exchange)
        if known is None:
            self._judge(label, request, path, exchange)
        else:
            self._admit(label, request, path, exchange, known, JUDGEMENTS_MAX - 1)

    def _judge(
        self, label: str, request: KeyRequest, path: bytes, exchange: Exchange, judgements_left: int = JUDGEMENTS_MAX
    ) -> None:
        """Do what was asked for if whoever asks has the right, by the accounts of this moment."""
        if not judgements_left:
            self._fail(label, RESTLESS, exchange)
            return

        def identified(login: Login | Unknown) -> None:
            if not exchange.is_open:
                return  # gone while his password was compared
            if not self._guard.is_on:
                self._carry_out(label, request, path, exchange, None, judgements_left - 1)
            elif isinstance(login, Login):
                self._admit(label, request, path, exchange, self._guard.standing_of(login), judgements_left - 1)
            elif login is Unknown.BUSY:
                self._fail(label, BUSY, exchange)
            else:
                exchange.answer(error_answer(DENIED, self._backend.cluster_id))

        if self._guard.is_on:
            self._guard.identify(exchange, identified)
        else:
            identified(GUEST)  # whoever he is: no password is compared

    def _admit(
        self, label: str, request: KeyRequest, path: bytes, exchange: Exchange, who: Standing, judgements_left: int
    ) -> None:
        """Do what was asked for if who asks may do it."""
        exchange.user = who.login.name
        if who.may(path[len(KEYS_PREFIX) :], write=isinstance(request, Write), recursive=request.recursive):
            self._carry_out(label, request, path, exchange, who, judgements_left)
        else:
            exchange.answer(error_answer(DENIED, self._backend.cluster_id))

    def _carry_out(
        self,
        label: str,
        request: KeyRequest,
        path: bytes,
        exchange: Exchange,
        who: Standing | None,
        judgements_left: int = JUDGEMENTS_MAX,
    ) -> None:
        """Do what `who` may do; None while auth is off. Judge again if accounts change before it is done."""
        if isinstance(request, Write):
            self._metrics.http_received.add(1, label)
            self._write(label, request, path, exchange, who, judgements_left)
            return
        backend = self._backend
        revision = self._guard.accounts.revision

        def again() -> None:
            self._judge(label, request, path, exchange, judgements_left)

        if isinstance(request, Read):
            if request.quorum:
                self._metrics.http_received.add(1, "QGET")
                self._read_after_barrier(request, exchange, revision, again)
            else:
                self._metrics.http_received.add(1, label)
                self._read(label, request, exchange)
        else:
            self._metrics.store_watch_requests.add()
            grant = Grant(GUEST if who is None else who.login, path[len(KEYS_PREFIX) :])
            if request.wait_index > backend.keyspace.etcd_index + WAIT_AHEAD_MAX:
                self._watch_after_barrier(label, request, exchange, grant, revision, again)
            else:
                self._watch(label, request, exchange, grant)

    def _write(
        self, label: str, request: Write, path: bytes, exchange: Exchange, who: Standing | None, judgements_left: int
    ) -> None:
        backend = self._backend
        command: Command = request.command
        # Who may write a key and not read it is not told by his write what stood there.
        blind = False
        if who is not None:
            command = self._guard.judged(command)
            blind = not who.may(path[len(KEYS_PREFIX) :], write=False, recursive=False)

        def done(outcome: Written | EtcdError) -> None:
            try:
                if isinstance(outcome, EtcdError):
                    self._fail(label, outcome, exchange)
                elif type(outcome.event) is AccountsChanged:
                    self._judge(label, request, path, exchange, judgements_left)
                else:
                    answer = written_answer(outcome, backend.cluster_id, quiet=request.quiet, blind=blind)
                    self._answer(label, answer, exchange)
            except Exception:
                exchange.abort()  # its client must not wait for an answer that cannot be made
                raise

        self._wait(label, exchange, backend.submit(command, done))

    def _wait(self, label: str, exchange: Exchange, abandon: Abandon) -> None:
        """Let go of what is waited for when the client has gone.

        One that has stopped sending may be there still, as `nc -N` is, and has some time to get its answer; nearly all
        such clients have closed their connections, which looks the same from here.
        """
        if not exchange.is_open:
            abandon()
            return
        exchange.on_gone = abandon
        exchange.on_last_request = partial(self._on_last_request, label, exchange, abandon)
        if exchange.is_last:
            exchange.on_last_request()

    def _on_last_request(self, label: str, exchange: Exchange, abandon: Abandon) -> None:
        def presume_gone() -> None:
            if exchange.on_gone is abandon:
                abandon()
                self._fail(label, TIMED_OUT, exchange)

        asyncio.get_running_loop().call_later(_LAST_REQUEST_S, presume_gone)

    def end_watches(self) -> None:
        """End every watch, open or not yet (the server stops)."""
        self._watches.end_all()
        for exchange in self._unopened:
            exchange.break_off()

    def _fail(self, label: str, error: EtcdError, exchange: Exchange) -> None:
        """Answer that what was asked for was not done."""
        self._answer(label, error_answer(error, self._backend.cluster_id), exchange)

    def _answer(self, label: str, answer: Answer, exchange: Exchange) -> None:
        if answer.status >= 400:
            self._metrics.http_failed.add(1, str(answer.status), label)
        exchange.answer(answer)

    def _watch(self, label: str, request: Watch, exchange: Exchange, grant: Grant) -> None:
        error = self._watches.open(request, exchange, grant)
        if error is not None:
            self._fail(label, error, exchange)

    def _watch_after_barrier(
        self, label: str, request: Watch, exchange: Exchange, grant: Grant, revision: int, again: Callable[[], None]
    ) -> None:
        """Open a watch at an index far beyond this member's, unless it is beyond the cluster's too.

        What a client has seen of this cluster is committed, so a member that has passed a barrier since is not behind
        it. Who asks for more has it from before the cluster was founded anew, and would wait for ever, or until the
        index comes round with everything before it missed. Without a quorum nobody can tell: it waits, as on etcd.
        """

        def over() -> None:
            self._unopened.discard(exchange)
            exchange.on_gone = exchange.on_last_request = None

        def done(error: EtcdError | None) -> None:
            over()
            last, wanted = self._backend.keyspace.etcd_index, request.wait_index
            try:
                if self._guard.accounts.revision != revision:
                    again()
                elif error is None and wanted > last + WAIT_AHEAD_MAX:
                    cause = b"the requested index is beyond every event of this cluster [%d/%d]" % (last, wanted)
                    self._fail(label, EtcdError(ErrorCode.EVENT_INDEX_CLEARED, cause, last), exchange)
                elif exchange.is_open:
                    self._watch(label, request, exchange, grant)
            except Exception:
                exchange.abort()
                raise

        self._unopened.add(exchange)
        abandon = self._backend.read_barrier(done)

        def gone() -> None:
            over()
            abandon()

        def last_request() -> None:
            gone()
            if self._guard.accounts.revision != revision:
                again()
            else:
                self._watch(label, request, exchange, grant)  # it ends there, as every watch does then

        exchange.on_gone = gone
        exchange.on_last_request = last_request
        if exchange.is_last:
            last_request()

    def _read_after_barrier(self, request: Read, exchange: Exchange, revision: int, again: Callable[[], None]) -> None:
        def done(error: EtcdError | None) -> None:
            try:
                if error is not None:
                    self._fail("QGET", error, exchange)
                elif self._guard.accounts.revision != revision:
                    again()
                else:
                    self._read("QGET", request, exchange)
            except Exception:
                exchange.abort()
                raise

        self._wait("QGET", exchange, self._backend.read_barrier(done))

    def _read(self, label: str, request: Read, exchange: Exchange) -> None:
        """Answer from the local keyspace."""
        backend = self._backend
        keyspace = backend.keyspace
        node = keyspace.get(
            request.path, recursive=request.recursive, in_order=request.sort, clock_ms=backend.log_clock_ms()
        )
        if isinstance(node, EtcdError):
            self._fail(label, node, exchange)
            return
        headers = headers_of_reads(backend.cluster_id, keyspace.etcd_index, backend.raft_index, backend.raft_term)
        if isinstance(node, bytes):
            exchange.answer(Answer(200, headers, b"%b%b}\n" % (_GET, node)))
        elif exchange.is_head:
            if isinstance(node, Listing):
                node.close()
            exchange.answer(Answer(200, headers, _LONG_BODY))
        elif isinstance(node, tuple):
            exchange.begin(200, headers)
            exchange.send_parts(_GET, *node, b"}\n")
            exchange.end()
        else:
            exchange.begin(200, headers)
            _ListingSender(node, exchange).start()


def key_of(path: bytes) -> bytes:
    """The key that a clean path under /v2/keys names: rooted, without a trailing slash."""
    key = path[len(KEYS_PREFIX) :]
    if key.endswith(b"/"):
        key = key[:-1]
    return key or b"/"


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
        exchange.send([_BEGINNING])
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
            self._exchange.send_parts(fragment)
        self._plan()
