"""The cluster under test: members in namespaces, with what a nemesis needs to spoil their clocks, CPU and disks."""

import asyncio
import contextlib
import dataclasses
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

from kvraft.testing.cluster import Cluster, ClusterError, Kind, Member, Program
from tests.jepsen_like.names import Names, name_of
from tests.jepsen_like.network import CLIENT_PORT, PEER_PORT, Network, run_command
from tests.jepsen_like.secure import ANYBODY, Way, closed, secured

LEADER_WITHIN_S: Final = 3.0
KVRAFT_PORTS_HIGHER: Final = 1000
"""Than etcd's, where both share namespaces."""
IMAGE_BYTES: Final = 192 << 20
_FAKETIME: Final = "/usr/lib/*/faketime/libfaketime.so.1"
_CPU_CGROUP: Final = Path("/sys/fs/cgroup/cpu")
_CPU_PERIOD_US: Final = 100_000


@final
@dataclasses.dataclass(slots=True)
class Database:
    """A started cluster, and what is known of it from outside."""

    cluster: Cluster
    network: Network
    directory: Path
    """For data, logs and all records of the run."""
    clocks: bool
    """Members have a wall clock that `set_clock` moves."""
    small_disks: bool
    """Every member's data is on a file system of its own of 192 MiB."""
    names: Names | None = None
    """What the names mean by which members know each other; None if they know each other by address."""
    way: Way = ANYBODY
    """How clients get in."""
    killed: set[str] = dataclasses.field(default_factory=set)
    """Members that a fault has ended and not started again."""
    filled: set[str] = dataclasses.field(default_factory=set)
    """Members whose disk was full since they were started: they may stop, cleanly, once they notice."""
    full: set[str] = dataclasses.field(default_factory=set)
    """Members whose disk is full now: to start them would be in vain."""
    problems: list[str] = dataclasses.field(default_factory=list)
    """What members did that no fault made them do."""

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, running or not."""
        return self.cluster.members

    async def leader(self, chance: random.Random) -> Member:
        """The leader, or anyone if there is none."""
        try:
            return await asyncio.to_thread(self.cluster.leader, LEADER_WITHIN_S)
        except ClusterError:
            return chance.choice(self.members)

    def kill(self, member: Member) -> None:
        """Kill -9."""
        self.note_exit(member)
        self.killed.add(member.name)
        member.kill()

    def kill_if_alive(self, member: Member) -> None:
        """Kill -9 of a member that may have ended by itself, as one that was removed does: with exit code 0.

        Or as one whose disk was full, which may be stopping still when it is removed.
        """
        self.killed.add(member.name)
        if not member.is_running and member.exit_code != 0 and member.name not in self.filled:
            self.problems.append(f"{member.name} was removed and ended with {member.exit_code}\n{member.log_tail()}")
        member.kill()

    def start(self, member: Member) -> None:
        """Start again, without waiting until it serves."""
        if not member.is_running:
            self.killed.discard(member.name)
            self.filled.discard(member.name)
            member.start()

    def note_exit(self, member: Member) -> None:
        """A member that ended though nothing killed it is a finding, unless its disk was full and it did so cleanly."""
        if member.is_running or member.name in self.killed:
            return
        code, tail = member.exit_code, member.log_tail()
        if member.name not in self.filled:
            self.problems.append(f"{member.name} ended by itself with {code}\n{tail[-2000:]}")
        elif code is None or code < 0 or "Traceback" in tail:
            self.problems.append(f"{member.name} did not stop cleanly on a full disk: {code}\n{tail[-2000:]}")
        self.killed.add(member.name)

    def start_stopped(self) -> None:
        """Start who has ended by itself on a full disk that has room again, as a service manager would."""
        for member in self.members:
            if member.name in self.filled - self.full - self.killed and not member.is_running:
                self.note_exit(member)
                self.start(member)

    def set_clock(self, member: Member, offset_s: int) -> None:
        """Move a member's wall clock; its monotonic clock goes on."""
        assert self.clocks, "members were started without libfaketime"
        sign = "+" if offset_s >= 0 else "-"
        new = self.directory / f"clock-{member.name}.new"
        new.write_text(f"{sign}{abs(offset_s)}s")
        new.replace(self.directory / f"clock-{member.name}")

    @contextlib.contextmanager
    def little_cpu(self, member: Member, percent: int) -> Iterator[None]:
        """Give a member's process so much of one core."""
        if not (_CPU_CGROUP / "cpu.cfs_quota_us").exists() and not (_CPU_CGROUP / "tasks").exists():
            raise ClusterError(f"{_CPU_CGROUP} is not there: starving a member needs the cpu controller of cgroup v1")
        group = _CPU_CGROUP / f"kvraft-{os.getpid()}-{member.name}"
        group.mkdir()
        try:
            (group / "cpu.cfs_period_us").write_text(str(_CPU_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(_CPU_PERIOD_US * percent // 100))
            (group / "cgroup.procs").write_text(str(member.pid))
            yield
        finally:
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):  # it may end just now
                    (_CPU_CGROUP / "cgroup.procs").write_text(pid)
            _remove_empty_group(group)

    @contextlib.contextmanager
    def full_disk(self, member: Member) -> Iterator[None]:
        """Fill a member's file system to the last block, and free it again."""
        assert self.small_disks, "members were started on the common disk"
        filler = _mount_point(member) / "filler"
        self.filled.add(member.name)
        self.full.add(member.name)
        try:
            with filler.open("wb", buffering=0) as file:
                chunk = 1 << 20
                while chunk >= 512:
                    try:
                        file.write(b"\xff" * chunk)
                    except OSError:
                        chunk //= 2
            yield
        finally:
            filler.unlink(missing_ok=True)
            self.full.discard(member.name)

    async def heal(self, within_s: float) -> None:
        """Start what is down, and wait until all members serve.

        Raises:
            ClusterError: a member does not serve in time: the cluster did not recover.
        """
        for member in self.members:
            self.note_exit(member)
            self.start(member)
        deadline = time.monotonic() + within_s
        for member in self.members:
            while True:
                try:
                    await asyncio.to_thread(member.wait_ready, max(1.0, deadline - time.monotonic()))
                    break
                except ClusterError:
                    if member.is_running or member.name not in self.filled:
                        raise
                    self.note_exit(member)  # its disk has room again, and it was stopping still
                    self.start(member)


@contextlib.contextmanager
def started(
    directory: Path,
    kind: Kind,
    *,
    size: int = 3,
    clocks: bool = False,
    small_disks: bool = False,
    named: bool = False,
    secure: bool = False,
    flags: dict[str, str] | None = None,
    before_start: Callable[[Cluster], None] = lambda _cluster: None,
) -> Iterator[Database]:
    """A started cluster in namespaces of its own; the caller is moved in among its clients.

    `before_start` may put something into the directories of its members.

    Raises:
        NetworkError: no namespaces can be made here.
        ClusterError: the members do not start, or something that the faults need is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers()
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(member_names(size)))
        names = stack.enter_context(Names(directory / "names", network)) if named else None
        program = Program(kind, flags or {})
        if secure:
            program = secured(kind, flags or {}, directory / "certificates", network)
        cluster = stack.enter_context(_laid_out(directory / "cluster", program, network, names))
        database = Database(cluster, network, directory, clocks, small_disks, names)
        for member in cluster.members:
            if clocks:
                member.program = dataclasses.replace(member.program, environment=_clock_environment(database, member))
            if small_disks:
                stack.enter_context(small_disk(member))
        stack.callback(cluster.stop)  # before the disks go
        before_start(cluster)
        cluster.start()
        if secure:
            database.way = closed(cluster)
        yield database


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Pair:
    """etcd and kvraft in the same namespaces, on ports of their own: what spoils one's links or names spoils both's."""

    etcd: Cluster
    kvraft: Cluster
    network: Network
    names: Names | None

    @property
    def clusters(self) -> tuple[Cluster, Cluster]:
        """Both; etcd first, so that it has shown that a thing can be done."""
        return self.etcd, self.kvraft

    def start(self, *members: str) -> None:
        """Start these members of both, all of them if none is named, and wait for nothing."""
        for cluster in self.clusters:
            for member in cluster.members:
                if member.name in members or not members:
                    member.start()


@contextlib.contextmanager
def pair(directory: Path, *, size: int = 3, named: bool = False, flags: dict[str, str] | None = None) -> Iterator[Pair]:
    """Both laid out and not started; the caller is moved in among their clients."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(member_names(size)))
        names = stack.enter_context(Names(directory / "names", network)) if named else None
        clusters = [
            stack.enter_context(_laid_out(directory / program.kind, program, network, names, higher))
            for program, higher in (
                (Program("etcd", flags or {}), 0),
                (Program("kvraft", flags or {}), KVRAFT_PORTS_HIGHER),
            )
        ]
        yield Pair(clusters[0], clusters[1], network, names)


def member_names(size: int) -> list[str]:
    """What `Cluster` calls its members."""
    return [f"n{number}" for number in range(1, size + 1)]


@contextlib.contextmanager
def _laid_out(
    directory: Path, program: Program, network: Network, names: Names | None, ports_higher: int = 0
) -> Iterator[Cluster]:
    """A cluster whose members will start in their namespaces, and are stopped afterwards."""
    size = len(network.members)
    cluster = Cluster(
        directory,
        program=program,
        size=size,
        client_ports=[CLIENT_PORT + ports_higher] * size,
        peer_ports=[PEER_PORT + ports_higher] * size,
        hosts=list(network.addresses.values()),
    )
    cluster.directory.mkdir(parents=True, exist_ok=True)
    for member in cluster.members:
        wrapper = network.wrapper(member.name)
        if names is not None:
            wrapper += names.files.wrapper(member.name)
            urls = {
                other.name: f"{program.peer_scheme}://{name_of(other.name)}:{other.peer_port}"
                for other in cluster.members
            }
            member.cluster_flags |= {
                "initial-cluster": ",".join(f"{name}={url}" for name, url in urls.items()),
                "initial-advertise-peer-urls": urls[member.name],
                "listen-peer-urls": f"{program.peer_scheme}://0.0.0.0:{member.peer_port}",
            }
        member.program = dataclasses.replace(program, wrapper=wrapper)
    try:
        yield cluster
    finally:
        cluster.stop()


def _clock_environment(database: Database, member: Member) -> dict[str, str]:
    library = next(Path("/").glob(_FAKETIME[1:]), None)
    if library is None:
        raise ClusterError("libfaketime is not installed: run `make deps`")
    database.set_clock(member, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(database.directory / f"clock-{member.name}"),
        # Seconds between two looks at the file. Without a cache every question for the time reads it, which takes so
        # much CPU that a member with a right clock is slow too.
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextlib.contextmanager
def small_disk(member: Member) -> Iterator[None]:
    """Mount a small ext4 image and have the member's data directory in it."""
    image = member.data_dir.parent / f"{member.name}.image"
    mount = _mount_point(member)
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    run_command("mkfs.ext4", "-q", "-m", "0", str(image))
    run_command("mount", "-o", "loop", str(image), str(mount))
    try:
        (mount / "data").mkdir(mode=0o700)
        member.data_dir.symlink_to(mount / "data", target_is_directory=True)
        yield
    finally:
        member.kill()
        run_command("umount", str(mount))
        image.unlink()


def _mount_point(member: Member) -> Path:
    """Named after this process too, for `remove_leftovers`."""
    return member.data_dir.parent / f"{member.name}.mount-{os.getpid()}"


def remove_leftovers() -> None:
    """Unmount the disks and remove the cgroups of runs whose process is gone."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split()[1]
        owner = re.search(r"/n\d\.mount-(\d+)$", point)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            run_command("umount", "--lazy", point)
    for group in _CPU_CGROUP.glob("kvraft-*-*"):
        if not Path(f"/proc/{group.name.split('-')[1]}").exists():
            _remove_empty_group(group)


def _remove_empty_group(group: Path) -> None:
    """A process that has just ended keeps its group busy for a moment."""
    deadline = time.monotonic() + 2.0
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            return
