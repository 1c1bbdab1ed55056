"""Answers, events and nodes, as they come from JSON. The one file where HTTP's bytes become values and errors."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from kvraft.client.errors import EVENT_INDEX_CLEARED, BadAnswer, EtcdError, EventIndexCleared

_INDEX: Final = re.compile(r"[0-9]{1,20}")
_SHOWN_BYTES: Final = 200
"""Of an answer that is no JSON: enough to see who it is that answers."""


@final
@dataclass(slots=True)
class Node:
    """A file or directory of the tree, as it was at one index."""

    key: str
    """From the root, `/` for the root itself."""
    value: str | None
    """None for a directory, and for a file of which the event does not tell it (a delete)."""
    is_directory: bool
    created_index: int
    modified_index: int
    ttl: int | None
    """Seconds left, rounded as the server does. None: it stays."""
    expiration: str | None
    """When it ends, RFC 3339."""
    nodes: "tuple[Node, ...]"
    """What is in a directory; empty where it was not asked for."""


@final
@dataclass(slots=True)
class Event:
    """What became of a node, or what a get found."""

    action: str
    """get, set, update, create, compareAndSwap, delete, compareAndDelete or expire."""
    node: Node
    prev_node: Node | None
    """The node before it; None if there was none, and for a get."""
    etcd_index: int
    """The store's counter when this was answered; for an event of a watch, its own."""


@final
@dataclass(slots=True, frozen=True)
class Answer:
    """One answer, whole."""

    endpoint: str
    """Who gave it."""
    status: int
    headers: Mapping[str, str]
    """By name, in whatever case."""
    body: bytes

    @property
    def etcd_index(self) -> int:
        """`X-Etcd-Index`; 0 without one."""
        return index_in(self.headers)

    def json(self) -> Any:
        """The body.

        Raises:
            BadAnswer: it is no JSON, or is nested too deep for Python's reader.
        """
        return parsed(self.endpoint, self.body)

    def checked(self) -> "Answer":
        """This answer, if it is a success.

        Raises:
            EtcdError: the server refused.
        """
        if self.status >= 300:
            raise refusal(self.status, self.body, self.etcd_index, self.endpoint)
        return self

    def event(self) -> Event:
        """The event in an answer about keys.

        Raises:
            EtcdError: the server refused.
            BadAnswer: it is something else.
        """
        return event_of(self.endpoint, self.checked().json(), self.etcd_index)


def index_in(headers: Mapping[str, str]) -> int:
    """`X-Etcd-Index`; 0 without one."""
    text = headers.get("X-Etcd-Index", "")
    return int(text) if _INDEX.fullmatch(text) else 0


def parsed(endpoint: str, body: bytes) -> Any:
    """JSON.

    Raises:
        BadAnswer: it is none, or is nested too deep for Python's reader.
    """
    try:
        return json.loads(body)
    except ValueError:
        raise BadAnswer(endpoint, f"answered something else than JSON: {_shown(body)}") from None
    except RecursionError:
        raise BadAnswer(endpoint, "answered a tree that is too deep to be read at once") from None


def refusal(status: int, body: bytes, index: int, endpoint: str = "") -> EtcdError:
    """What a status of 300 and more means."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return EtcdError(status, 0, _shown(body) or f"HTTP status {status}", "", index, endpoint)
    code = told.get("errorCode")
    code = code if type(code) is int else 0
    known = EventIndexCleared if code == EVENT_INDEX_CLEARED else EtcdError
    at = told.get("index")
    message = str(told.get("message", "")) or f"HTTP status {status}"
    return known(status, code, message, str(told.get("cause", "")), at if type(at) is int else index, endpoint)


@contextlib.contextmanager
def understood(endpoint: str, what: str) -> Iterator[None]:
    """Whatever goes wrong with an answer that is JSON, and not as etcd writes it, is a `BadAnswer`."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise BadAnswer(endpoint, f"answered what no {what} is") from error


def whole_number(told: Mapping[str, Any], name: str) -> int:
    """A number that Go has room for; 0 where it is left out.

    Raises:
        TypeError: it is something else.
    """
    value = told.get(name, 0)
    if type(value) is not int or abs(value) >> 64:
        raise TypeError(f"{name} is no number")
    return value


def text_in(told: Mapping[str, Any], name: str, default: str | None = None) -> str | None:
    """A text, or `default` where it is left out.

    Raises:
        TypeError: it is something else.
    """
    value = told.get(name, default)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def event_of(endpoint: str, told: Any, etcd_index: int) -> Event:
    """An event from JSON; `etcd_index` 0 means the event's own.

    Raises:
        BadAnswer: it is none.
    """
    try:
        node = _node(told["node"])
        before = told.get("prevNode")
        return Event(told["action"], node, before and _node(before), etcd_index or node.modified_index)
    except (KeyError, TypeError, AttributeError):
        raise BadAnswer(endpoint, f"answered something else than an event: {_shown(repr(told).encode())}") from None


def _node(told: dict[str, Any]) -> Node:
    """A node with all that is below it. A stack and no recursion: trees may be deep."""
    top = _alone(told)
    waiting = [(top, told)]
    while waiting:
        node, source = waiting.pop()
        below = [(_alone(child), child) for child in source.get("nodes") or ()]
        node.nodes = tuple(child for child, _ in below)
        waiting += [pair for pair in below if pair[1].get("nodes")]
    return top


def _alone(told: dict[str, Any]) -> Node:
    """A node without what is below it. etcd leaves out what is zero, also the root's key."""
    is_directory = told.get("dir", False)
    return Node(
        text_in(told, "key") or "/",
        None if is_directory else text_in(told, "value"),
        bool(is_directory),
        whole_number(told, "createdIndex"),
        whole_number(told, "modifiedIndex"),
        whole_number(told, "ttl") if "ttl" in told else None,
        text_in(told, "expiration"),
        (),
    )


def _shown(body: bytes) -> str:
    """The beginning of a text, on one line."""
    text = " ".join(body[: _SHOWN_BYTES + 1].decode("utf-8", "replace").split())
    return text if len(text) <= _SHOWN_BYTES else text[:_SHOWN_BYTES] + "..."
