"""A million small keys: nothing may hold a member's loop so long that its peers notice."""

import asyncio
import re
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Member
from tests.cluster.load import write_many

KEYS = 1_000_000
STALL_S_MAX = 0.1


def _stall_s(member: Member) -> float:
    """The longest stall since the last look; looking begins a new span."""
    page = member.http("GET", "/metrics").body.decode()
    found = re.search(r"^kvraft_loop_stall_seconds (\S+)$", page, re.MULTILINE)
    assert found is not None, page[:500]
    return float(found[1])


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_no_election_and_no_long_stall_at_a_million_keys(tmp_path: Path) -> None:
    """Written, listed whole, removed at once, restarted: the leader stays, and no loop is held over 100 ms."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader = cluster.leader()
        term = leader.http("GET", "/v2/keys/").header("X-Raft-Term")
        for member in cluster.members:
            _stall_s(member)
        asyncio.run(write_many(leader.client_url, KEYS, "/million/k"))
        stalls = {member.name: _stall_s(member) for member in cluster.members}
        listing = leader.http("GET", "/v2/keys/million?recursive=true&sorted=true", timeout_s=120)
        assert listing.body.count(b'"key"') == KEYS + 1
        listed = {member.name: _stall_s(member) for member in cluster.members}
        follower = cluster.followers()[0]
        follower.restart()
        removed = leader.http("DELETE", "/v2/keys/million?recursive=true", timeout_s=60)
        assert removed.status == 200
        last = leader.http("PUT", "/v2/keys/after", form={"value": "1"})
        assert last.header("X-Raft-Term") == term, "an election happened"
        removing = {member.name: _stall_s(member) for member in cluster.members}
        print(f"longest stalls in seconds: writing {stalls}, listing {listed}, removing {removing}")
        for when, measured in (("writing", stalls), ("listing", listed), ("removing", removing)):
            assert max(measured.values()) <= STALL_S_MAX, f"{when}: {measured}"
