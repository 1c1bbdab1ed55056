"""A member with its sync switched off: the control that shows what the judge of the kill rounds can see.

    python -m tests.jepsen_like.forgetful_member PYTHON -m kvraft FLAGS...

It acknowledges at once and gives a batch to the disk 300 ms later, so kill -9 is to it what a power cut is to a store
that does not sync: what it acknowledged last is gone. It also forgets what it knew of its peers; otherwise they would
refuse one another after the cut, as members that got an old disk back should.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from kvraft import cli
from kvraft.raft.effects import Persist
from kvraft.storage.log_store import LogStore

DELAY_S: Final = 0.3

_start: Final = LogStore.start
_persist: Final = LogStore.persist


def _ignore(_batch_id: int) -> None:
    """The disk's word comes long after this member has given its own."""


def _unsynced_start(self: LogStore, loop: asyncio.AbstractEventLoop, on_persisted: Callable[[int], None]) -> None:
    _start(self, loop, _ignore)
    _acknowledge[self] = on_persisted


def _unsynced_persist(self: LogStore, batch: Persist) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(_acknowledge[self], batch.batch_id)
    loop.call_later(DELAY_S, _persist, self, batch)


def _unsynced_persist_now(self: LogStore, batch: Persist) -> bool:
    asyncio.get_running_loop().call_later(DELAY_S, _persist, self, batch)
    return True


def _forget_peer(self: LogStore, member_id: int, index: int) -> None:
    """Nothing is remembered."""


_acknowledge: Final[dict[LogStore, Callable[[int], None]]] = {}


def main() -> int:
    """Run kvraft with its log store spoiled; the first words are the command that it stands for."""
    spoiled: dict[str, object] = {
        "start": _unsynced_start,
        "persist": _unsynced_persist,
        "persist_now": _unsynced_persist_now,
        "remember_peer": _forget_peer,
    }
    for name, function in spoiled.items():
        setattr(LogStore, name, function)
    return cli.main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
