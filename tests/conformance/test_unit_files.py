"""Units, defaults files and manifests that start etcd elsewhere start kvraft: nothing but the program's name changes.

Each member has the network and /var for itself, so ports and paths are those of the files.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import pytest

from kvraft.testing import leash
from tests.conformance import unit_files
from tests.conformance.etcdctl import ETCDCTL_TIMEOUTS
from tests.conformance.unit_files import UNITS, Start

pytestmark = [pytest.mark.slow, pytest.mark.landing]

KVRAFT: Final = str(Path(sys.executable).with_name("kvraft"))
ADDRESSES: Final = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
_SPECIFIERS: Final = {"H": "host1", "m": "0123456789abcdef0123456789abcdef"}
_NETWORK: Final = "ip link set lo up\n" + "".join(f"ip addr add {address}/32 dev lo\n" for address in ADDRESSES)
_HOLD: Final = f"set -e\n{_NETWORK}echo up\nexec cat\n"
_BIND: Final = 'mount --bind "$1" /var && shift && cd /var/lib && exec "$@"'


@final
@dataclass(slots=True, frozen=True)
class Unit:
    """How somebody starts etcd."""

    files: tuple[str, ...]
    """The unit, its drop-ins; or a manifest."""
    url: str
    """Where its clients are."""
    wrong: tuple[str, str, str]
    """A text in it, another one in its place, and the line that names that."""
    environment_file: tuple[str, str] = ("", "")
    """Its path there, and the file here."""
    log: str = ""
    """Where its output goes, if it does not go to the service manager."""

    def start(self, *, number: int = 1, change: tuple[str, str] | None = None) -> Start:
        """What is started on the host of this number, with one text changed if so asked."""

        def text(name: str) -> str:
            found = (UNITS / name).read_text()
            if change is not None:
                found = found.replace(*change)
            return found.replace("$private_ipv4", ADDRESSES[number - 1]).replace("$number", str(number))

        if not self.files[0].endswith(".service"):
            return unit_files.of_manifest(text(self.files[0])).of(KVRAFT)
        path, file = self.environment_file
        files = {path: text(file)} if file else {}
        name = Path(self.files[0]).stem
        return unit_files.of_unit([text(name) for name in self.files], files, name, _SPECIFIERS).of(KVRAFT)


UNITS_OF: Final = {
    "debian": Unit(
        ("debian/etcd.service",),
        "http://127.0.0.1:2379",
        (
            'ETCD_HEARTBEAT_INTERVAL="100"',
            'ETCD_HEARTBEAT_INTERVAL="1000"',
            "ETCD_ELECTION_TIMEOUT=1000: --election-timeout[1000ms] should be at least as 5 times as",
        ),
        ("/etc/default/etcd", "debian/default"),
    ),
    "centos7": Unit(
        ("centos7/etcd.service",),
        "http://127.0.0.1:2379",
        (
            'ETCD_INITIAL_CLUSTER="default=',
            'ETCD_INITIAL_CLUSTER="infra0=',
            '--name=default: couldn\'t find local name "default" in the initial cluster configuration: use one of',
        ),
        ("/etc/etcd/etcd.conf", "centos7/etcd.conf"),
    ),
    "coreos": Unit(
        ("coreos/etcd2.service", "coreos/20-cloudinit.conf"),
        "http://10.0.0.1:4001",
        (
            "ETCD_LISTEN_PEER_URLS=http://$private_ipv4:2380",
            "ETCD_LISTEN_PEER_URLS=http//$private_ipv4:2380",
            "ETCD_LISTEN_PEER_URLS=http//10.0.0.1:2380,http://10.0.0.1:7001: URL scheme must be http",
        ),
    ),
    "coreos-0.4": Unit(
        ("coreos-0.4/etcd.service", "coreos-0.4/20-cloudinit.conf"),
        "http://10.0.0.1:4001",
        (
            "ETCD_ADDR=$private_ipv4:4001",
            "ETCD_ADDR=$private_ipv4",
            "ETCD_ADDR=10.0.0.1: it has no port: write address:port",
        ),
    ),
    "kube-up": Unit(
        ("kube-up/etcd.manifest",),
        "http://127.0.0.1:2379",
        (
            "--initial-cluster-state new",
            "--initial-cluster-state old",
            "--initial-cluster-state=old: invalid value: use new or existing",
        ),
        log="etcd.log",
    ),
    "kube-up-events": Unit(
        ("kube-up/etcd-events.manifest",),
        "http://127.0.0.1:4002",
        (
            "--listen-client-urls",
            "--listen-client-uri",
            "--listen-client-uri: flag provided but not defined: did you mean",
        ),
        log="etcd-events.log",
    ),
    "kubeadm": Unit(
        ("kubeadm/etcd.yaml",),
        "http://127.0.0.1:2379",
        (
            "    - --advertise-client-urls=http://127.0.0.1:2379\n",
            "",
            "--listen-client-urls=http://127.0.0.1:2379: --advertise-client-urls is required",
        ),
    ),
    "hyperkube-docker": Unit(
        ("hyperkube-docker/etcd.yaml",),
        "http://127.0.0.1:4001",
        (
            "--bind-addr=0.0.0.0:4001",
            "--bind-addr=localhost:4001",
            "--bind-addr=localhost:4001: bad IP in address specification",
        ),
    ),
}


@final
class Host:
    """A network with addresses of its own, in which programs are started, each with a /var of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"

    def close(self) -> None:
        """Let the network go."""
        self._holder.communicate(timeout=30)

    def var(self, number: int) -> Path:
        """The /var of a program."""
        path = self._directory / f"var-{number}"
        for place in ("lib/etcd", "etcd", "log"):
            (path / place).mkdir(parents=True, exist_ok=True)
        return path

    def command(self, start: Start, number: int) -> list[str]:
        """The words that run a program inside."""
        bind = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _BIND, "sh", str(self.var(number))]
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--", *bind, *start.words]

    def etcdctl(self, url: str, *words: str) -> str:
        """What etcdctl says inside; it must succeed."""
        inside = ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--")
        command = [*inside, "etcdctl", f"--endpoints={url}", *ETCDCTL_TIMEOUTS, *words]
        environment = {**os.environ, "ETCDCTL_API": "2"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @contextlib.contextmanager
    def running(self, start: Start, number: int) -> Iterator["Notified"]:
        """A program that runs as a service, and is stopped in the end, in order."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            path = self._directory / f"notify-{number}"
            manager.bind(str(path))
            manager.settimeout(30)
            environment = {**start.variables, "NOTIFY_SOCKET": str(path)}
            with subprocess.Popen(self.command(start, number), env=environment, start_new_session=True) as program:
                leash.hold(program.pid)
                try:
                    yield Notified(manager)
                    # A shell that the unit has put around it would end without its child.
                    os.killpg(program.pid, signal.SIGTERM)
                    program.wait(timeout=30)
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(program.pid, signal.SIGKILL)
                    leash.let_go(program.pid)


@final
@dataclass(slots=True, frozen=True)
class Notified:
    """What a service manager hears."""

    socket: socket.socket

    def wait_until_ready(self) -> None:
        """Until clients are served."""
        assert self.socket.recv(100) == b"READY=1"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host for this test alone."""
    made = Host(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(UNITS_OF.keys() - {"coreos"}))
def test_unit_starts_a_member_that_etcdctl_works_with(name: str, host: Host) -> None:
    """In nothing but the variables that its unit gives it."""
    unit = UNITS_OF[name]
    with host.running(unit.start(), 1) as service:
        service.wait_until_ready()
        assert host.etcdctl(unit.url, "set", "/message", "hello") == "hello\n"
        assert host.etcdctl(unit.url, "get", "/message") == "hello\n"
        assert host.etcdctl(unit.url, "cluster-health").endswith("cluster is healthy\n")
        assert host.etcdctl(unit.url, "member", "list").count("isLeader=true") == 1


def test_cloud_config_starts_a_cluster(host: Host) -> None:
    """Three machines of CoreOS with one cloud-config."""
    unit = UNITS_OF["coreos"]
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(host.running(unit.start(number=n), n)) for n in (1, 2, 3)]
        for service in services:
            service.wait_until_ready()
        assert host.etcdctl(unit.url, "set", "/message", "hello") == "hello\n"
        assert host.etcdctl("http://10.0.0.3:4001", "get", "--quorum", "/message") == "hello\n"
        health = host.etcdctl(unit.url, "cluster-health")
        assert health.count(" is healthy: got healthy result") == 3


@pytest.mark.parametrize("name", sorted(UNITS_OF))
def test_wrong_setting_is_one_line_that_names_it(name: str, host: Host) -> None:
    """By the name that stands in the unit; nothing is touched."""
    unit = UNITS_OF[name]
    before, after, line = unit.wrong
    start = unit.start(change=(before, after))
    assert start != unit.start()
    ended = subprocess.run(
        host.command(start, 1), env=dict(start.variables), capture_output=True, text=True, check=False, timeout=30
    )
    log = host.var(1) / "log" / unit.log
    said = log.read_text() if unit.log else ended.stderr
    assert ended.returncode == 1
    assert said.startswith(f"kvraft: {line}"), said
    assert said.count("\n") == 1
    assert not [path for path in host.var(1).rglob("*") if path.name not in {"lib", "etcd", "log", unit.log}]
