"""The vectors recorded from etcd 3.4.23 answered again, by a live etcd and by kvraft."""

import json
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from kvraft.testing.cluster import Member
from tests.conformance import golden, systems
from tests.conformance.comparison import comparable, difference
from tests.conformance.golden import Replay, Vector
from tests.conformance.systems import System
from tests.conformance.wire import Answer, Connection, Head, Request, keys_request

pytestmark = pytest.mark.slow

EXPIRY_WITHIN_S: Final = 10.0
"""etcd looks for what is due every 500 ms."""
FIRST_OVERDUE_INDEX: Final = 46
"""Index at which the recording writes /ttlx with `ttl=0`."""
OVERFLOWING_TTLS: Final = frozenset({b"99999999999", b"18446744073709551615", b"18446744073"})
"""TTLs beyond what nanoseconds since 1970 hold: wrapped around by etcd, refused by kvraft (docs/differences.md)."""


def start_oracle() -> System:
    """A fresh etcd."""
    return systems.etcd()


def start_subject() -> System:
    """A fresh kvraft of one member."""
    return systems.subject()


def start_subject_of_three() -> System:
    """A fresh kvraft of three members."""
    return systems.subject(3)


@pytest.mark.parametrize("start", [start_oracle, start_subject, start_subject_of_three])
def test_a_fresh_server_answers_the_recorded_requests_as_etcd_did(start: Callable[[], System]) -> None:
    """Every endpoint of v2, members and auth included: equal up to ids, indices and times."""
    with start() as system:
        member = min(system.cluster.members, key=lambda each: each is system.cluster.leader())
        found = replay(system, member, golden.load("golden_v2.jsonl"))
    assert not found, "\n".join(found)


def replay(system: System, member: Member, vectors: Sequence[Vector]) -> list[str]:
    """Ask each vector in order, through one member; return the differences in words."""
    found = []
    with Connection(member.client_url) as connection:
        start = connection.ask(keys_request("GET", "/"))
        indices = Replay(names_of(member, connection), {golden.RECORDED_BASE: start.etcd_index})
        for vector in vectors:
            answer = connection.ask(indices.translated_request(vector.request))
            if vector.request.method in ("PUT", "POST", "DELETE") or vector.answer.etcd_index not in indices.live:
                # Changes of users and roles show their index with the first read behind them: what they take is told
                # by `test_auth`.
                indices.learn(vector.answer, answer)
            words = exempted(system, vector, answer) or compared(
                vector, indices.translated(vector.answer), answer, member.client_url
            )
            if words is not None and words != EXEMPT:
                found.append(f"vector {vector.number} ({vector.note}): {vector.request}: {words}")
            if vector.request.body == b"value=1&ttl=18446744073":
                system.cluster.wait_for("expiry of /ttlx", lambda: is_absent(connection, "/ttlx"), EXPIRY_WITHIN_S)
    return found


def names_of(member: Member, connection: Connection) -> dict[str, str]:
    """The recorded names of the member, and what stands for them here."""
    stats = json.loads(connection.ask(Request("GET", b"/v2/stats/self")).body)
    return {
        golden.RECORDED_ID: stats["id"],
        golden.RECORDED_NAME: f'"name":"{member.name}"',
        golden.RECORDED_PEER_URL: member.peer_url,
        golden.RECORDED_CLIENT_URL: member.client_url,
    }


def is_absent(connection: Connection, path: str) -> bool:
    """Whether nothing is at the path."""
    return connection.ask(keys_request("GET", path)).status == 404


RATES: Final = ("recvPkgRate", "recvBandwidthRate", "sendPkgRate", "sendBandwidthRate")
"""Left out of /v2/stats/self while they are 0, as in the recording of a single member."""
NOT_LEADER: Final = b'{"message":"not current leader"}'
"""What a follower answers to /v2/stats/leader, with 403."""
EXEMPT: Final = "differs as documented"


def exempted(system: System, vector: Vector, answer: Answer) -> str | None:
    """`EXEMPT` for a documented difference that is as it should be, other words for one that is not, None otherwise."""
    target, body = vector.request.target, vector.request.body or b""
    if target.startswith(b"/v2/stats/") and vector.answer.status == 200:
        if answer.body == NOT_LEADER and answer.status == 403 and target == b"/v2/stats/leader":
            return EXEMPT
        return stats_form(vector, answer)
    if b"ttlx" not in target or vector.answer.etcd_index < FIRST_OVERDUE_INDEX:
        return None
    if not system.is_etcd and body.rpartition(b"ttl=")[2] in OVERFLOWING_TTLS:
        refused = answer.status == 400 and b'"errorCode":202' in answer.body
        return EXEMPT if refused else f"{answer}, not a refusal"
    # From `ttl=0` on the key may be gone at any moment: with the next look at what is due.
    allowed = (200, 404) if vector.request.method == "GET" else (200, 201)
    return EXEMPT if answer.status in allowed else str(answer)


def stats_form(vector: Vector, answer: Answer) -> str:
    """Stats count the server's own internal reads and writes, and times: the fields and their types must agree."""
    recorded, live = json.loads(vector.answer.body), json.loads(answer.body)
    for rate in RATES:
        live.pop(rate, None)
    if [(key, type(value)) for key, value in recorded.items()] != [(key, type(value)) for key, value in live.items()]:
        return f"{answer.body!r} has not the form of {vector.answer.body!r}"
    if vector.answer.header("Content-Type") != answer.header("Content-Type"):
        return str(answer)
    return EXEMPT


def compared(vector: Vector, recorded: Answer, live: Answer, client_url: str) -> str | None:
    """The first difference between a translated recorded answer and a live one."""
    target = vector.request.target
    if vector.body_length is not None:
        same = (live.status, len(live.body)) == (recorded.status, vector.body_length)
        return None if same else f"{live.status}, {len(live.body)} bytes"
    if target.startswith((b"/v2/members", b"/v2/machines")) and live.status == 200:
        live = of_one_member(live, client_url)
    unsorted = b"sorted=true" not in target
    return difference(comparable(recorded, unsorted=unsorted), comparable(live, unsorted=unsorted))


def of_one_member(answer: Answer, client_url: str) -> Answer:
    """A list of members as it would be if this one were alone."""
    if answer.body.startswith(b"{"):
        members = json.loads(answer.body)["members"]
        (only,) = (member for member in members if client_url in member["clientURLs"])
        return Answer(answer.head, json.dumps({"members": [only]}, separators=(",", ":")).encode() + b"\n")
    length = answer.head.content_length or 0
    assert length % (len(client_url) + len(", ")) == len(client_url), "as many URLs as members"
    assert not answer.body or client_url in answer.body.decode().split(", ")
    shorter = {"Content-Length": str(len(client_url))}
    headers = tuple((name, shorter.get(name, value)) for name, value in answer.head.headers)
    return Answer(Head(answer.status, answer.head.reason, headers), client_url.encode() if answer.body else b"")
