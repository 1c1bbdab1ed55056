"""Requests that a start makes over HTTP: the one place that knows how; and those of members, with their time limits.

They block: nothing of this member runs yet, and a signal ends it as it would end any program.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, final
from urllib.parse import urlsplit

CHANGE_S: Final = 10.0
"""A change of the members is answered within 7 s, by a cluster without a quorum too."""
ANSWER_S: Final = 3.0
"""What a member has it shows at once; behind this wait the others are asked."""
_BODY_BYTES_MAX: Final = 4 << 20
"""A cluster of thousands would have less to say."""
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""That the other side's host is gone is noticed within two minutes."""

_Read = TypeVar("_Read")


@final
class NoAnswerError(Exception):
    """Nobody answered that speaks HTTP. The text names the last URL that was tried, and why."""


@final
@dataclass(slots=True, frozen=True)
class Reply:
    """An answer."""

    url: str
    """The member's that gave it: whoever has to ask further asks there."""
    status: int
    cluster_id: str
    """The header `X-Etcd-Cluster-ID`; empty if there is none."""
    body: bytes
    voters: str = ""
    """The header `X-Kvraft-Voters`; empty if there is none."""

    def json(self) -> object:
        """The body as JSON; None if it is none."""
        try:
            value: object = json.loads(self.body)
        except (ValueError, RecursionError):  # the latter for arrays nested without end
            return None
        return value

    def message(self) -> str:
        """What an error says: etcd's `message`, or the reason that HTTP has for the status."""
        value = self.json()
        told = value.get("message") if isinstance(value, dict) else None
        return told if isinstance(told, str) else http.client.responses.get(self.status, "unknown status")


class Contexts(Protocol):
    """Whom to believe, and what to show."""

    def client_context(self) -> ssl.SSLContext:
        """At client URLs."""
        ...

    def peer_context(self) -> ssl.SSLContext:
        """At peer URLs."""
        ...


def exchange(
    connection: http.client.HTTPConnection,
    shown: str,
    method: str,
    target: str,
    data: bytes | None,
    headers: Mapping[str, str],
    *,
    is_patient: bool = False,
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on a connection of its own, which is closed then; what is answered, and the body of it.

    Args:
        connection: not open yet; its time limit is that of connecting, and of each wait for more of an answer.
        shown: where that is, for errors.
        method: GET and the like.
        target: what is asked for.
        data: the body of the request; None if it has none.
        headers: beside those that go without saying.
        is_patient: the answer is waited for as long as the other side is there.

    Raises:
        NoAnswerError: there is no answer, or none of HTTP.
    """
    try:
        connection.connect()
        if is_patient:
            connection.sock.settimeout(None)
            for level, option, value in _KEEPALIVE:
                connection.sock.setsockopt(level, option, value)
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        return response, response.read(_BODY_BYTES_MAX)
    except UnicodeError as error:
        raise NoAnswerError(f"{shown}: its host is no name of DNS ({error})") from error
    except OSError as error:
        raise NoAnswerError(f"{shown}: {error.strerror or str(error) or 'no answer in time'}") from error
    except http.client.HTTPException as error:
        raise NoAnswerError(f"{shown}: it does not speak HTTP there ({type(error).__name__})") from error
    finally:
        connection.close()


@final
class HttpDoor:
    """Asks members."""

    def __init__(self, answer_s: float = ANSWER_S, security: Contexts | None = None) -> None:
        """`answer_s` limits the time to connect, and each wait for more of an answer; `security` is for https URLs."""
        self._answer_s = answer_s
        self._security = security

    def change(self, url: str, method: str, path: str, body: object = None) -> Reply:
        """A request that a whole cluster has to agree on. Raises NoAnswerError."""
        return self._ask(CHANGE_S, url, method, path, body)

    def ask(self, url: str, path: str) -> Reply:
        """GET from one member. Raises NoAnswerError."""
        return self._ask(self._answer_s, url, "GET", path, None)

    def _ask(self, answer_s: float, url: str, method: str, path: str, body: object) -> Reply:
        """One request of one member, with a JSON body if one is given: below /v2 at a client URL, else at a peer URL.

        Raises:
            NoAnswerError: it does not answer.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise NoAnswerError(f"{url}: it is no URL ({error})") from error
        connection: http.client.HTTPConnection
        if parts.scheme == "https" and self._security is not None:
            of_clients = path.startswith("/v2/")
            context = self._security.client_context() if of_clients else self._security.peer_context()
            connection = http.client.HTTPSConnection(host, port, timeout=answer_s, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=answer_s)
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        response, read = exchange(connection, url, method, path, data, headers)
        voters = response.getheader("X-Kvraft-Voters") or ""
        return Reply(url, response.status, response.getheader("X-Etcd-Cluster-ID") or "", read, voters)

    def ask_round(self, urls: Iterable[str], path: str, read: Callable[[Reply], _Read]) -> _Read:
        """GET from these one after the other; what the first answer of status 200 says that is a member's.

        Args:
            urls: where members should be. Whatever else answers at one of them hides none of the others.
            path: what is asked for.
            read: makes something of an answer. Raises NoAnswerError if it is not what a member answers.

        Raises:
            NoAnswerError: none does.
        """
        complaint = "no URL was given"
        for url in urls:
            try:
                reply = self.ask(url, path)
                if reply.status == http.client.OK:
                    return read(reply)
                complaint = f"{url}: {reply.status} {reply.message()}"
            except NoAnswerError as error:
                complaint = str(error)
        raise NoAnswerError(complaint)
