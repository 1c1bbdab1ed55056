"""Carries out a schedule of faults, and counts those that something came of; an armed one when it strikes.

| kind | what happens | duration | amount |
|---|---|---|---|
| crash, crash_all | the process dies, unsynced writes with it | until the restart | |
| crash_at | it dies at its next pass of a boundary | until the restart | index into `BOUNDARIES` |
| wipe | it dies, and comes back on an empty disk; a majority never forgets at once | until the restart | |
| pause | SIGSTOP, SIGCONT | | |
| slow | each step of a starved process takes longer | | us |
| cut, cut_one_way | links are cut, both ways or one | | mask of links |
| isolate | every link of the target | | |
| swizzle | links are cut one by one and mended in another order | of the whole | mask of links |
| loss, duplicate, late | of messages, everywhere | | per mille |
| delay | messages take longer, everywhere | | us |
| sync_error | the next sync fails, and what it should have stored is lost | until the restart | |
| slow_disk | each sync takes longer | | us |
| drift | the clock runs fast or slow | for good | per mille, shifted by the maximum |
| transfer | the leader is asked to hand over | | chooses the target |
| compact | state is flushed and the log compacted as far as it goes | | |
| disconnect | connections to the target break: peers are told, sessions are reset at both ends | | |
| cut_dial | servers cannot dial others, whose sessions are reset | | mask of links |
| thin | the links of the target carry 64 kbit/s | | |
| depose | every link of the target is cut and both ends are told: a new leader comes while it leads | | |
| replay | what was sent to the target lately arrives again, in any order | over which it arrives | |
| burst | so many writes at once | | writes |
| membership | the leader is asked some times to add, promote or remove one, or for a removed one | | chooses what |
"""

import dataclasses
from collections.abc import Callable
from typing import Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Role
from kvraft.raft.inputs import PeerDisconnected, TransferLeadership
from tests.simulation.context import Context
from tests.simulation.disk_nemesis import DiskNemesis
from tests.simulation.faults import LEADER, Fault
from tests.simulation.member import AT_BOUNDARY, SimulatedMember
from tests.simulation.options import DISK_FAULT_KINDS
from tests.simulation.scheduler import DiskStopError
from tests.simulation.sectors.disk import POWER_CUT
from tests.simulation.sessions import THIN_BYTES_PER_S, Link

_CHANGES: Final = 3
"""So often each membership fault asks for a change, an election timeout apart: one alone seldom meets another."""


@final
class Nemesis:
    """The only one that hurts servers."""

    def __init__(
        self, context: Context, members: dict[int, SimulatedMember], burst: Callable[[int, int], bool]
    ) -> None:
        self._context = context
        self._members = members
        self._burst = burst
        self._over = False
        self._spared: frozenset[int] = frozenset()
        for member in members.values():
            member.on_crash = self._crashed_at_boundary
        self._down_ms: dict[int, int] = {}
        self.disks = DiskNemesis(context, members, self._crash, self._restart)
        context.scheduler.on_disk_stop = self._stopped_by_disk
        self._seen = set(context.options.server_ids[: context.options.servers])
        """Servers that some leader's configuration had: who is in it no more was removed, unless that was undone."""

    def run(self, schedule: tuple[Fault, ...]) -> None:
        """Put a schedule on the clock."""
        for fault in schedule:
            self._context.scheduler.at(fault.at_ms * 1000, self._strike, fault)

    def stop(self, core: frozenset[int]) -> None:
        """End the safety phase: servers of `core` come back and stay, and nothing new strikes."""
        self._over = True
        self._spared = core
        for member in self._members.values():
            if self.disks.may_come_back(member):
                self._wipe(member, 0)
        for server_id in sorted(core):
            member = self._members[server_id]
            member.armed_crash = -1
            member.disk.fails_next = False
            member.extra_step_us = 0
            member.disk.extra_sync_us = 0
            member.resume()
            if not member.up:
                member.start()
        for server_id, member in self._members.items():
            if server_id not in core:
                member.armed_crash = -1

    def _strike(self, fault: Fault) -> None:
        if self._over:
            return
        target = self._target(fault)
        if self._context.trace.keeps_lines:
            self._context.trace.line(self._context.scheduler.now_us, 0, 0, f"*** {fault.describe()}")
        if self._carry_out(fault, self._members[target]):
            self._context.faults[fault.kind] += 1

    def _target(self, fault: Fault) -> int:
        if fault.target != LEADER:
            return fault.target
        leaders = [m for m in self._members.values() if m.core is not None and m.core.role is Role.LEADER]
        if not leaders:
            return 1 + fault.amount % len(self._members)
        return max(leaders, key=lambda m: m.core.current_term if m.core is not None else 0).server_id

    def _carry_out(self, fault: Fault, member: SimulatedMember) -> bool:
        """Do it. False if nothing came of it, or if it is only armed: then it is counted when it strikes."""
        network, scheduler = self._context.network, self._context.scheduler
        end_us = scheduler.now_us + fault.duration_ms * 1000
        match fault.kind:
            case "crash":
                return self._crash(member, fault.duration_ms)
            case "crash_all":
                crashed = [
                    self._crash(other, fault.duration_ms + 7 * other.server_id) for other in self._members.values()
                ]
                return any(crashed)
            case "crash_at":
                if member.up:
                    member.armed_crash = fault.amount
                    self._down_ms[member.server_id] = fault.duration_ms
                return False
            case "wipe":
                return not self._strands(member) and self._wipe(member, fault.duration_ms)
            case "pause":
                if not member.up or member.paused:
                    return False
                member.pause()
                scheduler.at(end_us, self._resume, member)
            case "slow":
                member.extra_step_us = fault.amount
                scheduler.at(end_us, self._unslow, member)
                return member.up
            case "slow_disk":
                member.disk.extra_sync_us = fault.amount
                scheduler.at(end_us, self._unslow_disk, member)
                return member.up
            case "sync_error":
                if member.up:
                    member.disk.fails_next = True
                    self._down_ms[member.server_id] = fault.duration_ms
                return False
            case "cut" | "cut_one_way" | "isolate":
                links = self._links(fault, member.server_id)
                network.cut(links)
                scheduler.at(end_us, self._mend, links)
                return bool(links)
            case "swizzle":
                return self._swizzle(fault)
            case "loss" | "duplicate" | "late":
                name = f"{fault.kind}_per_mille"
                setattr(network, name, fault.amount)
                scheduler.at(end_us, self._calm, name, getattr(self._context.options, name))
                return len(self._members) > 1
            case "delay":
                network.extra_delay_us = fault.amount
                scheduler.at(end_us, self._calm, "extra_delay_us", 0)
                return len(self._members) > 1
            case "drift":
                return member.clock.set_rate(1000 + fault.amount - self._context.options.drift_per_mille)
            case "transfer":
                return self._transfer(member, fault.amount % (len(self._members) + 1))
            case "compact":
                return _compact(member)
            case "disconnect":
                if network.sessions is not None:
                    return network.sessions.reset(member.server_id)
                return self._disconnect(member.server_id) and member.up
            case "cut_dial":
                assert network.sessions is not None
                links = self._links(fault, member.server_id)
                network.sessions.cut_dials(links)
                scheduler.at(end_us, self._mend_dials, links)
                return bool(links)
            case "thin":
                return self._thin(member.server_id, end_us)
            case "depose":
                return self._depose(fault, member)
            case "replay":
                return network.replay(member.server_id, fault.duration_ms * 1000)
            case "membership":
                for again in range(1, _CHANGES):
                    after_us = again * self._context.options.election_timeout_ms * 1000
                    scheduler.after(after_us, self._change_again, fault.amount // (again + 1))
                return self._change_membership(fault.amount)
            case "burst":
                return self._burst(fault.at_ms, fault.amount)
            case _:
                assert fault.kind in DISK_FAULT_KINDS
                self._down_ms[member.server_id] = fault.duration_ms
                return self.disks.strike(fault, member)
        return True

    def _transfer(self, member: SimulatedMember, to_server: int) -> bool:
        """Ask for it; in vain where nobody leads or the one that should take over is no voter."""
        to_server = 0 if to_server == member.server_id else to_server
        member.put_if_up(TransferLeadership(to_server))
        if member.core is None or member.core.role is not Role.LEADER:
            return False
        successors = {*member.configuration.voters} - {member.server_id}
        return to_server in successors or (to_server == 0 and bool(successors))

    def _change_membership(self, choice: int) -> bool:
        """Ask whoever leads for one of the changes that are possible now, or to take a removed server back."""
        leader = self._members[self._target(Fault(0, "", LEADER, 0, choice))]
        if leader.core is None or leader.core.role is not Role.LEADER:
            return False
        now = leader.configuration
        self._seen.update(now.servers)
        voters, learners = set(now.voters), set(now.learners)
        wanted = [Configuration.of(voters | {learner}, learners - {learner}) for learner in now.learners]
        wanted += [Configuration.of(voters, learners - {learner}) for learner in now.learners]
        for spare in self._context.options.server_ids[self._context.options.servers :]:
            if spare not in self._seen:
                wanted += [Configuration.of(voters, learners | {spare}), Configuration.of(voters | {spare}, learners)]
        # What the core itself says of them is not asked: it may have forgotten.
        wanted += [Configuration.of(voters | {gone}, learners) for gone in sorted(self._seen.difference(now.servers))]
        if len(voters) > 1:
            wanted += [Configuration.of(voters - {voter}, learners) for voter in now.voters]
        if not wanted:
            return False
        chosen = wanted[choice % len(wanted)]
        if choice % 5 == 0:
            # Two changes in one, which the core must refuse.
            other = wanted[choice // 5 % len(wanted)]
            chosen = Configuration.of(set(chosen.voters) & set(other.voters), {*chosen.learners, *other.learners})
        leader.desk.propose_configuration(chosen)
        return True

    def _change_again(self, choice: int) -> None:
        if not self._over:
            self._change_membership(choice)

    def _wipe(self, member: SimulatedMember, down_ms: int) -> bool:
        """Every majority must keep one that remembers, or what was committed may be gone for good."""
        forgetful = {m.server_id for m in self._members.values() if m.disk.hard_state.rebuilding is not None}
        if len(forgetful | {member.server_id}) > len(self._members) // 2:
            return False
        if member.up:
            self._crash(member, down_ms)
        member.wipe()
        return True

    def _strands(self, member: SimulatedMember) -> bool:
        """Whether others may wait for ever for what only this disk holds: entries that nobody else has, in their floor.

        With half of the servers below their floors the rest is no majority, and an end of a log that never was
        committed can keep them all from electing (raft/rebuild.py). Safe, but nothing that heals: two disks are gone.
        Nor does a rest that is no majority ever leave term 0, in which nobody answers.
        """
        others = [other for other in self._members.values() if other is not member]
        forgetful = [other for other in others if other.disk.hard_state.rebuilding is not None]
        rest = [other for other in others if other.disk.hard_state.rebuilding is None]
        if 2 * len(rest) > len(self._members):
            return False
        if any(other.disk.hard_state.current_term == 0 for other in rest):
            return True
        if not forgetful:
            return False
        reach = max((_end_of_log(other) for other in rest), default=(0, 0))
        floors = [
            (rebuilding.last_log_term, rebuilding.last_log_index)
            for other in forgetful
            if (rebuilding := other.disk.hard_state.rebuilding) is not None
        ]
        return max(_end_of_log(member), *floors) > reach

    def _crash(self, member: SimulatedMember, down_ms: int) -> bool:
        if not member.up:
            return False
        member.crash("killed")
        self._disconnect(member.server_id)
        self._context.scheduler.after(down_ms * 1000, self._restart, member)
        return True

    def _crashed_at_boundary(self, member: SimulatedMember, reason: str) -> None:
        member.crash(reason)
        if reason == AT_BOUNDARY:
            self._context.reached["crash at a boundary"] += 1
            self._context.faults["crash_at"] += 1
        elif not self.disks.is_full(member):
            self._context.faults["sync_error"] += 1
        self._disconnect(member.server_id)
        self._context.scheduler.after(self._down_ms.get(member.server_id, 1000) * 1000, self._restart, member)

    def _stopped_by_disk(self, stop: DiskStopError) -> None:
        member = self._members[stop.server_id]
        if stop.reason == POWER_CUT:
            self._context.faults["power_cut"] += 1
        member.crash(stop.reason)
        self._disconnect(stop.server_id)
        self._context.scheduler.after(self._down_ms.get(stop.server_id, 1000) * 1000, self._restart, member)

    def _restart(self, member: SimulatedMember) -> None:
        if not member.up and (not self._over or member.server_id in self._spared):
            member.start()
            self._way_back(member)

    def _way_back(self, member: SimulatedMember) -> None:
        """A server that found its disk damaged gets another one, and everything back from the others (--rebuild)."""
        if not member.up and self.disks.may_come_back(member) and self._wipe(member, 0):
            self._context.scheduler.after(1_000_000, self._restart, member)

    def _disconnect(self, server_id: int) -> bool:
        """Peers that can hear it notice that a process closed its connections. False if nobody hears it.

        With sessions these are what ended, and what tells them.
        """
        if self._context.network.sessions is not None:
            return False
        heard = False
        for other_id, other in self._members.items():
            if other_id != server_id and not self._context.network.is_cut(server_id, other_id):
                delay_us = self._context.options.latency_us
                self._context.scheduler.after(delay_us, other.put_if_up, PeerDisconnected(server_id))
                heard = heard or other.up
        return heard

    def _depose(self, fault: Fault, member: SimulatedMember) -> bool:
        """Cut a server off with resets and not in silence: its followers need not wait for their timeouts.

        Until its own CheckQuorum strikes it leads on in its term, which is when its clients would see old state.
        """
        links = self._links(dataclasses.replace(fault, kind="isolate"), member.server_id)
        sessions = self._context.network.sessions
        if sessions is not None:
            sessions.reset(member.server_id)
        self._disconnect(member.server_id)
        for other_id in self._members:
            if other_id != member.server_id and sessions is None:
                member.put_if_up(PeerDisconnected(other_id))
        self._context.network.cut(links)
        self._context.scheduler.after(fault.duration_ms * 1000, self._mend, links)
        return bool(links)

    def _thin(self, target: int, end_us: int) -> bool:
        sessions = self._context.network.sessions
        assert sessions is not None
        links = self._links(Fault(0, "isolate", target, 0, 0), target)
        usual = self._context.options.bandwidth_bytes_per_s
        sessions.bandwidth.update(dict.fromkeys(links, THIN_BYTES_PER_S))
        self._context.scheduler.at(end_us, self._widen, links, usual)
        return bool(links)

    def _widen(self, links: list[Link], usual: int) -> None:
        sessions = self._context.network.sessions
        if not self._over and sessions is not None:
            sessions.bandwidth.update(dict.fromkeys(links, usual))

    def _mend_dials(self, links: list[Link]) -> None:
        sessions = self._context.network.sessions
        if not self._over and sessions is not None:
            sessions.mend_dials(links)

    def _resume(self, member: SimulatedMember) -> None:
        member.resume()

    def _unslow(self, member: SimulatedMember) -> None:
        member.extra_step_us = 0

    def _unslow_disk(self, member: SimulatedMember) -> None:
        member.disk.extra_sync_us = 0

    def _mend(self, links: list[Link]) -> None:
        if not self._over:
            self._context.network.mend(links)

    def _calm(self, name: str, value: int) -> None:
        if not self._over:
            setattr(self._context.network, name, value)

    def _links(self, fault: Fault, target: int) -> list[Link]:
        servers = sorted(self._members)
        pairs = [(source, to) for source in servers for to in servers if source != to]
        if fault.kind == "isolate":
            return [(source, to) for source, to in pairs if target in (source, to)]
        mask = fault.amount
        if fault.kind == "cut":
            # A cut in two: servers whose bit is set on one side, the others on the other.
            return [(source, to) for source, to in pairs if (mask >> source & 1) != (mask >> to & 1)]
        return [link for position, link in enumerate(pairs) if mask >> position & 1]

    def _swizzle(self, fault: Fault) -> bool:
        links = self._links(fault, 0)
        step_us = fault.duration_ms * 1000 // (2 * len(links) + 1)
        scheduler = self._context.scheduler
        for position, link in enumerate(links):
            scheduler.after(position * step_us, self._cut_one, link)
            mended = len(links) + (position * 7 + fault.amount) % len(links)
            scheduler.after(mended * step_us, self._mend, [link])
        return bool(links)

    def _cut_one(self, link: Link) -> None:
        if not self._over:
            self._context.network.cut([link])


def _compact(member: SimulatedMember) -> bool:
    if member.keeper is None:
        return False
    before = member.disk.log.base.index
    was_flushing = member.disk.flushing
    member.keeper.flush()
    member.keeper.compact(member.disk.state.position.index)
    return member.disk.log.base.index > before or member.disk.flushing > was_flushing


def _end_of_log(member: SimulatedMember) -> tuple[int, int]:
    """(term, index) of the last durable entry."""
    last = member.disk.log.last
    return last.term, last.index
