"""Debian's etcdctl, in its v2 mode, against three members of etcd and of kvraft: same output, errors and exit codes."""

import re
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests.conformance import systems
from tests.conformance.differential.pair import Pair, Server, pair
from tests.conformance.etcdctl import ENDS_WITHIN_S, Etcdctl, Outcome, agree
from tests.conformance.systems import HISTORY_SIZE
from tests.conformance.wire import Connection, Request, keys_request

pytestmark = pytest.mark.slow


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


AUTH: Final = """
    user list
    role list
    user get nobody
    auth enable
    user add root:pw
    user add u:pw
    user add u:pw
    user add
    user add two words
    role add r
    role add r
    role add root
    role add
    role grant r --path /a/* --readwrite
    role grant r --path /a/* --read
    role grant r --path /b --write
    role grant r --path /c
    role grant nobody --path /c --read
    role get r
    role get nobody
    role list
    role revoke r --path /b --readwrite
    role revoke r --path /zz --read
    user grant u --roles r
    user grant u --roles r,other
    user grant nobody --roles r
    user grant u
    user get u
    user list
    user passwd u
    --username u:pw set /a/x 1
    auth disable
    auth enable
    auth enable
    --username root:pw auth enable
    --username root:wrong user list
    --username u:pw user list
    --username root:pw user list
    user list
    --username root:pw role list
    --username u:pw set /a/x 2
    --username u:pw get /a/x
    --username u:pw get -o extended /a/x
    --username u:pw ls --recursive /a/
    --username u:pw ls --recursive /a
    --username u:pw ls /
    --username u:pw set /b 1
    --username u:wrong get /a/x
    --username nobody:pw get /a/x
    --username u:pw watch --after-index 1 /b
    --username u:pw rm /a/x
    --username u:pw mk --in-order /a/q 1
    --username u:pw member remove 123
    member remove 123
    --username root:pw member remove 123
    member list
    cluster-health
    get /a/x
    --username root:pw role revoke guest --path /* --readwrite
    --username root:pw role grant guest --path /* --read
    get /missing
    set /x 1
    --username root:pw role get guest
    --username root:pw user revoke u --roles r
    --username root:pw user revoke u --roles r
    --username u:pw get /missing
    --username u:pw set /a/x 3
    --username root:pw user remove root
    --username root:pw role remove root
    --username root:pw role remove r
    --username root:pw role remove r
    --username root:pw role remove guest
    --username u:pw auth disable
    --username root:pw auth disable
    user remove u
    user remove u
    user remove root
    user list
    auth disable
"""


def test_users_and_roles_are_managed_as_with_etcd(both: tuple[Etcdctl, Etcdctl]) -> None:
    """`user`, `role`, `auth`, and the others with `--username`; the last line leaves nobody and auth off."""
    outcomes = agree(both, AUTH)
    assert {outcome.exit_code == 0 for outcome in outcomes} == {True, False}, "successes and errors"


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
        with Connection(url, tls=server.system.cluster.program.client_tls) as connection:
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
