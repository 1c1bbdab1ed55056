"""Members that must not take part: each says so in one clear line and ends.

Those that have forgotten what they promised are in `test_rebuild.py`, with their remedy.
"""

import subprocess
from pathlib import Path

from kvraft.testing.cluster import Cluster, Member


def _write(member: Member, key: str, value: str) -> None:
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body


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
        member.wait_for("version", lambda: b"not_decided" not in member.http("GET", "/version").body, 10)
        before = member.http("GET", "/v2/members").body
        member.terminate()
        token, moved = member.cluster_flags["initial-cluster-token"], f"{member.name}=http://127.0.0.1:1"
        member.cluster_flags |= {
            "initial-cluster-token": "other",
            "initial-cluster": moved,
            "history-size": "1234",
        }
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
        member.wait_for_text("WARNING running: --history-size has no effect any more given=1234 in_force=100000")


def test_data_directory_of_another_member_is_refused(tmp_path: Path) -> None:
    """Disks were swapped: one line says whose it is and what to do; nothing in it is touched."""
    first, second = Cluster(tmp_path / "cluster", size=2).members
    first.data_dir.mkdir(parents=True)
    first.start()
    first.wait_for_log("starting")
    first.terminate()
    before = (first.data_dir / "identity").read_bytes()
    ended = subprocess.run(
        [*second.command(), f"--data-dir={first.data_dir}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"kvraft: --name=n2: the data directory {first.data_dir} is that of member ")
    assert f"('n1', {first.peer_url}), and the flags are those of " in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert (first.data_dir / "identity").read_bytes() == before


def test_new_name_of_a_member_is_published(tmp_path: Path) -> None:
    """A host is renamed: the other members show it too, under the id that it had."""
    with Cluster(tmp_path / "cluster", size=2) as cluster:
        first, second = cluster.members

        def names() -> dict[str, str]:
            members = first.http("GET", "/v2/members").json()["members"]
            return {member["id"]: member["name"] for member in members}

        before = names()
        second.terminate()
        second.cluster_flags["name"] = "host-b"
        second.start()
        second.wait_ready()
        renamed = {key: "host-b" if name == "n2" else name for key, name in before.items()}
        assert sorted(renamed.values()) == ["host-b", "n1"]
        first.wait_for("new name", lambda: names() == renamed, 10)
        second.wait_for_text("this member was 'n2' and is 'host-b' from now on")
