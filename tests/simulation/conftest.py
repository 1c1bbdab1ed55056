"""What the tests of the simulator share: garbage is collected seldom, and the campaign runs beside all other tests."""

import gc
from collections.abc import Iterator
from typing import Final

import pytest

from tests.simulation.background import MASTER_SEED, SEEDS, BackgroundCampaign, waits_for_campaign
from tests.simulation.campaign import Totals, collect_seldom

_CAMPAIGN: Final = pytest.StashKey[BackgroundCampaign]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the campaign before the first test, if one waits for it."""
    if any(map(waits_for_campaign, session.items)) and not session.config.option.collectonly:
        session.config.stash[_CAMPAIGN] = BackgroundCampaign(MASTER_SEED, SEEDS)


def pytest_unconfigure(config: pytest.Config) -> None:
    """A run that is interrupted leaves nothing behind."""
    if (campaign := config.stash.get(_CAMPAIGN, None)) is not None:
        campaign.close()


@pytest.fixture
def campaign(pytestconfig: pytest.Config) -> Totals:
    """What `SEEDS` seeds came to."""
    return pytestconfig.stash[_CAMPAIGN].totals()


@pytest.fixture(autouse=True, scope="package")
def _little_garbage() -> Iterator[None]:
    """As in a campaign; the processes that these tests fork inherit it."""
    threshold = gc.get_threshold()
    collect_seldom()
    yield
    gc.set_threshold(*threshold)
