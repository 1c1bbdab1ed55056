"""What the tests of the simulator share: garbage is collected seldom, and the campaign runs beside other tests."""

import gc
from collections.abc import Iterator

import pytest

from tests.simulation.background import CAMPAIGN
from tests.simulation.campaign import Totals
from tests.simulation.processes import collect_seldom


def pytest_unconfigure(config: pytest.Config) -> None:
    """A run that is interrupted leaves nothing behind."""
    if (campaign := config.stash.get(CAMPAIGN, None)) is not None:
        campaign.close()


@pytest.fixture
def campaign(pytestconfig: pytest.Config) -> Totals:
    """What `SEEDS` seeds came to."""
    return pytestconfig.stash[CAMPAIGN].totals()


@pytest.fixture(autouse=True, scope="package")
def _little_garbage() -> Iterator[None]:
    """As in a process of a campaign."""
    threshold = gc.get_threshold()
    collect_seldom()
    yield
    gc.set_threshold(*threshold)
