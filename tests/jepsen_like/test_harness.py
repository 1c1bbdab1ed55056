"""Real members under real faults: short runs of what `python -m tests.jepsen_like run` does for long."""

import asyncio
import itertools
import time
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing import raw_http
from tests.jepsen_like import db
from tests.jepsen_like.failover import Acknowledgements, write
from tests.jepsen_like.nemesis import Planned
from tests.jepsen_like.run import Settings, run
from tests.jepsen_like.shapes import cloudflare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SEED: Final = 20_261_121
CUT_S: Final = 3.0
ELECTION_TIMEOUT_S: Final = 1.0
CONTROL_SEEDS_MAX: Final = 6

A_BIT_OF_EVERYTHING: Final = [
    Planned("kill", 1.0, 1.0, "kill/1"),
    Planned("isolated_leader", 3.5, 2.0, "leader/1"),
    Planned("pause", 7.0, 1.5, "pause/1"),
    Planned("resets", 7.5, 1.0, "resets/1"),
    Planned("disk", 10.0, 1.0, "disk/1"),
    Planned("loss", 10.5, 1.5, "loss/1"),
    Planned("cannot_dial", 12.5, 1.5, "cannot dial/1"),
    Planned("name_server", 14.0, 1.0, "name server/1"),
    Planned("move", 15.5, 1.0, "move/1"),
    Planned("membership", 17.5, 1.0, "membership/1"),
]
SECURED: Final = [
    Planned("kill", 1.0, 1.0, "kill/1"),
    Planned("isolated_leader", 3.5, 2.0, "leader/1"),
    Planned("move", 6.5, 1.0, "move/1"),
    Planned("membership", 8.5, 1.0, "membership/1"),
    Planned("resets", 10.5, 1.0, "resets/1"),
]
CUT_OFF: Final = [Planned("isolated_follower", 1.0, 1.5, "follower"), Planned("isolated_leader", 3.5, 2.0, "leader")]


def test_registers_stay_linearizable_under_mixed_faults(tmp_path: Path) -> None:
    """Kills, cuts, pauses, bad links, disks, names and members, some together: no anomaly, no exit unasked for."""
    verdict = run(Settings(seconds=20, seed=SEED), tmp_path, A_BIT_OF_EVERYTHING)
    assert verdict.problems == [], f"seed {SEED}"
    assert verdict.counts["keys linearizable"] > 3
    assert (tmp_path / "report.html").exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text(), "a disk is still mounted"


def test_registers_stay_linearizable_over_tls_with_auth_on(tmp_path: Path) -> None:
    """Clients have a user and a certificate to believe, members know each other by theirs; guests read nothing."""
    verdict = run(Settings(seconds=12, seed=SEED, secure=True), tmp_path, SECURED)
    assert verdict.problems == [], f"seed {SEED}"
    assert verdict.counts["keys linearizable"] > 2
    for member in ("n1", "n2", "n3"):
        log = (tmp_path / "cluster" / f"{member}.log").read_text()
        assert "rejected connection" not in log, log


def test_who_is_no_user_is_kept_out_of_a_secure_cluster(tmp_path: Path) -> None:
    """What the run above speaks to is closed: no key without a user, no plain HTTP."""
    with db.started(tmp_path, "kvraft", size=3, secure=True) as database:
        member, way = database.members[0], database.way
        for headers, status in (((), 401), (way.headers, 404)):
            url, target = member.client_url, "/v2/keys/jepsen/none"
            assert raw_http.exchange(url, "GET", target, headers=headers, tls=way.tls).status == status
        plain = raw_http.exchange(member.client_url.replace("https", "http"), "GET", "/version")
        assert plain.status == 400


def test_etcd_passes_with_quorum_reads(tmp_path: Path) -> None:
    """The control: the harness finds nothing where there is nothing."""
    verdict = run(Settings(kind="etcd", seconds=6, seed=SEED), tmp_path, CUT_OFF)
    assert verdict.problems == [], f"seed {SEED}"
    assert verdict.counts["keys linearizable"] > 1


def test_etcd_is_not_linearizable_with_default_reads(tmp_path: Path) -> None:
    """The control: the same faults on the same program, and the checker sees its stale reads.

    Whether a client reads in the moments in which a value is stale is up to chance, so a few seeds may be tried.
    """
    verdicts = []
    for seed in range(SEED, SEED + CONTROL_SEEDS_MAX):
        verdict = run(Settings(kind="etcd", quorum=False, seconds=6, seed=seed), tmp_path / str(seed), CUT_OFF)
        assert verdict.counts["keys undecided"] == 0, f"seed {seed}"
        if verdict.counts["keys violated"]:
            return
        verdicts.append(verdict.counts)
    pytest.fail(f"no stale read seen with any seed from {SEED} on: {verdicts}")


def test_cloudflare_cut_changes_no_leader(tmp_path: Path) -> None:
    """One follower loses the leader and both see the third: PreVote keeps the follower quiet and writes go on."""

    async def write_through(database: db.Database) -> list[float]:
        leader = await asyncio.to_thread(database.cluster.leader)
        others = [member.name for member in database.members if member is not leader]
        what, cuts = cloudflare(leader.name, others)
        print(what)
        acknowledgements, stop = Acknowledgements(), asyncio.Event()
        reaching = [member for member in database.members if member.name != others[0]]
        writers = [
            asyncio.create_task(write(member, f"{member.name}-{number}", acknowledgements, stop))
            for member in reaching
            for number in range(2)
        ]
        try:
            async with asyncio.timeout(60):
                await acknowledgements.after(time.monotonic())
                with database.network.rules([database.network.drop(*cut) for cut in cuts]):
                    await acknowledgements.after(time.monotonic() + CUT_S)
        finally:
            stop.set()
            await asyncio.gather(*writers)
        await database.heal(30)
        return acknowledgements.times

    with db.started(tmp_path, "kvraft") as database:
        times = asyncio.run(write_through(database))
        elections = sum(member.log_text().count("became leader") for member in database.members)
    assert max(later - before for before, later in itertools.pairwise(times)) < 5 * ELECTION_TIMEOUT_S
    assert elections <= 3, "more than the first election and two changes"
