"""Entries of etcd's log: what each asks of the v2 store, in any version's form.

Field numbers are those of etcdserverpb/etcdserver.proto, raft_internal.proto and raftpb/raft.proto.
"""

import json
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.commands import (
    NO_TTL,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    KeyCommand,
    Set,
    Update,
)
from kvraft.migration.contents import NS_PER_S
from kvraft.migration.protobuf_fields import Fields, NotProtobufError, bytes_in, fields_of, number_in, signed_in

_METHODS: Final = {b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"QGET", b"SYNC"}
_PERMANENT_BEFORE_NS: Final = 946_684_800 * NS_PER_S
"""Whatever expires before the year 2000 never does (v2store/store.go, minExpireTime)."""


@final
@dataclass(slots=True, frozen=True)
class Entry:
    """One entry of the log."""

    index: int
    term: int
    is_configuration: bool
    data: bytes


@final
@dataclass(slots=True, frozen=True)
class Ask:
    """A command for the v2 store."""

    command: KeyCommand
    """With etcd's own path (`/1/a`). Its TTL is 0 where it has one: it expires at `expiration_ns`."""
    expiration_ns: int


@final
@dataclass(slots=True, frozen=True)
class Expire:
    """Every node that is due by then expires."""

    time_ns: int


@final
@dataclass(slots=True, frozen=True)
class ChangeMember:
    """A member comes, goes, moves or becomes a voter."""

    kind: int
    member_id: int
    context: dict[str, object] = field(default_factory=dict)
    """etcd's JSON of the member."""


@final
@dataclass(slots=True, frozen=True)
class OfVersion3:
    """A request of the v3 API: nothing of it is in the v2 store."""


ADD: Final = 0
REMOVE: Final = 1
MOVE: Final = 2
ADD_LEARNER: Final = 3

Asked = Ask | Expire | ChangeMember | OfVersion3 | None
"""None: nothing, as a new leader's first entry and reads ask."""


def entry_of(data: bytes) -> Entry:
    """An entry from its record.

    Raises:
        NotProtobufError: it is none.
    """
    fields = fields_of(data)
    kind = number_in(fields, 1)
    index, term, request = number_in(fields, 3), number_in(fields, 2), bytes_in(fields, 4)
    if kind not in (0, 1) or not {1, 2, 3} <= fields.keys() <= {1, 2, 3, 4} or not index or (kind and not request):
        raise NotProtobufError(f"an entry of kind {kind}, which does not look like one")
    return Entry(index, term, kind == 1, request)


def asked(entry: Entry) -> Asked:
    """What an entry asks for.

    Raises:
        NotProtobufError: it is no request of any version.
        ValueError: a change of members without JSON of the member.
    """
    if not entry.data:
        return None
    fields = fields_of(entry.data)
    if entry.is_configuration:
        context = bytes_in(fields, 4)
        return ChangeMember(number_in(fields, 2), number_in(fields, 3), json.loads(context) if context else {})
    second = bytes_in(fields, 2)
    if second in _METHODS:
        # etcd 2.x, and 3.x for what its v2 API was asked: a Request by itself. Field 2 of the other is a message.
        return _request(fields)
    if second:
        return _request(fields_of(second))
    return _of_3_5(fields) or OfVersion3()


def _of_3_5(fields: Fields) -> Ask | None:
    """3.5 has messages of its own for the two things that a server says of itself; they are in the v2 store as well."""
    if message := bytes_in(fields, 1300):
        return Ask(Set(b"/0/version", bytes_in(fields_of(message), 1)), 0)
    if message := bytes_in(fields, 1301):
        change = fields_of(message)
        attributes = fields_of(bytes_in(change, 2))
        urls = [url.decode() for url in attributes.get(2, ()) if isinstance(url, bytes)]
        value = json.dumps({"name": bytes_in(attributes, 1).decode(), "clientURLs": urls})
        return Ask(Set(b"/0/members/%x/attributes" % number_in(change, 1), value.encode()), 0)
    return None


def _request(fields: Fields) -> Asked:
    """etcdserver/apply_v2.go, `applyV2Request`."""
    method, path, value = bytes_in(fields, 2), bytes_in(fields, 3), bytes_in(fields, 4)
    if method == b"SYNC":
        return Expire(signed_in(fields, 15))
    directory, prev_value, prev_index = bool(number_in(fields, 5)), bytes_in(fields, 6), number_in(fields, 7)
    expiration_ns = signed_in(fields, 9)
    if expiration_ns < _PERMANENT_BEFORE_NS:
        expiration_ns = 0
    ttl_s = 0 if expiration_ns else NO_TTL
    lifetime = (ttl_s, expiration_ns)
    refresh = bool(number_in(fields, 17))
    has_condition = bool(prev_index or prev_value)
    command: KeyCommand
    if method == b"POST":
        command = CreateInOrder(path, value, directory, *lifetime)
    elif method == b"PUT":
        if 8 in fields and not number_in(fields, 8):
            command = Create(path, value, directory, *lifetime, refresh)
        elif has_condition:
            command = CompareAndSwap(path, value, prev_value or None, prev_index, *lifetime, refresh)
        elif 8 in fields:
            command = Update(path, value, *lifetime, refresh)
        else:
            command = Set(path, value, directory, *lifetime, refresh)
    elif method == b"DELETE":
        if has_condition:
            command = CompareAndDelete(path, prev_value or None, prev_index)
        else:
            command = Delete(path, directory, bool(number_in(fields, 12)))
    else:
        return None
    return Ask(command, expiration_ns)
