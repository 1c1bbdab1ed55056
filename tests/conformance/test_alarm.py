"""/health of etcd under its alarm NOSPACE, our full disk: `tests/api_v2/test_endpoints.py` asks kvraft the same."""

import os
import subprocess
from pathlib import Path

from kvraft.testing.cluster import Cluster, Program
from tests.api_v2.alarms import BODIES, HEALTH_WHEN_FULL


def test_etcd_without_space_is_unhealthy_unless_asked_to_leave_that_out(tmp_path: Path) -> None:
    """Its quota is for the v3 API, and a write there raises the alarm."""
    cluster = Cluster(tmp_path / "etcd", size=1, program=Program("etcd", {"quota-backend-bytes": "1"}))
    try:
        cluster.start()
        (member,) = cluster.members
        write = subprocess.run(
            ["etcdctl", "--endpoints", member.client_url, "put", "a", "b"],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert "database space exceeded" in write.stderr, write
        for target, status in HEALTH_WHEN_FULL.items():
            answer = member.http("GET", target)
            assert (target, answer.status, answer.body) == (target, status, BODIES[status])
    finally:
        cluster.stop()
