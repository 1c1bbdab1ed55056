"""Fixtures for both implementations."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kvraft.storage import failpoints
from tests.storage.example import write_example
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


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example directory, not to be changed."""
    path = tmp_path_factory.mktemp("template") / "n1.kvraft"
    write_example(path)
    return path


@pytest.fixture
def written(template: Path, data_path: Path) -> Path:
    """A copy of the example, to be damaged."""
    shutil.copytree(template, data_path)
    return data_path
