"""Members that must not take part: each says so in one clear line and ends, and the cluster goes on."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member


def _write(member: Member, key: str, value: str) -> None:
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body


@pytest.mark.slow
def test_member_with_an_emptied_directory_is_refused(tmp_path: Path) -> None:
    """It has forgotten its votes and acknowledgements; with it, an acknowledged write could be outvoted."""
    with Cluster(tmp_path / "cluster") as cluster:
        wiped = cluster.followers()[0]
        _write(cluster.leader(), "kept", "yes")
        wiped.wait_for("the write", lambda: wiped.http("GET", "/v2/keys/kept").status == 200, 10)
        wiped.kill()
        shutil.rmtree(wiped.data_dir)
        wiped.start()
        assert wiped.wait_exit() == 1
        assert "its data directory is empty but it has taken part before" in wiped.log_text()
        _write(cluster.leader(), "kept", "still")


@pytest.mark.slow
def test_member_with_an_old_copy_of_its_directory_is_refused(tmp_path: Path) -> None:
    """A restored backup lacks entries that the member has acknowledged since."""
    with Cluster(tmp_path / "cluster") as cluster:
        old = cluster.followers()[0]
        _write(old, "before", "1")
        assert old.terminate() == 0
        copy = tmp_path / "copy"
        shutil.copytree(old.data_dir, copy)
        old.start()
        old.wait_ready()
        for number in range(20):
            _write(old, f"after{number}", "1")
        leader = cluster.leader()
        leader.wait_for("the follower's acknowledgement", lambda: _remembers(cluster), 10)
        old.kill()
        shutil.rmtree(old.data_dir)
        shutil.copytree(copy, old.data_dir)
        old.start()
        assert old.wait_exit() == 1
        assert "is an old copy" in old.log_text()
        _write(cluster.leader(), "before", "2")


def _remembers(cluster: Cluster) -> bool:
    """All members stand at the same raft index, so a leader knows what its followers hold."""
    return len({member.http("GET", "/v2/keys/").header("X-Raft-Index") for member in cluster.running}) == 1


def test_second_process_on_a_data_directory_is_refused(tmp_path: Path) -> None:
    """The first is unharmed; the second names the directory and the process that holds it."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        first = cluster.members[0]
        _write(first, "a", "1")
        beside = Cluster(tmp_path / "beside", size=1).members[0]
        other_ports = [
            f"--listen-client-urls={beside.client_url}",
            f"--advertise-client-urls={beside.client_url}",
            f"--listen-peer-urls={beside.peer_url}",
        ]
        ended = subprocess.run(
            [*first.command(), *other_ports], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 1
        assert f"is in use by process {first.pid}" in ended.stderr
        assert "Traceback" not in ended.stderr
        _write(first, "a", "2")


def test_later_start_takes_its_cluster_from_the_data_directory(tmp_path: Path) -> None:
    """Flags that would found another one change nothing, and the log names each; the data is served as before."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        member = cluster.members[0]
        _write(member, "a", "1")
        before = member.http("GET", "/v2/members").body
        member.terminate()
        token, moved = member.cluster_flags["initial-cluster-token"], f"{member.name}=http://127.0.0.1:1"
        member.cluster_flags |= {"initial-cluster-token": "other", "initial-cluster": moved}
        member.start()
        member.wait_ready()
        assert member.http("GET", "/v2/keys/a").json()["node"]["value"] == "1"
        assert member.http("GET", "/v2/members").body == before
        warning = next(line for line in member.log_text().splitlines() if "change nothing" in line)
        assert " WARNING " in warning
        for flag, held in (
            (f"--initial-cluster={moved}", f"{member.name}={member.peer_url}"),
            ("--initial-cluster-token=other", token),
        ):
            assert f"{flag} (in force: {held})" in warning


def test_data_directory_of_another_member_is_refused(tmp_path: Path) -> None:
    """Disks were swapped: one line says whose it is and what to do; nothing in it is touched."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        member = cluster.members[0]
        _write(member, "a", "1")
        member.terminate()
        ended = subprocess.run(
            [*member.command(), "--name=other"], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"kvraft: --name=other: the data directory {member.data_dir} is that of member ")
        assert ended.stderr.count("\n") == 1
        member.start()
        member.wait_ready()
        assert member.http("GET", "/v2/keys/a").json()["node"]["value"] == "1"
