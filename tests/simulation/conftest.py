"""What the tests of the simulator share: garbage is collected seldom while they run."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.campaign import collect_seldom


@pytest.fixture(autouse=True, scope="package")
def _little_garbage() -> Iterator[None]:
    """As in a campaign; the processes that these tests fork inherit it."""
    threshold = gc.get_threshold()
    collect_seldom()
    yield
    gc.set_threshold(*threshold)
