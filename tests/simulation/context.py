"""What the parts of one simulated world share."""

from collections import Counter
from dataclasses import dataclass, field
from typing import final

from kvraft.keyspace.commands import Command
from tests.simulation.checkers import Checkers
from tests.simulation.history import History
from tests.simulation.machine import MachineFactory
from tests.simulation.network import Network
from tests.simulation.options import Options
from tests.simulation.scheduler import Scheduler
from tests.simulation.trace import Trace


@final
@dataclass(slots=True)
class Context:
    """One world's clock, wires, judges and books."""

    options: Options
    scheduler: Scheduler
    trace: Trace
    network: Network
    checkers: Checkers
    history: History
    machine_factory: MachineFactory
    commands: dict[bytes, Command]
    """Every command that a client ever sent, by request id."""
    users: dict[bytes, str]
    """Who asked for it, by request id."""
    reached: Counter[str]
    """How often each rare state was reached."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each fault struck."""
    appended_us: dict[tuple[int, int], int] = field(default_factory=dict)
    """When the entry of each (index, term) first stood in a log."""

    def reach(self, state: str) -> None:
        """Count a rare state."""
        self.reached[state] += 1


@final
class Clock:
    """One server's monotonic clock: starts anywhere, runs a little fast or slow."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._base_us = 0
        self._local_base_us = 0
        self._rate_per_mille = 1000

    def restart(self, local_ms: int) -> None:
        """The machine booted: its clock shows something new."""
        self._base_us = self._scheduler.now_us
        self._local_base_us = local_ms * 1000

    def set_rate(self, rate_per_mille: int) -> bool:
        """Run at this rate from now on; 1000 is true. Whether that is another one than before."""
        changes = rate_per_mille != self._rate_per_mille
        self._local_base_us = self._local_us()
        self._base_us = self._scheduler.now_us
        self._rate_per_mille = rate_per_mille
        return changes

    def _local_us(self) -> int:
        return self._local_base_us + (self._scheduler.now_us - self._base_us) * self._rate_per_mille // 1000

    def now_ms(self) -> int:
        """What the server's clock shows."""
        return self._local_us() // 1000

    def when_us(self, local_ms: int) -> int:
        """Virtual time at which the server's clock will show `local_ms`."""
        return self._base_us + -(-(local_ms * 1000 - self._local_base_us) * 1000 // self._rate_per_mille)
