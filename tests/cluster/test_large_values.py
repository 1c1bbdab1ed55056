"""The largest value that a form can carry goes everywhere that a small one goes."""

from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster
from tests.cluster.load import write_until_compacted

FORM_BYTES_MAX = 10 << 20
FLAGS = {"snapshot-count": "50", "heartbeat-interval": "500", "election-timeout": "5000"}
"""90 MB are synced on one disk: what that takes is no reason for an election, and a loop held up for longer is."""


def _terms(cluster: Cluster) -> set[str | None]:
    return {member.http("GET", "/v2/keys/").header("X-Raft-Term") for member in cluster.members}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_mebibytes_through_every_member_restart_and_snapshot_without_an_election(tmp_path: Path) -> None:
    """Written through leader and followers, read from all, replayed after kill -9, sent in a snapshot."""
    value = "x" * (FORM_BYTES_MAX - len("value="))
    with Cluster(tmp_path / "cluster", flags=FLAGS) as cluster:
        terms = _terms(cluster)
        for member in cluster.members:
            answer = member.http("PUT", f"/v2/keys/large/{member.name}", form={"value": value})
            assert answer.status == 201, answer.body[:200]
        one_more = cluster.members[0].http("PUT", "/v2/keys/large/more", form={"value": value + "x"})
        assert one_more.status == 400
        assert one_more.json()["cause"] == "http: POST too large"
        for member in cluster.members:
            for other in cluster.members:
                read = member.http("GET", f"/v2/keys/large/{other.name}?quorum=true")
                assert read.json()["node"]["value"] == value
        assert _terms(cluster) == terms, "an election happened"
        follower = cluster.followers()[0]
        follower.restart()
        assert follower.http("GET", "/v2/keys/large/n1").json()["node"]["value"] == value
        last_index = int(follower.http("GET", "/v2/keys/").header("X-Raft-Index") or "")
        follower.kill()
        write_until_compacted(cluster.leader(), last_index + 1)
        follower.start()
        follower.wait_for_log("snapshot installed", 60)
        follower.wait_ready()
        assert follower.http("GET", "/v2/keys/large/n2").json()["node"]["value"] == value
        assert _terms(cluster) == terms, "an election happened"
