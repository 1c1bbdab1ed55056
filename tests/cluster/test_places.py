"""A member whose settings come from a file and whose parts are in several places: log disk, log file, metrics port."""

import dataclasses
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from kvraft.testing import leash, ports, raw_http
from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Member

pytestmark = [pytest.mark.slow, pytest.mark.landing]

_FILE = """
name: n1
data-dir: {directory}/data
wal-dir: {directory}/wal
listen-client-urls: https://127.0.0.1:{client}
advertise-client-urls: https://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: n1=http://127.0.0.1:{peer}
listen-metrics-urls: http://127.0.0.1:{plain},https://127.0.0.1:{secure}
host-whitelist: nobody.example
logger: zap
log-outputs: [{directory}/log]
client-transport-security:
  cert-file: {pair.cert_file}
  key-file: {pair.key_file}
"""


def test_everything_may_come_from_a_file(tmp_path: Path) -> None:
    """TLS, places and forms; over TLS a Host is nobody's business, and metrics are served by their own URLs."""
    reservation = ports.reserve(4)
    client, peer, plain, secure = reservation.ports
    authority = Authority(tmp_path / "ca")
    trust = ssl.create_default_context(cafile=authority.ca_file)
    file = tmp_path / "kvraft.yml"
    file.write_text(
        _FILE.format(
            directory=tmp_path, client=client, peer=peer, plain=plain, secure=secure, pair=authority.issue("server")
        )
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        command = [sys.executable, "-m", "kvraft", f"--config-file={file}", "--name=ignored"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as member:
            leash.hold(member.pid)
            try:
                assert manager.recv(100) == b"READY=1"
                url = f"https://127.0.0.1:{client}"
                assert raw_http.exchange(url, "PUT", "/v2/keys/a", form={"value": "1"}, tls=trust).status == 201
                for metrics in (f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"):
                    assert raw_http.exchange(metrics, "GET", "/health", tls=trust).body == b'{"health":"true"}'
                    assert raw_http.exchange(metrics, "GET", "/v2/keys/a", tls=trust).status == 404
            finally:
                member.terminate()
                _, stderr = member.communicate(timeout=30)
                leash.let_go(member.pid)
        assert (member.returncode, stderr) == (0, b"")
    reservation.release()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert "--name=ignored changes nothing" in lines[0]["detail"]
    assert lines[-1]["msg"] == "stopped"
    assert (tmp_path / "data" / "log").readlink().parent == tmp_path / "wal"


def _refused(member: Member) -> str:
    logged = len(member.log_text())
    member.start()
    assert member.wait_exit() == 1
    [line] = [line for line in member.log_text()[logged:].splitlines() if line.startswith("kvraft: ")]
    return line


def test_log_moves_to_a_disk_that_is_lost_and_rebuilt(tmp_path: Path) -> None:
    """A member of three: nothing is missing after the move, nor after the loss, for which it waits to be told."""
    wal = tmp_path / "wal"
    with Cluster(tmp_path / "cluster", size=3) as cluster:
        member = cluster.members[2]
        for n in range(50):
            assert cluster.members[0].http("PUT", f"/v2/keys/k{n}", form={"value": "x" * 1000}).status == 201
        member.terminate()
        member.cluster_flags["wal-dir"] = str(wal)
        member.start()
        member.wait_ready()
        member.wait_for_text("the log has moved")
        assert member.http("GET", "/v2/keys/k49").status == 200
        member.kill()
        shutil.rmtree(wal)
        assert f"kvraft: --wal-dir={wal}: the log that belongs to {member.data_dir} is {wal}/log-" in _refused(member)
        member.program = dataclasses.replace(member.program, flags={**member.program.flags, "rebuild": "true"})
        member.start()
        member.wait_ready()
        assert member.http("GET", "/v2/keys/k49").status == 200
        assert member.http("PUT", "/v2/keys/after", form={"value": "1"}).status == 201
        (log,) = wal.iterdir()
        assert (member.data_dir / "log").readlink() == log
