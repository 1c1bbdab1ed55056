"""A part of the cluster is wiped and founds it anew with the same settings while the rest is away."""

import shutil
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member

pytestmark = [pytest.mark.slow]


def _write(member: Member, prefix: str, count: int) -> None:
    for number in range(count):
        answer = member.http("PUT", f"/v2/keys/{prefix}{number}", form={"value": "1"})
        assert answer.status in {200, 201}, answer.body


def _has(member: Member, key: str) -> bool:
    return member.http("GET", f"/v2/keys/{key}").status == 200


def _refused(member: Member) -> str:
    """Start the member, which must end; its last line."""
    member.start()
    assert member.wait_exit() == 1
    return [line for line in member.log_text().splitlines() if line.startswith("kvraft: ")][-1]


def test_majority_founded_anew_does_not_stop_for_one_from_before(tmp_path: Path) -> None:
    """Two of three lose their disks, begin again and take 20 keys; the third comes back with its 50.

    It is the one that is refused and ends, with both histories in its line; its data stays where it is, also under a
    --rebuild that is always on, and can be read while the others are stopped. The pair goes on under writes, loses
    nothing, and takes the third in once it comes with an empty directory.
    """
    with Cluster(tmp_path / "cluster") as cluster:
        leader = cluster.leader()
        _write(leader, "old", 50)
        third, *pair = (*cluster.followers(), leader)
        third.wait_for("all writes", lambda: _has(third, "old49"), 20)
        assert third.terminate() == 0
        for member in pair:
            member.kill()
            shutil.rmtree(member.data_dir)
        for member in pair:
            member.start()
        for member in pair:
            member.wait_ready()
        _write(pair[0], "new", 20)

        for flags in ({}, {"rebuild": "true"}):
            third.cluster_flags |= flags
            line = _refused(third)
            assert "this cluster was founded twice" in line
            assert line.count("holds history") == 2
            assert "--rebuild" not in line
        assert not list(third.data_dir.glob("damaged-*"))
        del third.cluster_flags["rebuild"]
        _write(pair[1], "later", 5)
        for member in pair:
            member.wait_for_text("refused a peer")
        assert all(member.is_running for member in pair)

        for member in pair:
            assert member.terminate() == 0
        third.start()
        third.wait_listening()
        third.wait_for("its own data", lambda: _has(third, "old49"), 20)
        assert third.terminate() == 0
        third.data_dir.rename(tmp_path / "kept")
        cluster.start()
        third.wait_for("the pair's data", lambda: _has(third, "later4"), 20)
        assert _has(third, "new19")
        assert not _has(third, "old0")
