"""Every figure on the page of a running cluster has a source: it moves when it should, or says why it stands still."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster, Member
from tests.conformance.wire import Connection, keys_request

CONSTANT: Final = {
    "etcd_server_id": "who this is",
    "etcd_server_version": "the etcd whose API this is",
    "etcd_cluster_version": "agreed on once, until changes of the membership",
    "kvraft_version": "this program's",
    "etcd_server_is_learner": "0: the API cannot make learners yet",
    "kvraft_history_start_index": "1 until more events have happened than the history holds",
    "process_max_fds": "the limit of this process",
    "process_start_time_seconds": "when it began",
}
"""Figures that are true and stand still in a short life."""
ELSEWHERE: Final = {
    "etcd_server_slow_apply_total": "tests/member/test_member.py blocks the applier",
    "etcd_disk_backend_snapshot_duration_seconds": "tests/cluster/test_catch_up.py",
    "etcd_server_snapshot_apply_in_progress_total": "tests/member/test_durable_state.py",
    "kvraft_disk_full": "tests/cluster/test_full_disk.py",
    "kvraft_log_lines_lost_total": "tests/test_standard_streams.py",
}
"""Figures that move only in situations that other tests make."""
_SAMPLE: Final = re.compile(r"([a-z_]+)(\{[^}]*\})? (\S+)")


def figures(member: Member) -> dict[str, float]:
    """Each sample of a member's page, with its labels."""
    page = member.http("GET", "/metrics").body.decode()
    found = (_SAMPLE.fullmatch(line) for line in page.splitlines() if not line.startswith("#"))
    return {match[1] + (match[2] or ""): float(match[3]) for match in found if match is not None}


def families(names: Iterable[str]) -> set[str]:
    """The figures that samples belong to, the parts of a histogram as one."""
    return {re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) for name in names}


@pytest.mark.slow
def test_every_figure_moves_or_is_known_to_stand_still(tmp_path: Path) -> None:
    """Through writes, reads, watches, an expiry, a paused leader, a dead follower, and a member on its own."""
    flags = {"election-timeout": "300", "heartbeat-interval": "30"}
    with Cluster(tmp_path / "cluster", flags=flags) as cluster:
        for member in cluster.members:
            member.wait_for("version", lambda: b'"etcdcluster":"3.4' in member.http("GET", "/version").body, 10)  # noqa: B023 -- called here
        pages = [[figures(member)] for member in cluster.members]

        def look() -> None:
            for member, seen in zip(cluster.members, pages, strict=True):
                if member.is_running:
                    seen.append(figures(member))

        leader = cluster.leader()
        others = [member for member in cluster.members if member is not leader]
        with Connection(others[0].client_url) as watching:
            watching.send(keys_request("GET", "/k", query="wait=true"))
            watching.receive_head()
            look()
        for number in range(50):
            leader.http("PUT", "/v2/keys/k", form={"value": str(number)})
        others[0].http("GET", "/v2/keys/k?quorum=true")
        others[0].http("GET", "/v2/keys/none")
        leader.http("PUT", "/v2/keys/short", form={"value": "x", "ttl": "1"})
        leader.http("GET", "/health")
        leader.wait_for("expiry", lambda: leader.http("GET", "/v2/keys/short").status == 404, 10)
        look()
        leader.pause()
        others[0].wait_for(
            "another leader", lambda: figures(others[0])["etcd_server_leader_changes_seen_total"] > 1, 10
        )
        leader.resume()
        leader.wait_for("its heartbeat", lambda: figures(leader)["etcd_server_heartbeat_send_failures_total"] > 0, 10)
        leader.wait_for("a flush", lambda: figures(leader)["etcd_disk_backend_commit_duration_seconds_count"] > 0, 20)
        look()
        others[0].kill()
        others[1].kill()
        leader.wait_for("loss of the leader", lambda: leader.http("GET", "/health").status == 503, 10)
        with Connection(leader.client_url) as reading, Connection(leader.client_url) as writing:
            reading.send(keys_request("GET", "/k", query="quorum=true"))
            writing.send(keys_request("PUT", "/k", "value=no"))
            leader.wait_for("a waiting write", lambda: figures(leader)["etcd_server_proposals_pending"] > 0, 5)
            look()
            assert reading.receive("GET").status == 500
            assert writing.receive("PUT").status == 500
        look()
    seen_names = {name for seen in pages for page in seen for name in page}
    moved = {name for seen in pages for name in seen_names if len({page.get(name, 0.0) for page in seen}) > 1}
    still = families(seen_names) - families(moved)
    assert still - CONSTANT.keys() - ELSEWHERE.keys() == set()
    assert (families(moved) & CONSTANT.keys()) == set()
