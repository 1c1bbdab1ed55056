"""Everything beside /v2/keys, through both fronts."""

import asyncio
import dataclasses
import json
import logging

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.records import MemberRecord
from kvraft.testing.raw_http import Connection
from tests.api_v2.alarms import BODIES, HEALTH_WHEN_FULL
from tests.api_v2.conftest import Served, start
from tests.api_v2.memory_backend import MEMBER_ID

MEMBER = (
    '{"id":"cc4ac920d46ff089","name":"g","peerURLs":["http://127.0.0.1:33801"],"clientURLs":["http://127.0.0.1:33791"]}'
)


@pytest.mark.parametrize(
    ("target", "content_type", "body"),
    [
        ("/version", "application/json", '{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}'),
        ("/version?a=%zz", "application/json", '{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}'),
        ("/health", "text/plain; charset=utf-8", '{"health":"true"}'),
        ("/v2/members", "application/json", '{"members":[' + MEMBER + "]}\n"),
        ("/v2/members/", "application/json", '{"members":[' + MEMBER + "]}\n"),
        ("/v2/members/leader", "application/json", MEMBER + "\n"),
        ("/v2/machines", "text/plain; charset=utf-8", "http://127.0.0.1:33791"),
        ("/v2/stats/leader", "application/json", '{"leader":"cc4ac920d46ff089","followers":{}}'),
        (
            "/v2/stats/store",
            "application/json",
            '{"getsSuccess":0,"getsFail":0,"setsSuccess":0,"setsFail":0,"deleteSuccess":0,"deleteFail":0,'
            '"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,'
            '"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":0}',
        ),
        ("/v2/auth/enable", "application/json", '{"enabled":false}\n'),
    ],
)
async def test_page_is_etcds(client: Connection, target: str, content_type: str, body: str) -> None:
    """To the byte, with a line feed where etcd has one."""
    answer = await client.request("GET", target)
    assert answer.status == 200
    assert answer.header("Content-Type") == content_type
    assert answer.body.decode() == body
    assert (answer.header("X-Etcd-Cluster-Id") is not None) == ("members" in target or "auth" in target)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("HEAD", "/version", "GET"),
        ("PUT", "/health", "GET"),
        ("POST", "/v2/stats/self", "GET"),
        ("DELETE", "/debug/vars", "GET"),
        ("PUT", "/v2/machines", "GET,HEAD"),
        ("HEAD", "/v2/members", "GET,POST,DELETE,PUT"),
        ("PATCH", "/v2/members/leader", "GET,POST,DELETE,PUT"),
        ("DELETE", "/v2/members", None),
        ("PUT", "/v2/members/", None),
        ("POST", "/v2/auth/users", "GET"),
        ("POST", "/v2/auth/enable", "GET,PUT,DELETE"),
        ("HEAD", "/v2/auth/users/x", "GET,PUT,DELETE"),
    ],
)
async def test_wrong_method_is_405_with_etcds_list(
    client: Connection, method: str, target: str, allow: str | None
) -> None:
    """Comma without a space; a member's id that is missing has no Allow header."""
    answer = await client.request(method, target)
    assert answer.status == 405
    assert answer.header("Allow") == allow
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.body == (b"" if method == "HEAD" else b"Method Not Allowed\n")


@pytest.mark.parametrize("target", ["/", "/v2", "/v2/", "/v2/keysfoo", "/v2/stats", "/v2/machines/", "/v2/auth", "/x"])
async def test_unknown_path_is_gos_404(client: Connection, target: str) -> None:
    """Plain text, for every method."""
    for method in ("GET", "PUT", "DELETE"):
        answer = await client.request(method, target)
        assert answer.status == 404
        assert answer.body == b"404 page not found\n"
        assert answer.header("X-Content-Type-Options") == "nosniff"


async def test_other_member_page_is_404_as_json(client: Connection) -> None:
    """Below /v2/members only `leader` is a page."""
    for target in ("/v2/members/x", "/v2/members/leader/"):
        answer = await client.request("GET", target)
        assert (answer.status, answer.body) == (404, b'{"message":"Not found"}')


async def test_member_without_a_leader_is_unhealthy_and_in_election(served: Served, client: Connection) -> None:
    """/health 503 with a line feed, /v2/members/leader 503, /v2/stats/leader 403, members as ever."""
    served.backend.leader_id = 0
    health = await client.request("GET", "/health")
    assert (health.status, health.body) == (503, b'{"health":"false"}\n')
    leader = await client.request("GET", "/v2/members/leader")
    assert (leader.status, leader.body) == (503, b'{"message":"During election"}')
    stats = await client.request("GET", "/v2/stats/leader")
    assert (stats.status, stats.body) == (403, b'{"message":"not current leader"}')
    assert (await client.request("GET", "/v2/members")).status == 200


@pytest.mark.parametrize("target", HEALTH_WHEN_FULL)
async def test_member_with_a_full_disk_is_unhealthy_unless_asked_to_leave_that_out(
    served: Served, client: Connection, target: str
) -> None:
    """As etcd under its alarm NOSPACE (`tests/conformance/test_alarm.py`)."""
    served.backend.is_disk_full = True
    answer = await client.request("GET", target)
    assert (answer.status, answer.body) == (HEALTH_WHEN_FULL[target], BODIES[answer.status])


async def test_health_needs_a_linearizable_read_in_time(settings: ApiSettings) -> None:
    """A leader that is known but cannot reach a quorum is not healthy; the late read is forgotten."""
    served = await start(dataclasses.replace(settings, health_timeout_s=0.05))
    served.backend.has_quorum = False
    async with await served.connect() as client:
        assert (await client.request("GET", "/health")).status == 503
        served.backend.time_out()
        served.backend.has_quorum = True
        assert (await client.request("GET", "/health")).status == 200
    assert b"etcd_server_health_failures 1.0" in served.metrics.render()
    await served.server.stop()


async def test_members_are_listed_by_id_and_machines_sorted(served: Served, client: Connection) -> None:
    """One that was added and has not started has an empty name and no client URLs, shown as a list."""
    new = MemberRecord(0x1, "", ("http://127.0.0.1:1",), ())
    other = MemberRecord(MEMBER_ID, "g", ("http://b:1", "http://a:1"), ("http://z:1", "http://y:1"))
    served.backend.members = lambda: [new, other]  # type: ignore[method-assign] # a fake of a fake
    members = json.loads((await client.request("GET", "/v2/members")).body)["members"]
    assert members[0] == {"id": "1", "name": "", "peerURLs": ["http://127.0.0.1:1"], "clientURLs": []}
    assert members[1]["peerURLs"] == ["http://b:1", "http://a:1"]
    assert (await client.request("GET", "/v2/machines")).body == b"http://y:1, http://z:1"
    head = await client.request("HEAD", "/v2/machines")
    assert head.header("Content-Length") == "22"


async def test_no_client_makes_the_page_of_metrics_longer(client: Connection) -> None:
    """A method, a code or a path that somebody makes up is no label: labels are kept for ever."""
    await client.request("GET", "/v2/keys/a")
    before = (await client.request("GET", "/metrics")).body.count(b"\n")
    for number in range(20):
        for path in ("/v2/keys/a", f"/v2/{number}", "/metrics"):
            await client.request(f"M{number}", path)
    assert (await client.request("GET", "/metrics")).body.count(b"\n") == before


async def test_metrics_count_requests_and_watches(served: Served, client: Connection) -> None:
    """Prometheus' text format, with etcd's names and labels; what is not understood is not counted."""
    served.backend.has_quorum = True
    for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?quorum=true"), ("GET", "?recursive=x"), ("PATCH", "")):
        await client.request(method, f"/v2/keys/a{query}")
    await client.stream("/v2/keys/a?wait=true")
    async with await served.connect() as other:
        answer = await other.request("GET", "/metrics")
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    page = answer.body.decode()
    assert [line for line in page.splitlines() if line.startswith("etcd_http_")] == [
        *(f'etcd_http_received_total{{method="{method}"}} 1.0' for method in ("GET", "HEAD", "QGET")),
        *(f'etcd_http_failed_total{{code="404",method="{method}"}} 1.0' for method in ("GET", "HEAD", "QGET")),
    ]
    assert "etcd_debugging_store_watch_requests_total 1.0" in page
    assert 'etcd_debugging_store_reads_total{action="get"} 3.0' in page
    assert 'etcd_debugging_store_reads_total{action="getRecursive"} 0.0' in page
    assert 'etcd_server_version{server_version="3.4.23"} 1.0' in page


async def test_debug_vars_is_json(client: Connection) -> None:
    """The parts of etcd's page that mean the same here."""
    page = (await client.request("GET", "/debug/vars")).json()
    assert page["raft.status"]["id"] == "cc4ac920d46ff089"
    assert isinstance(page["cmdline"], list)


@pytest.mark.parametrize(
    ("method", "body", "status", "said"),
    [
        ("PUT", b'{"Level":"DEBUG"}', 204, b""),
        ("PUT", b'{"level":"I"}', 204, b""),
        ("PUT", b'{"Level":"LOUD"}', 400, b'{"message":"Invalid log level LOUD"}'),
        ("PUT", b'{"level":"debug"} and more', 204, b""),
        ("PUT", b'{"Level":7}', 400, b'{"message":"Invalid json body"}'),
        ("PUT", b"[]", 400, b'{"message":"Invalid json body"}'),
        ("PUT", b"\xff", 400, b'{"message":"Invalid json body"}'),
        ("PUT", b"[" * 200_000, 400, b'{"message":"Invalid json body"}'),
        ("PUT", b'{"Level":"\\ud800"}', 400, '{"message":"Invalid log level \ufffd"}'.encode()),
        ("PUT", b"null", 400, b'{"message":"Invalid log level "}'),
        ("POST", b"{}", 405, b"Method Not Allowed\n"),
    ],
)
async def test_log_level_can_be_set_at_run_time(
    client: Connection, method: str, body: bytes, status: int, said: bytes
) -> None:
    """Etcd's names for the levels, long and short, in any case; whatever else the body is, it is no 500."""
    before = logging.getLogger("kvraft").level
    try:
        answer = await client.request(method, "/config/local/log", body=body)
        assert (answer.status, answer.body) == (status, said)
        if status == 204:
            assert logging.getLogger("kvraft").level == (logging.DEBUG if b"debug" in body.lower() else logging.INFO)
    finally:
        logging.getLogger("kvraft").setLevel(before)


async def test_options_is_200_on_any_path_and_names_no_origin(client: Connection) -> None:
    """With CORS off there are no CORS headers, as in etcd 2.3."""
    for target in ("/v2/keys/foo", "/nope//x", "*"):
        answer = await client.request("OPTIONS", target, headers=(("Origin", "http://evil.example"),))
        assert (answer.status, answer.body) == (200, b"")
        assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


async def test_write_from_a_foreign_page_is_refused_and_reads_stay_closed(served: Served, client: Connection) -> None:
    """Design decision 14: a page of another site must not write with its reader's position in the network."""
    foreign = (("Origin", "http://evil.example"), ("Content-Type", "application/x-www-form-urlencoded"))
    for method in ("PUT", "POST", "DELETE"):
        answer = await client.request(method, "/v2/keys/foo", body=b"value=1", headers=foreign)
        assert answer.status == 403
    assert served.backend.keyspace.etcd_index == 3
    read = await client.request("GET", "/v2/keys/", headers=foreign[:1])
    assert read.status == 200
    assert read.header("Access-Control-Allow-Origin") is None
    own = (("Origin", served.url), *foreign[1:])
    assert (await client.request("PUT", "/v2/keys/foo", body=b"value=1", headers=own)).status == 201


@pytest.mark.parametrize("allowed", [b"*", b"http://page.example"])
async def test_allowed_origin_may_write_and_is_told_so(settings: ApiSettings, allowed: bytes) -> None:
    """`--cors`: the star is for everybody and said to everybody, a single origin to its pages only."""
    served = await start(dataclasses.replace(settings, cors_origins=frozenset((allowed,))))
    async with await served.connect() as client:
        page = (("Origin", "http://page.example"), ("Content-Type", "application/x-www-form-urlencoded"))
        answer = await client.request("PUT", "/v2/keys/foo", body=b"value=1", headers=page)
        assert answer.status == 201
        assert answer.header("Access-Control-Allow-Origin") == allowed.decode()
        assert answer.header("Access-Control-Allow-Methods") == "POST, GET, OPTIONS, PUT, DELETE"
        assert answer.header("Access-Control-Allow-Headers") == "accept, content-type, authorization"
        plain = await client.request("GET", "/v2/keys/foo")
        assert plain.header("Access-Control-Allow-Origin") == ("*" if allowed == b"*" else None)
    await asyncio.wait_for(served.server.stop(), 10)
