"""Links between members that are slow, half open or reset again and again: nobody else notices, and nothing leaks."""

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Member
from kvraft.testing.member import pause_or_exit
from tests.jepsen_like import db

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

ELECTION_TIMEOUT_S: Final = 1.0
BUSY_S: Final = 3.0
"""What a loaded machine may add to anything."""
WRITERS: Final = 8
DESCRIPTORS_MORE: Final = 6
"""Snapshots, a client's connection, a stream that is being replaced."""


def _write(member: Member, key: str, value: str) -> float:
    """How long it took."""
    began = time.monotonic()
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body
    return time.monotonic() - began


def _has(member: Member, key: str, value: str) -> bool:
    answer = member.http("GET", f"/v2/keys/{key}")
    return answer.status == 200 and answer.json()["node"]["value"] == value


def _elections(database: db.Database) -> int:
    return sum(member.log_text().count("became leader") for member in database.members)


def _descriptors(member: Member) -> int:
    return len(list(Path(f"/proc/{member.pid}/fd").iterdir()))


def _holds_at_most(member: Member, count: int) -> bool:
    return _descriptors(member) <= count


def _wait(member: Member, seconds: float) -> None:
    """Let so much time pass, in which the member must not end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert member.is_running
        pause_or_exit(member.pid)


def test_link_of_64_kbit_holds_nobody_up_and_costs_no_election(tmp_path: Path) -> None:
    """Megabytes wait for one follower while heartbeats share its cable; the other two go on as ever (fault N7)."""
    with db.started(tmp_path, "kvraft") as database:
        leader = database.cluster.leader()
        slow = next(member for member in database.members if member is not leader)
        elections = _elections(database)
        with database.network.slow_link(slow.name, 64):
            for number in range(3):
                assert _write(leader, f"large{number}", "v" * 1_500_000) < BUSY_S
            until = time.monotonic() + 8 * ELECTION_TIMEOUT_S
            while time.monotonic() < until:
                assert _write(leader, "small", "v") < BUSY_S
            assert not _has(slow, "large2", "v" * 1_500_000), "the link was not slow"
            assert database.cluster.leader() is leader
        _write(leader, "small", "last")
        slow.wait_for("what it lacked", lambda: _has(slow, "small", "last"), 60)
        assert _elections(database) == elections


def test_peer_that_vanishes_without_a_word_is_noticed_and_fed_at_once_when_it_is_back(tmp_path: Path) -> None:
    """Packets are dropped, then its process is killed: no FIN, no RST. Then it starts again on its port (fault N8)."""
    with db.started(tmp_path, "kvraft") as database:
        leader = database.cluster.leader()
        gone = next(member for member in database.members if member is not leader)
        others = [member.name for member in database.members if member is not gone]
        network = database.network
        drops = [network.drop(*pair) for name in others for pair in ((name, gone.name), (gone.name, name))]
        lost = leader.log_text().count("lost peer")
        with network.rules(drops):
            began = time.monotonic()
            database.kill(gone)
            leader.wait_for("notice", lambda: leader.log_text().count("lost peer") > lost, 30)
            assert time.monotonic() - began < 2 * ELECTION_TIMEOUT_S + BUSY_S
            _write(leader, "meanwhile", "v")
        database.start(gone)
        gone.wait_listening()
        began = time.monotonic()
        gone.wait_for("what it lacked", lambda: _has(gone, "meanwhile", "v"), 30)
        assert time.monotonic() - began < 2 * ELECTION_TIMEOUT_S + BUSY_S
        assert database.cluster.leader() is leader


def test_writes_at_a_follower_are_done_once_and_answered_at_once_while_its_link_is_reset(tmp_path: Path) -> None:
    """What was on its way to the leader on a connection that broke is asked for and sent again (fault N9)."""
    with db.started(tmp_path, "kvraft") as database, ThreadPoolExecutor(WRITERS) as writers:
        leader = database.cluster.leader()
        follower = next(member for member in database.members if member is not leader)
        reset = [database.network.reset(*pair) for pair in permutations((leader.name, follower.name))]
        over = threading.Event()

        def write(writer: int) -> list[str]:
            values: list[str] = []
            while not over.is_set():
                values.append(f"{writer}-{len(values)}")
                answer = follower.http("POST", "/v2/keys/queue", form={"value": values[-1]})
                assert answer.status == 201, answer.body
            return values

        writing = [writers.submit(write, writer) for writer in range(WRITERS)]
        try:
            for _ in range(40):
                with database.network.rules(reset):
                    _wait(leader, 0.03)
                _wait(leader, 0.2)
        finally:
            over.set()
        acknowledged = [value for each in writing for value in each.result(30)]
        listing = leader.http("GET", "/v2/keys/queue").json()["node"]["nodes"]
        assert sorted(node["value"] for node in listing) == sorted(acknowledged)
        assert follower.log_text().count("lost peer") >= 20
        print(f"{len(acknowledged)} writes, each once")


def test_connections_that_are_reset_again_and_again_leak_no_descriptors(tmp_path: Path) -> None:
    """Twenty storms of resets around the leader: as many descriptors as before, and writes go on (fault N9)."""
    with db.started(tmp_path, "kvraft") as database:
        leader = database.cluster.leader()
        _write(leader, "a", "before")
        before = {member.name: _descriptors(member) for member in database.members}
        names = [member.name for member in database.members]
        pairs = [(leader.name, name) for name in names if name != leader.name]
        rules = [database.network.reset(*pair) for pair in pairs + [pair[::-1] for pair in pairs]]
        for _ in range(20):
            with database.network.rules(rules):
                _wait(leader, 0.2)
            _wait(leader, 0.3)
        for member in database.members:
            member.wait_ready()
        assert _write(database.members[0], "a", "after") < 7
        for member in database.members:
            given_back = functools.partial(_holds_at_most, member, before[member.name] + DESCRIPTORS_MORE)
            member.wait_for("descriptors given back", given_back, 30)
