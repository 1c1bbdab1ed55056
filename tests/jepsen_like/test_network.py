import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jepsen_like.delays import far_apart
from tests.jepsen_like.names import Names, name_of
from tests.jepsen_like.network import Network, NetworkError, remove_leftovers

pytestmark = pytest.mark.slow


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(["n1", "n2"]) as opened:
        yield opened


def reaches(network: Network, source: str, destination: str) -> bool:
    """Whether a datagram from one member arrives at the other."""
    listen = "import socket;s=socket.socket(2,2);s.bind(('0.0.0.0',9));print('on',flush=True);s.recv(9)"
    send = (
        f"import socket;s=socket.socket(2,2);[s.sendto(b'x',('{network.addresses[destination]}',9)) for _ in range(3)]"
    )
    with subprocess.Popen(
        [*network.wrapper(destination), "python3", "-c", listen], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"on\n"
        subprocess.run([*network.wrapper(source), "python3", "-c", send], check=True)
        try:
            return listener.wait(2) == 0
        except subprocess.TimeoutExpired:
            listener.kill()
            return False


def test_cut_of_one_direction_leaves_the_other(network: Network) -> None:
    """And after it both are whole again, also when the fault ends by an exception."""
    assert reaches(network, "n1", "n2")
    with contextlib.suppress(ZeroDivisionError), network.rules([network.drop("n1", "n2")]):
        assert not reaches(network, "n1", "n2")
        assert reaches(network, "n2", "n1")
        raise ZeroDivisionError
    assert reaches(network, "n1", "n2")


def connects(network: Network, source: str, destination: str, within_s: float = 0.5) -> float | None:
    """How long a member takes to open a connection to another, on whose port 7 somebody listens; None: too long."""
    connect = (
        "import socket,time;b=time.monotonic();"
        f"socket.create_connection(('{network.addresses[destination]}',7),{within_s});print(time.monotonic()-b)"
    )
    listen = "import socket;s=socket.create_server(('',7));print('on',flush=True);s.accept()"
    with subprocess.Popen([*network.wrapper(destination), "python3", "-c", listen], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"on\n"
        done = subprocess.run(
            [*network.wrapper(source), "python3", "-c", connect], capture_output=True, text=True, check=False
        )
        listener.kill()
    return float(done.stdout) if done.returncode == 0 else None


def test_link_may_be_dialled_from_one_side_only(network: Network) -> None:
    """What the one opens carries both ways; the other opens nothing."""
    with network.rules([network.no_dial("n1", "n2")]):
        assert connects(network, "n1", "n2") is None
        assert connects(network, "n2", "n1") is not None


def test_members_far_apart_wait_a_round_trip_for_a_connection(network: Network) -> None:
    """And are near again afterwards."""
    with far_apart(network, 0.1):
        assert 0.2 <= (connects(network, "n1", "n2", 3.0) or 0) < 1.0
    assert (connects(network, "n1", "n2", 3.0) or 1) < 0.2


def resolve(network: Network, names: Names, member: str, name: str) -> subprocess.Popen[str]:
    """A process of a member that prints the addresses of a name, as the system tells them."""
    ask = f"import socket;print(*[a[4][0] for a in socket.getaddrinfo('{name}',1,type=socket.SOCK_STREAM)])"
    command = [*network.wrapper(member), *names.files.wrapper(member), "python3", "-c", ask]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def addresses(asking: subprocess.Popen[str]) -> list[str]:
    """What was found."""
    return asking.communicate(timeout=10)[0].split()


def test_each_member_has_its_own_names(network: Network, tmp_path: Path) -> None:
    """Of its hosts file, or of the name server, which follows a move when it is told, and may be silent."""
    hosts_before = Path("/etc/hosts").read_bytes()
    with Names(tmp_path, network) as names:
        one = name_of("n1")
        assert addresses(resolve(network, names, "n2", one)) == ["10.83.1.1"]
        names.move("n1")
        assert addresses(resolve(network, names, "n2", one)) == ["10.83.1.1"]
        names.server.zone = names.zone()
        assert addresses(resolve(network, names, "n2", one)) == ["10.83.2.1"]
        assert addresses(resolve(network, names, "n2", "nobody.test")) == []
        names.server.answers_after_s = None
        with resolve(network, names, "n2", one) as waiting:
            names.files.set_hosts("n1", {one: ["10.83.0.9", "10.83.0.8"]})
            assert set(addresses(resolve(network, names, "n1", one))) == {"10.83.0.9", "10.83.0.8"}
            assert waiting.poll() is None, "the silent name server was not asked"
            waiting.kill()
    assert Path("/etc/hosts").read_bytes() == hosts_before


def test_clients_are_inside_and_reach_members(network: Network) -> None:
    """A refused connection is the answer of a member on which nobody listens, not of a network without a way."""

    async def connect() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(network.addresses["n2"], 2379)

    asyncio.run(connect())


def test_slow_link_is_undone(network: Network) -> None:
    """The queue is there during the fault and not after."""
    show = [*network.wrapper("n1"), "tc", "qdisc", "show", "dev", "eth0"]
    with network.slow_link("n1", 256):
        assert "rate 256Kbit" in subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert "tbf" not in subprocess.run(show, capture_output=True, text=True, check=True).stdout


def test_namespaces_are_gone_after_an_exception() -> None:
    """No namespace and no cable is left, and the caller is back outside."""
    outside = Path("/proc/thread-self/ns/net").readlink()
    names: list[str] = []
    with contextlib.suppress(ZeroDivisionError), Network(["n1"]) as network:
        names.append(Path(network.wrapper("n1")[1].partition("=")[2]).name)
        assert Path("/proc/thread-self/ns/net").readlink() != outside
        raise ZeroDivisionError
    assert Path("/proc/thread-self/ns/net").readlink() == outside
    assert names
    assert not any((Path("/run/netns") / name).exists() for name in names)


def test_namespaces_of_a_killed_run_are_removed() -> None:
    """The next run finds them by the process id in their name."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    name = f"kvraft-{gone.pid}-abcd-n1"
    subprocess.run(["ip", "netns", "add", name], check=True)
    remove_leftovers()
    assert not (Path("/run/netns") / name).exists()


def test_missing_tool_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no fallback to loopback."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NetworkError, match=r"ip(tables)? is not installed: run `make deps`"), Network(["n1"]):
        pass
