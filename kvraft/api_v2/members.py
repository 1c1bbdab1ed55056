"""/v2/members and /v2/machines: who belongs to the cluster, and changes of it.

Checks, texts and their order are those of etcd v3.4.23 etcdserver/api/v2http/client.go (`membersHandler`).
"""

import re
from typing import Final

from kvraft import ids
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend, MemberRecord, Written
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_json import render
from kvraft.api_v2.go_json_reader import Object, Value, kind_of, read, text_of
from kvraft.api_v2.go_json_scanner import GoJsonError
from kvraft.api_v2.go_structs import fields
from kvraft.api_v2.go_urls import peer_urls
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.key_responses import json_headers
from kvraft.keyspace.cluster import MembershipRefused, Refusal
from kvraft.keyspace.commands import AddMember, MembershipCommand, MoveMember, RemoveMember
from kvraft.keyspace.errors import EtcdError

_PREFIX: Final = b"/v2/members"
_ID: Final = re.compile(rb"[0-9A-Fa-f]+")
_ID_BITS: Final = 64
_CONFLICTS: Final = {
    Refusal.ID_EXISTS: b"membership: ID exists",
    Refusal.PEER_URL_EXISTS: b"membership: peerURL exists",
}
_STRUCT: Final = r'struct { PeerURLs []string "json:\"peerURLs\"" }'
"""How Go calls the type of a request's body."""
_FIELD: Final = "peerURLs"


def member_fields(record: MemberRecord) -> dict[str, object]:
    """A member as /v2/members shows it."""
    return {
        "id": f"{record.member_id:x}",
        "name": record.name,
        "peerURLs": record.peer_urls,
        "clientURLs": record.client_urls,
    }


def machines_answer(backend: Backend) -> Answer:
    """Every client URL, sorted: what go-etcd, python-etcd and Patroni discover a cluster with."""
    urls = sorted(url for record in backend.members() for url in record.client_urls)
    return Answer(200, b"Content-Type: text/plain; charset=utf-8\r\n", ", ".join(urls).encode())


def members_answer(path: bytes, backend: Backend) -> Answer:
    """Answer a GET on /v2/members or below it."""
    headers = json_headers(backend.cluster_id)
    match _below(path):
        case b"":
            return Answer(200, headers, render({"members": [member_fields(r) for r in backend.members()]}) + b"\n")
        case b"leader":
            leader_id = backend.leader_id
            for record in backend.members():
                if record.member_id == leader_id:
                    return Answer(200, headers, render(member_fields(record)) + b"\n")
            return errors.message(503, b"During election", headers)
        case _:
            return errors.message(404, b"Not found", headers)


def change_members(
    method: bytes,
    path: bytes,
    content_type: bytes | None,
    body: bytes,
    backend: Backend,
    guard: Guard,
    exchange: Exchange,
) -> Answer | None:
    """Answer a POST, PUT or DELETE of root's: what is wrong with it at once, the rest when it is decided."""
    headers = json_headers(backend.cluster_id)
    member_id = 0
    if method != b"POST":
        text = _below(path)
        if not text:
            # etcd's check of the path comes after allowMethod, hence no Allow header.
            return errors.method_not_allowed(b"", _cluster_id_line(headers))
        member_id = int(text, 16) if _ID.fullmatch(text) else 1 << _ID_BITS
        if member_id >> _ID_BITS:
            return errors.message(404, b"No such member: " + text, headers)
    urls: tuple[str, ...] = ()
    if method != b"DELETE":
        media_type = _media_type(content_type)
        if media_type != b"application/json":
            return errors.message(415, b"Bad Content-Type " + media_type + b", accept application/json", headers)
        try:
            urls = _peer_urls_in(body)
        except ValueError as error:
            return errors.message(400, str(error).encode(), headers)
    command: MembershipCommand
    if method == b"POST":
        command = AddMember(ids.member_id(urls, "", backend.wall_ns() // 1_000_000_000), urls)
    elif method == b"PUT":
        command = MoveMember(member_id, urls)
    else:
        command = RemoveMember(member_id)

    def done(outcome: Written | EtcdError) -> None:
        try:
            exchange.answer(_changed_answer(command, outcome, headers))
        except Exception:
            exchange.abort()  # its client must not wait for an answer that cannot be made
            raise

    guard.submit(command, exchange, done, backend.change_members)
    return None


def _changed_answer(
    command: AddMember | MoveMember | RemoveMember, outcome: Written | EtcdError, headers: bytes
) -> Answer:
    """What came of a change. etcd has one text for everything that is no fact about the members."""
    if isinstance(outcome, EtcdError):
        return errors.message(500, b"Internal Server Error", headers)
    if isinstance(outcome.event, MembershipRefused):
        return _refusal_answer(command, outcome.event.reason, headers)
    if isinstance(command, AddMember):
        record = MemberRecord(command.member_id, "", command.peer_urls, ())
        return Answer(201, headers, render(member_fields(record)) + b"\n")
    return Answer(204, _cluster_id_line(headers), b"")


def _refusal_answer(command: AddMember | MoveMember | RemoveMember, reason: Refusal, headers: bytes) -> Answer:
    conflict = _CONFLICTS.get(reason)
    if conflict is not None:
        return errors.message(409, conflict, headers)
    member = f"{command.member_id:x}".encode()
    if reason is Refusal.ID_NOT_FOUND:
        return errors.message(404, b"No such member: " + member, headers)
    if isinstance(command, RemoveMember) and reason is Refusal.ID_REMOVED:
        return errors.message(410, b"Member permanently removed: " + member, headers)
    return errors.message(500, b"Internal Server Error", headers)


def _below(path: bytes) -> bytes:
    """What follows the prefix, and one slash."""
    return path.removeprefix(_PREFIX).removeprefix(b"/")


def _cluster_id_line(headers: bytes) -> bytes:
    """`json_headers` without its Content-Type."""
    return headers.partition(b"\r\n")[2]


def _media_type(content_type: bytes | None) -> bytes:
    """What the header says, in small letters only where parameters follow, as etcd does it."""
    media_type, semicolon, _ = (content_type or b"").partition(b";")
    return media_type.lower().strip() if semicolon else media_type


def _peer_urls_in(body: bytes) -> tuple[str, ...]:
    """The peer URLs of a request's body, checked and sorted.

    Raises:
        ValueError: with what etcd says.
    """
    return peer_urls(_texts_in(read(body)))


def _texts_in(value: Value) -> list[str]:
    """json.Unmarshal into the struct: of names that come twice the last counts; the first wrong type is told."""
    if value is None:
        return []
    if not isinstance(value, Object):
        raise GoJsonError(f"json: cannot unmarshal {kind_of(value)} into Go value of type {_STRUCT}")
    texts: list[str] = []
    wrong = ""
    for name, found in fields(value):
        if name != _FIELD.lower():
            continue
        if found is None:
            texts = []
        elif isinstance(found, list):
            kinds = (kind_of(item) for item in found if not isinstance(item, str | None))
            wrong = wrong or next((f"{kind} into Go struct field .{_FIELD} of type string" for kind in kinds), "")
            old = texts + [""] * len(found)
            texts = [text_of(item) if isinstance(item, str) else old[at] for at, item in enumerate(found)]
        else:
            wrong = wrong or f"{kind_of(found)} into Go struct field .{_FIELD} of type []string"
    if wrong:
        raise GoJsonError(f"json: cannot unmarshal {wrong}")
    return texts
