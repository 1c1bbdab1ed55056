"""The commands of docs/operations.md about TLS, run as they stand there, but for addresses and directories."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

import pytest

from kvraft.testing import leash, ports
from kvraft.testing.member import pause_or_exit

pytestmark = [pytest.mark.slow, pytest.mark.landing]

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
NAMES: Final = ("n1", "n2", "n3")
PORTS: Final = ("2378", "2379", "2380", "2381")
_PRELUDE: Final = """set -e
scp() { local to="${!#}"; cp "${@:1:$#-1}" "${to#*:}"; }
ssh() { shift; "$@"; }
etcdctl() { command etcdctl --timeout 20s --total-timeout 40s "$@"; }  # a loaded machine takes seconds for a password
"""


def blocks(heading: str) -> list[str]:
    """The commands below a heading of the page, each block with the line that says where."""
    section = PAGE.read_text().partition(f"### {heading}\n")[2]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, f"no commands below {heading!r}"
    return found


@final
class Site:
    """Three hosts and one more that has the CA, all of them directories here."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self._reserved: Final = ports.reserve(len(NAMES) * len(PORTS))
        self._members: dict[str, subprocess.Popen[bytes]] = {}
        self._exports = ""
        for name in (*NAMES, "ca"):
            (directory / name).mkdir(parents=True)

    def close(self) -> None:
        """Stop everything."""
        for process in self._members.values():
            leash.kill_group(process.pid)
            process.wait()
            leash.let_go(process.pid)
        self._reserved.release()

    def port(self, name: str, port: str) -> int:
        """What stands here for a port of a host."""
        return self._reserved.ports[NAMES.index(name) * len(PORTS) + PORTS.index(port)]

    def here(self, text: str, name: str = "") -> str:
        """The commands with what stands here for addresses and directories."""
        if name:
            text = text.replace("$NAME", name).replace("$HOST", f"10.0.0.{NAMES.index(name) + 1}")
            text = text.replace("/etc/kvraft", str(self.directory / name))
            text = text.replace("/var/lib/kvraft", str(self.directory / name / "data"))
        for number, other in enumerate(NAMES, 1):
            for port in PORTS:
                text = text.replace(f"10.0.0.{number}:{port}", f"127.0.0.1:{self.port(other, port)}")
        return re.sub(r"10\.0\.0\.[123]", "127.0.0.1", text)

    def run(self, block: str) -> str:
        """Run a block where it says, for each member if it says so; what it printed."""
        where, _, commands = block.partition("\n")
        each = NAMES if "each" in where else ("",)
        printed = ""
        started = []
        for name in each:
            text = self.here(commands, name)
            if text.startswith("kvraft "):
                if self._start(name, text):
                    self._wait(name)
                started.append(name)
                continue
            self._exports += "".join(f"{line}\n" for line in text.splitlines() if line.startswith("export "))
            done = subprocess.run(
                ["bash", "-c", _PRELUDE + self._exports + text],
                cwd=self.directory / "ca",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            printed += done.stdout
        for name in started:
            self._wait(name)
        return printed

    def _start(self, name: str, command: str) -> bool:
        """Whether it was a start anew of one that ran."""
        running = self._members.get(name)
        if running is not None:
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0
            leash.let_go(running.pid)
        words = shlex.split(command.replace("\\\n", " "))[1:]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
        with (self.directory / f"{name}.log").open("wb") as log:
            self._members[name] = subprocess.Popen(
                [sys.executable, "-m", "kvraft", *words], stderr=log, env=environment, start_new_session=True
            )
        leash.hold(self._members[name].pid)
        return running is not None

    def _wait(self, name: str) -> None:
        process, log = self._members[name], self.directory / f"{name}.log"
        while "serving clients" not in log.read_text():
            assert process.poll() is None, log.read_text()
            pause_or_exit(process.pid)


@contextlib.contextmanager
def site(directory: Path) -> Iterator[Site]:
    """Three hosts, cleared away behind."""
    made = Site(directory)
    try:
        yield made
    finally:
        made.close()


def test_three_members_with_tls_and_users_are_made_from_nothing_and_their_ca_is_rotated(tmp_path: Path) -> None:
    """Block by block; the answers are those that the page promises, and afterwards the old CA is worth nothing."""
    with site(tmp_path) as hosts:
        first = [hosts.run(block) for block in blocks("From zero to a three-member TLS cluster")]
        assert "cluster is healthy" in first[-2]
        assert '"value":"hello"' in first[-2]
        assert first[-1].endswith("hello\n")
        steps = blocks("Rotating a CA")
        for step in steps[:-1]:
            hosts.run(step)
        renew = (
            "openssl x509 -req -in client.csr -CA ca2.pem -CAkey ca2.key -CAcreateserial -days 9 -extfile client.ext"
        )
        hosts.run(f"# where the CA is\n{renew} -out client2.pem")
        hosts.run(steps[-1])
        url = "https://10.0.0.2:2379/v2/keys/greeting"
        new = f"curl -sS --cacert ca2.pem --cert client2.pem --key client.key {url}"
        assert '"value":"hello"' in hosts.run(f"# where the client is\n{new}")
        old = f"! curl -sS --cacert ca2.pem --cert client.pem --key client.key {url}"
        hosts.run(f"# where the client is\n{old}")


def test_running_cluster_is_moved_to_tls(tmp_path: Path) -> None:
    """From plain members, with the files of above; at the end nothing listens without TLS and all is there."""
    files = blocks("From zero to a three-member TLS cluster")[:3]
    plain = (
        "# on each host\nkvraft --name $NAME --data-dir /var/lib/kvraft/$NAME "
        "--initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 "
        "--listen-client-urls http://$HOST:2379 --advertise-client-urls http://$HOST:2379"
    )
    with site(tmp_path) as hosts:
        for block in (*files, plain):
            hosts.run(block)
        hosts.run("# where a client is\ncurl -sS -XPUT -dvalue=kept http://10.0.0.1:2379/v2/keys/k")
        for block in blocks("Moving a running cluster to TLS"):
            hosts.run(block)
        shown = "curl -sS --cacert ca.pem --cert client.pem --key client.key https://10.0.0.3:2378/v2"
        assert '"value":"kept"' in hosts.run(f"# where a client is\n{shown}/keys/k?quorum=true")
        members = hosts.run(f"# where a client is\n{shown}/members")
        assert "http://" not in members
        assert members.count("https://") == 6
        hosts.run("# where a client is\n! curl -sS http://10.0.0.1:2379/version")
