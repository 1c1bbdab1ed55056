"""Requests of a discovery service, as etcd's client makes them: through a proxy if so asked, redirects followed.

Other than members' answers, which come through `http_door` and lead nowhere else: a service is somebody's on the
internet, and is reached as a browser would reach it.
"""

import base64
import contextlib
import http.client
import json
import ssl
from http import HTTPStatus
from typing import Final, final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urljoin, urlsplit

from kvraft.discovery.interfaces import Answer, UnreachableError
from kvraft.start.http_door import NoAnswerError, exchange

_ANSWER_S: Final = 5.0
"""etcd's `DefaultRequestTimeout`."""
_REDIRECTS_MAX: Final = 10
"""As etcd's client."""
_FORM: Final = "application/x-www-form-urlencoded"
_INDEX_DIGITS_MAX: Final = 20
_PORTS: Final = {"http": 80, "https": 443}


@final
class ServiceDoor:
    """Satisfies `discovery.interfaces.Service`."""

    def __init__(self, url: str, proxy: str = "") -> None:
        """`url` is the token's: paths are below its host, with its query; `proxy` is `http://host:port`."""
        self._url: Final = urlsplit(url)
        self._proxy: Final = urlsplit(proxy) if proxy else None

    def get(self, path: str) -> Answer:
        """What is there."""
        return self._ask("GET", path, {"quorum": "false", "recursive": "false", "sorted": "false"})

    def create(self, path: str, value: str) -> Answer:
        """A key that is not there yet."""
        return self._ask("PUT", path, {"prevExist": "false"}, urlencode({"value": value}).encode())

    def wait(self, path: str, index: int, *, recursive: bool) -> Answer:
        """The next change since an index."""
        query = {"recursive": str(recursive).lower(), "wait": "true", "waitIndex": str(index)}
        return self._ask("GET", path, query, is_patient=True)

    def _ask(
        self, method: str, path: str, query: dict[str, str], body: bytes | None = None, *, is_patient: bool = False
    ) -> Answer:
        own = dict(parse_qsl(self._url.query, keep_blank_values=True))
        url = self._url._replace(path=path, query=urlencode({**own, **query}), fragment="")
        for _ in range(_REDIRECTS_MAX + 1):
            response, data = self._exchange(method, url, body, is_patient=is_patient)
            if not HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
                break
            url = urlsplit(urljoin(url.geturl(), response.getheader("Location") or ""))
            if url.scheme not in _PORTS or not url.hostname:
                raise UnreachableError(f"{path}: it redirects to no URL of http or https")
        else:
            raise UnreachableError(f"{path}: it redirects more than {_REDIRECTS_MAX} times")
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnreachableError(f"{self._shown(url)}: it answers {response.status}")
        parsed: object = None
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(data)
        index = response.getheader("X-Etcd-Index") or ""
        is_index = index.isascii() and index.isdecimal() and len(index) <= _INDEX_DIGITS_MAX
        return Answer(response.status, parsed, not data.strip(), int(index) if is_index else 0)

    def _exchange(
        self, method: str, url: SplitResult, body: bytes | None, *, is_patient: bool
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {} if body is None else {"Content-Type": _FORM}
        target = url._replace(scheme="", netloc="").geturl()
        if self._proxy is not None and url.scheme == "http":
            target = url.geturl()
            headers |= _proxy_user(self._proxy)
        try:
            connection = self._connection(url)
            return exchange(connection, self._shown(url), method, target, body, headers, is_patient=is_patient)
        except (NoAnswerError, ValueError) as error:  # the latter for the port of a redirection
            raise UnreachableError(str(error)) from error

    def _connection(self, url: SplitResult) -> http.client.HTTPConnection:
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        first, first_port = host, port
        if self._proxy is not None:
            first, first_port = self._proxy.hostname or "", self._proxy.port or _PORTS["http"]
        if url.scheme == "http":
            return http.client.HTTPConnection(first, first_port, timeout=_ANSWER_S)
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(first, first_port, timeout=_ANSWER_S, context=context)
        if self._proxy is not None:
            connection.set_tunnel(host, port, _proxy_user(self._proxy))
        return connection

    def _shown(self, url: SplitResult) -> str:
        """For an operator: where it was tried."""
        through = f" through {self._proxy.hostname}:{self._proxy.port}" if self._proxy is not None else ""
        return f"{url.scheme}://{url.hostname}:{url.port or _PORTS[url.scheme]}{through}"


def _proxy_user(proxy: SplitResult) -> dict[str, str]:
    """The header for a proxy that wants to know who asks."""
    if proxy.username is None:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
