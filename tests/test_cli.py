import contextlib
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from kvraft import cli
from kvraft.testing import ports, raw_http


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The `kvraft` command in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kvraft", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("kind", ["client", "peer"])
def test_taken_port_is_one_line_with_its_holder_and_no_file(kind: str, tmp_path: pathlib.Path) -> None:
    """The start ends before the data directory exists, and says whom to look at."""
    reservation = ports.reserve(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in reservation.ports)
    taken = reservation.ports[0 if kind == "client" else 1]
    with contextlib.closing(socket.create_server((ports.LOOPBACK, taken))):
        ended = run(
            f"--data-dir={tmp_path}/d",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
        )
    reservation.release()
    assert ended.returncode == 1
    assert ended.stdout == ""
    line = f"kvraft: --listen-{kind}-urls=http://127.0.0.1:{taken}: cannot listen: the port is held by pid "
    assert ended.stderr.startswith(line), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_setting_ends_with_one_line_and_code_1(tmp_path: pathlib.Path) -> None:
    """Flag, value, remedy; no traceback, no file."""
    ended = run(f"--data-dir={tmp_path}/d", "--election-timeout=400")
    assert ended.returncode == 1
    assert ended.stderr == (
        "kvraft: --election-timeout=400: --election-timeout[400ms] should be at least as 5 times as "
        "--heartbeat-interval[100ms]: set it to 500 or more\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_address_that_this_host_lacks_is_one_line(tmp_path: pathlib.Path) -> None:
    """Nobody holds the port, so nothing can be freed: 192.0.2.0/24 is nobody's (RFC 5737)."""
    url = "http://192.0.2.1:2379"
    ended = run(f"--data-dir={tmp_path}/d", f"--listen-client-urls={url}", f"--advertise-client-urls={url}")
    assert ended.returncode == 1
    assert ended.stderr == (
        f"kvraft: --listen-client-urls={url}: cannot listen: this host does not have that address: choose one it has\n"
    )


@pytest.mark.slow
def test_service_manager_is_told_when_clients_are_served_and_when_that_ends(tmp_path: pathlib.Path) -> None:
    """As etcd tells it under `Type=notify`: not before a request is answered."""
    reservation = ports.reserve(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in reservation.ports)
    urls = (f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}")
    cluster = (f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        command = [sys.executable, "-m", "kvraft", f"--data-dir={tmp_path}/d", *urls, *cluster]
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as member:
            try:
                assert manager.recv(100) == b"READY=1"
                assert raw_http.exchange(client, "GET", "/health").status == 200
                assert raw_http.exchange(client, "GET", "/v2/machines").body == client.encode()
                assert raw_http.exchange(client, "GET", "/version").json()["etcdcluster"] == "3.4.0"
                assert raw_http.exchange(client, "GET", "/v2/keys/").etcd_index == 3
                member.terminate()
                assert manager.recv(100) == b"STOPPING=1"
            finally:
                member.terminate()
                member.communicate(timeout=30)
        assert member.returncode == 0
    reservation.release()


def _on_free_ports(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A start that gets as far as its data directory."""
    reservation = ports.reserve(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in reservation.ports)
    urls = (f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}")
    ended = run(*urls, *arguments)
    reservation.release()
    return ended


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/kvraft"])
def test_unusable_data_directory_is_one_line_with_a_remedy(place: str, tmp_path: pathlib.Path) -> None:
    """A file, a place below a file, a file system that takes none."""
    (tmp_path / "file").write_text("not a directory")
    path = tmp_path / place
    ended = _on_free_ports(f"--data-dir={path}")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"kvraft: --data-dir={path}: "), ended.stderr
    assert "give a directory that this user can write" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "not a directory"


def test_data_directory_of_another_user_is_told_with_its_owner(tmp_path: pathlib.Path) -> None:
    """A unit file with `User=` and a directory that root made: where, whose, and who asks; the path is whole."""
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    reservation = ports.reserve(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in reservation.ports)
    urls = (f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}")
    # Root without its powers is a user like any other.
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    ended = subprocess.run(
        [*plain, sys.executable, "-m", "kvraft", "--data-dir=theirs/d", *urls],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    reservation.release()
    assert (ended.returncode, ended.stderr) == (
        1,
        f"kvraft: --data-dir={tmp_path}/theirs/d: Permission denied: {tmp_path}/theirs belongs to user nobody with "
        "mode 0700, and this is user root: give a directory that this user can write, on a disk with room\n",
    )


def test_empty_member_does_not_found_a_cluster_when_told_that_one_exists(tmp_path: pathlib.Path) -> None:
    """An operator says `existing` so that a replaced member cannot bootstrap."""
    ended = _on_free_ports(f"--data-dir={tmp_path}/d", "--initial-cluster-state=existing")
    assert ended.returncode == 1
    assert ended.stderr.startswith("kvraft: --initial-cluster-state=existing: "), ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_empty_member_that_shall_rebuild_does_not_found_a_cluster_of_its_own(tmp_path: pathlib.Path) -> None:
    """With its data the names of the others are lost, too: a unit file of --name and --data-dir is not enough then."""
    ended = _on_free_ports("--name=n1", f"--data-dir={tmp_path}/d", "--rebuild")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"kvraft: --rebuild: {tmp_path}/d holds no member's data, and --initial-cluster"), (
        ended.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--force-new-cluster", "--rebuild"])
def test_what_an_empty_directory_cannot_do_is_refused_before_a_log_is_opened(flag: str, tmp_path: pathlib.Path) -> None:
    """One line on stderr; neither of the logs is made."""
    ended = run(flag, f"--data-dir={tmp_path}/d", f"--log-outputs={tmp_path}/log", f"--audit-log={tmp_path}/audit")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"kvraft: {flag}: {tmp_path}/d holds no member's data")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_version_and_help_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Both end with 0 and touch nothing."""
    assert cli.main(["--version"], {}) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "etcd Version",
        "kvraft Version",
        "kvraft Form",
        "Python Version",
        "OS/Arch",
    ]
    etcd = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True)
    assert lines[0] == etcd.stdout.splitlines()[0]
    assert cli.main(["-h"], {}) == 0
    assert "--initial-cluster" in capfd.readouterr().out
