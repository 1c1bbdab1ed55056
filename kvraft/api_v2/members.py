"""GET /v2/members, /v2/members/leader and /v2/machines.

Adding, changing and removing members is not there yet: such requests are answered 501, so that no tool believes that
it has changed something.
"""

from typing import Final

from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend, MemberRecord
from kvraft.api_v2.go_json import render
from kvraft.api_v2.key_responses import json_headers

_PREFIX: Final = b"/v2/members"


def member_fields(record: MemberRecord) -> dict[str, object]:
    """A member as /v2/members shows it."""
    return {
        "id": f"{record.member_id:x}",
        "name": record.name,
        "peerURLs": record.peer_urls,
        "clientURLs": record.client_urls,
    }


def members_answer(method: bytes, path: bytes, backend: Backend) -> Answer:
    """Answer a request on /v2/members or below it."""
    headers = json_headers(backend.cluster_id)
    if method != b"GET":
        if method != b"POST" and path.removeprefix(_PREFIX) in {b"", b"/"}:
            # etcd's trailing path check comes after allowMethod, hence no Allow header (v2http/client.go).
            return errors.method_not_allowed(b"", headers.partition(b"\r\n")[2])
        return errors.message(501, b"kvraft does not change the members of a running cluster yet", headers)
    match path.removeprefix(_PREFIX):
        case b"" | b"/":
            return Answer(200, headers, render({"members": [member_fields(r) for r in backend.members()]}) + b"\n")
        case b"/leader":
            leader_id = backend.leader_id
            for record in backend.members():
                if record.member_id == leader_id:
                    return Answer(200, headers, render(member_fields(record)) + b"\n")
            return errors.message(503, b"During election", headers)
        case _:
            return errors.message(404, b"Not found", headers)


def machines_answer(backend: Backend) -> Answer:
    """Every client URL, sorted: what go-etcd, python-etcd and Patroni discover a cluster with."""
    urls = sorted(url for record in backend.members() for url in record.client_urls)
    return Answer(200, b"Content-Type: text/plain; charset=utf-8\r\n", ", ".join(urls).encode())
