"""Reads of single keys and of whole directories, and reads with some writes among them."""

import sys

from bench.fill import fill
from bench.load import KEYS, loaded
from bench.measured import Measured
from bench.scale import SCALE
from kvraft.testing.cluster import Cluster

__all__ = ["fill", "get", "list_all", "mixed"]


def get(cluster: Cluster, seconds: int, connections: int, query: str = "") -> list[Measured]:
    """Reads of single keys of 256 bytes at the leader, a second."""
    leader = cluster.leader()
    fill(leader, SCALE.count(KEYS), 256)
    members = [leader, *cluster.followers()]
    (found,), each_us = loaded(members, [(leader, connections)], "get.lua", seconds, query)
    return [found.rate(each_us)]


def mixed(cluster: Cluster, seconds: int, connections: int) -> list[Measured]:
    """Nine reads to a write, over connections that are spread over all members; both together, a second."""
    leader = cluster.leader()
    fill(leader, SCALE.count(KEYS), 256)
    members = [leader, *cluster.followers()]
    share, more = divmod(connections, len(members))
    places = [(member, share + (number < more)) for number, member in enumerate(members)]
    found, each_us = loaded(members, places, "mixed.lua", seconds)
    detail = ", ".join(f"{each.per_s:.0f} with p99 {each.p99_ms:.3g} ms" for each in found)
    return [Measured(sum(each.per_s for each in found), f"by member: {detail}", sum(each_us))]


def list_all(cluster: Cluster, seconds: int) -> list[Measured]:
    """Recursive sorted listings of 10,000 keys of 1 KiB, a second; one at a time.

    Raises:
        SystemExit: a listing has not all keys in their order.
    """
    leader = cluster.leader()
    count = SCALE.count(KEYS)
    leader.http("DELETE", "/v2/keys/bench?recursive=true")  # other workloads may have written more keys
    fill(leader, count, 1024)
    target = "/v2/keys/bench?recursive=true&sorted=true"
    answer = leader.http("GET", target)
    if [node["key"] for node in answer.json()["node"]["nodes"]] != sorted(f"/bench/{n}" for n in range(1, count + 1)):
        sys.exit(f"bench: {leader} lists something else than {count} keys in order")
    members = [leader, *cluster.followers()]
    # Listings are few: half a dozen are too few to tell a rate from.
    (found,), each_us = loaded(members, [(leader, 1)], "list.lua", seconds, target)
    rate = found.rate(each_us)
    return [rate._replace(detail=f"{len(answer.body) / 1e6:.1f} MB each; {rate.detail}")]
