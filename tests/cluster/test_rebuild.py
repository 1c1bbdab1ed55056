"""A member whose data is lost, damaged or an old copy gets everything back from the others with `--rebuild`."""

import dataclasses
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvraft import clock
from kvraft.testing.cluster import Cluster, Member

pytestmark = [pytest.mark.slow]


def _write(member: Member, key: str, value: str) -> None:
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body


def _refused(member: Member) -> str:
    """Start the member, which must end with one line; that line."""
    logged = len(member.log_text())
    member.start()
    assert member.wait_exit() == 1
    lines = [line for line in member.log_text()[logged:].splitlines() if line.startswith("kvraft: ")]
    assert len(lines) == 1, lines
    return lines[0]


def _with_rebuild(member: Member) -> None:
    member.program = dataclasses.replace(member.program, flags={**member.program.flags, "rebuild": "true"})


def _state(member: Member) -> bytes:
    return member.http("GET", "/v2/keys/?recursive=true&sorted=true").body


def _agree(cluster: Cluster) -> bool:
    return len({_state(member) for member in cluster.members}) == 1


def _served_everything(cluster: Cluster, member: Member, keys: list[str]) -> None:
    """The first answer that the member gives has all of it; and soon all members are equal."""
    member.wait_ready()
    missing = [key for key in keys if member.http("GET", f"/v2/keys/{key}").status != 200]
    assert not missing
    member.wait_for("equal members", lambda: _agree(cluster), 20)


def _has_said(member: Member, text: str, since: int) -> bool:
    return text in member.log_text()[since:]


def _aside(member: Member) -> list[Path]:
    return sorted(member.data_dir.glob("damaged-*"))


def _put_back(member: Member) -> subprocess.CompletedProcess[str]:
    """The one command, as the operator types it."""
    command = [sys.executable, "-m", "kvraft", "--put-back", "--data-dir", str(member.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_wiped_follower_comes_back_and_can_be_relied_on(tmp_path: Path) -> None:
    """Refused without the flag; with it, it has every acknowledged write before it serves, and counts for a quorum."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader, wiped = cluster.leader(), cluster.followers()[0]
        keys = [f"k{number}" for number in range(300)]
        for key in keys:
            _write(leader, key, "x" * 100)
        wiped.kill()
        shutil.rmtree(wiped.data_dir)
        _write(leader, "meanwhile", "1")
        for _ in range(2):  # as systemd would
            line = _refused(wiped)
            assert "its data directory is empty but it has taken part before: start it once with --rebuild" in line
        _with_rebuild(wiped)
        wiped.start()
        _served_everything(cluster, wiped, [*keys, "meanwhile"])
        wiped.wait_for_text("everything is back from the other members")
        assert _aside(wiped) == [], "the refused starts had written nothing, and block no later rebuild"
        leader.kill()
        wiped.wait_for("a leader of the two others", lambda: cluster.leader().is_running, 20)
        _write(wiped, "after", "1")


def test_rebuild_survives_being_killed_and_waits_for_every_other_member(tmp_path: Path) -> None:
    """While one of the others is away it serves nothing, says who is missing, and goes on from there when killed."""
    with Cluster(tmp_path / "cluster") as cluster:
        wiped, away = cluster.followers()
        _write(cluster.leader(), "kept", "1")
        wiped.kill()
        shutil.rmtree(wiped.data_dir)
        _with_rebuild(wiped)
        away.kill()
        for _ in range(2):
            logged = len(wiped.log_text())
            wiped.start()
            waits = f"every other member must answer once, or be removed member={wiped.name} missing={away.name}"
            wiped.wait_for("the missing member's name", functools.partial(_has_said, wiped, waits, logged), 20)
            wiped.kill()
        away.start()
        wiped.start()
        _served_everything(cluster, wiped, ["kept"])


def test_damaged_follower_is_repaired_and_what_it_had_is_kept(tmp_path: Path) -> None:
    """Bits flipped all over its log: refused without the flag; with it, the files are moved aside and not deleted."""
    with Cluster(tmp_path / "cluster") as cluster:
        member = cluster.followers()[0]
        keys = [f"k{number}" for number in range(100)]
        for key in keys:
            _write(cluster.leader(), key, "x" * 500)
        member.wait_for("equal members", lambda: _agree(cluster), 20)
        member.kill()
        file = member.data_dir / "log" / "data.mdb"
        content = bytearray(file.read_bytes())
        for place in range(16, len(content), 4096):
            content[place] ^= 1
        file.write_bytes(content)
        assert "start this member once with --rebuild" in _refused(member)
        _with_rebuild(member)
        member.start()
        _served_everything(cluster, member, keys)
        (aside,) = _aside(member)
        assert (aside / "log" / "data.mdb").read_bytes() == content
        assert member.terminate() == 0
        member.start()
        _served_everything(cluster, member, keys)
        assert _aside(member) == [aside], "the flag may stay on: a sound directory is used as it is"

        was_running = _put_back(member)
        assert (was_running.returncode, was_running.stdout) == (1, ""), "while the member runs nothing is moved"
        assert _aside(member) == [aside]
        assert member.terminate() == 0
        flags = {name: value for name, value in member.program.flags.items() if name != "rebuild"}
        member.program = dataclasses.replace(member.program, flags=flags)
        put_back = _put_back(member)
        assert (put_back.returncode, put_back.stderr) == (0, "")
        assert f"holds again what was in {aside.name}" in put_back.stdout
        assert (member.data_dir / "log" / "data.mdb").read_bytes() == content
        assert "start this member once with --rebuild" in _refused(member)
        assert _put_back(member).returncode == 0
        member.start()
        _served_everything(cluster, member, keys)


def test_damaged_member_keeps_what_it_has_until_the_others_are_sure_to_have_it(tmp_path: Path) -> None:
    """While one of the others is away it waits and says for whom, touching nothing, and ends in order if it is told to.

    The other may be damaged, too: if both had given up what they hold, nobody could go on.
    """
    with Cluster(tmp_path / "cluster") as cluster:
        member, away = cluster.followers()
        _write(cluster.leader(), "kept", "1")
        member.wait_for("equal members", lambda: _agree(cluster), 20)
        for stopped in (member, away):
            assert stopped.terminate() == 0
        identity = member.data_dir / "identity"
        identity.write_bytes(identity.read_bytes().replace(b'"complete"', b'"Complete"'))
        held = sorted(member.data_dir.rglob("*"))
        _with_rebuild(member)
        names = {each.name for each in cluster.members} - {member.name, away.name}
        for _ in range(2):
            logged = len(member.log_text())
            member.start()
            waits = f"before more of the others hold the data member={member.name} holding={names.copy().pop()} "
            member.wait_for("its line", functools.partial(_has_said, member, f"{waits}missing={away.name}", logged), 20)
            assert member.terminate() == 0
            assert sorted(member.data_dir.rglob("*")) == held
        member.start()
        away.start()
        _served_everything(cluster, member, ["kept"])
        assert len(_aside(member)) == 1


def test_old_copy_of_a_directory_is_replaced(tmp_path: Path) -> None:
    """The member finds out by itself that the others know more of it, and begins anew."""
    with Cluster(tmp_path / "cluster") as cluster:
        old = cluster.followers()[0]
        _write(old, "before", "1")
        assert old.terminate() == 0
        copy = tmp_path / "copy"
        shutil.copytree(old.data_dir, copy)
        old.start()
        old.wait_ready()
        keys = [f"after{number}" for number in range(20)]
        for key in keys:
            _write(old, key, "1")
        old.wait_for("equal members", lambda: _agree(cluster), 20)
        old.terminate()
        shutil.rmtree(old.data_dir)
        shutil.copytree(copy, old.data_dir)
        assert "is an old copy; start it once with --rebuild" in _refused(old)
        _with_rebuild(old)
        old.start()
        _served_everything(cluster, old, ["before", *keys])
        assert len(_aside(old)) == 1


def test_old_copy_of_a_leaders_directory_is_refused(tmp_path: Path) -> None:
    """Nobody acknowledged its own entries to anybody; what it told of itself is remembered by those that never led."""
    with Cluster(tmp_path / "cluster") as cluster:
        old, judge = cluster.followers()
        assert old.terminate() == 0
        copy = tmp_path / "copy"
        shutil.copytree(old.data_dir, copy)
        old.start()
        old.wait_ready()
        while (leader := cluster.leader()) is not old:  # one of the two others is elected
            leader.kill()
            leader.start()
            leader.wait_ready()
        led_at = int(old.http("PUT", "/v2/keys/leading", form={"value": "1"}).header("X-Raft-Index") or "")
        deadline_ms = clock.monotonic_ms() + 1500  # what is told every 0.1 s is durable 0.5 s later
        while clock.monotonic_ms() < deadline_ms:
            _write(old, "after", "1")
        for member in cluster.members:
            member.kill()
        shutil.rmtree(old.data_dir)
        shutil.copytree(copy, old.data_dir)
        judge.start()
        line = _refused(old)
        assert "is an old copy; start it once with --rebuild" in line
        acknowledged = re.search(r"it has acknowledged (\d+)", line)
        assert acknowledged is not None
        assert int(acknowledged[1]) >= led_at, "what it acknowledged as a follower proves nothing about a leader"


def test_only_member_has_nobody_to_rebuild_from(tmp_path: Path) -> None:
    """Its data stays where it is."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        member = cluster.members[0]
        _write(member, "a", "1")
        member.terminate()
        file = member.data_dir / "log" / "data.mdb"
        content = bytearray(file.read_bytes())
        content[16] ^= 1
        content[4096 + 16] ^= 1
        file.write_bytes(content)
        _with_rebuild(member)
        assert "--rebuild cannot help, as no other member has this data" in _refused(member)
        assert _aside(member) == []
