"""/v2/members on etcd and kvraft side by side: every way in which a change is wrong, and changes of three members."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.conformance import systems
from tests.conformance.comparison import comparable, difference
from tests.conformance.differential.pair import Pair, Server, pair
from tests.conformance.membership import wait_addable
from tests.conformance.wire import Answer, Request, keys_request

pytestmark = pytest.mark.slow

JSON: Final = "application/json"
_ID: Final = re.compile(rb"\b[0-9a-f]{12,16}\b")
_MEMBER: Final = re.compile(rb'\{"id":[^}]*\}')


def change(method: str, target: str, body: object = None, content_type: str | None = JSON) -> Request:
    """A request on /v2/members, its body as JSON."""
    text = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    return Request(method, b"/v2/members" + target.encode(), text, content_type if text is not None else None)


def urls(*peer_urls: str) -> dict[str, object]:
    """The body of a POST or PUT."""
    return {"peerURLs": list(peer_urls)}


@pytest.fixture(scope="module")
def alone() -> Iterator[Pair]:
    """One member of each."""
    with systems.etcd() as oracle, systems.subject() as subject, pair(oracle, subject) as servers:
        servers.align()
        yield servers


@pytest.fixture(scope="module")
def three() -> Iterator[Pair]:
    """Three of each, at the same index, and connected for long enough."""
    with systems.etcd(3) as oracle, systems.subject(3) as subject, pair(oracle, subject) as servers:
        for server in servers.both:
            wait_addable(server)
        servers.align()
        yield servers


def named(server: Server, text: str) -> str:
    """A text with `ID` as the id of the first member, and `PEER1` as the peer URL of the second."""
    members = server.system.cluster.members
    if "ID" in text:
        listed = json.loads(server.ask(Request("GET", b"/v2/members")).body)["members"]
        text = text.replace("ID", next(it["id"] for it in listed if members[0].client_url in it["clientURLs"]))
    for number, member in enumerate(members):
        text = text.replace(f"PEER{number}", member.peer_url)
    return text


def masked(server: Server, answer: Answer) -> Answer:
    """Without ids and places; members in the order of their names and peer URLs, as ids are chance."""
    body = answer.body
    for number, member in enumerate(server.system.cluster.members):
        body = body.replace(member.client_url.encode(), b"CLIENT%d" % number)
        body = body.replace(member.peer_url.encode(), b"PEER%d" % number)
        body = body.replace(b'"name":"%b"' % member.name.encode(), b'"name":"NAME%d"' % number)
    if body.startswith(b'{"members":'):
        ids = [int(found, 16) for found in re.findall(rb'"id":"([0-9a-f]+)"', body)]
        assert ids == sorted(ids)
    body = _ID.sub(b"ID", body)
    listed = sorted(_MEMBER.findall(body))
    rest = iter(listed)
    return Answer(answer.head, _MEMBER.sub(lambda _: next(rest), body))


def compared(servers: Pair, request: Request) -> tuple[str | None, Answer]:
    """The first difference between the two answers, and etcd's."""
    answers = []
    for server in servers.both:
        target = named(server, request.target.decode()).encode()
        body = None if request.body is None else named(server, request.body.decode("latin-1")).encode("latin-1")
        translated = Request(request.method, target, body, request.content_type, request.headers)
        answers.append(masked(server, server.ask(translated)))
    expected, actual = answers
    return difference(comparable(expected, unsorted=False), comparable(actual, unsorted=False)), expected


def agree(servers: Pair, request: Request) -> Answer:
    """Ask both; the answers must be the same. Returns etcd's."""
    words, expected = compared(servers, request)
    assert words is None, f"{request}: {words}"
    return expected


NO_JSON: Final = [
    b"",
    b" ",
    b"{bad",
    b"{",
    b"[",
    b"{}",
    b" null\r\n\t",
    b"[]",
    b"1",
    b'"s"',
    b"true",
    b'{"peerURLs":1}',
    b'{"peerURLs":-1.5e+3}',
    b'{"peerURLs":"x"}',
    b'{"peerURLs":{}}',
    b'{"peerURLs":true}',
    b'{"peerURLs":null}',
    b'{"peerURLs":[]}',
    b'{"peerURLs":[1]}',
    b'{"peerURLs":[null]}',
    b'{"peerURLs":[["a"]]}',
    b'{"peerURLs":[{}]}',
    b'{"peerURLs":["http://x",false]}',
    b'{"PEERurls":["http://x"]}',
    b'{"peerURL\xc5\xbf":["http://x"]}',
    b'{"other":["http://x:1"]}',
    b'{"a":1}x',
    b"{} x",
    b'{"a":1,}',
    b'{"a" 1}',
    b'{"a":1 "b"}',
    b"[1 2]",
    b"[1,]",
    b"[,1]",
    b"{,}",
    b'{"a":tru}',
    b'{"a":nulx}',
    b'{"a":falsy}',
    b'{"a":NaN}',
    b'{"a":"\x01"}',
    b'{"a":"\x7f"}',
    b'{"a":"\\q"}',
    b'{"a":"\\u12g4"}',
    b'{"a":-}',
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":1.}',
    b'{"a":.5}',
    b'{"a":1e}',
    b'{"a":1e+}',
    b'{"a":1E5,"b":0.0,"c":-0}',
    b'{"a":' + b"9" * 5000 + b"}",
    b'{"a":',
    b'{"a":"b',
    b'{"a":"b\\',
    b'{"a":"\\u1',
    b'{"a":tr',
    b'{"a":-',
    b"{'a':1}",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b'{"a":\xe9}',
    b'{"a":\x00}',
    b'{"a":\x7f}',
    b'{"peerURLs":["http://\xff\xfe:1/p"]}',
    b'{"peerURLs":["http://\xe2\x82:1/p"]}',
    b'{"peerURLs":["http://\\ud800:1/p"]}',
    b'{"peerURLs":["http://\\ud83d\\ude00:1/p"]}',
    b"[" * 10_001,
    b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"peerURLs":[1],"peerURLs":["http://x"]}',
    b'{"peerURLs":["http://y:1/p"],"peerURLs":["http://x"]}',
    b'{"peerURLs":["http://y:1/p"],"peerURLs":[null]}',
    b'{"peerURLs":["http://y:1/p"],"peerURLs":null}',
    b'{"peerURLs":"a","peerURLs":[1]}',
]


def test_body_that_says_nothing_useful_is_refused_in_gos_words(alone: Pair) -> None:
    """Its JSON is wrong, of another shape, or names no URL."""
    found = []
    for body in NO_JSON:
        words, expected = compared(alone, Request("PUT", b"/v2/members/ID", body, JSON))
        assert expected.status == 400, body
        if words is not None:
            found.append(f"{body[:80]!r}: {words}")
    assert not found, "\n".join(found)


NO_URL: Final = [
    "",
    ":",
    " http://x:1/p ",
    "http://",
    "http:",
    "//x:1",
    "///x:1",
    "x:1",
    "x:1/y:2",
    "/x:1",
    "HTTP://X:1/p",
    "HTTP://X",
    "ftp://x:1",
    "unix://x",
    "unixs://x:1/p",
    "http://a b:1",
    "http://a:b",
    "http://a:1:2",
    "http://a::1",
    "http://[::1]:1/p",
    "http://[::1",
    "http://[::1]",
    "http://[::1]x",
    "http://[::1]:x",
    "http://x[::1]:1",
    "http://[[::1]]:1",
    "http://[::1%25eth0]:1/p",
    "http://[::1%25 x]:1/p",
    "http://[::1%25e%2f]:1/p",
    "http://[::1%25e%41%20%25]:1/p",
    "http://[::1%25e%c3]:1/p",
    "http://h{%zz:1",
    "http://[::1%25e]:1]",
    "http://[::1%zz]:1",
    "http://[::1%41]:1",
    "http://%41:1/p",
    "http://a%2fb:1/p",
    "http://a%c3%a9:1/p",
    "http://a%25b:1/p",
    "http://u s@x:1",
    "http://u:p@x:1/p",
    "http://u@:1/p",
    "http://u%zz@x:1",
    "http://a@b@c:1/p",
    "http://x:/p",
    "http://:1/p",
    "http://x:99999/p",
    "http://x:1/%zz",
    "http://x:1/%",
    "http://x:1/a%41",
    "http://x:1\\p",
    "http://x:1/é",
    "http://é:1/p",
    "http://x\u0001:1",
    "http://x\u007f:1",
    "http://x:1\ny",
    "1http://x:1",
    "a:b/c",
    "http//x:1",
    "http://x:1/",
    "http://x:1//",
    "?",
    "#",
    "*",
    "http:x:1",
    "http:///p",
    "http://x:1%",
    "http://<x>:1/p",
    'http://x"y:1/p',
    "http://x'y:1/p",
    "http://x^y:1",
    "http://x|y:1",
    "http://x{:1",
    "http://x`:1/p",
    "http://x:1#a%zz",
    "\u00a0http://x:1/p",
    "http://x:1/p\u2028",
    "http://x:1/\u2028p",
    "http://x y",
    "http://\u202ex:1/p",
    "http://x\U0001f600 y:1",
]


def test_url_that_is_none_for_a_member_is_refused_in_etcds_words(alone: Pair) -> None:
    """Whichever of its checks comes first; the second of two URLs as well as the first."""
    found = []
    for url in NO_URL:
        for listed in (urls(url), urls("http://fine:1", url)):
            words, expected = compared(alone, change("PUT", "/ID", listed))
            assert expected.status == 400, url
            if words is not None:
                found.append(f"{url!r}: {words}")
    assert not found, "\n".join(found)


SCHEMES: Final = (
    "http://",
    "https://",
    "HTTP://",
    "http:",
    "http:/",
    "//",
    "",
    "ftp://",
    "unix://",
    "1h://",
    "h+-.://",
    ":",
)
HOSTS: Final = (
    "h",
    "127.0.0.1",
    "[::1]",
    "[fe80::1%25e]",
    "[::1",
    "::1]",
    "a:b",
    "",
    "h%41",
    "h%c3%a9",
    "h%zz",
    "<h>",
    "a b",
    "u@h",
)
PORTS: Final = (":1", ":65535", ":", "", ":x", ":1:2", ":01", ":-1", ":1%")
RESTS: Final = (
    "",
    "",
    "",
    "/",
    "/p",
    "/%zz",
    "//",
    "?q",
    "#f",
    "#%zz",
    " ",
    "\\",
    "\x00",
    "\x7f",
    "é",
    "'",
    '"',
    "\u2028",
)
INSERTED: Final = (
    *"{}[],:\"\\ \t01-+.eEtfnu'/x",
    "\x00",
    "\x1f",
    "é",
    "\ud800",
    "null",
    "true",
    '"peerURLs"',
    "\\u12",
    "\\n",
)
OURS: Final = re.compile(rb'\{"message":"(URL must (have|be|not contain a (user|query|fragment))|Unix sockets)')
"""What only kvraft refuses, where etcd goes on to look for the member."""


def random_body(chance: random.Random) -> bytes:
    """A body with a list of URLs, one of them often odd, and often some characters more or fewer."""
    parts = SCHEMES, HOSTS, PORTS, RESTS
    listed = ["".join(chance.choice(part[:1] if chance.random() < 0.6 else part) for part in parts) for _ in range(2)]
    text = json.dumps({chance.choice(("peerURLs", "PeerUrls", "other")): listed}, ensure_ascii=chance.random() < 0.5)
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(INSERTED) + text[at + chance.randrange(3) :]
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("seed", range(4))
def test_bodies_made_by_chance_are_judged_as_by_etcd(alone: Pair, seed: int) -> None:
    """For a member that does not exist, so that nothing changes whatever they say."""
    chance = random.Random(seed)
    found, statuses = [], Counter[int]()
    for _ in range(300):
        request = Request("PUT", b"/v2/members/123", random_body(chance), JSON)
        expected, actual = (server.ask(request) for server in alone.both)
        if (
            expected.status == 500
        ):  # it has lost its leader, itself, to a slow disk; asked again it says the same or not
            expected = alone.oracle.ask(request)
        statuses[expected.status] += 1
        words = difference(comparable(expected, unsorted=False), comparable(actual, unsorted=False))
        if words is not None and not (expected.status == 404 and OURS.match(actual.body)):
            found.append(f"{request.body!r}: {words}")
    assert not found, "\n".join(found)
    assert set(statuses) == {400, 404}


@pytest.mark.parametrize(
    "url",
    [
        "unix://socket:1",
        "http://u:p@x:1",
        "http://@x:1",
        "http://x:1?q",
        "http://x:1?",
        "http://x:1#f",
        "http://x:",
        "http://:1",
        "http://x:0",
        "http://x:65536",
        "http://é:1",
        "http://" + "x" * 1024 + ":1",
    ],
)
def test_url_that_no_kvraft_can_have_is_refused_where_etcd_takes_it(alone: Pair, url: str) -> None:
    """A difference that is meant: a member could not be started with it (docs/differences.md)."""
    request = change("POST", "", urls(url))
    refused = alone.subject.ask(request)
    if alone.subject.system.is_etcd:
        return
    assert refused.status == 400
    message = json.loads(refused.body)["message"]
    assert message.startswith(("URL must ", "Unix sockets"))
    assert url[:80] in message


def test_more_urls_than_a_member_can_have_are_refused(alone: Pair) -> None:
    """An entry with so many could be read by nobody, and would stop every member."""
    if not alone.subject.system.is_etcd:
        refused = alone.subject.ask(change("POST", "", urls(*(f"http://h:{port}" for port in range(1, 2000)))))
        assert (refused.status, refused.body) == (400, b'{"message":"at most 64 URLs for one member: 1999"}')


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json;x",
        "Application/Json",
        "Application/Json;",
        "application/json ;a",
        " application/json ",
        "text/plain",
        "text/plain; charset=utf-8",
        "application/json, text/plain",
        "A/B;C",
        "application/jsonx",
    ],
)
def test_content_type_is_judged_as_by_etcd(alone: Pair, content_type: str | None) -> None:
    """Before the body is."""
    agree(alone, Request("POST", b"/v2/members", b"{}", content_type))


PATHS: Final = (
    "",
    "/",
    "/leader",
    "/leader/",
    "/ID",
    "/ID/",
    "/0x12",
    "/+1",
    "/-1",
    "/1_0",
    "/00012",
    "/" + "f" * 17,
    "/0" + "f" * 16,
    "/" + "F" * 16,
    "/12/",
    "/a/b",
    "/%20",
    "/%ff",
    "/AB",
    "//ab",
    "/%2Fab",
)


def test_paths_below_members_are_read_as_by_etcd(alone: Pair) -> None:
    """The path before the Content-Type before the body; whether there is such a member comes last."""
    found = []
    for path in PATHS:
        for request in (
            change("PUT", path, urls("x"), "text/plain"),
            change("PUT", path, urls("x")),
            change("POST", path, urls("x")),
            change("GET", path),
            *([] if path.startswith("/ID") else [change("DELETE", path), change("PUT", path, urls("http://x:1"))]),
        ):
            words, _ = compared(alone, request)
            if words is not None:
                found.append(f"{request}: {words}")
    assert not found, "\n".join(found)


def test_only_member_is_not_removed(alone: Pair) -> None:
    """500, as everything that the strict check refuses; nor is anybody added who is there."""
    assert agree(alone, change("DELETE", "/ID")).status == 500
    assert agree(alone, change("POST", "", urls("PEER0"))).status == 409


def test_changes_of_three_members_answer_and_count_as_in_etcd(three: Pair) -> None:
    """Each with its status, headers, body and etcd_indices; through whichever member they come."""
    index = keys_request("GET", "/", query="quorum=true")

    def step(request: Request, status: int) -> None:
        assert agree(three, request).status == status, request
        assert agree(three, index).etcd_index == three.subject.index
        agree(three, change("GET", ""))
        agree(three, Request("GET", b"/v2/machines"))

    def added_id(server: Server) -> str:
        listed = json.loads(server.ask(change("GET", "")).body)["members"]
        return str(next(it["id"] for it in listed if not it["name"]))

    step(change("POST", "", urls("PEER1")), 409)
    step(change("POST", "", urls("http://127.0.0.1:9", "PEER2")), 409)
    step(change("POST", "/nonsense", urls(" HTTP://h:9 ", "http://a:9", "http://h:9")), 201)
    ids = [added_id(server) for server in three.both]

    def on_added(method: str, status: int, body: object = None) -> None:
        answers = []
        for server, member_id in zip(three.both, ids, strict=True):
            request = change(method, f"/{member_id}", body)
            translated = None if request.body is None else named(server, request.body.decode()).encode()
            answer = server.ask(Request(method, request.target, translated, request.content_type), member=1)
            answers.append(comparable(masked(server, answer), unsorted=False))
        assert difference(*answers) is None
        assert answers[0].status == status
        agree(three, index)
        agree(three, change("GET", ""))

    on_added("PUT", 204, urls("http://b:9"))
    on_added("PUT", 204, urls("http://b:9", "http://b:9"))
    on_added("PUT", 409, urls("http://c:9", "PEER0"))
    # etcd adds nobody while somebody is not connected; here who does not count yet stands in nobody's way.
    refused, judged = (server.ask(change("POST", "", urls("http://b:9"))) for server in three.both)
    assert (refused.status, judged.status) == (500, 500 if three.subject.system.is_etcd else 409)
    step(change("PUT", "/123", urls("PEER0")), 404)
    on_added("DELETE", 204)
    on_added("DELETE", 410)
    on_added("PUT", 500, urls("http://b:9"))
    step(change("PUT", "/ID", urls("PEER0")), 204)
    step(change("DELETE", "/123"), 404)


def test_change_without_a_quorum_is_an_internal_error() -> None:
    """At once where the strict check is against it, after the time of a write elsewhere; and nothing has changed."""
    with systems.etcd(3) as oracle, systems.subject(3) as subject, pair(oracle, subject) as servers:
        alive = [server.system.cluster.members[0] for server in servers.both]
        for server in servers.both:
            wait_addable(server)
        targets = [named(server, "/ID") for server in servers.both]
        before = [member.http("GET", "/v2/members").body for member in alive]
        for server in servers.both:
            for member in server.system.cluster.members[1:]:
                member.kill()
        for method, below in (("POST", ["", ""]), ("PUT", targets)):
            requests = [change(method, target, urls("http://127.0.0.1:9")) for target in below]
            for server, request in zip(servers.both, requests, strict=True):
                server.send(request, 0)
            expected, actual = (
                comparable(masked(server, server.receive(request, 0)), unsorted=False)
                for server, request in zip(servers.both, requests, strict=True)
            )
            assert difference(expected, actual) is None
            assert expected.status == 500
        assert [member.http("GET", "/v2/members").body for member in alive] == before
