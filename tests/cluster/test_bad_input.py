"""A whole member under bad input: clear answers, etcd's where it gives any, nothing in the log, healthy afterwards.

What the HTTP API, the storage and the transport make of such input by themselves is tested in their own folders.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import socket
from collections.abc import Iterator
from typing import Final

import pytest

from kvraft.storage.codec import KEYSPACE_KEY, REMEDY, seal
from kvraft.storage.lmdb_file import LmdbFile
from kvraft.testing.cluster import Cluster, Member
from tests.conformance import systems
from tests.conformance.comparison import Comparable, comparable, difference
from tests.conformance.wire import FORM, Answer, Connection, Request

MEMORY_BYTES_MAX: Final = 350 << 20
"""A member of no data takes some 80 MiB; several bodies of 10 MiB may be under way."""
ANSWER_S: Final = 20.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Member]:
    """A member of kvraft for the whole file."""
    with systems.kvraft() as system:
        yield system.cluster.members[0]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Member]:
    """The real etcd beside it."""
    with systems.etcd() as system:
        yield system.cluster.members[0]


@pytest.fixture
def member(shared: Member) -> Iterator[Member]:
    """The shared member, which is looked over when the test has ended."""
    logged = len(shared.log_text())
    yield shared
    answer = shared.http("PUT", "/v2/keys/healthy", form={"value": "1"}, timeout_s=ANSWER_S)
    assert answer.status in {200, 201}
    assert shared.http("GET", "/v2/keys/healthy?quorum=true", timeout_s=ANSWER_S).status == 200
    assert "Traceback" not in shared.log_text()[logged:]
    assert " ERROR " not in shared.log_text()[logged:]
    assert resident_bytes(shared) < MEMORY_BYTES_MAX


def resident_bytes(member: Member) -> int:
    """The memory that the process holds now."""
    return int(pathlib.Path(f"/proc/{member.pid}/statm").read_text().split()[1]) * 4096


def warmed_up(member: Member) -> Connection:
    """A connection that has served a request: the first request line of one may have 4,096 bytes only, in etcd."""
    connection = Connection(member.client_url)
    assert connection.ask(Request("GET", b"/version")).status == 200
    return connection


_INDEX: Final = re.compile(rb'("(?:index|modifiedIndex|createdIndex)":)[1-9][0-9]*|(?<=/)[0-9]{20}(?=")')


def shown(answer: Answer) -> Comparable:
    """What counts of an answer: all but the indices, which differ between members that were asked other things too."""
    headers = tuple(
        (name, "<index>" if name == "X-Etcd-Index" and value != "0" else value) for name, value in answer.head.headers
    )
    head = dataclasses.replace(answer.head, headers=headers)
    return dataclasses.replace(
        comparable(dataclasses.replace(answer, head=head, body=_INDEX.sub(rb"\1<index>", answer.body))), head_length=0
    )


def agree(member: Member, oracle: Member, requests: list[Request]) -> list[str]:
    """Ask both the same; what differs, a line each."""
    found = []
    for request in requests:
        with warmed_up(oracle) as theirs, warmed_up(member) as ours:
            expected, actual = theirs.ask(request), ours.ask(request)
        assert expected.status < 500, f"{request}: {expected}"
        differs = difference(shown(expected), shown(actual))
        if differs is not None:
            found.append(f"{request}: {differs}")
    return found


METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "LINK")
NOWHERE: Final = (
    b"/",
    b"/v2",
    b"/v2/",
    b"/v2/keysfoo",
    b"/v2/machines/",
    b"/v2/stats",
    b"//",
    b"/v2/../v2/keys",
    b"/%2e%2e/x",
)
READ_ONLY: Final = (
    b"/version",
    b"/health",
    b"/v2/machines",
    b"/v2/stats/self",
    b"/v2/stats/store",
    b"/v2/stats/leader",
    b"/debug/vars",
)
MEMBERS: Final = (b"/v2/members", b"/v2/members/", b"/v2/members/leader", b"/v2/members/none")
"""What can be written too."""


def test_methods_that_no_endpoint_knows_are_answered_as_by_etcd(member: Member, oracle: Member) -> None:
    """404 nowhere, 405 with what is allowed, 301 for an unclean path."""
    requests = [Request(method, target) for target in NOWHERE for method in METHODS]
    requests += [Request(method, target) for target in READ_ONLY for method in METHODS if method not in {"GET", "HEAD"}]
    requests += [Request(method, target) for target in MEMBERS for method in ("PATCH", "OPTIONS", "TRACE", "LINK")]
    requests += [Request(method, b"/config/local/log") for method in METHODS if method != "PUT"]
    requests += [Request(method, b"/v2/keys/x") for method in ("PATCH", "OPTIONS", "TRACE", "LINK")]
    assert agree(member, oracle, requests) == []


def page_head(server: Member, request: Request) -> tuple[object, ...]:
    """What an answer says of itself, and whether there is a page."""
    with warmed_up(server) as connection:
        answer = connection.ask(request)
    headers = tuple(answer.header(name) for name in ("Content-Type", "Allow", "Location"))
    return (request, answer.status, headers, bool(answer.body))


@pytest.mark.parametrize("target", [b"/metrics", b"/metrics/", b"/debug/vars", b"/config/local/log/"])
def test_pages_for_operators_have_etcds_heads_under_every_method(member: Member, oracle: Member, target: bytes) -> None:
    """What they show is a server's own; status, kind of page and presence of one are etcd's."""
    requests = [Request(method, target) for method in METHODS]
    assert [page_head(member, request) for request in requests] == [page_head(oracle, request) for request in requests]


ODD_TARGETS: Final = (
    *(b"/v2/keys/" + odd for odd in (b"a%00b", b"%ff", b"%c0%af", b"a//b", b"a/../b", b"%2e%2e/a",
        b"a%2F%2Fb", b"a;b", b"a+b")),
    b"/v2/keys/" + b"x" * 4096,
    b"/v2/keys" + b"/0123456789abcde" * 256,
    *(b"/v2/keys/a?" + odd for odd in (b"recursive", b"recursive=", b"sorted=2", b"wait=maybe",
        b"quorum=%zz", b"a;b", b"&&", b"=")),
    *(b"/v2/keys/a?waitIndex=" + odd for odd in (b"-1", b"+1", b"1e3", b"18446744073709551616", b"9" * 400,
        b"", b"%D9%A1")),
    *(b"/v2/keys/a?prevIndex=" + odd for odd in (b"-1", b"18446744073709551616", b"x", b"")),
)  # fmt: skip
ODD_FORMS: Final = (
    b"", b"value", b"=", b"&", b"%zz=1", b"value=%zz", b"value=%", b"value=a;b=c", b"ttl=-1", b"ttl=1e3",
    b"ttl=" + b"9" * 400,
    b"ttl=18446744073709551616", b"prevExist=", b"prevExist=2", b"prevValue=", b"refresh=x", b"refresh=true",
    b"refresh=true&value=1", b"dir=", b"dir", b"noValueOnSuccess=", b"value=\xff\xfe", b"value=%ff%00",
)  # fmt: skip
ODD_TYPES: Final = (
    None,
    "",
    ";",
    "/",
    "text/plain",
    "application/json",
    "multipart/form-data",
    FORM + "; a",
    FORM + '; a="b',
)


def test_odd_targets_and_forms_are_answered_as_by_etcd(member: Member, oracle: Member) -> None:
    """Bytes, escapes, dots, slashes, long and bare, negative and huge: the same status, headers and body."""
    requests = [Request(method, target) for target in ODD_TARGETS for method in ("GET", "HEAD", "DELETE")]
    requests += [Request(method, b"/v2/keys/odd", form, FORM) for form in ODD_FORMS for method in ("PUT", "POST")]
    requests += [Request("PUT", b"/v2/keys/odd", b"value=1", kind) for kind in ODD_TYPES]
    assert agree(member, oracle, requests) == []


def test_body_of_ten_mebibytes_and_a_byte_is_refused_as_by_etcd(member: Member, oracle: Member) -> None:
    """400/210; one byte less is stored on disk, committed and read back."""
    body = b"value=".ljust((10 << 20) + 1, b"x")
    assert agree(member, oracle, [Request("PUT", b"/v2/keys/large", body, FORM)]) == []
    stored = member.http(
        "PUT",
        "/v2/keys/large?noValueOnSuccess=true",
        body=body[:-1],
        headers=[("Content-Type", FORM)],
        timeout_s=ANSWER_S,
    )
    assert stored.status == 201
    assert member.http("DELETE", "/v2/keys/large", timeout_s=ANSWER_S).status == 200


def received(port: int, data: bytes) -> bytes:
    """Everything that comes back for these bytes on one connection, until the server ends it."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                pieces.append(piece)
    return b"".join(pieces)


SMUGGLED: Final = b"PUT /v2/keys/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
HEAD: Final = b"PUT /v2/keys/smuggling HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    "frame",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 64\r\n\r\n",
        b"A: b\r\n Content-Length: 64\r\nContent-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
    ],
)
def test_smuggled_request_reaches_no_log(member: Member, frame: bytes) -> None:
    """One refusal, and neither request is executed."""
    before = member.http("GET", "/v2/keys/").etcd_index
    answer = received(member.client_port, HEAD + frame + SMUGGLED)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer[9:12] == b"400"
    assert member.http("GET", "/v2/keys/?quorum=true").etcd_index == before


def test_pipelined_writes_in_chunks_are_committed_in_their_order(member: Member) -> None:
    """A hundred requests sent at once, each answered in turn with an index above the one before."""
    one = (
        HEAD.replace(b"smuggling", b"pipelined")
        + b"Transfer-Encoding: chunked\r\n\r\n6\r\nvalue=\r\n3\r\n%03d\r\n0\r\n\r\n"
    )
    last = b"GET /v2/keys/pipelined HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", member.client_port), timeout=ANSWER_S) as connection:
        connection.sendall(b"".join(one % number for number in range(100)) + last)
        answers = b""
        while piece := connection.recv(1 << 16):
            answers += piece
    assert answers.count(b"HTTP/1.1 ") == 101
    indices = [int(piece.split(b"\r\n")[0]) for piece in answers.split(b"X-Etcd-Index: ")[1:]]
    assert indices[:100] == sorted(set(indices[:100]))
    assert b'"value":"099"' in answers.rpartition(b"HTTP/1.1 ")[2]


def test_path_ten_thousand_deep_survives_a_restart(tmp_path: pathlib.Path) -> None:
    """Applied, stored, loaded and removed without recursion."""
    with Cluster(tmp_path, size=1) as cluster:
        member = cluster.members[0]
        deep = "/v2/keys" + "/d" * 10_000
        assert member.http("PUT", deep, form={"value": "1"}, timeout_s=ANSWER_S).status == 201
        assert member.terminate() == 0
        member.start()
        member.wait_ready()
        assert member.http("GET", deep).json()["node"]["value"] == "1"
        assert len(member.http("GET", "/v2/keys?recursive=true", timeout_s=ANSWER_S).body) > 10_000
        assert member.http("DELETE", "/v2/keys/d?recursive=true", timeout_s=ANSWER_S).status == 200
        assert "Traceback" not in member.log_text()


def test_stream_that_nobody_reads_costs_little_and_loses_nothing(member: Member) -> None:
    """The watcher waits in the history; writers do not wait for it (faults O3)."""
    before = resident_bytes(member)
    with Connection(member.client_url, receive_buffer_bytes=4096) as watcher, Connection(member.client_url) as writer:
        watcher.send(Request("GET", b"/v2/keys/unread?wait=true&stream=true&recursive=true"))
        assert watcher.receive_head().status == 200
        value = b"value=" + b"x" * 100_000
        indices = []
        for _ in range(150):
            answer = writer.ask(Request("PUT", b"/v2/keys/unread/k", value, FORM))
            assert answer.status in {200, 201}
            indices.append(json.loads(answer.body)["node"]["modifiedIndex"])
        assert resident_bytes(member) < before + (100 << 20)
        seen = [json.loads(watcher.receive_chunk() or b"")["node"]["modifiedIndex"] for _ in indices]
        assert seen == indices


def test_slow_clients_hold_nobody_up(member: Member) -> None:
    """Two hundred heads and bodies that never end, beside requests that are answered at once."""
    beginnings = (b"GET /v2/keys/a HTTP/1.1\r\nHo", HEAD + b"Content-Length: 100\r\n\r\nval", b"P", b"")
    with contextlib.ExitStack() as stack:
        for number in range(200):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", member.client_port), timeout=ANSWER_S))
            slow.sendall(beginnings[number % len(beginnings)])
        for _ in range(20):
            assert member.http("PUT", "/v2/keys/fast", form={"value": "1"}, timeout_s=5).status in {200, 201}


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 40,
        b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303") + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000") + b"\xff" * 5000,
    ],
    ids=["garbage", "http", "tls", "http2"],
)
def test_stranger_on_the_peer_port_is_closed_without_effect(member: Member, data: bytes) -> None:
    """The connection ends, and the member neither logs a traceback nor changes its term."""
    term = member.http("GET", "/v2/keys/").header("X-Raft-Term")
    received(member.peer_port, data)
    assert member.http("GET", "/v2/keys/?quorum=true").header("X-Raft-Term") == term


NEEDLE: Final = "needle" * 50


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member that was stopped after some writes, with a copy of its directory beside it to damage."""
    with Cluster(tmp_path_factory.mktemp("stopped"), size=1) as cluster:
        member = cluster.members[0]
        for number in range(50):
            assert member.http("PUT", f"/v2/keys/k{number}", form={"value": NEEDLE}).status == 201
        assert member.terminate() == 0
        shutil.copytree(member.data_dir, member.data_dir.with_suffix(".whole"))
        yield member


@pytest.fixture
def damaged(stopped: Member) -> Iterator[Member]:
    """The stopped member with an undamaged directory."""
    shutil.rmtree(stopped.data_dir)
    shutil.copytree(stopped.data_dir.with_suffix(".whole"), stopped.data_dir)
    yield stopped
    stopped.kill()


def refusal(member: Member) -> str:
    """Start the member, which must end with exit code 1 and one line on its standard error; that line."""
    logged = len(member.log_text())
    member.start()
    assert member.wait_exit() == 1
    text = member.log_text()[logged:]
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("kvraft: ")]
    assert len(lines) == 1, text
    return lines[0]


def lmdb_files(member: Member) -> dict[str, pathlib.Path]:
    """The data file of each environment, `log` and `state`."""
    return {path.parent.name.partition("-")[0]: path for path in member.data_dir.rglob("data.mdb")}


@pytest.mark.parametrize("environment", ["log", "state"])
def test_truncated_file_is_refused_in_one_line(damaged: Member, environment: str) -> None:
    """Not served, and no bus error either."""
    file = lmdb_files(damaged)[environment]
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    line = refusal(damaged)
    assert environment in line or str(damaged.data_dir) in line


@pytest.mark.parametrize("environment", ["log", "state"])
def test_flipped_bit_is_refused_in_one_line(damaged: Member, environment: str) -> None:
    """In a value of the state, and in the numbers of both meta pages of the log."""
    file = lmdb_files(damaged)[environment]
    content = bytearray(file.read_bytes())
    places = [16, 4096 + 16]
    if environment == "state":
        places = [at for at in range(len(content)) if content.startswith(b"needle" * 3, at)][::40]
    assert places
    for place in places:
        content[place] ^= 1
    file.write_bytes(content)
    assert "damaged" in refusal(damaged)


def test_state_that_no_version_wrote_is_refused_in_one_line(damaged: Member) -> None:
    """Every checksum fits, and still it is no state: the line says so, and what to do."""
    file = LmdbFile(lmdb_files(damaged)["state"].parent, 1 << 30, 2, create=False, examine=False)
    with file.writing() as transaction:
        transaction.put(KEYSPACE_KEY, seal(KEYSPACE_KEY, b"\x01" + b"[" * 20_000))
        file.commit(transaction, 0)
    file.close()
    line = refusal(damaged)
    assert "meta record" in line
    assert REMEDY in line
