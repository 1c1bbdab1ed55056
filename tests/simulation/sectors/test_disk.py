"""The two disks of the simulator: the same run on both, and what the one with sectors detects."""

import dataclasses

import pytest

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.storage.errors import StorageError, WrongDirectoryError
from tests.simulation.campaign import seeds_of
from tests.simulation.checkers import Violation
from tests.simulation.disk import StoredState
from tests.simulation.faults import draw_schedule
from tests.simulation.options import draw_options
from tests.simulation.scheduler import DiskStopError, Scheduler
from tests.simulation.sectors.disk import SectorDisk
from tests.simulation.streams import stream
from tests.simulation.world import World

CONFIGURATION = Configuration.of((1, 2, 3))


def started_disk(scheduler: Scheduler, server_id: int = 1) -> SectorDisk:
    """The disk of a server that runs and has voted in term 7."""
    streams = (stream(1, server_id, "disk"), stream(1, server_id, "sectors"))
    disk = SectorDisk(scheduler, streams[0], 1000, CONFIGURATION, server_id, lambda _state: None, streams[1])
    disk.recover()
    vote(disk, scheduler, 7)
    return disk


def vote(disk: SectorDisk, scheduler: Scheduler, term: int) -> None:
    """A durable vote for server 2."""
    disk.persist(Persist(term, HardState(term, 2, 0), 0, [], must_sync=True))
    scheduler.run_until(scheduler.now_us + 10_000)


@pytest.mark.slow
def test_a_run_without_crashes_is_the_same_on_both_disks() -> None:
    """To the trace hash: the product's storage on sectors does what the record-level model says it does."""
    for seed in seeds_of(1, 4)[2:]:
        options = dataclasses.replace(draw_options(seed), safety_ms=10_000, sectors=False)
        schedule = tuple(
            fault
            for fault in draw_schedule(options)
            if not fault.kind.startswith("crash") and fault.kind != "sync_error"
        )
        worlds = [World(dataclasses.replace(options, sectors=sectors), schedule) for sectors in (False, True)]
        for world in worlds:
            world.play()
        on_records, on_sectors = (world.context for world in worlds)
        assert on_sectors.trace.hexdigest() == on_records.trace.hexdigest()
        assert on_sectors.checkers.committed_index == on_records.checkers.committed_index > 0


def test_what_was_durable_is_recovered() -> None:
    """A vote, after a crash of the process or of the machine."""
    scheduler = Scheduler()
    disk = started_disk(scheduler)
    for term in range(8, 20):
        disk.crash()
        assert disk.recover().hard_state.current_term == term - 1
        vote(disk, scheduler, term)


def test_disk_of_another_server_is_refused() -> None:
    """By the identity in both environments."""
    scheduler = Scheduler()
    one, other = started_disk(scheduler), started_disk(scheduler, 2)
    for disk in (one, other):
        disk.crash()
    one.swap_with(other, 1, 2)
    for disk in (one, other):
        with pytest.raises(WrongDirectoryError, match="belongs to member"):
            disk.recover()
    one.swap_with(other, 0, 0)
    assert one.recover().hard_state.voted_for == other.recover().hard_state.voted_for == 2


def test_damage_is_refused_if_there_is_some_and_reported_if_there_is_none() -> None:
    """A server that stops because of its disk is right only if somebody has hurt it."""
    scheduler = Scheduler()
    disk = started_disk(scheduler)
    disk.crash()
    device = disk.volume.devices[disk.volume.log_path]
    for page in range(2, device.pages):
        device.flip(page, 100)
    with pytest.raises(Violation, match="I15"):
        disk.recover()
    disk.hurt = "flip"
    with pytest.raises(StorageError):
        disk.recover()


def test_amnesia_is_reported() -> None:
    """A disk that starts with less than was acknowledged is found out by the model beside it."""
    scheduler = Scheduler()
    disk = started_disk(scheduler)
    disk.crash()
    disk.hard_state = HardState(8, 3, 0)
    with pytest.raises(Violation, match="I16: server 1 starts with another term or vote"):
        disk.recover()


def test_power_that_fails_inside_a_commit_leaves_all_of_it_or_nothing() -> None:
    """At every operation of it, and both outcomes occur."""
    found = set()
    for operations in range(8):
        scheduler = Scheduler()
        stops: list[DiskStopError] = []
        scheduler.on_disk_stop = stops.append
        disk = started_disk(scheduler)
        disk.plan.operations_to_power_cut = operations
        vote(disk, scheduler, 8)
        disk.crash()
        term = disk.recover().hard_state.current_term
        assert len(stops) == (operations < 5)
        found.add(term)
    assert found == {7, 8}


def test_failed_sync_ends_the_server_and_loses_what_it_covered() -> None:
    """Nothing is retried; the restart finds what was durable before."""
    scheduler = Scheduler()
    disk = started_disk(scheduler)
    failures: list[None] = []
    disk.on_failure = lambda: failures.append(None)
    disk.fails_next = True
    vote(disk, scheduler, 8)
    assert len(failures) == 1
    disk.crash()
    assert disk.recover().hard_state.current_term == 7


def test_snapshot_is_read_from_the_sectors() -> None:
    """And not from the model: damage must not be sent to others."""
    scheduler = Scheduler()
    disk = started_disk(scheduler)
    assert disk.snapshot() == disk.state
    disk.state = StoredState(disk.state.position, CONFIGURATION, b"something else")
    assert disk.snapshot() != disk.state
