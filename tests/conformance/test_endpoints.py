"""Every endpoint under every method, and requests in unusual wire forms, live against etcd and kvraft."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.conformance import systems
from tests.conformance.comparison import Comparable, comparable, difference
from tests.conformance.differential.pair import pair
from tests.conformance.systems import System
from tests.conformance.wire import FORM, Answer, Connection, Request, keys_request

pytestmark = pytest.mark.slow

METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "FOO")
ENDPOINTS: Final = (
    "/",
    "/version",
    "/version/",
    "/health",
    "/health/",
    "/v2",
    "/v2/machines",
    "/v2/machines/",
    "/v2/members",
    "/v2/members/",
    "/v2/members/leader",
    "/v2/members/nobody",
    "/v2/stats/self",
    "/v2/stats/leader",
    "/v2/stats/store",
    "/v2/stats/other",
    "/v2/keys/endpoints",
    "/v2/keys?wait=maybe",
    "/v2//keys/./a/../b",
)
_VARIES: Final = re.compile(rb'"(startTime|uptime)":"[^"]+"|"(\w+(?:Cnt|Rate|Success|Fail|Count|watchers))":[0-9.e+]+')
_RATE: Final = re.compile(rb',"(?:send|recv)(?:Pkg|Bandwidth)Rate":[0-9.e+]+')


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[System, System]]:
    """Both, fresh, for this module alone."""
    with systems.etcd() as oracle, systems.subject() as subject:
        yield oracle, subject


def shown(system: System, answer: Answer) -> Comparable:
    """An answer with names of the system, times and counters replaced."""
    member = system.cluster.members[0]
    body = answer.body
    for text, word in ((member.client_url, b"<client URL>"), (member.peer_url, b"<peer URL>")):
        body = body.replace(text.encode(), word)
    body = _RATE.sub(b"", body)
    body = _VARIES.sub(lambda found: found[1] or found[2], body)
    body = re.sub(rb'"(id|leader)":"[0-9a-f]+"', rb'"\1":"<id>"', body)
    return comparable(Answer(answer.head, body), unsorted=True)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_answers_every_method_as_etcd_does(both: tuple[System, System], endpoint: str) -> None:
    """Status, headers and body, names and times aside; unknown methods included."""
    found = []
    with pair(*both) as servers:
        # What one of them refused in another test has cost the other an index.
        servers.align()
    with Connection(both[0].client_urls[0]) as oracle, Connection(both[1].client_urls[0]) as subject:
        for method in METHODS:
            request = Request(method, endpoint.encode())
            expected, actual = (
                shown(system, connection.ask(request))
                for system, connection in zip(both, (oracle, subject), strict=True)
            )
            words = difference(expected, actual)
            if words is not None:
                found.append(f"{request}: {words}")
    assert not found, "\n".join(found)


LEVELS: Final = (
    b"", b" ", b"\x00", b"-", b"5", b"true", b"tru", b"null", b"nullx", b"NaN", b'"INFO"', b"[]", b"{}", b"[" * 200_000,
    b'\xef\xbb\xbf{"Level":"INFO"}', b'\xc2\xa0{"Level":"INFO"}', b'\x0b{"Level":"INFO"}', b' \t\r\n{"Level":"INFO"}',
    b'{"Level":"INFO"', b'{"Level":"INFO",}', b'{"Level":"INFO"}garbage', b'{"level":"debug"}', b'{"LEVEL":"i"}',
    b'{"Level":"Notice"}', b'{"Level":"3"}', b'{"Level":"LOUD"}', b'{"Level":""}', b'{"Level":" INFO"}',
    b'{"Level":null}', b'{"Level":5}', b'{"Level":true}', b'{"Level":["INFO"]}', b'{"Level":{"a":"INFO"}}',
    b'{"Level":NaN}', b'{"Level":1e999}', b'{"Level":' + b"[" * 200_000,
    b'{"Level":"INFO","Level":null}', b'{"Level":"LOUD","level":"INFO"}', b'{"Level":"INFO","level":"LOUD"}',
    b'{"Level":"INFO","level":5}', b'{"Level":5,"level":"INFO"}',
    b'{"x":NaN,"Level":"INFO"}', b'{"x":-Infinity,"Level":"INFO"}', b'{"x":1e999,"Level":"INFO"}',
    b'{"x":01,"Level":"INFO"}', b'{"x":1.,"Level":"INFO"}', b'{"x":-0,"Level":"INFO"}',
    b'{"x":' + b"9" * 5000 + b',"Level":"INFO"}', b'{"x":{"Level":5},"Level":"INFO"}',
    b'{"x":' + b"[" * 500 + b"]" * 500 + b',"Level":"INFO"}',
    b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b',"Level":"INFO"}',
    b'{"Level":"IN\\u0046O"}', b'{"Le\\u0076el":"INFO"}', b'{"Leve\xc5\x82":"INFO"}', b'{"Level":"\\u0131"}',
    b'{"Level":"\\ud800"}', b'{"Level":"\\ud800x\\udc00"}', b'{"Level":"\\ud83d\\ude00"}', b'{"Level":"\\x"}',
    b'{"Level":"\xff"}', b'{"Level":"\xed\xa0\x80"}', b'{"Level":"\xf0\x9f\x98"}', b'{"Level":"\xc3\xa4"}',
    b'{"Level":"IN\nFO"}', b'{"Level":"<&>\\u2028\\n"}', b'{"x":"\x7f","Level":"INFO"}',
)  # fmt: skip
"""Bodies for /config/local/log: JSON, nearly JSON, and other types than the one field that is looked for."""


def test_a_log_level_is_read_as_go_reads_it(both: tuple[System, System]) -> None:
    """encoding/json's Decoder into a struct with one string; never a 500."""
    found = []
    with Connection(both[0].client_urls[0]) as oracle, Connection(both[1].client_urls[0]) as subject:
        for body in LEVELS:
            request = Request("PUT", b"/config/local/log", body)
            expected, actual = (comparable(connection.ask(request)) for connection in (oracle, subject))
            words = difference(expected, actual)
            if words is not None:
                found.append(f"{body[:40]!r}: {words}")
    assert not found, "\n".join(found)


COUNTED: Final = re.compile(
    rb'(etcd_http_(?:received|failed)_total\{[^}]*\}|etcd_debugging_store_reads_total\{action="getRecursive"\}) (\S+)'
)
"""Not `get`: etcd's own look-ups of its auth settings are among those."""


def counted(url: str) -> Counter[bytes]:
    """What a server has counted of its clients' requests."""
    with Connection(url) as connection:
        page = connection.ask(Request("GET", b"/metrics")).body
    return Counter({name: int(float(number)) for name, number in COUNTED.findall(page)})


def test_requests_are_counted_as_etcd_counts_them(both: tuple[System, System]) -> None:
    """By method, quorum and recursive reads apart; not watches, other endpoints and what is not understood."""
    requests = [
        *(keys_request(method, "/counted") for method in ("PATCH", "FOO", "OPTIONS")),
        keys_request("PUT", "/counted/a", "value=1"),
        keys_request("PUT", "/counted/a", "value=1&prevExist=false"),
        keys_request("PUT", "/counted/a", "value=1", query="quorum=true"),
        keys_request("PUT", "/counted/a", "ttl=x"),
        keys_request("POST", "/counted", "value=1"),
        *(
            keys_request(method, key, query=query)
            for method in ("GET", "HEAD")
            for key in ("/counted", "/none")
            for query in ("", "quorum=true", "recursive=true", "quorum=true&recursive=true", "recursive=maybe")
        ),
        keys_request("GET", "/counted/a", query="wait=true&waitIndex=1"),
        keys_request("GET", "/counted/a", query="wait=maybe"),
        keys_request("DELETE", "/counted"),
        keys_request("DELETE", "/counted", query="recursive=true"),
        *(Request("GET", target) for target in (b"/v2/keys//a", b"/v2/nothing", b"/v2/members", b"/v2/members/none")),
    ]
    moved = []
    for system in both:
        before = counted(system.client_urls[0])
        with Connection(system.client_urls[0]) as connection:
            for request in requests:
                connection.ask(request)
        moved.append(counted(system.client_urls[0]) - before)
    assert len(moved[0]) > 10
    assert moved[1] == moved[0]


RAW: Final = {
    "chunked body": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"6\r\nvalue=\r\n3\r\nabc\r\n0\r\n\r\n" % FORM.encode(),
    "chunks with an extension and a trailer": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n7;x=y\r\nvalue=d\r\n0\r\nTrailer: t\r\n\r\n" % FORM.encode(),
    "header names in other cases": b"PUT /v2/keys/raw HTTP/1.1\r\nhOST: h\r\ncontent-TYPE: %b\r\nCONTENT-length: 7\r\n"
    b"\r\nvalue=e" % FORM.encode(),
    "an absolute target": b"GET http://h/v2/keys/raw HTTP/1.1\r\nHost: h\r\n\r\n",
    "no Host": b"GET /v2/keys/raw HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v2/keys/raw HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
    "HTTP/1.0": b"GET /v2/keys/raw HTTP/1.0\r\n\r\n",
    "HTTP/1.0 kept alive": b"GET /v2/keys/raw HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "Connection: close": b"GET /v2/keys/raw HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "a GET with a body": b"GET /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "a DELETE with a form": b"DELETE /v2/keys/none HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\nContent-Length: 8\r\n\r\n"
    b"dir=true" % FORM.encode(),
    "lines that end in LF": b"GET /v2/keys/raw HTTP/1.1\nHost: h\n\n",
    "a blank in the target": b"GET /v2/keys/a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "no version": b"GET /v2/keys/raw\r\nHost: h\r\n\r\n",
    "HTTP/3.0": b"GET /v2/keys/raw HTTP/3.0\r\nHost: h\r\n\r\n",
    "a negative length": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    "two equal lengths": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
    "a blank before the colon": b"GET /v2/keys/raw HTTP/1.1\r\nHost : h\r\n\r\n",
    "an unknown coding": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a chunk length that is no number": b"PUT /v2/keys/raw HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nvalue=f\r\n0\r\n\r\n" % FORM.encode(),
}


REFUSED: Final = frozenset(
    {
        "lines that end in LF",
        "two equal lengths",
        "a chunk length that is no number",
        "an unknown coding",
        "HTTP/3.0",
    }
)
"""What no client sends and a smuggler may: kvraft answers 400 and closes, in plain text, where etcd takes the first two
and words its refusal of the others in its own way (docs/decisions.md, "malformed HTTP is refused")."""


_GOOD: Final = b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n"
_LAST: Final = b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
_UPGRADE: Final = b"Host: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
PACKETS: Final = {
    "a raw byte in a path": b"GET /v2/keys/b\xff?value=1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "raw bytes in a path that are UTF-8": b"PUT /v2/keys/b\xc3\xa9?value=1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a raw byte in a query": b"PUT /v2/keys/b?value=\xc3\xa9\x80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a raw byte where nothing is": b"GET /none\x80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a raw byte in a host": b"GET http://h\xff/v2/keys/b\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "raw bytes in a redirect": b"GET /v2/keys//b\xe9%41?x=\x80%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "raw bytes behind a broken escape": b"GET /v2/keys/%zz\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "an upgrade": b"GET /v2/keys/none HTTP/1.1\r\n%b\r\n" % _UPGRADE,
    "an upgrade of a write": b"PUT /v2/keys/b HTTP/1.1\r\n%bContent-Type: %b\r\nContent-Length: 7\r\n\r\nvalue=1"
    % (_UPGRADE, FORM.encode()),
    "an unknown method": _GOOD + b"FOO /v2/keys/b HTTP/1.1\r\nHost: h\r\n\r\n",
    "an unknown method with a body": _GOOD + b"FOO /v2/keys HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "a method of odd characters": _GOOD + b"F!#$%&'*+-.^_`|~9 /v2/keys HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method that is no token": _GOOD + b"G@T /v2/keys HTTP/1.1\r\nHost: h\r\n\r\n",
    "a word": _GOOD + b"FOO\r\n\r\n",
    "a word behind a read of keys": b"GET /v2/keys/none HTTP/1.1\r\nHost: h\r\n\r\nFOO\r\n\r\n",
    "a line without a colon": _GOOD + b"GET /version HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
    "CONNECT to a host": b"CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT to a path": b"CONNECT /v2/keys HTTP/1.1\r\nHost: h\r\n\r\n",
    "an unknown method in HTTP/1.0": b"FOO /v2/keys HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "a broken chunk that nobody reads": b"GET /v2/keys/none HTTP/1.1\r\nHost: h\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
}
"""What comes in one packet, before one last good request."""


@pytest.mark.parametrize("name", PACKETS)
def test_a_packet_is_answered_request_by_request_as_etcd_does(both: tuple[System, System], name: str) -> None:
    """Every answer with its status and headers, the body but for indices, until the connection ends."""
    found: list[list[Any]] = []
    for system in both:
        answers: list[Any] = []
        with Connection(system.client_urls[0]) as connection:
            connection.ask(keys_request("DELETE", "/b"))
            connection.ask(keys_request("DELETE", "/b%c3%a9"))
            connection.send_bytes(PACKETS[name] + _LAST)
            while connection.is_open:
                answer = connection.receive("GET")
                named = [(key, answer.header(key)) for key in ("Content-Type", "Location", "Allow", "Connection")]
                body = re.sub(rb'"(modifiedIndex|createdIndex|index)":\d+', b"", answer.body)
                answers.append((answer.status, named, body))
        found.append(answers)
    assert found[1] == found[0]


@pytest.mark.parametrize("name", RAW)
def test_an_unusual_request_gets_etcds_answer(both: tuple[System, System], name: str) -> None:
    """The same status and, for what is understood, the same body."""
    answers = []
    for system in both:
        with Connection(system.client_urls[0]) as connection:
            connection.ask(keys_request("PUT", "/raw", "value=before"))
            connection.send_bytes(RAW[name])
            answers.append(connection.receive("GET"))
    expected, actual = answers
    if name in REFUSED and not both[1].is_etcd:
        assert (actual.status, actual.head.closes) == (400, True)
        return
    assert actual.status == expected.status, f"{actual}, not {expected}"
    if expected.header("Content-Type") == "application/json":
        assert indices_away(actual.body) == indices_away(expected.body)


def indices_away(body: bytes) -> Any:
    """The parsed body without indices: both servers have been asked other things before."""
    return json.loads(re.sub(rb'"(modifiedIndex|createdIndex|index)":\d+', rb'"\1":0', body))


def test_pipelined_requests_are_answered_in_order(both: tuple[System, System]) -> None:
    """Requests sent without waiting: every write is seen by the read behind it."""
    for system in both:
        with Connection(system.client_urls[0]) as connection:
            requests = []
            for number in range(20):
                requests += [keys_request("PUT", "/pipe", f"value={number}"), keys_request("GET", "/pipe")]
            connection.send_bytes(b"".join(request.encode(connection.host) for request in requests))
            values = [json.loads(connection.receive(request.method).body)["node"]["value"] for request in requests]
        assert values == [str(number) for number in range(20) for _ in range(2)], str(system)


def test_an_expected_continue_is_given(both: tuple[System, System]) -> None:
    """A client like curl waits for `100 Continue` before it sends a long body."""
    for system in both:
        with Connection(system.client_urls[0]) as connection:
            head = b"PUT /v2/keys/expect HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\nContent-Length: 7\r\n"
            connection.send_bytes(head % FORM.encode() + b"Expect: 100-continue\r\n\r\n")
            assert connection.receive_interim() == 100, str(system)
            connection.send_bytes(b"value=c")
            answer = connection.receive("PUT")
        assert answer.status in (200, 201), str(system)
        assert json.loads(answer.body)["node"]["value"] == "c"


def test_deep_and_long_paths_work(both: tuple[System, System]) -> None:
    """A path of 3,000 bytes in one name, and one 1,000 directories deep: written, read, deleted."""
    for system in both:
        with Connection(system.client_urls[0]) as connection:
            connection.ask(keys_request("HEAD", "/"))
            for path in ("/long/" + "n" * 3000, "/deep" + "/d" * 1000):
                assert connection.ask(keys_request("PUT", path, "value=1")).status == 201, str(system)
                assert json.loads(connection.ask(keys_request("GET", path)).body)["node"]["key"] == path
                top = "/" + path.split("/")[1]
                assert connection.ask(keys_request("DELETE", top, query="recursive=true")).status == 200


def test_keys_that_are_not_utf8_have_one_name_on_etcd_and_are_refused_by_kvraft(both: tuple[System, System]) -> None:
    """A documented difference: what etcd lists for them is a third key, which does not exist."""
    for system in both:
        with Connection(system.client_urls[0]) as connection:
            created = [connection.ask(keys_request("PUT", f"/odd/{name}?value=1")) for name in ("a%ff", "a%fe")]
            listed = json.loads(connection.ask(keys_request("GET", "/odd")).body)
            if system.is_etcd:
                assert [answer.status for answer in created] == [201, 201]
                assert [node["key"] for node in listed["node"]["nodes"]] == ["/odd/a\ufffd"] * 2
            else:
                refusal = {"errorCode": 209, "message": "Invalid field", "cause": "the key is not UTF-8", "index": 0}
                assert [(answer.status, json.loads(answer.body)) for answer in created] == [(400, refusal)] * 2
                assert listed["errorCode"] == 100
            assert connection.ask(keys_request("GET", "/odd/a%EF%BF%BD")).status == 404
