"""What of two answers must be equal, and the first difference in words.

Equal means byte for byte, but for: the date, times of expiry (their form is checked), seconds of TTL (one second of
leeway), cluster ids and raft positions (their form is checked), CORS headers (docs/differences.md), the order of an
unsorted listing (random in etcd), and how a body is framed that is longer than Go's buffer or ends with the connection.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

from tests.conformance.wire import Answer, Head

GO_BUFFER_BYTES: Final = 2048
"""net/http announces a Content-Length for what a handler wrote while it fits its buffer, and sends chunks beyond."""
_IGNORED_HEADERS: Final = frozenset(
    {
        "Date",
        # Added to every answer by etcd 3.4 (its `--cors` is `*`); kvraft follows 2.3: none unless asked for.
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Origin",
    }
)
_FRAMING: Final = frozenset({"Content-Length", "Transfer-Encoding"})
_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "X-Etcd-Cluster-Id": re.compile(r"[1-9a-f][0-9a-f]{0,15}"),
    "X-Raft-Index": re.compile(r"[1-9][0-9]*"),
    "X-Raft-Term": re.compile(r"[1-9][0-9]*"),
}
# Quotes inside a JSON string are escaped, so these match fields only.
_TIME: Final = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z"
_EXPIRATION: Final = re.compile(rb'"expiration":"' + _TIME + rb'"')
_TTL: Final = re.compile(rb'"ttl":(-?[1-9][0-9]*)')
_OVERDUE_TTL: Final = re.compile(rb',"ttl":-?[0-9]+')
TTL_LEEWAY_SECONDS: Final = 1
HEAD_LENGTH_LEEWAY: Final = 32
"""Bytes by which the announced lengths may differ: a time loses the trailing zeros of its fraction."""


@final
@dataclass(frozen=True, slots=True)
class Comparable:
    """An answer with what may differ masked."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ttls: tuple[int, ...]
    """The seconds masked in the body, in order."""
    head_length: int
    """What the answer to a HEAD announces; 0 for an answer with a body, whose length the framing has proved."""


def comparable(answer: Answer, *, unsorted: bool = False) -> Comparable:
    """Mask what may differ.

    Args:
        answer: what a server answered.
        unsorted: the answer is a listing for which no order was asked.
    """
    body, ttls = masked_body(answer.body, unsorted=unsorted)
    head_length = 0 if answer.body else (answer.head.content_length or 0)
    return Comparable(answer.status, masked_headers(answer.head, len(answer.body)), body, ttls, head_length)


def without_previous(answer: Answer, *, is_refresh: bool) -> Answer:
    """etcd's answer without what only a reader should see (docs/differences.md), to be held against `recoded`."""  # noqa: D403 -- its name
    if not answer.body.startswith(b"{"):
        return answer
    body: dict[str, Any] = json.loads(answer.body)
    if "prevNode" in body:
        body["prevNode"] = {name: value for name, value in body["prevNode"].items() if name in {"key", "dir"}}
    if is_refresh and "node" in body:
        body["node"].pop("value", None)
    if body.get("errorCode") == 101:
        body.pop("cause", None)
    return _encoded(answer, body)


def recoded(answer: Answer) -> Answer:
    """The same answer in Python's JSON, without its framing, which depends on how long it was."""
    return _encoded(answer, json.loads(answer.body)) if answer.body.startswith(b"{") else answer


def is_removal_of_a_neighbour(watched: bytes, event: bytes) -> bool:
    """Whether etcd's scan of history took a removed `/pre` for an ancestor of the watched `/prefixother` (A.7 e).

    kvraft matches by path (docs/differences.md), and goes on to what is meant.
    """
    parsed: dict[str, Any] = json.loads(event)
    removed = parsed["node"]["key"].encode()
    is_prefix = watched.startswith(removed) and not (watched + b"/").startswith(removed + b"/")
    return parsed["action"] in ("delete", "expire") and is_prefix


def _encoded(answer: Answer, body: dict[str, Any]) -> Answer:
    headers = tuple((name, value) for name, value in answer.head.headers if name not in _FRAMING)
    return Answer(replace(answer.head, headers=headers), json.dumps(body, separators=(",", ":")).encode())


def masked_headers(head: Head, body_bytes: int) -> tuple[tuple[str, str], ...]:
    """The headers that count, sorted, ids and raft positions replaced by their form."""
    pairs = []
    is_framing_free = head.closes or (body_bytes or head.content_length or 0) > GO_BUFFER_BYTES
    for name, value in head.headers:
        if name in _IGNORED_HEADERS or (name in _FRAMING and is_framing_free):
            continue
        form = _FORMS.get(name)
        masked = "<as it should be>" if form is not None and form.fullmatch(value) else value
        pairs.append((name, "<length>" if name == "Content-Length" else masked))
    return tuple(sorted(pairs))


def masked_body(body: bytes, *, unsorted: bool = False) -> tuple[bytes, tuple[int, ...]]:
    """The body with times masked, and the TTLs that stood in it."""
    if unsorted and b'"nodes":[' in body:
        body = json.dumps(_sorted_nodes(json.loads(body)), ensure_ascii=False).encode()
        body = body.replace(b'"ttl": ', b'"ttl":').replace(b'"expiration": ', b'"expiration":')
    if body.startswith(b'{"action":"expire"'):
        # How overdue a key was when its expiry was noticed is timing: nothing, or -1 on a busy machine.
        body = _OVERDUE_TTL.sub(b"", body)
    ttls = tuple(int(ttl) for ttl in _TTL.findall(body))
    body = _TTL.sub(b'"ttl":<seconds>', body)
    return _EXPIRATION.sub(b'"expiration":<time>', body), ttls


def _sorted_nodes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted_nodes(each) for key, each in value.items()}
    if isinstance(value, list):
        nodes = [_sorted_nodes(each) for each in value]
        return (
            sorted(nodes, key=lambda node: node["key"])
            if all(isinstance(each, dict) and "key" in each for each in nodes)
            else nodes
        )
    return value


def difference(expected: Comparable, actual: Comparable) -> str | None:
    """What differs first, in words; None when nothing does."""
    if expected.status != actual.status:
        return f"status {actual.status}, not {expected.status}"
    if expected.headers != actual.headers:
        missing = sorted(set(expected.headers) - set(actual.headers))
        extra = sorted(set(actual.headers) - set(expected.headers))
        return f"headers: missing {missing}, extra {extra}"
    if expected.body != actual.body:
        return f"body {actual.body[:500]!r}, not {expected.body[:500]!r}"
    if any(abs(one - other) > TTL_LEEWAY_SECONDS for one, other in zip(expected.ttls, actual.ttls, strict=True)):
        return f"ttl {actual.ttls}, not {expected.ttls}"
    if abs(expected.head_length - actual.head_length) > HEAD_LENGTH_LEEWAY:
        return f"length {actual.head_length}, not {expected.head_length}"
    return None
