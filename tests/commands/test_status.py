"""`kvraft status`, on a member without Raft and disk, on what is no kvraft, and on views that no test can have."""

import asyncio
import html
import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from kvraft.commands.cluster_view import ClusterView, MemberView, _problems, days_left
from kvraft.commands.exits import Exit
from kvraft.commands.status import _TITLES, _certificate, _row, _size, as_json, too_wide
from kvraft.testing import ports
from tests.api_v2.conftest import Served
from tests.api_v2.memory_backend import CLUSTER_ID, MEMBER_ID
from tests.commands.conftest import Background, Run
from tests.commands.fake_etcd import fake_etcd
from tests.commands.recording import COLUMNS, PICTURE, shown_at_a_terminal

DAY_S = 86_400


def test_healthy_cluster_is_a_table_and_exit_code_0(run: Run, served: Served) -> None:
    """One row a member, and the word that nothing is wrong; no escape codes in a pipe."""
    ran = run("status", "--endpoints", served.url)
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    summary, _, titles, row, _, verdict = ran.stdout.splitlines()
    assert summary == f"cluster {CLUSTER_ID:x}, 1 of 1 answer, g leads in term 2, etcd index 3"
    assert titles.split()[:5] == ["NAME", "ROLE", "VERSION", "INDEX", "LAG"]
    assert row.split()[:6] == ["g", "leader", "kvraft", "0.1.0", "7", "0"]
    assert "4.0 KiB" in row and "3.0 MiB" in row and "5.0 GiB" in row and "none" in row
    assert verdict == "all is well"
    assert "\x1b" not in ran.stdout


def test_json_has_everything(run: Run, served: Served) -> None:
    """What a member tells, whole."""
    shown = json.loads(run("status", "--json", "--endpoints", served.url).stdout)
    assert shown["leader"] == f"{MEMBER_ID:x}"
    assert shown["problems"] == []
    (member,) = shown["members"]
    assert (member["name"], member["lag"], member["error"]) == ("g", 0, "")
    assert member["status"] == served.backend.status()


def test_alarm_and_ended_certificate_are_told(run: Run, served: Served) -> None:
    """A line each, and an exit code that a script sees."""
    served.backend.is_disk_full = True
    served.backend.certificates = [{"listener": "peer", "endsAt": "2020-01-31T00:00:00Z"}]
    ran = run("status", "--endpoints", served.url)
    assert ran.exit_code == Exit.NOT_WELL
    assert ran.stdout.endswith("\ng has the alarm NOSPACE\ng: its peer certificate has ended\n")
    assert "ended 2020-01-31" in ran.stdout


def test_cluster_without_a_leader_is_told(run: Run, served: Served) -> None:
    """First of all."""
    served.backend.leader_id = 0
    ran = run("status", "--endpoints", served.url)
    assert ran.exit_code == Exit.NOT_WELL
    assert "nobody leads in term 2" in ran.stdout
    assert "\nno leader: nothing can be written until" in ran.stdout


def test_member_that_does_not_answer_and_one_that_was_never_started(run: Run, background: Background) -> None:
    """Each has its row and its line; the others are shown all the same."""
    reservation = ports.reserve(1)
    dead = f"http://127.0.0.1:{reservation.ports[0]}"
    members = [
        {"id": "1", "name": "one", "peerURLs": ["http://h:1"], "clientURLs": ["{own}"]},
        {"id": "2", "name": "two", "peerURLs": ["http://h:2"], "clientURLs": [dead]},
        {"id": "3", "name": "", "peerURLs": ["http://h:3"], "clientURLs": []},
    ]
    with fake_etcd(background, members) as url:
        ran = run("status", "--endpoints", url)
        shown = json.loads(run("status", "--json", "--endpoints", url).stdout)
    reservation.release()
    assert ran.exit_code == Exit.NOT_WELL
    assert "1 of 3 answer" in ran.stdout
    lines = ran.stdout.splitlines()
    assert lines[-2:] == ["3 has never been started", f"two does not answer: {dead}: connection refused"]
    assert any(line.split()[:3] == ["two", "no", "answer"] for line in lines)
    assert any(line.split()[:3] == ["3", "not", "started"] for line in lines)
    assert [member["error"] != "" for member in shown["members"]] == [False, False, True]


def test_named_endpoint_that_does_not_answer_is_told(run: Run, served: Served) -> None:
    """Once, also if it is named twice, and whoever else answers: somebody relies on it."""
    reservation = ports.reserve(1)
    dead = f"http://127.0.0.1:{reservation.ports[0]}"
    for endpoints in (f"{served.url},{dead}", f"{dead},{served.url},{dead}"):
        ran = run("status", "--endpoints", endpoints)
        assert ran.exit_code == Exit.NOT_WELL
        assert ran.stdout.endswith(f"\n\n{dead} does not answer: connection refused\n"), ran.stdout
        shown = json.loads(run("status", "--json", "--endpoints", endpoints).stdout)
        assert shown["problems"] == [f"{dead} does not answer: connection refused"]
    reservation.release()


def test_named_endpoint_of_another_cluster_is_told(run: Run, served: Served, background: Background) -> None:
    """The first that answers says which cluster is looked at."""
    with fake_etcd(background) as url:
        ran = run("status", "--endpoints", f"{served.url},{url}")
        other = run("status", "--endpoints", f"{url},{served.url}")
    assert ran.exit_code == other.exit_code == Exit.NOT_WELL
    assert ran.stdout.endswith(f"\n\n{url} belongs to another cluster, c\n"), ran.stdout
    assert other.stdout.endswith(f"\n\n{served.url} belongs to another cluster, {CLUSTER_ID:x}\n"), other.stdout


@pytest.mark.parametrize("place", ["http://a..b:1", "nonsense", "http://h:0"])
def test_member_that_says_it_is_nowhere_is_told(run: Run, background: Background, place: str) -> None:
    """It has a line; the others are shown all the same."""
    members = [
        {"id": "1", "name": "one", "peerURLs": ["http://h:1"], "clientURLs": ["{own}"]},
        {"id": "2", "name": "two", "peerURLs": ["http://h:2"], "clientURLs": [place]},
    ]
    with fake_etcd(background, members) as url:
        ran = run("status", "--endpoints", url)
    assert ran.exit_code == Exit.NOT_WELL
    assert f"two does not answer: {place!r}: no endpoint" in ran.stdout


def test_etcd_is_shown_with_what_it_tells(run: Run, background: Background) -> None:
    """It has no status of ours, but a role, a version and indices."""
    with fake_etcd(background) as url:
        ran = run("status", "--endpoints", url)
    assert ran.exit_code == Exit.DONE, ran.stdout
    row = ran.stdout.splitlines()[3].split()
    assert row[:6] == ["one", "leader", "etcd", "3.4.23", "12", "?"]


def test_what_only_root_may_see_is_told_with_the_remedy(run: Run, background: Background) -> None:
    """401, with the option that helps; not a row for each member."""
    with fake_etcd(background, refuses=b"401 Unauthorized") as url:
        ran = run("status", "--endpoints", url)
    assert (ran.exit_code, ran.stdout) == (Exit.NOT_ALLOWED, "")
    assert ran.stderr.startswith("kvraft: Insufficient credentials: give --user NAME:PASSWORD")


def test_watch_shows_it_again_until_ctrl_c(served: Served) -> None:
    """Each look is a value on a line of its own, also after the server has gone."""
    command = [
        sys.executable,
        "-m",
        "kvraft",
        "status",
        "--watch",
        "--interval=0.1",
        "--json",
        "--endpoints",
        served.url,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None and watching.stderr is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == Exit.INTERRUPTED
        assert watching.stderr.read() == ""
    assert [look["problems"] for look in looks] == [[]] * 3


def _member(name: str, **status: Any) -> MemberView:
    record = {"id": name, "name": name, "peerURLs": [], "clientURLs": ["http://h:1"]}
    usual = {
        "clusterId": "c",
        "leader": "a",
        "role": "follower",
        "appliedIndex": 90,
        "term": 3,
        "etcdVersion": "3.4.23",
    }
    return MemberView(record, usual | status)


def test_lag_is_to_what_the_leader_has_committed() -> None:
    """By a member's own word, by the leader's where it does not answer, never below 0, unknown without a leader."""
    leader = _member(
        "a", role="leader", commitIndex=100, appliedIndex=100, followers=[{"id": "gone", "matchIndex": 40}]
    )
    gone = _member("gone")
    gone.status = None
    cluster = ClusterView([leader, _member("b"), _member("c", appliedIndex=101), gone])
    assert [cluster.lag(member) for member in cluster.members] == [0, 10, 0, 60]
    assert [member["lag"] for member in as_json(cluster)["members"]] == [0, 10, 0, 60]
    leaderless = ClusterView([_member("b")])
    assert leaderless.lag(leaderless.members[0]) is None


def test_leader_of_an_earlier_term_is_not_believed() -> None:
    """One that was cut off may still call itself leader."""
    old, new = _member("a", role="leader", term=3), _member("b", role="leader", term=4, leader="b")
    cluster = ClusterView([old, new])
    assert cluster.leader is new
    assert _problems(cluster, 0.0) == ["the members do not agree on who leads; an election may be under way"]


def test_members_of_different_clusters_are_told() -> None:
    """As when an endpoint of another cluster was typed."""
    cluster = ClusterView([_member("a", role="leader"), _member("b", clusterId="d")])
    assert "the members belong to different clusters" in _problems(cluster, 0.0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 20, "1.5 GiB"),
        (3 << 40, "3.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    """Three digits and a unit."""
    assert _size({"n": size}, "n") == (text, "")
    assert _size({}, "n")[0] == "?"


def test_certificates_show_the_first_to_end() -> None:
    """The day and how many are left; the last month is marked."""
    now = 1_600_000_000
    assert days_left("2020-09-13T12:26:40Z", now) == 0
    assert days_left("2020-09-13T12:26:39Z", now) == -1
    assert days_left("2020-09-23T12:26:40Z", now) == 10
    ends = [
        {"listener": "peer", "endsAt": "2199-01-01T00:00:00Z"},
        {"listener": "client", "endsAt": "2198-01-01T00:00:00Z"},
    ]
    cell = _certificate({"certificates": ends})
    assert cell[0].startswith("2198-01-01, ") and cell[1] == ""
    assert _certificate({})[0] == "?"


def test_narrow_terminal_gets_rows_of_one_line_each() -> None:
    """Columns are left out, those first that are least missed, until a row fits; names and lags stay."""
    sizes = {"logBytes": 1023 << 20, "diskUsedBytes": 1023 << 20, "diskFreeBytes": 1023 << 30, "historyStart": 123_456}
    members = [_member("n1", role="leader", commitIndex=100, version="0.1.0", certificates=[], **sizes)] * 3
    rows = [_row(ClusterView(members), member) for member in members]
    assert too_wide(rows, 10_000) == []
    assert too_wide(rows, 110) == ["URL"]
    assert too_wide(rows, 80) == ["URL", "HISTORY FROM", "VERSION"]
    assert too_wide(rows, 20) == ["URL", "HISTORY FROM", "VERSION", "CERTIFICATE", "DISK"]


@pytest.mark.landing
def test_colours_are_for_terminals_and_for_those_who_want_them(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets some, one with NO_COLOR none; and on 80 columns no row is folded."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mleader" in shown_at_a_terminal("kvraft status", served.url, COLUMNS)
    narrow = shown_at_a_terminal("kvraft status", served.url, 80)
    assert "no room for URL, HISTORY FROM" in narrow
    assert len(narrow.splitlines()) == 7, narrow
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in shown_at_a_terminal("kvraft status", served.url, COLUMNS)


def test_picture_in_the_documents_is_of_this_table() -> None:
    """If this fails: `tools/record`."""
    picture = html.unescape(PICTURE.read_text()).replace("\xa0", " ")
    assert [title for title in _TITLES if title not in picture] == []
    assert "3 of 3 answer" in picture and "2 of 3 answer" in picture


@pytest.mark.parametrize(
    "body",
    [b"[]", b"5", b'{"members":5}', b'{"members":[5]}', b'{"members":[{"id":"1","name":2}]}', b"\x1b[2J\xc2\x9b5n"],
)
def test_server_that_answers_anything_is_told_in_one_printable_line(
    run: Run, background: Background, body: bytes
) -> None:
    """Neither a traceback nor what a terminal would obey."""
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        await writer.wait_closed()

    async def close() -> None:
        server.close()
        await asyncio.gather(*filter(None, served))

    server = background.do(asyncio.start_server(serve, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for command in (("status",), ("member", "list")):
        ran = run(*command, "--endpoints", url)
        assert ran.exit_code == Exit.NO_SERVER
        assert ran.stderr.startswith("kvraft: ")
        assert ran.stderr.removesuffix("\n").isprintable()
    background.do(close())
