"""Members that come and go under faults: `python -m tests.member.membership_schedules --seeds 1000 --seed 1`.

As in `schedules.py`, but an operator changes the membership with the product's own commands: machines are added, some
under an address where nobody is, moved, removed, and replaced after they have lost their disk. Whoever is wanted must
vote in the end, whoever was removed must have been told, and in a cluster that is well nothing of this stops a write.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import pytest

from kvraft.founding import Founder
from kvraft.keyspace import commands
from kvraft.keyspace.cluster import MembershipRefused
from kvraft.member.cluster import Cluster
from kvraft.member.reconfiguration import Rounds
from kvraft.records import Written
from tests.member.host import Host, Run
from tests.member.membership_judge import MembershipJudge, agreed
from tests.member.schedules import CHAOS_S, FAULTS, Schedule, main
from tests.storage.memory import MemoryDisk

CHANGES: Final = ("add", "add", "typo", "remove", "remove", "move", "replace", "wipe")
MEMBERS_MAX: Final = 5
SETTLE_S: Final = 60.0
STALL_S: Final = 1.5
"""In a cluster that is well no write takes as long, whatever is changed: an election timeout and a half."""


class MembershipSchedule(Schedule):
    """One seed's run; `disk_schedules.py` has another, on disks that fill up and fail."""

    faults = (*FAULTS, *["membership"] * 12)

    def _found_cluster(self) -> None:
        self._judge = MembershipJudge(asyncio.get_running_loop().time, self._disk_of, self._network.is_up)
        self._next_id = 10
        self._next_port = 10_000
        self._lost: set[int] = set()
        """Machines that have lost their disks and do not come back."""
        self._typos: set[int] = set()
        """Members at an address where nobody is."""
        self._is_calm = False
        self._operator: asyncio.Task[None] | None = None
        ids = range(1, 1 + self._rng.choice((1, 2, 3, 3)))
        founders = [Founder(member_id, f"m{member_id}", (f"http://127.0.0.1:{member_id}",)) for member_id in ids]
        for member_id in ids:
            self._watch(self._add_host(member_id, founders))

    def _watch(self, host: Host) -> None:
        host.after_step, host.on_removed = self._judge.look, self._judge.has_gone

    def prepare(self, patch: pytest.MonkeyPatch) -> None:
        """In a third of the seeds nobody is promoted while faults strike, so that learners are there to be counted."""
        if self._rng.random() < 1 / 3:
            is_close = Rounds.is_close
            patch.setattr(Rounds, "is_close", lambda *arguments: self._is_calm and is_close(*arguments))

    def _disk_of(self, member_id: int) -> MemoryDisk | None:
        if member_id in self._lost:
            return None
        return next((host.disk for host in self._hosts if host.member_id == member_id), None)

    def _may_start(self, host: Host) -> bool:
        return host.member_id not in self._lost

    def _expected(self) -> list[Host]:
        wanted = self._cluster().member_ids()
        return [host for host in self._hosts if host.member_id in wanted]

    def _cluster(self) -> Cluster:
        """As the one knows it that has applied most."""
        runs = [host.run for host in self._hosts if host.run is not None]
        newest = max(runs, key=lambda run: run.member.clients.raft_index, default=None)
        if newest is None:
            return self._hosts[0].start().member.clients._cluster
        return newest.member.clients._cluster

    # -- the operator -------------------------------------------------------------------------------------------

    def _strike(self, kind: str, host: Host) -> None:
        if kind == "membership" and (self._operator is None or self._operator.done()):
            self._operator = asyncio.get_running_loop().create_task(self._change(self._rng.choice(CHANGES), host))

    async def _change(self, kind: str, host: Host) -> None:
        """One change, as the operator asks for it; whatever comes of it is only known in the end."""
        wanted = self._cluster().member_ids()
        others = [other for other in self._hosts if other is not host and self._has_data(other)]
        if kind in {"add", "typo"} and len(wanted) < MEMBERS_MAX:
            await self._add(is_typo=kind == "typo")
        elif kind == "remove" and host.member_id in wanted and others:
            await self._submit(commands.RemoveMember(host.member_id))
        elif kind == "move" and host.member_id in wanted:
            await self._move(host)
        elif kind == "replace" and host.member_id in wanted and len(others) >= 2 and self._may_be_wiped(host):
            self._lost.add(host.member_id)
            if host.run is not None:
                host.run.crash()
            self.tally["replacements"] += 1
            await self._submit(commands.RemoveMember(host.member_id))
            await self._add(is_typo=False)
        elif kind == "wipe" and len(others) >= 2 and self._may_be_wiped(host):
            if host.run is not None:
                host.run.crash()
            host.forget(self._known())
            self.tally["wipes"] += 1
            self._comes_back = asyncio.get_running_loop().create_task(self._start_later(host, 0.5))

    def _has_data(self, host: Host) -> bool:
        """Whether it votes, is wanted, and its disk is whole."""
        if host.disk.hard_state.rebuilding is not None:
            return False
        voters = [set(each.run.member._raft.configuration.voters) for each in self._hosts if each.run is not None]
        # Who has slept through removals says nothing of who votes.
        voters = [each for each in voters if self._judge.committed_removals.isdisjoint(each)]
        is_voter = bool(voters) and all(host.member_id in each for each in voters)
        return is_voter and host.member_id in self._cluster().member_ids() - self._lost

    def _may_be_wiped(self, host: Host) -> bool:
        """One at a time: half of four that forget is more than the rest can make good (`kvraft/raft/rebuild.py`)."""
        forgetful = any(other.disk.hard_state.rebuilding is not None for other in self._hosts)
        return self._has_data(host) and not forgetful and not self._lost & self._in_force()

    def _in_force(self) -> set[int]:
        """Everybody in some configuration of some member."""
        return {
            server
            for host in self._hosts
            if host.run is not None
            for server in host.run.member._raft.committed_configuration.servers
        }

    async def _add(self, *, is_typo: bool) -> None:
        member_id, self._next_id = self._next_id, self._next_id + 1
        url = f"http://127.0.0.1:{member_id}"
        if is_typo:
            self._typos.add(member_id)
        if not await self._submit(commands.AddMember(member_id, (url,))) or is_typo:
            return
        host = self._add_host(member_id, self._known(), joins=True)
        self._watch(host)
        self.tally["joins"] += 1
        host.start()

    def _known(self) -> list[Founder]:
        """What a member that is asked tells of the others."""
        return [Founder(it.member_id, it.name, it.peer_urls) for it in self._cluster().members()]

    async def _move(self, host: Host) -> None:
        """To another address, while it runs or while it is down."""
        self._next_port += 1
        url = f"http://127.0.0.1:{self._next_port}"
        if self._rng.random() < 0.5 and host.run is not None:
            host.run.crash()
            # Nobody knows yet whether the others can decide anything without it.
            self._comes_back = asyncio.get_running_loop().create_task(self._start_later(host, 2.0))
        if not await self._submit(commands.MoveMember(host.member_id, (url,))):
            return
        self.tally["moves"] += 1
        host.url = url
        if host.run is not None and not host.run.stopping:
            host.run.crash()
        if host.run is None and self._may_start(host):
            host.start()

    async def _submit(self, command: commands.Command) -> bool:
        """Ask one member after another until one says that it is so, or that it cannot be."""
        loop = asyncio.get_running_loop()
        until = loop.time() + CHAOS_S + SETTLE_S
        while loop.time() < until:
            run = self._rng.choice(self._hosts).run
            if run is not None:
                try:
                    answer = await run.write(command)
                except TimeoutError:
                    self._found.append("a change of the membership was not answered in time")
                    return False
                if isinstance(answer, Written):
                    return not isinstance(answer.event, MembershipRefused) or isinstance(command, commands.AddMember)
            await asyncio.sleep(0.1)
        self._found.append(f"nobody has taken {command}")
        return False

    # -- the end ------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Everybody is well again: mistakes are taken back, and the configuration must become what is wanted."""
        self._is_calm = True
        if self._operator is not None:
            await self._operator
        for wrong in sorted(self._cluster().member_ids() & (self._typos | self._lost)):
            await self._submit(commands.RemoveMember(wrong))
        await self._until(self._is_settled, "the configuration did not become what is wanted")
        if not self._found:
            await self._add_in_vain()

    async def _add_in_vain(self) -> None:
        """A wrong address stops no write, and one command takes it back."""
        before = self._cluster().member_ids() | set()
        writer = asyncio.get_running_loop().create_task(self._write_on())
        await self._add(is_typo=True)
        await asyncio.sleep(3.0)
        for wrong in sorted(self._cluster().member_ids() - before):
            await self._submit(commands.RemoveMember(wrong))
        await self._until(self._is_settled, "a member at a wrong address was not taken back")
        writer.cancel()

    async def _write_on(self) -> None:
        """Write through each member in turn; no write may take long."""
        loop = asyncio.get_running_loop()
        while True:
            for host in self._expected():
                began = loop.time()
                if host.run is not None and await self._answers(host.run) and loop.time() - began > STALL_S:
                    self._found.append(f"a write took {loop.time() - began:.1f} s in a cluster that is well")
                await asyncio.sleep(0.05)

    async def _answers(self, run: Run) -> bool:
        return await run.write(commands.Delete(b"/nothing")) is not None

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_S
        while not holds() and not self._found:
            if loop.time() > until:
                self._found.append(f"{otherwise}: {self._describe()}")
            await asyncio.sleep(0.1)

    def _is_settled(self) -> bool:
        wanted = set(self._cluster().member_ids())
        expected = self._expected()
        cores = [host.run.member._raft for host in expected if host.run is not None]
        if any(core.is_rebuilding for core in cores):
            return False
        if len(cores) < len(wanted) or any(set(core.committed_configuration.voters) != wanted for core in cores):
            return False
        return not any(self._can_be_told(host) for host in self._hosts if host.member_id not in wanted)

    def _can_be_told(self, host: Host) -> bool:
        """Whether it runs and knows where somebody is who belongs to the cluster; else nobody meets anybody."""
        known = host.run.transport.peers if host.run is not None else {}
        return any(other.url in known.get(other.member_id, ()) for other in self._expected())

    def _describe(self) -> str:
        cores = {host.member_id: host.run.member._raft for host in self._hosts if host.run is not None}
        facts = [f"{member}: {core.configuration}, leader {core.leader_id}" for member, core in cores.items()]
        return f"wanted {sorted(self._cluster().member_ids())}, " + "; ".join(facts)

    def _check(self) -> None:
        super()._check()
        self._found += self._judge.found
        self.tally.update(self._judge.reached)
        hosts = self._expected()
        clusters = [host.run.member.clients._cluster for host in hosts if host.run is not None]
        if not agreed((cluster.removed_ids(), cluster.members()) for cluster in clusters):
            self._found.append("members disagree about who belongs to the cluster")
        removed = clusters[0].removed_ids()
        for host in self._hosts:
            could_hear = host.member_id not in self._lost and (host.run is None or self._can_be_told(host))
            if host.member_id in removed and could_hear and not host.was_removed:
                self._found.append(f"member {host.member_id} was removed and never told")
        self.tally["told of their removal"] += sum(host.was_removed for host in self._hosts)


if __name__ == "__main__":
    sys.exit(main(MembershipSchedule, "membership_schedules"))
