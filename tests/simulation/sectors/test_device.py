"""The device alone: what a sync promises, and what each fault does."""

import itertools
import random

import pytest

from tests.simulation.sectors.device import PAGE_BYTES, SECTOR_BYTES, Device, FaultPlan, PowerCut

OLD = b"o" * PAGE_BYTES
NEW = b"n" * PAGE_BYTES


def device_with(page: int, content: bytes, seed: int = 1) -> Device:
    """A device on which one page is durable."""
    device = Device(FaultPlan(random.Random(seed)))
    device.write(page, content)
    device.sync()
    return device


def plan_of(device: Device) -> FaultPlan:
    return device._plan


def test_what_is_synced_survives_a_power_cut() -> None:
    """A sync moves everything written before it to the platter."""
    for seed in range(20):
        device = device_with(2, NEW, seed)
        assert not device.power_cut()
        assert device.read(2) == NEW


def test_what_is_written_survives_the_death_of_the_process() -> None:
    """SIGKILL loses nothing that a write call has taken."""
    device = device_with(2, OLD)
    device.write(2, NEW)
    device.kill()
    assert device.read(2) == NEW


def test_power_cut_decides_for_each_unsynced_sector_alone() -> None:
    """Each sector is the old one, the new one, or half of each; all three and every mixture of neighbours occur."""
    kinds: set[tuple[str, str]] = set()
    for seed in range(100):
        device = device_with(2, OLD, seed)
        device.write(2, NEW)
        device.power_cut()
        content = device.read(2)
        fates = []
        for start in range(0, PAGE_BYTES, SECTOR_BYTES):
            sector = content[start : start + SECTOR_BYTES]
            new = sector.count(b"n")
            assert sector == b"n" * new + b"o" * (SECTOR_BYTES - new)
            fates.append({0: "lost", SECTOR_BYTES: "kept"}.get(new, "torn"))
        kinds.update(itertools.pairwise(fates))
    assert len(kinds) == 9


def test_power_cut_keeps_no_order_between_pages() -> None:
    """A later page may be there while an earlier one is not, and the other way round."""
    seen = set()
    for seed in range(400):
        device = device_with(2, OLD, seed)
        for page in (2, 3):
            device.write(page, NEW)
        device.power_cut()
        seen.add((device.read(2)[0], device.read(3)[0]))
    assert {(ord("n"), 0), (ord("o"), ord("n"))} <= seen


def test_failed_sync_says_so_once_and_may_have_stored_half() -> None:
    """The pages look written until the process ends; the next sync succeeds without them (ATC'20)."""
    lost = 0
    for seed in range(40):
        device = device_with(2, OLD, seed)
        device.write(2, NEW)
        plan_of(device).sync_fails = True
        with pytest.raises(OSError, match="input/output"):
            device.sync()
        assert device.read(2) == NEW
        device.sync()
        device.power_cut()
        lost += device.read(2) == OLD
    assert 0 < lost < 40


def test_lying_sync_is_found_out_by_a_crash_only() -> None:
    """A disk that says it synced and did not."""
    device = device_with(2, OLD)
    device.write(2, NEW)
    plan_of(device).sync_lies = True
    device.sync()
    assert device.read(2) == NEW
    device.kill()
    assert device.read(2) == OLD


def test_misdirected_write_leaves_the_old_page_and_hits_another() -> None:
    """What was meant for one page lands on another."""
    device = device_with(2, OLD)
    for page in range(3, 9):
        device.write(page, OLD)
    device.sync()
    device.write(5, NEW)
    plan_of(device).write_goes_astray = True
    device.sync()
    device.power_cut()
    assert [device.read(page) for page in range(2, 9)].count(NEW) == 1


def test_unreadable_page_can_be_written_again() -> None:
    """A latent error lasts until the page is stored anew."""
    device = device_with(2, OLD)
    device.make_unreadable(2)
    with pytest.raises(OSError, match="page 2"):
        device.read(2)
    device.write(2, NEW)
    device.sync()
    assert device.read(2) == NEW


def test_flip_changes_one_bit() -> None:
    """And nothing else."""
    device = device_with(2, OLD)
    device.flip(2, 77)
    difference = int.from_bytes(device.read(2), "big") ^ int.from_bytes(OLD, "big")
    assert difference.bit_count() == 1


def test_full_disk_takes_no_write_and_keeps_what_it_has() -> None:
    """ENOSPC until there is space again."""
    device = device_with(2, OLD)
    plan_of(device).full = True
    with pytest.raises(OSError, match="no space"):
        device.write(2, NEW)
    assert device.read(2) == OLD
    plan_of(device).full = False
    device.write(2, NEW)


def test_meta_page_is_rolled_back_to_what_it_was() -> None:
    """The newest meta page only, and by one write only."""
    device = device_with(2, OLD)
    for page, content in ((0, b"first"), (1, b"second"), (0, b"third")):
        device.write_meta(page, content)
    device.roll_back_newest_meta()
    assert device.read(0).startswith(b"first")
    assert device.read(1).startswith(b"second")


def test_power_fails_at_the_operation_that_was_chosen() -> None:
    """The operation does not take place, and the power is back for the next run."""
    device = device_with(2, OLD)
    plan_of(device).operations_to_power_cut = 1
    device.write(3, NEW)
    with pytest.raises(PowerCut):
        device.write(4, NEW)
    device.write(5, NEW)
    assert device.read(4) == bytes(PAGE_BYTES)


def test_watermark_is_lost_as_a_whole_or_not_at_all() -> None:
    """It is one sector that nobody syncs: after a power cut it is one that was written once, whichever."""
    found = set()
    for seed in range(50):
        device = Device(FaultPlan(random.Random(seed)))
        for number in range(10):
            device.write_watermark(b"%d" % number)
        device.power_cut()
        found.add(device.read_watermark())
    assert b"9" in found
    assert len(found) > 2
