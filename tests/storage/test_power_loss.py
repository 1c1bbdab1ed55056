"""Whatever a disk keeps of the writes that were not synced, nothing acknowledged is lost."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.child import open_small
from tests.storage.power_loss import Event, images, read_trace, tracing
from tests.storage.processes import Outcome, check_left_behind, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A directory as it was before a child wrote 300 entries to it, and what the child did."""
    path = tmp_path_factory.mktemp("power") / "n1.kvraft"
    open_small(path).close()
    before = path.with_name("before")
    shutil.copytree(path, before)
    output = path.with_name("trace")
    outcome = run("write", path, "7/300", trace=tracing(output))
    assert outcome.exit_code == 0
    assert outcome.acknowledged >= 300
    events = read_trace(output, path)
    assert max(event.index for event in events if event.kind == "acknowledged") == outcome.acknowledged
    shutil.rmtree(path)
    before.rename(path)
    return path, events


def _check(path: Path, traced: tuple[Path, list[Event]], seed: int, count: int) -> None:
    before, events = traced
    for number, (moment, acknowledged) in enumerate(itertools.islice(images(before, events, path, seed), count)):
        try:
            check_left_behind(path, Outcome(acknowledged=acknowledged))
        except Exception as error:
            raise AssertionError(f"power loss after {moment} events, image {number} of seed {seed}") from error


def test_power_loss_at_any_moment_loses_nothing_acknowledged(traced: tuple[Path, list[Event]], data_path: Path) -> None:
    """Sixty disks: moments and surviving sectors are random."""
    _check(data_path, traced, 1, 60)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_power_loss_two_thousand_times(
    traced: tuple[Path, list[Event]], data_path: Path, torture_seed: int, scaled: Callable[[int, str], int]
) -> None:
    """As the sixty."""
    _check(data_path, traced, torture_seed + 1, scaled(2000, "power losses"))


def test_disk_that_does_not_sync_is_found_out(traced: tuple[Path, list[Event]], data_path: Path) -> None:
    """The check is one that can fail: without syncs acknowledged entries are gone, and it says so."""
    before, events = traced
    found = 0
    for _, acknowledged in itertools.islice(images(before, events, data_path, 3, syncs_work=False), 20):
        try:
            check_left_behind(data_path, Outcome(acknowledged=acknowledged))
        except Exception:  # noqa: BLE001 -- refused as damaged, or found to be too short
            found += 1
    assert found >= 10
