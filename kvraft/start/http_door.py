"""Requests that a start makes of members over HTTP: the one place that knows how, with their time limits.

They block: nothing of this member runs yet, and a signal ends it as it would end any program.
"""

import http.client
import json
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, final
from urllib.parse import urlsplit

CHANGE_S: Final = 10.0
"""A change of the members is answered within 7 s, by a cluster without a quorum too."""
ANSWER_S: Final = 3.0
"""What a member has it shows at once; behind this wait the others are asked."""
_BODY_BYTES_MAX: Final = 4 << 20
"""A cluster of thousands would have less to say."""


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

    def json(self) -> object:
        """The body as JSON; None if it is none."""
        try:
            value: object = json.loads(self.body)
        except ValueError:
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
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection
        if parts.scheme == "https" and self._security is not None:
            of_clients = path.startswith("/v2/")
            context = self._security.client_context() if of_clients else self._security.peer_context()
            connection = http.client.HTTPSConnection(host, port, timeout=answer_s, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=answer_s)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {} if data is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            read = response.read(_BODY_BYTES_MAX)
            return Reply(url, response.status, response.getheader("X-Etcd-Cluster-ID") or "", read)
        except OSError as error:
            raise NoAnswerError(f"{url}: {error.strerror or str(error) or 'no answer in time'}") from error
        except http.client.HTTPException as error:
            raise NoAnswerError(f"{url}: it does not speak HTTP there ({type(error).__name__})") from error
        finally:
            connection.close()

    def ask_round(self, urls: Iterable[str], path: str) -> Reply:
        """GET from the first of these members that answers with 200.

        Raises:
            NoAnswerError: none does.
        """
        complaint = "no URL was given"
        for url in urls:
            try:
                reply = self.ask(url, path)
            except NoAnswerError as error:
                complaint = str(error)
                continue
            if reply.status == http.client.OK:
                return reply
            complaint = f"{url}: {reply.status} {reply.message()}"
        raise NoAnswerError(complaint)
