"""Without a quorum: local reads go on, everything else says so in etcd's words after etcd's time (contract A.13)."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member


def _cause_and_seconds(
    member: Member, method: str, target: str, form: dict[str, str] | None = None
) -> tuple[str, float]:
    began = time.monotonic()
    answer = member.http(method, target, form=form)
    assert answer.status == 500
    assert answer.json()["errorCode"] == 300
    assert answer.json()["index"] == 0
    return answer.json()["cause"], time.monotonic() - began


@pytest.mark.slow
def test_member_without_a_quorum_reads_locally_and_refuses_the_rest(tmp_path: Path) -> None:
    """The survivor answers what it knows; a write and a quorum read fail after 5 s + 2 election timeouts."""
    with Cluster(tmp_path / "cluster", flags={"election-timeout": "300", "heartbeat-interval": "30"}) as cluster:
        survivor = cluster.members[0]
        survivor.http("PUT", "/v2/keys/kept", form={"value": "yes"})
        for member in cluster.members[1:]:
            member.kill()
        assert survivor.http("GET", "/v2/keys/kept").json()["node"]["value"] == "yes"
        survivor.wait_for("loss of the leader", lambda: survivor.http("GET", "/health").status == 503, 10)
        with ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(_cause_and_seconds, survivor, "PUT", "/v2/keys/kept", {"value": "no"}),
                pool.submit(_cause_and_seconds, survivor, "GET", "/v2/keys/kept?quorum=true"),
            ]
        for request in waiting:
            cause, seconds = request.result()
            assert cause.startswith("etcdserver: request timed out")
            assert 5.5 < seconds < 7.1
        others = ",".join(member.name for member in cluster.members[1:])
        assert f"connected=nobody missing={others}" in survivor.log_text(), survivor.log_tail()
        assert survivor.http("GET", "/v2/members/leader").status == 503
        assert survivor.http("GET", "/v2/stats/leader").status == 403
        assert len(survivor.http("GET", "/v2/members").json()["members"]) == 3
        survivor.kill()
        survivor.start()
        survivor.wait_listening()
        assert survivor.http("GET", "/v2/keys/kept").json()["node"]["value"] == "yes"
        for member in cluster.members[1:]:
            member.start()
        survivor.wait_ready()
        # The write's outcome was unknown, and it may have been committed since.
        assert survivor.http("GET", "/v2/keys/kept?quorum=true").json()["node"]["value"] in {"yes", "no"}
