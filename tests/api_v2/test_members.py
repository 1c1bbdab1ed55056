"""Changes of /v2/members: what they ask of the member, and what is told of what came of them."""

import asyncio
import json
from typing import Final

import pytest

from kvraft import ids
from kvraft.api_v2.go_json_reader import Number, Object, Value, kind_of, read
from kvraft.api_v2.go_json_scanner import DEPTH_MAX, GoJsonError
from kvraft.api_v2.go_urls import peer_urls
from kvraft.keyspace.commands import AddMember
from kvraft.testing.raw_http import Answer, Connection
from tests.api_v2.conftest import Served
from tests.api_v2.memory_backend import MEMBER_ID

JSON: Final = (("Content-Type", "application/json"),)


async def change(client: Connection, method: str, target: str = "", *urls: str) -> Answer:
    """A change of the members with these peer URLs."""
    body = json.dumps({"peerURLs": urls}).encode() if urls else None
    return await client.request(method, "/v2/members" + target, body=body, headers=JSON)


async def test_member_is_added_moved_and_removed(served: Served, client: Connection) -> None:
    """Its id is etcd's: of its URLs and the second; afterwards it is gone for good."""
    before_s = served.backend.wall_ns() // 1_000_000_000
    added = await change(client, "POST", "", "http://b:1", " HTTP://a:1")
    after_s = served.backend.wall_ns() // 1_000_000_000
    member = json.loads(added.body)
    assert (added.status, member) == (
        201,
        {"id": member["id"], "name": "", "peerURLs": ["http://a:1", "http://b:1"], "clientURLs": []},
    )
    seconds = range(before_s, after_s + 1)
    assert int(member["id"], 16) in {ids.member_id(["http://a:1", "http://b:1"], "", second) for second in seconds}
    moved = await change(client, "PUT", "/" + member["id"], "http://c:1")
    assert (moved.status, moved.body, moved.header("Content-Length")) == (204, b"", None)
    assert served.backend.members()[0 if int(member["id"], 16) < MEMBER_ID else 1].peer_urls == ("http://c:1",)
    for status in (204, 410):
        assert (await change(client, "DELETE", "/" + member["id"])).status == status
    assert len(served.backend.members()) == 1


async def test_change_without_an_outcome_is_an_internal_error(served: Served, client: Connection) -> None:
    """Whatever the reason is: etcd has one text, and clients of it look at the status."""
    served.backend.has_quorum = False
    for method, urls in (("POST", ("http://a:1",)), ("PUT", ("http://a:1",)), ("DELETE", ())):
        target = "" if method == "POST" else f"/{MEMBER_ID:x}"
        changing = asyncio.create_task(change(client, method, target, *urls))
        async with await served.connect() as other:
            while not served.backend.waiting:
                assert (await other.request("GET", "/v2/members")).status == 200
        served.backend.time_out()
        answer = await changing
        assert (answer.status, answer.body) == (500, b'{"message":"Internal Server Error"}')
        assert answer.header("X-Etcd-Cluster-Id") is not None


async def test_same_id_within_a_second_is_a_conflict(served: Served, client: Connection) -> None:
    """The URLs are free again, and the id is used up."""
    served.backend.wall_ns = lambda: 5_000_000_000  # type: ignore[method-assign] # a fake of a fake
    added = await change(client, "POST", "", "http://a:1")
    member_id = int(json.loads(added.body)["id"], 16)
    assert (await change(client, "PUT", f"/{member_id:x}", "http://b:1")).status == 204
    again = await change(client, "POST", "", "http://a:1")
    assert (again.status, again.body) == (409, b'{"message":"membership: ID exists"}')
    served.backend.apply(AddMember(7, ("http://c:1",)))
    assert (await change(client, "PUT", "/7", "http://b:1")).status == 409


async def test_body_beyond_the_limit_is_refused(client: Connection) -> None:
    """Not read as what it begins with."""
    body = b'{"peerURLs":["http://a:1"]}' + b" " * (10 << 20)
    answer = await client.request("POST", "/v2/members", body=body, headers=JSON)
    assert (answer.status, answer.body) == (400, b'{"message":"http: request body too large"}')


def test_json_is_read_as_it_stands() -> None:
    """Names in their order, twice too; numbers are not computed with."""
    value = read(b' {"a":[1,-0.5e+7,"x\\n",null,true,{}],"a":' + b"9" * 9999 + b"}\n")
    assert value == Object(
        [("a", [Number("1"), Number("-0.5e+7"), "x\n", None, True, Object([])]), ("a", Number("9" * 9999))]
    )
    items: list[Value] = ["", None, False, Number("1"), Object([]), []]
    assert [kind_of(item) for item in items] == [
        "string",
        "null",
        "bool",
        "number",
        "object",
        "array",
    ]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_may_be_deep_and_not_too_deep(opening: bytes) -> None:
    """No depth brings the reader down."""
    with pytest.raises(GoJsonError, match="unexpected end"):
        read(opening * DEPTH_MAX)
    with pytest.raises(GoJsonError, match=r"invalid character '.' exceeded max depth"):
        read(opening * (DEPTH_MAX + 1))
    with pytest.raises(GoJsonError, match="exceeded max depth"):
        read(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)


def test_peer_urls_are_sorted_and_written_as_go_writes_them() -> None:
    """What is there twice stays."""
    given = ["http://b:2", "\u3000HTTPS://[fe80::1%25eth0]:1\n", "http://b:2", "http://B:2"]
    assert peer_urls(given) == ("http://B:2", "http://b:2", "http://b:2", "https://[fe80::1%25eth0]:1")
