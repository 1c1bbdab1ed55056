"""Members that come to a cluster that runs, take the place of others, and go on alone after the loss of a majority."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, Member

pytestmark = [pytest.mark.slow, pytest.mark.landing]


def _write(member: Member, key: str, value: str = "1") -> None:
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body


def _has(member: Member, *keys: str) -> bool:
    return all(member.http("GET", f"/v2/keys/{key}").status == 200 for key in keys)


def _listed(member: Member) -> dict[str, dict[str, Any]]:
    """Every member by its name, as this one shows them."""
    listed: list[dict[str, Any]] = member.http("GET", "/v2/members").json()["members"]
    assert len({each["name"] for each in listed}) == len(listed), listed
    return {each["name"]: each for each in listed}


def _voters(member: Member) -> str:
    """The names of the last line about them, sorted."""
    said = re.findall(r"members that vote .*voters=(\S+)", member.log_text())
    return ",".join(sorted(said[-1].split(","))) if said else ""


def _votes(member: Member, names: str) -> None:
    """Wait until it knows that these vote."""
    member.wait_for(f"voters {names}", lambda: _voters(member) == names, 30)


def _etcdctl(member: Member, *arguments: str) -> str:
    ended = subprocess.run(
        ["etcdctl", "--endpoints", member.client_url, *arguments],
        env={**os.environ, "ETCDCTL_API": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _refused(member: Member) -> str:
    """Start the member, which must end with one line and write nothing; that line."""
    logged, held = len(member.log_text()), sorted(member.data_dir.rglob("*"))
    member.start()
    assert member.wait_exit() == 1
    assert sorted(member.data_dir.rglob("*")) == held
    (line,) = [line for line in member.log_text()[logged:].splitlines() if line.startswith("kvraft: ")]
    return line


def _said_since(member: Member, pattern: str, since: int) -> bool:
    return re.search(pattern, member.log_text()[since:]) is not None


def _killed_when_it_says(member: Member, pattern: str) -> None:
    """Start it, and kill -9 as soon as the line is in its log; one that says it no more is let get ready."""
    logged = len(member.log_text())
    member.start()
    serves = "|serving clients"
    said = functools.partial(_said_since, member, pattern + serves, logged)
    member.wait_for(f"line {pattern!r}", said, 60)
    member.kill()


def test_member_that_etcdctl_added_starts_with_the_lines_that_it_printed(tmp_path: Path) -> None:
    """As they stand, as variables; and once more with them, when they are those of another day. Killed in between."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        (first,) = cluster.members
        _write(first, "before")
        for name in ("n2", "n3"):
            added = cluster.more(name)
            printed = _etcdctl(first, "member", "add", name, added.peer_url)
            lines = dict(re.findall(r'^ETCD_(\w+)="(.*)"$', printed, re.MULTILINE))
            assert lines.pop("NAME") == name
            added.cluster_flags = {key.lower().replace("_", "-"): value for key, value in lines.items()}
            assert set(added.cluster_flags) == {"initial-cluster", "initial-cluster-state"}
            _killed_when_it_says(added, "starting")
            added.start()
            added.wait_ready()
            assert _has(added, "before")
        second, third = cluster.members[1:]
        _votes(third, "n1,n2,n3")
        assert list(_listed(third)) == list(_listed(first))
        for member in cluster.members:
            shown = raw_http.exchange(member.peer_url, "GET", "/members")
            assert {each["name"]: (each["id"], each["peerURLs"]) for each in shown.json()} == {
                name: (int(each["id"], 16), each["peerURLs"]) for name, each in _listed(first).items()
            }
            assert shown.header("X-Etcd-Cluster-Id") == first.http("GET", "/v2/members").header("X-Etcd-Cluster-Id")
        assert "cluster is healthy" in _etcdctl(third, "cluster-health")
        second.restart()
        first.kill()
        second.wait_ready()
        _write(third, "after")


def test_member_joins_in_one_step_and_is_run_again_whenever_it_was_killed(tmp_path: Path) -> None:
    """It is added once, serves once it has caught up, and the flag may stay: nobody is asked to let it start again.

    The log that it needs is not there any more: it gets a snapshot.
    """
    with Cluster(tmp_path / "cluster", flags={"snapshot-count": "10"}) as cluster:
        keys = [f"k{number}" for number in range(100)]
        for key in keys:
            _write(cluster.leader(), key)
        cluster.leader().wait_for_log("log compacted")
        fourth = cluster.more("n4", join=",".join(cluster.client_urls))
        for moment in ("added to the cluster", "starting", "connected to peer", "getting the log", "that vote"):
            _killed_when_it_says(fourth, moment)
        fourth.start()
        fourth.wait_listening()
        assert _has(fourth, *keys), "what it serves first has everything that was acknowledged"
        fourth.wait_ready()
        _votes(fourth, "n1,n2,n3,n4")
        assert sorted(_listed(fourth)) == ["n1", "n2", "n3", "n4"]
        assert fourth.log_text().count("added to the cluster") == 1
        # Killed behind the install and before its line, it would not say so: somebody has sent it, in any case.
        founders = cluster.members[:3]
        fourth.wait_for("a snapshot", lambda: any("snapshot sent" in each.log_text() for each in founders), 60)
        for member in cluster.members:
            member.kill()
        for member in (fourth, *cluster.members[:2]):
            member.start()
        fourth.wait_ready()


def test_cluster_without_a_quorum_is_not_joined(tmp_path: Path) -> None:
    """The API says 500 for everything; the line says what to do, and nothing is written."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader, *others = cluster.leader(), *cluster.followers()
        logged = len(leader.log_text())
        for member in others:
            member.kill()
        leader.wait_for("the loss of its quorum", functools.partial(_said_since, leader, "no leader", logged), 20)
        fourth = cluster.more("n4", join=leader.client_url)
        line = _refused(fourth)
        assert "the cluster did not add this member: it has no leader: start a majority of its members first" in line
        assert not fourth.data_dir.exists()


def test_wiped_member_is_replaced_under_its_own_name_and_addresses(tmp_path: Path) -> None:
    """The old one cannot be running, so it goes first; its disk, should it be found again, is of no use."""
    with Cluster(tmp_path / "cluster") as cluster:
        old = cluster.followers()[0]
        _write(cluster.leader(), "before")
        old_id = _listed(old)[old.name]["id"]
        old.kill()
        kept = tmp_path / "kept"
        old.data_dir.rename(kept)
        others = [member for member in cluster.members if member is not old]
        old.cluster_flags = {"join": others[0].client_url}
        line = _refused(old)
        assert f"--name={old.name}: the name is in use by member {old_id}" in line or "has started before" in line
        old.cluster_flags["replace"] = old.name
        old.start()
        old.wait_ready()
        assert _has(old, "before")
        _votes(old, "n1,n2,n3")
        assert _listed(others[1])[old.name]["id"] != old_id
        assert old.terminate() == 0
        shutil.rmtree(old.data_dir)
        shutil.copytree(kept, old.data_dir)
        old.cluster_flags = {}
        old.start()
        assert old.wait_exit() == 0
        old.wait_for_text("this member was removed from the cluster for good")


def test_member_with_a_slip_in_its_directories_costs_the_cluster_nothing(tmp_path: Path) -> None:
    """Whom it replaces goes on with the directory that is still good; with the slip corrected it joins."""
    (tmp_path / "file").write_text("somebody's")
    with Cluster(tmp_path / "cluster") as cluster:
        old = cluster.followers()[0]
        old.kill()
        kept = tmp_path / "kept"
        old.data_dir.rename(kept)
        joining = {"join": cluster.leader().client_url, "replace": old.name}
        listed = _listed(cluster.leader())
        old.cluster_flags = {**joining, "wal-dir": str(tmp_path / "file" / "wal")}
        assert f"--wal-dir={tmp_path}/file/wal: {tmp_path}/file is no directory: " in _refused(old)
        (old.data_dir / "member").mkdir(parents=True)
        old.cluster_flags = joining
        assert "holds etcd's data, which kvraft does not read" in _refused(old)
        assert _listed(cluster.leader()) == listed
        shutil.rmtree(old.data_dir)
        kept.rename(old.data_dir)
        old.cluster_flags = {}
        old.start()
        old.wait_ready()


def test_member_is_replaced_by_one_elsewhere_which_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The old one serves until the new one votes; and whoever has its name later is safe from a flag that stays."""
    with Cluster(tmp_path / "cluster") as cluster:
        old = cluster.leader()
        others = [member for member in cluster.members if member is not old]
        _write(old, "before")
        fourth = cluster.more("n4", join=",".join(cluster.client_urls), replace=old.name)
        for moment in ("added to the cluster", "starting", f"voters=\\S*{fourth.name}"):
            _killed_when_it_says(fourth, moment)
        fourth.start()
        assert old.wait_exit(60) == 0
        cluster.without(old)
        fourth.wait_ready()
        names = ",".join(sorted(member.name for member in cluster.members))
        _votes(fourth, names)
        assert ",".join(sorted(_listed(others[0]))) == names
        again = cluster.more(old.name, join=fourth.client_url)
        shutil.rmtree(again.data_dir)
        again.start()
        again.wait_ready()
        fourth.restart()
        _write(fourth, "after")
        assert again.is_running
        assert old.name in _listed(fourth)


def test_survivor_of_three_goes_on_alone_and_grows_again(tmp_path: Path) -> None:
    """With all that it holds; the flag may stay; the old ones are refused, and come again with empty directories."""
    with Cluster(tmp_path / "cluster") as cluster:
        survivor, *lost = cluster.followers()[0], cluster.leader(), cluster.followers()[1]
        keys = [f"k{number}" for number in range(20)]
        for key in keys:
            _write(survivor, key)
        assert survivor.terminate() == 0  # what it answered may be on the disks of the others alone
        for member in lost:
            member.kill()
        survivor.cluster_flags["force-new-cluster"] = "true"
        survivor.start()
        survivor.wait_ready()
        assert _has(survivor, *keys)
        assert sorted(_listed(survivor)) == [survivor.name]
        survivor.wait_for_text("goes on as a cluster of one")
        _write(survivor, "alone")

        back = lost[0]
        back.start()
        refused = functools.partial(_said_since, back, "refused by peer .*anew by --force-new-cluster", 0)
        back.wait_for("its refusal", refused, 20)
        back.kill()
        assert survivor.is_running

        for member in lost:
            shutil.rmtree(member.data_dir)
            member.cluster_flags = {"join": survivor.client_url}
            member.start()
            member.wait_ready()
        for member in cluster.members:
            _votes(member, "n1,n2,n3")
        survivor.restart()
        survivor.wait_for_text("--force-new-cluster was carried out at an earlier start")
        _write(lost[1], "together")
        survivor.kill()
        lost[0].wait_ready()
        assert _has(lost[0], *keys, "alone", "together")


def test_wiped_member_rebuilds_from_those_that_came_since(tmp_path: Path) -> None:
    """Its flags name a founder that is gone for good. One that came later finds itself by its peer URLs."""
    with Cluster(tmp_path / "cluster") as cluster:
        gone, founder = cluster.followers()
        _write(cluster.leader(), "before")
        fourth = cluster.more("n4", join=",".join(cluster.client_urls), replace=gone.name)
        fourth.start()
        assert gone.wait_exit(60) == 0
        cluster.without(gone)
        fourth.wait_ready()
        _write(fourth, "since")
        for wiped in (founder, fourth):
            wiped.kill()
            shutil.rmtree(wiped.data_dir)
            wiped.cluster_flags["rebuild"] = "true"
            wiped.start()
            wiped.wait_ready()
            wiped.wait_for_text("everything is back from the other members")
            assert _has(wiped, "before", "since")
        founder.restart()
        _write(founder, "after")
