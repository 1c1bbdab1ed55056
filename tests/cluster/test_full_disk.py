"""One member's disk fills up by what the cluster writes: it stays out of the way, and nothing stops."""

import contextlib
import json
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster
from tests.jepsen_like.db import small_disk

VALUE_BYTES = 256 << 10
WRITES = 1000
"""250 MiB of values; the small disk has 192."""
RESTART_WRITES = 5


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("small_leads", [True, False])
def test_member_whose_disk_fills_up_stays_and_the_others_go_on(tmp_path: Path, *, small_leads: bool) -> None:
    """As the leader it hands over first. Its own clients are told at once, and it still starts on what it has."""
    cluster = Cluster(tmp_path / "cluster")
    small, *others = cluster.members
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.directory.mkdir()
        stack.enter_context(small_disk(small))
        cluster.start()
        while (cluster.leader() is small) is not small_leads:
            leader = cluster.leader()
            leader.kill()  # not a hand-over, which prefers the lowest id among equals and may never come here
            leader.start()
            leader.wait_ready()
        value = "x" * VALUE_BYTES
        refused = 0
        for number in range(WRITES):
            answer = others[number % 2].http("PUT", f"/v2/keys/fill/{number % 50}", form={"value": value})
            if answer.status not in {200, 201}:
                refused += 1
                assert json.loads(answer.body)["cause"] == "etcdserver: no space", answer.body
        for member in cluster.members:
            assert member.is_running, member.log_tail()
        small.wait_for_text("disk nearly full")
        assert refused <= 2, "until the small one has handed over, its leadership may refuse others' commands"
        answer = small.http("PUT", "/v2/keys/own", form={"value": "x"})
        assert (answer.status, answer.json()["cause"]) == (500, "etcdserver: no space")
        assert [member.http("GET", "/health").status for member in cluster.members] == [503, 200, 200]
        assert b"kvraft_disk_full 1.0" in small.http("GET", "/metrics").body
        small.terminate()
        small.start()
        small.wait_listening()
        for number in range(RESTART_WRITES):
            assert others[0].http("PUT", f"/v2/keys/after/{number}", form={"value": value}).status == 201
        assert small.is_running, small.log_tail()
