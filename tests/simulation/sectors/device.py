"""A block device of 4 KiB pages in 512-byte sectors, with the ways in which disks fail.

A write goes to the system's cache; `sync` brings it to the platter. A power cut decides for each sector that was
written and not synced whether it is there, is not, or is half there, in no order (ALICE, OSDI'14). A sector is the unit
that a disk writes as a whole or not at all, which LMDB relies on for its meta pages; so tearing inside a sector is
for data pages alone.
"""

import errno
import random as random_module
from collections import Counter
from typing import Final, final

PAGE_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
ZEROS: Final = bytes(PAGE_BYTES)

_WRITEBACK: Final = 1 / 16
"""How often the system brings a watermark, which nobody syncs, to the platter of its own accord."""


class PowerCut(BaseException):
    """The power has failed in the middle of a disk operation."""


@final
class FaultPlan:
    """What will go wrong with the devices of one server. Shared by them."""

    def __init__(self, random: random_module.Random) -> None:
        self.random: Final = random
        self.operations_to_power_cut = -1
        """The power fails before this many more operations have begun; negative: it does not."""
        self.sync_fails = False
        """The next sync answers EIO, once. What it covered is clean in the cache and partly not on the platter."""
        self.full = False
        """Every write answers ENOSPC."""
        self.sync_lies = False
        """The next sync says that all is well and stores nothing."""
        self.write_goes_astray = False
        """At the next sync one page lands in the place of another."""
        self.operations = 0
        self.struck: Final[Counter[str]] = Counter()
        """How often a sync lied (`lie`) and a page went `astray`."""

    def disarm(self) -> None:
        """Nothing will go wrong any more."""
        self.operations_to_power_cut = -1
        self.full = self.sync_fails = self.sync_lies = self.write_goes_astray = False

    def operation(self) -> None:
        """Before each operation.

        Raises:
            PowerCut: it does not take place, and nothing after it.
        """
        self.operations += 1
        if self.operations_to_power_cut >= 0:
            if self.operations_to_power_cut == 0:
                self.operations_to_power_cut = -1
                raise PowerCut
            self.operations_to_power_cut -= 1


@final
class Device:
    """The blocks of one data file, and the watermark file beside it."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan: Final = plan
        self._platter: dict[int, bytes] = {}
        self._unsynced: dict[int, bytes] = {}
        """Written, in order, and still to be synced."""
        self._shown: dict[int, bytes] = {}
        """Pages that the cache shows while the platter has something else: a failed, lying or misdirected write."""
        self._unreadable: set[int] = set()
        self._newest_meta = 0
        self._replaced_meta = ZEROS
        """What the last write of a meta page has replaced."""
        self._watermark = b""
        self._watermark_on_platter = b""
        self._watermark_is_newest = True
        """Whether it is that of the last commit whose watermark was written."""
        self.keeps_watermark = False
        """No power cut loses it: the system writes it back in time."""
        self.pages = 2
        """Length of the file."""
        self.version = 0
        """Grows when something other than a write has changed what a read finds."""

    # What the file above does.

    def read(self, page: int) -> bytes:
        """A page as the cache has it.

        Raises:
            OSError: it is unreadable.
        """
        held = self._unsynced.get(page) or self._shown.get(page)
        if held is not None:
            return held
        if page in self._unreadable:
            raise OSError(errno.EIO, f"page {page} cannot be read")
        return self._platter.get(page, ZEROS)

    def write(self, page: int, content: bytes) -> None:
        """Write a page into the cache.

        Raises:
            OSError: the disk is full.
            PowerCut: it was not written.
        """
        self._plan.operation()
        if self._plan.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self._unsynced[page] = content
        self._shown.pop(page, None)
        self.pages = max(self.pages, page + 1)

    def sync(self) -> None:
        """Bring what is written to the platter.

        Raises:
            OSError: it is not known what of it is there, and the next sync will not say either (ATC'20).
            PowerCut: it has not begun.
        """
        plan = self._plan
        plan.operation()
        unsynced, self._unsynced = self._unsynced, {}
        if plan.sync_lies:
            plan.sync_lies = False
            plan.struck["lie"] += 1
            self._shown.update(unsynced)
        elif plan.sync_fails:
            plan.sync_fails = False
            for page, content in unsynced.items():
                if plan.random.random() < 0.5:
                    self._store(page, content)
                else:
                    self._shown[page] = content
            raise OSError(errno.EIO, "input/output error")
        elif plan.write_goes_astray and unsynced:
            plan.write_goes_astray = False
            plan.struck["astray"] += 1
            astray = plan.random.choice([*unsynced])
            for page, content in unsynced.items():
                if page != astray:
                    self._store(page, content)
            self._store(plan.random.randrange(2, self.pages), unsynced[astray])
            self._shown[astray] = unsynced[astray]
            self.version += 1
        else:
            self._platter.update(unsynced)
            if self._unreadable:
                self._unreadable.difference_update(unsynced)

    def write_meta(self, page: int, content: bytes) -> None:
        """Write the first sector of a meta page, durably (LMDB uses O_DSYNC)."""
        self._plan.operation()
        self._newest_meta, self._replaced_meta = page, self._platter.get(page, ZEROS)
        self._store(page, content.ljust(PAGE_BYTES, b"\0"))

    def write_watermark(self, content: bytes) -> None:
        """Write the watermark file, which is never synced."""
        self._plan.operation()
        self._watermark = content
        self._watermark_is_newest = True
        if self._plan.random.random() < _WRITEBACK:
            self._watermark_on_platter = content

    def read_watermark(self) -> bytes:
        """The watermark as the cache has it."""
        return self._watermark

    def sync_watermark(self) -> None:
        """Make it durable (when the environment is created)."""
        self._watermark_on_platter = self._watermark

    # What happens to it.

    def power_cut(self) -> bool:
        """The machine lost its power. True if something that was written is not there, or only half."""
        random = self._plan.random
        damaged = False
        for page, content in self._unsynced.items():
            stored = self._torn(self._platter.get(page, ZEROS), content)
            damaged |= stored != content
            self._store(page, stored)
        self._unsynced.clear()
        self._shown.clear()
        if not self.keeps_watermark and random.random() < 0.5:
            self._watermark_is_newest &= self._watermark == self._watermark_on_platter
            self._watermark = self._watermark_on_platter
        self._watermark_on_platter = self._watermark
        self.version += 1
        return damaged

    def kill(self) -> None:
        """The process died; the system goes on and stores what was written."""
        for page, content in self._unsynced.items():
            self._store(page, content)
        self._unsynced.clear()
        self._shown.clear()
        self._watermark_on_platter = self._watermark
        self.version += 1

    def flip(self, page: int, bit: int) -> None:
        """A bit changes at rest."""
        content = bytearray(self._platter.get(page, ZEROS))
        content[bit // 8 % PAGE_BYTES] ^= 1 << bit % 8
        self._platter[page] = bytes(content)
        self.version += 1

    def used_bits(self, page: int) -> int:
        """Up to the last one that is set; all of an empty page."""
        return 8 * (len(self._platter.get(page, ZEROS).rstrip(b"\0")) or PAGE_BYTES)

    def make_unreadable(self, page: int) -> None:
        """A latent error: the next read that misses the cache fails, until the page is written again."""
        self._unreadable.add(page)
        self.version += 1

    def roll_back_newest_meta(self) -> bool:
        """The meta page written last is again what it was before: the disk lost that write, long after it.

        Not if a power cut has taken the watermark of that commit: then nothing on this disk could tell. False then.
        """
        if not self._watermark_is_newest:
            return False
        self._platter[self._newest_meta] = self._replaced_meta
        self.version += 1
        return True

    def _store(self, page: int, content: bytes) -> None:
        self._platter[page] = content
        self._unreadable.discard(page)

    def _torn(self, old: bytes, new: bytes) -> bytes:
        """Each sector is the old one, the new one, or the beginning of the new one with the end of the old one."""
        random = self._plan.random
        sectors = []
        for start in range(0, PAGE_BYTES, SECTOR_BYTES):
            fate = random.random()
            at = start + (
                SECTOR_BYTES if fate < 0.45 else 0 if fate < 0.9 else 1 + int(random.random() * (SECTOR_BYTES - 1))
            )
            sectors.append(new[start:at] + old[at : start + SECTOR_BYTES])
        return b"".join(sectors)
