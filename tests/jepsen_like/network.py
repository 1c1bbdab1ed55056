"""A network of its own for every run: each member in a network namespace, all on one bridge, and faults between them.

    run-...-net   the bridge, with the clients' address on it; this process moves in while the network is open
    run-...-n1    10.83.0.1 on eth0, the other end of a cable (veth) to the bridge
    run-...-n2    10.83.0.2 ...

Every address 10.83.*.1 is n1's, whether it has it now (`have_address`) or not, and so on; rules see them all alike.

The namespaces are this run's, so several runs may use the same addresses at once. Nothing is made outside them, and
with the namespaces all that is in them goes. What a killed run has left behind, the next one removes.
There is no fallback to loopback: without namespaces these tests fail.
"""

import contextlib
import ctypes
import dataclasses
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
CLIENTS: Final = "10.83.0.254"
"""Where the clients are, and with them whatever else a test listens with."""
SILENT: Final = "10.83.0.253"
"""Takes every packet and answers none: a machine behind a firewall, a name server that is no more."""
_NET_NAMESPACES: Final = Path("/run/netns")
_PREFIX: Final = "kvraft"
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_COMMAND_TIMEOUT_S: Final = 30.0


class NetworkError(Exception):
    """What a run needs of the system cannot be made or changed here."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Rule:
    """One rule about packets that reach a member."""

    member: str
    words: tuple[str, ...]
    """As `iptables -A INPUT` takes them."""


@final
class Network:
    """Namespaces for named members. As a context manager: the caller is among the clients inside, all is gone after."""

    def __init__(self, members: Sequence[str]) -> None:
        self.members: Final = tuple(members)
        self.addresses: Final = {name: self.address(name, 0) for name in members}
        """Those that they have all the time."""
        self._name = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(2)}"
        self._outside: int | None = None

    def __enter__(self) -> Self:
        remove_leftovers()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._remove)
            self._make()
            self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            enter(self.namespace("net"))
            on_error.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._outside is not None
        enter(Path(f"/proc/self/fd/{self._outside}"))
        os.close(self._outside)
        self._remove()

    def wrapper(self, member: str) -> tuple[str, ...]:
        """The words that start a command in a member's namespace."""
        return ("nsenter", f"--net={self.namespace(member)}", "--")

    @contextlib.contextmanager
    def rules(self, rules: Sequence[Rule]) -> Iterator[None]:
        """Have these rules for a while."""
        with contextlib.ExitStack() as undo:
            for rule in rules:
                self._iptables(rule.member, "-A", "INPUT", *rule.words)
                undo.callback(self._iptables, rule.member, "-D", "INPUT", *rule.words)
            yield

    @contextlib.contextmanager
    def slow_link(self, member: str, kbit_per_s: int) -> Iterator[None]:
        """Let so little through on a member's cable, each way; what waits longer than 400 ms is lost."""
        places = ((self._namespace(member), "eth0"), (self._namespace("net"), f"to-{member}"))
        shape = ("tbf", "rate", f"{kbit_per_s}kbit", "burst", "4kb", "latency", "400ms")
        with contextlib.ExitStack() as undo:
            for namespace, device in places:
                run_command("ip", "netns", "exec", namespace, "tc", "qdisc", "add", "dev", device, "root", *shape)
                undo.callback(
                    run_command, "ip", "netns", "exec", namespace, "tc", "qdisc", "del", "dev", device, "root"
                )
            yield

    def drop(self, source: str, destination: str) -> Rule:
        """Packets from one member to another are lost; those that go the other way are not."""
        return Rule(destination, ("-s", self._any_of(source), "-j", "DROP"))

    def lose(self, source: str, destination: str, probability: float) -> Rule:
        """A part of the packets from one member to another is lost."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{probability:.3f}")
        return Rule(destination, ("-s", self._any_of(source), *chance, "-j", "DROP"))

    def reset(self, source: str, destination: str) -> Rule:
        """Whatever one member sends to another is answered with a reset, as after a restart of a firewall."""
        return Rule(
            destination, ("-p", "tcp", "-s", self._any_of(source), "-j", "REJECT", "--reject-with", "tcp-reset")
        )

    def refuse(self, member: str, address: str, port: int) -> Rule:
        """Nobody gets to one port of a member by this one of its addresses; connections over it end."""
        return Rule(
            member, ("-p", "tcp", "-d", address, "--dport", str(port), "-j", "REJECT", "--reject-with", "tcp-reset")
        )

    def no_dial(self, source: str, destination: str) -> Rule:
        """One member cannot open connections to another; those that stand, and those of the other side, serve both."""
        return Rule(destination, ("-p", "tcp", "--syn", "-s", self._any_of(source), "-j", "DROP"))

    def forget(self, source: str, destination: str, packets: int) -> Rule:
        """Connections die silently after so many packets, as where a NAT drops its mappings."""
        counted = ("-m", "connbytes", "--connbytes", f"{packets}:", "--connbytes-mode", "packets")
        return Rule(
            destination, ("-p", "tcp", "-s", self._any_of(source), *counted, "--connbytes-dir", "both", "-j", "DROP")
        )

    def address(self, member: str, net: int) -> str:
        """One of the addresses that are this member's to have."""
        return f"10.83.{net}.{self.members.index(member) + 1}"

    def have_address(self, member: str, net: int) -> None:
        """Give a member one more of its addresses."""
        run_command(*self.wrapper(member), "ip", "address", "add", f"{self.address(member, net)}/16", "dev", "eth0")

    def give_up_address(self, member: str, net: int) -> None:
        """Packets to it get lost from now on; connections over it stand until somebody notices."""
        run_command(*self.wrapper(member), "ip", "address", "del", f"{self.address(member, net)}/16", "dev", "eth0")

    def _any_of(self, member: str) -> str:
        """All addresses of a member: a mask that does not look at the third byte."""
        return f"{self.addresses[member]}/255.255.0.255"

    def namespace(self, what: str) -> Path:
        """The file that is the network namespace of a member."""
        return _NET_NAMESPACES / self._namespace(what)

    def _namespace(self, what: str) -> str:
        return f"{self._name}-{what}"

    def _iptables(self, member: str, *words: str) -> None:
        run_command(*self.wrapper(member), "iptables", "-w", *words)

    def _make(self) -> None:
        if os.geteuid() != 0:
            raise NetworkError("network namespaces need root: run these tests as root (containers in CI are)")
        for tool in ("iptables", "tc"):
            if shutil.which(tool) is None:  # found out now and not in the middle of a run
                raise NetworkError(f"{tool} is not installed: run `make deps`")
        bridge = self._namespace("net")
        run_command("ip", "netns", "add", bridge)
        run_command("ip", "-n", bridge, "link", "set", "lo", "up")
        run_command("ip", "-n", bridge, "link", "add", "bridge", "type", "bridge")
        run_command("ip", "-n", bridge, "address", "add", f"{CLIENTS}/16", "dev", "bridge")
        run_command("ip", "-n", bridge, "address", "add", f"{SILENT}/16", "dev", "bridge")
        run_command("ip", "-n", bridge, "link", "set", "bridge", "up")
        run_command("ip", "netns", "exec", bridge, "iptables", "-w", "-A", "INPUT", "-d", SILENT, "-j", "DROP")
        for name, address in self.addresses.items():
            inside = self._namespace(name)
            run_command("ip", "netns", "add", inside)
            run_command("ip", "-n", inside, "link", "set", "lo", "up")
            cable = ("type", "veth", "peer", "name", "eth0", "netns", inside)
            run_command("ip", "-n", bridge, "link", "add", f"to-{name}", *cable)
            run_command("ip", "-n", bridge, "link", "set", f"to-{name}", "master", "bridge", "up")
            run_command("ip", "-n", inside, "address", "add", f"{address}/16", "dev", "eth0")
            run_command("ip", "-n", inside, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        remove_namespaces(f"{self._name}-")


def remove_leftovers() -> None:
    """Remove the namespaces of runs whose process is gone."""
    for path in _NET_NAMESPACES.glob(f"{_PREFIX}-*-*-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            remove_namespaces(path.name)


def remove_namespaces(prefix: str) -> None:
    """Remove every namespace whose name begins so. The cables go first: a dying process may hold its namespace."""
    names = sorted(path.name for path in _NET_NAMESPACES.glob(f"{prefix}*"))
    for name in names:
        cable = "bridge" if name.endswith("-net") else "eth0"
        with contextlib.suppress(NetworkError):  # gone already
            run_command("ip", "-n", name, "link", "del", cable)
    for name in names:
        run_command("ip", "netns", "del", name)


def enter(namespace: Path) -> None:
    """Move the calling thread; threads and processes that it starts from now on come along."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(descriptor, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise NetworkError(f"setns to {namespace}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def run_command(*command: str) -> None:
    """Run a program of the system to its end.

    Raises:
        NetworkError: it is not installed, or it failed; with what it said.
    """
    if shutil.which(command[0]) is None:
        raise NetworkError(f"{command[0]} is not installed: run `make deps`")
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise NetworkError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
