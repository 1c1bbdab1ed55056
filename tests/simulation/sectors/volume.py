"""The data directory of one simulated server: its devices, and the product's stores on them, without threads."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, cast, final

from kvraft.founding import Identity
from kvraft.raft.configuration import Configuration
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError, StorageError
from kvraft.storage.interfaces import OpenFile
from kvraft.storage.log_store import LogStore
from kvraft.storage.opening import create_stores, open_stores
from kvraft.storage.spool import Spool
from kvraft.storage.state_store import StateStore
from kvraft.storage.writer import FailureLatch
from tests.simulation.scheduler import Scheduler
from tests.simulation.sectors.device import Device, FaultPlan
from tests.simulation.sectors.paged_file import SectorFile

CLUSTER_ID: Final = 0x5EC7

T = TypeVar("T")


class VirtualLoop:
    """The few calls of an event loop that the stores make. What is called soon is called at once."""

    def __init__(self, scheduler: Scheduler, after_timer: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._after_timer = after_timer

    def call_soon(self, callback: Callable[[T], None], fact: T) -> None:
        callback(fact)

    call_soon_threadsafe = call_soon

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "VirtualTimer":
        timer = VirtualTimer(callback, self._after_timer)
        self._scheduler.after(int(delay_s * 1_000_000), timer.fire)
        return timer


@final
class VirtualTimer:
    """A timer in virtual time."""

    def __init__(self, callback: Callable[[], None], afterwards: Callable[[], None]) -> None:
        self._callback = callback
        self._afterwards = afterwards
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def fire(self) -> None:
        """The time has come."""
        if not self._cancelled:
            self._callback()
            self._afterwards()


@final
class JobsAtOnce:
    """The state's thread: a job is done when it is submitted, and fails as on a thread."""

    def __init__(self, latch: FailureLatch) -> None:
        self._latch = latch

    def submit(self, doing: str, job: Callable[[], None]) -> None:
        if self._latch.failure is None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 -- as `StorageThread` has it
                self._latch.report(doing, error)

    def finish(self) -> None:
        """Nothing is queued."""


class _NoSpool:
    """Snapshots are handed over in memory, and nobody asks for a backup."""

    directory: Final = Path("no spool")
    """Nothing is ever there."""

    def remove(self, snapshot_id: str) -> None:
        """There is no file."""


@final
class Stores:
    """What is open of a volume."""

    def __init__(self, log: LogStore, state: StateStore, latch: FailureLatch) -> None:
        self.log = log
        self.state = state
        self.latch = latch

    def files(self) -> list[SectorFile]:
        """Both environments."""
        return [cast("SectorFile", self.log._file), cast("SectorFile", self.state._written.file)]


@final
class Volume:
    """Satisfies `Directory` of the product's storage."""

    def __init__(self, plan: FaultPlan, server_id: int, configuration: Configuration) -> None:
        self.plan: Final = plan
        self.devices: dict[Path, Device] = {}
        self._root: Final = Path("/simulated") / str(server_id)
        self._identity: Final = Identity(CLUSTER_ID, server_id, f"n{server_id}")
        create_stores(self, self._identity, configuration, cast("OpenFile", self._open_file))

    @property
    def log_path(self) -> Path:
        return self._root / "log"

    @property
    def spool_path(self) -> Path:
        return self._root / "spool"

    def free_bytes(self) -> int:
        """Nobody asks: there is no spool."""
        return 0

    def state_path(self, generation: int) -> Path:
        return self._root / f"state-{generation}"

    def remove_other_states(self, generation: int) -> None:
        for path in [*self.devices]:
            if path not in (self.log_path, self.state_path(generation)):
                del self.devices[path]

    def _open_file(self, path: Path, _databases: int, create: bool) -> SectorFile:
        if create:
            self.devices[path] = Device(self.plan)
        elif path not in self.devices:
            raise CorruptStorageError(f"{path} is missing; {REMEDY}")
        return SectorFile(path, self.devices[path], create=create)

    def open(
        self,
        loop: VirtualLoop,
        on_persisted: Callable[[int], None],
        on_failure: Callable[[StorageError], None],
    ) -> Stores:
        """Open the stores as a starting member does.

        Raises:
            StorageError: the disk is not as it was left.
            PowerCut: while something was tidied up.
        """
        opened = open_stores(
            self, self._identity, cast("OpenFile", self._open_file), lambda _directory: cast("Spool", _NoSpool())
        )
        log, state, latch = opened
        virtual = cast("asyncio.AbstractEventLoop", loop)
        latch.bind(virtual, on_failure)
        log.start(virtual, on_persisted, own_thread=False)
        state.start(JobsAtOnce(latch))
        log.work_off()
        return Stores(log, state, latch)

    def wipe(self, configuration: Configuration) -> None:
        """New devices, for a member that gets everything back from the others."""
        self.devices.clear()
        create_stores(self, self._identity, configuration, cast("OpenFile", self._open_file), rebuilding=True)

    def swap_with(self, other: "Volume") -> None:
        """The disks of two servers change places."""
        mine = {path.name: device for path, device in self.devices.items()}
        theirs = {path.name: device for path, device in other.devices.items()}
        self.devices = {self._root / name: device for name, device in theirs.items()}
        other.devices = {other._root / name: device for name, device in mine.items()}

    def power_cut(self) -> bool:
        """True if something that was being written is not there as it should be."""
        damaged = [device.power_cut() for device in self.devices.values()]
        return any(damaged)

    def kill(self) -> None:
        for device in self.devices.values():
            device.kill()
