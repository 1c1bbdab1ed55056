"""Clusters of real processes on loopback: kvraft, or Debian's etcd as the oracle beside it.

with Cluster(directory, kind="etcd") as cluster:
cluster.leader().kill()
cluster.leader()
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar, final

from kvraft import clock
from kvraft.testing import ports
from kvraft.testing.member import READY_WITHIN_S, ClusterError, Kind, Member, Program, pause_or_exit

__all__ = ["MEMORY_DISKS", "READY_WITHIN_S", "Cluster", "ClusterError", "Kind", "Member", "Program"]

CLUSTER_TOKEN: Final = "kvraft-testing"  # noqa: S105 -- no secret: it goes into the ids
MEMORY_DISKS: Final = frozenset({"tmpfs", "ramfs"})
"""File systems that keep nothing over a power loss."""

T = TypeVar("T")


@final
class Cluster:
    """Members n1, n2, ... that know each other. As a context manager: started on entry, all killed on exit."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        size: int = 3,
        program: Program | None = None,
        kind: Kind = "kvraft",
        flags: Mapping[str, str] | None = None,
        client_ports: Sequence[int] = (),
        peer_ports: Sequence[int] = (),
        hosts: Sequence[str] = (),
        durable: bool = True,
    ) -> None:
        """Lay out a cluster without starting it.

        Args:
            directory: for data and logs; made if needed, kept afterwards.
            size: number of members.
            program: how members are started; `kind` and `flags` are its usual two fields.
            kind: kvraft or the real etcd.
            flags: see `Program.flags`.
            client_ports: fixed ports, one a member; otherwise free ones are reserved.
            peer_ports: as `client_ports`.
            hosts: an address a member, each of which only its member has (network namespaces); otherwise loopback.
            durable: refuse a directory whose disk is memory: what it keeps says nothing about durability.

        Raises:
            ClusterError: the directory is on a tmpfs although `durable`.
        """
        if durable:
            refuse_memory_disk(directory)
        self.directory: Final = directory
        self.program: Final = program or Program(kind=kind, flags=flags or {})
        self._reserved: list[ports.Reservation] = []
        if not client_ports or not peer_ports:
            self._reserved.append(ports.reserve(2 * size))
            taken = self._reserved[0].ports
            client_ports, peer_ports = taken[:size], taken[size:]
        places = zip(client_ports, peer_ports, hosts or [ports.LOOPBACK] * size, strict=True)
        self.members = tuple(
            Member(f"n{number}", self.program, directory, client_port, peer_port, host)
            for number, (client_port, peer_port, host) in enumerate(places, 1)
        )
        """Those that are to run: a cluster that changes its members is told here who they are."""
        founding = self.initial_cluster()
        for member in self.members:
            member.cluster_flags = {
                "initial-cluster": founding,
                "initial-cluster-state": "new",
                "initial-cluster-token": CLUSTER_TOKEN,
            }

    @property
    def kind(self) -> Kind:
        """What its members are."""
        return self.program.kind

    def initial_cluster(self) -> str:
        """All of them, as the flag names them."""
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    def more(self, name: str, **flags: str) -> Member:
        """One more member on loopback, with ports of its own and these flags (`initial_cluster_state="existing"`).

        It is not started, and the others do not know it: that is the caller's.
        """
        reserved = ports.reserve(2)
        self._reserved.append(reserved)
        client_port, peer_port = reserved.ports
        member = Member(name, self.program, self.directory, client_port, peer_port)
        member.cluster_flags = {flag.replace("_", "-"): value for flag, value in flags.items()}
        self.members = (*self.members, member)
        return member

    def without(self, member: Member) -> None:
        """A member that belongs to it no more: killed if it still runs, and not waited for by anything here."""
        member.kill()
        self.members = tuple(each for each in self.members if each is not member)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    @property
    def running(self) -> list[Member]:
        """The members whose processes live."""
        return [member for member in self.members if member.is_running]

    @property
    def client_urls(self) -> list[str]:
        """One URL a member."""
        return [member.client_url for member in self.members]

    def start(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Start every member that does not run, and wait until each answers a linearizable read."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for member in self.members:
            if not member.is_running:
                member.start()
        for member in self.members:
            member.wait_ready(timeout_s)

    def stop(self) -> None:
        """Kill -9 every member and give the ports back."""
        for member in self.members:
            member.kill()
        for reserved in self._reserved:
            reserved.release()

    def leader(self, timeout_s: float = READY_WITHIN_S) -> Member:
        """The leader that a quorum of the cluster's members names, itself included.

        Raises:
            ClusterError: no such leader within `timeout_s`.
        """
        return self.wait_for("leader that a quorum names", self._named_leader, timeout_s)

    def followers(self, timeout_s: float = READY_WITHIN_S) -> list[Member]:
        """The running members beside the leader."""
        leader = self.leader(timeout_s)
        return [member for member in self.running if member is not leader]

    def wait_for(self, what: str, condition: Callable[[], T | None], timeout_s: float) -> T:
        """Ask until `condition` gives something true.

        Raises:
            ClusterError: not within `timeout_s`, or no member runs.
        """
        deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)
        while True:
            found = condition()
            if found:
                return found
            running = self.running
            if not running or clock.monotonic_ms() > deadline_ms:
                raise ClusterError(f"no {what} within {timeout_s:g} s; {len(running)} run\n{self.log_tails()}")
            pause_or_exit(running[0].pid)

    def log_tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(member.log_tail() for member in self.members)

    def _named_leader(self) -> Member | None:
        named: dict[str, int] = {}
        by_id: dict[str, Member] = {}
        for member in self.running:
            stats = member.self_stats()
            if stats.get("state") == "StateLeader":
                by_id[str(stats.get("id"))] = member
            leader_info = stats.get("leaderInfo")
            if isinstance(leader_info, dict):
                leader_id = str(leader_info.get("leader"))
                named[leader_id] = named.get(leader_id, 0) + 1
        quorum = len(self.members) // 2 + 1
        return next((by_id[leader] for leader, votes in named.items() if votes >= quorum and leader in by_id), None)


def refuse_memory_disk(directory: pathlib.Path) -> None:
    """Durability is not tested on a disk that is memory.

    Raises:
        ClusterError: the directory, or its nearest existing parent, is on a tmpfs.
    """
    kind = file_system_of(directory)
    if kind in MEMORY_DISKS:
        raise ClusterError(f"{directory} is on {kind}: give a directory on a real disk")


def file_system_of(directory: pathlib.Path) -> str:
    """The type of the file system that holds a directory or will hold it (`ext4`), from /proc/self/mounts."""
    resolved = directory.resolve()
    mounts = [line.split()[1:3] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    holding = [(point, kind) for point, kind in mounts if resolved.is_relative_to(_unescaped(point))]
    # Of several mounts on one point the last counts.
    return max(enumerate(holding), key=lambda numbered: (len(numbered[1][0]), numbered[0]))[1][1]


def _unescaped(mount_point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount_point)
