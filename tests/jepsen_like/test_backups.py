"""Backups while members are killed: each is whole and true, and a cluster that goes on from one passes the judge."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kvraft.storage.errors import StorageError
from kvraft.testing.cluster import Cluster
from tests.backup.support import backup_of, old_keyspace
from tests.jepsen_like import backups, check, kill_rounds
from tests.jepsen_like.run import GoesOn, Settings, run

SEED = 20_261_129


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(600)
def test_backups_under_kills_are_whole_and_a_cluster_goes_on_from_one(tmp_path: Path) -> None:
    """Killed members, killed clients; every file is what the events up to its index add up to."""
    _story(tmp_path, kills=6, seed=SEED)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_many_backups_under_many_kills(tmp_path: Path, torture_seed: int, scaled: Callable[[int, str], int]) -> None:
    """The same for longer, with another seed each time."""
    _story(tmp_path, kills=scaled(20, "kills under backups"), seed=torture_seed)


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(600)
def test_backups_under_mixed_faults_are_whole_or_refused(tmp_path: Path) -> None:
    """Members are killed and cut, disks fill up, clocks jump: no file is half, and each is true at its index.

    A cluster that goes on from one of them has the same faults, and its story from there on passes the same judge.
    """
    _mixed(tmp_path, seconds=20, seconds_after=10, seed=SEED)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_many_backups_under_mixed_faults(tmp_path: Path, torture_seed: int, scaled: Callable[[int, str], int]) -> None:
    """The same for longer."""
    seconds = scaled(180, "seconds of mixed faults under backups")
    seconds_after = scaled(60, "seconds of mixed faults on a restored cluster")
    _mixed(tmp_path, seconds=seconds, seconds_after=seconds_after, seed=torture_seed)


def _mixed(directory: Path, *, seconds: float, seconds_after: float, seed: int) -> None:
    settings = Settings(workload="backup", nemesis="mixed", seconds=seconds, seed=seed)
    verdict = run(settings, directory / "before")
    print(dict(verdict.counts))
    assert verdict.problems == [], settings.words()
    files = sorted((directory / "before" / "backups").glob("*.backup"))
    assert files, settings.words()

    goes_on = GoesOn(random.Random(f"{seed}/restored").choice(files), directory / "before")
    settings = Settings(workload="watch", nemesis="mixed", seconds=seconds_after, seed=seed + 1)
    verdict = run(settings, directory / "after", goes_on=goes_on)
    print(dict(verdict.counts))
    assert verdict.problems == [], f"{settings.words()}, begun with {goes_on.backup.name}"


def _story(directory: Path, *, kills: int, seed: int) -> None:
    before, after = directory / "before", directory / "after"
    before.mkdir()
    taken = backups.Taken()
    nemesis = backups.beside(kill_rounds.kill_one_by_one(kills, seed), taken, directory / "backups", seed)
    with Cluster(before / "cluster") as cluster:
        asyncio.run(kill_rounds.run(cluster, before, nemesis, writes=kills * 300, seed=seed))
    assert check.check_directory(before).problems == [], f"seed {seed}"
    print(f"{len(taken.files)} backups, {taken.resumed} resumed, {taken.killed} clients killed, {taken.refusals}")
    assert len(taken.files) >= 3, f"seed {seed}: {taken}"
    assert backups.judge(taken, before) == [], f"seed {seed}"

    last = taken.files[-1]
    etcd_index = backups.index_of(last)
    backups.hand_over(before, after, etcd_index)
    new = Cluster(after / "cluster")
    backups.restored(last, new)
    with new:
        work = kill_rounds.run(
            new,
            after,
            kill_rounds.kill_one_by_one(2, seed),
            writes=600,
            seed=seed,
            first_index=etcd_index + 1,
            first_client=kill_rounds.CLIENTS,
        )
        asyncio.run(work)
    assert check.check_directory(after).problems == [], f"seed {seed}"


def test_judge_sees_a_backup_that_lacks_a_write(tmp_path: Path) -> None:
    """The control: the events say more than the file holds, and a damaged file is none."""
    path = tmp_path / "copy"
    path.write_bytes(backup_of(old_keyspace()))
    node = {"key": "/kill/set/1", "value": "v", "modifiedIndex": 9, "createdIndex": 9}
    (tmp_path / "watch-n1.jsonl").write_text(f'{{"action": "set", "node": {node}}}\n'.replace("'", '"'))
    (problem,) = backups.judge(backups.Taken(files=[path]), tmp_path)
    assert "1 keys differ; /kill/set/1 is None, and the events say ('v', 9, 9)" in problem
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError):
        backups.judge(backups.Taken(files=[path]), tmp_path)
