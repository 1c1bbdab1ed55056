"""Odd unit files: what etcd starts with, kvraft starts with, and both show the same members."""

import subprocess
from pathlib import Path

import pytest

from kvraft.testing import ports
from kvraft.testing.cluster import Cluster, Kind, Member, Program


def _members(member: Member) -> str:
    """`/v2/members` once a client URL is published, without the ports that differ."""
    name = member.cluster_flags.get("name", member.name)

    def published() -> str:
        text = member.http("GET", "/v2/members").body.decode()
        return text if f'"name":"{name}"' in text and '"clientURLs":["' in text else ""

    text = member.wait_for("published member", published, 10)
    text = text.replace(str(member.client_port), "C").replace(str(member.peer_port), "P")
    return text.partition('"name"')[2]


def _odd_start(directory: Path, kind: Kind) -> list[str]:
    """A member with everything odd at once, and once more under a new name; the members that each start shows."""
    cluster = Cluster(directory / kind, size=1, kind=kind)
    [member] = cluster.members
    member.data_dir.mkdir(parents=True, mode=0o700)
    (member.data_dir / ".keep").touch()
    (member.data_dir / "README").write_text("keep out")
    member.cluster_flags |= {
        "initial-cluster": f",{member.name}= HTTP://127.0.0.1:{member.peer_port},,",
        "listen-client-urls": f"{member.client_url},{member.client_url}",
        "advertise-client-urls": f" {member.client_url} , HTTP://127.0.0.1:{member.client_port}",
        "data-dir": f"{member.data_dir}/../{member.data_dir.name}/",
        "snapshot-count": "0",
        "heartbeat-interval": "0x64",
        "election-timeout": "1_000",
    }
    try:
        member.start()
        member.wait_ready()
        first = _members(member)
        assert member.terminate() in {0, -15}
        member.cluster_flags["name"] = "renamed"
        member.start()
        member.wait_ready()
        assert (member.data_dir / "README").read_text() == "keep out"
        return [first, _members(member)]
    finally:
        cluster.stop()


@pytest.mark.slow
def test_unit_file_that_starts_etcd_starts_kvraft(tmp_path: Path) -> None:
    """Commas too many, a URL twice, a scheme in capitals, foreign files, numbers of Go's, and a new name later."""
    asked, told = _odd_start(tmp_path, "etcd"), _odd_start(tmp_path, "kvraft")
    assert told == asked
    assert '"renamed"' in asked[1]


REFUSED = [
    (
        {"listen-client-urls": "http://0.0.0.0:{c},http://127.0.0.1:{c}"},
        "http://0.0.0.0:{c} and http://127.0.0.1:{c} cannot both be listened on, as one includes the other",
    ),
    ({"listen-client-urls": "http://127.0.0.1:{c},"}, "a URL is missing before or after a comma"),
    ({"data-dir": "{d}/dangling"}, "{d}/dangling is a link to {d}/nowhere, which is not there"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "reason"), REFUSED)
def test_start_that_etcd_refuses_is_refused_with_the_reason(flags: dict[str, str], reason: str, tmp_path: Path) -> None:
    """In one line, which is true."""
    reservation = ports.reserve(2)
    client, peer = reservation.ports
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    def filled(text: str) -> str:
        return text.format(c=client, d=tmp_path)

    url, peer_url = (f"http://127.0.0.1:{port}" for port in (client, peer))
    given = {
        "data-dir": str(tmp_path / "d"),
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"default={peer_url}",
        **{name: filled(text) for name, text in flags.items()},
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    etcd, kvraft = (
        subprocess.run([*program.command(), *words], capture_output=True, text=True, check=False, timeout=30)
        for program in (Program("etcd"), Program("kvraft"))
    )
    reservation.release()
    assert etcd.returncode != 0
    assert kvraft.returncode == 1
    assert kvraft.stderr.count("\n") == 1
    assert filled(reason) in kvraft.stderr
