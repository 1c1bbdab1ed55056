"""Fixtures for both implementations."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kvraft.storage import failpoints
from tests.storage.support import HARNESSES, Harness, LmdbHarness, refuse_tmpfs


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    """A data directory that does not exist yet, on a real disk."""
    refuse_tmpfs(tmp_path)
    return tmp_path / "n1.kvraft"


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest, data_path: Path) -> AsyncIterator[Harness]:
    """An opened, not yet started storage of either kind."""
    opened = HARNESSES[request.param](data_path)
    yield opened
    opened.crash()


@pytest.fixture
async def lmdb_harness(data_path: Path) -> AsyncIterator[LmdbHarness]:
    """An opened, not yet started data directory."""
    opened = LmdbHarness(data_path)
    yield opened
    opened.crash()


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    """No test leaves a hook behind."""
    yield
    failpoints.clear()
