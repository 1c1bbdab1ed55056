"""Faults of disks with sectors. Damage strikes a minority only: every committed entry stays on an intact quorum.

| kind | what happens | duration | amount |
|---|---|---|---|
| power_cut | the power fails inside one of the next disk operations | until the restart | which operation |
| power_cut_all | the power of all fails at once | until the restart | |
| disk_full | writes answer ENOSPC | of the fault and the restart | |
| flip | a bit changes at rest, up or down | for good | which |
| unreadable | a page answers EIO until it is written again | for good | which |
| astray | a page of the next sync lands in the place of another | for good | |
| lie | the next sync stores nothing and says it did | for good | |
| rollback | the newest meta page of a dead server is again what it was before | for good | |
| swap | two servers start on each other's disk | of the swap | chooses the other |
"""

from collections.abc import Callable
from typing import Final, final

from kvraft.storage.errors import StorageError
from tests.simulation.context import Context
from tests.simulation.faults import Fault
from tests.simulation.member import SimulatedMember
from tests.simulation.sectors.device import Device
from tests.simulation.sectors.disk import SectorDisk
from tests.simulation.sectors.paged_file import SectorFile
from tests.simulation.streams import stream

DAMAGING: Final = ("flip", "unreadable", "astray", "lie", "rollback")


@final
class DiskNemesis:
    """Carries out what concerns one disk; crashes and restarts are left to the nemesis."""

    def __init__(
        self,
        context: Context,
        members: dict[int, SimulatedMember],
        crash: Callable[[SimulatedMember, int], bool],
        restart: Callable[[SimulatedMember], None],
    ) -> None:
        self._context = context
        self._members = members
        self._crash = crash
        self._restart = restart
        options = context.options
        minority = (options.servers - 1) // 2 if not options.spares else 0
        """With servers that come and go no fixed set is a minority for good."""
        self._atlas: Final = stream(options.seed, 0, "atlas").sample(range(1, options.servers + 1), minority)
        self._swapped: list[tuple[SectorDisk, SectorDisk]] = []

    def usable(self) -> list[int]:
        """Servers that have what they stored, or will get it back."""
        return [
            server_id
            for server_id, member in self._members.items()
            if not member.disk.hurt or self.may_come_back(member)
        ]

    def may_come_back(self, member: SimulatedMember) -> bool:
        """Whether a hurt server gets a new disk: all others must be there to give everything back."""
        disk, options = member.disk, self._context.options
        if not isinstance(disk, SectorDisk) or options.spares or options.quorum_core_only:
            return False
        return bool(disk.hurt) and not disk.swapped_with

    def calm(self) -> None:
        """No fault that is armed strikes any more, and every disk is in its own server."""
        for pair in [*self._swapped]:
            self._swap_back(*pair)
        for member in self._members.values():
            disk = member.disk
            if isinstance(disk, SectorDisk):
                disk.plan.disarm()

    def strike(self, fault: Fault, member: SimulatedMember) -> bool:
        """Do it. False if nothing came of it, or if it is only armed: then it is counted when it strikes."""
        if fault.kind in DAMAGING:
            if not self._atlas:
                return False
            member = self._members[self._atlas[fault.amount % len(self._atlas)]]
        disk = member.disk
        assert isinstance(disk, SectorDisk)
        match fault.kind:
            case "power_cut":
                if member.up:
                    disk.plan.operations_to_power_cut = fault.amount % 50
                return False
            case "power_cut_all":
                for other in self._members.values():
                    assert isinstance(other.disk, SectorDisk)
                    other.disk.cut_power()
                crashed = [self._crash(other, fault.duration_ms) for other in self._members.values()]
                return any(crashed)
            case "disk_full":
                disk.plan.full = True
                self._context.scheduler.after(fault.duration_ms * 1000, self._give_space, disk)
                return member.up
            case "swap":
                return self._swap(fault, member, disk)
            case _:
                return self._damage(fault, member, disk)

    def is_full(self, member: SimulatedMember) -> bool:
        """Whether a server's disk refuses every write."""
        return isinstance(member.disk, SectorDisk) and member.disk.plan.full

    def count_strikes(self) -> None:
        """At the end of a run: how often a sync lied or a write went astray, of all that were to."""
        for member in self._members.values():
            if isinstance(member.disk, SectorDisk):
                self._context.faults.update(member.disk.plan.struck)

    def _give_space(self, disk: SectorDisk) -> None:
        disk.plan.full = False

    def _damage(self, fault: Fault, member: SimulatedMember, disk: SectorDisk) -> bool:
        if disk.swapped_with:
            return False
        device = self._device(fault, disk)
        # A watermark that was not written back proves nothing. What the disk then forgot as a whole, only the peers
        # can tell (tests/cluster, `kvraft/member/peer_memory.py`).
        device.keeps_watermark = True
        match fault.kind:
            case "flip":
                page = _page(device, fault.amount)
                device.flip(page, fault.amount * 7919 % device.used_bits(page))
            case "unreadable":
                device.make_unreadable(_page(device, fault.amount))
            case "astray" | "lie":
                if not member.up:
                    return False
                disk.plan.write_goes_astray = fault.kind == "astray"
                disk.plan.sync_lies = fault.kind == "lie"
            case _:
                if member.up:
                    self._crash(member, fault.duration_ms)
                if not device.roll_back_newest_meta():
                    return False
        disk.hurt = f"{disk.hurt}, {fault.kind}" if disk.hurt else fault.kind
        return fault.kind not in {"astray", "lie"}

    def _device(self, fault: Fault, disk: SectorDisk) -> Device:
        paths = sorted(disk.volume.devices)
        return disk.volume.devices[paths[fault.amount // 3 % len(paths)]]

    def _swap(self, fault: Fault, member: SimulatedMember, disk: SectorDisk) -> bool:
        others = [other for other in self._members.values() if other is not member]
        if not others or self._swapped:
            return False
        other = others[fault.amount % len(others)]
        assert isinstance(other.disk, SectorDisk)
        for each in (member, other):
            self._crash(each, fault.duration_ms // 2)
        disk.swap_with(other.disk, member.server_id, other.server_id)
        self._swapped.append((disk, other.disk))
        self._context.scheduler.after(fault.duration_ms * 1000, self._end_swap, disk, other.disk, member, other)
        return True

    def _end_swap(self, one: SectorDisk, other: SectorDisk, *members: SimulatedMember) -> None:
        if (one, other) in self._swapped:
            self._swap_back(one, other)
            for member in members:
                self._restart(member)

    def _swap_back(self, one: SectorDisk, other: SectorDisk) -> None:
        self._swapped.remove((one, other))
        one.swap_with(other, 0, 0)


def _page(device: Device, choice: int) -> int:
    """Mostly a page that the newest commit reaches."""
    pages = range(device.pages)
    try:
        live = SectorFile.examine(device).live_pages() if choice % 4 else []
    except StorageError:
        live = []
    return live[choice // 4 % len(live)] if live else pages[choice // 4 % len(pages)]
