"""Members that come and go on disks that fill up and fail: `python -m tests.member.disk_schedules --seeds 1000`.

As in `membership_schedules.py`; beside its faults a disk has no room for a while, for clients' writes or for anything,
and one fails under a process, which has to stop at once, so that what it said until then is true of that disk.
"""

import asyncio
import sys
from typing import Final, final

from tests.member.host import PLENTY_BYTES, Host, Run
from tests.member.membership_schedules import MembershipSchedule
from tests.member.schedules import main

FREE_BYTES: Final = (0, 80 << 20, PLENTY_BYTES)
"""Too little for anything, for clients' writes, and for nothing (`kvraft/member/disk_watch.py`)."""


@final
class DiskSchedule(MembershipSchedule):
    """One seed's run."""

    faults = (*MembershipSchedule.faults, *["disk room"] * 3, *["disk error"] * 2)

    def _found_cluster(self) -> None:
        super()._found_cluster()
        self._repaired: list[asyncio.Task[None]] = []

    def _strike(self, kind: str, host: Host) -> None:
        if kind == "disk room":
            host.free_bytes = self._rng.choice(FREE_BYTES)
        elif kind == "disk error" and host.run is not None and not host.run.stopping:
            host.run.fail()
            self._repaired.append(asyncio.get_running_loop().create_task(self._repair(host, host.run)))
        else:
            super()._strike(kind, host)

    async def _repair(self, host: Host, failed: Run) -> None:
        """Its process must have ended by itself; another one is started on the disk as it is."""
        await asyncio.sleep(self._rng.uniform(1.0, 3.0))
        if failed.alive and not failed.stopping:
            self._found.append(f"member {host.member_id} goes on with a disk that has failed")
        await self._start_later(host, 0.0)

    async def _settle(self) -> None:
        for host in self._hosts:
            host.free_bytes = PLENTY_BYTES
        await asyncio.gather(*self._repaired)
        await super()._settle()


if __name__ == "__main__":
    sys.exit(main(DiskSchedule, "disk_schedules"))
