"""Clusters of real processes on loopback: kvraft, or Debian's etcd as the oracle beside it.

    with Cluster(directory, kind="etcd") as cluster:
        cluster.leader().kill()
        cluster.leader()

Everything here blocks, with a deadline; an asyncio test calls the waits through `asyncio.to_thread` where its own
tasks must go on meanwhile. Signals (`kill`, `pause`, `resume`, `signal`) return at once or as soon as the process is
gone. A member keeps its ports, its directory and its log file over restarts.
"""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, final

from kvraft import clock
from kvraft.testing import leash, ports, raw_http

Kind = Literal["kvraft", "etcd"]

READY_WITHIN_S: Final = 60.0
"""For a start on a loaded machine; a member alone is ready within about a second."""
STOP_WITHIN_S: Final = 30.0
"""For a clean stop, a hand-over of leadership included."""
_PROBE_TIMEOUT_S: Final = 2.0
_PROBE_PAUSE_MS: Final = 20
_REAL_DISK_ONLY: Final = frozenset({"tmpfs", "ramfs"})
_LOG_TAIL_BYTES: Final = 16_384

T = TypeVar("T")


class ClusterError(Exception):
    """A member did not do in time what was waited for, or ended instead. The text names it and its log."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Program:
    """How members of a cluster are started."""

    kind: Kind = "kvraft"
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Flag names without dashes, over those that make up the cluster: `{"election-timeout": "500"}`."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Added to this process's environment."""
    wrapper: Sequence[str] = ()
    """Words put before the command: strace, faketime, ip netns exec."""

    def command(self) -> list[str]:
        """The command before any flags.

        Raises:
            ClusterError: etcd is not installed. Tests never skip for that.
        """
        if self.kind == "kvraft":
            return [*self.wrapper, sys.executable, "-m", "kvraft"]
        etcd = shutil.which("etcd")
        if etcd is None:
            raise ClusterError("etcd is not installed: run `make deps`")
        return [*self.wrapper, etcd, "--enable-v2"]


@final
class Member:
    """One process of a cluster, running or not."""

    def __init__(self, name: str, program: Program, directory: pathlib.Path, client_port: int, peer_port: int) -> None:
        self.name: Final = name
        self.program = program
        self.data_dir: Final = directory / name
        self.log_path: Final = directory / f"{name}.log"
        self.client_port: Final = client_port
        self.peer_port: Final = peer_port
        self.client_url: Final = f"http://{ports.LOOPBACK}:{client_port}"
        self.peer_url: Final = f"http://{ports.LOOPBACK}:{peer_port}"
        self.cluster_flags: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.output: int | None = None
        """A file descriptor that takes the log instead of `log_path`."""

    def __repr__(self) -> str:
        return f"<{self.program.kind} member {self.name} {self.client_url}>"

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running member (of the wrapper, if there is one)."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process, negative for a signal; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def command(self) -> list[str]:
        """The whole command line."""
        flags = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            **self.cluster_flags,
            **self.program.flags,
        }
        return [*self.program.command(), *(f"--{name}={value}" for name, value in flags.items())]

    def start(self) -> None:
        """Start the process; `wait_ready` waits until it serves."""
        assert not self.is_running, f"{self.name} runs already"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with contextlib.ExitStack() as stack:
            output = self.output
            if output is None:
                output = stack.enter_context(self.log_path.open("ab")).fileno()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment | dict(self.program.environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for whoever started us
            )
        leash.hold(self._process.pid)

    def kill(self) -> None:
        """SIGKILL, to its whole process group, and wait until it is gone. One that does not run is fine."""
        if self._process is None or self._process.returncode is not None:
            return
        leash.kill_group(self._process.pid)
        self._process.wait()
        leash.let_go(self._process.pid)

    def terminate(self, timeout_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM, and wait for the exit code.

        Raises:
            ClusterError: it still runs after `timeout_s`; then it is killed.
        """
        assert self._process is not None, f"{self.name} was not started"
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def wait_exit(self, timeout_s: float = STOP_WITHIN_S) -> int:
        """Wait until the process ends by itself, and return its exit code.

        Raises:
            ClusterError: it still runs after `timeout_s`; then it is killed.
        """
        assert self._process is not None, f"{self.name} was not started"
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} still ran after {timeout_s:g} s\n{self.log_tail()}") from None
        leash.let_go(self._process.pid)
        return code

    def restart(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Kill -9 if it runs, start again on the same data, and wait until it serves."""
        self.kill()
        self.start()
        self.wait_ready(timeout_s)

    def signal(self, number: int) -> None:
        """Send any signal to the process."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its sockets stay open."""
        leash.kill_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        leash.kill_group(self.pid, signal.SIGCONT)

    def http(
        self,
        method: str,
        target: str,
        *,
        form: raw_http.FormValues | None = None,
        body: bytes | None = None,
        headers: raw_http.Headers = (),
        timeout_s: float = raw_http.DEADLINE_S,
    ) -> raw_http.Answer:
        """One blocking request on its own connection (see `raw_http.exchange`)."""
        return raw_http.exchange(
            self.client_url, method, target, form=form, body=body, headers=headers, timeout_s=timeout_s
        )

    async def connect(self) -> raw_http.Connection:
        """An asyncio connection to the client port."""
        return await raw_http.Connection.open(self.client_url)

    def wait_listening(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers at all, with or without a leader."""
        self.wait_for("an answer", lambda: self._probe("/version"), timeout_s)

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers a linearizable read, which needs a leader and a quorum.

        Raises:
            ClusterError: not within `timeout_s`, or the process ended.
        """
        self.wait_for("a linearizable read", lambda: self._probe("/v2/keys/?quorum=true"), timeout_s)

    def wait_for(self, what: str, condition: Callable[[], T | None], timeout_s: float) -> T:
        """Ask until `condition` gives something true; between two askings only the end of the process is waited for.

        Raises:
            ClusterError: not within `timeout_s`, or the process ended.
        """
        deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)
        while True:
            if not self.is_running:
                raise ClusterError(f"{self.name} ended with {self.exit_code}\n{self.log_tail()}")
            found = condition()
            if found:
                return found
            if clock.monotonic_ms() > deadline_ms:
                raise ClusterError(f"{self.name}: no {what} within {timeout_s:g} s\n{self.log_tail()}")
            _pause_or_exit(self.pid)

    def wait_for_log(self, pattern: str, timeout_s: float = READY_WITHIN_S) -> re.Match[str]:
        """Wait until the log of the member, all its starts included, has a match of the pattern."""
        compiled = re.compile(pattern)
        return self.wait_for(f"log line like {pattern!r}", lambda: compiled.search(self.log_text()), timeout_s)

    def self_stats(self) -> dict[str, object]:
        """`/v2/stats/self`; empty if it does not answer in time."""
        try:
            answer = self.http("GET", "/v2/stats/self", timeout_s=_PROBE_TIMEOUT_S)
            stats: dict[str, object] = answer.json() if answer.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return stats

    def log_text(self) -> str:
        """Everything it has logged to its file."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """The end of the log under a line that names the member, for failure reports."""
        return f"--- {self.name}: end of {self.log_path}\n{self.log_text()[-_LOG_TAIL_BYTES:]}"

    def _probe(self, target: str) -> bool:
        try:
            return self.http("GET", target, timeout_s=_PROBE_TIMEOUT_S).status == 200
        except (OSError, http.client.HTTPException):
            return False


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
            durable: refuse a directory whose disk is memory: what it keeps says nothing about durability.

        Raises:
            ClusterError: the directory is on a tmpfs although `durable`.
        """
        if durable:
            refuse_memory_disk(directory)
        self.directory: Final = directory
        self.program: Final = program or Program(kind=kind, flags=flags or {})
        self._reserved: ports.Reservation | None = None
        if not client_ports or not peer_ports:
            self._reserved = ports.reserve(2 * size)
            client_ports, peer_ports = self._reserved.ports[:size], self._reserved.ports[size:]
        self.members: Final = tuple(
            Member(f"n{number}", self.program, directory, client_port, peer_port)
            for number, (client_port, peer_port) in enumerate(zip(client_ports, peer_ports, strict=True), 1)
        )
        initial_cluster = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.cluster_flags = {
                "initial-cluster": initial_cluster,
                "initial-cluster-state": "new",
                "initial-cluster-token": "kvraft-testing",
            }

    @property
    def kind(self) -> Kind:
        """What its members are."""
        return self.program.kind

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
        if self._reserved is not None:
            self._reserved.release()

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
            _pause_or_exit(running[0].pid)

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
    if kind in _REAL_DISK_ONLY:
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


def _pause_or_exit(pid: int) -> None:
    """Wait 20 ms, or until the process ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_PROBE_PAUSE_MS)
    finally:
        os.close(descriptor)
