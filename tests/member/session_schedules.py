"""Sessions that break again and again under writes: `python -m tests.member.session_schedules --seeds 1000`.

As in `schedules.py`, with nothing but broken connections, one of two or the only one, slow links and changes of the
leader, and frames of a session that has broken may still arrive behind those of the next one. Logs are long enough that
nobody needs a snapshot, which tells no client what became of its write. So no write may end without an answer, and none
may be done twice.
"""

import dataclasses
import sys
from typing import final

from tests.member.host import Host
from tests.member.schedules import SETTINGS, Schedule, main


@final
class SessionSchedule(Schedule):
    """One seed's run."""

    faults = (*["reset"] * 5, *["one of two"] * 5, *["slow links"] * 3, "transfer", "heal")
    settings = dataclasses.replace(SETTINGS, snapshot_count=100_000, catch_up_entries=100_000)

    def _found_cluster(self) -> None:
        super()._found_cluster()
        self._network.has_late_frames = True

    def _strike(self, kind: str, host: Host) -> None:
        other = self._rng.choice([each for each in self._ids() if each != host.member_id])
        self._network.end_one_of_two(frozenset((host.member_id, other)))

    def _check(self) -> None:
        super()._check()
        unknown = self.tally["writes unknown"]
        if unknown:
            self._found.append(f"{unknown} writes have no answer")


if __name__ == "__main__":
    sys.exit(main(SessionSchedule, "session_schedules"))
