"""Debian's etcdctl, in its v2 mode, against three members of etcd and of kvraft: same output, errors and exit codes."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import pytest

from tests.conformance import systems
from tests.conformance.comparison import masked_body
from tests.conformance.differential.pair import Pair, Server, pair
from tests.conformance.systems import HISTORY_SIZE
from tests.conformance.wire import Connection, Request, keys_request

pytestmark = pytest.mark.slow

ENDS_WITHIN_S: Final = 20.0
ETCDCTL_TIMEOUTS: Final = ("--timeout", "10s", "--total-timeout", "15s")
"""Its own are 2 s and 5 s, which a loaded machine may need for an answer."""
FLANNEL_CONFIG: Final = '{"Network":"172.17.0.0/16"}'
_RAFT_INDEX: Final = re.compile(r"(Raft-Index|raftIndex)[\": ]+\d+")
_MEMBER_ID: Final = re.compile(r"\b[0-9a-f]{15,16}\b")


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed, names and places masked, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


@final
class Etcdctl:
    """etcdctl with the endpoints of one system."""

    def __init__(self, server: Server) -> None:
        program = shutil.which("etcdctl")
        assert program is not None, "etcdctl is not installed: the conformance tests need etcd-client (`make deps`)"
        self._program = program
        self.server: Final = server

    def command(self, *words: str) -> list[str]:
        """The command line, `ENDPOINT` in it replaced by the URL of the first member."""
        urls = self.server.system.client_urls
        endpoints = ["--endpoints", ",".join(urls)] if "--endpoints" not in words else []
        return [
            self._program,
            *endpoints,
            *ETCDCTL_TIMEOUTS,
            *(urls[0] if word == "ENDPOINT" else word for word in words),
        ]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command whose output is read line by line."""
        return subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )

    def run(self, words: Sequence[str], stdin: str = "") -> Outcome:
        """Run a command to its end; then every member has applied what it did."""
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
            env=environment(),
        )
        self.settle()
        return Outcome(self.masked(done.stdout, words), self.masked(done.stderr, words), done.returncode)

    def settle(self) -> None:
        """Wait until every member has applied all: etcdctl asks any of them."""
        self.server.ask(keys_request("GET", "/", query="quorum=true"))
        for member in range(len(self.server.system.client_urls)):
            self.server.catch_up(member)

    def masked(self, text: str, words: Sequence[str] = ()) -> str:
        """Output with places, ids, times and raft positions masked; lines sorted where their order is chance."""
        for member in self.server.system.cluster.members:
            text = text.replace(member.client_url, f"<client URL of {member.name}>")
            text = text.replace(member.peer_url, f"<peer URL of {member.name}>")
            text = text.replace(f"127.0.0.1:{member.client_port}", f"<address of {member.name}>")
        text = _MEMBER_ID.sub("<id>", _RAFT_INDEX.sub(r"\1 <raft index>", text))
        text = masked_body(text.encode())[0].decode()
        if "ls" in words and "--sort" not in words:
            return "\n".join(sorted(text.split("\n")))
        if {"cluster-health", "member"} & set(words):
            leaders = text.count("isLeader=true")
            lines = sorted(re.sub(r"isLeader=\w+", "isLeader=<...>", text).split("\n"))
            return "\n".join([*lines, f"{leaders} leaders"])
        return text


def environment() -> dict[str, str]:
    """Ours, with etcdctl in its v2 mode and no other setting for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return {**kept, "ETCDCTL_API": "2"}


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    """Three members of each at the same index, their windows of history full."""
    with systems.etcd(3) as oracle, systems.subject(3) as subject, pair(oracle, subject) as opened:
        opened.reset(above=HISTORY_SIZE)
        yield opened


@pytest.fixture
def both(servers: Pair) -> Iterator[tuple[Etcdctl, Etcdctl]]:
    """The command for each of the two, on empty stores with equal indices."""
    servers.reset()
    tools = Etcdctl(servers.oracle), Etcdctl(servers.subject)
    for tool in tools:
        tool.settle()
    yield tools
    assert servers.ask(keys_request("GET", "/", query="quorum=true"))[0].status == 200


def words_of(line: str) -> list[str]:
    """A command line in words: split at blanks, `CONFIG` stands for flannel's configuration."""
    return [FLANNEL_CONFIG if word == "CONFIG" else word for word in line.split()]


def agree(both: tuple[Etcdctl, Etcdctl], script: str, stdin: str = "") -> list[Outcome]:
    """Run a script, one command a line, on both; every outcome is the same. Returns the outcomes."""
    outcomes = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        expected, actual = (tool.run(words_of(line), stdin) for tool in both)
        assert actual == expected, line
        outcomes.append(expected)
    return outcomes


SCRIPTS: Final = {
    "mk": """
        mk /coreos.com/network/config CONFIG
        mk /coreos.com/network/config CONFIG
        mk /atomic.io/network/config CONFIG
        get /coreos.com/network/config
        mk --ttl 100 /short v
        get -o extended /coreos.com/network/config
        mk --in-order /queue one
        mk --in-order /queue two
        ls --sort /queue
        mk /short/below v
        mk --in-order /short v
        mk / v
        mk
        mk --ttl abc /x v
    """,
    "set": """
        set /a 1
        set /a 2
        set --ttl 100 /a 3
        set --swap-with-value 3 /a 4
        set --swap-with-value wrong /a 5
        set --swap-with-index 1 /a 5
        set --swap-with-value wrong --swap-with-index 1 /a 5
        set --swap-with-value 4 /missing 5
        set -- /dash -value
        get /dash
        mkdir /d
        set /d v
        set /a/b v
        set / v
        set
        set --no-such-flag /a 1
        -o json set /a 6
        -o extended set /a 7
    """,
    "get": """
        set /a value
        get /a
        get --quorum /a
        get --sort /a
        get -q /a
        -o json get /a
        -o extended get /a
        -o simple get /a
        get /missing
        get /missing/below
        get /a/below
        mkdir /d
        get /d
        get
        get a
    """,
    "ls": """
        set /a/b/c 1
        set /a/d 2
        set /e 3
        set /_hidden/k 4
        mkdir /empty
        ls
        ls /
        ls / --recursive
        ls --recursive --sort /
        ls -p --sort
        ls -p --sort --recursive /a
        ls --sort -r -p /
        ls --quorum --sort /a
        ls /e
        ls /empty
        ls /missing
        ls /e/below
        ls /_hidden
        -o json ls /empty
    """,
    "mkdir": """
        mkdir /d
        mkdir /d
        mkdir --ttl 100 /t
        mkdir /d/e/f
        set /file 1
        mkdir /file
        mkdir /file/below
        mkdir /
        mkdir
        ls --sort -r -p /
    """,
    "setdir": """
        setdir /d
        setdir /d
        setdir --ttl 100 /t
        setdir --ttl 200 /t
        set /file 1
        setdir /file
        setdir /d/file/below
        setdir /
        setdir
        ls --sort -r -p /
    """,
    "update": """
        update /a 1
        set --ttl 100 /a 1
        update /a 2
        -o extended get /a
        update --ttl 50 /a 3
        mkdir /d
        update /d v
        update / v
        update
        update /a/below v
    """,
    "updatedir": """
        updatedir --ttl 100 /d
        mkdir /d
        updatedir --ttl 100 /d
        updatedir /d
        set /file 1
        updatedir --ttl 100 /file
        updatedir --ttl 100 /
        updatedir
        get /file
    """,
    "rm": """
        rm /missing
        set /a 1
        rm /a
        set /a 1
        rm --with-value wrong /a
        rm --with-index 1 /a
        rm --with-value 1 /a
        set /d/k 1
        rm /d
        rm --dir /d
        rm --with-value 1 --recursive /d
        rm --recursive /d
        mkdir /e
        rm --dir /e
        set /f 1
        rm --recursive /f
        rm -r /missing
        rm --recursive /
        rm /f/below
        rm
    """,
    "rmdir": """
        mkdir /d
        rmdir /d
        rmdir /d
        set /e/k 1
        rmdir /e
        rmdir /e/k
        rmdir /
        rmdir
    """,
    "cluster": """
        cluster-health
        member list
        member
        member list extra
        -u somebody:password member list
        -u somebody:password ls /
        no-such-command
        --endpoints http://127.0.0.1:1 cluster-health
        --endpoints http://127.0.0.1:1 member list
        --endpoints http://127.0.0.1:1 --no-sync get /a
        --endpoints http://127.0.0.1:1 get /a
        --endpoints ENDPOINT --no-sync set /a 1
        --endpoints ENDPOINT --no-sync --debug get /a
        --endpoints nonsense get /a
        --output nonsense get /a
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_prints_and_exits_as_with_etcd(both: tuple[Etcdctl, Etcdctl], name: str) -> None:
    """Every use of the command, and every way in which it fails."""
    outcomes = agree(both, SCRIPTS[name])
    assert {outcome.exit_code == 0 for outcome in outcomes} == {True, False}, "successes and errors"


def test_values_come_from_standard_input(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`set`, `mk` and `update` read a missing value from there, odd bytes and all."""
    agree(both, "set /a\nmk /b\nupdate /a\nget /a\n-o json get /b", stdin='<several>\nlines & "quotes" \u2028 é\t\n')


def test_every_member_is_listed_with_one_leader(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`member list` names three members and one leader; `cluster-health` says that all are healthy."""
    listed, health = agree(both, "member list\ncluster-health")
    assert listed.stdout.count("peer URL of") == 3
    assert "1 leaders" in listed.stdout
    assert "cluster is healthy" in health.stdout


def test_watch_after_an_index_prints_the_past(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`--after-index` answers from history, and with 401 when that is gone."""
    agree(both, "set /w 1\nset /w 2\nmkdir /d\nset /d/k 3\nrm /w\nset --ttl 100 /w 4")
    index = both[0].server.index
    for back, path in ((6, "/w"), (5, "/w"), (3, "--recursive /d"), (2, "/w"), (1, "/w")):
        agree(both, f"watch --after-index {index - back} {path}\n-o json watch --after-index {index - back} {path}")
    (refused,) = agree(both, f"watch --after-index {index - HISTORY_SIZE - 5} /w")
    assert "401" in refused.stderr
    agree(both, "watch\nexec-watch\nexec-watch /w")


def started_watch(tool: Etcdctl, *words: str) -> subprocess.Popen[str]:
    """A watching etcdctl, once one of the members has its watch."""
    before = watcher_count(tool.server)
    process = tool.start(*words)
    tool.server.wait_for("open watch", lambda: watcher_count(tool.server) > before)
    return process


def watcher_count(server: Server) -> int:
    """Watches open on all members together."""
    count = 0
    for url in server.system.client_urls:
        with Connection(url) as connection:
            found = re.search(rb'"watchers":(\d+)', connection.ask(Request("GET", b"/v2/stats/store")).body)
        assert found is not None
        count += int(found[1])
    return count


def end(process: subprocess.Popen[str]) -> None:
    """End a command that watches for ever."""
    process.kill()
    process.communicate(timeout=ENDS_WITHIN_S)


def test_watch_prints_the_next_event_and_ends(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`watch` waits for one event."""
    outcomes = []
    for tool in both:
        process = started_watch(tool, "watch", "--recursive", "/w")
        tool.run(["set", "/w/k", "live"])
        stdout, stderr = process.communicate(timeout=ENDS_WITHIN_S)
        outcomes.append(Outcome(tool.masked(stdout), tool.masked(stderr), process.returncode))
    assert outcomes[0] == outcomes[1]
    assert "live" in outcomes[0].stdout


CHANGES: Final = ("set /w/k one", "set /w/k two", "set --ttl 100 /w/other three", "update /w/k four", "rm /w/k")


def test_watch_forever_prints_every_event(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`watch --forever` goes from one event to the next without losing any."""
    printed = []
    for tool in both:
        process = started_watch(tool, "watch", "--forever", "--recursive", "/w")
        for change in CHANGES:
            tool.run(change.split())
        assert process.stdout is not None
        printed.append([tool.masked(process.stdout.readline()) for _ in CHANGES])
        end(process)
    assert printed[0] == printed[1]


def test_exec_watch_tells_its_command_of_every_event(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`exec-watch` runs a command with ETCD_WATCH_ACTION, _KEY, _VALUE and _MODIFIED_INDEX."""
    told = 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_MODIFIED_INDEX"'
    printed = []
    for tool in both:
        process = started_watch(tool, "exec-watch", "--recursive", "/w", "--", "sh", "-c", told)
        assert process.stdout is not None
        lines = []
        for change in CHANGES:
            tool.run(change.split())
            lines.append(process.stdout.readline())
        printed.append(lines)
        end(process)
    assert printed[0] == printed[1]
    assert printed[0][0].startswith('"set" "/w/k" "one"') or printed[0][0].startswith("set /w/k one")
