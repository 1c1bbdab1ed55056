"""Whole members under a random schedule: `python -m tests.member.schedules --seeds 1000 --seed 1`.

Three real members (core, keyspace, every joint between them) on memory disks and a fake network, in virtual time.
Clients write to and read from all of them while members crash, stop, fall behind and lose sight of one another. At the
end everything is compared with what the clients were told. A seed gives the same run again.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import pathlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, final

import pytest

from kvraft import clock
from kvraft.founding import Founder
from kvraft.keyspace import commands
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member import outcomes
from kvraft.member.settings import MemberSettings
from kvraft.raft.effects import Role
from kvraft.raft.inputs import TransferLeadership
from kvraft.records import Written
from tests import tried
from tests.member import virtual_time
from tests.member.host import FOUNDERS, MEMBER_IDS, Host, Run
from tests.member.network import Network, Weather

CLIENTS: Final = 10
CHAOS_S: Final = 8.0
QUIET_S: Final = 40.0
"""After the last fault everybody must agree within this time."""
FAULTS: Final = (
    *("crash", "stop", "stop leader", "transfer", "transfer"),
    *("cut", "isolate", "heal", "reset", "slow links", "slow links", "slow disk", "weather"),
)
_CERTAIN_REFUSALS: Final = {outcomes.TOO_MANY_REQUESTS, outcomes.NO_SPACE}

SETTINGS: Final = MemberSettings(
    snapshot_count=30,
    catch_up_entries=10,
    flush_interval_ms=700,
    flush_commands_max=25,
    apply_slice_ms=0,
    idle_sync_ms=3000,
)


@final
class ScheduleError(AssertionError):
    """What a schedule found, one line each."""


@final
@dataclass(slots=True)
class Write:
    """One request of a client and what became of it."""

    command: commands.Command
    value: bytes
    outcome: str = "unknown"
    """"acknowledged", "refused" or "unknown"."""
    etcd_index: int = 0


class Schedule:
    """One seed's run; `membership_schedules.py` has another, in which members come and go."""

    faults: ClassVar[tuple[str, ...]] = FAULTS
    settings: ClassVar[MemberSettings] = SETTINGS

    def __init__(self, seed: int, directory: pathlib.Path) -> None:
        self.seed = seed
        self.tally: Counter[str] = Counter()
        self._directory = directory
        self._rng = random.Random(seed)
        self._values = itertools.count(1)
        self._writes: list[Write] = []
        self._found: list[str] = []
        self._seen_index = 0
        """The highest log index that an answered client has seen."""
        self._ended = False

    async def run(self) -> None:
        """Chaos, then quiet, then the checks."""
        self._network = Network(random.Random(self._rng.random()))
        self._hosts: list[Host] = []
        self._found_cluster()
        for host in self._hosts:
            host.start()
        loop = asyncio.get_running_loop()
        clients = [loop.create_task(self._client(random.Random(self._rng.random()))) for _ in range(CLIENTS)]
        await self._chaos(loop.time() + CHAOS_S)
        await self._calm_down()
        await self._settle()
        self._ended = True
        await asyncio.gather(*clients)
        await self._agree()
        self._check()
        for host in self._hosts:
            if host.run is not None:
                await host.run.stop()
        self._found += [f"member {host.member_id} failed: {text}" for host in self._hosts for text in host.failures]

    def _found_cluster(self) -> None:
        for member_id in MEMBER_IDS:
            self._add_host(member_id)

    def _add_host(self, member_id: int, founders: Sequence[Founder] = tuple(FOUNDERS), *, joins: bool = False) -> Host:
        directory = self._directory / str(member_id)
        directory.mkdir(parents=True)
        rng = random.Random(self._rng.random())
        host = Host(member_id, self._network, directory, self.settings, rng, founders, joins=joins)
        self._hosts.append(host)
        return host

    async def _settle(self) -> None:
        """All is well again, and the clients go on."""

    def prepare(self, patch: pytest.MonkeyPatch) -> None:
        """What this seed wants to be otherwise."""

    def _expected(self) -> list[Host]:
        """Those that must agree in the end."""
        return self._hosts

    def conclude(self, unhandled: list[str]) -> None:
        """Raise for whatever was found."""
        found = self._found + [f"nobody handled: {text}" for text in unhandled]
        if found:
            raise ScheduleError("\n".join([f"seed {self.seed}:", *found]))

    # -- clients ------------------------------------------------------------------------------------------------

    async def _client(self, rng: random.Random) -> None:
        while not self._ended:
            await asyncio.sleep(rng.expovariate(15.0))
            run = rng.choice(self._hosts).run
            if run is None:
                continue
            try:
                if rng.random() < 0.2:
                    await self._read(run)
                else:
                    await self._write(run, rng)
            except TimeoutError:
                self._found.append("a request was not answered in time")

    async def _read(self, run: Run) -> None:
        seen_index = self._seen_index
        if await run.read() is not True:
            self.tally["reads without answer"] += 1
            return
        read_index = run.member.clients.raft_index
        if read_index < seen_index:
            self._found.append(f"a quorum read saw index {read_index}, after {seen_index} had been seen")
        self._seen_index = max(self._seen_index, read_index)
        self.tally["reads"] += 1

    async def _write(self, run: Run, rng: random.Random) -> None:
        value = b"v%d" % next(self._values)
        write = Write(self._command(run, value, rng), value)
        self._writes.append(write)
        answer = await run.write(write.command)
        if isinstance(answer, Written):
            self._written(write, answer, run)
        elif isinstance(answer, EtcdError) and answer.cause in _CERTAIN_REFUSALS:
            write.outcome = "refused"
        self.tally[f"writes {write.outcome}"] += 1

    def _written(self, write: Write, answer: Written, run: Run) -> None:
        self._seen_index = max(self._seen_index, answer.raft_index)
        if run.alive and run.member.clients.raft_index < answer.raft_index:
            self._found.append("a client cannot read its own write")
        if isinstance(answer.event, EtcdError):
            write.outcome = "refused"
            if answer.event.code == ErrorCode.RAFT_INTERNAL:
                self._found.append("the keyspace answered with an internal error")
        else:
            assert isinstance(answer.event, Event)
            write.outcome, write.etcd_index = "acknowledged", answer.event.etcd_index

    def _command(self, run: Run, value: bytes, rng: random.Random) -> commands.Command:
        kind = rng.random()
        if kind < 0.35:
            return commands.CreateInOrder(path=b"/queue%d" % rng.randrange(2), value=value)
        if kind < 0.6:
            return commands.Set(path=b"/key%d" % rng.randrange(4), value=value)
        if kind < 0.85:
            path = b"/key%d" % rng.randrange(4)
            held = {node.path: node.value_json for node in run.member.clients.keyspace.nodes()}.get(path)
            if held is not None:
                return commands.CompareAndSwap(path=path, value=value, prev_value=held.strip(b'"'))
            return commands.Create(path=path, value=value)
        return commands.Set(path=b"/leased/" + value, value=value, ttl_s=rng.randrange(1, 4))

    # -- faults -------------------------------------------------------------------------------------------------

    async def _chaos(self, until: float) -> None:
        rng, loop = self._rng, asyncio.get_running_loop()
        pending: set[asyncio.Task[None]] = set()
        while loop.time() < until:
            await asyncio.sleep(rng.uniform(0.02, 0.8))
            host = rng.choice(self._hosts)
            kind = rng.choice(self.faults)
            self.tally[kind] += 1
            if kind == "stop leader":
                host = next((host for host in self._hosts if _leads(host)), host)
            if kind in {"stop", "stop leader"} and host.run is not None and not host.run.stopping:
                pending.add(loop.create_task(self._stop_and_start(host, host.run, rng.uniform(0.01, 1.5))))
            elif kind == "crash" and host.run is not None:
                host.run.crash()
                pending.add(loop.create_task(self._start_later(host, rng.uniform(0.01, 3.0))))
            elif kind == "cut" and len(self._hosts) > 1:
                one, other = rng.sample(self._ids(), 2)
                self._network.cut(one, other)
                if rng.random() < 0.5:
                    self._network.cut(other, one)
            elif kind == "isolate":
                for other in self._ids():
                    if other != host.member_id:
                        self._network.cut(host.member_id, other)
                        self._network.cut(other, host.member_id)
            elif kind == "heal":
                self._network.heal()
            elif kind == "reset" and len(self._hosts) > 1:
                self._network.reset(frozenset(rng.sample(self._ids(), 2)))
            elif kind == "slow links":
                for one, other in itertools.permutations(self._ids(), 2):
                    self._network.slow_down(one, other, rng.choice((0.0, 0.0, 0.1, 0.6)))
            elif kind == "transfer":
                for host in self._hosts:
                    if host.run is not None and _leads(host):
                        host.run.member.loop.put(TransferLeadership(0))
            elif kind == "slow disk":
                host.disk_loop.latency_s = rng.choice((0.0, 0.003, 0.03, 0.4))
            elif kind == "weather":
                low = rng.choice((0.0002, 0.005, 0.05))
                loss = rng.choice((0.0, 0.0, 0.02, 0.2))
                self._network.weather = Weather((low, low * rng.uniform(1, 10)), loss, rng.random() < 0.5)
            else:
                self._strike(kind, host)
        await asyncio.gather(*pending)

    def _ids(self) -> list[int]:
        return [host.member_id for host in self._hosts]

    def _may_start(self, host: Host) -> bool:
        return True

    def _strike(self, kind: str, host: Host) -> None:
        """A fault that only some schedules have."""

    async def _stop_and_start(self, host: Host, run: Run, delay_s: float) -> None:
        try:
            await run.stop()
        except TimeoutError:
            self._found.append(f"stopping member {host.member_id} took for ever")
            if run.alive:
                run.crash()
        except AssertionError as error:
            self._found.append(f"stopping member {host.member_id}: {error}")
        await self._start_later(host, delay_s)

    async def _start_later(self, host: Host, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if host.run is None and self._may_start(host):
            host.start()

    async def _calm_down(self) -> None:
        self._network.weather = Weather()
        for host in self._hosts:
            host.disk_loop.latency_s = 0.0
            if host.run is None and self._may_start(host):
                host.start()
        self._network.heal()
        await asyncio.sleep(1.0)

    async def _agree(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + QUIET_S
        while loop.time() < until and not self._found:
            members = [host.run.member for host in self._expected() if host.run is not None]
            applied = {member.clients.raft_index for member in members}
            at_the_end = len(members) == len(self._expected()) and applied == {m._raft.last_log_index for m in members}
            if at_the_end and all(member.clients.keyspace.next_deadline_ms() is None for member in members):
                return
            await asyncio.sleep(0.2)
        self._found.append("the members did not agree once all was well again")

    # -- checks -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        hosts = self._expected()
        spaces = [host.run.member.clients.keyspace for host in hosts if host.run is not None]
        if len(spaces) < len(hosts):
            self._found.append("not every member is up at the end")
        if len({keyspace.state_hash for keyspace in spaces}) > 1:
            self._found.append("state hashes differ")
        histories = [list(_history(keyspace)) for keyspace in spaces]
        trees = [_tree(keyspace) for keyspace in spaces]
        for host, history, tree in zip(hosts, histories, trees, strict=False):
            if history != histories[0] or tree != trees[0]:
                self._found.append(f"member {host.member_id} differs from member {hosts[0].member_id}")
            self._check_member(host.member_id, history, tree)
        self.tally["snapshots installed"] += sum(host.installed for host in self._hosts)
        self.tally["entries"] += self._seen_index

    def _check_member(
        self, member_id: int, history: list[tuple[int, str, bytes, bytes]], tree: dict[bytes, bytes]
    ) -> None:
        written = Counter(value for _, action, _, value in history if action != "expire")
        children = Counter(value for path, value in tree.items() if path.startswith(b"/queue"))
        where = {index: value for index, _, _, value in history}
        for write in self._writes:
            times = written[write.value]
            expected = {"acknowledged": {1}, "refused": {0}, "unknown": {0, 1}}[write.outcome]
            if times not in expected:
                self._found.append(f"member {member_id}: {write.outcome} {write.command} was applied {times} times")
            if write.etcd_index and where.get(write.etcd_index) != write.value:
                self._found.append(f"member {member_id}: {write.command} is not at its index {write.etcd_index}")
            if isinstance(write.command, commands.CreateInOrder) and children[write.value] != times:
                self._found.append(f"member {member_id}: {write.command} has {children[write.value]} children")
        lasting: dict[bytes, bytes] = {}
        for _, action, path, value in history:
            if action == "expire":
                del lasting[path]
            elif path:
                lasting[path] = value
        if lasting != tree:
            self._found.append(f"member {member_id}: the tree is not what its history made")


def _leads(host: Host) -> bool:
    return host.run is not None and host.run.member._raft.role is Role.LEADER


def _history(keyspace: Keyspace) -> list[tuple[int, str, bytes, bytes]]:
    history, first, found = keyspace.history, 1, []
    while first <= history.last_index:
        for event in history.read(first, 1000):
            value = (event.node.value_json or b"").strip(b'"')
            found.append((event.etcd_index, event.action.value, event.node.path, value))
            first = event.etcd_index + 1
    return found


def _tree(keyspace: Keyspace) -> dict[bytes, bytes]:
    return {node.path: node.value_json.strip(b'"') for node in keyspace.nodes() if node.value_json is not None}


def run_seed(seed: int, directory: pathlib.Path, kind: type[Schedule] = Schedule) -> Counter[str]:
    """One schedule; what it reached.

    Raises:
        ScheduleError: with the seed and everything that was found.
    """
    schedule = kind(seed, directory)
    unhandled: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvraft.member.applier.STATE_HASH_INTERVAL", 16)
        schedule.prepare(patch)
        virtual_time.run(schedule.run(), unhandled=unhandled)
    schedule.conclude(unhandled)
    return schedule.tally


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Members talk a lot in virtual minutes."""
    logger = logging.getLogger("kvraft")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def run_seeds(seeds: Iterable[int], directory: pathlib.Path, kind: type[Schedule] = Schedule) -> Counter[str]:
    """Several schedules.

    Raises:
        ScheduleError: of the first that found something.
    """
    tally: Counter[str] = Counter()
    with quiet_logs():
        for seed in seeds:
            tally += run_seed(seed, directory / str(seed), kind)
    return tally


def main(kind: type[Schedule] = Schedule, name: str = "schedules") -> int:
    """Run seeds until one finds something, or for a given time."""
    module = f"tests.member.{name}"
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seconds", type=int, default=0, help="end after this time; 0: after the last seed")
    parser.add_argument("--go-on", action="store_true", help="do not end with the first finding")
    given = parser.parse_args()
    started_ms, found = clock.monotonic_ms(), 0
    tally: Counter[str] = Counter()
    with quiet_logs():
        for seed in range(given.seed, given.seed + given.seeds):
            if given.seconds and clock.monotonic_ms() - started_ms > given.seconds * 1000:
                break
            with tempfile.TemporaryDirectory() as directory:
                try:
                    tally += run_seed(seed, pathlib.Path(directory), kind)
                    tally["seeds"] += 1
                except (ScheduleError, virtual_time.StalledError) as error:
                    found += 1
                    print(error)
                    print(f"again: python -m {module} --seeds 1 --seed {seed}", flush=True)
                    if not given.go_on:
                        break
    print(tried.line({"schedules": tally["seeds"]}))
    print(dict(sorted(tally.items())), f"{(clock.monotonic_ms() - started_ms) / 1000:.1f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
