"""Members that are far from each other, or of which only one side can dial: etcd and kvraft side by side."""

import time
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster
from tests.jepsen_like import db
from tests.jepsen_like.delays import far_apart
from tests.jepsen_like.names import name_of
from tests.jepsen_like.network import SILENT
from tests.jepsen_like.shapes import Shape, higher_cannot_dial, lower_cannot_dial

pytestmark = pytest.mark.timeout(240)

SERVES_WITHIN_S: Final = 20.0
"""Both, on a machine that others use too."""
BUSY_S: Final = 3.0
ROUND_TRIP_S: Final = 0.8


def _serve(cluster: Cluster, *members: str) -> float:
    """Wait until these members serve. Returns the time at which they do."""
    for member in members:
        cluster[member].wait_ready(SERVES_WITHIN_S)
    return time.monotonic()


def _start_far_apart(directory: Path, heartbeat_ms: int, election_timeout_ms: int) -> None:
    flags = {"heartbeat-interval": str(heartbeat_ms), "election-timeout": str(election_timeout_ms)}
    with db.pair(directory, flags=flags) as pair, far_apart(pair.network, ROUND_TRIP_S / 2):
        began = time.monotonic()
        pair.start()
        at_s: dict[str, float] = {}

        def all_lead() -> bool:
            found: dict[str, bool] = {
                "running": all("starting" in member.log_text() for member in pair.kvraft.members),
                **{cluster.kind: _leads(cluster) for cluster in pair.clusters},
            }
            for what in found.keys() - at_s.keys():
                if found[what]:
                    at_s[what] = time.monotonic() - began
            return all(found.values())

        pair.kvraft.wait_for("leaders", all_lead, 2 * election_timeout_ms / 1000 + 6 * ROUND_TRIP_S + BUSY_S)
        print(f"{heartbeat_ms}/{election_timeout_ms} ms: {at_s}")
        # From when Python is up in all of them: how long that takes on a busy machine is not what this is about.
        assert at_s["kvraft"] - at_s["running"] <= at_s["etcd"] + 2 * ROUND_TRIP_S
        _serve(pair.kvraft, "n1")


def _leads(cluster: Cluster) -> bool:
    """By what its members log: they need not serve yet."""
    return any("became leader" in member.log_text() for member in cluster.members)


@pytest.mark.slow
def test_members_far_apart_find_a_leader(tmp_path: Path) -> None:
    """A round trip of 0.8 s is a fifth of the election timeout: connections stand, and somebody is elected."""
    _start_far_apart(tmp_path, 500, 3000)


@pytest.mark.torture
def test_members_far_apart_find_a_leader_with_long_timeouts(tmp_path: Path) -> None:
    """A round trip of 0.8 s with heartbeats of 1 s and an election timeout of 10 s."""
    _start_far_apart(tmp_path, 1000, 10_000)


@pytest.mark.slow
def test_link_that_one_side_can_dial_carries_both_ways(tmp_path: Path) -> None:
    """One member has a dead address for another and a firewall before the third: it serves, also with either alone."""
    with db.pair(tmp_path, named=True) as pair:
        assert pair.names is not None
        zone = pair.names.zone()
        pair.names.files.set_hosts("n1", {name_of("n2"): [SILENT]})
        pair.names.files.set_hosts("n2", zone)
        pair.names.files.set_hosts("n3", zone)
        with pair.network.rules([pair.network.no_dial("n1", "n3")]):
            pair.start()
            for cluster in pair.clusters:
                _serve(cluster, "n1", "n2", "n3")
            for cluster in pair.clusters:
                cluster["n3"].kill()
            for cluster in pair.clusters:
                _serve(cluster, "n1", "n2")


@pytest.mark.torture
@pytest.mark.parametrize("shape", [lower_cannot_dial, higher_cannot_dial])
@pytest.mark.parametrize("absent", ["n1", "n2", "n3"])
def test_two_of_which_one_can_dial_are_a_quorum(tmp_path: Path, shape: Shape, absent: str) -> None:
    """Whichever of the two it is, from the first start on and over restarts of each."""
    with db.pair(tmp_path) as pair:
        present = [name for name in pair.network.members if name != absent]
        pairs = shape("n1", ["n2", "n3"])[1]
        with pair.network.rules([pair.network.no_dial(*cut) for cut in pairs]):
            pair.start(*present)
            for cluster in pair.clusters:
                _serve(cluster, *present)
            for name in present:
                for cluster in pair.clusters:
                    cluster[name].kill()
                pair.start(name)
                for cluster in pair.clusters:
                    _serve(cluster, *present)


@pytest.mark.torture
def test_member_behind_a_nat_goes_on_serving(tmp_path: Path) -> None:
    """Nobody can dial it, and its connections die silently again and again: it dials anew, and is never away for long.

    etcd stays away for more than the time that is given here.
    """
    with db.started(tmp_path, "kvraft") as database:
        network, behind = database.network, database.cluster["n3"]
        rules = [network.no_dial(other, "n3") for other in ("n1", "n2")]
        for other in ("n1", "n2"):
            rules += [network.forget("n3", other, 200), network.forget(other, "n3", 200)]
        with network.rules(rules):
            until = time.monotonic() + 20
            while time.monotonic() < until:
                behind.wait_ready(SERVES_WITHIN_S)
                assert database.cluster["n1"].http("PUT", "/v2/keys/a", form={"value": "v"}).status in {200, 201}


@pytest.mark.torture
def test_failed_dials_of_one_peer_delay_no_other(tmp_path: Path) -> None:
    """The third never answers a packet: the other two serve as soon as if it were well."""
    with db.pair(tmp_path) as pair:
        gone = [pair.network.drop(name, "n3") for name in ("n1", "n2")]
        with pair.network.rules(gone):
            began = time.monotonic()
            pair.start("n1", "n2")
            etcd_s, kvraft_s = (_serve(cluster, "n1", "n2") - began for cluster in pair.clusters)
            assert kvraft_s < etcd_s + BUSY_S
