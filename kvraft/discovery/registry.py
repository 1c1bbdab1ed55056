"""What a discovery service holds of a token, read from its answers. Pure.

    TOKEN/_config/size   how many members the cluster shall have, hidden from listings
    TOKEN/<member id>    name=peer-url,...  one a member; those that were created first belong to the cluster

As etcd reads it: v3.4.23 etcdserver/api/v2discovery/discovery.go.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

from kvraft.discovery.interfaces import Answer, DiscoveryError

KEY_NOT_FOUND: Final = 100
NODE_EXISTS: Final = 105
EVENT_INDEX_CLEARED: Final = 401
"""etcd's error codes."""
_SIZE_DIGITS_MAX: Final = 6
"""A million members would need a longer list than a member reads."""


@final
@dataclass(slots=True, frozen=True)
class Seat:
    """One that has registered."""

    member: str
    """Its id, in hexadecimal: the last part of its key."""
    value: str
    """What it has to say: `name=peer-url`, one for each of its peer URLs."""


@final
@dataclass(slots=True, frozen=True)
class Seats:
    """Who belongs to the cluster so far."""

    size: int
    taken: tuple[Seat, ...]
    """In the order in which they were taken, no more than there are."""
    index: int
    """Of the store when this was so."""

    @property
    def is_complete(self) -> bool:
        """Whether nobody is missing any more."""
        return len(self.taken) == self.size

    def has(self, member: str) -> bool:
        """Whether this member is among them."""
        return any(seat.member == member for seat in self.taken)


def error_code(answer: Answer) -> int:
    """Of an error as etcd's keys give it; 0 if it is none.

    Raises:
        DiscoveryError: what answers has no keys of etcd.
    """
    if isinstance(answer.body, dict):
        if answer.status in {HTTPStatus.OK, HTTPStatus.CREATED} and isinstance(answer.body.get("node"), dict):
            return 0
        code = answer.body.get("errorCode")
        if isinstance(code, int) and code:
            return code
    raise DiscoveryError(
        f"discovery: bad discovery endpoint: it answers {answer.status} without what keys of etcd's v2 API have: "
        "correct the URL"
    )


def error_text(answer: Answer) -> str:
    """Of such an error."""
    body = answer.body if isinstance(answer.body, dict) else {}
    return f"{body.get('errorCode', answer.status)}: {body.get('message', '')} ({body.get('cause', '')})"


def read_size(answer: Answer) -> int:
    """Of the answer to a GET of `_config/size`.

    Raises:
        DiscoveryError: there is no such token, or no such number.
    """
    code = error_code(answer)
    if code == KEY_NOT_FOUND:
        raise DiscoveryError(
            "discovery: size key not found: the token is unknown there: make one, or put how many members the cluster "
            "shall have into its _config/size"
        )
    if code:
        raise DiscoveryError(f"discovery: size key cannot be read: {error_text(answer)}")
    text = _node(answer).get("value")
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= _SIZE_DIGITS_MAX and int(text):
        return int(text)
    raise DiscoveryError(
        f"discovery: size key is bad: {text!r:.40} in _config/size is no number of members: make a new token"
    )


def read_seats(answer: Answer, size: int) -> Seats:
    """Of the answer to a GET of the token's directory.

    Raises:
        DiscoveryError: it is no directory of registrations.
    """
    if error_code(answer):
        raise DiscoveryError(f"discovery: the token cannot be read: {error_text(answer)}")
    created = []
    nodes = _node(answer).get("nodes") or []
    for node in nodes if isinstance(nodes, list) else ():
        if not isinstance(node, dict):
            raise DiscoveryError("discovery: bad discovery endpoint: its directory lists no keys: correct the URL")
        key, value, index = node.get("key"), node.get("value", ""), node.get("createdIndex")
        if not isinstance(key, str) or not isinstance(value, str) or not isinstance(index, int):
            raise DiscoveryError("discovery: bad discovery endpoint: its keys have no indices: correct the URL")
        member = key.rpartition("/")[2]
        if member != "_config":
            created.append((index, Seat(member, value)))
    created.sort(key=lambda pair: pair[0])
    return Seats(size, tuple(seat for _, seat in created[:size]), answer.index)


def created_index(answer: Answer) -> int:
    """Of the key that an answer shows."""
    index = _node(answer).get("createdIndex")
    return index if isinstance(index, int) else 0


def _node(answer: Answer) -> dict[str, object]:
    """Of an answer that is no error."""
    assert isinstance(answer.body, dict)
    node = answer.body["node"]
    assert isinstance(node, dict)
    return node
