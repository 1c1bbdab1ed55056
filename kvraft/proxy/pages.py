"""What the proxy answers itself: its own two pages, and what is settled before a request goes anywhere.

In etcd's order (v3.4.23 etcdmain/etcd.go and proxy/httpproxy/proxy.go): /metrics, the readonly proxy's refusal, CORS,
the page with the endpoints.
"""

from typing import Final, final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.cors import Cors
from kvraft.api_v2.go_json import quote
from kvraft.api_v2.targets import authority, host_name, parse_target
from kvraft.proxy.counts import Counts
from kvraft.proxy.director import Director
from kvraft.proxy.heads import RequestHead
from kvraft.proxy.settings import ProxySettings
from kvraft.repeats import Repeats

log = logs.get(__name__)

_CONFIG: Final = b"/v2/config/local/proxy"
_METRICS: Final = b"/metrics"
_METRICS_TYPE: Final = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
_ANY_TARGET: Final = frozenset((b"CONNECT", b"OPTIONS"))
"""Methods whose target is no path, or need be none."""
_CONTINUE: Final = b"100-continue"


@final
class Pages:
    """Answers in front of those of the members."""

    def __init__(self, settings: ProxySettings, director: Director, counts: Counts) -> None:
        self._is_readonly = settings.is_readonly
        self._hosts = settings.hosts
        self._any_host = b"*" in settings.hosts
        self._director = director
        self._counts = counts
        self._cors = Cors(settings.cors_origins)
        self._repeats = Repeats(clock.monotonic_ms)

    def cors(self, head: RequestHead) -> bytes:
        """Header lines for the page that asks from a browser; empty if none may."""
        return self._cors.lines(head.headers.origin)

    def answer(self, head: RequestHead, *, is_secure: bool) -> Answer | None:
        """The proxy's own answer; None for a request that goes on."""
        path = head.target.partition(b"?")[0]
        if (b"%" in path or not path.startswith(b"/")) and head.method not in _ANY_TARGET:
            # Go reads no request with such a target, and the connection ends: not only the member's.
            if head.target == b"*":
                return Answer(400, b"", b"", close=True)
            if parse_target(head.target) is None:
                return errors.bad_request()
        if not (path.startswith(b"/v2/keys") and head.method == b"GET"):
            if head.target.endswith(_METRICS) and _path(head.target) == _METRICS:
                return Answer(200, _METRICS_TYPE, self._counts.page())
            if self._is_readonly and head.method != b"GET":
                return Answer(501, b"", b"")
        host = b"" if self._any_host or is_secure else host_name(authority(head.target, head.headers.host or b""))
        if not self._any_host and not is_secure and host not in self._hosts:
            if self._repeats.is_news("host", host.decode("latin-1")):
                log.warning("request refused for its Host: see --host-whitelist", host=host)
            return errors.unknown_host(host)
        if head.headers.expects and head.headers.expects != _CONTINUE:
            return Answer(417, b"", b"", close=True)
        if head.method == b"OPTIONS" and self.cors(head):
            return Answer(200, b"", b"")
        if head.method == b"CONNECT":
            return errors.not_found()
        if b"/local/" in path and _path(head.target) == _CONFIG:
            return self._config(head)
        return None

    def _config(self, head: RequestHead) -> Answer:
        if head.method != b"GET":
            return errors.method_not_allowed(b"GET")
        urls = b",".join(quote(endpoint.url.encode()) for endpoint in self._director.available())
        return Answer(200, errors.PLAIN, b'{"endpoints":[' + urls + b"]}\n")


def _path(target: bytes) -> bytes:
    """Decoded, not cleaned; empty for what has none."""
    parsed = parse_target(target)
    return b"" if parsed is None else parsed.path
