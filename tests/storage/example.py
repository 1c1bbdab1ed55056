"""A data directory to be damaged, and what a member would serve from it."""

import asyncio
from pathlib import Path
from typing import Final

from kvraft.raft.effects import HardState
from kvraft.raft.entries import Entry
from kvraft.storage.codec import position_of
from tests.storage.child import open_small
from tests.storage.support import ORIGIN, LmdbHarness, batch, changes, entries_after

PAGE: Final = 4096
NODES: Final = {node: b"record %d" % node * 20 for node in range(1, 200)}
HISTORY: Final = {index: b"event %d" % index for index in range(1, 200)}
ENTRIES: Final = entries_after(ORIGIN, 200, payload=b"p" * 100)
EVERYTHING: Final = (ENTRIES, NODES, HISTORY)


def write_example(path: Path) -> None:
    """A closed data directory with 200 entries, the first 100 of them applied."""

    async def write() -> None:
        harness = LmdbHarness(path)
        harness.start()
        for number in range(20):
            part = ENTRIES[10 * number : 10 * number + 10]
            await harness.persist(batch(number + 1, part, hard_state=HardState(1, 0xA1, 100)))
        await harness.flush(position_of(ENTRIES[99]), changes(NODES, HISTORY))
        harness.storage.close()

    asyncio.run(write())


def read_everything(path: Path) -> tuple[list[Entry], dict[int, bytes], dict[int, bytes]]:
    """What a member would serve from this directory."""
    storage = open_small(path)
    try:
        restored = storage.log.restored()
        assert restored.hard_state == HardState(1, 0xA1, 100)
        after = None
        while (after := storage.log.scrub(after, 30)) is not None:
            pass
        image = storage.state.load()
        nodes = {int.from_bytes(key, "big"): record for key, record in image.nodes}
        history = {int.from_bytes(key, "big"): record for key, record in image.history}
        return storage.log.slice(1, restored.last.index, 1 << 40), nodes, history
    finally:
        storage.close()


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def newest_meta_page(path: Path) -> int:
    """0 or 1."""
    content = path.read_bytes()[: 2 * PAGE]
    numbers = [int.from_bytes(content[page * PAGE + 144 : page * PAGE + 152], "little") for page in (0, 1)]
    return numbers.index(max(numbers))
