"""A process that writes until it is killed: started by the crash tests, reports on stdout what became durable.

Each line is written after the fact, so whatever the parent has read must be there afterwards:
`entry <index>`, `state <index>`, `failed <reason>`, and `late <index>` for an acknowledgement after a failure.
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from kvraft.founding import Identity
from kvraft.raft.effects import HardState
from kvraft.raft.restored import LogPosition
from kvraft.storage import failpoints
from kvraft.storage.codec import position_of
from kvraft.storage.errors import StorageError
from kvraft.storage.opening import Storage, open_storage
from tests.storage.support import (
    CONFIGURATION,
    IDENTITY,
    NO_SUPPLY,
    ORIGIN,
    SMALL_MAP_BYTES,
    batch,
    changes,
    entries_after,
)

ENTRIES_MAX = 20_000
FAILED_EXIT = 3


def open_small(path: Path, identity: Identity = IDENTITY, *, wal_dir: Path | None = None, rebuild: str = "") -> Storage:
    """The data directory, with maps that suit many processes at once, and holes in place of free pages at any time."""
    return open_storage(
        path,
        identity,
        CONFIGURATION,
        wal_dir=wal_dir,
        rebuild=rebuild,
        log_map_bytes=SMALL_MAP_BYTES,
        state_map_bytes=SMALL_MAP_BYTES,
        supply=NO_SUPPLY,
    )


def report(word: str, fact: object) -> None:
    """One line, in one write, so that a kill leaves whole lines."""
    os.write(1, f"{word} {fact}\n".encode())


class Writer:
    """Writes batches, flushes and compactions, chosen by a seeded generator; the content follows from the index."""

    def __init__(self, storage: Storage, seed: int, entries_max: int) -> None:
        self.storage = storage
        self.random = random.Random(seed)
        self.entries_max = entries_max
        self.position = storage.log.restored().last
        self.flushed = self.flushing = storage.state.position
        self.acknowledged = self.position
        self.ends: dict[int, LogPosition] = {}
        self.batch_id = 0
        self.failed = False
        self.changed = asyncio.Event()

    def on_persisted(self, batch_id: int) -> None:
        self.acknowledged = self.ends.pop(batch_id)
        report("late" if self.failed else "entry", self.acknowledged.index)
        self.changed.set()

    def on_failure(self, error: StorageError) -> None:
        self.failed = True
        report("failed", error)
        self.changed.set()

    def on_flushed(self, position: LogPosition) -> None:
        self.flushed = position
        report("state", position.index)

    def step(self) -> None:
        """Queue one batch, and now and then a flush and a compaction."""
        log, state = self.storage.log, self.storage.state
        self.batch_id += 1
        entries = entries_after(self.position, self.random.randint(1, 30), payload=b"p" * 200)
        self.position = position_of(entries[-1])
        self.ends[self.batch_id] = self.position
        log.persist(batch(self.batch_id, entries, hard_state=HardState(1, 0xA1, self.acknowledged.index)))
        if self.random.random() < 0.2 and self.acknowledged.index > self.flushing.index:
            index = self.acknowledged.index
            self.flushing = self.acknowledged
            nodes = dict.fromkeys(range(1, 20), b"%d" % index)
            state.flush(self.acknowledged, b"", changes(nodes, {index: b"event"}, meta=b"%d" % index), self.on_flushed)
        if self.random.random() < 0.1:
            log.compact(self.flushed)

    async def run(self) -> int:
        """Until the end, or three batches beyond a failure."""
        self.storage.start(asyncio.get_running_loop(), self.on_persisted, self.on_failure)
        beyond = 0
        while self.position.index < self.entries_max and beyond < 3:
            if self.failed:
                beyond += 1
            while len(self.ends) < 4:
                self.step()
                if self.failed:
                    break
            self.changed.clear()
            if not self.failed:
                await self.changed.wait()
        self.storage.close()
        await asyncio.sleep(0)
        return FAILED_EXIT if self.failed else 0


async def install(storage: Storage, kill_at: str) -> int:
    """Install the snapshot that lies in the spool, and be killed on the way."""
    done = asyncio.Event()
    storage.start(asyncio.get_running_loop(), lambda _: None, lambda error: report("failed", error))
    if kill_at != "nowhere":
        failpoints.register(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
    (path,) = storage.directory.spool_path.glob("*.snapshot")
    snapshot_id = path.stem
    incoming = storage.state.spool.receive(snapshot_id, path.stat().st_size)
    incoming.write(0, path.read_bytes())
    storage.state.install_snapshot(incoming.finish().installation(3), done.set)
    await done.wait()
    report("entry", storage.state.position.index)
    storage.close()
    return 0


def main() -> int:
    """`child.py write DIR SEED[/ENTRIES]`, `child.py install DIR FAILPOINT` or `child.py hold DIR`."""
    doing, path, argument = sys.argv[1:]
    try:
        storage = open_small(Path(path))
    except StorageError as error:
        report("refused", error)
        return 1
    report("opened", storage.log.restored().last.index)
    if doing == "write":
        seed, _, entries_max = argument.partition("/")
        return asyncio.run(Writer(storage, int(seed), int(entries_max or ENTRIES_MAX)).run())
    if doing == "install":
        return asyncio.run(install(storage, argument))
    sys.stdin.read()
    storage.close()
    return 0


if __name__ == "__main__":
    assert LogPosition() == ORIGIN
    sys.exit(main())
