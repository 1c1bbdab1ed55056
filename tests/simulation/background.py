"""The campaign of `make conformance`, computed while the conformance tests wait for disks, timers and elections.

It runs in processes of its own under SCHED_IDLE: they take what nobody else wants, and a test that wakes up never
queues behind them. Before the first test of the cluster tier it has ended, as those measure time.
"""

import os
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, final

import pytest

from kvraft.testing import leash
from tests.simulation.campaign import Totals, run_many, seeds_of
from tests.simulation.options import draw_options

MASTER_SEED: Final = 1
SEEDS: Final = 300
_ROOT: Final = Path(__file__).parents[2]


def waits_for_campaign(item: pytest.Item) -> bool:
    """Whether a test uses the fixture `campaign`."""
    return isinstance(item, pytest.Function) and "campaign" in item.fixturenames


def begin_campaign(session: pytest.Session) -> None:
    """Start the campaign if a test waits for it and it has not begun."""
    if CAMPAIGN not in session.config.stash and any(map(waits_for_campaign, session.items)):
        session.config.stash[CAMPAIGN] = BackgroundCampaign(MASTER_SEED, SEEDS)


@final
class BackgroundCampaign:
    """A campaign under way."""

    def __init__(self, master_seed: int, seeds: int) -> None:
        reading, writing = os.pipe()
        self._results: Final = Connection(reading, writable=False)
        with Connection(writing, readable=False) as results:
            self._process: Final = subprocess.Popen(
                [sys.executable, "-m", __name__, str(master_seed), str(seeds), str(results.fileno())],
                cwd=_ROOT,
                pass_fds=[results.fileno()],
                start_new_session=True,
            )
        leash.hold(self._process.pid)

    def totals(self) -> Totals:
        """Wait for its end.

        Raises:
            EOFError: it ended without a result; what it printed says why.
        """
        totals = self._results.recv()
        assert isinstance(totals, Totals)
        return totals

    def close(self) -> None:
        """Kill what is left of it."""
        leash.kill_group(self._process.pid)
        self._process.wait()
        leash.let_go(self._process.pid)
        self._results.close()


CAMPAIGN: Final = pytest.StashKey[BackgroundCampaign]()
"""Where the run keeps it."""


def _weight(seed: int) -> int:
    """Roughly how long a seed takes, so that no process still has a long one when the others have ended."""
    options = draw_options(seed)
    return len(options.server_ids) * options.operations_per_second


def main(master_seed: int, seeds: int, results: int) -> None:
    """Run the seeds that a master seed stands for on all cores, the longest first, and send the totals."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    totals = run_many(sorted(seeds_of(master_seed, seeds), key=_weight, reverse=True))
    with Connection(results, readable=False) as connection:
        connection.send(totals)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
