"""A cluster of an older version is upgraded member by member while clients write."""

import json
import sys
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member, Program
from tests.cluster import older_member

pytestmark = [pytest.mark.slow]

FLAGS = {"snapshot-count": "20"}


def _write(member: Member, keys: range) -> None:
    for key in keys:
        assert member.http("PUT", f"/v2/keys/k{key}", form={"value": "v" * 1000}).status in {200, 201}


def _add(member: Member) -> int:
    body = json.dumps({"peerURLs": ["http://127.0.0.1:9"]}).encode()
    return member.http("POST", "/v2/members", body=body, headers=[("Content-Type", "application/json")]).status


def test_older_members_run_on_under_a_newer_leader_until_they_are_upgraded(tmp_path: Path) -> None:
    """One of them by a snapshot. Members are changed once all are of this version; before that, a line says why not."""
    older = Program(flags=FLAGS, wrapper=(sys.executable, "-m", older_member.__name__))
    with Cluster(tmp_path / "cluster", program=older) as cluster:
        first, second, third = cluster.members
        _write(second, range(20))
        first.terminate()
        first.program = Program(flags=FLAGS)
        first.start()
        first.wait_ready()
        while (leader := cluster.leader()) is not first:
            leader.restart()
        third.kill()
        _write(first, range(20, 1000))
        first.wait_for_log(r"log compacted index=\d{3}")
        third.start()
        third.wait_ready()
        third.wait_for_log("snapshot installed")
        assert _add(first) == 500
        first.wait_for_text("first start this version on every member older=n")
        for member in (second, third):
            _write(member, range(1000, 1020))
            member.terminate()
            member.program = Program(flags=FLAGS)
            member.start()
            member.wait_ready()
        first.wait_for("change of the members", lambda: _add(third) in {201, 409}, 30)
        for member in cluster.members:
            assert member.http("GET", "/v2/keys/k1019?quorum=true").status == 200
            assert "ERROR" not in member.log_text()
