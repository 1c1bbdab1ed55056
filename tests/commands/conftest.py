"""Subcommands run in this process against the API of a memory backend, which is served by a thread."""

import asyncio
import dataclasses
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.commands import main
from kvraft.keyspace.commands import Set
from kvraft.records import BackupCopy
from tests.api_v2.conftest import Served, start
from tests.backup.support import backup_of, old_keyspace

WAIT_S: Final = 30.0


@final
@dataclasses.dataclass(slots=True)
class Ran:
    """How a subcommand ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("member", "list")`, with an environment of its own if need be."""

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        capfd.readouterr()
        exit_code = main.main(arguments, environment or {})
        printed = capfd.readouterr()
        return Ran(exit_code, printed.out, printed.err)

    return run


@final
class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop: Final = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Awaitable[Any]) -> Any:
        """Run something there to its end."""

        async def done() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(WAIT_S)

    def stop(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


@pytest.fixture
def background() -> Iterator[Background]:
    """A loop for whatever a subcommand talks to."""
    made = Background()
    yield made
    made.stop()


@pytest.fixture
def served(background: Background) -> Iterator[Served]:
    """One member's API without Raft and disk."""
    running: Served = background.do(start(ApiSettings(stop_s=5.0)))
    yield running
    background.do(running.server.stop())


def hide(side: Served, directory: Path, *names: bytes) -> None:
    """Its backup has these of the names that no listing shows."""
    content = backup_of(old_keyspace(*map(Set, names)))
    path = directory / f"copy-of-{side.server.ports[0]}"
    path.write_bytes(content)
    copy = BackupCopy(f"28-3-{content[-16:].hex()}", str(path), len(content))
    side.backend.backups.outcome = copy
    side.backend.backups.copies = {copy.copy_id: copy}
