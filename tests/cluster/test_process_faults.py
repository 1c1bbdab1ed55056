"""What goes wrong inside a member: it stops and says so, or it goes on whole; never half of it."""

import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member, Program
from tests.cluster.spoiled_member import SPOILS

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

FATAL = [name for name in SPOILS if "stall" not in name]
IN_COMPILED_CODE = {"half an apply", "frames"}
"""Methods whose place nothing can take in the compiled form."""
STOPS_WITHIN_S = 20.0


def _spoiled(member: Member, spoil: str) -> None:
    """Start this member so that SIGUSR1 spoils it."""
    wrapper = (sys.executable, "-m", "tests.cluster.spoiled_member")
    member.program = dataclasses.replace(member.program, wrapper=wrapper, environment={"SPOIL": spoil})


def _write(member: Member, key: str, value: str = "v") -> int:
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    return answer.status


def _agree(cluster: Cluster) -> bool:
    """Every member shows the same tree at the same index."""
    answers = [member.http("GET", "/v2/keys/?recursive=true&sorted=true") for member in cluster.members]
    return len({(answer.etcd_index, answer.body) for answer in answers}) == 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members, which every test leaves whole."""
    with Cluster(tmp_path_factory.mktemp("spoiled") / "cluster", program=Program()) as started:
        yield started


@pytest.mark.parametrize(
    "spoil", [pytest.param(spoil, marks=[pytest.mark.pure] * (spoil in IN_COMPILED_CODE)) for spoil in FATAL]
)
def test_member_with_a_bug_or_without_memory_stops_and_comes_back_whole(cluster: Cluster, spoil: str) -> None:
    """Exit code 1 and a reason in the log; nothing of a half-done entry is left, and the others never noticed."""
    victim, *others = cluster.members
    victim.kill()
    _spoiled(victim, spoil)
    victim.start()
    victim.wait_ready()
    logged = len(victim.log_text())
    victim.signal(signal.SIGUSR1)
    deadline = time.monotonic() + STOPS_WITHIN_S
    number = 0
    while victim.is_running and time.monotonic() < deadline:
        number += 1
        assert _write(others[number % 2], f"{spoil.replace(' ', '-')}/{number % 50}", str(number)) in {200, 201}
    assert victim.wait_exit(5.0) == 1
    log = victim.log_text()[logged:]
    assert "the member stops" in log, log
    assert log.rstrip().splitlines()[-1].startswith("kvraft: "), log
    victim.program = cluster.program
    victim.start()
    victim.wait_ready()
    victim.wait_for("agreement", lambda: _agree(cluster), 20)


def test_python_that_stands_still_for_less_than_an_election_timeout_changes_no_leader(tmp_path: Path) -> None:
    """The leader's GIL is held 0.35 s again and again: followers wait, and every write is acknowledged in the end."""
    with _stalling(tmp_path, "short stall") as (cluster, leader):
        for number in range(6):
            leader.signal(signal.SIGUSR1)
            assert _write(cluster.members[number % 3], f"k{number}") == 201
        assert cluster.leader() is leader
        assert sum(member.log_text().count("became leader") for member in cluster.members) == 1


def test_leader_that_stands_still_for_long_is_succeeded_and_follows(tmp_path: Path) -> None:
    """Three seconds: the others elect; what it answers afterwards is what they have written meanwhile."""
    with _stalling(tmp_path, "long stall") as (cluster, leader):
        others = [member for member in cluster.members if member is not leader]
        assert _write(leader, "a", "before") == 201
        leader.signal(signal.SIGUSR1)
        others[0].wait_for("a write without it", lambda: _write(others[0], "a", "after") == 200, 20)
        answer = leader.http("GET", "/v2/keys/a?quorum=true")
        assert answer.json()["node"]["value"] == "after"
        assert cluster.leader() is not leader
        leader.wait_for("agreement", lambda: _agree(cluster), 20)


@contextlib.contextmanager
def _stalling(directory: Path, spoil: str) -> Iterator[tuple[Cluster, Member]]:
    """A cluster whose members stall at SIGUSR1, and its leader."""
    cluster = Cluster(directory / "cluster")
    for member in cluster.members:
        _spoiled(member, spoil)
    with cluster:
        yield cluster, cluster.leader()
