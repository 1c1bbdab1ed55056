"""`--insecure=false`, live: what is open ends the start in one line, and data is the member's alone."""

import ssl
import stat
from pathlib import Path

import pytest

from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.member import Member

pytestmark = [pytest.mark.slow, pytest.mark.landing]

OPEN_UMASK = ("sh", "-c", 'umask 0; exec "$@"', "sh")
"""A host whose administrator is careless."""


def _refused(member: Member) -> str:
    """The one line of a start that was refused."""
    before = member.log_text()
    member.start()
    assert member.wait_exit(30) == 1, member.log_text()
    [line] = member.log_text()[len(before) :].splitlines()
    return line


def test_strict_member_serves_nobody_in_the_open_and_keeps_its_files_to_itself(tmp_path: Path) -> None:
    """An open URL of each kind, a loose directory, and then everything as it should be, under a umask of 0."""
    ca = Authority(tmp_path / "ca")
    pair = ca.issue("server")
    flags = {"cert-file": pair.cert_file, "key-file": pair.key_file, "insecure": "false"}
    flags["audit-log"] = str(tmp_path / "audit.log")
    client = ssl.create_default_context(cafile=ca.ca_file)
    cluster = Cluster(
        tmp_path / "cluster", size=1, program=Program("kvraft", flags, wrapper=OPEN_UMASK, client_tls=client)
    )
    cluster.directory.mkdir()
    [member] = cluster.members
    usual = dict(member.cluster_flags)
    try:
        for flag in ("listen-client-urls", "listen-peer-urls", "listen-metrics-urls"):
            # Of documentation (RFC 5737): nobody's, and it is refused before anything is bound.
            member.cluster_flags = {**usual, flag: "http://192.0.2.1:9"}
            assert _refused(member) == (
                "kvraft: --insecure=false: http://192.0.2.1:9: "
                "reached over a network, and without TLS: use https or loopback"
            )
            assert not member.data_dir.exists()
        member.cluster_flags = usual
        member.data_dir.mkdir(mode=0o755)
        member.data_dir.chmod(0o755)
        assert "others may open it: chmod 700" in _refused(member)
        assert list(member.data_dir.iterdir()) == []
        member.data_dir.rmdir()
        cluster.start()
        assert member.http("PUT", "/v2/keys/k", form={"value": "v"}).status == 201
        kept = [member.data_dir, tmp_path / "audit.log", *member.data_dir.rglob("*")]
        open_to_others = {
            str(path.relative_to(tmp_path)): f"{stat.S_IMODE(path.stat().st_mode):o}"
            for path in kept
            if path.stat().st_mode & 0o077
        }
        assert open_to_others == {}
        member.restart()
    finally:
        cluster.stop()
