"""Every request, whichever front it came through, is answered from here: by `routes`, once its form is beyond doubt.

The order of the checks is that of etcd's handler chain: CORS and OPTIONS, the path's form (Go's ServeMux), the route,
the method, the rest.
"""

from dataclasses import dataclass
from typing import Final, final

from kvraft import audit_log, logs
from kvraft.api_v2 import errors, misc
from kvraft.api_v2.answers import Answer, Framing
from kvraft.api_v2.audit import Audit
from kvraft.api_v2.auth import Auth
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.backup import Sending
from kvraft.api_v2.cors import Cors
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.key_responses import error_answer
from kvraft.api_v2.keys import TOO_MANY_REQUESTS, Keys
from kvraft.api_v2.routes import METRICS_ROUTES, PROFILES, ROUTES, Call, Right, Route, Served, find
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.targets import clean_path, host_name, parse_target, redirect_body, redirect_header, redirect_url
from kvraft.metrics import Metrics
from kvraft.security.passwords import Passwords

log = logs.get(__name__)

_WRITE_METHODS: Final = frozenset((b"PUT", b"POST", b"DELETE", b"PATCH"))


@final
@dataclass(slots=True)
class Request:
    """A request as every front hands it in."""

    method: bytes
    target: bytes
    """As it stood in the request line."""
    host: bytes
    """The Host header, empty without one."""
    origin: bytes | None
    content_type: bytes | None
    """The first of its headers."""
    body: bytes
    """The whole body of a PUT or POST (of one too long, its first FORM_BYTES_MAX + 1 bytes), else empty."""
    framing: Framing
    is_secure: bool = False
    """Whether it came over TLS."""


@final
class App:
    """The API of one member, or of it what `--listen-metrics-urls` serve."""

    def __init__(
        self, backend: Backend, settings: ApiSettings, metrics: Metrics, *, metrics_only: bool = False
    ) -> None:
        self.settings: Final = settings
        self.metrics: Final = metrics
        passwords = self._passwords = Passwords()
        guard = self._guard = Guard(backend, settings.auth, passwords)
        self.keys: Final = Keys(backend, settings, metrics, guard)
        self._backend = backend
        health = misc.Health(backend, settings.health_timeout_s, metrics)
        self._backups = Sending(backend)
        self._served: Final = Served(
            backend, settings, metrics, guard, self.keys, Auth(backend, guard, passwords), health, self._backups
        )
        self.audit: Final = Audit(audit_log.write) if settings.is_audited else None
        self._cors = Cors(settings.cors_origins)
        self._any_host = b"*" in settings.hosts
        self._metrics_only = metrics_only
        self._routes = METRICS_ROUTES if metrics_only else (*ROUTES, *([PROFILES] if settings.profiles else []))
        if not metrics_only:
            guard.tell_what_is_open()
            metrics.server_version.labels(settings.server_version).set(1)
            metrics.before_scrape.append(self._copy_counts)

    def too_many_requests(self) -> Answer:
        """What a client is told that connects when there are too many."""
        return error_answer(TOO_MANY_REQUESTS, self._backend.cluster_id)

    def cors_headers(self, origin: bytes | None) -> bytes:
        """The header lines that let a browser's page use the answer; empty for pages of other origins."""
        return self._cors.lines(origin)

    def handle(self, request: Request, exchange: Exchange) -> None:
        """Answer a request, now or later."""
        if not self._metrics_only and (answer := self._at_the_door(request)) is not None:
            exchange.answer(answer)
            return
        if request.target == b"*":
            exchange.answer(Answer(400, b"", b"", close=True))
            return
        target = parse_target(_rooted(request))
        if target is None:
            exchange.answer(errors.bad_request())
            return
        path = target.path
        cleaned = clean_path(path)
        if cleaned != path and request.method != b"CONNECT":
            exchange.answer(_moved(request.method, redirect_url(cleaned, target.query)))
            return
        route = find(path, self._routes)
        if route is None:
            exchange.answer(errors.not_found())
        elif route.methods and request.method not in route.methods:
            exchange.answer(errors.method_not_allowed(b",".join(route.methods)))
        else:
            if self.audit is not None and (
                route.right(request.method) is not Right.NONE or request.method in _WRITE_METHODS
            ):
                self.audit.begin(exchange, request.method, path)
            call = Call(request.method, path, target.query, request.content_type, request.body)
            if route.right(request.method) is Right.ROOT:
                self._guard.admit_root(exchange, lambda: self._serve(route, call, exchange))
            else:
                self._serve(route, call, exchange)

    def _serve(self, route: Route, call: Call, exchange: Exchange) -> None:
        """Answer a request whose right was judged, or that is judged by what it asks of a key."""
        answer = route.handler(self._served, call, exchange)
        if answer is not None:
            exchange.answer(answer)

    def end_streams(self) -> None:
        """End what would not end by itself, or not soon: watches, and copies for backups."""
        self.keys.end_watches()
        self._backups.end_all()

    def close(self) -> None:
        """Nothing is answered any more."""
        self._passwords.close()

    def is_known_host(self, host: bytes, *, is_secure: bool) -> bool:
        """Whether the name by which a client calls this member is one of those that it may be called by."""
        return self._any_host or is_secure or self._metrics_only or host_name(host) in self.settings.hosts

    def _at_the_door(self, request: Request) -> Answer | None:
        """What is answered before anything is looked for: etcd's access control, and ours."""
        if not self.is_known_host(request.host, is_secure=request.is_secure):
            log.warning("request refused for its Host: see --host-whitelist", host=request.host)
            return errors.unknown_host(host_name(request.host))
        if request.method == b"OPTIONS":
            return Answer(200, b"", b"")
        if self._is_foreign_write(request):
            # A page of another site must not write with the reader's network position (design decision 14).
            return errors.message(403, b"cross-origin write refused: allow the origin with --cors")
        return None

    def _copy_counts(self) -> None:
        """Copy what the keyspace has counted to the metrics that a page shows."""
        metrics, stats = self.metrics, self._backend.keyspace.stats
        metrics.store_reads.set(stats.gets_success + stats.gets_fail - stats.recursive_gets, "get")
        metrics.store_reads.set(stats.recursive_gets, "getRecursive")
        for action, count in (
            ("set", stats.sets_success),
            ("create", stats.create_success),
            ("update", stats.update_success),
            ("compareAndSwap", stats.compare_and_swap_success),
            ("delete", stats.delete_success),
            ("compareAndDelete", stats.compare_and_delete_success),
        ):
            metrics.store_writes.set(count, action)

    def _is_foreign_write(self, request: Request) -> bool:
        origin = request.origin
        if origin is None or request.method not in _WRITE_METHODS or self._cors.allows(origin):
            return False
        return origin.partition(b"://")[2].lower() != request.host.lower()


def _rooted(request: Request) -> bytes:
    """The target as it is parsed: CONNECT names a host without a scheme (net/http readRequest, justAuthority)."""
    target = request.target
    return b"http://" + target if request.method == b"CONNECT" and not target.startswith(b"/") else target


def _moved(method: bytes, url: bytes) -> Answer:
    """http.Redirect to the clean path: only GET and HEAD say what kind of page it is, only GET has one."""
    location = b"Location: " + redirect_header(url) + b"\r\n"
    if method not in {b"GET", b"HEAD"}:
        return Answer(301, location, b"")
    headers = b"Content-Type: text/html; charset=utf-8\r\n" + location
    return Answer(301, headers, redirect_body(url) if method == b"GET" else b"")
